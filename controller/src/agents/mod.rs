//! The API for agents, on its own port behind client certificates.
//!
//! A node reads and writes itself and nothing else: every route but enrolment names a node, and
//! [`OwnNode`] lets only that node's newest incarnation through.

mod come_back;
mod commands;
pub mod enrol;
mod guesses;
mod packs;
pub mod poll;
mod pool;
pub mod report;

use crate::app::App;
use crate::authority::InForce;
use crate::engine::Engine;
use crate::http::finish;
use crate::http::problem::ApiError;
use crate::tls::{Identity, Peer, Who};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use std::collections::HashMap;
use std::sync::Arc;
use straas_schemas::authority::TRUSTS_MAX;
use straas_schemas::command::COMMAND_PIECE_BYTES_MAX;
use straas_schemas::enrol::CSR_BYTES_MAX;
use straas_schemas::heartbeat::HEARTBEAT_BYTES_MAX;
use straas_schemas::report::{FACTS_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX, REPORTS_MAX};
use straas_schemas::{Digest, NodeId};
use straas_store::{AgentId, CertificateShown};
use tower_http::catch_panic::CatchPanicLayer;

/// A poll or a renewal: a few short fields and at most one signing request.
const SMALL_BYTES_MAX: usize = CSR_BYTES_MAX * 2;
/// A full batch of reports, with room for JSON's escapes.
const REPORT_BYTES_MAX: usize = REPORTS_MAX * (OUTPUT_TAIL_BYTES_MAX + FACTS_BYTES_MAX) * 2;

pub use guesses::Guesses;

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let small = DefaultBodyLimit::max(SMALL_BYTES_MAX);
    let with_token = Router::new()
        .route("/agent/v1/enrol", post(enrol::enrol).layer(small))
        .route("/agent/v1/hosts", post(pool::join).layer(small))
        .route("/agent/v1/come-back", post(come_back::node).layer(small))
        .route("/agent/v1/hosts/come-back", post(come_back::host).layer(small))
        .route_layer(from_fn_with_state(app.clone(), guesses::bounded));
    let written = Router::new()
        .merge(with_token)
        .route("/agent/v1/nodes/{id}/renew", post(enrol::renew).layer(small))
        .route("/agent/v1/hosts/{id}/renew", post(pool::renew).layer(small))
        .route("/agent/v1/nodes/{id}/reports", post(report::reports).layer(DefaultBodyLimit::max(REPORT_BYTES_MAX)))
        .route(
            "/agent/v1/nodes/{id}/commands/{command}/output",
            post(commands::output).layer(DefaultBodyLimit::max(COMMAND_PIECE_BYTES_MAX)),
        )
        .route_layer(from_fn(finish::begun));
    Router::new()
        .merge(written)
        .route("/agent/v1/nodes/{id}/poll", post(poll::poll).layer(small))
        .route("/agent/v1/hosts/{id}/poll", post(pool::poll).layer(small))
        .route(
            "/agent/v1/nodes/{id}/heartbeat",
            post(report::heartbeat).layer(DefaultBodyLimit::max(HEARTBEAT_BYTES_MAX)),
        )
        .route("/agent/v1/nodes/{id}/packs/{want}", get(packs::pack))
        .route("/agent/v1/nodes/{id}/files/{sha256}", get(packs::file))
        .fallback(|| async { ApiError::not_found("route", "of this path in the agent API") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()))
        .with_state(app)
}

/// The node named in the path, which is the one that asks.
pub struct OwnNode(pub Identity<NodeId>);

impl FromRequestParts<Arc<App>> for OwnNode {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let named = named(parts, app).await;
        let identity = match who(parts) {
            Some(Who::Node(identity)) => Some(identity),
            _ => None,
        };
        let checked = stands(app, &named, identity).await;
        if checked.is_err() {
            app.metrics.refused();
        }
        checked.map(Self)
    }
}

/// The id in the path.
async fn named(parts: &mut Parts, app: &Arc<App>) -> String {
    let named = Path::<HashMap<String, String>>::from_request_parts(parts, app).await;
    named.ok().and_then(|path| path.get("id").cloned()).unwrap_or_default()
}

/// Whom the connection's certificate stands for.
fn who(parts: &Parts) -> Option<Who> {
    parts.extensions.get::<Peer>().and_then(|peer| peer.who.clone())
}

/// The certificate that was shown, if it is for what the path names, has not ended, and is of an authority in force.
fn shown<Id: AsRef<str>>(
    app: &Engine,
    named: &str,
    what: &str,
    identity: Option<Identity<Id>>,
) -> Result<Identity<Id>, ApiError> {
    let identity = identity.ok_or_else(|| {
        let text = format!("this route needs the {what}'s client certificate; enrol with a join token first");
        ApiError::unauthorized(&text)
    })?;
    if identity.id.as_ref() != named {
        let text = format!("a {what} reads and writes itself only; this certificate is another {what}'s");
        return Err(ApiError::forbidden(&text));
    }
    if !app.authorities.now().is_trusted(&identity.authority) {
        let text = "the authority of this certificate is retired; come back over a new connection, or enrol again";
        return Err(ApiError::unauthorized(text));
    }
    if identity.not_after_ms <= app.now_ms() {
        return Err(ApiError::unauthorized("this certificate has ended; enrol again with a join token"));
    }
    Ok(identity)
}

async fn stands(app: &App, named: &str, identity: Option<Identity<NodeId>>) -> Result<Identity<NodeId>, ApiError> {
    standing(app, shown(app, named, "node", identity)?).await
}

/// Whether it is the node's newest incarnation, as far as is known here or recorded.
///
/// # Errors
/// It is not, or the node is gone, or the store cannot be read.
pub async fn standing(app: &Engine, identity: Identity<NodeId>) -> Result<Identity<NodeId>, ApiError> {
    let known = app.fleet.incarnation(&identity.id);
    if known.is_none_or(|known| known < identity.incarnation) {
        // made or enrolled at another controller; a database that is away is no reason to say 401
        app.sync_node(&identity.id).await?;
    }
    let slot = app.fleet.incarnation(&identity.id);
    match slot {
        Some(newest) if newest == identity.incarnation => Ok(identity),
        Some(newest) => Err(ApiError::unauthorized(&format!(
            "this certificate is of incarnation {}; the node enrolled again as {newest}",
            identity.incarnation
        ))),
        None => Err(ApiError::unauthorized("there is no such node any more")),
    }
}

/// Whether what an agent says of whom it trusts is within bounds.
///
/// # Errors
/// It is not.
fn check_trusts(trusts: Option<&[Digest]>) -> Result<(), ApiError> {
    let Some(trusts) = trusts else { return Ok(()) };
    if trusts.len() > TRUSTS_MAX {
        return Err(ApiError::invalid("/trusts", &format!("at most {TRUSTS_MAX} authorities")));
    }
    match trusts.iter().position(|one| !one.is_well_formed()) {
        Some(at) => Err(ApiError::invalid(&format!("/trusts/{at}"), "is not 64 lower-case hex digits")),
        None => Ok(()),
    }
}

/// Notes what an agent showed and said, where an authority was ever exchanged.
fn note_shown<Id>(app: &Engine, agent: AgentId, identity: &Identity<Id>, trusts: Option<&[Digest]>) {
    if app.authorities.now().record.is_some() {
        app.authorities.sights.saw(CertificateShown {
            agent,
            incarnation: identity.incarnation,
            key: identity.key.clone(),
            by: identity.authority.clone(),
            trusts: trusts.map(<[Digest]>::to_vec),
        });
    }
}

/// Whether a certificate is to be renewed.
fn is_due<Id>(in_force: &InForce, identity: &Identity<Id>, now_ms: i64) -> bool {
    identity.renew_at_ms <= now_ms || in_force.is_outdated(&identity.authority)
}
