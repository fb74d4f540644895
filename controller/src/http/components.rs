//! Components: changes to what one should be.

use super::auth::Caller;
use super::body;
use super::extract::{Body, Path, Query};
use super::jobs::new_job;
use super::problem::ApiError;
use super::topologies::{Mutation, accepted, own};
use crate::app::{App, blocking};
use crate::snapshot;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_planner::{PlanInput, plan};
use straas_schemas::job::JobKind;
use straas_schemas::view::DryRun;
use straas_schemas::{ComponentId, StageOrder};

/// `PATCH /v1.0/components/{id}`
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("component", &id);
    let mut component = app.store.component(&ComponentId(id.clone())).await?.ok_or_else(missing)?;
    let topology = own(&app, &caller, component.topology.as_str()).await.map_err(|_| missing())?;
    if topology.deleting {
        return Err(ApiError::conflict("its topology is being deleted"));
    }
    let patch = body::patch(body::json(&bytes)?)?;
    let Some(version) = patch.version else {
        return Err(ApiError::invalid("", "nothing to change; name a version"));
    };
    let configs = app.configs.clone();
    let catalog = blocking(move || configs.catalog_view()).await?.catalog;
    let versions = catalog.get(&component.spec.kind).map(|meta| &meta.versions);
    if !versions.is_some_and(|versions| versions.contains_key(&version)) {
        let known = versions.map(|v| v.keys().cloned().collect::<Vec<_>>().join(", ")).unwrap_or_default();
        let message = format!("{} has no version {version:?}; there are: {known}", component.spec.kind);
        return Err(ApiError::invalid("/version", &message));
    }
    let expected = component.revision;
    let job = new_job(
        JobKind::Change,
        &topology,
        format!("change {} from {} to {version}", component.name, component.spec.version),
    );
    component.spec.version = version;
    component.revision += 1;
    if query.dry_run {
        let mut snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
        snapshot.components.iter_mut().filter(|c| c.id == component.id).for_each(|c| *c = component.clone());
        let input = snapshot::imagine(&app, snapshot).await?;
        return Ok(Json(difference(&input)).into_response());
    }
    app.store.change_component(&component, expected, &job).await?;
    tracing::info!(component = %component.name, job = %job.id, "{}", job.detail);
    app.wake.wake(&topology.id);
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    accepted(&app, id, snapshot, &job).await
}

/// Which nodes would run which stages again if `input` were what is wanted.
fn difference(input: &PlanInput) -> DryRun {
    let mut out = DryRun { steps: Vec::new(), nodes: BTreeMap::new() };
    for next in plan(input).assignments {
        let Some(node) = input.nodes.iter().find(|node| node.id == next.node) else { continue };
        let Some(component) = input.components.iter().find(|c| c.id == node.component) else { continue };
        let last = |order: &StageOrder| node.assignment.as_ref().and_then(|a| a.order(order.stage)).map(|o| &o.inputs);
        let mut why = Vec::new();
        for order in next.stages.iter().filter(|order| last(order) != Some(&order.inputs)) {
            let step = format!("{}/{}", component.name, order.stage);
            if !out.steps.contains(&step) {
                out.steps.push(step);
            }
            why.push(format!("{} runs again: its inputs differ", order.stage));
        }
        if !why.is_empty() {
            out.nodes.insert(next.name.clone(), why);
        }
    }
    out
}
