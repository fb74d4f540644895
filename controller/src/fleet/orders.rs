//! The guest commands of one node, as far as its agent may hear of them.
//!
//! An order is offered until a poll names it. One that is not named although it was offered may
//! have been lost with its answer, or its agent may be unable to take it: so it is offered again at
//! once, and from then on with growing pauses, or such an agent would poll as fast as its link.

use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::command::{CommandOrder, CommandStanding};
use straas_schemas::{CommandId, Digest};
use straas_store::CommandRecord;

/// Most orders of one answer; the rest comes with the next, which follows at once.
const OFFERED_MAX: usize = 16;
/// Pause before an order is offered the third time; doubles from then on.
const PAUSE_MS: i64 = 1_000;
/// Longest pause.
const PAUSE_MS_MAX: i64 = 30_000;

/// A guest command on its way to a node.
#[derive(Clone, Debug)]
pub struct Order {
    /// As it is sent, but for the time left.
    order: CommandOrder,
    deadline_ms: i64,
    /// The agent is known to have it.
    running: bool,
    /// It is to be ended.
    cancelling: bool,
    /// How often the agent was told, and when it may be told again.
    told: u32,
    again_ms: i64,
}

/// The orders of a node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    list: Arc<Vec<Order>>,
    ticket: u64,
    synced_ms: i64,
}

/// What an answer to a poll says of guest commands.
#[derive(Debug, Default, PartialEq)]
pub struct Said {
    /// Orders that the agent does not have.
    pub commands: Vec<CommandOrder>,
    /// Those of its commands that are to be ended.
    pub cancel: Vec<CommandId>,
}

impl Said {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.cancel.is_empty()
    }

    /// Everything it is about.
    pub fn ids(&self) -> Vec<CommandId> {
        self.commands.iter().map(|order| order.id.clone()).chain(self.cancel.iter().cloned()).collect()
    }
}

impl Order {
    /// The order of a recorded command.
    #[must_use]
    pub fn new(record: &CommandRecord) -> Self {
        let order = CommandOrder {
            id: record.id.clone(),
            command: record.command.clone(),
            args: record.args.clone(),
            timeout_s: record.timeout_s,
            begin_within_ms: 0,
            idempotent: record.idempotent,
            files: record.files.clone(),
        };
        Self {
            order,
            deadline_ms: record.deadline_ms,
            running: record.standing == CommandStanding::Running,
            cancelling: record.cancelling,
            told: 0,
            again_ms: 0,
        }
    }

    /// Whether the agent has to be told of it, now or later.
    fn concerns(&self, named: &BTreeSet<&CommandId>, now_ms: i64) -> bool {
        if named.contains(&self.order.id) {
            self.cancelling
        } else {
            !self.running && !self.cancelling && self.deadline_ms > now_ms
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.order.id == other.order.id && self.running == other.running && self.cancelling == other.cancelling
    }

    /// Takes over what is known only here of the one it takes the place of.
    fn after(mut self, old: &[Self]) -> Self {
        if let Some(old) = old.iter().find(|old| self.same(old)) {
            (self.told, self.again_ms) = (old.told, old.again_ms);
        }
        self
    }
}

impl Orders {
    /// When they were read last, Unix ms.
    pub fn synced_ms(&self) -> i64 {
        self.synced_ms
    }

    /// Whether this one is known, and known to stand so.
    pub fn has(&self, id: &CommandId, running: bool, cancelling: bool) -> bool {
        self.list.iter().any(|o| o.order.id == *id && o.running == running && o.cancelling == cancelling)
    }

    /// Whether this one is known to run on the node.
    pub fn runs(&self, id: &CommandId) -> bool {
        self.list.iter().any(|order| order.order.id == *id && order.running)
    }

    /// Whether this one is known.
    pub fn knows(&self, id: &CommandId) -> bool {
        self.list.iter().any(|order| order.order.id == *id)
    }

    /// The size of a file that one of them needs.
    pub fn file(&self, sha256: &str) -> Option<(Digest, u64)> {
        let files = self.list.iter().flat_map(|order| &order.order.files);
        files.into_iter().find(|f| f.sha256.as_str() == sha256).map(|file| (file.sha256.clone(), file.size))
    }

    /// What to tell an agent that names these, now.
    pub fn say(&self, named: &[CommandId], now_ms: i64) -> Said {
        let named = named.iter().collect();
        let mut said = Said::default();
        for order in self.list.iter().filter(|o| o.concerns(&named, now_ms) && o.again_ms <= now_ms).take(OFFERED_MAX) {
            if order.cancelling {
                said.cancel.push(order.order.id.clone());
            } else {
                let left = (order.deadline_ms - now_ms).unsigned_abs();
                said.commands.push(CommandOrder { begin_within_ms: left, ..order.order.clone() });
            }
        }
        said
    }

    /// When there may be something to tell it, if nothing changes.
    pub fn again_ms(&self, named: &[CommandId], now_ms: i64) -> Option<i64> {
        let named = named.iter().collect();
        self.list.iter().filter(|order| order.concerns(&named, now_ms)).map(|order| order.again_ms).min()
    }

    pub(super) fn put(&mut self, order: Order, ticket: u64) -> bool {
        let list = Arc::make_mut(&mut self.list);
        let order = order.after(list);
        match list.iter_mut().find(|there| there.order.id == order.order.id) {
            Some(there) => *there = order,
            None => list.push(order),
        }
        self.ticket = self.ticket.max(ticket);
        true
    }

    pub(super) fn set(&mut self, orders: Vec<Order>, ticket: u64, now_ms: i64) -> bool {
        if ticket < self.ticket {
            return false;
        }
        (self.ticket, self.synced_ms) = (ticket, now_ms);
        let same = orders.len() == self.list.len() && orders.iter().zip(self.list.iter()).all(|(a, b)| a.same(b));
        if !same {
            self.list = Arc::new(orders.into_iter().map(|order| order.after(&self.list)).collect());
        }
        !same
    }

    pub(super) fn remove(&mut self, ids: &[CommandId], ticket: u64) -> bool {
        self.ticket = self.ticket.max(ticket);
        if !ids.iter().any(|id| self.knows(id)) {
            return false;
        }
        Arc::make_mut(&mut self.list).retain(|order| !ids.contains(&order.order.id));
        true
    }

    pub(super) fn told(&mut self, ids: &[CommandId], now_ms: i64) {
        for order in Arc::make_mut(&mut self.list).iter_mut().filter(|order| ids.contains(&order.order.id)) {
            order.told += 1;
            let doublings = order.told.saturating_sub(2).min(5);
            let pause = if order.told < 2 { 0 } else { (PAUSE_MS << doublings).min(PAUSE_MS_MAX) };
            order.again_ms = now_ms + pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, standing: CommandStanding, cancelling: bool) -> CommandRecord {
        CommandRecord {
            id: id.into(),
            batch: None,
            operation: None,
            tenant: String::new(),
            topology: "t".into(),
            component: "c".into(),
            node: "n".into(),
            node_name: String::new(),
            command: "a/b".to_owned(),
            args: serde_json::Map::new(),
            files: Vec::new(),
            timeout_s: 1,
            idempotent: false,
            by: String::new(),
            created_ms: 0,
            deadline_ms: 100_000,
            standing,
            held: false,
            cancelling,
            started_ms: None,
            ended_ms: None,
            end: None,
            assumed: false,
            output_bytes: 0,
        }
    }

    #[test]
    fn an_order_is_offered_until_it_is_named_and_with_growing_pauses() {
        use CommandStanding::{Queued, Running};
        let mut orders = Orders::default();
        orders.put(Order::new(&record("a", Queued, false)), 1);
        let ids = |said: Said| said.ids().into_iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!(orders.say(&[], 0).commands[0].begin_within_ms, 100_000);
        assert_eq!(ids(orders.say(&["a".into()], 0)), [""; 0], "it has it");
        assert_eq!(ids(orders.say(&[], 100_000)), [""; 0], "too late");
        for (now, again) in [(0, 0), (0, 1_000), (1_000, 3_000), (3_000, 7_000)] {
            assert_eq!(ids(orders.say(&[], now)), ["a"]);
            orders.told(&["a".into()], now);
            assert_eq!(orders.again_ms(&[], now), Some(again));
        }
        // a sync that was begun before the order was put does not lose it; one begun later does not forget the pauses
        assert!(!orders.set(Vec::new(), 0, 5) && orders.knows(&"a".into()));
        assert!(!orders.set(vec![Order::new(&record("a", Queued, false))], 2, 5));
        assert_eq!(ids(orders.say(&[], 6_999)), [""; 0]);
        // to be ended: at once, and only if the agent has it
        assert!(orders.put(Order::new(&record("a", Running, true)), 3));
        assert_eq!((ids(orders.say(&["a".into()], 0)), ids(orders.say(&[], 0))), (vec!["a".to_owned()], vec![]));
        assert!(orders.remove(&["a".into()], 4) && !orders.set(vec![Order::new(&record("a", Queued, false))], 3, 9));
        assert!(!orders.knows(&"a".into()), "what was read before the end does not bring it back");
    }
}
