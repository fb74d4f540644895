//! Tenants and users, for administrators.

use super::{name_fault, own, refused};
use crate::app::App;
use crate::http::audit;
use crate::http::auth::{Caller, refused as not_known};
use crate::http::body;
use crate::http::etag::{IfMatch, Tag};
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::{ListQuery, cut};
use crate::http::once::{self, Made};
use crate::http::problem::ApiError;
use crate::identity::{ADMIN_TENANT, embedded};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::identity::{PasswordRequest, Role, RoleRequest, TenantView, UserRequest, UserView};
use straas_schemas::view::Page;
use straas_store::{Membership, StoreError, TenantRecord, UserRecord};

/// `GET /v1.0/tenants`
pub async fn tenants(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<TenantView>>, ApiError> {
    let page = query.page();
    let mut found = app.store.tenants(&page).await?;
    let next = cut(&mut found, &page, |tenant| tenant.id.clone());
    Ok(Json(Page { items: found.into_iter().map(shown).collect(), next }))
}

fn shown(record: TenantRecord) -> TenantView {
    TenantView { id: record.id, created_ms: record.created_ms }
}

/// `GET /v1.0/tenants/{id}`
pub async fn tenant(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<TenantView>, ApiError> {
    let found = app.store.tenant(&id).await?;
    found.map(|record| Json(shown(record))).ok_or_else(|| ApiError::not_found("tenant", &id))
}

/// `POST /v1.0/tenants`
pub async fn add_tenant(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    own(&app)?;
    let request: TenantView = body::typed(&bytes)?;
    if let Some(fault) = name_fault("/id", &request.id, "") {
        return Err(ApiError::faults(vec![fault]));
    }
    let record = TenantRecord { id: request.id, created_ms: app.now_ms() };
    let made = Made::Thing { path: format!("/straas/v1.0/tenants/{}", record.id) };
    once::store(&app, &made).add_tenant(&record).await.map_err(refused)?;
    audit::changed(format!("tenant {}", record.id), Value::Null, json!({ "id": record.id }));
    tracing::info!(by = caller.name, tenant = record.id, "a tenant is added");
    Ok((StatusCode::CREATED, Json(shown(record))).into_response())
}

/// `DELETE /v1.0/tenants/{id}`
pub async fn remove_tenant(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    if id == ADMIN_TENANT {
        return Err(ApiError::conflict("the administrators' tenant stays"));
    }
    match app.store.remove_tenant(&id).await {
        Err(StoreError::Conflict { .. }) => {
            return Err(ApiError::conflict(&format!("tenant {id} has topologies: delete them first")));
        }
        removed => {
            if !removed? {
                return Err(ApiError::not_found("tenant", &id));
            }
        }
    }
    audit::changed(format!("tenant {id}"), json!({ "id": id }), Value::Null);
    tracing::info!(by = caller.name, tenant = id, "a tenant is removed");
    Ok(StatusCode::NO_CONTENT)
}

fn view(record: UserRecord) -> UserView {
    let known = record.memberships.into_iter().filter_map(|m| Some((m.tenant, Role::of(&m.role)?)));
    UserView {
        can_log_in: record.password.is_some(),
        tenants: known.collect(),
        name: record.name,
        created_ms: record.created_ms,
    }
}

/// The revision of a user that a change is to be made of, if it has to be as it was seen.
async fn seen(app: &App, if_match: &IfMatch, name: &str) -> Result<Option<u64>, ApiError> {
    if !if_match.is_asked() {
        return Ok(None);
    }
    let user = app.store.user(name).await?.ok_or_else(|| ApiError::not_found("user", name))?;
    if_match.check(&format!("user {name}"), &Tag::of_user(&user))?;
    Ok(Some(user.revision))
}

/// What became of a change of a user: 412 if somebody else was faster.
async fn checked<T>(app: &App, if_match: &IfMatch, name: &str, done: Result<T, StoreError>) -> Result<T, ApiError> {
    if let Err(StoreError::Conflict { what: "user", .. }) = done {
        seen(app, if_match, name).await?;
    }
    done.map_err(refused)
}

/// Query of the list of users.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsersQuery {
    #[serde(flatten)]
    list: ListQuery,
    /// Only those who have a role in this tenant.
    tenant: Option<String>,
}

/// `GET /v1.0/users`
pub async fn users(
    State(app): State<Arc<App>>,
    Query(query): Query<UsersQuery>,
) -> Result<Json<Page<UserView>>, ApiError> {
    let page = query.list.page();
    let mut found = app.store.users(query.tenant.as_deref(), &page).await?;
    let next = cut(&mut found, &page, |user| user.name.clone());
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next }))
}

/// `GET /v1.0/users/{name}`
pub async fn user(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = app.store.user(&name).await?;
    let user = found.ok_or_else(|| ApiError::not_found("user", &name))?;
    Ok(Tag::of_user(&user).shows(&view(user)))
}

/// `POST /v1.0/users`
pub async fn add_user(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    own(&app)?;
    let request: UserRequest = body::typed(&bytes)?;
    if let Some(fault) = name_fault("/name", &request.name, ".@") {
        return Err(ApiError::faults(vec![fault]));
    }
    let password = match request.password {
        Some(password) => Some(embedded::hash_password(password).await.map_err(not_known)?),
        None => None,
    };
    let memberships = request.tenants.into_iter();
    let record = UserRecord {
        name: request.name,
        password,
        created_ms: app.now_ms(),
        revision: 1,
        memberships: memberships.map(|(tenant, role)| Membership { tenant, role: role.name().to_owned() }).collect(),
    };
    let made = Made::Thing { path: format!("/straas/v1.0/users/{}", record.name) };
    match once::store(&app, &made).add_user(&record).await {
        Err(StoreError::NotFound { id, .. }) => {
            return Err(ApiError::faults(vec![Fault::at(format!("/tenants/{id}"), "there is no such tenant")]));
        }
        Err(StoreError::Duplicate { name, .. }) => {
            return Err(ApiError::taken("/name", &format!("user {name} is there already")));
        }
        other => other?,
    }
    tracing::info!(by = caller.name, user = record.name, "a user is added");
    let user = view(record);
    audit::changed(format!("user {}", user.name), Value::Null, json!(user));
    Ok((StatusCode::CREATED, Json(user)).into_response())
}

/// `DELETE /v1.0/users/{name}`
pub async fn remove_user(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let seen = seen(&app, &if_match, &name).await?;
    let removed = app.store.remove_user(&name, seen).await;
    if !checked(&app, &if_match, &name, removed).await? {
        return Err(ApiError::not_found("user", &name));
    }
    audit::changed(format!("user {name}"), json!({ "name": name }), Value::Null);
    tracing::info!(by = caller.name, user = name, "a user is removed");
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1.0/users/{name}/password`: all his tokens end.
pub async fn set_password(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let request: PasswordRequest = body::typed(&bytes)?;
    let hash = match request.password {
        Some(password) => Some(embedded::hash_password(password).await.map_err(not_known)?),
        None => None,
    };
    let seen = seen(&app, &if_match, &name).await?;
    let set = app.store.set_password(&name, hash.as_deref(), seen).await;
    if !checked(&app, &if_match, &name, set).await? {
        return Err(ApiError::not_found("user", &name));
    }
    audit::changed(format!("password of user {name}"), "***".into(), "***".into());
    tracing::info!(by = caller.name, user = name, "a password is set");
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1.0/users/{name}/tenants/{tenant}`
pub async fn set_membership(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((name, tenant)): Path<(String, String)>,
    if_match: IfMatch,
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let RoleRequest { role } = body::typed(&bytes)?;
    let membership = Membership { tenant, role: role.name().to_owned() };
    let seen = seen(&app, &if_match, &name).await?;
    let given = app.store.set_membership(&name, &membership, seen).await;
    checked(&app, &if_match, &name, given).await?;
    let place = format!("role of user {name} in tenant {}", membership.tenant);
    audit::changed(place, Value::Null, role.name().into());
    tracing::info!(by = caller.name, user = name, tenant = membership.tenant, role = role.name(), "a role is given");
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1.0/users/{name}/tenants/{tenant}`
pub async fn end_membership(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((name, tenant)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let seen = seen(&app, &if_match, &name).await?;
    let ended = app.store.end_membership(&name, &tenant, seen).await;
    if !checked(&app, &if_match, &name, ended).await? {
        return Err(ApiError::absent(&format!("user {name} has no role in tenant {tenant}")));
    }
    audit::changed(format!("role of user {name} in tenant {tenant}"), "any".into(), Value::Null);
    tracing::info!(by = caller.name, user = name, tenant, "a role is taken");
    Ok(StatusCode::NO_CONTENT)
}
