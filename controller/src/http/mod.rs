//! The API for users: JSON in, JSON out, problems as RFC 9457.
//!
//! Handlers translate between HTTP and the parts; they plan nothing. Whatever they show is made
//! by the planner from a fresh snapshot, so that two answers never contradict each other.

mod access;
mod audit;
mod auth;
mod authority;
mod body;
mod change;
mod cms;
mod commands;
mod components;
mod conditions;
mod configurations;
mod creation;
mod dependencies;
mod discovery;
mod elsewhere;
mod etag;
mod events;
mod expected;
pub mod extract;
mod files;
pub mod finish;
mod flavors;
mod fleet;
mod flex;
mod history;
mod identity;
pub mod jobs;
pub mod limits;
mod links;
mod lists;
mod nodes;
mod old_api;
mod once;
pub mod openapi;
mod ops;
mod page;
mod pool;
pub mod problem;
mod quarantine;
mod request_id;
mod rollouts;
mod route;
mod routes;
mod scope;
mod scripts;
mod seal;
mod services;
mod status;
mod steady;
mod steer;
mod storage;
mod topologies;

use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse as _;
use axum::routing::get;
use problem::ApiError;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Most bytes of a request body: the largest topology request is far below.
const BODY_BYTES_MAX: usize = 1 << 20;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let listed = routes::all().into_iter().flat_map(|(_, routes)| routes).collect();
    route::router(listed, &app)
        .merge(page::routes())
        .route("/straas/openapi.json", get(openapi::serve))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .fallback(|| async { ApiError::not_found("route", "at this path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(request_id::named))
        .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
        .with_state(app)
}
