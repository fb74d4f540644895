//! Which topologies, and whether rollouts, have to be looked at again.
//!
//! Level-triggered: a wake-up carries no content. Whoever is woken reads everything anew and
//! compares, so waking twice, or for nothing, costs a little time and does no harm.
//!
//! A look at everything comes after what happened: it is taken up one topology at a time, and only while nothing else is
//! to be looked at. So how long a change waits does not depend on how many topologies there are.

use crate::bell::Bell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_schemas::{NodeId, TopologyId};
use straas_store::Word;
use tokio::sync::{Notify, broadcast};

/// How many changes a slow listener may be behind before it is told to read everything anew.
const LISTENER_LAG_MAX: usize = 256;

#[derive(Default)]
struct Dirty {
    /// Something happened to them.
    now: BTreeSet<TopologyId>,
    /// They have their turn as everything has now and then.
    in_turn: BTreeSet<TopologyId>,
}

impl Dirty {
    fn take(&mut self) -> BTreeSet<TopologyId> {
        if self.now.is_empty() {
            return self.in_turn.pop_first().into_iter().collect();
        }
        self.in_turn.retain(|id| !self.now.contains(id));
        std::mem::take(&mut self.now)
    }
}

/// The topologies to look at, and those who want to know when one was.
pub struct Wake {
    dirty: Mutex<Dirty>,
    notify: Notify,
    rollouts: Notify,
    touched: broadcast::Sender<TopologyId>,
    /// To the controllers beside this one.
    bell: Arc<Bell>,
}

impl Wake {
    /// Tells others by this bell.
    pub fn new(bell: Arc<Bell>) -> Self {
        Self {
            bell,
            dirty: Mutex::default(),
            notify: Notify::new(),
            rollouts: Notify::new(),
            touched: broadcast::Sender::new(LISTENER_LAG_MAX),
        }
    }

    /// Something about a topology may have changed.
    pub fn wake(&self, topology: &TopologyId) {
        self.dirty().now.insert(topology.clone());
        self.notify.notify_one();
    }

    /// A controller beside this one is to look at it instead.
    pub fn hand_over(&self, topology: TopologyId) {
        self.bell.say(Word::Look(topology));
    }

    /// These have to be looked at as well, after those that something happened to.
    pub fn wake_in_turn(&self, topologies: impl IntoIterator<Item = TopologyId>) {
        self.dirty().in_turn.extend(topologies);
        self.notify.notify_one();
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are topologies to look at, and takes them.
    pub async fn take(&self) -> BTreeSet<TopologyId> {
        loop {
            let taken = self.dirty().take();
            if !taken.is_empty() {
                return taken;
            }
            self.notify.notified().await;
        }
    }

    /// A rollout was begun or steered.
    pub fn wake_rollouts(&self) {
        self.hear_rollouts();
        self.bell.say(Word::Rollouts);
    }

    /// A rollout was begun or steered, says another controller.
    pub fn hear_rollouts(&self) {
        self.rollouts.notify_one();
    }

    /// A node has another assignment, enrolled, or is gone: agents may poll elsewhere.
    pub fn node(&self, node: &NodeId) {
        self.bell.say(Word::Node(node.clone()));
    }

    /// Waits until a rollout was begun or steered.
    pub async fn rollouts(&self) {
        self.rollouts.notified().await;
    }

    /// A topology was looked at, and people may see something new.
    pub fn touch(&self, topology: &TopologyId) {
        self.hear(topology);
        self.bell.say(Word::Topology(topology.clone()));
    }

    /// The same, of what another controller says.
    pub fn hear(&self, topology: &TopologyId) {
        // nobody listening is fine
        let _ = self.touched.send(topology.clone());
    }

    /// Hears of every topology that was looked at.
    pub fn listen(&self) -> broadcast::Receiver<TopologyId> {
        self.touched.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_comes_before_a_look_at_everything() {
        let ids = |names: &[&str]| names.iter().map(|name| TopologyId::from(*name)).collect::<BTreeSet<_>>();
        let mut dirty = Dirty { now: BTreeSet::new(), in_turn: ids(&["a", "b", "c", "d"]) };
        assert_eq!(dirty.take(), ids(&["a"]));
        dirty.now = ids(&["c", "x"]);
        assert_eq!(dirty.take(), ids(&["c", "x"]));
        assert_eq!(dirty.take(), ids(&["b"]));
        assert_eq!(dirty.take(), ids(&["d"]), "c was looked at meanwhile");
        assert_eq!(dirty.take(), ids(&[]));
    }
}
