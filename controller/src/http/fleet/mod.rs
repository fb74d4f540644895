//! Rollouts over the fleet: list, show, pause, resume, cancel. How one begins is in `begin.rs`.
//!
//! A request changes the record and nothing else; what follows from that is found out and done in the background
//! (`tasks/rollouts.rs`).

mod begin;
mod builds;

pub use begin::begin;

use super::audit;
use super::auth::Caller;
use super::extract::{Path, Query};
use super::lists::{Listed, cut};
use super::once::{self, Made};
use super::problem::ApiError;
use crate::app::App;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use straas_schemas::rollout::{
    FleetMember, FleetMemberPhase, FleetRollout, FleetRolloutKind, FleetRolloutStanding as Standing,
};
use straas_schemas::view::Page;
use straas_store::{RolloutFilter, RolloutMember, RolloutRecord, RolloutSummary, StoreError};

/// A rollout is steered so often while it goes on beside that.
const TRIES_MAX: u32 = 16;

/// Query of the list of rollouts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutsQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only those that have not ended.
    #[serde(default)]
    open: bool,
}

/// `GET /v1.0/rollouts`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<RolloutsQuery>,
) -> Result<Json<Page<FleetRollout>>, ApiError> {
    let filter = RolloutFilter { tenant: query.listed.tenant(&caller)?, open_only: query.open };
    let page = query.listed.page();
    let mut found = app.store.rollouts(&filter, &page).await?;
    let next = cut(&mut found, &page, |found| found.rollout.id.clone());
    let item = |RolloutSummary { rollout, total, verified }| FleetRollout { total, verified, ..view(rollout) };
    Ok(Json(Page { items: found.into_iter().map(item).collect(), next }))
}

/// `GET /v1.0/rollouts/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<FleetRollout>, ApiError> {
    own(&app, &caller, &id).await.map(shown)
}

/// The caller's rollout of this id.
async fn own(app: &App, caller: &Caller, id: &str) -> Result<RolloutRecord, ApiError> {
    let found = app.store.rollout(id).await?;
    found.filter(|rollout| caller.may(&rollout.tenant)).ok_or_else(|| ApiError::not_found("rollout", id))
}

type Parts = (State<Arc<App>>, Extension<Caller>, Path<String>);

/// `POST /v1.0/rollouts/{id}/pause`
pub async fn pause(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, Standing::Paused, |standing| matches!(standing, Standing::Running)).await
}

/// `POST /v1.0/rollouts/{id}/resume`
pub async fn resume(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, Standing::Running, |standing| matches!(standing, Standing::Paused)).await
}

/// `POST /v1.0/rollouts/{id}/cancel`
pub async fn cancel(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, Standing::Cancelling, |standing| matches!(standing, Standing::Running | Standing::Paused)).await
}

/// Has a rollout stand otherwise, `from` where that can be; answers with it.
async fn steer(parts: Parts, to: Standing, from: fn(Standing) -> bool) -> Result<Response, ApiError> {
    let (State(app), Extension(caller), Path(id)) = parts;
    for _ in 0..TRIES_MAX {
        let mut rollout = own(&app, &caller, &id).await?;
        builds::allowed(&caller, rollout.kind)?;
        let before = rollout.standing;
        if before == to {
            return Ok(shown(rollout).into_response());
        }
        if !from(before) {
            let stands = before.name().replace('_', " ");
            let why = match before.is_final() {
                true => format!("the rollout has ended: {stands}"),
                false => format!("the rollout is {stands}; that goes on to its end"),
            };
            return Err(ApiError::conflict(&why));
        }
        rollout.standing = to;
        if to == Standing::Cancelling {
            rollout.reason = Some(format!("{} cancelled it", caller.name));
        }
        let expected = rollout.revision;
        let store = once::store(&app, &Made::RolloutTurn { id: id.clone() });
        match store.change_rollout(&rollout, &[], expected).await {
            Ok(()) => {
                audit::changed(format!("rollout {id}"), before.name().into(), to.name().into());
                tracing::info!(rollout = id, by = caller.name, "rollout is {}", to.name());
                app.wake.wake_rollouts();
                return Ok(shown(own(&app, &caller, &id).await?).into_response());
            }
            // a member came further meanwhile
            Err(StoreError::Conflict { what: "rollout", .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(&format!("rollout {id} went on {TRIES_MAX} times meanwhile; try again")))
}

/// An answer with a rollout.
pub fn shown(rollout: RolloutRecord) -> Json<FleetRollout> {
    Json(view(rollout))
}

/// 201: a rollout was begun.
pub fn begun(rollout: RolloutRecord) -> Response {
    let location = format!("/straas/v1.0/rollouts/{}", rollout.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], shown(rollout)).into_response()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn view(rollout: RolloutRecord) -> FleetRollout {
    let verified = rollout.members.iter().filter(|member| member.phase == FleetMemberPhase::Verified).count();
    let (commit, build) = match rollout.kind {
        FleetRolloutKind::Scripts => (Some(rollout.wanted), None),
        FleetRolloutKind::Agents => (None, Some(rollout.wanted)),
    };
    FleetRollout {
        id: rollout.id,
        kind: rollout.kind,
        commit,
        build,
        from: rollout.from,
        author: rollout.author,
        tenant: rollout.tenant,
        all_tenants: rollout.all_tenants,
        standing: rollout.standing,
        reason: rollout.reason,
        batch: (rollout.batch + 1).min(number(rollout.batches.len())),
        batches: rollout.batches,
        soak_s: rollout.soak_s,
        watched_since_ms: rollout.watched_ms,
        total: number(rollout.members.len()),
        verified: number(verified),
        created_ms: rollout.created_ms,
        ended_ms: rollout.ended_ms,
        members: rollout.members.into_iter().map(member).collect(),
    }
}

fn member(member: RolloutMember) -> FleetMember {
    FleetMember {
        component: member.component,
        component_name: member.component_name,
        topology: member.topology,
        topology_name: member.topology_name,
        tenant: member.tenant,
        batch: member.batch + 1,
        nodes: member.nodes,
        before: member.before,
        phase: member.phase,
        reason: member.reason,
        job: member.job,
    }
}
