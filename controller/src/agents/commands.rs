//! Output of guest commands, piece by piece as it comes.

use super::OwnNode;
use crate::app::App;
use crate::http::extract::{Body, Json, Path, Query};
use crate::http::problem::ApiError;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use straas_schemas::CommandId;
use straas_schemas::command::COMMAND_PIECE_BYTES_MAX;

/// Query of a piece.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    offset: u64,
}

/// Where to go on.
#[derive(Serialize)]
pub struct Next {
    next: u64,
}

/// `POST /agent/v1/nodes/{id}/commands/{command}/output?offset=…`
pub async fn output(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Path((_, command)): Path<(String, String)>,
    Query(at): Query<At>,
    Body(bytes): Body,
) -> Result<Json<Next>, ApiError> {
    // the route's limit has a little room above it
    if bytes.len() > COMMAND_PIECE_BYTES_MAX {
        return Err(ApiError::too_large());
    }
    if i64::try_from(at.offset).is_err() {
        return Err(ApiError::invalid("/offset", "a number above 2^63 - 1"));
    }
    let id = CommandId(command);
    let next = app.store.append_output(&identity.id, &id, at.offset, &bytes).await?;
    app.commands.touch(id.as_str());
    Ok(Json(Next { next }))
}
