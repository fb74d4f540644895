//! The API for users: JSON in, JSON out, problems as RFC 9457.
//!
//! Handlers translate between HTTP and the parts; they plan nothing. Whatever they show is made
//! by the planner from a fresh snapshot, so that two answers never contradict each other.

mod auth;
mod body;
mod change;
mod commands;
mod components;
mod configurations;
mod creation;
mod dependencies;
mod events;
pub mod extract;
mod flex;
mod jobs;
mod nodes;
mod old_api;
mod ops;
pub mod problem;
mod quarantine;
mod rollouts;
mod scripts;
mod services;
mod steer;
mod strict;
mod topologies;

use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse as _;
use axum::routing::{delete, get, post, put};
use problem::ApiError;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Most bytes of a request body: the largest topology request is far below.
const BODY_BYTES_MAX: usize = 1 << 20;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let v1 = Router::new()
        .route("/topologies", get(topologies::list).post(creation::create))
        .route("/topologies/{id}", get(topologies::show).delete(topologies::delete))
        .route("/topologies/{id}/components", post(creation::add))
        .route("/topologies/{id}/events", get(events::of_topology))
        .route(
            "/components/{id}",
            get(components::show).post(flex::up).patch(components::patch).delete(components::remove),
        )
        .route(
            "/components/{id}/services",
            post(services::start_all).delete(services::stop_all).put(services::restart_all),
        )
        .route("/components/{id}/tree/{ref}", put(rollouts::configure))
        .route("/components/{id}/dependencies", post(dependencies::dependencies))
        .route("/configurations/tree/{ref}", get(configurations::read_top))
        .route("/configurations/tree/{ref}/", get(configurations::read_top))
        .route("/configurations/tree/{ref}/{*path}", get(configurations::read).put(configurations::write))
        .route("/configurations/tree/{ref}/tags", get(configurations::list_tags).post(configurations::create_tag))
        .route("/configurations/tree/{ref}/tags/{tag}", delete(configurations::delete_tag))
        .route("/configurations/diff/{range}", get(configurations::diff))
        .route("/configurations/log/{ref}", get(configurations::log_top))
        .route("/configurations/log/{ref}/{*path}", get(configurations::log))
        .route("/configurations/effective/{component_id}", get(configurations::effective))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/events", get(events::of_job))
        .route("/jobs/{id}/pause", post(steer::pause))
        .route("/jobs/{id}/resume", post(steer::resume))
        .route("/jobs/{id}/cancel", post(steer::cancel))
        .route("/nodes", get(nodes::list))
        .route("/nodes/scripts", put(scripts::sync))
        .route("/nodes/{id}", get(nodes::show).put(nodes::replace).delete(flex::down))
        .route("/nodes/{id}/services", post(services::start).delete(services::stop).put(services::restart))
        .route("/nodes/{id}/why", get(nodes::why))
        .route("/nodes/{id}/commands", post(commands::on_node))
        .route("/components/{id}/commands", post(commands::batches::on_component))
        .route("/topologies/{id}/commands", post(commands::batches::on_topology))
        .route("/batches/{id}", get(commands::batches::show))
        .route("/commands", get(commands::reading::list))
        .route("/commands/{id}", get(commands::reading::show))
        .route("/commands/{id}/cancel", post(commands::reading::cancel))
        .route("/commands/{id}/output", get(commands::reading::output))
        .route("/commands/{id}/events", get(commands::live::events))
        .route("/guestcmds", get(commands::reading::offered))
        .route("/quarantine", get(quarantine::list))
        .route("/quarantine/{what}/{key}", delete(quarantine::release))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::authenticate));
    let old = Router::new()
        .route("/straas/", get(old_api::list))
        .route("/straas/{topology_name}", get(old_api::show))
        .route("/straas/guestcmd/{component_id}/{node_name}", post(old_api::guestcmd))
        .route("/straas/stormjar/{component_id}", post(old_api::stormjar))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::authenticate));
    Router::new()
        .nest("/straas/v1.0", v1)
        .merge(old)
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .fallback(|| async { ApiError::not_found("route", "at this path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
        .with_state(app)
}
