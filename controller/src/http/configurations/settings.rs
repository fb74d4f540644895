//! What the service itself is set to, and who set it so.

use super::git;
use crate::app::App;
use crate::http::extract::Query;
use crate::http::problem::ApiError;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::configuration::SettingsView;
use straas_schemas::topology::is_zone;

/// Where they are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsQuery {
    /// An availability zone; what counts everywhere if absent.
    zone: Option<String>,
}

/// `GET /v1.0/configurations/settings`
pub async fn settings(
    State(app): State<Arc<App>>,
    Query(SettingsQuery { zone }): Query<SettingsQuery>,
) -> Result<Json<SettingsView>, ApiError> {
    if zone.as_deref().is_some_and(|zone| !is_zone(zone)) {
        return Err(ApiError::invalid("zone", "is not the name of an availability zone"));
    }
    let (view, configs) = (app.settings.view(), app.configs.clone());
    let answer = git(move || {
        let values = configs.service_origins(&view, zone.as_deref())?;
        let fault = |f: &straas_repos::FileFault| Fault::at(f.pointer.clone(), format!("{}: {}", f.file, f.message));
        Ok(SettingsView {
            zone,
            commit: view.commit.as_ref().map(ToString::to_string),
            head: view.head.to_string(),
            faults: view.faults.iter().map(fault).collect(),
            values,
        })
    })
    .await?;
    Ok(Json(answer))
}
