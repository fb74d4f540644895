//! Coming back: an agent whose certificate is good no more gets another one in its place, on a connection that shows none.
//!
//! The old certificate says who asks, and the request, signed with its key, proves it. Where the authority that signed
//! the certificate is retired, that is not enough: whoever got hold of that authority's key can make such a certificate
//! for a key of his own. So the key has to be one that was recorded when a certificate was made for it, or when the agent
//! showed it.

use super::enrol::{self, check_csr};
use super::{pool, standing};
use crate::app::App;
use crate::ca::key_of;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use crate::tls::{Identity, Who, who_was};
use axum::extract::State;
use std::sync::Arc;
use straas_schemas::enrol::{CSR_BYTES_MAX, Certificate, ComeBackRequest};
use straas_schemas::pool::HostCertificate;
use straas_schemas::{Digest, NodeId};
use straas_store::{AgentId, NewEvent};

/// An agent comes back by itself so long after its certificate ended, in ms: a year. Older keys were long out of anybody's
/// sight.
const COME_BACK_MS: i64 = 365 * 24 * 3600 * 1000;

/// `POST /agent/v1/come-back`
pub async fn node(
    State(app): State<Arc<App>>,
    Json(request): Json<ComeBackRequest>,
) -> Result<Json<Certificate>, ApiError> {
    let identity = match who(&app, &request)? {
        Who::Node(identity) => identity,
        Who::Host(_) => return Err(refused(&app, "the certificate is that of a host of the pool, not of a node")),
    };
    let identity = standing(&app, identity).await?;
    let why = allowed(&app, AgentId::Node(identity.id.clone()), &identity).await?;
    let Identity { id, incarnation, .. } = identity;
    let certificate = enrol::certificate(&app, &request.csr_pem, id.clone(), incarnation).await?;
    tell(&app, &id, &format!("agent came back: {why}")).await;
    Ok(Json(certificate))
}

/// `POST /agent/v1/hosts/come-back`
pub async fn host(
    State(app): State<Arc<App>>,
    Json(request): Json<ComeBackRequest>,
) -> Result<Json<HostCertificate>, ApiError> {
    let identity = match who(&app, &request)? {
        Who::Host(identity) => identity,
        Who::Node(_) => return Err(refused(&app, "the certificate is that of a node, not of a host of the pool")),
    };
    let host = pool::read(&app, &identity).await?;
    let why = allowed(&app, AgentId::Host(identity.id.clone()), &identity).await?;
    let Identity { id, incarnation, .. } = identity;
    let certificate = pool::certificate(&app, &request.csr_pem, id.clone(), incarnation).await?;
    tracing::info!(host = host.name, %id, why, "a host of the pool came back");
    if let Some(node) = host.holds.as_ref().or(host.allotment.as_ref().map(|allotted| &allotted.node)) {
        tell(&app, node, &format!("its host {} of the pool came back: {why}", host.name)).await;
    }
    Ok(Json(certificate))
}

fn refused(app: &App, why: &str) -> ApiError {
    app.metrics.refused();
    tracing::warn!(why, "an agent may not come back");
    ApiError::unauthorized(why)
}

/// Whose certificate it is, if the request is signed with its key.
fn who(app: &App, request: &ComeBackRequest) -> Result<Who, ApiError> {
    check_csr(&request.csr_pem)?;
    if request.certificate_pem.len() > CSR_BYTES_MAX {
        return Err(ApiError::invalid("/certificate_pem", &format!("longer than {CSR_BYTES_MAX} bytes")));
    }
    let key = key_of(&request.csr_pem)?;
    let who = who_was(&app.authorities.now(), &request.certificate_pem)
        .ok_or_else(|| refused(app, "the certificate is not one that this fleet gave a node or host"))?;
    let (its_key, not_after_ms) = match &who {
        Who::Node(Identity { key, not_after_ms, .. }) | Who::Host(Identity { key, not_after_ms, .. }) => {
            (key, *not_after_ms)
        }
    };
    if key != *its_key {
        return Err(refused(app, "the request is of another key than the certificate"));
    }
    if not_after_ms < app.now_ms() - COME_BACK_MS {
        return Err(refused(app, "the certificate ended too long ago; enrol again with a join token"));
    }
    Ok(who)
}

/// Why it comes back, if it may.
async fn allowed<Id>(app: &App, agent: AgentId, identity: &Identity<Id>) -> Result<&'static str, ApiError> {
    if app.authorities.now().is_trusted(&identity.authority) {
        return Ok("its certificate had ended");
    }
    let recorded = app.store.agent_certificate(&agent).await?;
    let known = |key: &Option<Digest>| key.as_ref() == Some(&identity.key);
    if recorded.is_some_and(|recorded| known(&recorded.issued_key) || known(&recorded.shown_key)) {
        return Ok("its certificate was of an authority that is retired");
    }
    Err(refused(
        app,
        "the authority of the certificate is retired, and it is not known that it gave it; enrol again with a join token",
    ))
}

/// Tells of it in the node's topology.
async fn tell(app: &App, node: &NodeId, what: &str) {
    let Some(slot) = app.fleet.get(node) else { return };
    let name = slot.offer.as_ref().map_or(node.as_str(), |offer| &offer.assignment.name);
    let text = format!("{name}: {what}");
    tracing::info!(%node, "{text}");
    app.tell(&[NewEvent {
        at_ms: app.now_ms(),
        topology: slot.topology,
        node: Some(node.clone()),
        kind: "agent",
        text,
    }])
    .await;
}
