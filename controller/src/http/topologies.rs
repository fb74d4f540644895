//! Topologies: list, show, delete; and what all mutations have in common.

use super::audit;
use super::auth::Caller;
use super::elsewhere::refuse_needed;
use super::extract::{Path, Query};
use super::jobs::{new_job, picture};
use super::lists::{Listed, cut};
use super::problem::ApiError;
use super::status;
use crate::app::App;
use crate::snapshot;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use straas_schemas::TopologyId;
use straas_schemas::job::{Job, JobKind};
use straas_schemas::view::{Accepted, DryRun, Page, TopologyView};
use straas_store::{JobRecord, Snapshot, TopologyRecord};

/// Query of a mutation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Only show what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to a mutation: what is being worked on, and the job.
pub async fn accepted(app: &App, id: String, snapshot: Snapshot, job: &JobRecord) -> Result<Response, ApiError> {
    Ok(answer(id, &snapshot::imagined(app, snapshot).await?.jobs, job))
}

/// As [`accepted`], of a plan that is made already.
pub fn answer(id: String, planned: &[Job], job: &JobRecord) -> Response {
    accepted_as(id, picture(job, planned))
}

/// As [`accepted`], with the job as it is shown.
pub fn accepted_as(id: String, job: Job) -> Response {
    let location: (HeaderName, String) = (header::LOCATION, format!("/straas/v1.0/jobs/{}", job.id));
    (StatusCode::ACCEPTED, [location], Json(Accepted { id, job })).into_response()
}

/// The caller's topology of this id.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<TopologyRecord, ApiError> {
    let found = app.store.topology(&TopologyId(id.to_owned())).await?;
    let own = found.filter(|t| caller.may(&t.tenant)).ok_or_else(|| ApiError::not_found("topology", id))?;
    audit::about(&own.id);
    Ok(own)
}

/// The picture of a topology.
pub async fn view(app: &App, id: &TopologyId) -> Result<Option<TopologyView>, ApiError> {
    let Some(mut view) = snapshot::view(app, id).await? else { return Ok(None) };
    status::complete(&*app.store, &mut view).await?;
    Ok(Some(view))
}

/// Query of the list of topologies.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologiesQuery {
    #[serde(flatten)]
    listed: Listed,
}

/// `GET /v1.0/topologies`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<TopologiesQuery>,
) -> Result<Json<Page<TopologyView>>, ApiError> {
    let page = query.listed.page();
    let mut records = app.store.topologies(query.listed.tenant(&caller)?.as_deref(), &page).await?;
    let next = cut(&mut records, &page, |t| t.id.to_string());
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        items.extend(view(&app, &record.id).await?);
    }
    Ok(Json(Page { items, next }))
}

/// `GET /v1.0/topologies/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TopologyView>, ApiError> {
    let record = own(&app, &caller, &id).await?;
    view(&app, &record.id).await?.map(Json).ok_or_else(|| ApiError::not_found("topology", &id))
}

/// `DELETE /v1.0/topologies/{id}`
pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let record = own(&app, &caller, &id).await?;
    let missing = || ApiError::not_found("topology", &id);
    refuse_needed(&app.store.snapshot(&record.id).await?.ok_or_else(missing)?, None)?;
    let mut job = new_job(JobKind::Delete, &record, None, format!("delete topology {}", record.name));
    if query.dry_run {
        let Some(input) = snapshot::take(&app, &record.id).await? else {
            return Err(missing());
        };
        let nodes = input.nodes.iter().map(|n| (n.name.clone(), vec!["is removed with its host".to_owned()])).collect();
        let steps =
            input.components.iter().map(|c| format!("{}/remove", c.name)).chain(["finish".to_owned()]).collect();
        return Ok(Json(DryRun { changes: Vec::new(), steps, nodes }).into_response());
    }
    if app.store.delete_topology(&record.id, &job).await? {
        tracing::info!(topology = %record.name, job = %job.id, "topology is to be deleted");
        audit::changed(format!("topology {}", record.name), json!({ "deleting": false }), json!({ "deleting": true }));
    }
    app.wake.wake(&record.id);
    let snapshot = app.store.snapshot(&record.id).await?.ok_or_else(missing)?;
    // deleting twice answers with the job that is at it
    if let Some(open) = snapshot.jobs.iter().find(|open| open.kind == JobKind::Delete) {
        job = open.clone();
    }
    accepted(&app, id, snapshot, &job).await
}
