//! Requests about many: the topologies, components or nodes that a body names, and one change for
//! each component among them.
//!
//! Every item is checked, and every change decided, before the first is made; each component then
//! has a job of its own.

use super::auth::Caller;
use super::change::{Decided, Edit, TRIES_MAX, decide, forecast, look, outrun, write};
use super::jobs::picture;
use super::once::Made;
use super::problem::ApiError;
use super::topologies::own;
use crate::app::App;
use crate::snapshot;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::change::Scope;
use straas_schemas::job::Job;
use straas_schemas::view::DryRun;
use straas_schemas::{ComponentId, Fault, NodeId};
use straas_store::JobRecord;

/// Components with the nodes that are meant; none for all.
pub type Meant = BTreeMap<ComponentId, Option<Vec<NodeId>>>;

/// The components and nodes that items name.
///
/// # Errors
/// 422 with every item that names nothing of the caller's.
pub async fn meant(app: &App, caller: &Caller, scope: Scope, items: &[String]) -> Result<Meant, ApiError> {
    let (mut meant, mut faults) = (Meant::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let found = match scope {
            Scope::Topologies => of_topology(app, caller, item).await?,
            Scope::Components => match app.store.component(&item.as_str().into()).await? {
                Some(found) if own(app, caller, found.topology.as_str()).await.is_ok() => Some(vec![(found.id, None)]),
                _ => None,
            },
            Scope::Nodes => match super::nodes::own(app, caller, item).await {
                Ok(node) => Some(vec![(node.record.component, Some(node.record.id))]),
                Err(_) => None,
            },
        };
        let Some(found) = found else {
            let what = format!("{scope:?}").to_lowercase();
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

/// Makes one change for each component: 202 with their jobs, 200 if nothing is to be done, or what
/// would follow.
///
/// # Errors
/// The edits' own; then nothing was changed, unless somebody else changed a component in between.
pub async fn change_each(
    app: &App,
    caller: &Caller,
    dry_run: bool,
    edits: BTreeMap<ComponentId, Arc<impl Edit>>,
) -> Result<Response, ApiError> {
    let mut decided = Vec::new();
    for (component, edit) in &edits {
        let situation = look(app, caller, component, dry_run).await?;
        decided.push(decide(situation, edit.clone()).await?);
    }
    if dry_run {
        return dry(app, decided).await;
    }
    let mut jobs = Vec::new();
    for ((component, edit), first) in edits.iter().zip(decided) {
        jobs.extend(carry_out(app, caller, component, edit, first).await?);
    }
    let status = if jobs.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut pictures: Vec<Job> = Vec::new();
    for job in &jobs {
        let plan = snapshot::planned(app, &job.topology).await?;
        pictures.push(picture(job, &plan.map(|plan| plan.jobs).unwrap_or_default()));
    }
    Ok((status, Json(json!({ "jobs": pictures }))).into_response())
}

async fn carry_out(
    app: &App,
    caller: &Caller,
    component: &ComponentId,
    edit: &Arc<impl Edit>,
    first: Decided,
) -> Result<Option<JobRecord>, ApiError> {
    let mut decided = first;
    for _ in 0..TRIES_MAX {
        let Some((record, wanted)) = decided.change else { return Ok(None) };
        let made = Made::Job { id: component.to_string(), job: decided.situation.job.clone() };
        if write(app, &decided.situation.component.spec, &record, &wanted.then, &made).await? {
            return Ok(wanted.then.job());
        }
        decided = decide(look(app, caller, component, false).await?, edit.clone()).await?;
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
    let mut all = DryRun { changes: Vec::new(), steps: Vec::new(), nodes: BTreeMap::new() };
    for (snapshot, changes) in by_topology.into_values() {
        let one = forecast(app, snapshot, changes).await?;
        all.changes.extend(one.changes);
        all.steps.extend(one.steps);
        all.nodes.extend(one.nodes);
    }
    Ok(Json(all).into_response())
}
