//! What failed its canaries: who reads why, and lets it through again.

use super::audit;
use super::auth::Caller;
use super::extract::Path;
use super::problem::ApiError;
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use std::sync::Arc;
use straas_schemas::view::{Page, QuarantineView};
use straas_store::QuarantineRecord;

/// `GET /v1.0/quarantine`
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Page<QuarantineView>>, ApiError> {
    let view =
        |QuarantineRecord { what, key, reason, topology, at_ms }| QuarantineView { what, key, reason, topology, at_ms };
    Ok(Json(Page { items: app.store.quarantined().await?.into_iter().map(view).collect(), next: None }))
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
    audit::changed(format!("quarantine of {what} {key}"), "held".into(), "released".into());
    tracing::info!(by = caller.name, "{what} {key} is released from quarantine");
    Ok(StatusCode::NO_CONTENT)
}
