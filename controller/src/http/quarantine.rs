//! What failed its canaries: who reads why, and lets it through again.

use super::audit;
use super::auth::Caller;
use super::extract::{Path, Query};
use super::lists::{ListQuery, cut};
use super::problem::ApiError;
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::TopologyId;
use straas_schemas::view::{Page, QuarantineView};
use straas_store::QuarantineRecord;

/// What can be in quarantine.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum What {
    /// A version of a type.
    Version,
    /// A commit of the script repo.
    Scripts,
    /// A build of the agent.
    Agents,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Scripts => "scripts",
            Self::Agents => "agents",
        }
    }
}

/// Query of the quarantine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuarantineQuery {
    #[serde(flatten)]
    list: ListQuery,
    /// Only versions, only script commits, or only builds of the agent.
    what: Option<What>,
    /// Only what failed in this topology (id), which may be gone.
    topology: Option<TopologyId>,
}

/// `GET /v1.0/quarantine`
pub async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<QuarantineQuery>,
) -> Result<Json<Page<QuarantineView>>, ApiError> {
    let page = query.list.page();
    // every change reads all of it, so it is read as a whole here too; it comes in the order of its markers
    let after = page.after.as_deref().map(|after| after.split_once('/').unwrap_or((after, "")));
    let is_wanted = |record: &QuarantineRecord| {
        after.is_none_or(|after| (record.what.as_str(), record.key.as_str()) > after)
            && query.what.is_none_or(|what| record.what == what.name())
            && query.topology.as_ref().is_none_or(|topology| record.topology == *topology)
    };
    let mut found = app.store.quarantined().await?;
    found.retain(is_wanted);
    let next = cut(&mut found, &page, |record| format!("{}/{}", record.what, record.key));
    let view =
        |QuarantineRecord { what, key, reason, topology, at_ms }| QuarantineView { what, key, reason, topology, at_ms };
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next }))
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
