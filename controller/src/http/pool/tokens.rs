//! Join tokens: made, listed, ended. A token is shown once, when it is made.

use super::{new_token, token_view};
use crate::app::App;
use crate::http::auth::Caller;
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::{ListQuery, cut};
use crate::http::once::{self, Made};
use crate::http::problem::ApiError;
use crate::http::{audit, body};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::ids::{ZONE_NAME_MAX, name_fault};
use straas_schemas::pool::{JoinTokenIssued, JoinTokenRequest, JoinTokenView};
use straas_schemas::view::Page;
use straas_store::{PoolToken, StoreError};

/// `GET /v1.0/join-tokens`
pub async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<JoinTokenView>>, ApiError> {
    let page = query.page();
    let mut found = app.store.pool_tokens(app.now_ms(), &page).await?;
    let next = cut(&mut found, &page, |token| token.id.clone());
    Ok(Json(Page { items: found.into_iter().map(token_view).collect(), next }))
}

/// `GET /v1.0/join-tokens/{id}`
pub async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<JoinTokenView>, ApiError> {
    let found = app.store.pool_token(&id).await?;
    found.map(|token| Json(token_view(token))).ok_or_else(|| ApiError::not_found("join token", &id))
}

/// `POST /v1.0/join-tokens`
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: JoinTokenRequest = body::typed(&bytes)?;
    let faults = faults(&request);
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    let missing = || ApiError::invalid("/host", "there is no such host in the pool");
    let (zone, fault_domain) = match &request.host {
        Some(host) => {
            let host = app.store.pool_host(host).await?.ok_or_else(missing)?;
            (host.zone, host.fault_domain)
        }
        None => (request.zone.unwrap_or_default(), request.fault_domain),
    };
    let (most, life_s) = (request.hosts.unwrap_or(1), request.expires_in_s);
    let (token, kept) = new_token(app.now_ms(), &caller.name, zone, fault_domain, request.host, most, life_s);
    let kept = PoolToken { label: request.label.unwrap_or_default(), ..kept };
    let store = once::store(&app, &Made::Thing { path: format!("/straas/v1.0/join-tokens/{}", kept.id) });
    match store.add_pool_token(&kept).await {
        Err(StoreError::NotFound { .. }) => return Err(missing()),
        other => other?,
    }
    let view = token_view(kept);
    audit::changed(format!("join token {}", view.id), Value::Null, json!(view));
    tracing::info!(by = caller.name, zone = view.zone, token = view.id, hosts = view.hosts, "a join token is made");
    // whoever keeps answers must not keep this one
    Ok((StatusCode::CREATED, [("cache-control", "no-store")], Json(JoinTokenIssued { token, view })).into_response())
}

/// What does not go together.
fn faults(request: &JoinTokenRequest) -> Vec<Fault> {
    if request.host.is_some() {
        let given = [
            ("/zone", request.zone.is_some()),
            ("/fault_domain", request.fault_domain.is_some()),
            ("/hosts", request.hosts.is_some_and(|hosts| hosts != 1)),
        ];
        let alone = |pointer| Fault::at(pointer, "a host that joins anew keeps its own, and is one");
        return given.into_iter().filter(|(_, given)| *given).map(|(pointer, _)| alone(pointer)).collect();
    }
    match &request.zone {
        None => vec![Fault::at("/zone", "name the zone whose pool hosts join, or the host that joins anew")],
        Some(zone) => {
            name_fault("the zone", zone, ZONE_NAME_MAX).map(|fault| Fault::at("/zone", fault)).into_iter().collect()
        }
    }
}

/// `DELETE /v1.0/join-tokens/{id}`: nobody joins with it any more; who has joined stays.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    match app.store.remove_pool_token(&id).await {
        Err(StoreError::NotFound { .. }) => return Err(ApiError::not_found("join token", &id)),
        other => other?,
    }
    audit::changed(format!("join token {id}"), json!({ "id": id }), Value::Null);
    tracing::info!(by = caller.name, token = id, "a join token is ended");
    Ok(StatusCode::NO_CONTENT)
}
