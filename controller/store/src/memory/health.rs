//! Health of nodes and models of topologies in memory.

use super::{MemoryStore, conflict, duplicate, missing};
use crate::{CmsRecord, CmsStore, HealthRecord, HealthStore, Result};
use async_trait::async_trait;
use straas_schemas::TopologyId;

#[async_trait]
impl HealthStore for MemoryStore {
    async fn put_health(&self, found: &[HealthRecord]) -> Result<()> {
        let tables = &mut *self.tables();
        for record in found.iter().filter(|record| tables.nodes.contains_key(&record.node)) {
            let kept = tables.health.entry((record.node.clone(), !record.built_in)).or_insert_with(|| record.clone());
            if kept.at_ms <= record.at_ms {
                kept.clone_from(record);
            }
        }
        Ok(())
    }

    async fn health(&self, topologies: &[TopologyId]) -> Result<Vec<HealthRecord>> {
        let tables = self.tables();
        let of = |record: &&HealthRecord| {
            tables.nodes.get(&record.node).is_some_and(|node| topologies.contains(&node.seen.record.topology))
        };
        Ok(tables.health.values().filter(of).cloned().collect())
    }
}

#[async_trait]
impl CmsStore for MemoryStore {
    async fn create_cms(&self, model: &CmsRecord) -> Result<()> {
        let tables = &mut *self.tables();
        if !tables.topologies.contains_key(&model.topology) {
            return Err(missing("topology", &model.topology));
        }
        if tables.cms.contains_key(&model.topology) {
            return Err(duplicate("model of topology", &model.topology));
        }
        tables.cms.insert(model.topology.clone(), model.clone());
        Ok(())
    }

    async fn sync_cms(&self, model: &CmsRecord, seen: Option<&CmsRecord>) -> Result<()> {
        let tables = &mut *self.tables();
        let kept = tables.cms.get_mut(&model.topology);
        let kept = kept.ok_or_else(|| missing("model of topology", &model.topology))?;
        if seen.is_some_and(|seen| seen != kept) {
            return Err(conflict("model", &model.topology));
        }
        kept.clone_from(model);
        Ok(())
    }

    async fn cms(&self, topology: &TopologyId) -> Result<Option<CmsRecord>> {
        Ok(self.tables().cms.get(topology).cloned())
    }

    async fn remove_cms(&self, topology: &TopologyId, seen: Option<&CmsRecord>) -> Result<bool> {
        let tables = &mut *self.tables();
        if tables.cms.get(topology).zip(seen).is_some_and(|(kept, seen)| seen != kept) {
            return Err(conflict("model", topology));
        }
        Ok(tables.cms.remove(topology).is_some())
    }
}
