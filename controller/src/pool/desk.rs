//! Who of the pool waits for news, and who was heard of: what of the pool is in memory only.
//!
//! A host is woken when its record changed. This controller's own changes wake at once; those of others are found by
//! their numbers, with one small query a second and whenever one of them rings, however many hosts there are. When hosts were heard of is written in
//! batches, so that a poll costs no write.

use crate::bell::Bell;
use crate::clock::Clock;
use crate::error::chain;
use crate::stop::Stop;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use straas_schemas::HostId;
use straas_store::{PAGE_MAX, PoolHost, Store, StoreError};
use tokio::sync::watch;

/// When hosts were heard of is written so often.
const WRITE: Duration = Duration::from_secs(10);
/// Most hosts of one batch.
const BATCH_MAX: usize = 1_000;

/// See the module.
pub struct Desk {
    bell: Arc<Bell>,
    clock: Clock,
    waiting: Mutex<HashMap<HostId, watch::Sender<()>>>,
    seen: Mutex<BTreeMap<HostId, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    at_ms: i64,
    written: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Tells others by this bell, and the time by this clock.
    pub fn new(bell: Arc<Bell>, clock: Clock) -> Self {
        Self { bell, clock, waiting: Mutex::default(), seen: Mutex::default() }
    }

    /// Tells of each change of a host from now on.
    pub fn watch(&self, host: &HostId) -> watch::Receiver<()> {
        let mut waiting = lock(&self.waiting);
        // of those nobody waits for any more
        if waiting.len() > 2 * PAGE_MAX as usize {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(host.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// A host's record changed.
    pub fn wake(&self, host: &HostId) {
        self.hear(host);
        self.bell.ring();
    }

    /// A host's record changed, perhaps by another controller.
    fn hear(&self, host: &HostId) {
        if let Some(sender) = lock(&self.waiting).get(host) {
            sender.send_replace(());
        }
    }

    /// Unix time in ms.
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// A host is here.
    pub fn seen(&self, host: &HostId) {
        lock(&self.seen).insert(host.clone(), Seen { at_ms: self.now_ms(), written: false });
    }

    /// When a host was heard of last, by this controller or as its record says.
    pub fn seen_ms(&self, host: &PoolHost) -> Option<i64> {
        host.seen_ms.max(lock(&self.seen).get(&host.id).map(|seen| seen.at_ms))
    }

    /// Writes a host's record and wakes it; `false` if it was changed meanwhile.
    ///
    /// # Errors
    /// Of the store, but for that one.
    pub async fn change(&self, store: &dyn Store, host: &PoolHost) -> straas_store::Result<bool> {
        match store.change_pool_host(host).await {
            Ok(()) => {
                self.wake(&host.id);
                Ok(true)
            }
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, store: &dyn Store) -> straas_store::Result<()> {
        let waiting: Vec<_> = {
            let mut seen = lock(&self.seen);
            // those that were written and not heard of since are the store's to remember
            seen.retain(|_, seen| !seen.written);
            seen.iter().map(|(host, seen)| (host.clone(), seen.at_ms)).collect()
        };
        for batch in waiting.chunks(BATCH_MAX) {
            store.pool_seen(batch).await?;
            let mut seen = lock(&self.seen);
            for (host, at_ms) in batch {
                if let Some(seen) = seen.get_mut(host).filter(|seen| seen.at_ms == *at_ms) {
                    seen.written = true;
                }
            }
        }
        Ok(())
    }

    /// Wakes who was changed after `last`; the number of the last change.
    async fn look(&self, store: &dyn Store, last: u64) -> straas_store::Result<u64> {
        let changes = store.pool_changes(last).await?;
        changes.iter().for_each(|(host, _)| self.hear(host));
        Ok(changes.last().map_or(last, |(_, number)| *number))
    }
}

/// Keeps the desk until the controller stops.
pub async fn run(desk: Arc<Desk>, store: Arc<dyn Store>, mut stopping: Stop) {
    let (mut looks, mut write) = (desk.bell.looks(), tokio::time::interval(WRITE));
    let mut last = 0;
    loop {
        let done = tokio::select! {
            () = looks.next() => desk.look(&*store, last).await.map(|newest| last = newest),
            _ = write.tick() => desk.write(&*store).await,
            () = stopping.requested() => break,
        };
        if let Err(error) = done {
            tracing::debug!(error = chain(&error), "the pool's records are not at hand; trying again");
        }
    }
    // who was heard of last: whoever comes next takes them for silent otherwise
    if let Err(error) = desk.write(&*store).await {
        tracing::debug!(error = chain(&error), "cannot write when hosts were heard of");
    }
}
