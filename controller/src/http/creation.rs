//! From a request for a topology, or for one more component, to records: every default filled in,
//! every field where it belongs, and nothing begun that is known to fail.

use super::audit;
use super::auth::Caller;
use super::body;
use super::change::quarantined;
use super::elsewhere::{self, Found, Place};
use super::extract::{Body, Path, Query};
use super::jobs::new_job;
use super::once::{self, Made};
use super::problem::ApiError;
use super::topologies::{Mutation, accepted, answer, own};
use crate::app::{App, blocking};
use crate::apply;
use crate::snapshot::{self, Given};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_drivers::Hosts;
use straas_repos::CatalogView;
use straas_schemas::job::JobKind;
use straas_schemas::metadata::Catalog;
use straas_schemas::storage::DeliveredFile;
use straas_schemas::topology::{COMPONENTS_MAX, ComponentRequest, SubmoduleRequest, TopologyRequest};
use straas_schemas::view::DryRun;
use straas_schemas::{ComponentId, TopologyId};
use straas_store::{ComponentRecord, ComponentSpec, GroupSpec, Snapshot, StoreError, TopologyRecord, Want};
use uuid::Uuid;

/// `POST /v1.0/topologies`
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let body = body::json(&bytes)?;
    let (CatalogView { catalog, commit, .. }, scripts) = offered(&app).await?;
    let (names, zone) = body.elsewhere();
    let place = Place { tenant: &caller.tenant, zone: &zone, own: None };
    let found = elsewhere::resolve(&app, &place, &names).await?;
    let request = body::topology(body, &catalog, &found.kinds())?;
    let (topology, components) =
        records(&request, &catalog, &caller, [commit.as_str(), &scripts], (&found, app.now_ms()));
    let taken = || {
        let message = format!("there is a topology {}@{} already", request.name, request.availability_zone);
        ApiError::taken("/name", &message)
    };
    if app.store.topology_by_name(&request.name, &request.availability_zone).await?.is_some() {
        return Err(taken());
    }
    for (index, component) in components.iter().enumerate() {
        free(&app, component, &format!("/components/{index}")).await?;
    }
    let notes = notes(&*app.hosts, &topology.zone, &components);
    let job = new_job(
        app.now_ms(),
        JobKind::Create,
        &topology,
        None,
        detail(format!("create topology {}", topology.name), &notes),
    );
    let mut snapshot = Snapshot {
        topology: topology.clone(),
        writes: 0,
        components: components.clone(),
        nodes: Vec::new(),
        jobs: vec![job.clone()],
        operations: Vec::new(),
        neighbours: Vec::new(),
    };
    elsewhere::complete(&app, &mut snapshot).await?;
    if query.dry_run {
        let plan = snapshot::imagined(&app, snapshot).await?;
        let steps = plan.jobs.iter().flat_map(|job| &job.steps).map(|step| step.id.clone()).collect();
        let nodes = plan.add_nodes.iter().map(|node| (node.name.clone(), vec!["is new".to_owned()])).collect();
        return Ok(Json(DryRun { changes: notes, steps, nodes }).into_response());
    }
    // whatever can fail for the request's sake comes before anything is written
    let configs = app.configs.clone();
    blocking(move || configs.reachable()).await?;
    let jobs = snapshot::imagined(&app, snapshot).await?.jobs;
    let wanted: BTreeMap<_, _> = components.iter().map(|component| (&component.name, &component.spec)).collect();
    let made = Made::Job { id: topology.id.to_string(), job: job.id.clone() };
    match once::store(&app, &made).create_topology(&topology, &components, &job).await {
        Err(StoreError::Duplicate { .. }) => return Err(taken()),
        other => other?,
    }
    tracing::info!(topology = %topology.name, job = %job.id, "topology is to be created");
    audit::about(&topology.id);
    audit::changed(format!("topology {}", topology.name), Value::Null, json!(wanted));
    // The record first: a branch without one would be nobody's. If it cannot be made now, the
    // reconcile loop makes it before anything else.
    if let Err(error) = apply::make_branch(&app, &topology.branch, &topology.config_commit).await {
        tracing::warn!(topology = %topology.name, error = error.chain(), "cannot make its branch yet");
    }
    app.wake.wake(&topology.id);
    Ok(answer(topology.id.0, &jobs, &job))
}

/// `POST /v1.0/topologies/{id}/components`: one more, in a topology that is there.
pub async fn add(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let topology = own(&app, &caller, &id).await?;
    if topology.deleting {
        return Err(ApiError::conflict("the topology is being deleted"));
    }
    let missing = || ApiError::not_found("topology", &id);
    let body = body::json(&bytes)?;
    let (view, scripts) = offered(&app).await?;
    let now = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    let found = elsewhere::resolve(&app, &Place::from(&topology), &body.elsewhere().0).await?;
    let request = body::component(body, outline(&now), &view.catalog, &found.kinds())?;
    if now.components.len() >= COMPONENTS_MAX {
        return Err(ApiError::conflict(&format!("a topology has at most {COMPONENTS_MAX} components")));
    }
    let mut component = ComponentRecord {
        id: ComponentId(Uuid::now_v7().to_string()),
        topology: topology.id.clone(),
        name: request.name.clone(),
        position: now.components.iter().map(|c| c.position + 1).max().unwrap_or(0),
        spec: spec(&request, &view.catalog, ["", &scripts], &found),
        revision: 1,
    };
    free(&app, &component, "").await?;
    // the branch may be older than the type or its version
    let (configs, branch, author) = (app.configs.clone(), topology.branch.clone(), caller.name.clone());
    let (kind, version) = (component.spec.kind.clone(), component.spec.want.version.clone());
    let adopted = blocking(move || {
        configs.adopt_version(&branch, &kind, &version, &version, &view.commit, &author, !query.dry_run)
    })
    .await?;
    component.spec.want.config = adopted.commit.to_string();
    component.spec.want.files = everywhere(&now);
    let notes = notes(&*app.hosts, &topology.zone, std::slice::from_ref(&component));
    let detail = detail(format!("add component {}", component.name), &notes);
    let job = new_job(app.now_ms(), JobKind::Create, &topology, Some(&component.id), detail);
    if query.dry_run {
        let mut wished = now.clone();
        wished.components.push(component.clone());
        wished.jobs.push(job);
        elsewhere::complete(&app, &mut wished).await?;
        let given = Given::from([(component.id, adopted.effective)]);
        let mut forecast = snapshot::forecast(&app, now, wished, given).await?;
        forecast.changes.extend(notes);
        return Ok(Json(forecast).into_response());
    }
    let made = Made::Job { id: component.id.to_string(), job: job.id.clone() };
    match once::store(&app, &made).add_component(&component, &job).await {
        Err(StoreError::Duplicate { .. }) => {
            let message = format!("there is a component {} already", component.name);
            return Err(ApiError::taken("/name", &message));
        }
        other => other?,
    }
    tracing::info!(topology = %topology.name, component = %component.name, job = %job.id, "component is to be added");
    audit::changed(format!("component {}", component.name), Value::Null, json!(component.spec));
    app.wake.wake(&topology.id);
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    accepted(&app, component.id.0, snapshot, &job).await
}

/// Files that the topology was given as a whole, so that what comes later has them, too.
fn everywhere(now: &Snapshot) -> Vec<DeliveredFile> {
    let files = now.components.iter().filter(|c| !c.spec.removed).flat_map(|c| &c.spec.want.files);
    let by_path: BTreeMap<&str, &DeliveredFile> =
        files.filter(|file| file.everywhere).map(|file| (file.target_path.as_str(), file)).collect();
    by_path.into_values().cloned().collect()
}

/// What was asked of the placement of hosts and cannot be honoured by a provider with so many fault domains.
fn notes(provider: &dyn Hosts, zone: &str, components: &[ComponentRecord]) -> Vec<String> {
    let (kind, domains) = (provider.kind(), provider.fault_domains(zone));
    let mut out = Vec::new();
    for component in components {
        for group in &component.spec.want.groups {
            let mut asked = Vec::new();
            if group.fault_domains_min > domains {
                asked.push(format!("{} fault domains", group.fault_domains_min));
            }
            asked.extend(
                group
                    .anti_affinity_group
                    .as_ref()
                    .filter(|_| group.size > domains)
                    .map(|name| format!("the anti-affinity group {name}")),
            );
            if !asked.is_empty() {
                let (name, asked) = (&group.name, asked.join(" and "));
                let there = if domains == 1 { "one fault domain".into() } else { format!("{domains} fault domains") };
                out.push(format!(
                    "{name}: {asked} cannot be had in full: hosts of the provider {kind:?} are in {there}"
                ));
            }
        }
    }
    out
}

fn detail(what: String, notes: &[String]) -> String {
    if notes.is_empty() { what } else { format!("{what} ({})", notes.join("; ")) }
}

/// What a new component can be made of: the component types, and the commit of the scripts.
async fn offered(app: &App) -> Result<(CatalogView, String), ApiError> {
    let (configs, scripts) = (app.configs.clone(), app.scripts.clone());
    Ok(blocking(move || Ok((configs.catalog_view()?, String::from(scripts.head()?)))).await?)
}

/// Refuses what failed its canaries elsewhere.
async fn free(app: &App, component: &ComponentRecord, at: &str) -> Result<(), ApiError> {
    let quarantine = app.store.quarantined().await?;
    let key = format!("{}@{}", component.spec.kind, component.spec.want.version);
    quarantined(&quarantine, &format!("{at}/version"), "version", &key)?;
    quarantined(&quarantine, at, "scripts", &component.spec.want.scripts)
}

/// What there is already, as far as a new component can contradict it.
fn outline(now: &Snapshot) -> Vec<Value> {
    let group = |group: &GroupSpec| json!({ "role": group.role, "name": group.name });
    let component = |component: &ComponentRecord| {
        let spec = &component.spec;
        let mut out = json!({ "name": component.name, "type": spec.kind, "depends_on": spec.depends_on });
        // the only group of a component without submodules is called as it is
        if spec.want.groups.iter().any(|group| group.name != component.name) {
            out["submodules"] = spec.want.groups.iter().map(group).collect();
        }
        out
    };
    now.components.iter().map(component).collect()
}

fn records(
    request: &TopologyRequest,
    catalog: &Catalog,
    caller: &Caller,
    [config, scripts]: [&str; 2],
    (found, created_ms): (&Found, i64),
) -> (TopologyRecord, Vec<ComponentRecord>) {
    let topology = TopologyRecord {
        id: TopologyId(Uuid::now_v7().to_string()),
        tenant: caller.tenant.clone(),
        name: request.name.clone(),
        zone: request.availability_zone.clone(),
        branch: format!("{}@{}", request.name, request.availability_zone),
        config_commit: config.to_owned(),
        deleting: false,
        created_ms,
    };
    let component = |(position, component): (u32, &ComponentRequest)| ComponentRecord {
        id: ComponentId(Uuid::now_v7().to_string()),
        topology: topology.id.clone(),
        name: component.name.clone(),
        position,
        spec: spec(component, catalog, [config, scripts], found),
        revision: 1,
    };
    let components = (0..).zip(&request.components).map(component).collect();
    (topology, components)
}

/// The request with every default filled in; it was checked against the same catalog.
fn spec(request: &ComponentRequest, catalog: &Catalog, [config, scripts]: [&str; 2], found: &Found) -> ComponentSpec {
    let (depends_on, foreign) = found.split(request.depends_on.names());
    let meta = catalog.get(&request.kind);
    let default_of =
        |pick: fn(&straas_schemas::metadata::ComponentMeta) -> &String| meta.map(pick).cloned().unwrap_or_default();
    let size_of = |role: &str| meta.map_or(0, |meta| meta.sizes_of(role).default);
    let flavor = request.flavor.clone().unwrap_or_else(|| default_of(|m| &m.default_flavor));
    let domains = |enabled: Option<bool>, min: Option<u32>| if enabled == Some(true) { min.unwrap_or(1) } else { 0 };
    let groups = if request.submodules.is_empty() {
        let role = default_of(|m| &m.default_role);
        vec![GroupSpec {
            name: request.name.clone(),
            size: request.size.unwrap_or_else(|| size_of(&role)),
            role,
            without: Vec::new(),
            flavor,
            fault_domains_min: domains(request.enable_fault_domain, request.min_num_of_fault_domain),
            anti_affinity_group: request.anti_affinity_group.clone(),
            cname: request.enable_cname.unwrap_or(false),
        }]
    } else {
        let group = |sub: &SubmoduleRequest| GroupSpec {
            name: sub.name.clone(),
            role: sub.role.clone(),
            size: sub.size.unwrap_or_else(|| size_of(&sub.role)),
            without: Vec::new(),
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
        depends_on,
        foreign,
        want: Want {
            version: request.version.clone().unwrap_or_else(|| default_of(|m| &m.default_version)),
            config: config.to_owned(),
            scripts: scripts.to_owned(),
            groups,
            nodes: BTreeMap::new(),
            files: Vec::new(),
            agent: None,
        },
        rollout: None,
        removed: false,
    }
}
