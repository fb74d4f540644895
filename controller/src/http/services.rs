//! Services of a node or of a whole component: start, stop, restart.
//!
//! Stopped is wanted, not done once: a stopped node stays so over a reboot and a change of its
//! configuration. A restart counts; that of a component goes through its nodes as permits allow.

use super::auth::Caller;
use super::change::{Situation, Then, Wanted, change};
use super::extract::Path;
use super::problem::ApiError;
use super::topologies::How;
use crate::app::App;
use crate::wanted;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, NodeId};
use straas_store::{ComponentSpec, NodeSnapshot};

type Parts = (State<Arc<App>>, Extension<Caller>, Path<String>, How);

/// `POST /v1.0/components/{id}/services`
pub async fn start_all(parts: Parts) -> Result<Response, ApiError> {
    component(parts, JobKind::Start).await
}

/// `DELETE /v1.0/components/{id}/services`
pub async fn stop_all(parts: Parts) -> Result<Response, ApiError> {
    component(parts, JobKind::Stop).await
}

/// `PUT /v1.0/components/{id}/services`
pub async fn restart_all(parts: Parts) -> Result<Response, ApiError> {
    component(parts, JobKind::Restart).await
}

/// `POST /v1.0/nodes/{id}/services`
pub async fn start(parts: Parts) -> Result<Response, ApiError> {
    node(parts, JobKind::Start).await
}

/// `DELETE /v1.0/nodes/{id}/services`
pub async fn stop(parts: Parts) -> Result<Response, ApiError> {
    node(parts, JobKind::Stop).await
}

/// `PUT /v1.0/nodes/{id}/services`
pub async fn restart(parts: Parts) -> Result<Response, ApiError> {
    node(parts, JobKind::Restart).await
}

async fn component(parts: Parts, kind: JobKind) -> Result<Response, ApiError> {
    let (State(app), caller, Path(id), how) = parts;
    change(&app, &caller, &how, &ComponentId(id.clone()), id, move |situation, spec| set(situation, spec, kind, None))
        .await
}

async fn node(parts: Parts, kind: JobKind) -> Result<Response, ApiError> {
    let (State(app), caller, Path(id), how) = parts;
    let node = super::nodes::own(&app, &caller, &id).await?;
    change(&app, &caller, &how, &node.record.component, id, move |situation, spec| {
        set(situation, spec, kind, Some(&node.record.id))
    })
    .await
}

/// `None` for all nodes of the component.
fn set(
    situation: &Situation,
    spec: &mut ComponentSpec,
    kind: JobKind,
    only: Option<&NodeId>,
) -> Result<Option<Wanted>, ApiError> {
    let stays = |node: &&NodeSnapshot| {
        let group = spec.want.groups.iter().find(|group| group.name == node.record.group);
        group.is_some_and(|group| wanted::ordinals(group).contains(&node.record.ordinal))
    };
    let nodes: Vec<&NodeSnapshot> =
        situation.nodes().filter(|node| only.is_none_or(|only| node.record.id == *only)).filter(stays).collect();
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.record.id.clone()).collect();
    let name = match (only, nodes.first()) {
        (None, _) => situation.component.name.clone(),
        (Some(_), Some(node)) => node.record.name.clone(),
        (Some(only), None) => return Err(ApiError::conflict(&format!("node {only} is leaving"))),
    };
    let detail = format!("{} {name}", kind.name());
    if kind == JobKind::Restart {
        let running: Vec<NodeId> =
            ids.into_iter().filter(|id| spec.want.nodes.get(id).is_none_or(|node| !node.stopped)).collect();
        if running.is_empty() {
            return Err(ApiError::conflict(&format!("{name} is stopped; start it instead (POST …/services)")));
        }
        for id in running {
            wanted::of_node(&mut spec.want, &id).restarts += 1;
        }
        return Ok(Some(situation.begin(kind, detail)));
    }
    let undo = wanted::set_stopped(&mut spec.want, &ids, kind == JobKind::Stop);
    Ok(undo.map(|undo| {
        let mut wanted = situation.begin(kind, detail);
        if let Then::Begin(job) = &mut wanted.then {
            job.undo = Some(undo);
        }
        wanted
    }))
}
