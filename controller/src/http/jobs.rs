//! Jobs: list and show. An open job is derived anew for each answer; an ended one is as it was.

use super::auth::Caller;
use super::extract::{Path, Query};
use super::lists::{Listed, Sieve};
use super::problem::ApiError;
use crate::app::App;
use crate::snapshot;
use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::job::{Job, JobKind, JobStanding};
use straas_schemas::view::Page;
use straas_schemas::{ComponentId, JobId, TopologyId};
use straas_store::{JobFilter, JobRecord, TopologyRecord};
use uuid::Uuid;

/// A job that begins now.
pub fn new_job(
    created_ms: i64,
    kind: JobKind,
    topology: &TopologyRecord,
    component: Option<&ComponentId>,
    detail: String,
) -> JobRecord {
    JobRecord {
        id: JobId(Uuid::now_v7().to_string()),
        kind,
        component: component.cloned(),
        topology: topology.id.clone(),
        topology_name: topology.name.clone(),
        tenant: topology.tenant.clone(),
        detail,
        created_ms,
        undo: None,
        ended: None,
    }
}

/// A job as it stands: one of those derived by a plan of its topology if it is open.
pub fn picture(record: &JobRecord, planned: &[Job]) -> Job {
    let ended = record.ended.as_ref();
    let kept = ended.and_then(|end| serde_json::from_value(end.document.clone()?).ok());
    let derived = || planned.iter().find(|job| job.id == record.id).cloned();
    let mut job: Job = kept.or_else(derived).unwrap_or_else(|| Job {
        id: record.id.clone(),
        kind: record.kind,
        component: record.component.clone(),
        topology: record.topology.clone(),
        topology_name: record.topology_name.clone(),
        tenant: record.tenant.clone(),
        standing: JobStanding::Running,
        detail: record.detail.clone(),
        created_ms: record.created_ms,
        finished_ms: None,
        steps: Vec::new(),
    });
    match ended {
        Some(end) => {
            job.standing = end.standing;
            job.finished_ms = Some(end.at_ms);
        }
        // a plan sees the end coming; it has come when it is recorded and nothing is left to do
        None if job.standing.is_final() => {
            job.standing = JobStanding::Running;
            job.finished_ms = None;
        }
        None => {}
    }
    job
}

/// The caller's job of this id.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<JobRecord, ApiError> {
    let found = app.store.job(&JobId(id.to_owned())).await?;
    found.filter(|job| caller.may(&job.tenant)).ok_or_else(|| ApiError::not_found("job", id))
}

/// A job as it stands now.
pub async fn current(app: &App, record: &JobRecord) -> Result<Job, ApiError> {
    if record.ended.is_some() {
        return Ok(picture(record, &[]));
    }
    let plan = snapshot::planned(app, &record.topology).await?;
    // it may have ended between the two looks
    let record = app.store.job(&record.id).await?.unwrap_or_else(|| record.clone());
    Ok(picture(&record, &plan.map(|plan| plan.jobs).unwrap_or_default()))
}

/// Query of the list of jobs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobsQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only of this topology (id), which may be gone.
    topology: Option<TopologyId>,
    /// Only on this component (id).
    component: Option<ComponentId>,
    /// Only of this kind.
    kind: Option<JobKind>,
    /// Only those that stand so.
    state: Option<JobStanding>,
    /// Only those that have not ended.
    #[serde(default)]
    open: bool,
}

/// `GET /v1.0/jobs`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<JobsQuery>,
) -> Result<Json<Page<Job>>, ApiError> {
    // an end is recorded; how an open one stands is known when it is looked at
    let filter = JobFilter {
        tenant: query.listed.tenant(&caller)?,
        topology: query.topology,
        component: query.component,
        kind: query.kind,
        ended: query.state.filter(|state| state.is_final()),
        open_only: query.open || query.state.is_some_and(|state| !state.is_final()),
    };
    let mut sieve = Sieve::new(query.listed.page());
    while let Some(page) = sieve.wants() {
        let records = app.store.jobs(&filter, &page).await?;
        sieve.read(records.len());
        for record in records {
            let found = Job { steps: Vec::new(), ..current(&app, &record).await? };
            let found = query.state.is_none_or(|state| found.standing == state).then_some(found);
            if !sieve.put(record.id.0, found) {
                break;
            }
        }
    }
    Ok(Json(sieve.page()))
}

/// `GET /v1.0/jobs/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Job>, ApiError> {
    let record = own(&app, &caller, &id).await?;
    current(&app, &record).await.map(Json)
}
