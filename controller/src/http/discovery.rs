//! Where Prometheus finds agents: its HTTP service discovery.
//!
//! One query of the database, whatever the number of topologies; nothing is planned for it.

use super::auth::Caller;
use super::extract::Query;
use super::problem::ApiError;
use crate::app::App;
use crate::tasks::hosts::METRICS_PORT;
use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_store::Target;

/// Whose agents.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// Everybody's, for who may see them.
    #[serde(default)]
    all_tenants: bool,
}

/// An agent in the form that Prometheus reads (`http_sd_config`).
#[derive(Serialize, JsonSchema)]
pub struct Group {
    /// Address and port, one.
    targets: Vec<String>,
    /// What its metrics are labelled with.
    labels: BTreeMap<&'static str, String>,
}

/// `GET /v1.0/discovery/prometheus`
pub async fn prometheus(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Whose>,
) -> Result<Json<Vec<Group>>, ApiError> {
    let found = app.store.targets(caller.listed(query.all_tenants)?).await?;
    Ok(Json(found.into_iter().map(group).collect()))
}

fn group(target: Target) -> Group {
    let address = if target.address.contains(':') { format!("[{}]", target.address) } else { target.address };
    Group {
        targets: vec![format!("{address}:{METRICS_PORT}")],
        labels: BTreeMap::from([
            ("component", target.component),
            ("node", target.name),
            ("node_id", target.node.0),
            ("role", target.role),
            ("tenant", target.tenant),
            ("topology", target.topology),
            ("zone", target.zone),
        ]),
    }
}
