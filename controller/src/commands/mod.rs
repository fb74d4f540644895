//! Guest commands on their way: what is told to whom when one is queued, begins, ends.
//!
//! The store decides what becomes of a command; here whoever waits hears of it: the node's poll
//! (through its slot in the fleet), people who follow it, the topology's history. Everything is
//! level-triggered: who is told re-reads; `tasks/commands.rs` heals what was missed.

pub mod meta;

use crate::engine::Engine;
use crate::error::Error;
use crate::fleet::Order;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use straas_schemas::command::CommandStanding;
use straas_schemas::{CommandId, NodeId};
use straas_store::{CommandRecord, NewEvent};
use tokio::sync::{Notify, watch};

/// Most events of one batch of commands; beyond it, one tells of all.
const EVENTS_MAX: usize = 50;

/// What waits to be done about commands, and who waits to hear of them.
#[derive(Default)]
pub struct Commands {
    todo: Mutex<Todo>,
    notify: Notify,
    listeners: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// What `tasks/commands.rs` has to do.
#[derive(Default)]
pub struct Todo {
    /// Nodes are known to have these.
    pub started: BTreeSet<(NodeId, CommandId)>,
    /// Batches to bring forward.
    pub batches: BTreeSet<String>,
    /// Nodes where commands ended: their old ones are pruned.
    pub ended: BTreeSet<NodeId>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Commands {
    /// Adds to what has to be done.
    pub fn add(&self, add: impl FnOnce(&mut Todo)) {
        add(&mut locked(&self.todo));
        self.notify.notify_one();
    }

    /// Takes what has to be done.
    pub fn take(&self) -> Todo {
        std::mem::take(&mut *locked(&self.todo))
    }

    /// Ends when there is something to do, or deadlines have changed.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Hears of changes of a command or a batch.
    pub fn listen(&self, id: &str) -> watch::Receiver<()> {
        let mut listeners = locked(&self.listeners);
        listeners.retain(|_, listener| listener.receiver_count() > 0);
        listeners.entry(id.to_owned()).or_default().subscribe()
    }

    /// Tells who listens to a command or a batch that it has changed.
    pub fn touch(&self, id: &str) {
        if let Some(listener) = locked(&self.listeners).get(id) {
            listener.send_replace(());
        }
    }
}

impl Engine {
    /// Commands were queued, let go, started, cancelled, taken for ended: tells all who should know.
    pub async fn commands_changed(&self, records: &[CommandRecord]) {
        let now = self.now_ms();
        let ticket = self.fleet.ticket();
        let mut events = Vec::new();
        for record in records {
            let open = record.ended_ms.is_none() && !record.held;
            if open {
                self.fleet.order(&record.node, Order::new(record), ticket);
            } else {
                self.fleet.done(&record.node, std::slice::from_ref(&record.id));
            }
            self.commands.touch(record.id.as_str());
            if let Some(batch) = &record.batch {
                self.commands.touch(batch);
            }
            if record.standing.is_final() {
                self.metrics.command_ended(record.standing);
                self.ended(record);
            }
            events.push(event(record, now));
        }
        self.commands.notify.notify_one();
        if let (true, Some(first)) = (events.len() > EVENTS_MAX, events.first()) {
            let text = format!("{} and {} more like it", first.text, events.len() - 1);
            events = vec![NewEvent { text, node: None, ..first.clone() }];
        }
        if !records.is_empty() {
            self.bell.ring();
        }
        let topologies: BTreeSet<_> = records.iter().map(|record| &record.topology).collect();
        self.tell(&events).await;
        topologies.into_iter().for_each(|topology| self.wake.touch(topology));
    }

    /// What follows from the end of a command.
    fn ended(&self, record: &CommandRecord) {
        self.commands.add(|todo| {
            todo.batches.extend(record.batch.clone());
            todo.ended.insert(record.node.clone());
        });
        if record.operation.is_some() {
            self.wake.wake(&record.topology);
        }
    }

    /// Reports said that these commands of a node ended: as [`Self::commands_changed`], but for the
    /// event, which goes with the report's.
    ///
    /// # Errors
    /// The store cannot be read; a later look heals that.
    pub async fn commands_ended(&self, node: &NodeId, ids: &[CommandId]) -> Result<(), Error> {
        self.fleet.done(node, ids);
        self.bell.ring();
        for id in ids {
            self.commands.touch(id.as_str());
            let Some(record) = self.store.command(id).await? else { continue };
            if let Some(batch) = &record.batch {
                self.commands.touch(batch);
            }
            self.metrics.command_ended(record.standing);
            self.ended(&record);
        }
        Ok(())
    }

    /// Takes the orders of a node anew from the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sync_orders(&self, node: &NodeId) -> Result<(), Error> {
        let ticket = self.fleet.ticket();
        let waiting = self.store.waiting_commands(node).await?;
        self.fleet.set_orders(node, waiting.iter().map(Order::new).collect(), ticket, self.now_ms());
        Ok(())
    }
}

/// What happened to a command, in one sentence.
fn event(record: &CommandRecord, now: i64) -> NewEvent {
    let CommandRecord { id, command, node_name, .. } = record;
    let reason = record.end.as_ref().map_or("", |end| end.reason.as_str());
    let text = match record.standing {
        CommandStanding::Queued => format!("{node_name}: {command} is queued by {} ({id})", record.by),
        CommandStanding::Running if record.cancelling => format!("{node_name}: {command} is to be cancelled ({id})"),
        CommandStanding::Running => format!("{node_name}: {command} runs ({id})"),
        ended => format!("{node_name}: {command} is {}: {reason} ({id})", ended.name()),
    };
    NewEvent { at_ms: now, topology: record.topology.clone(), node: Some(record.node.clone()), kind: "command", text }
}
