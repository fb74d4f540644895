//! The host's poll: says what it has, hears what it is wanted for, over and over.
//!
//! What changes here in the meantime is said at once: the poll that is held then is given up, and whatever it would have
//! been answered is told again, since a wish is a level and the next request says what is known of it.

use super::record::Phase;
use super::{Pool, Told, facts, identity};
use crate::agent::unix_ms;
use crate::backoff::Backoff;
use crate::{keys, trust};
use std::path::Path;
use std::time::{Duration, SystemTime};
use straas_schemas::poll::POLL_WAIT_MS_MAX;
use straas_schemas::pool::{HostCleaning, HostPollAnswer, HostPollRequest};

/// Time beyond the hold for the answer to arrive.
const SLACK: Duration = Duration::from_secs(15);
/// A token that lies there unused for so long is taken for one that is not accepted.
const TOKEN_PATIENCE: Duration = Duration::from_secs(60);
/// An answer that comes sooner and tells nothing new is not a held one.
const EARLY: Duration = Duration::from_millis(200);

/// Polls for ever.
pub async fn run(pool: &Pool) {
    let wait_ms = pool.config.poll_wait_ms.min(POLL_WAIT_MS_MAX);
    let time = Duration::from_millis(wait_ms.into()) + SLACK;
    let mut backoff = Backoff::default();
    let tls = identity::tls(&pool.config);
    loop {
        let request = said(pool, wait_ms).await;
        let path = format!("/agent/v1/hosts/{}/poll", pool.identity.borrow().id);
        let begin = tokio::time::Instant::now();
        let answer = tokio::select! {
            answer = pool.client.post::<HostPollAnswer>(&path, &request, time) => answer,
            () = pool.changed.notified() => continue,
        };
        let wait = match answer {
            Ok(answer) => {
                if answer.renew {
                    pool.renew.notify_one();
                }
                let trusts =
                    answer.trust_pem.is_some_and(|pem| trust::take(&tls, &pool.config.ca_file, &pool.client, &pem));
                let told = answer.allotment.is_some() || request.knows.as_ref() != Some(&answer.wish);
                let news = told || trusts;
                if told {
                    tracing::debug!(wish = ?answer.wish, "told");
                    pool.told.send_replace(Some(Told { wish: answer.wish, allotment: answer.allotment }));
                }
                if news || begin.elapsed() > EARLY {
                    backoff.reset();
                    continue;
                }
                backoff.failed()
            }
            Err(error) => {
                if error.is_auth() {
                    identity::refused(pool, &error).await;
                } else {
                    tracing::warn!(%error, failures = backoff.failures() + 1, "no controller could be asked");
                }
                backoff.failed()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = pool.changed.notified() => {}
        }
    }
}

async fn said(pool: &Pool, wait_ms: u32) -> HostPollRequest {
    let controller = pool.config.controllers.first().map_or("", String::as_str);
    let facts = facts::facts(pool.config.address, controller).await;
    let record = pool.record();
    let cleaning = record.tenancy.as_ref().filter(|tenancy| tenancy.phase == Phase::Cleaning);
    let reason = pool.dirty.borrow().clone();
    let serving = record.tenancy.as_ref().filter(|tenancy| tenancy.phase == Phase::Serving);
    HostPollRequest {
        protocol: straas_schemas::PROTOCOL,
        hostname: facts::hostname(),
        facts,
        knows: pool.wish(),
        holds: record.holds().cloned(),
        wants_token: serving.is_some_and(|tenancy| is_locked_out(&pool.node_dir(&tenancy.node))),
        cleaning: cleaning.map(|tenancy| HostCleaning { node: tenancy.node.clone(), reason }),
        released: record.released,
        trusts: trust::fingerprints(&pool.client.trusted_pem()).ok(),
        wait_ms,
    }
}

/// Whether a node's agent has neither a certificate nor a token that it could get one with.
fn is_locked_out(dir: &Path) -> bool {
    let good = keys::load(&dir.join("tls")).is_some_and(|(identity, _)| identity.not_after_ms > unix_ms());
    let token = std::fs::metadata(dir.join("join-token")).and_then(|file| file.modified());
    // one of the future is of a clock that was put back
    let fresh = token.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < TOKEN_PATIENCE));
    !good && !fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_certificate_and_fresh_token_is_locked_out() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(is_locked_out(dir.path()));
        let token = dir.path().join("join-token");
        std::fs::write(&token, "t").expect("written");
        assert!(!is_locked_out(dir.path()));
        let file = std::fs::File::options().append(true).open(&token).expect("there");
        file.set_modified(SystemTime::now() - TOKEN_PATIENCE).expect("set");
        assert!(is_locked_out(dir.path()), "it lies there unused");
    }
}
