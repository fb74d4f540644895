//! From the store and the repos to the planner's input: one topology, as of one moment.
//!
//! With `apply.rs` the only place that knows both the planner and the store. It translates and
//! decides nothing; what cannot be read becomes a reason that the planner shows.

use crate::app::{App, blocking};
use crate::clock::now_ms;
use crate::error::{Error, chain};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use straas_planner::{Component, Group, Host, Knowledge, Node, OpenJob, Plan, PlanInput, Settings, Topology, plan};
use straas_repos::{CommitId, ConfigRepo, ScriptRepo};
use straas_schemas::TopologyId;
use straas_schemas::metadata::Catalog;
use straas_schemas::view::TopologyView;
use straas_store::{ComponentRecord, HostPhase, NodeSnapshot, Snapshot, StoreError};

/// A snapshot is taken so often at most, while assignments are being written beside it.
const MOMENTS_MAX: u32 = 16;

/// The planner's input for a topology; `None` if there is none of this id.
///
/// # Errors
/// The store or a repo cannot be read at all. What is wrong with one component only is in its
/// `known`.
pub async fn take(app: &App, id: &TopologyId) -> Result<Option<PlanInput>, Error> {
    for _ in 0..MOMENTS_MAX {
        let Some(snapshot) = app.store.snapshot(id).await? else { return Ok(None) };
        // What is offered is a copy of what is stored. One that is behind would hide a granted permit;
        // one that is ahead was written since the snapshot, which then is of no one moment.
        let mut ahead = false;
        for node in &snapshot.nodes {
            let key = &node.record.id;
            if app.fleet.incarnation(key).is_none() {
                // recorded by another controller, or removed since the snapshot
                app.sync_node(key).await?;
            }
            app.fleet.enrolled(key, node.incarnation);
            let assigned = node.assigned.as_ref().map(|(generation, _)| *generation);
            if assigned > app.fleet.generation(key) {
                app.sync_assignment(key).await?;
            }
            ahead |= app.fleet.generation(key) > assigned;
        }
        if !ahead {
            return imagine(app, snapshot).await.map(Some);
        }
    }
    Err(StoreError::Conflict { what: "topology", id: id.to_string() }.into())
}

/// The planner's input for a snapshot, which may be of a topology that is only asked for.
///
/// # Errors
/// A repo cannot be read.
pub async fn imagine(app: &App, snapshot: Snapshot) -> Result<PlanInput, Error> {
    let (configs, scripts) = (app.configs.clone(), app.scripts.clone());
    let components = snapshot.components.clone();
    let commit = snapshot.topology.config_commit.clone();
    let (head, known) = blocking(move || {
        let catalog = configs.catalog_view()?.catalog;
        let head = scripts.head()?;
        let commit = CommitId::parse(&commit)?;
        let known = components.iter().map(|c| knowledge(&configs, &scripts, &catalog, &commit, &head, c)).collect();
        Ok::<(CommitId, Vec<Result<Knowledge, String>>), _>((head, known))
    })
    .await?;
    Ok(input(app, snapshot, head.as_str(), known))
}

/// The plan of a topology as it is; `None` if there is none of this id.
///
/// # Errors
/// As [`take`].
pub async fn planned(app: &App, id: &TopologyId) -> Result<Option<Plan>, Error> {
    Ok(take(app, id).await?.map(|input| plan(&input)))
}

/// A topology as people see it; `None` if there is none of this id.
///
/// # Errors
/// As [`take`].
pub async fn view(app: &App, id: &TopologyId) -> Result<Option<TopologyView>, Error> {
    Ok(take(app, id).await?.map(|input| straas_planner::view(&input)))
}

/// The plan of a topology that is only asked for.
///
/// # Errors
/// As [`imagine`].
pub async fn imagined(app: &App, snapshot: Snapshot) -> Result<Plan, Error> {
    Ok(plan(&imagine(app, snapshot).await?))
}

fn input(app: &App, snapshot: Snapshot, scripts: &str, known: Vec<Result<Knowledge, String>>) -> PlanInput {
    let timing = &app.config.timing;
    PlanInput {
        now_ms: now_ms(),
        topology: Topology {
            id: snapshot.topology.id,
            name: snapshot.topology.name,
            zone: snapshot.topology.zone,
            tenant: snapshot.topology.tenant,
            branch: snapshot.topology.branch,
            deleting: snapshot.topology.deleting,
            created_ms: snapshot.topology.created_ms,
        },
        components: snapshot
            .components
            .into_iter()
            .zip(known)
            .map(|(record, known)| component(record, known))
            .collect(),
        nodes: snapshot.nodes.into_iter().map(|n| node(app, n)).collect(),
        jobs: snapshot
            .jobs
            .into_iter()
            .map(|job| OpenJob { id: job.id, kind: job.kind, detail: job.detail, created_ms: job.created_ms })
            .collect(),
        scripts: scripts.to_owned(),
        files: app.files.clone(),
        settings: Settings {
            heartbeat_ms: timing.heartbeat_ms,
            suspect_after_ms: timing.suspect_after_ms,
            unreachable_after_ms: timing.unreachable_after_ms,
            retry_ms: timing.retry_ms,
            retry_max_ms: timing.retry_max_ms,
            waiting_ms: timing.waiting_ms,
        },
    }
}

fn component(record: ComponentRecord, known: Result<Knowledge, String>) -> Component {
    let group = |g: straas_store::GroupSpec| Group { name: g.name, role: g.role, size: g.size, flavor: g.flavor };
    Component {
        id: record.id,
        name: record.name,
        kind: record.spec.kind,
        version: record.spec.version,
        depends_on: record.spec.depends_on,
        groups: record.spec.groups.into_iter().map(group).collect(),
        known,
    }
}

fn node(app: &App, node: NodeSnapshot) -> Node {
    let offer = app.fleet.get(&node.record.id).and_then(|slot| slot.offer);
    let assigned = node.assigned.as_ref().map(|(generation, _)| *generation);
    Node {
        id: node.record.id,
        component: node.record.component,
        group: node.record.group,
        role: node.record.role,
        name: node.record.name,
        ordinal: node.record.ordinal,
        host: match node.host.phase {
            HostPhase::Absent => Host::Absent,
            HostPhase::Failed => Host::Failed(node.host.error.unwrap_or_default()),
            HostPhase::Up => Host::Up,
        },
        address: node.host.address,
        incarnation: node.incarnation,
        assignment: offer.filter(|o| Some(o.generation) == assigned).map(|o| (*o.assignment).clone()),
        converged_generation: node.converged_generation,
        stages: node.stages,
        refused: node.refused,
        heartbeat: node.heartbeat,
    }
}

fn knowledge(
    configs: &ConfigRepo,
    scripts: &ScriptRepo,
    catalog: &Arc<Catalog>,
    commit: &CommitId,
    head: &CommitId,
    component: &ComponentRecord,
) -> Result<Knowledge, String> {
    let (kind, version) = (&component.spec.kind, &component.spec.version);
    let meta = catalog.get(kind).ok_or_else(|| format!("the catalog has no component type {kind}"))?;
    let config = configs.effective(commit, kind, version).map_err(|e| chain(&e))?;
    let roles: BTreeSet<&String> = component.spec.groups.iter().map(|g| &g.role).collect();
    let mut by_role = BTreeMap::new();
    for role in roles {
        let found = meta.role(role).ok_or_else(|| format!("{kind} has no role {role}"))?;
        let missing = scripts.missing(head, kind, &found.script_role, version).map_err(|e| chain(&e))?;
        if !missing.is_empty() {
            return Err(format!("the script repo lacks {}", missing.join(", ")));
        }
        let digests = scripts.stage_digests(head, kind, &found.script_role, version).map_err(|e| chain(&e))?;
        by_role.insert(found.script_role.clone(), (*digests).clone());
    }
    Ok(Knowledge { meta: meta.clone(), config: (*config).clone(), scripts: by_role })
}
