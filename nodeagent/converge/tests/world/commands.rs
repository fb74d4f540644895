//! Guest commands in the ghost world: what the controller ordered, which processes really ran.

use super::World;
use std::collections::{BTreeMap, BTreeSet};
use straas_converge::{
    COMMANDS_AT_ONCE, CommandFate, CommandPhase, CommandResult, CommandRun, Event, FORGET_MARGIN_MS, Ledger, RunId,
};
use straas_schemas::CommandId;
use straas_schemas::command::{CommandEnd, CommandOrder, CommandOutcome};
use straas_schemas::report::ReportBody;

/// Everything that is true of guest commands.
#[derive(Default)]
pub struct Guests {
    /// What the controller ordered.
    orders: BTreeMap<CommandId, CommandOrder>,
    /// When the agent was first offered it.
    offered: BTreeMap<CommandId, i64>,
    /// Commands a user wants to end.
    cancels: BTreeSet<CommandId>,
    processes: BTreeMap<RunId, Process>,
    /// Times that a process of it was really started.
    starts: BTreeMap<CommandId, u32>,
    /// Times that the agent died while its journal said that it had begun.
    crashes: BTreeMap<CommandId, u32>,
    fates: BTreeMap<CommandId, Vec<CommandFate>>,
    ends: BTreeMap<CommandId, CommandEnd>,
    /// The newest start of the agent.
    restart: i64,
}

struct Process {
    command: CommandId,
    missing: bool,
    killed: bool,
}

impl Guests {
    pub fn are_running(&self) -> bool {
        !self.processes.is_empty()
    }

    pub fn is_running(&self, run: RunId) -> bool {
        self.processes.contains_key(&run)
    }

    /// Whether it was a command's.
    pub fn kill(&mut self, run: RunId) -> bool {
        let Some(process) = self.processes.get_mut(&run) else { return false };
        assert!(self.cancels.contains(&process.command), "{} is ended, nobody wants it", process.command);
        process.killed = true;
        true
    }

    pub fn crash(&mut self, disk: &Ledger, now: i64) {
        self.processes.clear();
        self.restart = now;
        for record in disk.commands.values() {
            if matches!(record.phase, CommandPhase::Begun { .. }) {
                *self.crashes.entry(record.id.clone()).or_default() += 1;
            }
        }
    }

    /// An end is about to become durable: the only one, and true.
    pub fn check_end(&mut self, end: &CommandEnd) {
        let id = &end.id;
        assert!(self.ends.insert(id.clone(), end.clone()).is_none(), "{id} ends twice");
        let fates = self.fates.get(id).map_or(&[][..], Vec::as_slice);
        let starts = self.starts.get(id).copied().unwrap_or(0);
        let right = match end.outcome {
            CommandOutcome::Succeeded => fates.contains(&CommandFate::Succeeded),
            CommandOutcome::Failed => fates.iter().any(|f| matches!(f, CommandFate::Failed | CommandFate::Missing)),
            CommandOutcome::Cancelled => self.cancels.contains(id),
            CommandOutcome::Expired => starts == 0,
            CommandOutcome::Unknown => self.crashes.contains_key(id),
        };
        assert!(right, "{id} was begun {starts} times and ended {fates:?}; that is not {end:?}");
    }
}

impl World {
    /// Orders something, again or anew, wants something ended, or both.
    pub(super) fn command(&mut self) {
        let mut orders = Vec::new();
        for _ in 0..self.dice.below(3) {
            let id = CommandId(format!("c-{}", self.guests.orders.len()));
            let order = CommandOrder {
                id: id.clone(),
                command: "assist-cmd/x".into(),
                args: serde_json::Map::new(),
                timeout_s: 5,
                begin_within_ms: [0, 1_000, 20_000][self.dice.below(3) as usize],
                idempotent: self.dice.below(3) == 0,
                files: Vec::new(),
            };
            self.guests.orders.insert(id, order.clone());
            orders.push(order);
        }
        // an answer that was long on its way, or a controller that is behind
        for _ in 0..self.dice.below(3) {
            if let Some(order) = self.any_command().filter(|order| self.may_come(order)) {
                orders.push(order);
            }
        }
        let mut cancel = Vec::new();
        if self.dice.below(4) == 0
            && let Some(order) = self.any_command()
        {
            self.guests.cancels.insert(order.id.clone());
            cancel.push(order.id);
        }
        for order in &orders {
            self.guests.offered.entry(order.id.clone()).or_insert(self.now);
        }
        self.hand(Event::Commanded { orders, cancel });
        let taken = &self.agent.ledger().commands;
        self.guests.offered.retain(|id, at| *at < self.now || taken.contains_key(id));
    }

    /// It was decided, just now, to begin this.
    pub(super) fn check_in_time(&self, run: &CommandRun) {
        let id = &run.order.id;
        let (first, repeated) = (self.guests.offered[id], self.guests.crashes.contains_key(id));
        let late = self.now - first >= run.order.begin_within_ms as i64;
        assert!(!late || repeated || self.guests.restart >= first, "{id} begins after its deadline");
    }

    fn any_command(&mut self) -> Option<CommandOrder> {
        let count = self.guests.orders.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.dice.below(count) as usize;
        self.guests.orders.values().nth(at).cloned()
    }

    /// Whether an order may still be on its way: what the agent has to be prepared for. After a
    /// start of the agent, with a clock that may be wrong, it is the margin alone.
    fn may_come(&self, order: &CommandOrder) -> bool {
        let Some(first) = self.guests.offered.get(&order.id) else { return true };
        let deadline = first + order.begin_within_ms as i64;
        let since = if self.guests.restart >= *first { deadline.min(self.guests.restart) } else { deadline };
        self.now < since + FORGET_MARGIN_MS
    }

    /// A process is started.
    pub(super) fn begin(&mut self, run: CommandRun) {
        let id = &run.order.id;
        let record = self.disk.commands.get(id).expect("begins what is not in the journal");
        assert!(matches!(record.phase, CommandPhase::Begun { .. }), "begins before the journal says so");
        assert_eq!(record.runs, run.attempt);
        assert_eq!(run.order, self.guests.orders[id], "not what was ordered");
        assert!(self.guests.processes.len() < COMMANDS_AT_ONCE, "too many at once");
        assert!(!self.guests.ends.contains_key(id), "{id} begins after its end");
        assert!(self.active.is_some(), "no scripts");
        let assignment = self.disk.assignment.as_ref().expect("a role to run for");
        let missing = self.active.as_ref() != Some(&assignment.scripts) && self.dice.below(2) == 0;
        if !missing {
            let starts = self.guests.starts.entry(id.clone()).or_default();
            *starts += 1;
            let crashes = self.guests.crashes.get(id).copied().unwrap_or(0);
            assert!(*starts == 1 || run.order.idempotent, "{id} is run twice");
            assert!(*starts <= 1 + crashes, "{id} is run again for no reason");
        }
        let process = Process { command: id.clone(), missing, killed: false };
        assert!(self.guests.processes.insert(run.id, process).is_none());
    }

    pub(super) fn end_of_command(&mut self) {
        let count = self.guests.processes.len() as u64;
        if count == 0 {
            return;
        }
        let at = self.dice.below(count) as usize;
        let run = *self.guests.processes.keys().nth(at).unwrap();
        let process = self.guests.processes.remove(&run).unwrap();
        let fate = match self.dice.below(3) {
            _ if process.missing => CommandFate::Missing,
            0 if process.killed => CommandFate::Killed,
            1 => CommandFate::Failed,
            _ => CommandFate::Succeeded,
        };
        self.guests.fates.entry(process.command.clone()).or_default().push(fate);
        let result = CommandResult {
            fate,
            exit_code: None,
            reason: String::new(),
            hint: None,
            duration_ms: 1,
            result: serde_json::Map::new(),
            output_bytes: 0,
        };
        let event = Event::Ended { run, command: process.command, result: Box::new(result) };
        self.past.push(event.clone());
        self.hand(event);
    }

    /// After each write: what the journal says ended has been told, or will be.
    pub(super) fn journal_holds(&self) {
        for record in self.disk.commands.values() {
            if let CommandPhase::Ended { seq } = record.phase {
                let told = self.disk.outbox.contains_key(&seq) || self.received.contains_key(&seq);
                assert!(told, "{} ended, and nobody will ever know", record.id);
            }
        }
    }

    pub(super) fn check_forgotten(&self, id: &CommandId) {
        let known = self.received.values().any(|r| matches!(&r.body, ReportBody::Command(end) if end.id == *id));
        assert!(known, "{id} is forgotten, its end is not known");
        assert!(!self.may_come(&self.guests.orders[id]), "{id} is forgotten, and could still be offered");
    }

    /// In the end each command that was taken has ended, and the journal is empty after a while.
    pub(super) fn commands_settled(&mut self) {
        let open: Vec<_> = self.disk.commands.values().filter(|record| record.is_open()).collect();
        assert!(open.is_empty(), "still open: {open:?}");
        for id in self.guests.starts.keys() {
            assert!(self.guests.ends.contains_key(id), "{id} ran and was lost");
        }
        self.now += 10_000_000;
        self.hand(Event::Tick);
        while !self.queue.is_empty() {
            self.act();
        }
        assert!(self.disk.commands.is_empty(), "the journal grows: {:?}", self.disk.commands);
    }
}
