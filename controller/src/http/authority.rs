//! The certificate authority: how its exchange stands, begun, gone on with without those who are missing, taken back.
//!
//! What comes by itself is brought by `tasks/authority.rs`; a request here only writes what a person decides.

use super::auth::Caller;
use super::extract::{Body, Query};
use super::once::{self, Made};
use super::problem::ApiError;
use super::topologies::Mutation;
use super::{audit, body};
use crate::app::App;
use crate::authority::rotation;
use crate::ca::about;
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};
use std::sync::Arc;
use straas_schemas::authority::{AdvanceRequest, AuthorityView};
use straas_store::{AuthorityKept, AuthorityRecord};

type Answer = Result<Json<AuthorityView>, ApiError>;

/// Where it is shown.
const PATH: &str = "/straas/v1.0/authority";

/// `GET /v1.0/authority`
pub async fn show(State(app): State<Arc<App>>) -> Answer {
    view(&app, &current(&app).await?).await.map(Json)
}

/// `POST /v1.0/authority/rotation`
pub async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(Mutation { dry_run }): Query<Mutation>,
) -> Answer {
    let now = current(&app).await?;
    let new = app.authorities.another(now.made + 1)?;
    let next = rotation::begun(&now, new, &caller.name, app.now_ms()).map_err(|why| ApiError::conflict(&why))?;
    if dry_run {
        // the one that was made for this is not the one that there will be
        return view(&app, &next).await.map(|view| Json(AuthorityView { other: None, ..view }));
    }
    written(&app, &caller, &now, &next, "begun").await
}

/// `POST /v1.0/authority/rotation/advance`
pub async fn advance(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(Mutation { dry_run }): Query<Mutation>,
    Body(bytes): Body,
) -> Answer {
    let AdvanceRequest { phase } = body::typed(&bytes)?;
    let now = current(&app).await?;
    if now.phase != phase {
        return Err(ApiError::conflict(&format!("the phase is {}, not {}", now.phase.name(), phase.name())));
    }
    let next = rotation::onward(&now, app.now_ms());
    let next = next.ok_or_else(|| ApiError::conflict("no exchange is under way: nothing is waited for"))?;
    if dry_run {
        return view(&app, &next).await.map(Json);
    }
    let missing = view(&app, &now).await?;
    let text = format!("gone on with, without {} of {} agents", missing.agents - missing.ready, missing.agents);
    written(&app, &caller, &now, &next, &text).await
}

/// `DELETE /v1.0/authority/rotation`
pub async fn take_back(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(Mutation { dry_run }): Query<Mutation>,
) -> Answer {
    let now = current(&app).await?;
    let next = rotation::taken_back(&now, &caller.name, app.now_ms()).map_err(|why| ApiError::conflict(&why))?;
    if dry_run {
        return view(&app, &next).await.map(Json);
    }
    written(&app, &caller, &now, &next, "taken back").await
}

/// The record as it is now, also if another controller has just changed it.
async fn current(app: &App) -> Result<AuthorityRecord, ApiError> {
    app.authorities.refresh(&*app.store).await?;
    Ok(app.authorities.record())
}

/// Writes the record over the one that was seen.
async fn written(app: &App, caller: &Caller, was: &AuthorityRecord, next: &AuthorityRecord, what: &str) -> Answer {
    let store = once::store(app, &Made::Thing { path: PATH.to_owned() });
    store.change_authorities(next).await?;
    audit::changed("certificate authority", said(was), said(next));
    tracing::warn!(by = caller.name, phase = next.phase.name(), "the exchange of the certificate authority is {what}");
    view(app, &current(app).await?).await.map(Json)
}

/// What the audit trail keeps of it: no keys, sealed or not.
fn said(record: &AuthorityRecord) -> Value {
    let fingerprints = |kept: &AuthorityKept| kept.fingerprint.clone();
    let kept: Vec<_> = record.kept.iter().map(fingerprints).collect();
    json!({ "phase": record.phase, "issuer": record.issuer, "authorities": kept })
}

/// A record as it is shown.
async fn view(app: &App, record: &AuthorityRecord) -> Result<AuthorityView, ApiError> {
    let agents = app.store.agent_certificates().await?;
    let (missing, ready) = rotation::missing(record, &agents, app.now_ms());
    let info = |kept: Option<&AuthorityKept>| kept.map(|kept| about(&kept.certificate_pem)).transpose();
    let issuer = info(record.issuing())?.unwrap_or_else(|| app.authorities.now().issuer.about().clone());
    let ever = record.made > 1;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(AuthorityView {
        phase: record.phase,
        issuer,
        other: info(record.other())?,
        by: ever.then(|| record.by.clone()),
        since_ms: ever.then_some(record.since_ms),
        agents: number(agents.len()),
        ready: number(ready),
        next: rotation::says(record, agents.len() - ready),
        missing,
        certificates_pem: record.kept.iter().map(|kept| format!("{}\n", kept.certificate_pem.trim_end())).collect(),
    })
}
