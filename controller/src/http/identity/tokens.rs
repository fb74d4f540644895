//! Tokens: logging in, choosing a tenant, who one is, tokens for programs.

use super::{name_fault, own};
use crate::app::App;
use crate::http::audit;
use crate::http::auth::{Caller, Shown, refused};
use crate::http::body;
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::{Listed, cut};
use crate::http::once::{self, Made};
use crate::http::problem::ApiError;
use crate::identity::embedded;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::identity::{LogIn, Role, TOKEN_LIFE_S, TokenIssued, TokenRequest, TokenView};
use straas_schemas::view::Page;
use straas_store::{Membership, StoreError, TokenRecord, TokensOf};

/// `POST /v1.0/auth/tokens`
pub async fn log_in(State(app): State<Arc<App>>, Body(bytes): Body) -> Result<Response, ApiError> {
    let request: LogIn = body::typed(&bytes)?;
    let issued = match request {
        LogIn { user: Some(user), password: Some(password), token: None, tenant } => {
            app.identity.log_in(&user, &password, tenant.as_deref()).await
        }
        LogIn { user: None, password: None, token: Some(token), tenant: Some(tenant) } => {
            app.identity.choose(&token, &tenant).await
        }
        _ => return Err(ApiError::invalid("", "send user and password, or token and tenant")),
    };
    let issued = issued.map_err(refused)?;
    tracing::info!(user = issued.view.user, tenant = issued.view.tenant, token = issued.view.id, "a token is issued");
    Ok(made(issued))
}

fn made(issued: TokenIssued) -> Response {
    // whoever keeps answers must not keep this one
    (StatusCode::CREATED, [("cache-control", "no-store")], Json(issued)).into_response()
}

/// `GET /v1.0/auth/tenants`
pub async fn tenants_of_caller(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Shown(token)): Extension<Shown>,
) -> Result<Json<Page<String>>, ApiError> {
    let items = match caller.token.expires_ms {
        Some(_) => app.identity.tenants(&token).await.map_err(refused)?,
        None => vec![caller.tenant],
    };
    Ok(Json(Page { items, next: None }))
}

/// `GET /v1.0/auth/token`
pub async fn who(Extension(caller): Extension<Caller>) -> Json<TokenView> {
    Json(caller.token)
}

/// `DELETE /v1.0/auth/token`: the token that the request came with ends.
pub async fn revoke_own(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(Shown(token)): Extension<Shown>,
) -> Result<StatusCode, ApiError> {
    if caller.token.expires_ms.is_none() {
        let text = "the administrator's token of the data directory is not revoked here: remove the file admin.token \
                    and restart the controller, which makes a new one";
        return Err(ApiError::conflict(text));
    }
    app.identity.revoke(&token).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query of the list of tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only of this user.
    user: Option<String>,
}

/// `GET /v1.0/tokens`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<TokensQuery>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    let page = query.listed.page();
    let tenant = query.listed.tenant(&caller)?;
    let of = tenant.as_deref().map_or(TokensOf::Everybody, TokensOf::Tenant);
    let mut found = app.store.tokens(of, query.user.as_deref(), app.now_ms(), &page).await?;
    let next = cut(&mut found, &page, |token| token.id.clone());
    Ok(Json(Page { items: found.into_iter().map(embedded::view).collect(), next }))
}

/// `GET /v1.0/tokens/{id}`: what is known of it; the token itself is nowhere.
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TokenView>, ApiError> {
    let found = app.store.token_by_id(&id, app.now_ms()).await?;
    // one that only lists tenants is of none of them
    let may = |token: &TokenRecord| match &token.scope {
        Some(scope) => caller.may(&scope.tenant),
        None => caller.may_common(),
    };
    let token = found.filter(may).ok_or_else(|| ApiError::not_found("token", &id))?;
    Ok(Json(embedded::view(token)))
}

/// `POST /v1.0/tokens`: a token for a program.
pub async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    own(&app)?;
    let request: TokenRequest = body::typed(&bytes)?;
    let tenant = request.tenant.unwrap_or_else(|| caller.tenant.clone());
    let role = request.role.unwrap_or(Role::Member);
    let mut faults: Vec<Fault> = name_fault("/tenant", &tenant, "").into_iter().collect();
    if !caller.is_admin() {
        if tenant != caller.tenant {
            faults.push(Fault::at("/tenant", "only an administrator makes tokens for another tenant"));
        }
        if role != Role::Member && caller.token.role != Some(role) {
            faults.push(Fault::at("/role", "nobody gives more than he has"));
        }
    }
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    let scope = Membership { tenant: tenant.clone(), role: role.name().to_owned() };
    let now_ms = app.now_ms();
    let expires_ms = now_ms + i64::from(request.expires_in_s.unwrap_or(TOKEN_LIFE_S)) * 1000;
    let store = once::store(&app, &Made::Thing { path: "/straas/v1.0/tokens".to_owned() });
    let issued = embedded::make(&*store, request.label, None, Some(scope), &caller.name, (now_ms, expires_ms)).await;
    let issued = match issued {
        Err(StoreError::NotFound { .. }) => return Err(ApiError::invalid("/tenant", "there is no such tenant")),
        Err(StoreError::Conflict { .. }) => {
            return Err(ApiError::conflict("this tenant has as many tokens as it may have: remove some first"));
        }
        other => other?,
    };
    audit::changed(format!("token {}", issued.view.id), Value::Null, json!(issued.view));
    tracing::info!(by = caller.name, tenant, token = issued.view.id, "a token for a program is made");
    Ok(made(issued))
}

/// `DELETE /v1.0/tokens/{id}`
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let of = if caller.is_admin() { TokensOf::Everybody } else { TokensOf::Tenant(&caller.tenant) };
    if !app.store.remove_token(&id, of).await? {
        return Err(ApiError::not_found("token", &id));
    }
    audit::changed(format!("token {id}"), json!({ "id": id }), Value::Null);
    tracing::info!(by = caller.name, token = id, "a token is revoked");
    Ok(StatusCode::NO_CONTENT)
}
