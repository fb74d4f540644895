//! What failed its canaries: who reads why, and lets it through again.

use super::auth::Caller;
use super::extract::Path;
use super::problem::ApiError;
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use std::sync::Arc;
use straas_schemas::view::Page;
use straas_store::QuarantineRecord;

/// `GET /v1.0/quarantine`
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Page<QuarantineRecord>>, ApiError> {
    Ok(Json(Page { items: app.store.quarantined().await?, next: None }))
}

/// `DELETE /v1.0/quarantine/{what}/{key}`
pub async fn release(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((what, key)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    if !app.store.release(&what, &key).await? {
        return Err(ApiError::not_found(&what, &format!("{key} in quarantine")));
    }
    tracing::info!(tenant = caller.tenant, "{what} {key} is released from quarantine");
    Ok(StatusCode::NO_CONTENT)
}
