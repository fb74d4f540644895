//! Guest commands in SQL: the trait, and what several of its methods share.
//!
//! Who changes commands takes a number from the counter before it locks their rows: so writers come
//! one after the other, and numbers become visible in their order. Lists of commands travel as one
//! JSON text: a batch for a whole fleet is a few statements, not a few per node.

#[macro_use]
mod row;
#[macro_use]
mod ends;
mod batches;
mod list;
mod output;
mod queue;

pub(super) use ends::{ENDED, LOST};
pub(super) use row::{CommandRow, NUMBER, OPERATIONS_OF_TOPOLOGIES, newest_tries};

use super::SqlStore;
use super::run::Statement;
use crate::commands::{BatchRecord, Cancelled, CommandChange, CommandFilter, CommandRecord, CommandStore, Queued};
use crate::{PageRequest, Result};
use async_trait::async_trait;
use straas_schemas::{CommandId, NodeId};

/// Every statement about commands.
pub(super) const ALL: [&[Statement]; 6] = [row::ALL, ends::ALL, batches::ALL, list::ALL, output::ALL, queue::ALL];

#[async_trait]
impl CommandStore for SqlStore {
    async fn queue_commands(&self, commands: &[CommandRecord], batch: Option<&BatchRecord>) -> Result<Queued> {
        queue::queue(self, commands, batch).await
    }
    async fn command(&self, id: &CommandId) -> Result<Option<CommandRecord>> {
        list::get(self, id).await
    }
    async fn commands(&self, filter: &CommandFilter, page: &PageRequest) -> Result<Vec<CommandRecord>> {
        list::list(self, filter, page).await
    }
    async fn waiting_commands(&self, node: &NodeId) -> Result<Vec<CommandRecord>> {
        list::waiting(self, node).await
    }
    async fn start_commands(&self, named: &[(NodeId, CommandId)], now_ms: i64) -> Result<Vec<CommandRecord>> {
        queue::start(self, named, now_ms).await
    }
    async fn cancel_command(&self, id: &CommandId, now_ms: i64) -> Result<Cancelled> {
        ends::cancel(self, id, now_ms).await
    }
    async fn append_output(&self, node: &NodeId, id: &CommandId, offset: u64, bytes: &[u8]) -> Result<u64> {
        output::append(self, node, id, offset, bytes).await
    }
    async fn output(&self, id: &CommandId, offset: u64, limit: usize) -> Result<Vec<u8>> {
        output::read(self, id, offset, limit).await
    }
    async fn settle_commands(&self, now_ms: i64, grace_ms: i64) -> Result<Vec<CommandRecord>> {
        ends::settle(self, now_ms, grace_ms).await
    }
    async fn next_deadline(&self) -> Result<Option<i64>> {
        ends::next_deadline(self).await
    }
    async fn prune_commands(&self, nodes: &[NodeId]) -> Result<()> {
        output::prune(self, nodes).await
    }
    async fn batch(&self, id: &str) -> Result<Option<BatchRecord>> {
        batches::get(self, id).await
    }
    async fn open_batches(&self) -> Result<Vec<String>> {
        batches::open(self).await
    }
    async fn advance_batch(&self, id: &str, now_ms: i64) -> Result<Vec<CommandRecord>> {
        batches::advance(self, id, now_ms).await
    }
    async fn command_changes(&self, after: (i64, &str), limit: u32) -> Result<Vec<CommandChange>> {
        list::changes(self, after, limit).await
    }
    async fn last_command_change(&self) -> Result<i64> {
        list::last_change(self).await
    }
}
