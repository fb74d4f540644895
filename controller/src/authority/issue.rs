//! A certificate for an agent: recorded, then made.

use super::InForce;
use crate::ca::{ClientCertificate, HOST, NODE, key_of};
use crate::engine::Engine;
use crate::http::problem::ApiError;
use std::sync::Arc;
use straas_store::{AgentId, StoreError};

/// A controller that has not heard of a change hears of it, and tries again so often.
const TRIES_MAX: u32 = 4;

/// A certificate, and what was in force when it was made.
pub struct Issued {
    /// The certificate.
    pub certificate: ClientCertificate,
    /// Whom to trust, besides.
    pub in_force: Arc<InForce>,
}

/// Gives an agent's incarnation a certificate for the key of a request. It is recorded for which key first, and that fails
/// if another authority issues meanwhile.
///
/// # Errors
/// What is wrong with the request, or the store cannot be written.
pub async fn issue(app: &Engine, csr_pem: &str, agent: &AgentId, incarnation: u64) -> Result<Issued, ApiError> {
    let key = key_of(csr_pem)?;
    let days = app.settings.common().agents.certificate_days;
    for _ in 0..TRIES_MAX {
        let in_force = app.authorities.now();
        match app.store.note_issued(agent, incarnation, &key, in_force.issuer.fingerprint()).await {
            Ok(()) => {
                let kind = match agent {
                    AgentId::Node(_) => NODE,
                    AgentId::Host(_) => HOST,
                };
                let certificate = in_force.issuer.sign(csr_pem, (kind, agent.as_str()), incarnation, days)?;
                return Ok(Issued { certificate, in_force });
            }
            Err(StoreError::Conflict { .. }) => drop(app.authorities.refresh(&*app.store).await?),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::unavailable("the certificate authority is being exchanged; ask again"))
}
