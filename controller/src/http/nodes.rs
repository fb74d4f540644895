//! Nodes: list, show, why.

use super::auth::Caller;
use super::extract::{Path, Query};
use super::problem::ApiError;
use super::topologies::{cut, own, view};
use crate::app::App;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::view::{NodeView, Page, Why};
use straas_store::PageRequest;

/// Query of the list of nodes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesQuery {
    /// Only nodes of this topology.
    topology: Option<String>,
    /// Topologies after this one.
    marker: Option<String>,
}

/// Topologies whose nodes are shown in one answer; paging is by topology.
const TOPOLOGIES_A_PAGE: u32 = 50;

async fn one(app: &App, caller: &Caller, id: &str) -> Result<NodeView, ApiError> {
    let missing = || ApiError::not_found("node", id);
    let node = app.store.node(&NodeId(id.to_owned())).await?.ok_or_else(missing)?;
    own(app, caller, node.record.topology.as_str()).await.map_err(|_| missing())?;
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
        (vec![own(&app, &caller, id).await?], None)
    } else {
        let page = PageRequest { after: query.marker, limit: TOPOLOGIES_A_PAGE + 1 };
        let mut found = app.store.topologies(Some(&caller.tenant), &page).await?;
        let next = cut(&mut found, &page, |t| t.id.as_str());
        (found, next)
    };
    let mut items = Vec::new();
    for topology in topologies {
        let nodes = view(&app, &topology.id).await?.map(|t| t.components).unwrap_or_default();
        items.extend(nodes.into_iter().flat_map(|component| component.nodes));
    }
    Ok(Json(Page { items, next }))
}
