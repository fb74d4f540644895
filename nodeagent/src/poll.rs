//! The long poll: asks for a newer assignment and for guest commands, over and over.
//!
//! An answer that changes nothing (an assignment that was refused, an older one from a controller
//! that is behind, a command that is being ended already) is answered at once again by the
//! controller, so it counts as a failure for the pace. Any other success resets it.
//!
//! While the ledger takes no write nothing is asked for: what a poll names counts as taken.

use crate::agent::Agent;
use crate::backoff::Backoff;
use crate::{enrol, trust};
use std::time::Duration;
use straas_converge::{CommandPhase, CommandRecord, Converger, Event};
use straas_schemas::poll::{POLL_WAIT_MS_MAX, PollAnswer, PollRequest};
use straas_schemas::{CommandId, Digest};

/// Time beyond the hold for the answer to arrive.
const SLACK: Duration = Duration::from_secs(15);
/// An answer without news that comes sooner than this share of the hold is not a held one.
const EARLY: Duration = Duration::from_millis(200);

/// What an answer can change.
#[derive(PartialEq)]
struct Have {
    generation: u64,
    digest: Option<Digest>,
    /// Commands that are open, for the controller to leave them out.
    open: Vec<CommandId>,
    /// How many of them are being ended.
    cancelled: usize,
}

impl Have {
    fn of(converger: &Converger) -> Self {
        let ledger = converger.ledger();
        let cancelled = |record: &&CommandRecord| matches!(record.phase, CommandPhase::Begun { cancelled: true, .. });
        Self {
            generation: ledger.generation(),
            digest: converger.content_digest().cloned(),
            open: converger.open_commands(),
            cancelled: ledger.commands.values().filter(cancelled).count(),
        }
    }
}

/// Polls for ever.
pub async fn run(agent: &Agent) {
    let wait_ms = agent.config.poll_wait_ms.min(POLL_WAIT_MS_MAX);
    let mut backoff = Backoff::default();
    let mut look = 0;
    let tls = agent.config.state_dir.join("tls");
    loop {
        agent.unstalled().await;
        // whoever needs the word of a controller does not have it held back
        let unproven = agent.builds.awaits_answer();
        let wait_ms = if unproven { 0 } else { wait_ms };
        let before = agent.look(|converger, _| Have::of(converger));
        let request = PollRequest {
            protocol: straas_schemas::PROTOCOL,
            incarnation: agent.identity.borrow().incarnation,
            generation: before.generation,
            digest: before.digest.clone(),
            commands: before.open.clone(),
            look,
            trusts: trust::fingerprints(&agent.client.trusted_pem()).ok(),
            wait_ms,
        };
        let time = Duration::from_millis(wait_ms.into()) + SLACK;
        let begin = tokio::time::Instant::now();
        match agent.client.poll::<PollAnswer>(&agent.path("poll"), &request, time).await {
            Ok(answer) => {
                agent.answered();
                if backoff.failures() > 0 {
                    tracing::info!("a controller answers");
                    // what waited for the link goes now
                    agent.send.notify_one();
                    agent.beat.notify_one();
                    agent.live.linked.notify_one();
                }
                if answer.renew {
                    agent.renew.notify_one();
                }
                let trusts =
                    answer.trust_pem.is_some_and(|pem| trust::take(&tls, &agent.config.ca_file, &agent.client, &pem));
                let PollAnswer { assignment, commands: orders, cancel, .. } = answer;
                let wished = answer.look > look;
                if wished {
                    look = answer.look;
                    agent.handle(Event::Look);
                }
                let commanded = !orders.is_empty() || !cancel.is_empty();
                let news = assignment.is_some() || commanded;
                // first what the commands may need
                if let Some(assignment) = assignment {
                    agent.handle(Event::Offered(Box::new(assignment)));
                }
                if commanded {
                    for order in &orders {
                        let (id, command) = (order.id.as_str(), order.command.as_str());
                        tracing::debug!(id, command, begin_within_ms = order.begin_within_ms, "command offered");
                    }
                    agent.handle(Event::Commanded { orders, cancel });
                }
                if agent.look(|converger, _| Have::of(converger)) == before
                    && !wished
                    && !trusts
                    && (news || (begin.elapsed() < EARLY && !unproven))
                {
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
