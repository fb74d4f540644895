//! Heartbeats: at the interval, and at once when something changed that others wait for.
//!
//! A lost heartbeat is not sent again: the next one says more. Each proves that the ledger can be
//! written, because a node with a read-only disk looks well from outside. While it cannot, the node
//! is told as it was when it last could: what is not durable may never have been.

use crate::agent::Agent;
use straas_schemas::heartbeat::{Activity, Heartbeat};
use tokio::time::{Duration, Instant, sleep_until};

/// Shortest time between heartbeats in the long run, however fast things change.
const PAUSE: Duration = Duration::from_millis(250);
/// So many may follow each other at once: what happens when a stage ends is told without delay.
const BURST: u32 = 4;
/// Shortest interval: a wrong assignment must not make an agent a load.
const INTERVAL_MS_MIN: u32 = 500;

/// Beats for ever.
pub async fn run(agent: &Agent) {
    // random, to tell the runs of an agent apart
    let run = format!("{:016x}", rand::random::<u64>());
    let mut beat = 0;
    let mut lost = false;
    let mut durable: Option<(Heartbeat, Instant)> = None;
    // when the next one would be due if all were sent as fast as they may in the long run
    let mut pace = Instant::now();
    loop {
        beat += 1;
        let begin = Instant::now();
        let mut heartbeat = heartbeat(agent, &run, beat);
        match &durable {
            Some((last, at)) if agent.is_stalled() => heartbeat = as_of(last, at.elapsed(), heartbeat),
            _ => durable = Some((heartbeat.clone(), begin)),
        }
        match agent.client.post_only(&agent.path("heartbeat"), &heartbeat).await {
            Ok(()) if lost => {
                // heartbeats go at their interval, back-offs grow: the link is often seen to heal here first
                lost = false;
                agent.linked.notify_one();
                agent.send.notify_one();
                agent.live.linked.notify_one();
            }
            Ok(()) => {}
            Err(error) => {
                lost = true;
                tracing::debug!(%error, "heartbeat lost");
            }
        }
        pace = pace.max(begin) + PAUSE;
        sleep_until(pace - PAUSE * BURST).await;
        tokio::select! {
            () = sleep_until(begin + interval(agent)) => {}
            () = agent.beat.notified() => {}
        }
    }
}

/// What was durable so long ago, with what is true now of the host and the ledger.
fn as_of(last: &Heartbeat, ago: Duration, now: Heartbeat) -> Heartbeat {
    let looked_ago_ms =
        last.looked_ago_ms.map(|ms| ms.saturating_add(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    Heartbeat {
        beat: now.beat,
        ledger_writable: now.ledger_writable,
        ledger_fault: now.ledger_fault,
        vitals: now.vitals,
        looked_ago_ms,
        ..last.clone()
    }
}

fn interval(agent: &Agent) -> Duration {
    let assigned = agent.look(|c, _| c.ledger().assignment.as_ref().map(|assignment| assignment.timing.heartbeat_ms));
    Duration::from_millis(assigned.unwrap_or(agent.config.heartbeat_ms).max(INTERVAL_MS_MIN).into())
}

/// How the node is now.
fn heartbeat(agent: &Agent, run: &str, beat: u64) -> Heartbeat {
    let ledger_fault = agent.probe();
    let mut status = agent.look(|converger, now| converger.status(now));
    if let (Activity::Running { progress, percent, .. }, Some((text, of))) =
        (&mut status.activity, agent.progress.borrow().as_ref())
    {
        *progress = Some(text.clone());
        *percent = *of;
    }
    Heartbeat {
        incarnation: agent.identity.borrow().incarnation,
        beat,
        run: run.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        agent: Some(agent.builds.status()),
        generation: status.generation,
        converged: status.converged,
        activity: status.activity,
        asks: status.asks,
        service: status.service,
        stages: status.stages,
        facts: status.facts,
        looked_ago_ms: status.looked_ago_ms,
        drift: status.drift,
        ledger_writable: ledger_fault.is_none(),
        ledger_fault,
        outbox: status.outbox,
        vitals: agent.sampler.borrow_mut().sample(agent.started().elapsed(), agent.client.failed()),
    }
}
