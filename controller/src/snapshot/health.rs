//! What health checks said last, added to a picture: the newer of both words.

use std::collections::BTreeMap;
use straas_schemas::NodeId;
use straas_schemas::health::HealthView;
use straas_schemas::view::TopologyView;
use straas_store::{HealthRecord, Store, StoreError};

/// Adds to a picture what health checks said last.
pub async fn complete(store: &dyn Store, view: &mut TopologyView) -> Result<(), StoreError> {
    let mut newest: BTreeMap<NodeId, HealthRecord> = BTreeMap::new();
    for record in store.health(&view.id).await? {
        let kept = newest.entry(record.node.clone()).or_insert_with(|| record.clone());
        if kept.at_ms < record.at_ms {
            *kept = record;
        }
    }
    for node in view.components.iter_mut().flat_map(|component| &mut component.nodes) {
        let found = newest.remove(&node.id);
        node.health = found.map(|found| HealthView { status: found.status, at_ms: found.at_ms, source: found.source });
    }
    Ok(())
}
