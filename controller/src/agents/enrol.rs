//! Enrolment and renewal: from a join token, or from a certificate in standing, to a certificate.

use super::OwnNode;
use crate::app::App;
use crate::authority::issue;
use crate::ca::key_of;
use crate::engine::Engine;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use crate::secrets;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::enrol::{CSR_BYTES_MAX, Certificate, EnrolRequest, RenewRequest};
use straas_store::{AgentId, EnrolOutcome, NewEvent};

type Answer = (StatusCode, Json<Certificate>);

/// `POST /agent/v1/enrol`
pub async fn enrol(State(app): State<Arc<App>>, Json(request): Json<EnrolRequest>) -> Result<Answer, ApiError> {
    check_csr(&request.csr_pem)?;
    // The request is tried before the token is spent: a bad one must not cost the node its token.
    let key = key_of(&request.csr_pem)?;
    let (node, incarnation) = admitted(&app, &request, key.as_str()).await?;
    certificate(&app, &request.csr_pem, node, incarnation).await.map(|c| (StatusCode::CREATED, Json(c)))
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
    certificate(&app, &request.csr_pem, identity.id, identity.incarnation).await.map(Json)
}

pub(super) async fn certificate(
    app: &App,
    csr_pem: &str,
    node: NodeId,
    incarnation: u64,
) -> Result<Certificate, ApiError> {
    let issued = issue(app, csr_pem, &AgentId::Node(node.clone()), incarnation).await?;
    Ok(Certificate {
        node,
        incarnation,
        certificate_pem: issued.certificate.pem,
        ca_pem: issued.in_force.bundle_pem(),
        not_after_ms: issued.certificate.not_after_ms,
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
