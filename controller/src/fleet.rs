//! What agents may be told right now, in memory: one slot per node.
//!
//! A poll costs one look-up and one wait, whatever the size of the fleet: the assignment is kept
//! as the bytes that go out, written once and served to whoever asks. The slots are a copy of the
//! store, filled at start and changed only after the store was; while the database is away agents
//! keep getting their last known assignments from here.

mod orders;

use bytes::Bytes;
pub use orders::{Order, Orders, Said};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use straas_schemas::{Assignment, CommandId, Digest, NodeId, TopologyId};
use tokio::sync::watch;

/// A node as its agent sees it.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its topology.
    pub topology: TopologyId,
    /// The incarnation that is in standing; agents of any other are refused.
    pub incarnation: u64,
    /// Its newest assignment.
    pub offer: Option<Offer>,
    /// Guest commands that wait for it or run on it.
    pub orders: Orders,
    /// Its service is to be looked at once more if that was not done since, Unix ms.
    pub look: u64,
}

/// An assignment ready to be sent.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its generation.
    pub generation: u64,
    /// The content digest of what is sent.
    pub digest: Digest,
    /// The JSON text that is sent.
    pub document: Bytes,
    /// Itself, as it is kept: with its secrets sealed.
    pub assignment: Arc<Assignment>,
}

/// All slots.
#[derive(Default)]
pub struct Fleet {
    slots: RwLock<HashMap<NodeId, watch::Sender<Slot>>>,
    tickets: AtomicU64,
}

impl Fleet {
    /// Adds a node; one that is there is left as it is.
    pub fn add(&self, node: NodeId, topology: TopologyId, incarnation: u64) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.entry(node).or_insert_with(|| {
            watch::Sender::new(Slot { topology, incarnation, offer: None, orders: Orders::default(), look: 0 })
        });
    }

    /// Removes a node; its open polls end.
    pub fn remove(&self, node: &NodeId) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// The slot of a node, and what becomes of it.
    pub fn watch(&self, node: &NodeId) -> Option<watch::Receiver<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(node).map(watch::Sender::subscribe)
    }

    /// The slot of a node as it is.
    pub fn get(&self, node: &NodeId) -> Option<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(node).map(|slot| slot.borrow().clone())
    }

    /// The generation a node is offered.
    pub fn generation(&self, node: &NodeId) -> Option<u64> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(node).and_then(|slot| slot.borrow().offer.as_ref().map(|offer| offer.generation))
    }

    /// The incarnation of a node that is in standing.
    pub fn incarnation(&self, node: &NodeId) -> Option<u64> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).get(node).map(|slot| slot.borrow().incarnation)
    }

    /// Makes a newer incarnation the one in standing; open polls of the earlier one end. Whoever
    /// heard of an older one late changes nothing.
    pub fn enrolled(&self, node: &NodeId, incarnation: u64) {
        self.change(node, |slot| {
            let newer = slot.incarnation < incarnation;
            slot.incarnation = slot.incarnation.max(incarnation);
            newer
        });
    }

    /// Offers an assignment unless one of the same or a higher generation is offered.
    pub fn offer(&self, node: &NodeId, offer: Offer) {
        self.change(node, |slot| {
            let newer = slot.offer.as_ref().is_none_or(|have| have.generation < offer.generation);
            if newer {
                slot.offer = Some(offer);
            }
            newer
        });
    }

    /// Takes back an offer of this generation: the database knows only an earlier one, if any.
    pub fn take_back(&self, node: &NodeId, generation: u64, stored: Option<Offer>) {
        self.change(node, |slot| {
            let same = slot.offer.as_ref().is_some_and(|have| have.generation == generation);
            if same {
                slot.offer = stored;
            }
            same
        });
    }

    /// Wishes for a look at a node's service that begins after `at_ms`.
    pub fn look(&self, node: &NodeId, at_ms: i64) {
        let at = u64::try_from(at_ms).unwrap_or(0);
        self.change(node, |slot| {
            let newer = slot.look < at;
            slot.look = slot.look.max(at);
            newer
        });
    }

    /// A ticket for what is about to be read of orders: what was read later wins.
    pub fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds an order, or puts it in the place of the one with its id.
    pub fn order(&self, node: &NodeId, order: Order, ticket: u64) {
        self.change(node, |slot| slot.orders.put(order, ticket));
    }

    /// Replaces all orders, unless something newer is known.
    pub fn set_orders(&self, node: &NodeId, orders: Vec<Order>, ticket: u64, now_ms: i64) {
        self.change(node, |slot| slot.orders.set(orders, ticket, now_ms));
    }

    /// Removes orders that have ended.
    pub fn done(&self, node: &NodeId, ids: &[CommandId]) {
        let ticket = self.ticket();
        self.change(node, |slot| slot.orders.remove(ids, ticket));
    }

    /// Notes that a node was told of orders; nobody is woken for that.
    pub fn told(&self, node: &NodeId, ids: &[CommandId], now_ms: i64) {
        self.change(node, |slot| {
            slot.orders.told(ids, now_ms);
            false
        });
    }

    /// Whether a node is polled right now.
    pub fn polls(&self, node: &NodeId) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(node).is_some_and(|slot| slot.receiver_count() > 0)
    }

    /// Number of nodes, and of those how many are polled right now.
    pub fn counts(&self) -> (usize, usize) {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        (slots.len(), slots.values().filter(|slot| slot.receiver_count() > 0).count())
    }

    /// Every node that has a slot.
    pub fn nodes(&self) -> HashSet<NodeId> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn change(&self, node: &NodeId, change: impl FnOnce(&mut Slot) -> bool) {
        if let Some(slot) = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(node) {
            slot.send_if_modified(change);
        }
    }
}

impl Offer {
    /// Prepares an assignment for sending; `open` is what the node gets of it, if that is something
    /// else than what is kept.
    #[must_use]
    pub fn new(assignment: Assignment, open: Option<Assignment>) -> Self {
        let sent = open.as_ref().unwrap_or(&assignment);
        Self {
            generation: sent.generation,
            digest: sent.content_digest(),
            // a struct of strings, numbers and JSON values always serialises
            document: serde_json::to_vec(sent).unwrap_or_default().into(),
            assignment: Arc::new(assignment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_of_an_enrolment_late_does_not_undo_a_later_one() {
        let (fleet, node) = (Fleet::default(), NodeId::from("n"));
        fleet.add(node.clone(), TopologyId::from("t"), 1);
        let mut watch = fleet.watch(&node).expect("a slot");
        fleet.enrolled(&node, 3);
        assert!(watch.has_changed().expect("there"));
        watch.mark_unchanged();
        fleet.enrolled(&node, 2);
        fleet.add(node.clone(), TopologyId::from("t"), 1);
        assert_eq!((fleet.incarnation(&node), watch.has_changed().expect("there")), (Some(3), false));
        fleet.remove(&node);
        assert!(watch.has_changed().is_err(), "open polls end with the node");
    }
}
