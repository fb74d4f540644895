//! Hosts of the pool: announced, listed, cordoned, told that they were cleaned, taken out.

use super::new_token;
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::etag::{IfMatch, Tag};
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::{ListQuery, Sieve};
use crate::http::once::{self, Made};
use crate::http::problem::ApiError;
use crate::http::{audit, body};
use crate::pool::is_silent;
use crate::pool::standing::{standing, why_busy};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::ids::{ZONE_NAME_MAX, name_fault};
use straas_schemas::pool::{HostAnnounced, HostNode, HostPatch, HostRequest, HostStanding, HostView};
use straas_schemas::view::Page;
use straas_schemas::{HostId, NodeId};
use straas_store::{PoolFilter, PoolHost, StoreError};
use uuid::Uuid;

/// A host that its own polls change meanwhile is looked at anew so often.
const TRIES_MAX: u32 = 16;

/// Query of the list of hosts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostsQuery {
    #[serde(flatten)]
    list: ListQuery,
    /// Only of this zone.
    zone: Option<String>,
    /// Only those that stand so.
    state: Option<HostStanding>,
}

/// `GET /v1.0/hosts`
pub async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<HostsQuery>,
) -> Result<Json<Page<HostView>>, ApiError> {
    let mut sieve = Sieve::new(query.list.page());
    let idle = [HostStanding::Expected, HostStanding::Free, HostStanding::Cleaning];
    let idle_only = query.state.is_some_and(|state| idle.contains(&state));
    let filter = PoolFilter { zone: query.zone, idle_only };
    while let Some(page) = sieve.wants() {
        let found = app.store.pool_hosts(&filter, &page).await?;
        sieve.read(found.len());
        for host in found {
            let wanted = query.state.is_none_or(|state| standing(&host) == state);
            let id = host.id.0.clone();
            let item = if wanted { Some(view(&app, host).await?) } else { None };
            if !sieve.put(id, item) {
                break;
            }
        }
    }
    Ok(Json(sieve.page()))
}

/// `GET /v1.0/hosts/{id}`
pub async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let host = found(&app, &id).await?;
    let tag = Tag::of_host(&host);
    Ok(tag.shows(&view(&app, host).await?))
}

async fn found(app: &App, id: &str) -> Result<PoolHost, ApiError> {
    app.store.pool_host(&id.into()).await?.ok_or_else(|| ApiError::not_found("host", id))
}

async fn view(app: &App, host: PoolHost) -> Result<HostView, ApiError> {
    let (standing, reason) = (standing(&host), why_busy(&host));
    let node = node(app, &host).await?;
    let seen_ms = app.pool.seen_ms(&host);
    let PoolHost { id, name, zone, fault_domain, facts, cordoned, joined_ms, .. } = host;
    Ok(HostView { id, name, zone, fault_domain, standing, cordoned, node, reason, facts, joined_ms, seen_ms })
}

/// The node that a host is to have, has, or is cleaned after.
async fn node(app: &App, host: &PoolHost) -> Result<Option<HostNode>, ApiError> {
    let (held, cleaning) = (host.holds.as_ref(), host.cleaning.as_ref().map(|cleaning| &cleaning.node));
    let allotted = host.allotment.as_ref().map(|allotted| &allotted.node);
    let Some(id) = held.or(allotted).or(cleaning) else { return Ok(None) };
    let name = |id: &NodeId| host.allotted(id).map_or_else(|| id.0.clone(), |allotted| allotted.name.clone());
    Ok(Some(match app.store.node(id).await? {
        Some(node) => HostNode { id: id.clone(), name: node.record.name, topology: Some(node.record.topology) },
        None => HostNode { id: id.clone(), name: name(id), topology: None },
    }))
}

/// `POST /v1.0/hosts`
pub async fn announce(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: HostRequest = body::typed(&bytes)?;
    if let Some(fault) = name_fault("the zone", &request.zone, ZONE_NAME_MAX) {
        return Err(ApiError::faults(vec![Fault::at("/zone", fault)]));
    }
    let HostRequest { name, zone, fault_domain, expires_in_s } = request;
    let id = HostId(Uuid::now_v7().to_string());
    let (token, kept) =
        new_token(app.now_ms(), &caller.name, zone.clone(), fault_domain.clone(), Some(id.clone()), 1, expires_in_s);
    let host = PoolHost::announced(id, name, zone, fault_domain, app.now_ms());
    let store = once::store(&app, &Made::Thing { path: format!("/straas/v1.0/hosts/{}", host.id) });
    store.announce_host(&host, &kept).await?;
    let host = view(&app, host).await?;
    audit::changed(format!("host {}", host.id), Value::Null, json!(host));
    tracing::info!(by = caller.name, host = host.name, id = %host.id, zone = host.zone, "a host is announced");
    let announced = HostAnnounced { token, expires_ms: kept.expires_ms, host };
    // whoever keeps answers must not keep this one
    Ok((StatusCode::CREATED, [("cache-control", "no-store")], Json(announced)).into_response())
}

/// `PATCH /v1.0/hosts/{id}`
pub async fn patch(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    if_match: IfMatch,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let patch: HostPatch = body::typed(&bytes)?;
    if patch.cleaned == Some(false) {
        return Err(ApiError::invalid("/cleaned", "that it was cleaned cannot be taken back"));
    }
    for _ in 0..TRIES_MAX {
        let host = found(&app, &id).await?;
        if_match.check(&format!("host {}", host.name), &Tag::of_host(&host))?;
        if patch.cleaned == Some(true) && host.cleaning.is_none() {
            return Err(ApiError::conflict("there is nothing that the host has to be cleaned of"));
        }
        let mut changed = host.clone();
        changed.cordoned = patch.cordoned.unwrap_or(host.cordoned);
        changed.cleaned |= patch.cleaned == Some(true);
        if changed == host {
            return Ok(Tag::of_host(&host).shows(&view(&app, host).await?));
        }
        let store = once::store(&app, &Made::Thing { path: format!("/straas/v1.0/hosts/{id}") });
        if app.pool.change(&*store, &changed).await? {
            let of = |host: &PoolHost| json!({ "cordoned": host.cordoned, "cleaned": host.cleaned });
            audit::changed(format!("host {id}"), of(&host), of(&changed));
            tracing::info!(by = caller.name, host = host.name, id, cordoned = changed.cordoned, "host is changed");
            // it may have got a node meanwhile that waits for a host
            let host = found(&app, &id).await?;
            return Ok(Tag::of_host(&host).shows(&view(&app, host).await?));
        }
    }
    Err(ApiError::unavailable("the host's record is being changed by others; ask again"))
}

/// Query of the removal of a host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Also if it may still run something: the caller knows that it does not.
    #[serde(default)]
    force: bool,
}

/// `DELETE /v1.0/hosts/{id}`: its certificate ends with it.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(Removal { force }): Query<Removal>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    for _ in 0..TRIES_MAX {
        let host = found(&app, &id).await?;
        if_match.check(&format!("host {}", host.name), &Tag::of_host(&host))?;
        if let Some(why) = in_use(&app, &host).await?.filter(|_| !force) {
            return Err(ApiError::conflict(&why));
        }
        match app.store.remove_pool_host(&host.id, host.revision).await {
            Ok(()) => {
                app.pool.wake(&host.id);
                audit::changed(format!("host {id}"), json!(view(&app, host.clone()).await?), Value::Null);
                tracing::info!(by = caller.name, host = host.name, id, force, "host is taken out of the pool");
                return Ok(StatusCode::NO_CONTENT);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(StoreError::NotFound { .. }) => return Err(ApiError::not_found("host", &id)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable("the host's record is being changed by others; ask again"))
}

/// Why a host is not simply taken out.
async fn in_use(app: &App, host: &PoolHost) -> Result<Option<String>, ApiError> {
    let Some(node) = node(app, host).await? else { return Ok(None) };
    let silent = is_silent(app.pool.seen_ms(host), app.now_ms());
    let (name, standing) = (&node.name, standing(host).name());
    let next = if silent {
        "it is silent: if it is gone for good, so that nothing of the node runs there, remove it with force=true, and the \
         node gets another host"
    } else {
        "cordon it and replace the node, or remove it with force=true if nothing of the node runs there"
    };
    Ok(Some(format!("the host is {standing} node {name}: {next}")))
}
