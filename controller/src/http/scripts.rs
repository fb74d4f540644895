//! Script sync: nodes get another commit of the script repo, in waves, component by component.
//!
//! Commits are pinned: one that is pushed reaches nobody until somebody asks for it here. Every
//! item is checked before the first is changed; each component then has a job of its own.

use super::auth::Caller;
use super::body;
use super::change::{Decided, Situation, Wanted, decide, forecast, look, outrun, write};
use super::extract::{Body, Query};
use super::jobs::picture;
use super::once::Made;
use super::problem::ApiError;
use super::rollouts::missing_scripts;
use super::topologies::{Mutation, own};
use crate::app::{App, blocking};
use crate::{snapshot, wanted};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_repos::CommitId;
use straas_schemas::change::{RolloutOptions, SyncRequest, SyncScope};
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, Fault, NodeId};
use straas_store::{ComponentSpec, JobRecord};

/// A component is tried so often while others change it.
const TRIES_MAX: u32 = 16;

/// Components with the nodes that are meant; none for all.
type Meant = BTreeMap<ComponentId, Option<Vec<NodeId>>>;

/// `PUT /v1.0/nodes/scripts`
pub async fn sync(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: SyncRequest = body::typed(&bytes)?;
    let meant = meant(&app, &caller, &request).await?;
    let commit = commit(&app, request.commit.as_deref()).await?;
    super::change::quarantined(&app.store.quarantined().await?, "/commit", "scripts", &commit)?;
    // all are looked at before the first is changed
    let mut decided = Vec::new();
    for (component, nodes) in &meant {
        let order =
            Order { commit: commit.clone(), nodes: nodes.clone(), options: request.rollout.unwrap_or_default() };
        let situation = look(&app, &caller, component, query.dry_run).await?;
        decided.push(decide(situation, Arc::new(edit(order))).await?);
    }
    if query.dry_run {
        return dry(&app, decided).await;
    }
    let mut jobs = Vec::new();
    for ((component, nodes), first) in meant.iter().zip(decided) {
        let order =
            Order { commit: commit.clone(), nodes: nodes.clone(), options: request.rollout.unwrap_or_default() };
        jobs.extend(carry_out(&app, &caller, component, order, first).await?);
    }
    let status = if jobs.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut pictures = Vec::new();
    for job in &jobs {
        let plan = snapshot::planned(&app, &job.topology).await?;
        pictures.push(picture(job, &plan.map(|plan| plan.jobs).unwrap_or_default()));
    }
    Ok((status, Json(json!({ "jobs": pictures }))).into_response())
}

/// What a component's nodes get.
#[derive(Clone)]
struct Order {
    commit: String,
    nodes: Option<Vec<NodeId>>,
    options: RolloutOptions,
}

fn edit(order: Order) -> impl super::change::Edit {
    move |situation: &Situation, spec: &mut ComponentSpec| roll_out(situation, spec, &order)
}

fn roll_out(situation: &Situation, spec: &mut ComponentSpec, order: &Order) -> Result<Option<Wanted>, ApiError> {
    let name = &situation.component.name;
    let missing = missing_scripts(situation, &order.commit, &spec.want.version)?;
    if !missing.is_empty() {
        let lack = format!("commit {:.10} lacks {}, which {name} needs", order.commit, missing.join(", "));
        return Err(ApiError::invalid("/commit", &lack));
    }
    let changed = wanted::roll_out(spec, &situation.job, order.options, true, |want| match &order.nodes {
        None => {
            want.scripts.clone_from(&order.commit);
            want.nodes.values_mut().for_each(|node| node.scripts = None);
        }
        Some(nodes) => {
            for id in nodes {
                let own = (want.scripts != order.commit).then(|| order.commit.clone());
                wanted::of_node(want, id).scripts = own;
            }
        }
    });
    let whom = match &order.nodes {
        None => name.clone(),
        Some(nodes) => {
            let of = |id: &NodeId| situation.nodes().find(|node| node.record.id == *id);
            let names = nodes.iter().filter_map(of).map(|node| node.record.name.as_str()).collect::<Vec<_>>();
            names.join(", ")
        }
    };
    Ok(changed.then(|| situation.begin(JobKind::Sync, format!("{whom}: scripts → {:.10}", order.commit))))
}

async fn carry_out(
    app: &App,
    caller: &Caller,
    component: &ComponentId,
    order: Order,
    first: Decided,
) -> Result<Option<JobRecord>, ApiError> {
    let mut decided = first;
    for _ in 0..TRIES_MAX {
        let Some((record, wanted)) = decided.change else { return Ok(None) };
        let made = Made::Job { id: component.to_string(), job: decided.situation.job.clone() };
        if write(app, &decided.situation.component.spec, &record, &wanted.then, &made).await? {
            return Ok(wanted.then.job());
        }
        decided = decide(look(app, caller, component, false).await?, Arc::new(edit(order.clone()))).await?;
    }
    Err(outrun(component))
}

/// A dry run of several components is one of the topology they are in; of several topologies, each
/// has its own.
async fn dry(app: &App, decided: Vec<Decided>) -> Result<Response, ApiError> {
    let mut by_topology = BTreeMap::new();
    for Decided { situation, change } in decided {
        let entry = by_topology.entry(situation.snapshot.topology.id.clone());
        entry.or_insert_with(|| (situation.snapshot, Vec::new())).1.extend(change);
    }
    let mut all = straas_schemas::view::DryRun { changes: Vec::new(), steps: Vec::new(), nodes: BTreeMap::new() };
    for (snapshot, changes) in by_topology.into_values() {
        let one = forecast(app, snapshot, changes).await?;
        all.changes.extend(one.changes);
        all.steps.extend(one.steps);
        all.nodes.extend(one.nodes);
    }
    Ok(Json(all).into_response())
}

/// The commit asked for, or the newest.
async fn commit(app: &App, asked: Option<&str>) -> Result<String, ApiError> {
    let scripts = app.scripts.clone();
    let Some(asked) = asked else { return Ok(blocking(move || scripts.head()).await?.into()) };
    let unknown = |_| ApiError::invalid("/commit", "is no commit of the script repo; give all 40 hex digits");
    let commit = CommitId::parse(asked).map_err(unknown)?;
    let there = commit.clone();
    blocking(move || scripts.list(&there, "")).await.map_err(|error| match error {
        crate::error::Error::Repos(straas_repos::Error::NotFound { .. }) => {
            ApiError::invalid("/commit", &format!("the script repo has no commit {commit}"))
        }
        other => other.into(),
    })?;
    Ok(asked.to_owned())
}

/// The components and nodes that the items name; every item that names nothing is a fault.
async fn meant(app: &App, caller: &Caller, request: &SyncRequest) -> Result<Meant, ApiError> {
    let (mut meant, mut faults) = (Meant::new(), Vec::new());
    for (index, item) in request.items.iter().enumerate() {
        let found = match request.scope {
            SyncScope::Topologies => of_topology(app, caller, item).await?,
            SyncScope::Components => match app.store.component(&item.as_str().into()).await? {
                Some(found) if own(app, caller, found.topology.as_str()).await.is_ok() => Some(vec![(found.id, None)]),
                _ => None,
            },
            SyncScope::Nodes => match super::nodes::own(app, caller, item).await {
                Ok(node) => Some(vec![(node.record.component, Some(node.record.id))]),
                Err(_) => None,
            },
        };
        let Some(found) = found else {
            let what = format!("{:?}", request.scope).to_lowercase();
            faults.push(Fault::at(format!("/items/{index}"), format!("is none of your {what}")));
            continue;
        };
        for (component, node) in found {
            let nodes = meant.entry(component).or_insert_with(|| node.is_some().then(Vec::new));
            if let (Some(nodes), Some(node)) = (nodes, node) {
                nodes.push(node);
            }
        }
    }
    if faults.is_empty() { Ok(meant) } else { Err(ApiError::faults(faults)) }
}

async fn of_topology(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Result<Option<Vec<(ComponentId, Option<NodeId>)>>, ApiError> {
    let Ok(topology) = own(app, caller, id).await else { return Ok(None) };
    let Some(snapshot) = app.store.snapshot(&topology.id).await? else { return Ok(None) };
    let stays = snapshot.components.into_iter().filter(|component| !component.spec.removed);
    Ok(Some(stays.map(|component| (component.id, None)).collect()))
}
