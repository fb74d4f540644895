//! Tenants and users, for administrators.

use super::{name_fault, own, refused};
use crate::app::App;
use crate::clock::now_ms;
use crate::http::audit;
use crate::http::auth::{Caller, refused as not_known};
use crate::http::body;
use crate::http::extract::{Body, Path, Query};
use crate::http::lists::{ListQuery, cut};
use crate::http::once::{self, Made};
use crate::http::problem::ApiError;
use crate::identity::{ADMIN_TENANT, embedded};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
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
    let items = found.into_iter().map(|t| TenantView { id: t.id, created_ms: t.created_ms }).collect();
    Ok(Json(Page { items, next }))
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
    let record = TenantRecord { id: request.id, created_ms: now_ms() };
    let made = Made::Thing { path: "/straas/v1.0/tenants".to_owned() };
    once::store(&app, &made).add_tenant(&record).await.map_err(refused)?;
    audit::changed(format!("tenant {}", record.id), Value::Null, json!({ "id": record.id }));
    tracing::info!(by = caller.name, tenant = record.id, "a tenant is added");
    Ok((StatusCode::CREATED, Json(TenantView { id: record.id, created_ms: record.created_ms })).into_response())
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

/// `GET /v1.0/users`
pub async fn users(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<UserView>>, ApiError> {
    let page = query.page();
    let mut found = app.store.users(&page).await?;
    let next = cut(&mut found, &page, |user| user.name.clone());
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next }))
}

/// `GET /v1.0/users/{name}`
pub async fn user(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<UserView>, ApiError> {
    let found = app.store.user(&name).await?;
    found.map(|user| Json(view(user))).ok_or_else(|| ApiError::not_found("user", &name))
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
        created_ms: now_ms(),
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
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    if !app.store.remove_user(&name).await? {
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
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let request: PasswordRequest = body::typed(&bytes)?;
    let hash = match request.password {
        Some(password) => Some(embedded::hash_password(password).await.map_err(not_known)?),
        None => None,
    };
    if !app.store.set_password(&name, hash.as_deref()).await? {
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
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    let RoleRequest { role } = body::typed(&bytes)?;
    let membership = Membership { tenant, role: role.name().to_owned() };
    app.store.set_membership(&name, &membership).await.map_err(refused)?;
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
) -> Result<StatusCode, ApiError> {
    own(&app)?;
    if !app.store.end_membership(&name, &tenant).await? {
        return Err(ApiError::absent(&format!("user {name} has no role in tenant {tenant}")));
    }
    audit::changed(format!("role of user {name} in tenant {tenant}"), "any".into(), Value::Null);
    tracing::info!(by = caller.name, user = name, tenant, "a role is taken");
    Ok(StatusCode::NO_CONTENT)
}
