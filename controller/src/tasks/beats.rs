//! Writes heartbeats in batches and wakes a topology only when a heartbeat says something new.
//!
//! While one batch is written the next one gathers, so the batches grow with the load and the
//! cost per heartbeat falls. Of each node only the newest heartbeat waits: one that sends too many
//! takes nobody else's place, and what waits is bounded by the number of nodes. While the database is away they wait on,
//! and agents are told, so that they may turn to a controller that is better off. What is new is decided by comparing with the node's last heartbeat:
//! metrics move all the time and wake nobody.

use crate::app::App;
use crate::engine::Engine;
use crate::error::chain;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use straas_schemas::build::BuildStatus;
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus};
use straas_schemas::report::Facts;
use straas_schemas::{NodeId, Stage, TopologyId};
use straas_store::{HEARTBEAT_BATCH_MAX, StoreError};
use tokio::sync::Notify;

/// What of a heartbeat the planner looks at.
#[derive(PartialEq)]
pub struct Essence {
    incarnation: u64,
    generation: u64,
    converged: bool,
    asks: Option<Ask>,
    service: ServiceStatus,
    doing: (u8, Option<Stage>, u32, Option<String>, Option<u8>),
    facts: Facts,
    agent: Option<BuildStatus>,
    ledger: (bool, Option<String>),
    /// The newest wish for a look that it has fulfilled, Unix ms.
    looked: u64,
}

/// `read`: the facts that plans look at, if that is known.
fn essence(beat: &Heartbeat, at_ms: i64, look: u64, read: Option<&BTreeSet<String>>) -> Essence {
    let doing = match &beat.activity {
        Activity::Idle => (0, None, 0, None, None),
        Activity::Fetching { what } => (1, None, 0, Some(what.clone()), None),
        Activity::Running { stage, attempt, progress, percent, .. } => {
            (2, Some(*stage), *attempt, progress.clone(), *percent)
        }
        Activity::Retrying { stage, attempt, .. } => (3, Some(*stage), *attempt, None, None),
        Activity::Gated { stage, .. } => (4, Some(*stage), 0, None, None),
    };
    // counters move all the time
    let facts = beat.facts.iter().filter(|(name, _)| read.is_none_or(|read| read.contains(*name)));
    let looked = beat.looked_ago_ms.map(|ago| at_ms.saturating_sub_unsigned(ago).max(0).unsigned_abs());
    Essence {
        incarnation: beat.incarnation,
        generation: beat.generation,
        converged: beat.converged,
        asks: beat.asks.clone(),
        service: beat.service,
        doing,
        facts: facts.map(|(name, value)| (name.clone(), value.clone())).collect(),
        agent: beat.agent.clone(),
        ledger: (beat.ledger_writable, beat.ledger_fault.clone()),
        looked: looked.filter(|looked| *looked >= look).map_or(0, |_| look),
    }
}

/// Wait before heartbeats that could not be written are tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Nodes remembered beyond those there are, before the memory is tidied.
const STRANGERS_MAX: usize = 1024;

/// What was said last by each node, and when.
pub type Last = HashMap<NodeId, (Essence, i64)>;

/// Heartbeats that wait to be written: the newest of each node, with the time it was received.
#[derive(Default)]
pub struct Beats {
    waiting: Mutex<HashMap<NodeId, (i64, Heartbeat)>>,
    /// The facts that plans of a topology look at.
    read: Mutex<HashMap<TopologyId, BTreeSet<String>>>,
    notify: Notify,
    away: AtomicBool,
}

impl Beats {
    /// Takes a heartbeat in; one that was overtaken by a later one of the same run is dropped. Whether it can be
    /// written, as far as that is known.
    pub fn add(&self, node: NodeId, at_ms: i64, beat: Heartbeat) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let overtaken = |(_, there): &(i64, Heartbeat)| there.run == beat.run && beat.beat < there.beat;
        if !waiting.get(&node).is_some_and(overtaken) {
            waiting.insert(node, (at_ms, beat));
        }
        drop(waiting);
        self.notify.notify_one();
        !self.away.load(Ordering::Relaxed)
    }

    /// Has heartbeats that could not be written wait again, but for those of which there is a newer one.
    fn put_back(&self, batch: &[(NodeId, i64, Heartbeat)]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, at_ms, beat) in batch {
            waiting.entry(node.clone()).or_insert_with(|| (*at_ms, beat.clone()));
        }
    }

    /// Notes which facts plans of a topology look at: others wake nobody.
    pub fn read(&self, topology: &TopologyId, facts: &BTreeSet<String>) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.get(topology) != Some(facts) {
            read.insert(topology.clone(), facts.clone());
        }
    }

    /// Forgets a topology.
    pub fn forget(&self, topology: &TopologyId) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(topology);
    }

    fn take(&self) -> Vec<(NodeId, i64, Heartbeat)> {
        let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        taken.into_iter().map(|(node, (at, beat))| (node, at, beat)).collect()
    }
}

/// Runs until the controller stops and the last batch is written.
pub async fn run(app: Arc<App>) {
    let mut last = Last::new();
    let mut stopping = app.stopping.clone();
    loop {
        let away = app.beats.away.load(Ordering::Relaxed);
        let stop = tokio::select! {
            () = app.beats.notify.notified(), if !away => false,
            () = tokio::time::sleep(AGAIN), if away => false,
            () = stopping.requested() => true,
        };
        write_waiting(&app, &mut last).await;
        if stop {
            return;
        }
    }
}

/// Writes all that wait.
pub async fn write_waiting(app: &Engine, last: &mut Last) {
    for batch in app.beats.take().chunks(HEARTBEAT_BATCH_MAX) {
        write(app, batch, last).await;
    }
}

async fn write(app: &Engine, batch: &[(NodeId, i64, Heartbeat)], last: &mut Last) {
    let written = app.store.record_heartbeats(batch).await;
    let away = matches!(written, Err(StoreError::Unavailable(_) | StoreError::Full(_)));
    app.beats.away.store(away, Ordering::Relaxed);
    if let Err(error) = written {
        if away {
            app.beats.put_back(batch);
            tracing::debug!(error = chain(&error), waiting = batch.len(), "heartbeats cannot be written now");
        } else {
            // only the newest heartbeat matters and it comes again; nothing is lost
            tracing::warn!(error = chain(&error), dropped = batch.len(), "cannot write heartbeats");
        }
        return;
    }
    app.metrics.beats_written(batch.len());
    let silence = i64::from(app.settings.suspect_after_ms_min());
    for (node, at, beat) in batch {
        let Some(slot) = app.fleet.get(node) else {
            last.remove(node);
            continue;
        };
        let now = {
            let read = app.beats.read.lock().unwrap_or_else(PoisonError::into_inner);
            essence(beat, *at, slot.look, read.get(&slot.topology))
        };
        // that a node is heard again after a silence is news, whatever it says
        let same = last.get(node).is_some_and(|(before, then)| *before == now && at - then < silence);
        if !same {
            app.wake.wake(&slot.topology);
        }
        last.insert(node.clone(), (now, *at));
    }
    if last.len() > app.fleet.counts().0 + STRANGERS_MAX {
        let there = app.fleet.nodes();
        last.retain(|node, _| there.contains(node));
    }
}
