//! Carries out a plan: writes what it says to write, in an order that a crash cannot hurt.
//!
//! With `snapshot.rs` the only place that knows both the planner and the store (the files of the
//! folder `apply/` are parts of it). It makes no
//! choices. Whatever it does is idempotent or a compare-and-swap: two controllers that carry out
//! the same plan, or one that dies half-way, leave what the next look completes.

use crate::engine::{Engine, blocking};
use crate::error::Error;
use crate::tasks::hosts::{HostWork, Unwanted, Wish};
use straas_drivers::Flavor;
use straas_planner::{Host, HostWish, NewNode, Node, Plan, PlanInput};
use straas_schemas::job::Job;
use straas_schemas::{Assignment, ComponentId, NodeId};
use straas_store::{NewEvent, NodeRecord, StoreError};

pub mod health;
pub mod held;
mod operations;
mod rollouts;

/// Carries out a plan made of `input`; work on hosts is handed to `take_up`, which goes on beside it.
///
/// # Errors
/// The store or a repo refused; the topology is to be looked at again.
pub async fn carry_out(
    app: &Engine,
    input: &PlanInput,
    plan: &Plan,
    mut take_up: impl FnMut(HostWork),
) -> Result<(), Error> {
    let topology = &input.topology.id;
    // a host that is being made is not seen in the plan yet: its node stays until it is removed again
    let removed = |id: &ComponentId| input.components.iter().any(|c| c.removed && c.id == *id);
    let goes = |node: &Node| {
        let whole = input.topology.deleting || (node.host == Host::Absent && removed(&node.component));
        whole || plan.forget_nodes.contains(&node.id)
    };
    let busy = input.nodes.iter().filter(|node| goes(node) && app.busy.contains(&node.id));
    let busy: Vec<NodeId> = busy.map(|node| node.id.clone()).collect();
    let forget_nodes: Vec<NodeId> = plan.forget_nodes.iter().filter(|node| !busy.contains(node)).cloned().collect();
    if plan.forget_topology && busy.is_empty() {
        return forget(app, input, plan).await;
    }
    if !plan.add_nodes.is_empty() {
        // The request made the branch already, unless the controller ended in between; it is there
        // before the first node is recorded, so later plans need not look.
        let (books, branch) = (app.books.clone(), input.topology.branch.clone());
        let there = blocking(move || books.has_branch(&branch)).await?;
        if !there && let Some(record) = app.store.topology(topology).await? {
            make_branch(app, &record.branch, &record.config_commit).await?;
        }
        let nodes: Vec<NodeRecord> = plan.add_nodes.iter().map(|node| record(input, node)).collect();
        app.store.add_nodes(&nodes).await?;
        nodes.iter().for_each(|node| app.fleet.add(node.id.clone(), topology.clone(), 0));
    }
    for (assignment, writes) in plan.assignments.iter().zip(input.writes..) {
        if !assign(app, assignment, writes).await? {
            // another controller was first: what it wrote may change all that follows
            app.wake.wake(topology);
            return Ok(());
        }
    }
    app.beats.read(topology, &plan.facts);
    health::say(app, topology, plan).await?;
    app.held.planned(topology, &plan.jobs);
    plan.looks.iter().for_each(|(node, at_ms)| app.fleet.look(node, *at_ms));
    let node = |id: &NodeId| input.nodes.iter().find(|node| node.id == *id);
    let missing = |wish: &HostWish| node(&wish.node).is_none_or(|n| n.host != Host::Up || n.host_number < wish.number);
    // nothing has ended while a host is being made for a node that goes: it goes first
    let making = !busy.is_empty();
    let number = |id: NodeId| Unwanted { number: node(&id).map_or(0, |node| node.host_number), node: id };
    let work = HostWork {
        topology: topology.clone(),
        zone: input.topology.zone.clone(),
        wanted: plan.hosts.iter().filter(|wish| missing(wish)).map(wish).collect(),
        unwanted: plan.no_hosts.iter().cloned().chain(busy).map(number).collect(),
    };
    take_up(work);
    if plan.forget_topology {
        return Ok(());
    }
    operations::queue(app, input, plan).await?;
    rollouts::turn_back(app, input, plan).await?;
    if !forget_nodes.is_empty() {
        app.store.remove_nodes(&forget_nodes).await?;
        forget_nodes.iter().for_each(|node| app.forget_node(node));
    }
    if making {
        return Ok(());
    }
    for job in plan.jobs.iter().filter(|job| job.standing.is_final()) {
        if app.store.finish_job(&job.id, job.standing, app.now_ms(), &picture(job)).await? {
            event(app, input, &format!("job {} ({}) {}", job.id, job.kind.name(), job.standing.name())).await;
        }
    }
    // Jobs end first: who dies in between must not find a rollout gone whose job is open still, for
    // then it would seem to have succeeded.
    rollouts::end(app, input, plan).await?;
    for id in &plan.forget_components {
        match app.store.forget_component(id).await {
            // a host was made since the plan was: it goes first
            Err(StoreError::Conflict { .. }) => {
                app.wake.wake(topology);
                continue;
            }
            other => other?,
        }
        input.nodes.iter().filter(|node| node.component == *id).for_each(|node| app.forget_node(&node.id));
        let name = input.components.iter().find(|component| component.id == *id).map(|component| &component.name);
        if let Some(name) = name {
            event(app, input, &format!("component {name} is removed; nothing of it is left")).await;
        }
    }
    Ok(())
}

/// Writes an assignment and offers it; `false` if another one was written for its topology since the snapshot and what
/// this plan wrote, `writes` of them.
async fn assign(app: &Engine, assignment: &Assignment, writes: u64) -> Result<bool, Error> {
    let expected = assignment.generation.saturating_sub(1);
    match app.store.put_assignment(assignment, expected, writes, app.now_ms()).await {
        Ok(()) => {
            tracing::debug!(node = %assignment.node, generation = assignment.generation, "assigned");
            app.fleet.offer(&assignment.node, app.prepared(assignment.clone()));
            app.wake.node(&assignment.node);
            Ok(true)
        }
        Err(StoreError::Conflict { .. }) => {
            app.sync_assignment(&assignment.node).await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Branch first, records last: a crash in between leaves the records, which bring us here again.
async fn forget(app: &Engine, input: &PlanInput, plan: &Plan) -> Result<(), Error> {
    let (books, branch) = (app.books.clone(), input.topology.branch.clone());
    blocking(move || books.delete_branch(&branch)).await?;
    let documents: Vec<_> = plan.jobs.iter().map(|job| (job.id.clone(), picture(job))).collect();
    match app.store.forget_topology(&input.topology.id, app.now_ms(), &documents).await {
        // another controller was first
        Err(StoreError::NotFound { .. }) => {}
        // a host was made since the plan was: it goes first
        Err(StoreError::Conflict { .. }) => {
            app.wake.wake(&input.topology.id);
            return Ok(());
        }
        other => other?,
    }
    input.nodes.iter().for_each(|node| app.forget_node(&node.id));
    app.beats.forget(&input.topology.id);
    app.health.forget(&input.topology.id);
    app.held.forget(&input.topology.id);
    event(app, input, &format!("topology {} is deleted; nothing of it is left", input.topology.name)).await;
    Ok(())
}

/// The topology's branch of the config repo, beginning at the commit its request was checked with.
///
/// # Errors
/// The repo cannot be written.
pub async fn make_branch(app: &Engine, branch: &str, commit: &str) -> Result<(), Error> {
    let (books, branch, commit) = (app.books.clone(), branch.to_owned(), commit.to_owned());
    blocking(move || books.make_branch(&branch, &commit)).await
}

async fn event(app: &Engine, input: &PlanInput, text: &str) {
    tracing::info!(topology = %input.topology.name, "{text}");
    let event = NewEvent {
        at_ms: app.now_ms(),
        topology: input.topology.id.clone(),
        node: None,
        kind: "job",
        text: text.to_owned(),
    };
    app.tell(&[event]).await;
}

fn wish(wish: &HostWish) -> Wish {
    Wish {
        node: wish.node.clone(),
        name: wish.name.clone(),
        zone: wish.zone.clone(),
        flavor: Flavor { memory_mib: wish.memory_mib, vcpus: wish.vcpus },
        number: wish.number,
        spread: wish.spread.clone(),
    }
}

fn record(input: &PlanInput, node: &NewNode) -> NodeRecord {
    NodeRecord {
        id: node.id.clone(),
        topology: input.topology.id.clone(),
        component: node.component.clone(),
        group: node.group.clone(),
        role: node.role.clone(),
        name: node.name.clone(),
        ordinal: node.ordinal,
    }
}

fn picture(job: &Job) -> serde_json::Value {
    serde_json::to_value(job).unwrap_or_default()
}
