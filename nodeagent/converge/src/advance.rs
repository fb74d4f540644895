//! What comes next, if nothing is under way.
//!
//! In this order: a start or stop that is owed, scripts and files, a start after a failed look, the
//! next stage, a look at the service, a look for drift.
//!
//! Never here: what the end of it changes.

use crate::action::{Action, Now, RunOrder, Task};
use crate::converger::{Converger, Placed, Run, Work};
use crate::drift;
use crate::ledger::{Head, LedgerChange, StageRecord};
use crate::outlook::{Outlook, allows};
use straas_schemas::assignment::Limits;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage};

/// Limits of `start.sh` and `stop.sh` where the assignment has no config stage to take them from:
/// a database may need minutes to replay or write its log.
const SERVICE_LIMITS: Limits = Limits { total_s: 300, no_progress_s: 300 };

impl Converger {
    /// Decides what comes next, if nothing is under way.
    pub(crate) fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        let known = self.outlook();
        if let (Some(known), Some(assignment)) = (known, self.ledger.assignment.take()) {
            self.advance_to(now, &assignment, &known, out);
            self.ledger.assignment = Some(assignment);
        }
    }

    fn advance_to(&mut self, now: Now, assignment: &Assignment, known: &Outlook, out: &mut Vec<Action>) {
        match &self.work {
            Work::Running(run) if !self.still_wanted(run, assignment, known) => {
                let run = run.order.id;
                self.work = Work::Killing(run);
                out.push(Action::Kill { run });
            }
            _ => {}
        }
        if self.work != Work::Idle {
            return;
        }
        let running = assignment.lifecycle == Lifecycle::Running;
        if running && self.starts_first(now, assignment, known) {
            return self.service_run(now, assignment, Task::Start, out);
        }
        if !running && self.stops_first(now, out) {
            return self.service_run(now, assignment, Task::Stop, out);
        }
        if !self.is_in_place(assignment) {
            if !self.reached(now, self.fetch.at) {
                return;
            }
            self.fetch.id += 1;
            // from now on nobody knows what is active, even if this fetch is superseded
            self.ready = None;
            self.work = Work::Fetching;
            let Placed { scripts, files, hosts } = Placed::of(assignment);
            return out.push(Action::Fetch { fetch: self.fetch.id, scripts, files, hosts });
        }
        if let Some(at) = self.restart_at.filter(|_| running)
            && self.reached(now, at)
        {
            return self.service_run(now, assignment, Task::Start, out);
        }
        match &known.next {
            Some((stage, digest)) => {
                let at = self.due_at(*stage, digest);
                if self.passes(assignment, *stage, digest) && self.reached(now, at) {
                    return self.stage_run(now, assignment, *stage, digest, false, out);
                }
            }
            None if running || self.ledger.head.halted => self.converged(now, assignment.generation, out),
            None => {}
        }
        let gate = assignment.order(Stage::Validate).map_or(&Gate::Open, |order| &order.gate);
        if let Some(digest) = known.monitor.as_ref().filter(|digest| allows(gate, digest))
            && self.reached(now, self.monitor_at)
        {
            return self.stage_run(now, assignment, Stage::Validate, digest, true, out);
        }
        if let Some(order) = self.drift_due(now, assignment, known) {
            self.run(now, order, false, assignment, out);
        }
    }

    /// Whether the service has to be started before anything else. After a reboot, at once and with
    /// what is configured. If it was stopped by order, nothing runs that a configuration could
    /// disturb: then it comes up with the newest one, unless that cannot be applied now.
    fn starts_first(&self, now: Now, assignment: &Assignment, known: &Outlook) -> bool {
        if !self.ledger.head.start_owed || !self.any_scripts {
            return false;
        }
        if !self.ledger.head.halted {
            return true;
        }
        if !self.is_in_place(assignment) {
            return self.fetch.failures > 0;
        }
        let configures = |(stage, digest): &(Stage, Digest)| {
            *stage <= Stage::Config
                && self.passes(assignment, *stage, digest)
                && self.due_at(*stage, digest) <= now.mono_ms
        };
        !known.next.as_ref().is_some_and(configures)
    }

    /// Whether the service has to be stopped before anything else. One that keeps failing must not
    /// keep back the scripts that may mend it.
    fn stops_first(&mut self, now: Now, out: &mut Vec<Action>) -> bool {
        if self.ledger.head.halted {
            return false;
        }
        if !self.was_configured() {
            // nothing was ever started here
            self.service = ServiceStatus::Inactive;
            let changes = vec![LedgerChange::Head(Head { halted: true, ..self.ledger.head.clone() })];
            self.apply(&changes);
            out.push(Action::Persist(changes));
            return false;
        }
        self.any_scripts && self.reached(now, self.service_retry.1)
    }

    /// Whether a run of `config` ever began, so that there may be a service.
    pub(crate) fn was_configured(&self) -> bool {
        self.ledger.stages.contains_key(&Stage::Config)
    }

    /// Whether scripts, files and names are those of the assignment.
    pub(crate) fn is_in_place(&self, assignment: &Assignment) -> bool {
        self.ready.as_ref().is_some_and(|placed| placed.is_of(assignment))
    }

    /// Whether a stage may run at this digest. A service that was stopped by order cannot be
    /// disturbed, so that needs no permit.
    pub(crate) fn passes(&self, assignment: &Assignment, stage: Stage, digest: &Digest) -> bool {
        let gate = assignment.order(stage).map_or(&Gate::Open, |order| &order.gate);
        allows(gate, digest) || (self.ledger.head.halted && matches!(gate, Gate::Permit { .. }))
    }

    fn due_at(&self, stage: Stage, digest: &Digest) -> i64 {
        self.due.get(&stage).filter(|(of, _)| of == digest).map_or(i64::MIN, |(_, at)| *at)
    }

    /// Whether a run is still what the assignment wants.
    fn still_wanted(&self, run: &Run, assignment: &Assignment, known: &Outlook) -> bool {
        let is_next = |stage: Stage| known.next.as_ref() == Some(&(stage, run.order.digest.clone()));
        match run.order.task {
            Task::Start => assignment.lifecycle == Lifecycle::Running,
            Task::Stop => assignment.lifecycle == Lifecycle::Stopped,
            Task::Drift => {
                self.may_look(assignment, known) && drift::configured(&self.ledger) == Some(&run.order.digest)
            }
            Task::Stage(stage) if run.monitor => {
                // a look must not hold up work
                let work = known
                    .next
                    .as_ref()
                    .is_some_and(|(next, digest)| *next != stage && self.passes(assignment, *next, digest));
                is_next(stage) || (known.monitor.as_ref() == Some(&run.order.digest) && !work)
            }
            Task::Stage(stage) => is_next(stage),
        }
    }

    fn service_run(&mut self, now: Now, assignment: &Assignment, task: Task, out: &mut Vec<Action>) {
        if !self.reached(now, self.service_retry.1) {
            return;
        }
        let config = self.ledger.stages.get(&Stage::Config);
        let order = RunOrder {
            digest: config.map_or_else(|| Digest(String::new()), |record| record.digest.clone()),
            attempt: self.service_retry.0 + 1,
            limits: assignment.order(Stage::Config).map_or(SERVICE_LIMITS, |order| order.limits),
            ..self.order(task, assignment)
        };
        let mut changes = Vec::new();
        if task == Task::Start && self.ledger.head.halted {
            // it may be up from now on, even if this run is never heard of again
            changes.push(LedgerChange::Head(Head { halted: false, ..self.ledger.head.clone() }));
        }
        if task == Task::Stop {
            // what was seen before says nothing about the next start, however far the stop comes
            changes.extend(self.unseen());
        }
        if !changes.is_empty() {
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
        self.run(now, order, false, assignment, out);
    }

    fn stage_run(
        &mut self,
        now: Now,
        assignment: &Assignment,
        stage: Stage,
        digest: &Digest,
        monitor: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(order) = assignment.order(stage) else { return };
        let last = self.ledger.stages.get(&stage);
        let before = last.filter(|record| record.digest == *digest);
        let attempt = before.filter(|r| r.outcome != Some(Outcome::Succeeded)).map_or(1, |r| r.attempt + 1);
        // after a start or a change it has to settle until `validate` succeeds once
        let settled = monitor && !self.settling && before.is_some_and(|r| r.outcome == Some(Outcome::Succeeded));
        // what the very first run starts needs no restart, however many were asked for before
        let restarts = last.map_or(assignment.restarts, |record| record.restarts);
        // `validate` changes nothing on the node, so a crash in the middle of it leaves nothing to
        // remember; of the others it must be known that they had begun.
        if stage != Stage::Validate {
            let failures = before.map_or(0, |record| record.failures);
            let record = StageRecord::begun(digest, attempt, failures, restarts);
            let mut changes = vec![LedgerChange::Stage(stage, Box::new(record))];
            if stage == Stage::Config {
                self.config_begins(&mut changes);
            }
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
        let order = RunOrder {
            digest: digest.clone(),
            attempt,
            limits: order.limits,
            restart: stage == Stage::Config && restarts != assignment.restarts,
            settled,
            ..self.order(Task::Stage(stage), assignment)
        };
        self.run(now, order, monitor, assignment, out);
    }

    /// Whatever `validate` found is not known any more: it has to run before the node has what it should have.
    pub(crate) fn unseen(&self) -> Option<LedgerChange> {
        let validated = self.ledger.stages.get(&Stage::Validate).filter(|record| record.outcome.is_some())?;
        Some(LedgerChange::Stage(
            Stage::Validate,
            Box::new(StageRecord { outcome: None, attempt: 0, ..validated.clone() }),
        ))
    }

    /// What else `config` makes untrue.
    fn config_begins(&mut self, changes: &mut Vec<LedgerChange>) {
        // Puppet starts the service itself
        self.restart_at = None;
        self.drift_at = None;
        // what was validated before says nothing of what is configured now
        changes.extend(self.unseen());
        let looked = self.ledger.drift.as_ref().filter(|record| record.current);
        changes
            .extend(looked.map(|r| LedgerChange::Drift(Box::new(crate::DriftRecord { current: false, ..r.clone() }))));
        let head = &self.ledger.head;
        if head.halted || head.start_owed {
            changes.push(LedgerChange::Head(Head { halted: false, start_owed: false, ..head.clone() }));
        }
    }

    /// An order with what all of them share.
    pub(crate) fn order(&mut self, task: Task, assignment: &Assignment) -> RunOrder {
        let rendered = self.ledger.stages.get(&Stage::PreConfig).and_then(|record| record.output.clone());
        RunOrder {
            id: self.run_id(),
            task,
            digest: Digest(String::new()),
            attempt: 1,
            generation: assignment.generation,
            limits: SERVICE_LIMITS,
            rendered: rendered.filter(|_| matches!(task, Task::Drift | Task::Stage(Stage::Config | Stage::Validate))),
            restart: false,
            settled: false,
        }
    }

    fn run(&mut self, now: Now, order: RunOrder, monitor: bool, assignment: &Assignment, out: &mut Vec<Action>) {
        let run = Run { order: order.clone(), monitor, restarts: assignment.restarts, since_ms: now.mono_ms };
        self.work = Work::Running(run);
        out.push(Action::Run(order));
    }

    fn converged(&mut self, now: Now, generation: u64, out: &mut Vec<Action>) {
        if self.ledger.head.converged >= generation {
            return;
        }
        let mut changes = Vec::new();
        self.report(now, generation, ReportBody::Converged { generation }, &mut changes);
        changes.push(LedgerChange::Head(Head { converged: generation, ..self.ledger.head.clone() }));
        self.apply(&changes[changes.len() - 1..]);
        out.extend([Action::Persist(changes), Action::Send]);
    }
}
