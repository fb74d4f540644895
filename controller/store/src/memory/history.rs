//! What a node was told and what it reported, as of a time, in memory.

use super::{MemoryStore, most};
use crate::{HistoryStore, Reported, Result, Told};
use async_trait::async_trait;
use straas_schemas::NodeId;

#[async_trait]
impl HistoryStore for MemoryStore {
    async fn told_at(&self, node: &NodeId, at_ms: i64) -> Result<Option<Told>> {
        let tables = self.tables();
        let told = tables.nodes.get(node).map(|node| node.told.iter().rev()).into_iter().flatten();
        Ok(told.into_iter().find(|told| told.written_ms <= at_ms).cloned())
    }

    async fn reported_until(&self, node: &NodeId, at_ms: i64, limit: u32) -> Result<Vec<Reported>> {
        let tables = self.tables();
        let kept = tables.nodes.get(node).map(|node| node.reported.values()).into_iter().flatten();
        let mut found: Vec<_> = kept.filter(|kept| kept.received_ms <= at_ms).cloned().collect();
        found.sort_by_key(|kept| std::cmp::Reverse((kept.received_ms, kept.incarnation, kept.report.seq)));
        found.truncate(most(limit));
        Ok(found)
    }
}
