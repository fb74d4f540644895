//! The long poll: asks for a newer assignment, over and over.
//!
//! An answer that changes nothing (an assignment that was refused, or an older one from a
//! controller that is behind) is answered at once again by the controller, so it counts as a
//! failure for the pace. Any other success resets it.

use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::enrol;
use std::time::Duration;
use straas_converge::Event;
use straas_schemas::poll::{POLL_WAIT_MS_MAX, PollAnswer, PollRequest};

/// Time beyond the hold for the answer to arrive.
const SLACK: Duration = Duration::from_secs(15);
/// An answer without news that comes sooner than this share of the hold is not a held one.
const EARLY: Duration = Duration::from_millis(200);

/// Polls for ever.
pub async fn run(agent: &Agent) {
    let wait_ms = agent.config.poll_wait_ms.min(POLL_WAIT_MS_MAX);
    let mut backoff = Backoff::default();
    loop {
        let before = agent.look(|converger, _| (converger.ledger().generation(), converger.content_digest().cloned()));
        let request = PollRequest {
            protocol: straas_schemas::PROTOCOL,
            incarnation: agent.identity.borrow().incarnation,
            generation: before.0,
            digest: before.1.clone(),
            wait_ms,
        };
        let time = Duration::from_millis(wait_ms.into()) + SLACK;
        let begin = tokio::time::Instant::now();
        match agent.client.post::<PollAnswer>(&agent.path("poll"), &request, time).await {
            Ok(answer) => {
                if backoff.failures() > 0 {
                    tracing::info!("a controller answers");
                    // what waited for the link goes now
                    agent.send.notify_one();
                    agent.beat.notify_one();
                }
                if answer.renew {
                    agent.renew.notify_one();
                }
                let news = answer.assignment.is_some();
                if let Some(assignment) = answer.assignment {
                    agent.handle(Event::Offered(Box::new(assignment)));
                }
                let after =
                    agent.look(|converger, _| (converger.ledger().generation(), converger.content_digest().cloned()));
                if after == before && (news || begin.elapsed() < EARLY) {
                    tokio::time::sleep(backoff.failed()).await;
                } else {
                    backoff.reset();
                }
            }
            Err(error) => {
                if error.is_auth() {
                    enrol::refused(agent, &error).await;
                } else {
                    tracing::warn!(%error, failures = backoff.failures() + 1, "no assignment could be asked for");
                }
                tokio::select! {
                    () = tokio::time::sleep(backoff.failed()) => {}
                    () = agent.linked.notified() => {}
                }
            }
        }
    }
}
