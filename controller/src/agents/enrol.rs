//! Enrolment and renewal: from a join token, or from a certificate in standing, to a certificate.

use super::{OwnNode, standing};
use crate::app::App;
use crate::ca::NODE;
use crate::engine::Engine;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use crate::secrets;
use crate::tls::{Who, who_was};
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::enrol::{CSR_BYTES_MAX, Certificate, ComeBackRequest, EnrolRequest, RenewRequest};
use straas_store::{EnrolOutcome, NewEvent};

/// A node comes back by itself so long after its certificate ended, in ms: a year. Older keys were long out of anybody's sight.
const COME_BACK_MS: i64 = 365 * 24 * 3600 * 1000;

type Answer = (StatusCode, Json<Certificate>);

/// `POST /agent/v1/enrol`
pub async fn enrol(State(app): State<Arc<App>>, Json(request): Json<EnrolRequest>) -> Result<Answer, ApiError> {
    check_csr(&request.csr_pem)?;
    // The request is tried before the token is spent: a bad one must not cost the node its token.
    let key = app.ca.key_of(&request.csr_pem)?;
    let (node, incarnation) = admitted(&app, &request, key.as_str()).await?;
    certificate(&app, &request.csr_pem, node, incarnation).map(|c| (StatusCode::CREATED, Json(c)))
}

/// Spends a join token on a public key: the node, and the incarnation that is in standing from now on.
///
/// # Errors
/// Why the token is no good, or the store cannot be written.
pub async fn admitted(app: &Engine, request: &EnrolRequest, key: &str) -> Result<(NodeId, u64), ApiError> {
    let outcome = app.store.enrol(&secrets::hash(&request.token), key, app.now_ms()).await?;
    let refusal = match outcome {
        EnrolOutcome::Enrolled { node, incarnation } => {
            app.fleet.enrolled(&node, incarnation);
            app.wake.node(&node);
            app.metrics.enrolled();
            if app.fleet.get(&node).is_none() {
                // another controller recorded the node; if that cannot be read now, its first poll reads it
                let _ = app.sync_node(&node).await;
            }
            let slot = app.fleet.get(&node);
            if let Some(slot) = slot {
                let version = clean(&request.agent_version);
                let name = slot.offer.as_ref().map_or(node.as_str(), |offer| &offer.assignment.name);
                let text = format!("{name}: agent {version} enrolled (incarnation {incarnation})");
                tracing::info!(%node, hostname = clean(&request.hostname), "{text}");
                let event = NewEvent {
                    at_ms: app.now_ms(),
                    topology: slot.topology.clone(),
                    node: Some(node.clone()),
                    kind: "agent",
                    text,
                };
                // the token is spent: from here on nothing may keep the agent from its certificate
                app.wake.wake(&slot.topology);
                app.tell(&[event]).await;
            }
            return Ok((node, incarnation));
        }
        EnrolOutcome::Unknown => "the join token is not one of this fleet's",
        EnrolOutcome::Used => "the join token was used before; make the host anew to get another",
        EnrolOutcome::Expired => "the join token has expired; make the host anew to get another",
    };
    app.metrics.refused();
    tracing::warn!(hostname = clean(&request.hostname), refusal, "enrolment refused");
    Err(ApiError::unauthorized(refusal))
}

/// `POST /agent/v1/nodes/{id}/renew`
pub async fn renew(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Json(request): Json<RenewRequest>,
) -> Result<Json<Certificate>, ApiError> {
    check_csr(&request.csr_pem)?;
    certificate(&app, &request.csr_pem, identity.id, identity.incarnation).map(Json)
}

/// `POST /agent/v1/come-back`
pub async fn come_back(
    State(app): State<Arc<App>>,
    Json(request): Json<ComeBackRequest>,
) -> Result<Json<Certificate>, ApiError> {
    check_csr(&request.csr_pem)?;
    if request.certificate_pem.len() > CSR_BYTES_MAX {
        return Err(ApiError::invalid("/certificate_pem", &format!("longer than {CSR_BYTES_MAX} bytes")));
    }
    let refused = |why: &str| {
        app.metrics.refused();
        tracing::warn!(why, "a node may not come back");
        ApiError::unauthorized(why)
    };
    let key = app.ca.key_of(&request.csr_pem)?;
    let Some((Who::Node(identity), its_key)) = who_was(&app.ca, &request.certificate_pem) else {
        return Err(refused("the certificate is not one that this fleet gave a node"));
    };
    if key != its_key {
        return Err(refused("the request is of another key than the certificate"));
    }
    if identity.not_after_ms < app.now_ms() - COME_BACK_MS {
        return Err(refused("the certificate ended too long ago; enrol again with a join token"));
    }
    let identity = standing(&app, identity).await?;
    tracing::info!(node = %identity.id, "a node came back after its certificate had ended");
    certificate(&app, &request.csr_pem, identity.id, identity.incarnation).map(Json)
}

fn certificate(app: &App, csr_pem: &str, node: NodeId, incarnation: u64) -> Result<Certificate, ApiError> {
    let days = app.settings.common().agents.certificate_days;
    let signed = app.ca.sign(csr_pem, (NODE, node.as_str()), incarnation, days)?;
    Ok(Certificate {
        node,
        incarnation,
        certificate_pem: signed.pem,
        ca_pem: app.ca.certificate_pem().to_owned(),
        not_after_ms: signed.not_after_ms,
    })
}

pub(super) fn check_csr(csr_pem: &str) -> Result<(), ApiError> {
    if csr_pem.len() > CSR_BYTES_MAX {
        return Err(ApiError::invalid("/csr_pem", &format!("longer than {CSR_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// A name as the host gave it, fit for a log.
fn clean(text: &str) -> String {
    printable(text, 64)
}

/// What can be printed of a text, so many characters at most.
pub(super) fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}
