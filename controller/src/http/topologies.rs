//! Topologies: create, list, show, delete.

use super::auth::Caller;
use super::body;
use super::extract::{Body, Path, Query};
use super::jobs::{new_job, picture};
use super::problem::ApiError;
use crate::app::{App, blocking};
use crate::clock::now_ms;
use crate::{apply, snapshot};
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::job::{Job, JobKind};
use straas_schemas::metadata::Catalog;
use straas_schemas::topology::{ComponentRequest, TopologyRequest};
use straas_schemas::view::{Accepted, DryRun, Page, TopologyView};
use straas_schemas::{ComponentId, TopologyId};
use straas_store::{
    ComponentRecord, ComponentSpec, GroupSpec, JobRecord, PageRequest, Snapshot, StoreError, TopologyRecord,
};
use uuid::Uuid;

/// Query of a mutation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// Only show what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// Query of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    pub limit: Option<u32>,
    pub marker: Option<String>,
}

impl ListQuery {
    /// The page it asks for, and one more to see whether there is a next.
    pub fn page(&self) -> PageRequest {
        PageRequest { after: self.marker.clone(), limit: self.limit.unwrap_or(100).clamp(1, LIST_MAX) + 1 }
    }
}

/// Cuts the one more off; the id of the last one left marks the next page.
pub fn cut<T>(records: &mut Vec<T>, page: &PageRequest, id: impl Fn(&T) -> &str) -> Option<String> {
    let more = records.len() >= page.limit as usize;
    records.truncate(page.limit as usize - 1);
    records.last().filter(|_| more).map(|last| id(last).to_owned())
}

/// Most items of one answer: each is planned for it.
const LIST_MAX: u32 = 500;

/// `POST /v1.0/topologies`
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let body = body::json(&bytes)?;
    let configs = app.configs.clone();
    let straas_repos::CatalogView { catalog, commit, .. } = blocking(move || configs.catalog_view()).await?;
    let request = body::topology(body, &catalog)?;
    let taken = || {
        let message = format!("there is a topology {}@{} already", request.name, request.availability_zone);
        ApiError::taken("/name", &message)
    };
    if app.store.topology_by_name(&request.name, &request.availability_zone).await?.is_some() {
        return Err(taken());
    }
    let (topology, components) = records(&request, &catalog, &caller, commit.as_str());
    let job = new_job(JobKind::Create, &topology, format!("create topology {}", topology.name));
    let snapshot = Snapshot {
        topology: topology.clone(),
        components: components.clone(),
        nodes: Vec::new(),
        jobs: vec![job.clone()],
    };
    if query.dry_run {
        return dry_run(&app, snapshot).await;
    }
    // whatever can fail for the request's sake comes before anything is written
    let jobs = snapshot::imagined(&app, snapshot).await?.jobs;
    match app.store.create_topology(&topology, &components, &job).await {
        Err(StoreError::Duplicate { .. }) => return Err(taken()),
        other => other?,
    }
    tracing::info!(topology = %topology.name, job = %job.id, "topology is to be created");
    // The record first: a branch without one would be nobody's. If it cannot be made now, the
    // reconcile loop makes it before anything else.
    if let Err(error) = apply::make_branch(&app, &topology.branch, &topology.config_commit).await {
        tracing::warn!(topology = %topology.name, error = error.chain(), "cannot make its branch yet");
    }
    app.wake.wake(&topology.id);
    Ok(answer(topology.id.0, &jobs, &job))
}

/// The answer to a mutation: what is being worked on, and the job.
pub async fn accepted(app: &App, id: String, snapshot: Snapshot, job: &JobRecord) -> Result<Response, ApiError> {
    Ok(answer(id, &snapshot::imagined(app, snapshot).await?.jobs, job))
}

fn answer(id: String, planned: &[Job], job: &JobRecord) -> Response {
    let job = picture(job, planned);
    let location: (HeaderName, String) = (header::LOCATION, format!("/straas/v1.0/jobs/{}", job.id));
    (StatusCode::ACCEPTED, [location], Json(Accepted { id, job })).into_response()
}

async fn dry_run(app: &App, snapshot: Snapshot) -> Result<Response, ApiError> {
    let plan = snapshot::imagined(app, snapshot).await?;
    let steps = plan.jobs.iter().flat_map(|job| &job.steps).map(|step| step.id.clone()).collect();
    let nodes = plan.add_nodes.iter().map(|node| (node.name.clone(), vec!["is new".to_owned()])).collect();
    Ok(Json(DryRun { steps, nodes }).into_response())
}

fn records(
    request: &TopologyRequest,
    catalog: &Catalog,
    caller: &Caller,
    commit: &str,
) -> (TopologyRecord, Vec<ComponentRecord>) {
    let topology = TopologyRecord {
        id: TopologyId(Uuid::now_v7().to_string()),
        tenant: caller.tenant.clone(),
        name: request.name.clone(),
        zone: request.availability_zone.clone(),
        branch: format!("{}@{}", request.name, request.availability_zone),
        config_commit: commit.to_owned(),
        deleting: false,
        created_ms: now_ms(),
    };
    let component = |(position, component): (u32, &ComponentRequest)| ComponentRecord {
        id: ComponentId(Uuid::now_v7().to_string()),
        topology: topology.id.clone(),
        name: component.name.clone(),
        position,
        spec: spec(component, catalog),
        revision: 1,
    };
    let components = (0..).zip(&request.components).map(component).collect();
    (topology, components)
}

/// The request with every default filled in; it was checked against the same catalog.
fn spec(request: &ComponentRequest, catalog: &Catalog) -> ComponentSpec {
    let meta = catalog.get(&request.kind);
    let default_of =
        |pick: fn(&straas_schemas::metadata::ComponentMeta) -> &String| meta.map(pick).cloned().unwrap_or_default();
    let size_of = |role: &str| meta.map_or(0, |m| m.role(role).and_then(|r| r.sizes).unwrap_or(m.sizes).default);
    let flavor = request.flavor.clone().unwrap_or_else(|| default_of(|m| &m.default_flavor));
    let domains = |enabled: Option<bool>, min: Option<u32>| if enabled == Some(true) { min.unwrap_or(1) } else { 0 };
    let groups = if request.submodules.is_empty() {
        let role = default_of(|m| &m.default_role);
        vec![GroupSpec {
            name: request.name.clone(),
            size: request.size.unwrap_or_else(|| size_of(&role)),
            role,
            flavor,
            fault_domains_min: domains(request.enable_fault_domain, request.min_num_of_fault_domain),
            anti_affinity_group: request.anti_affinity_group.clone(),
            cname: request.enable_cname.unwrap_or(false),
        }]
    } else {
        let group = |sub: &straas_schemas::topology::SubmoduleRequest| GroupSpec {
            name: sub.name.clone(),
            role: sub.role.clone(),
            size: sub.size.unwrap_or_else(|| size_of(&sub.role)),
            flavor: sub.flavor.clone().unwrap_or_else(|| flavor.clone()),
            fault_domains_min: domains(
                sub.enable_fault_domain.or(request.enable_fault_domain),
                sub.min_num_of_fault_domain.or(request.min_num_of_fault_domain),
            ),
            anti_affinity_group: sub.anti_affinity_group.clone().or_else(|| request.anti_affinity_group.clone()),
            cname: sub.enable_cname.or(request.enable_cname).unwrap_or(false),
        };
        request.submodules.iter().map(group).collect()
    };
    ComponentSpec {
        kind: request.kind.clone(),
        version: request.version.clone().unwrap_or_else(|| default_of(|m| &m.default_version)),
        depends_on: request.depends_on.names().into_iter().map(str::to_owned).collect(),
        groups,
    }
}

/// The caller's topology of this id.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<TopologyRecord, ApiError> {
    let found = app.store.topology(&TopologyId(id.to_owned())).await?;
    found.filter(|t| t.tenant == caller.tenant).ok_or_else(|| ApiError::not_found("topology", id))
}

/// The picture of a topology.
pub async fn view(app: &App, id: &TopologyId) -> Result<Option<TopologyView>, ApiError> {
    Ok(snapshot::view(app, id).await?)
}

/// `GET /v1.0/topologies`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TopologyView>>, ApiError> {
    let page = query.page();
    let mut records = app.store.topologies(Some(&caller.tenant), &page).await?;
    let next = cut(&mut records, &page, |t| t.id.as_str());
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
    let mut job = new_job(JobKind::Delete, &record, format!("delete topology {}", record.name));
    if query.dry_run {
        let Some(input) = snapshot::take(&app, &record.id).await? else {
            return Err(ApiError::not_found("topology", &id));
        };
        let nodes = input.nodes.iter().map(|n| (n.name.clone(), vec!["is removed with its host".to_owned()])).collect();
        let steps =
            input.components.iter().map(|c| format!("{}/remove", c.name)).chain(["finish".to_owned()]).collect();
        return Ok(Json(DryRun { steps, nodes }).into_response());
    }
    if app.store.delete_topology(&record.id, &job).await? {
        tracing::info!(topology = %record.name, job = %job.id, "topology is to be deleted");
    }
    app.wake.wake(&record.id);
    let snapshot = app.store.snapshot(&record.id).await?.ok_or_else(|| ApiError::not_found("topology", &id))?;
    // deleting twice answers with the job that is at it
    if let Some(open) = snapshot.jobs.iter().find(|open| open.kind == JobKind::Delete) {
        job = open.clone();
    }
    accepted(&app, id, snapshot, &job).await
}
