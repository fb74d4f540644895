//! The API for users: JSON in, JSON out, problems as RFC 9457.
//!
//! Handlers translate between HTTP and the parts; they plan nothing. Whatever they show is made
//! by the planner from a fresh snapshot, so that two answers never contradict each other.

mod auth;
mod body;
mod components;
mod events;
pub mod extract;
mod jobs;
mod nodes;
mod ops;
pub mod problem;
mod strict;
mod topologies;

use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse as _;
use axum::routing::{get, patch};
use problem::ApiError;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Most bytes of a request body: the largest topology request is far below.
const BODY_BYTES_MAX: usize = 1 << 20;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let v1 = Router::new()
        .route("/topologies", get(topologies::list).post(topologies::create))
        .route("/topologies/{id}", get(topologies::show).delete(topologies::delete))
        .route("/topologies/{id}/events", get(events::of_topology))
        .route("/components/{id}", patch(components::change))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/events", get(events::of_job))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::show))
        .route("/nodes/{id}/why", get(nodes::why))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::authenticate));
    Router::new()
        .nest("/straas/v1.0", v1)
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .fallback(|| async { ApiError::not_found("route", "at this path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
        .with_state(app)
}
