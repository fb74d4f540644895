//! Topologies: list, show, delete; and what all mutations have in common.

use super::audit;
use super::auth::Caller;
use super::elsewhere::refuse_needed;
use super::etag::{IfMatch, Tag, listing};
use super::extract::{Path, Query};
use super::jobs::{new_job, picture};
use super::lists::{Listed, Sieve};
use super::problem::ApiError;
use crate::app::App;
use crate::snapshot;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::TopologyId;
use straas_schemas::job::{Job, JobKind};
use straas_schemas::view::{Accepted, DryRun, Standing, TopologyView};
use straas_store::{JobRecord, Snapshot, StoreError, TopologyFilter, TopologyRecord};

/// Query of a mutation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Only show what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a change is gone about: what its query and `If-Match` say.
pub struct How {
    /// Only show what would be done.
    pub dry_run: bool,
    /// What has to be as it was seen.
    pub if_match: IfMatch,
}

impl<S: Send + Sync> FromRequestParts<S> for How {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(Mutation { dry_run }) = Query::from_request_parts(parts, state).await?;
        Ok(Self { dry_run, if_match: IfMatch::from_request_parts(parts, state).await? })
    }
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
    Ok(snapshot::view(app, id).await?)
}

/// Query of the list of topologies.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologiesQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only those of this name.
    name: Option<String>,
    /// Only those in this zone.
    availability_zone: Option<String>,
    /// Only those that stand so.
    status: Option<Standing>,
}

/// Topologies are read so many at once: few questions to the database, and not everything in memory twice.
const LOOKED_AT_ONCE: usize = 128;

/// `GET /v1.0/topologies`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<TopologiesQuery>,
) -> Result<Response, ApiError> {
    let tenant = query.listed.tenant(&caller)?;
    let filter = TopologyFilter { tenant, name: query.name, zone: query.availability_zone };
    let mut sieve = Sieve::new(query.listed.page());
    while let Some(page) = sieve.wants() {
        let records = app.store.topologies(&filter, &page).await?;
        sieve.read(records.len());
        for records in records.chunks(LOOKED_AT_ONCE) {
            let ids: Vec<_> = records.iter().map(|record| record.id.clone()).collect();
            let views = snapshot::views(&app, &ids).await?;
            let mut views: BTreeMap<_, _> = views.into_iter().map(|view| (view.id.clone(), view)).collect();
            let mut put = |id: TopologyId| {
                let found = views.remove(&id);
                let found = found.filter(|found| query.status.is_none_or(|status| found.status == status));
                sieve.put(id.0, found)
            };
            if !ids.into_iter().all(&mut put) {
                break;
            }
        }
    }
    Ok(listing(&sieve.page()))
}

/// `GET /v1.0/topologies/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let record = own(&app, &caller, &id).await?;
    shown(&app, &record.id).await
}

/// An answer that shows a topology.
pub async fn shown(app: &App, id: &TopologyId) -> Result<Response, ApiError> {
    let seen = snapshot::seen(app, id).await?.ok_or_else(|| ApiError::not_found("topology", id.as_str()))?;
    Ok(Tag::of_topology(&seen.topology, &seen.components).shows(&seen.view))
}

/// It is tried so often while others change what it was seen as.
const TRIES_MAX: u32 = 16;

/// `DELETE /v1.0/topologies/{id}`
pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    how: How,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let record = own(&app, &caller, &id).await?;
    let missing = || ApiError::not_found("topology", &id);
    let mut job = new_job(app.now_ms(), JobKind::Delete, &record, None, format!("delete topology {}", record.name));
    for _ in 0..TRIES_MAX {
        let now = app.store.snapshot(&record.id).await?.ok_or_else(missing)?;
        how.if_match.check(&format!("topology {}", record.name), &Tag::of_topology(&now.topology, &now.components))?;
        refuse_needed(&now, None)?;
        if how.dry_run {
            return foreseen(&app, &record.id).await?.ok_or_else(missing);
        }
        let seen: Vec<_> = now.components.iter().map(|component| (component.id.clone(), component.revision)).collect();
        let seen = how.if_match.is_asked().then_some(seen.as_slice());
        match app.store.delete_topology(&record.id, &job, seen).await {
            Ok(true) => {
                tracing::info!(topology = %record.name, job = %job.id, "topology is to be deleted");
                let (before, after) = (json!({ "deleting": false }), json!({ "deleting": true }));
                audit::changed(format!("topology {}", record.name), before, after);
            }
            Ok(false) => {}
            // a component was changed since it was looked at
            Err(StoreError::Conflict { what: "topology", .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        app.wake.wake(&record.id);
        let snapshot = app.store.snapshot(&record.id).await?.ok_or_else(missing)?;
        // deleting twice answers with the job that is at it
        if let Some(open) = snapshot.jobs.iter().find(|open| open.kind == JobKind::Delete) {
            job = open.clone();
        }
        return accepted(&app, id, snapshot, &job).await;
    }
    Err(ApiError::conflict(&format!("topology {} was changed by others {TRIES_MAX} times meanwhile", record.name)))
}

/// What a deletion would do; none if there is nothing to delete.
async fn foreseen(app: &App, id: &TopologyId) -> Result<Option<Response>, ApiError> {
    let Some(input) = snapshot::take(app, id).await? else { return Ok(None) };
    let nodes = input.nodes.iter().map(|n| (n.name.clone(), vec!["is removed with its host".to_owned()])).collect();
    let steps = input.components.iter().map(|c| format!("{}/remove", c.name)).chain(["finish".to_owned()]).collect();
    Ok(Some(Json(DryRun { changes: Vec::new(), steps, nodes }).into_response()))
}
