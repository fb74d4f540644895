//! Nodes: list, show, why, replace.
//!
//! A node that is replaced keeps its id, name and settings; only its host is another one.

use super::auth::Caller;
use super::change::{Situation, Wanted, change};
use super::components;
use super::etag::{Tag, listing};
use super::extract::{Path, Query};
use super::lists::{Listed, Sieve};
use super::problem::ApiError;
use super::topologies::{self, How, view};
use crate::app::App;
use crate::{snapshot, wanted};
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::JobKind;
use straas_schemas::view::{NodeView, Page, TopologyView, Why};
use straas_schemas::{ComponentId, NodeId};
use straas_store::{ComponentSpec, HostPhase, NodeSnapshot, PageRequest, TopologyFilter};

/// Query of the list of nodes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodesQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only of this topology (id).
    topology: Option<String>,
    /// Only of this component (id).
    component: Option<ComponentId>,
    /// Only of this role.
    role: Option<String>,
    /// Only those whose service stands so.
    status: Option<ServiceStatus>,
}

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

/// `GET /v1.0/nodes/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let missing = || ApiError::not_found("node", &id);
    let topology = own(&app, &caller, &id).await?.record.topology;
    let seen = snapshot::seen(&app, &topology).await?.ok_or_else(missing)?;
    let record = seen.nodes.iter().find(|node| node.id.as_str() == id).ok_or_else(missing)?;
    let component = seen.components.iter().find(|component| component.id == record.component).ok_or_else(missing)?;
    let view = seen.view.components.iter().flat_map(|component| &component.nodes).find(|node| node.id == record.id);
    Ok(Tag::of_node(component, record).shows(view.ok_or_else(missing)?))
}

/// `GET /v1.0/nodes/{id}/why`
pub async fn why(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Why>, ApiError> {
    let missing = || ApiError::not_found("node", &id);
    let node = own(&app, &caller, &id).await?;
    let topology = view(&app, &node.record.topology).await?.ok_or_else(missing)?;
    let mut nodes = topology.components.into_iter().flat_map(|component| component.nodes);
    nodes.find(|found| found.id == node.record.id).map(|found| Json(found.why)).ok_or_else(missing)
}

/// Topologies read at once.
const TOPOLOGIES_A_READ: u32 = 50;
/// Of them so many are planned at once: a page is often full before the last of them.
const TOPOLOGIES_LOOKED_AT: usize = 10;
/// Behind every node of a topology: names begin with a letter.
const BEHIND: &str = "~";

/// Where a node stands in a list; also one that is planned and not recorded yet.
fn place(node: &NodeView) -> String {
    format!("{}/{}/{:010}/{}", node.component_name, node.role, node.ordinal, node.id)
}

/// `GET /v1.0/nodes`: by topology, component, role and number. A marker is a topology and a place in it.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<NodesQuery>,
) -> Result<Response, ApiError> {
    let filter = TopologyFilter { tenant: query.listed.tenant(&caller)?, ..TopologyFilter::default() };
    // who may see one is asked of the topology itself
    let only = match (&query.topology, &query.component) {
        (Some(id), _) => Some(topologies::own(&app, &caller, id).await?.id),
        (None, Some(id)) => match components::own(&app, &caller, id.as_str()).await {
            Ok((topology, _)) if filter.tenant.as_ref().is_none_or(|of| *of == topology.tenant) => Some(topology.id),
            _ => return Ok(listing(&Page::<NodeView> { items: Vec::new(), next: None })),
        },
        (None, None) => None,
    };
    let wanted = |node: &NodeView| {
        query.component.as_ref().is_none_or(|id| node.component == *id)
            && query.role.as_ref().is_none_or(|role| node.role == *role)
            && query.status.is_none_or(|status| node.service == status)
    };
    let mut sieve = Sieve::new(query.listed.page());
    while let Some(page) = sieve.wants() {
        let marker = page.after.unwrap_or_default();
        let (from, after) = marker.split_once('/').unwrap_or((&marker, BEHIND));
        let topologies: Vec<_> = match &only {
            Some(only) => {
                sieve.read(0);
                vec![only.clone()]
            }
            None => {
                let page = PageRequest { after: Some(from.to_owned()), limit: TOPOLOGIES_A_READ };
                let found = app.store.topologies(&filter, &page).await?;
                sieve.is_over(found.len() < TOPOLOGIES_A_READ as usize);
                // the rest of the one that was begun comes first; whose it is, is not the marker's to say
                let begun = if after == BEHIND { None } else { app.store.topology(&from.into()).await? };
                let begun = begun.filter(|topology| filter.tenant.as_ref().is_none_or(|of| *of == topology.tenant));
                begun.into_iter().chain(found).map(|topology| topology.id).collect()
            }
        };
        'page: for topologies in topologies.chunks(TOPOLOGIES_LOOKED_AT) {
            for TopologyView { id: topology, components, .. } in snapshot::views(&app, topologies).await? {
                let mut nodes: Vec<_> = components.into_iter().flat_map(|component| component.nodes).collect();
                nodes.sort_by_key(place);
                let begun = topology.as_str() == from && after != BEHIND;
                for node in nodes.into_iter().filter(|node| !begun || place(node).as_str() > after) {
                    let marker = format!("{topology}/{}", place(&node));
                    if !sieve.put(marker, Some(node).filter(wanted)) {
                        break 'page;
                    }
                }
                if !sieve.put(format!("{topology}/{BEHIND}"), None) {
                    break 'page;
                }
            }
        }
    }
    Ok(listing(&sieve.page()))
}

/// `PUT /v1.0/nodes/{id}`: another host.
pub async fn replace(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    how: How,
) -> Result<Response, ApiError> {
    let node = own(&app, &caller, &id).await?;
    change(&app, &caller, &how, &node.record.component, id, move |situation, spec| {
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
