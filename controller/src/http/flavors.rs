//! Flavors of a component type: the sizes of hosts that its metadata supports.

use super::extract::Path;
use super::problem::ApiError;
use crate::app::App;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::metadata::Flavor;

/// Sizes of hosts of a component type.
#[derive(Serialize, JsonSchema)]
pub struct Flavors {
    /// The type.
    #[serde(rename = "type")]
    kind: String,
    /// The flavor of a request that names none.
    default: String,
    /// All that may be named.
    flavors: BTreeMap<String, Flavor>,
}

/// `GET /v1.0/components/{type}/nova_flavors`
pub async fn list(State(app): State<Arc<App>>, Path(kind): Path<String>) -> Result<Json<Flavors>, ApiError> {
    let configs = app.configs.clone();
    let catalog = crate::app::blocking(move || Ok(configs.catalog_view()?.catalog)).await?;
    let known = || catalog.keys().cloned().collect::<Vec<_>>().join(", ");
    let meta = catalog.get(&kind);
    let meta =
        meta.ok_or_else(|| ApiError::absent(&format!("there is no component type {kind}; there are {}", known())))?;
    Ok(Json(Flavors { kind, default: meta.default_flavor.clone(), flavors: meta.flavors.clone() }))
}
