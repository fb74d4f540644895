//! What health checks said last, added to pictures: the newer of both words.

use std::collections::BTreeMap;
use straas_schemas::NodeId;
use straas_schemas::health::HealthView;
use straas_schemas::view::TopologyView;
use straas_store::{HealthRecord, Store, StoreError};

/// Adds to pictures what health checks said last.
pub async fn complete(store: &dyn Store, views: &mut [TopologyView]) -> Result<(), StoreError> {
    let mut newest: BTreeMap<NodeId, HealthRecord> = BTreeMap::new();
    let ids: Vec<_> = views.iter().map(|view| view.id.clone()).collect();
    for record in store.health(&ids).await? {
        let kept = newest.entry(record.node.clone()).or_insert_with(|| record.clone());
        if kept.at_ms < record.at_ms {
            *kept = record;
        }
    }
    let components = views.iter_mut().flat_map(|view| &mut view.components);
    for node in components.flat_map(|component| &mut component.nodes) {
        let found = newest.remove(&node.id);
        node.health = found.map(|found| HealthView { status: found.status, at_ms: found.at_ms, source: found.source });
    }
    Ok(())
}
