//! How nodes are, as a health check finds it: written by somebody's own, and by the one that is built in.
//!
//! Both words are kept; the newer one is shown. What is built in speaks only when a node became
//! otherwise than it last said, so it never talks down a check that knows better.

use super::audit;
use super::auth::Caller;
use super::body;
use super::components;
use super::extract::{Body, Path};
use super::once::{self, Made};
use super::problem::ApiError;
use crate::app::App;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::health::HealthStatus;
use straas_schemas::{Fault, NodeId};
use straas_store::HealthRecord;

/// How nodes are, by their names or ids.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StatusReport(
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1000))] BTreeMap<String, HealthStatus>,
);

/// `POST /v1.0/components/{id}/status`
pub async fn write(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    let missing = || ApiError::not_found("component", &id);
    let (_, component) = components::own(&app, &caller, &id).await?;
    let StatusReport(said) = body::typed(&bytes)?;
    let snapshot = app.store.snapshot(&component.topology).await?.ok_or_else(missing)?;
    let nodes = snapshot.nodes.iter().filter(|node| node.record.component == component.id);
    let by_name: BTreeMap<&str, &NodeId> =
        nodes.flat_map(|n| [(n.record.name.as_str(), &n.record.id), (n.record.id.as_str(), &n.record.id)]).collect();
    let unknown = said.keys().filter(|name| !by_name.contains_key(name.as_str()));
    let faults: Vec<Fault> =
        unknown.map(|name| Fault::at(format!("/{name}"), format!("{} has no node {name}", component.name))).collect();
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    let at_ms = app.now_ms();
    let record = |(name, status): (&String, &HealthStatus)| {
        let node = (*by_name.get(name.as_str())?).clone();
        Some(HealthRecord { node, built_in: false, status: *status, source: caller.name.clone(), at_ms })
    };
    let records: Vec<HealthRecord> = said.iter().filter_map(record).collect();
    let made = Made::Thing { path: format!("/straas/v1.0/components/{id}") };
    once::store(&app, &made).put_health(&records).await?;
    audit::changed(format!("health of {}", component.name), json!({}), json!(said));
    app.wake.touch(&component.topology);
    Ok(StatusCode::NO_CONTENT)
}
