//! Guest commands: what is kept of them, and what the store promises.
//!
//! ```text
//!            (held) ──► queued ──► running ──► succeeded | failed | cancelled | unknown
//!                          └──► expired | cancelled
//! ```
//! An end is either *reported* by the node, and then it is final, or *assumed*: the deadline passed,
//! a user cancelled what no agent was known to have, the node enrolled anew or was removed. An agent
//! that turns out to have such a command makes it `running` again, and an end that it reports later
//! is the truth and takes the place of the assumption.
//!
//! Every change has a number ([`CommandStore::command_changes`]), so that controllers over one
//! database hear of what others did.

use crate::{PageRequest, Result};
use async_trait::async_trait;
use serde_json::{Map, Value};
use straas_schemas::command::{CommandEnd, CommandStanding};
use straas_schemas::{CommandId, ComponentId, FileRef, NodeId, TopologyId};

/// Most ended commands kept per node, beside operations; older ones are pruned.
pub const COMMANDS_PER_NODE_MAX: u32 = 200;
/// Most bytes of output kept of a node's ended commands; the oldest outputs go first.
pub const OUTPUTS_PER_NODE_BYTES_MAX: u64 = 16 << 20;
/// Most earlier tries kept of one operation.
pub const TRIES_PER_OPERATION_MAX: u32 = 10;
/// Ended commands and batches are kept so long at most, in ms: 30 days.
pub const COMMAND_AGE_MS_MAX: i64 = 30 * 24 * 3600 * 1000;
/// Rows pruned by age in one go: keeps the transaction short; the rest goes with the next.
pub const PRUNED_MAX: u32 = 500;

/// A guest command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandRecord {
    /// Its id.
    pub id: CommandId,
    /// The batch it belongs to, if one does.
    pub batch: Option<String>,
    /// What it is for and which try it is, if the planner asked for it.
    pub operation: Option<(String, u32)>,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The topology of its node.
    pub topology: TopologyId,
    /// The component of its node.
    pub component: ComponentId,
    /// Its node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// `group/name`.
    pub command: String,
    /// Its arguments.
    pub args: Map<String, Value>,
    /// Files that the node has to have before it runs.
    pub files: Vec<FileRef>,
    /// Seconds a run may take.
    pub timeout_s: u32,
    /// It may be run again after a crash in the middle.
    pub idempotent: bool,
    /// Who asked.
    pub by: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Until when it has to begin, Unix ms.
    pub deadline_ms: i64,
    /// How it stands.
    pub standing: CommandStanding,
    /// It waits for others of its batch: no agent is offered it.
    pub held: bool,
    /// A user wants it to end.
    pub cancelling: bool,
    /// When the agent was known to have it, Unix ms.
    pub started_ms: Option<i64>,
    /// When it ended, Unix ms.
    pub ended_ms: Option<i64>,
    /// How it ended.
    pub end: Option<CommandEnd>,
    /// Its end was not reported by the node: a report takes its place.
    pub assumed: bool,
    /// Bytes of its output that are kept.
    pub output_bytes: u64,
}

/// A command for many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its id.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// The topology of its nodes.
    pub topology: TopologyId,
    /// Their component; none if it is for the whole topology.
    pub component: Option<ComponentId>,
    /// `group/name`.
    pub command: String,
    /// How many nodes run it at once; none for all.
    pub concurrency: Option<u32>,
    /// No further node begins once so many have not succeeded.
    pub max_errors: Option<u32>,
    /// Who asked.
    pub by: String,
    /// Unix ms.
    pub created_ms: i64,
    /// When the last of its commands had ended, Unix ms.
    pub ended_ms: Option<i64>,
}

/// What became of a wish to queue commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are queued.
    New,
    /// Too many commands wait for this node; nothing was queued.
    Full(NodeId),
}

/// What became of a wish to cancel a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// It ended before it began, or its agent is to end it.
    Wanted(CommandRecord),
    /// It had ended.
    Ended(CommandRecord),
    /// There is none.
    Unknown,
}

/// Which commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this topology.
    pub topology: Option<TopologyId>,
    /// Of this component.
    pub component: Option<ComponentId>,
    /// On this node.
    pub node: Option<NodeId>,
    /// Of this batch.
    pub batch: Option<String>,
    /// That stand so.
    pub standing: Option<CommandStanding>,
    /// `group/name`.
    pub command: Option<String>,
}

/// That a command changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandChange {
    /// The number of the change; commands that changed together may share it.
    pub number: i64,
    /// Which.
    pub id: CommandId,
    /// Its node.
    pub node: NodeId,
    /// Its batch.
    pub batch: Option<String>,
    /// How it stands now.
    pub standing: CommandStanding,
    /// No agent is offered it.
    pub held: bool,
    /// A user wants it to end.
    pub cancelling: bool,
}

/// Everything the controller keeps of guest commands.
#[async_trait]
pub trait CommandStore: Send + Sync {
    /// Queues commands, all or none; one whose id is known is left as it is. `NotFound` if a node is
    /// gone. At most [`straas_schemas::command::COMMANDS_WAITING_MAX`] may be unfinished on a node,
    /// operations not counted. A batch is recorded with its commands.
    async fn queue_commands(&self, commands: &[CommandRecord], batch: Option<&BatchRecord>) -> Result<Queued>;
    /// One command.
    async fn command(&self, id: &CommandId) -> Result<Option<CommandRecord>>;
    /// Commands, newest first, filtered; `page.after` is the [`CommandRecord::marker`] of the last one.
    async fn commands(&self, filter: &CommandFilter, page: &PageRequest) -> Result<Vec<CommandRecord>>;
    /// The unfinished commands of a node that are not held, oldest first.
    async fn waiting_commands(&self, node: &NodeId) -> Result<Vec<CommandRecord>>;
    /// Commands that their nodes are known to have: those that are queued, or whose end was only
    /// assumed, are `running` from then on. Returns them; all others are left as they are.
    async fn start_commands(&self, named: &[(NodeId, CommandId)], now_ms: i64) -> Result<Vec<CommandRecord>>;
    /// Notes that a user wants a command to end. One that is queued ends at once, by assumption.
    async fn cancel_command(&self, id: &CommandId, now_ms: i64) -> Result<Cancelled>;
    /// Appends output at an offset and returns where to go on. What is there already is left as it
    /// is, a piece beyond a gap is not taken, what is above
    /// [`straas_schemas::command::COMMAND_OUTPUT_BYTES_MAX`] is dropped. `NotFound` if the node has
    /// no such command.
    async fn append_output(&self, node: &NodeId, id: &CommandId, offset: u64, bytes: &[u8]) -> Result<u64>;
    /// Output from an offset on, at most `limit` bytes and at least one if there is one.
    async fn output(&self, id: &CommandId, offset: u64, limit: usize) -> Result<Vec<u8>>;
    /// Ends by assumption what is overdue: queued ones whose deadline is `grace_ms` ago, and those
    /// whose node is gone. Prunes what is too old. Returns what it ended.
    async fn settle_commands(&self, now_ms: i64, grace_ms: i64) -> Result<Vec<CommandRecord>>;
    /// The next deadline of a queued command.
    async fn next_deadline(&self) -> Result<Option<i64>>;
    /// Prunes the ended commands of these nodes and their outputs to the limits.
    async fn prune_commands(&self, nodes: &[NodeId]) -> Result<()>;
    /// One batch.
    async fn batch(&self, id: &str) -> Result<Option<BatchRecord>>;
    /// Batches that have not ended.
    async fn open_batches(&self) -> Result<Vec<String>>;
    /// Brings a batch forward: lets as many held commands go as its concurrency allows; once too
    /// many have not succeeded, ends those that have not begun; notes when all have ended. Returns
    /// what changed. Idempotent.
    async fn advance_batch(&self, id: &str, now_ms: i64) -> Result<Vec<CommandRecord>>;
    /// Commands that changed after a change, in the order of the changes. Numbers become visible in
    /// their order. `after` is the number and id of the last one seen.
    async fn command_changes(&self, after: (i64, &str), limit: u32) -> Result<Vec<CommandChange>>;
    /// The number of the newest change.
    async fn last_command_change(&self) -> Result<i64>;
}

impl CommandRecord {
    /// Where a list goes on after this one.
    #[must_use]
    pub fn marker(&self) -> String {
        format!("{}.{}", self.created_ms, self.id)
    }
}

/// Time and id of a marker; before everything if there is none or it is not one.
pub(crate) fn marked(after: Option<&str>) -> (i64, &str) {
    let split = after.and_then(|text| text.split_once('.'));
    split.and_then(|(ms, id)| Some((ms.parse().ok()?, id))).unwrap_or((i64::MAX, ""))
}

/// An end that nobody reported.
pub(crate) fn assumption(id: &CommandId, standing: CommandStanding, reason: &str) -> Option<CommandEnd> {
    use straas_schemas::command::CommandOutcome as Outcome;
    let outcome = match standing {
        CommandStanding::Queued | CommandStanding::Running => return None,
        CommandStanding::Succeeded => Outcome::Succeeded,
        CommandStanding::Failed => Outcome::Failed,
        CommandStanding::Cancelled => Outcome::Cancelled,
        CommandStanding::Expired => Outcome::Expired,
        CommandStanding::Unknown => Outcome::Unknown,
    };
    Some(CommandEnd {
        id: id.clone(),
        outcome,
        exit_code: None,
        reason: reason.to_owned(),
        hint: None,
        duration_ms: 0,
        result: Map::new(),
        output_bytes: 0,
    })
}

/// Why a command was taken for ended.
pub(crate) mod because {
    /// Its deadline.
    pub const EXPIRED: &str = "its deadline passed before it was known to have begun";
    /// Its node is gone.
    pub const REMOVED: &str = "its node was removed";
    /// A user.
    pub const CANCELLED: &str = "cancelled before it was known to have begun";
    /// Another host.
    pub const ENROLLED: &str = "the node enrolled again: whether the earlier host ran it is not known";
    /// A lost journal.
    pub const LEDGER: &str = "the node lost its journal: whether it ran is not known";
    /// Its batch.
    pub const BATCH: &str = "its batch was stopped: too many of the others did not succeed";
}
