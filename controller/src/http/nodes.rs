//! Nodes: list, show, why, replace.
//!
//! A node that is replaced keeps its id, name and settings; only its host is another one.

use super::auth::Caller;
use super::change::{Situation, Wanted, change};
use super::extract::{Path, Query};
use super::lists::cut;
use super::problem::ApiError;
use super::topologies::{self, Mutation, view};
use crate::app::App;
use crate::wanted;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::job::JobKind;
use straas_schemas::view::{NodeView, Page, Why};
use straas_store::{ComponentSpec, HostPhase, NodeSnapshot, PageRequest};

/// Query of the list of nodes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesQuery {
    /// Only nodes of this topology.
    topology: Option<String>,
    /// Topologies after this one.
    marker: Option<String>,
}

/// Topologies whose nodes are shown in one answer; paging is by topology.
const TOPOLOGIES_A_PAGE: u32 = 50;

/// The caller's node of this id.
///
/// # Errors
/// 404.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<NodeSnapshot, ApiError> {
    let missing = || ApiError::not_found("node", id);
    let node = app.store.node(&NodeId(id.to_owned())).await?.ok_or_else(missing)?;
    topologies::own(app, caller, node.record.topology.as_str()).await.map_err(|_| missing())?;
    Ok(node)
}

async fn one(app: &App, caller: &Caller, id: &str) -> Result<NodeView, ApiError> {
    let missing = || ApiError::not_found("node", id);
    let node = own(app, caller, id).await?;
    let topology = view(app, &node.record.topology).await?.ok_or_else(missing)?;
    topology.components.into_iter().flat_map(|c| c.nodes).find(|n| n.id.as_str() == id).ok_or_else(missing)
}

/// `GET /v1.0/nodes/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    one(&app, &caller, &id).await.map(Json)
}

/// `GET /v1.0/nodes/{id}/why`
pub async fn why(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Why>, ApiError> {
    one(&app, &caller, &id).await.map(|node| Json(node.why))
}

/// `GET /v1.0/nodes`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<NodesQuery>,
) -> Result<Json<Page<NodeView>>, ApiError> {
    let (topologies, next) = if let Some(id) = &query.topology {
        (vec![topologies::own(&app, &caller, id).await?], None)
    } else {
        let page = PageRequest { after: query.marker, limit: TOPOLOGIES_A_PAGE + 1 };
        let mut found = app.store.topologies(Some(&caller.tenant), &page).await?;
        let next = cut(&mut found, &page, |t| t.id.to_string());
        (found, next)
    };
    let mut items = Vec::new();
    for topology in topologies {
        let nodes = view(&app, &topology.id).await?.map(|t| t.components).unwrap_or_default();
        items.extend(nodes.into_iter().flat_map(|component| component.nodes));
    }
    Ok(Json(Page { items, next }))
}

/// `PUT /v1.0/nodes/{id}`: another host.
pub async fn replace(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Mutation>,
) -> Result<Response, ApiError> {
    let node = own(&app, &caller, &id).await?;
    change(&app, &caller, query.dry_run, &node.record.component, id, move |situation, spec| {
        another_host(situation, spec, &node.record.id).map(Some)
    })
    .await
}

fn another_host(situation: &Situation, spec: &mut ComponentSpec, id: &NodeId) -> Result<Wanted, ApiError> {
    let gone = || ApiError::not_found("node", id.as_str());
    let node = situation.nodes().find(|node| node.record.id == *id).ok_or_else(gone)?;
    let name = &node.record.name;
    let group = spec.want.groups.iter().find(|group| group.name == node.record.group);
    if !group.is_some_and(|group| wanted::ordinals(group).contains(&node.record.ordinal)) {
        return Err(ApiError::conflict(&format!("{name} is leaving")));
    }
    let wish = wanted::of_node(&mut spec.want, id);
    // asking twice is asking once, as long as the first has not given it another host
    if wish.replacements > node.host.number || node.host.phase != HostPhase::Up {
        return Err(ApiError::conflict(&format!(
            "{name} is getting another host already; GET /nodes/{id}/why says how far"
        )));
    }
    wish.replacements = node.host.number + 1;
    Ok(situation.begin(JobKind::Replace, format!("replace the host of {name}")))
}
