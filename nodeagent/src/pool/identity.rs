//! Who this host is in the pool: a join token becomes a certificate, and the certificate is renewed.
//!
//! As a node's (`enrol.rs`), with a certificate of another kind. Never here: letting a node go because this host is not
//! accepted any more.

use super::Pool;
use crate::agent::{AgentError, unix_ms};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError, Credentials, REQUEST_TIME};
use crate::config::PoolConfig;
use crate::enrol::EnrolError;
use crate::keys::{self, Identity};
use crate::trust;
use crate::world::Dialer;
use std::path::PathBuf;
use straas_schemas::enrol::{ComeBackRequest, RenewRequest};
use straas_schemas::pool::{HostCertificate, JoinRequest};

/// Where its keys are.
pub fn tls(config: &PoolConfig) -> PathBuf {
    config.state_dir.join("tls")
}

/// The identity on the disk, unless it has ended and there is a token for another one.
///
/// # Errors
/// Keys that cannot be used.
pub fn known(config: &PoolConfig, ca_pem: &str) -> Result<Option<(Client, Identity)>, AgentError> {
    let Some((identity, own)) = keys::load(&tls(config)) else { return Ok(None) };
    if config.join_token_file.exists() && identity.not_after_ms < unix_ms() {
        return Ok(None);
    }
    let client = Client::new(Dialer::tcp(), config.controllers.clone(), ca_pem.to_owned(), Some(&own))
        .map_err(EnrolError::Client)?;
    Ok(Some((client, identity)))
}

/// Joins the pool, which is tried until it succeeds.
///
/// # Errors
/// No token, or files and keys that cannot be used.
pub async fn join(config: &PoolConfig, ca_pem: String) -> Result<(Client, Identity), AgentError> {
    let client = Client::new(Dialer::tcp(), config.controllers.clone(), ca_pem, None).map_err(EnrolError::Client)?;
    let mut backoff = Backoff::default();
    loop {
        match join_once(config, &client).await {
            Ok(identity) => return Ok((client, identity)),
            Err(EnrolError::Client(error)) => {
                let file = config.join_token_file.display();
                if error.is_auth() {
                    tracing::error!(%error, "the join token is not accepted (used up, expired or unknown): make a new \
                        one on the controller (straas join-token create) and write it to {file}");
                } else {
                    tracing::warn!(%error, "not in the pool yet");
                }
                tokio::time::sleep(backoff.failed()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn join_once(config: &PoolConfig, client: &Client) -> Result<Identity, EnrolError> {
    let file = &config.join_token_file;
    let token = std::fs::read_to_string(file).map_err(|_| EnrolError::NoToken(file.display().to_string()))?;
    let (key_pem, csr_pem) = keys::request(&tls(config)).map_err(EnrolError::Setup)?;
    let (token, hostname) = (token.trim().to_owned(), super::facts::hostname());
    let request = JoinRequest { protocol: straas_schemas::PROTOCOL, token, csr_pem, hostname };
    let answer: HostCertificate = client.post("/agent/v1/hosts", &request, REQUEST_TIME).await?;
    let identity = store(config, client, &answer, key_pem)?;
    if let Err(error) = std::fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "the used join token cannot be removed");
    }
    tracing::info!(host = identity.id, incarnation = identity.incarnation, "joined the pool");
    Ok(identity)
}

/// Keeps a certificate and uses it.
fn store(
    config: &PoolConfig,
    client: &Client,
    answer: &HostCertificate,
    key_pem: String,
) -> Result<Identity, EnrolError> {
    let own = Credentials { certificate_pem: answer.certificate_pem.clone(), key_pem };
    let (id, incarnation, not_after_ms) = (answer.host.0.clone(), answer.incarnation, answer.not_after_ms);
    let identity = Identity { id, incarnation, issued_ms: unix_ms(), not_after_ms };
    keys::take(&tls(config), client, &own, identity)
}

/// Renews at two thirds of the certificate's life, or when the controller says so.
pub async fn keep_renewed(pool: &Pool) {
    let mut backoff = Backoff::default();
    loop {
        let (wait, pause) = {
            let identity = pool.identity.borrow();
            (identity.renewal_in(), identity.renewal_pause())
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = pool.renew.notified() => {}
        }
        match renew(pool).await {
            Ok(()) => {
                backoff.reset();
                tokio::time::sleep(pause).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the host's certificate is not renewed yet");
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

/// Whether the certificate has ended, by this host's clock.
fn has_ended(identity: &Identity) -> bool {
    identity.not_after_ms < unix_ms()
}

async fn renew(pool: &Pool) -> Result<(), EnrolError> {
    if has_ended(&pool.identity.borrow()) || pool.rejected.take() {
        // rare, and large
        return Box::pin(come_back(pool)).await;
    }
    let (key_pem, csr_pem) = keys::request(&tls(&pool.config)).map_err(EnrolError::Setup)?;
    let path = format!("/agent/v1/hosts/{}/renew", pool.identity.borrow().id);
    let answer: HostCertificate = pool.client.post(&path, &RenewRequest { csr_pem }, REQUEST_TIME).await?;
    let identity = store(&pool.config, &pool.client, &answer, key_pem)?;
    pool.identity.replace(identity);
    tracing::info!(not_after_ms = answer.not_after_ms, "the host's certificate is renewed");
    Ok(())
}

/// Asks for another certificate where the one of before is good no more: with that one and its key, on a connection that
/// shows none.
async fn come_back(pool: &Pool) -> Result<(), EnrolError> {
    let dir = tls(&pool.config);
    let (identity, own) =
        keys::load(&dir).ok_or_else(|| EnrolError::Setup(format!("{}: no certificate", dir.display())))?;
    let csr_pem = keys::request_of(&own.key_pem).map_err(EnrolError::Setup)?;
    let request = ComeBackRequest { certificate_pem: own.certificate_pem, csr_pem };
    let answer: HostCertificate = stranger(pool)?.post("/agent/v1/hosts/come-back", &request, REQUEST_TIME).await?;
    if answer.host.as_str() != identity.id {
        return Err(EnrolError::Setup(format!("the new certificate is for another host, {}", answer.host)));
    }
    let identity = store(&pool.config, &pool.client, &answer, own.key_pem)?;
    pool.identity.replace(identity);
    tracing::info!(not_after_ms = answer.not_after_ms, "came back: there is another certificate");
    Ok(())
}

/// A client that shows no certificate.
fn stranger(pool: &Pool) -> Result<Client, EnrolError> {
    let ca_pem = trust::load(&tls(&pool.config), &pool.config.ca_file)
        .map_err(|error| EnrolError::Setup(format!("{}: {error}", pool.config.ca_file.display())))?;
    Ok(Client::new(Dialer::tcp(), pool.config.controllers.clone(), ca_pem, None)?)
}

/// After the controller refused us: joins again if an operator left a new token; says what to do otherwise.
pub async fn refused(pool: &Pool, error: &ClientError) {
    let file = &pool.config.join_token_file;
    if !file.exists() && (has_ended(&pool.identity.borrow()) || error.is_certificate()) {
        // it has ended by the controller's clock, or its authority is retired
        pool.rejected.set(true);
        pool.renew.notify_one();
        return tracing::warn!(%error, "this host's certificate is good no more; another one is asked for");
    }
    // a connection may outlive what it was opened with; a new one tells which it is
    pool.client.reconnect();
    if !file.exists() {
        tracing::error!(%error, "the controller does not accept this host's certificate (expired, or the host was taken \
            out of the pool). What runs goes on. To join again, make a join token for this host and write it to {}",
            file.display());
        return;
    }
    let again = async {
        let identity = join_once(&pool.config, &stranger(pool)?).await?;
        if let Some((_, own)) = keys::load(&tls(&pool.config)) {
            pool.client.set_credentials(&own)?;
        }
        pool.identity.replace(identity);
        Ok::<_, EnrolError>(())
    };
    if let Err(error) = again.await {
        tracing::error!(%error, "joining again with the token in {} failed", file.display());
    }
}
