//! From the store and the repos to the planner's input: one topology, as of one moment.
//!
//! With `apply.rs` the only place that knows both the planner and the store (each with the folder
//! of its parts). It translates and
//! decides nothing; what cannot be read becomes a reason that the planner shows.

mod health;
mod library;

use crate::engine::{Engine, blocking};
use crate::error::Error;
use library::Library;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use straas_planner::{
    Component, Host, Neighbour, Node, OpenJob, OperationRun, Plan, PlanInput, Topology, plan, predict,
};
use straas_schemas::config::Effective;
use straas_schemas::view::{DryRun, HostFailure, TopologyView};
use straas_schemas::{ComponentId, TopologyId};
use straas_store::{
    CommandRecord, ComponentRecord, HostPhase, NodeRecord, NodeSnapshot, Snapshot, StoreError, TopologyRecord,
};

/// A snapshot is taken so often at most, while assignments are being written beside it.
const MOMENTS_MAX: u32 = 16;

/// The planner's input for a topology; `None` if there is none of this id.
///
/// # Errors
/// The store or a repo cannot be read at all. What is wrong with one component only is in its
/// `known`.
pub async fn take(app: &Engine, id: &TopologyId) -> Result<Option<PlanInput>, Error> {
    match moment(app, id).await? {
        Some(snapshot) => imagine(app, snapshot).await.map(Some),
        None => Ok(None),
    }
}

/// A snapshot of which everything that is offered is of the same moment.
async fn moment(app: &Engine, id: &TopologyId) -> Result<Option<Snapshot>, Error> {
    Ok(moments(app, std::slice::from_ref(id)).await?.pop())
}

/// As [`moment`], of several topologies, by id; those that are gone are left out.
async fn moments(app: &Engine, ids: &[TopologyId]) -> Result<Vec<Snapshot>, Error> {
    let (mut whole, mut open) = (Vec::new(), ids.to_vec());
    for _ in 0..MOMENTS_MAX {
        let mut again = Vec::new();
        for snapshot in app.store.snapshots(&open).await? {
            if of_one_moment(app, &snapshot).await? {
                whole.push(snapshot);
            } else {
                again.push(snapshot.topology.id);
            }
        }
        if again.is_empty() {
            whole.sort_by(|a, b| a.topology.id.cmp(&b.topology.id));
            return Ok(whole);
        }
        open = again;
    }
    Err(StoreError::Conflict { what: "topology", id: open[0].to_string() }.into())
}

/// Whether nothing is offered that a snapshot does not know. What is offered is a copy of what is stored. One that is
/// behind would hide a granted permit, and is brought up to date; one that is ahead was written since the snapshot,
/// which then is of no one moment, or the database has forgotten it.
async fn of_one_moment(app: &Engine, snapshot: &Snapshot) -> Result<bool, Error> {
    let mut ahead = false;
    for node in snapshot.nodes.iter().chain(snapshot.neighbours.iter().flat_map(|other| &other.nodes)) {
        let key = &node.record.id;
        if app.fleet.incarnation(key).is_none() {
            // recorded by another controller, or removed since the snapshot
            app.sync_node(key).await?;
        }
        app.fleet.enrolled(key, node.incarnation);
        let assigned = node.assigned.as_ref().map(|(generation, _)| *generation);
        if assigned > app.fleet.generation(key) {
            app.sync_assignment(key).await?;
        }
        if let Some(offered) = app.fleet.generation(key).filter(|offered| Some(*offered) > assigned) {
            app.doubt_offer(key, offered).await?;
            ahead = true;
        }
    }
    Ok(!ahead)
}

/// The planner's input for a snapshot, which may be of a topology that is only asked for.
///
/// # Errors
/// A repo cannot be read.
pub async fn imagine(app: &Engine, snapshot: Snapshot) -> Result<PlanInput, Error> {
    imagine_given(app, snapshot, Given::default()).await
}

/// Configurations that no commit has yet, by the component that would have them.
pub type Given = BTreeMap<ComponentId, Arc<Effective>>;

/// As [`imagine`], with some components configured as no commit says yet.
async fn imagine_given(app: &Engine, snapshot: Snapshot, given: Given) -> Result<PlanInput, Error> {
    let mut inputs = imagine_all(app, vec![snapshot], given).await?;
    Ok(inputs.remove(0))
}

/// As [`imagine`], of several snapshots, in their order: what they have in common is read from the repos once.
async fn imagine_all(app: &Engine, snapshots: Vec<Snapshot>, given: Given) -> Result<Vec<PlanInput>, Error> {
    let books = app.books.clone();
    let of = |one: &Snapshot| {
        let neighbours: Vec<_> = one.neighbours.iter().map(|other| other.component.clone()).collect();
        (one.components.clone(), neighbours)
    };
    let records: Vec<_> = snapshots.iter().map(of).collect();
    let read = blocking(move || {
        let catalog = books.catalog()?;
        let mut library = Library { books, catalog, given, known: BTreeMap::new(), brief: false };
        let mut of = |(components, neighbours): (Vec<ComponentRecord>, Vec<ComponentRecord>)| {
            let components: Vec<_> = components.into_iter().map(|record| library.component(record)).collect();
            let neighbours: Vec<_> = neighbours.into_iter().map(|record| library.neighbour(record)).collect();
            (components, neighbours)
        };
        Ok(records.into_iter().map(&mut of).collect::<Vec<_>>())
    })
    .await?;
    let each = snapshots.into_iter().zip(read);
    Ok(each.map(|(snapshot, (components, neighbours))| input(app, snapshot, components, neighbours)).collect())
}

/// What would follow, were a topology as wished; some components may be configured as no commit
/// says yet.
///
/// # Errors
/// As [`imagine`].
pub async fn forecast(app: &Engine, now: Snapshot, wished: Snapshot, given: Given) -> Result<DryRun, Error> {
    let (now, wished) = (imagine(app, now).await?, imagine_given(app, wished, given).await?);
    Ok(predict(&now, &wished))
}

/// The plan of a topology as it is; `None` if there is none of this id.
///
/// # Errors
/// As [`take`].
pub async fn planned(app: &Engine, id: &TopologyId) -> Result<Option<Plan>, Error> {
    Ok(take(app, id).await?.map(|input| plan(&input)))
}

/// Topologies as people see them, by id; those that are gone are left out.
///
/// # Errors
/// As [`take`].
pub async fn views(app: &Engine, ids: &[TopologyId]) -> Result<Vec<TopologyView>, Error> {
    let inputs = imagine_all(app, moments(app, ids).await?, Given::default()).await?;
    pictures(app, &inputs).await
}

/// A topology as people see it; `None` if there is none of this id.
///
/// # Errors
/// As [`take`].
pub async fn view(app: &Engine, id: &TopologyId) -> Result<Option<TopologyView>, Error> {
    Ok(views(app, std::slice::from_ref(id)).await?.pop())
}

/// A topology as people see it, with the records that it was made from.
pub struct Seen {
    /// As it is shown.
    pub view: TopologyView,
    /// The topology.
    pub topology: TopologyRecord,
    /// Its components by position.
    pub components: Vec<ComponentRecord>,
    /// Its nodes by id.
    pub nodes: Vec<NodeRecord>,
}

/// As [`view`], with what is recorded in the same moment.
///
/// # Errors
/// As [`take`].
pub async fn seen(app: &Engine, id: &TopologyId) -> Result<Option<Seen>, Error> {
    let Some(snapshot) = moment(app, id).await? else { return Ok(None) };
    let (topology, components) = (snapshot.topology.clone(), snapshot.components.clone());
    let nodes = snapshot.nodes.iter().map(|node| node.record.clone()).collect();
    let view = pictures(app, &[imagine(app, snapshot).await?]).await?.pop();
    Ok(view.map(|view| Seen { view, topology, components, nodes }))
}

async fn pictures(app: &Engine, inputs: &[PlanInput]) -> Result<Vec<TopologyView>, Error> {
    let mut views: Vec<_> = inputs.iter().map(straas_planner::view).collect();
    health::complete(&*app.store, &mut views).await?;
    Ok(views)
}

/// The plan of a topology that is only asked for.
///
/// # Errors
/// As [`imagine`].
pub async fn imagined(app: &Engine, snapshot: Snapshot) -> Result<Plan, Error> {
    Ok(plan(&imagine(app, snapshot).await?))
}

fn input(app: &Engine, snapshot: Snapshot, components: Vec<Component>, neighbours: Vec<Component>) -> PlanInput {
    let (timing, for_settings) =
        (app.settings.timing(&snapshot.topology.zone), app.settings.files(&snapshot.topology.zone));
    let needed: BTreeSet<ComponentId> =
        components.iter().flat_map(|c| &c.foreign).map(|foreign| foreign.component.clone()).collect();
    let neighbour = |(other, component): (straas_store::Neighbour, Component)| Neighbour {
        topology: topology(other.topology),
        // what the nodes of one that only depends on this topology are assigned is of no use here
        nodes: other.nodes.into_iter().map(|n| node(app, n, needed.contains(&component.id))).collect(),
        component,
    };
    PlanInput {
        now_ms: app.now_ms(),
        topology: topology(snapshot.topology),
        writes: snapshot.writes,
        neighbours: snapshot.neighbours.into_iter().zip(neighbours).map(neighbour).collect(),
        components,
        nodes: snapshot.nodes.into_iter().map(|n| node(app, n, true)).collect(),
        jobs: snapshot
            .jobs
            .into_iter()
            .map(|job| OpenJob {
                id: job.id,
                kind: job.kind,
                component: job.component,
                detail: job.detail,
                created_ms: job.created_ms,
            })
            .collect(),
        operations: snapshot.operations.into_iter().filter_map(operation).collect(),
        files: app.files.iter().cloned().chain(for_settings).collect(),
        settings: timing,
    }
}

fn operation(record: CommandRecord) -> Option<OperationRun> {
    let (key, attempt) = record.operation?;
    Some(OperationRun {
        id: record.id,
        key,
        attempt,
        node: record.node,
        standing: record.standing,
        reason: record.end.map_or_else(String::new, |end| match end.hint {
            Some(hint) => format!("{}: {hint}", end.reason),
            None => end.reason,
        }),
        ended_ms: record.ended_ms,
    })
}

fn topology(record: TopologyRecord) -> Topology {
    Topology {
        id: record.id,
        name: record.name,
        zone: record.zone,
        tenant: record.tenant,
        branch: record.branch,
        deleting: record.deleting,
        created_ms: record.created_ms,
    }
}

fn node(app: &Engine, node: NodeSnapshot, with_assignment: bool) -> Node {
    let slot = if with_assignment { app.fleet.get(&node.record.id) } else { None };
    let offer = slot.and_then(|slot| slot.offer);
    let assigned = node.assigned.as_ref().map(|(generation, _)| *generation);
    Node {
        id: node.record.id,
        component: node.record.component,
        group: node.record.group,
        role: node.record.role,
        name: node.record.name,
        ordinal: node.record.ordinal,
        host: match node.host.phase {
            HostPhase::Absent => Host::Absent,
            HostPhase::Failed => Host::Failed(HostFailure {
                reason: node.host.error.unwrap_or_default(),
                attempt: node.host.attempt,
                failed_ms: node.host.changed_ms,
                next_retry_ms: node.host.next_ms,
            }),
            HostPhase::Up => Host::Up,
        },
        host_changed_ms: node.host.changed_ms,
        address: node.host.address,
        fault_domain: node.host.fault_domain,
        host_number: node.host.number,
        incarnation: node.incarnation,
        enrolled: node.enrolled_ms.is_some(),
        assignment: offer.filter(|o| Some(o.generation) == assigned).map(|o| (*o.assignment).clone()),
        converged_generation: node.converged_generation,
        worked: node.worked,
        stages: node.stages,
        refused: node.refused,
        heartbeat: node.heartbeat,
    }
}
