//! `POST /rollouts`: what is asked for is checked as a whole, for every member, before anything is written.

use super::super::auth::Caller;
use super::super::change::quarantined;
use super::super::extract::{Body, Query};
use super::super::once::{self, Made};
use super::super::problem::ApiError;
use super::super::scope::meant;
use super::super::topologies::Mutation;
use super::super::{audit, body, scripts};
use super::builds::{allowed, refuse_unable, stored};
use super::{begun, shown};
use crate::app::{App, blocking};
use crate::goods::{Goods, has};
use crate::rollout::batches::batches;
use crate::sync;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use straas_schemas::change::Scope;
use straas_schemas::rollout::{
    FleetMemberPhase, FleetRolloutKind, FleetRolloutRequest, FleetRolloutStanding, FleetScope, ROLLOUT_BATCHES,
    ROLLOUT_MEMBERS_MAX,
};
use straas_schemas::{ComponentId, Fault, TopologyId};
use straas_store::{ComponentRecord, RolloutMember, RolloutRecord, StoreError, TopologyRecord};
use uuid::Uuid;

/// Topologies or components are read so many at once.
pub(super) const READ_AT_ONCE: usize = 64;
/// Components that are named where more are in the way: nobody reads more.
pub(super) const NAMED_MAX: usize = 10;

pub(super) type Component = (TopologyRecord, ComponentRecord);

/// `POST /v1.0/rollouts`
pub async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: FleetRolloutRequest = body::typed(&bytes)?;
    let percents = request.batches.clone().unwrap_or_else(|| ROLLOUT_BATCHES.to_vec());
    let faults = faults(&request, &percents);
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    allowed(&caller, request.kind)?;
    // everybody's are asked for by a field here, and seldom anybody's to change
    let tenant = caller.listed(request.all_tenants)?.map(str::to_owned);
    let (goods, from) = goods(&app, &caller, &request).await?;
    let mut found = match (request.scope, &request.items) {
        (Some(scope), Some(items)) => named(&app, &caller, scope, items).await?,
        _ => all(&app, tenant.as_deref()).await?,
    };
    refuse_busy(&app, request.kind, &found).await?;
    found.retain(|(_, component)| has(request.kind, &component.spec.want) != goods.name());
    if found.len() > ROLLOUT_MEMBERS_MAX {
        let text = format!("{} components are too many for one rollout; at most {ROLLOUT_MEMBERS_MAX}", found.len());
        return Err(ApiError::invalid(if request.items.is_some() { "/items" } else { "" }, &text));
    }
    found.sort_by(|(a, one), (b, other)| (&a.id, one.position).cmp(&(&b.id, other.position)));
    match &goods {
        Goods::Scripts(commit) => refuse_lacking(&app, &found, commit).await?,
        Goods::Agents(_) => refuse_unable(&app, &found).await?,
    }
    let rollout = record((&caller, app.now_ms()), &request, (goods, from), &found, &percents);
    if query.dry_run {
        return Ok(shown(rollout).into_response());
    }
    match once::store(&app, &Made::Rollout { id: rollout.id.clone() }).add_rollout(&rollout).await {
        Err(StoreError::Duplicate { what: "open rollout", name }) => return Err(busy(&name)),
        done => done?,
    }
    let (batches, members) = (&rollout.batches, rollout.members.len());
    let after = json!({ rollout.kind.thing(): rollout.wanted, "components": members, "batches": batches });
    audit::changed(format!("rollout {}", rollout.id), json!(null), after);
    tracing::info!(rollout = rollout.id, by = caller.name, components = members, "rollout of {}", rollout.wanted);
    app.wake.wake_rollouts();
    Ok(begun(rollout))
}

/// What is asked for, which nobody may have found to be no good; and where it was in the storage.
async fn goods(app: &App, caller: &Caller, request: &FleetRolloutRequest) -> Result<(Goods, Option<String>), ApiError> {
    let all = app.store.quarantined().await?;
    let kind = request.kind.name();
    if request.kind == FleetRolloutKind::Scripts {
        let commit = scripts::commit(app, request.commit.as_deref()).await?;
        quarantined(&all, "/commit", kind, &commit)?;
        return Ok((Goods::Scripts(commit), None));
    }
    let Some(file) = &request.file else { return Ok((Goods::Agents(None), None)) };
    let (build, from) = stored(app, caller, file).await?;
    quarantined(&all, "/file", kind, build.sha256.as_str())?;
    Ok((Goods::Agents(Some(build)), Some(from)))
}

fn faults(request: &FleetRolloutRequest, percents: &[u32]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (scripts, file, packaged) = (request.kind == FleetRolloutKind::Scripts, &request.file, request.packaged);
    if scripts && file.is_some() {
        faults.push(Fault::at("/file", "is for agents; scripts are a commit"));
    }
    if scripts && packaged {
        faults.push(Fault::at("/packaged", "is for agents; scripts are a commit"));
    }
    if !scripts && request.commit.is_some() {
        faults.push(Fault::at("/commit", "is for scripts; a build of the agent is a file"));
    }
    if !scripts && file.is_some() == packaged {
        faults.push(Fault::at("/file", "has to name a build, or packaged has to be true: one of the two"));
    }
    faults.extend(file.iter().flat_map(straas_schemas::rollout::BuildFile::faults));
    if percents.last() != Some(&100) {
        faults.push(Fault::at("/batches", "the last has to be 100: then every node has it"));
    }
    let rises = |(at, pair): (usize, &[u32])| {
        (pair[0] >= pair[1]).then(|| Fault::at(format!("/batches/{}", at + 1), "has to be more than the one before"))
    };
    faults.extend(percents.windows(2).enumerate().filter_map(rises));
    match (request.scope, &request.items) {
        (Some(_), None) => faults.push(Fault::at("/items", "has to name what scope says")),
        (None, Some(_)) => faults.push(Fault::at("/scope", "has to say what the items are")),
        (Some(_), Some(_)) if request.all_tenants => {
            faults.push(Fault::at("/all_tenants", "everybody's, or those that are named: not both"));
        }
        _ => {}
    }
    faults
}

/// Components that stay, of a tenant or of all.
async fn all(app: &App, tenant: Option<&str>) -> Result<Vec<Component>, ApiError> {
    let topologies = app.topologies(tenant).await?;
    let ids: Vec<TopologyId> = topologies.into_iter().filter(|t| !t.deleting).map(|topology| topology.id).collect();
    let mut found = Vec::new();
    for ids in ids.chunks(READ_AT_ONCE) {
        for snapshot in app.store.snapshots(ids).await?.into_iter().filter(|snapshot| !snapshot.topology.deleting) {
            let stays = snapshot.components.into_iter().filter(|component| !component.spec.removed);
            found.extend(stays.map(|component| (snapshot.topology.clone(), component)));
        }
    }
    Ok(found)
}

/// Components that items name; those that go are refused by name, or left out with their topology.
async fn named(app: &App, caller: &Caller, scope: FleetScope, items: &[String]) -> Result<Vec<Component>, ApiError> {
    let scope = match scope {
        FleetScope::Topologies => Scope::Topologies,
        FleetScope::Components => Scope::Components,
    };
    let ids: Vec<ComponentId> = meant(app, caller, scope, items).await?.into_keys().collect();
    let mut found = Vec::new();
    for ids in ids.chunks(READ_AT_ONCE) {
        for one in app.store.neighbours(ids).await? {
            if one.topology.deleting || one.component.spec.removed {
                return Err(ApiError::conflict(&format!("the component {} is being removed", one.component.name)));
            }
            found.push((one.topology, one.component));
        }
    }
    Ok(found)
}

/// Refuses a commit that lacks what some component needs.
async fn refuse_lacking(app: &App, found: &[Component], commit: &str) -> Result<(), ApiError> {
    let (configs, scripts, commit_of) = (app.configs.clone(), app.scripts.clone(), commit.to_owned());
    let asked: Vec<_> = found.iter().map(|(t, c)| (format!("{}/{}", t.name, c.name), c.spec.clone())).collect();
    let lacking = blocking(move || {
        let catalog = configs.catalog_view()?.catalog;
        let mut known: BTreeMap<(String, String, BTreeSet<String>), Vec<String>> = BTreeMap::new();
        let mut lacking = Vec::new();
        for (name, spec) in asked {
            let Some(meta) = catalog.get(&spec.kind) else {
                lacking.push(format!("the catalog has no component type {} any more, which {name} is of", spec.kind));
                continue;
            };
            let roles = spec.want.groups.iter().map(|group| group.role.clone()).collect();
            let key = (spec.kind.clone(), spec.want.version.clone(), roles);
            let missing = match known.get(&key) {
                Some(missing) => missing.clone(),
                None => sync::missing_scripts(&scripts, meta, &spec, &commit_of, &spec.want.version)?,
            };
            if !missing.is_empty() {
                lacking.push(format!("commit {commit_of:.10} lacks {}, which {name} needs", missing.join(", ")));
            }
            known.insert(key, missing);
        }
        Ok(lacking)
    })
    .await?;
    let faults: Vec<_> = lacking.into_iter().take(NAMED_MAX).map(|text| Fault::at("/commit", text)).collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::faults(faults)) }
}

/// Refuses what is in another rollout, also where that has given it the commit: it may take it back. Of two that begin
/// at once, the store refuses one.
async fn refuse_busy(app: &App, kind: FleetRolloutKind, found: &[Component]) -> Result<(), ApiError> {
    let mine: Vec<ComponentId> = found.iter().map(|(_, component)| component.id.clone()).collect();
    match app.store.open_rollout_of(kind, &mine).await? {
        Some(other) => Err(busy(&other)),
        None => Ok(()),
    }
}

fn busy(other: &str) -> ApiError {
    ApiError::conflict(&format!(
        "rollout {other} goes through some of these components; wait for its end, or cancel it"
    ))
}

fn record(
    (caller, now): (&Caller, i64),
    request: &FleetRolloutRequest,
    (goods, from): (Goods, Option<String>),
    found: &[Component],
    percents: &[u32],
) -> RolloutRecord {
    let size = |component: &ComponentRecord| component.spec.want.groups.iter().map(|group| group.size).sum();
    let sizes: Vec<u32> = found.iter().map(|(_, component)| size(component)).collect();
    let (of, batches) = batches(&sizes, percents);
    let member = |((topology, component), (batch, nodes)): (&Component, (u32, u32))| RolloutMember {
        component: component.id.clone(),
        component_name: component.name.clone(),
        topology: topology.id.clone(),
        topology_name: topology.name.clone(),
        tenant: topology.tenant.clone(),
        batch,
        nodes,
        before: has(request.kind, &component.spec.want),
        before_build: component.spec.want.agent.clone().filter(|_| request.kind == FleetRolloutKind::Agents),
        before_nodes: match request.kind {
            FleetRolloutKind::Scripts => sync::of_nodes(&component.spec),
            FleetRolloutKind::Agents => BTreeMap::new(),
        },
        phase: FleetMemberPhase::Waiting,
        reason: None,
        job: None,
    };
    // where all have it already there is nothing to wait for
    let over = found.is_empty();
    RolloutRecord {
        id: Uuid::now_v7().to_string(),
        kind: request.kind,
        wanted: goods.name().to_owned(),
        build: match goods {
            Goods::Scripts(_) => None,
            Goods::Agents(build) => build,
        },
        from,
        author: caller.name.clone(),
        tenant: caller.tenant.clone(),
        all_tenants: request.all_tenants,
        batches,
        soak_s: request.soak_s.unwrap_or(0),
        batch: 0,
        watched_ms: None,
        standing: if over { FleetRolloutStanding::Succeeded } else { FleetRolloutStanding::Running },
        reason: None,
        created_ms: now,
        ended_ms: over.then_some(now),
        revision: 1,
        members: found.iter().zip(of.into_iter().zip(sizes)).map(member).collect(),
    }
}
