//! Guest commands: beside the stages, in the order of their receipt, a few at once, each at most
//! once.
//!
//! * What begins is in the journal before, what ended is there together with its report.
//! * A command that was offered before is known by its id, however late it comes again.
//! * Its deadline counts from its receipt, on the clock that never goes back, also over a restart of
//!   the agent. After a reboot, what the other clock says is left of it, and never more than all of it.
//! * After a crash in the middle it is `unknown`, or is run again if it is idempotent.
//! * It runs with the scripts of the newest assignment, or with older ones while those cannot be
//!   had. If these lack its script, it waits for the right ones.
//!
//! Never here: what is in the journal (`journal.rs`), how a command runs (`nodeagent/src/commands`).

use crate::action::{Action, CommandFate, CommandResult, CommandRun, Now, RunId};
use crate::converger::{Converger, Work};
use crate::journal::{COMMAND_RUNS_MAX, COMMANDS_AT_ONCE, CommandPhase, CommandRecord, FORGET_MARGIN_MS, JOURNAL_MAX};
use crate::ledger::LedgerChange;
use serde_json::Map;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::CommandId;
use straas_schemas::command::{COMMAND_SECONDS_MAX, COMMANDS_WAITING_MAX, CommandEnd, CommandOrder, CommandOutcome};
use straas_schemas::ids::is_id;
use straas_schemas::report::ReportBody;

/// Longest deadline, in ms.
const WITHIN_MS_MAX: u64 = COMMAND_SECONDS_MAX as u64 * 1_000;

/// What need not survive a crash.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    running: BTreeMap<CommandId, Running>,
    times: BTreeMap<CommandId, Times>,
    /// The scripts that were active when they began lack these.
    missing: BTreeSet<CommandId>,
    /// How long the host was up at the zero of [`Now::mono_ms`], in ms.
    up_ms: i64,
}

#[derive(Debug)]
struct Running {
    run: RunId,
    /// It began with the scripts of the newest assignment.
    in_place: bool,
}

/// By the clock that never goes back.
#[derive(Clone, Copy, Debug)]
struct Times {
    begin_by: i64,
    forget_at: i64,
}

impl Commands {
    pub(crate) fn since(up_ms: i64) -> Self {
        Self { up_ms, ..Self::default() }
    }

    /// Time since the host came up, in ms.
    const fn up(&self, now: Now) -> i64 {
        self.up_ms.saturating_add(now.mono_ms)
    }
}

impl Converger {
    /// Whether nothing runs: no stage, no start or stop, no fetch, no guest command.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.work == Work::Idle && self.commands.running.is_empty()
    }

    /// Commands that are still open: for the next poll.
    #[must_use]
    pub fn open_commands(&self) -> Vec<CommandId> {
        let open = self.ledger.commands.values().filter(|record| record.is_open());
        open.map(|record| record.id.clone()).collect()
    }

    /// Whether this run of a command may still begin: the ledger may have let it wait for long. One that began in time
    /// may be repeated later.
    #[must_use]
    pub fn may_begin(&self, now: Now, run: &CommandRun) -> bool {
        run.attempt > 1 || self.commands.times.get(&run.order.id).is_some_and(|times| now.mono_ms < times.begin_by)
    }

    /// Takes up the journal after a start of the agent.
    pub(crate) fn resume_commands(&mut self, now: Now, rebooted: bool, changes: &mut Vec<LedgerChange>) {
        let up = self.commands.up(now);
        for mut record in self.ledger.commands.clone().into_values() {
            let by_up = record.begin_by_up_ms.filter(|_| !rebooted).map(|by| by.saturating_sub(up));
            let left =
                by_up.unwrap_or_else(|| record.begin_by_ms.saturating_sub(now.unix_ms)).clamp(0, record.within_ms);
            if by_up.is_none() {
                record.begin_by_up_ms = Some(up.saturating_add(left));
                if record.is_open() {
                    self.record(record.clone(), changes);
                }
            }
            self.commands.times.insert(record.id.clone(), times(now, left));
            let CommandPhase::Begun { order, cancelled } = &record.phase else { continue };
            let again = order.idempotent && record.runs < COMMAND_RUNS_MAX;
            let (outcome, reason) = match (*cancelled, order.idempotent) {
                (true, _) => (CommandOutcome::Cancelled, "ended by a user; the agent ended meanwhile".to_owned()),
                (false, true) if again => {
                    let queued = CommandRecord { phase: CommandPhase::Queued(order.clone()), ..record };
                    self.record(queued, changes);
                    continue;
                }
                (false, true) => (
                    CommandOutcome::Unknown,
                    format!("it was begun {} times, and each time the agent ended in the middle of it", record.runs),
                ),
                (false, false) => (
                    CommandOutcome::Unknown,
                    "the agent ended in the middle of it: it may or may not have done its work".to_owned(),
                ),
            };
            self.end(now, record, CommandEnd { outcome, reason, ..nothing() }, changes);
        }
    }

    pub(crate) fn commanded(
        &mut self,
        now: Now,
        orders: Vec<CommandOrder>,
        cancel: &[CommandId],
        out: &mut Vec<Action>,
    ) {
        let mut changes = Vec::new();
        let acknowledged = |record: &CommandRecord| match record.phase {
            CommandPhase::Ended { seq } => !self.ledger.outbox.contains_key(&seq),
            _ => false,
        };
        let mut open = self.ledger.commands.values().filter(|record| !acknowledged(record)).count();
        for order in orders {
            // what is not taken now is offered again
            let room = open < COMMANDS_WAITING_MAX && self.ledger.commands.len() < JOURNAL_MAX;
            if self.ledger.commands.contains_key(&order.id) || !room || !is_id(order.id.as_str()) {
                continue;
            }
            open += 1;
            let within_ms = i64::try_from(order.begin_within_ms.min(WITHIN_MS_MAX)).unwrap_or(i64::MAX);
            self.commands.times.insert(order.id.clone(), times(now, within_ms));
            let number = self.ledger.commands.values().map(|record| record.number).max().unwrap_or(0) + 1;
            let record = CommandRecord {
                id: order.id.clone(),
                number,
                within_ms,
                begin_by_ms: now.unix_ms.saturating_add(within_ms),
                begin_by_up_ms: Some(self.commands.up(now).saturating_add(within_ms)),
                runs: 0,
                phase: CommandPhase::Queued(Box::new(order)),
            };
            self.record(record, &mut changes);
        }
        let mut kill = Vec::new();
        for id in cancel {
            let Some(record) = self.ledger.commands.get(id).cloned() else { continue };
            match &record.phase {
                CommandPhase::Queued(_) => {
                    let reason = "ended by a user before it began".to_owned();
                    let end = CommandEnd { outcome: CommandOutcome::Cancelled, reason, ..nothing() };
                    self.end(now, record, end, &mut changes);
                }
                CommandPhase::Begun { order, cancelled: false } => {
                    let phase = CommandPhase::Begun { order: order.clone(), cancelled: true };
                    self.record(CommandRecord { phase, ..record }, &mut changes);
                    kill.extend(self.commands.running.get(id).map(|running| Action::Kill { run: running.run }));
                }
                CommandPhase::Begun { .. } | CommandPhase::Ended { .. } => {}
            }
        }
        self.begin_commands(now, changes, out);
        out.extend(kill);
    }

    pub(crate) fn command_ended(
        &mut self,
        now: Now,
        run: RunId,
        id: &CommandId,
        result: CommandResult,
        out: &mut Vec<Action>,
    ) {
        if self.commands.running.get(id).is_none_or(|running| running.run != run) {
            return;
        }
        let in_place = self.commands.running.remove(id).is_some_and(|running| running.in_place);
        let Some(record) = self.ledger.commands.get(id).cloned() else { return };
        let CommandPhase::Begun { order, cancelled } = &record.phase else { return };
        let mut changes = Vec::new();
        let outcome = match result.fate {
            CommandFate::Missing if !in_place && !cancelled => {
                // nothing was run, so it is as if it had not begun
                self.commands.missing.insert(id.clone());
                let (phase, runs) = (CommandPhase::Queued(order.clone()), record.runs.saturating_sub(1));
                self.record(CommandRecord { phase, runs, ..record }, &mut changes);
                return self.begin_commands(now, changes, out);
            }
            CommandFate::Killed | CommandFate::Missing | CommandFate::Late if *cancelled => CommandOutcome::Cancelled,
            CommandFate::Late => CommandOutcome::Expired,
            CommandFate::Succeeded => CommandOutcome::Succeeded,
            CommandFate::Failed | CommandFate::Killed | CommandFate::Missing => CommandOutcome::Failed,
        };
        let end = CommandEnd {
            id: id.clone(),
            outcome,
            exit_code: result.exit_code,
            reason: result.reason,
            hint: result.hint,
            duration_ms: result.duration_ms,
            result: result.result,
            output_bytes: result.output_bytes,
        };
        self.end(now, record, end, &mut changes);
        self.begin_commands(now, changes, out);
    }

    /// Lets expire, begins and forgets what is due.
    pub(crate) fn advance_commands(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.ledger.commands.is_empty() {
            self.begin_commands(now, Vec::new(), out);
        }
    }

    /// One `Persist` for `changes`, which are applied already, and all that follows from them.
    fn begin_commands(&mut self, now: Now, mut changes: Vec<LedgerChange>, out: &mut Vec<Action>) {
        self.forget(now, &mut changes);
        let mut queue: Vec<(u64, CommandId)> = Vec::new();
        for record in self.ledger.commands.values() {
            if matches!(record.phase, CommandPhase::Queued(_)) {
                queue.push((record.number, record.id.clone()));
            }
        }
        queue.sort();
        let (scripts, in_place) = self.scripts_for_commands();
        let mut begun = Vec::new();
        for (_, id) in queue {
            let Some(record) = self.ledger.commands.get(&id).cloned() else { continue };
            let CommandPhase::Queued(order) = &record.phase else { continue };
            let begin_by = self.commands.times.get(&id).map_or(now.mono_ms, |times| times.begin_by);
            let missing = self.commands.missing.contains(&id) && !in_place;
            // a run that began in time may be repeated later
            if record.runs == 0 && begin_by <= now.mono_ms {
                let reason = match (scripts, missing) {
                    (true, false) => "other commands were running until its deadline".to_owned(),
                    _ => "the scripts that it needs were not on this node before its deadline".to_owned(),
                };
                let end = CommandEnd { outcome: CommandOutcome::Expired, reason, ..nothing() };
                self.end(now, record, end, &mut changes);
            } else if scripts && !missing && self.commands.running.len() < COMMANDS_AT_ONCE {
                let (order, attempt) = (order.clone(), record.runs + 1);
                let phase = CommandPhase::Begun { order: order.clone(), cancelled: false };
                self.record(CommandRecord { phase, runs: attempt, ..record }, &mut changes);
                let run = self.run_id();
                self.commands.missing.remove(&id);
                self.commands.running.insert(id, Running { run, in_place });
                begun.push(Action::Begin(Box::new(CommandRun { id: run, order: *order, attempt })));
            } else if record.runs == 0 {
                self.reached(now, begin_by);
            }
        }
        let send = changes.iter().any(|change| matches!(change, LedgerChange::Append(_)));
        if !changes.is_empty() {
            out.push(Action::Persist(changes));
        }
        out.extend(begun);
        out.extend(send.then_some(Action::Send));
    }

    /// Whether there are scripts to run commands with, and whether they are the newest assignment's.
    fn scripts_for_commands(&self) -> (bool, bool) {
        let Some(assignment) = &self.ledger.assignment else { return (false, false) };
        let in_place = self.is_in_place(assignment);
        // the first try to have the right ones is waited for, if it is not kept back itself
        let busy = matches!(self.work, Work::Running(_) | Work::Killing(_));
        (in_place || (self.any_scripts && (busy || self.fetch.failures > 0)), in_place)
    }

    /// Forgets what can be offered no more and is known to the controller.
    fn forget(&mut self, now: Now, changes: &mut Vec<LedgerChange>) {
        let over = |record: &&CommandRecord| match record.phase {
            CommandPhase::Ended { seq } => {
                let times = self.commands.times.get(&record.id);
                !self.ledger.outbox.contains_key(&seq) && times.is_none_or(|times| times.forget_at <= now.mono_ms)
            }
            _ => false,
        };
        let over: Vec<CommandId> = self.ledger.commands.values().filter(over).map(|record| record.id.clone()).collect();
        for id in over {
            self.commands.times.remove(&id);
            let change = LedgerChange::ForgetCommand(id);
            self.apply(std::slice::from_ref(&change));
            changes.push(change);
        }
    }

    /// Writes an end and its report.
    fn end(&mut self, now: Now, record: CommandRecord, end: CommandEnd, changes: &mut Vec<LedgerChange>) {
        self.commands.missing.remove(&record.id);
        let end = CommandEnd { id: record.id.clone(), ..end };
        self.report(now, self.ledger.generation(), ReportBody::Command(end), changes);
        let phase = CommandPhase::Ended { seq: self.ledger.head.last_seq };
        self.record(CommandRecord { phase, ..record }, changes);
    }

    fn record(&mut self, record: CommandRecord, changes: &mut Vec<LedgerChange>) {
        let change = LedgerChange::Command(Box::new(record));
        self.apply(std::slice::from_ref(&change));
        changes.push(change);
    }
}

const fn times(now: Now, left: i64) -> Times {
    let begin_by = now.mono_ms.saturating_add(left);
    Times { begin_by, forget_at: begin_by.saturating_add(FORGET_MARGIN_MS) }
}

/// The end of a command that did not run.
fn nothing() -> CommandEnd {
    CommandEnd {
        id: CommandId(String::new()),
        outcome: CommandOutcome::Unknown,
        exit_code: None,
        reason: String::new(),
        hint: None,
        duration_ms: 0,
        result: Map::new(),
        output_bytes: 0,
    }
}
