//! Which topologies, and whether rollouts, have to be looked at again.
//!
//! Level-triggered: a wake-up carries no content. Whoever is woken reads everything anew and
//! compares, so waking twice, or for nothing, costs a little time and does no harm.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use straas_schemas::TopologyId;
use tokio::sync::{Notify, broadcast};

/// How many changes a slow listener may be behind before it is told to read everything anew.
const LISTENER_LAG_MAX: usize = 256;

/// The topologies to look at, and those who want to know when one was.
pub struct Wake {
    dirty: Mutex<BTreeSet<TopologyId>>,
    notify: Notify,
    rollouts: Notify,
    touched: broadcast::Sender<TopologyId>,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            dirty: Mutex::default(),
            notify: Notify::new(),
            rollouts: Notify::new(),
            touched: broadcast::Sender::new(LISTENER_LAG_MAX),
        }
    }
}

impl Wake {
    /// Something about a topology may have changed.
    pub fn wake(&self, topology: &TopologyId) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(topology.clone());
        self.notify.notify_one();
    }

    /// Waits until there are topologies to look at, and takes them.
    pub async fn take(&self) -> BTreeSet<TopologyId> {
        loop {
            let taken = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }

    /// A rollout was begun or steered.
    pub fn wake_rollouts(&self) {
        self.rollouts.notify_one();
    }

    /// Waits until a rollout was begun or steered.
    pub async fn rollouts(&self) {
        self.rollouts.notified().await;
    }

    /// A topology was looked at, and people may see something new.
    pub fn touch(&self, topology: &TopologyId) {
        // nobody listening is fine
        let _ = self.touched.send(topology.clone());
    }

    /// Hears of every topology that was looked at.
    pub fn listen(&self) -> broadcast::Receiver<TopologyId> {
        self.touched.subscribe()
    }
}
