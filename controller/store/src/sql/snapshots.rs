//! Everything the planner needs of topologies, as of one moment: so many statements, however many topologies and nodes
//! there are, and some more for each topology that has to do with others.
//!
//! Never here: a decision about what is read. Order is made here, not in the statements, so that each finds its rows by
//! an index alone.

use super::commands::{CommandRow, OPERATIONS_OF_TOPOLOGIES, newest_tries};
use super::rows::{self, ComponentRow, JobRow, NodeRow, TopologyRow};
use super::{SqlStore, jobs, neighbours, nodes, topologies};
use crate::{ComponentRecord, JobRecord, NodeSnapshot, Result, Snapshot, TopologyRecord};
use sqlx::{query_as, query_scalar};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::TopologyId;

type ById = BTreeMap<String, Snapshot>;

/// Gives each topology what is of it, in the order it comes in.
fn share<T>(by_id: &mut ById, items: Vec<T>, of: fn(&T) -> &TopologyId, list: fn(&mut Snapshot) -> &mut Vec<T>) {
    for item in items {
        // in one moment there is nothing of a topology that is gone
        if let Some(one) = by_id.get_mut(of(&item).as_str()) {
            list(one).push(item);
        }
    }
}

/// See [`crate::Store::snapshots`].
pub(super) async fn get(store: &SqlStore, ids: &[TopologyId]) -> Result<Vec<Snapshot>> {
    reading!(store, "reading topologies with everything in them", |tx, on| {
        let ids = rows::ids(ids.iter().map(TopologyId::as_str))?;
        let found: Vec<TopologyRow> = query_as(on(&topologies::GET_MANY)).bind(&ids).fetch_all(&mut *tx).await?;
        let components: Vec<ComponentRow> =
            query_as(on(&topologies::COMPONENTS_OF_MANY)).bind(&ids).fetch_all(&mut *tx).await?;
        let of_nodes: Vec<NodeRow> = query_as(on(&nodes::OF_TOPOLOGIES)).bind(&ids).fetch_all(&mut *tx).await?;
        let stages: Vec<nodes::StageRow> =
            query_as(on(&nodes::STAGES_OF_TOPOLOGIES)).bind(&ids).fetch_all(&mut *tx).await?;
        let jobs: Vec<JobRow> = query_as(on(&jobs::OPEN_OF_TOPOLOGIES)).bind(&ids).fetch_all(&mut *tx).await?;
        let operations: Vec<CommandRow> =
            query_as(on(&OPERATIONS_OF_TOPOLOGIES)).bind(&ids).fetch_all(&mut *tx).await?;
        let linked: Vec<String> = query_scalar(on(&neighbours::LINKED)).bind(&ids).fetch_all(&mut *tx).await?;
        let linked: BTreeSet<String> = linked.into_iter().collect();

        let mut by_id = ById::new();
        for topology in found {
            let writes = topology.writes()?;
            let one = Snapshot { writes, ..Snapshot::of(TopologyRecord::from(topology)) };
            by_id.insert(one.topology.id.0.clone(), one);
        }
        let mut components: Vec<ComponentRecord> = rows::all(components)?;
        components.sort_by(|a, b| (a.position, &a.id).cmp(&(b.position, &b.id)));
        share(&mut by_id, components, |component| &component.topology, |one| &mut one.components);
        let mut found: Vec<NodeSnapshot> = rows::all(of_nodes)?;
        found.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        nodes::attach(&mut found, stages)?;
        share(&mut by_id, found, |node| &node.record.topology, |one| &mut one.nodes);
        let mut jobs: Vec<JobRecord> = rows::all(jobs)?;
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        share(&mut by_id, jobs, |job| &job.topology, |one| &mut one.jobs);
        share(&mut by_id, newest_tries(operations)?, |run| &run.topology, |one| &mut one.operations);
        for (id, snapshot) in by_id.iter_mut().filter(|(id, _)| linked.contains(*id)) {
            snapshot.neighbours = near!(tx, on, id, &snapshot.components);
        }
        by_id.into_values().collect()
    })
}
