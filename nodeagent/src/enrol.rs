//! Who this node is: a join token becomes a certificate once, and the certificate is renewed.
//!
//! The private key is made here (`keys.rs`) and never leaves. The token file is removed when a certificate is
//! on the disk. A node that is not accepted any more keeps trying and says what to do: a new join
//! token in its place enrols it again.
//!
//! Never here: destroying anything because of an authentication failure.

use crate::agent::{Agent, unix_ms};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError, Credentials, REQUEST_TIME};
use crate::config::Config;
use crate::keys::{self, Identity};
use crate::trust;
use crate::world::Dialer;
use straas_schemas::enrol::{Certificate, ComeBackRequest, EnrolRequest, RenewRequest};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Nothing to enrol with.
    #[error(
        "this node has no certificate and no join token in {0}: what it had is lost; have its host made anew \
         (straas node replace), or let it join the pool again if it is a host of it"
    )]
    NoToken(String),
    /// Keys or files.
    #[error("{0}")]
    Setup(String),
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The identity on the disk, or a new one by enrolment, which is tried until it succeeds.
///
/// # Errors
/// No token, or files and keys that cannot be used.
pub async fn identify(config: &Config, dialer: Dialer, ca_pem: String) -> Result<(Identity, Client), EnrolError> {
    let tls = config.state_dir.join("tls");
    let known = keys::load(&tls).filter(|(identity, _)| identity.id == *config.node.as_str());
    if let Some((identity, own)) = known.filter(|(known, _)| !has_ended(known) || !config.join_token_file.exists()) {
        let client = Client::new(dialer, config.controllers.clone(), ca_pem, Some(&own))?;
        return Ok((identity, client));
    }
    let client = Client::new(dialer, config.controllers.clone(), ca_pem, None)?;
    let mut backoff = Backoff::default();
    loop {
        match enrol(config, &client).await {
            Ok(identity) => return Ok((identity, client)),
            Err(EnrolError::Client(error)) => {
                if error.is_auth() {
                    tracing::error!(%error, "the join token is not accepted (used, expired or of another node): \
                        create a new one on the controller and write it to {}", config.join_token_file.display());
                } else {
                    tracing::warn!(%error, "not enrolled yet");
                }
                tokio::time::sleep(backoff.failed()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether this host got a certificate at some time.
#[must_use]
pub fn is_enrolled(config: &Config) -> bool {
    config.state_dir.join("tls/current").exists()
}

/// Enrols once, with the token in its file.
async fn enrol(config: &Config, client: &Client) -> Result<Identity, EnrolError> {
    let file = &config.join_token_file;
    let token = std::fs::read_to_string(file).map_err(|_| EnrolError::NoToken(file.display().to_string()))?;
    let (key_pem, csr_pem) = keys::request(&config.state_dir.join("tls")).map_err(EnrolError::Setup)?;
    let request = EnrolRequest {
        protocol: straas_schemas::PROTOCOL,
        token: token.trim().to_owned(),
        csr_pem,
        hostname: sysinfo::System::host_name().unwrap_or_default(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer: Certificate = client.post("/agent/v1/enrol", &request, REQUEST_TIME).await?;
    if answer.node != config.node {
        return Err(EnrolError::Setup(format!(
            "the join token is for node {}, agent.toml says {}: one of the two is wrong",
            answer.node, config.node
        )));
    }
    let identity = store(config, client, &answer, &key_pem)?;
    if let Err(error) = std::fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "the used join token cannot be removed");
    }
    tracing::info!(node = identity.id, incarnation = identity.incarnation, "enrolled");
    Ok(identity)
}

/// Renews at two thirds of the certificate's life, or when the controller says so.
pub async fn keep_renewed(agent: &Agent) {
    let mut backoff = Backoff::default();
    loop {
        let (wait, pause) = {
            let identity = agent.identity.borrow();
            (identity.renewal_in(), identity.renewal_pause())
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = agent.renew.notified() => {}
        }
        match renew(agent).await {
            Ok(()) => {
                backoff.reset();
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate is not renewed yet");
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

/// Whether the certificate has ended, by this host's clock.
fn has_ended(identity: &Identity) -> bool {
    identity.not_after_ms < unix_ms()
}

async fn renew(agent: &Agent) -> Result<(), EnrolError> {
    if has_ended(&agent.identity.borrow()) || agent.rejected.take() {
        // rare, and large
        return Box::pin(come_back(agent)).await;
    }
    let (key_pem, csr_pem) = keys::request(&agent.config.state_dir.join("tls")).map_err(EnrolError::Setup)?;
    let answer: Certificate = agent.client.post(&agent.path("renew"), &RenewRequest { csr_pem }, REQUEST_TIME).await?;
    if answer.node != agent.config.node {
        return Err(EnrolError::Setup(format!("the renewed certificate is for another node, {}", answer.node)));
    }
    agent.identity.replace(store(&agent.config, &agent.client, &answer, &key_pem)?);
    tracing::info!(not_after_ms = answer.not_after_ms, "certificate renewed");
    Ok(())
}

/// Asks for another certificate where the one of before is good no more: with that one and its key, on a connection that
/// shows none.
async fn come_back(agent: &Agent) -> Result<(), EnrolError> {
    let tls = agent.config.state_dir.join("tls");
    let (_, own) = keys::load(&tls).ok_or_else(|| EnrolError::Setup(format!("{}: no certificate", tls.display())))?;
    let csr_pem = keys::request_of(&own.key_pem).map_err(EnrolError::Setup)?;
    let client = unknown(agent)?;
    let request = ComeBackRequest { certificate_pem: own.certificate_pem.clone(), csr_pem };
    let answer: Certificate = client.post("/agent/v1/come-back", &request, REQUEST_TIME).await?;
    if answer.node != agent.config.node {
        return Err(EnrolError::Setup(format!("the new certificate is for another node, {}", answer.node)));
    }
    agent.identity.replace(store(&agent.config, &agent.client, &answer, &own.key_pem)?);
    tracing::info!(not_after_ms = answer.not_after_ms, "came back: there is another certificate");
    Ok(())
}

/// A client that shows no certificate.
fn unknown(agent: &Agent) -> Result<Client, EnrolError> {
    let config = &agent.config;
    let ca_pem = trust::load(&config.state_dir.join("tls"), &config.ca_file)
        .map_err(|error| EnrolError::Setup(format!("{}: {error}", config.ca_file.display())))?;
    Ok(Client::new(agent.world.dialer.clone(), config.controllers.clone(), ca_pem, None)?)
}

/// After the controller refused us: enrols again if an operator left a new token; says what to do
/// otherwise.
pub async fn refused(agent: &Agent, error: &ClientError) {
    let file = &agent.config.join_token_file;
    if !file.exists() && (has_ended(&agent.identity.borrow()) || error.is_certificate()) {
        // it has ended by the controller's clock, or its authority is retired
        agent.rejected.set(true);
        agent.renew.notify_one();
        return tracing::warn!(%error, "this node's certificate is good no more; another one is asked for");
    }
    // a connection may outlive what it was opened with; a new one tells which it is
    agent.client.reconnect();
    if !file.exists() {
        tracing::error!(%error, "the controller does not accept this node's certificate (expired, revoked, or the node \
            was removed). Everything keeps running. To enrol again, create a join token for this node and write it to {}",
            file.display());
        return;
    }
    let again = async {
        let client = unknown(agent)?;
        let identity = enrol(&agent.config, &client).await?;
        if let Some((_, own)) = keys::load(&agent.config.state_dir.join("tls")) {
            agent.client.set_credentials(&own)?;
        }
        agent.identity.replace(identity);
        Ok::<_, EnrolError>(())
    };
    if let Err(error) = again.await {
        tracing::error!(%error, "enrolling again with the join token in {} failed", file.display());
    }
}

/// Keeps a certificate and uses it.
fn store(config: &Config, client: &Client, answer: &Certificate, key_pem: &str) -> Result<Identity, EnrolError> {
    let own = Credentials { certificate_pem: answer.certificate_pem.clone(), key_pem: key_pem.to_owned() };
    let identity = Identity {
        id: answer.node.0.clone(),
        incarnation: answer.incarnation,
        issued_ms: unix_ms(),
        not_after_ms: answer.not_after_ms,
    };
    keys::take(&config.state_dir.join("tls"), client, &own, identity)
}
