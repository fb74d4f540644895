//! What the built-in health check says, written when it changes.
//!
//! It is a part of the plan, so it costs nothing where nothing happens. What was said last is
//! remembered; a controller that begins reads it first, and says nothing twice.

use crate::engine::Engine;
use crate::error::Error;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use straas_planner::Plan;
use straas_schemas::health::HealthStatus;
use straas_schemas::{NodeId, TopologyId};
use straas_store::HealthRecord;

/// Who says it.
const SOURCE: &str = "straas";

/// What was said last, by topology.
#[derive(Default)]
pub struct Said(Mutex<BTreeMap<TopologyId, BTreeMap<NodeId, HealthStatus>>>);

impl Said {
    fn get(&self, topology: &TopologyId) -> Option<BTreeMap<NodeId, HealthStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topology).cloned()
    }

    fn set(&self, topology: &TopologyId, said: BTreeMap<NodeId, HealthStatus>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(topology.clone(), said);
    }

    /// Forgets a topology that is gone.
    pub fn forget(&self, topology: &TopologyId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(topology);
    }
}

/// Writes what is otherwise than was said last.
///
/// # Errors
/// The store's; it is said again at the next look.
pub async fn say(app: &Engine, topology: &TopologyId, plan: &Plan) -> Result<(), Error> {
    let before = match app.health.get(topology) {
        Some(said) => said,
        None => {
            let recorded = app.store.health(std::slice::from_ref(topology)).await?;
            recorded.into_iter().filter(|r| r.built_in).map(|r| (r.node, r.status)).collect()
        }
    };
    let at_ms = app.now_ms();
    let changed = plan.health.iter().filter(|(node, status)| before.get(*node) != Some(*status));
    let record = |(node, status): (&NodeId, &HealthStatus)| HealthRecord {
        node: node.clone(),
        built_in: true,
        status: *status,
        source: SOURCE.to_owned(),
        at_ms,
    };
    let records: Vec<HealthRecord> = changed.map(record).collect();
    if !records.is_empty() {
        app.store.put_health(&records).await?;
    }
    if before != plan.health {
        app.health.set(topology, plan.health.clone());
    }
    Ok(())
}
