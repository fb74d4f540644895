//! As of a time: what a node was told and what it reported, as far as it is kept. What the store promises of both.
//!
//! Nothing is written for it on its own: an assignment becomes history in the transaction that makes it the newest,
//! and a report is recorded once.

use crate::{Result, StoredAssignment};
use async_trait::async_trait;
use straas_schemas::NodeId;
use straas_schemas::report::Report;

/// So many of the newest assignments of a node are kept, the present one included.
pub const ASSIGNMENTS_PER_NODE_MAX: u32 = 50;
/// Reports are kept of so many of the newest incarnations of a node, the present one included.
pub const INCARNATIONS_REPORTED_MAX: u32 = 4;

/// What a node was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The assignment.
    pub assignment: StoredAssignment,
    /// When it was written, Unix ms.
    pub written_ms: i64,
}

/// What a node reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The incarnation that did.
    pub incarnation: u64,
    /// When it was received, Unix ms.
    pub received_ms: i64,
    /// The report.
    pub report: Report,
}

/// What the store promises of history.
#[async_trait]
pub trait HistoryStore: Send + Sync {
    /// The newest assignment of a node that was written at a time or before it, of those that are kept.
    async fn told_at(&self, node: &NodeId, at_ms: i64) -> Result<Option<Told>>;
    /// Reports of a node that were received at a time or before it, newest first, of those that are kept; at most
    /// [`crate::PAGE_MAX`].
    async fn reported_until(&self, node: &NodeId, at_ms: i64, limit: u32) -> Result<Vec<Reported>>;
}
