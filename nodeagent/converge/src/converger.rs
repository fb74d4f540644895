//! The state machine of a node.
//!
//! ```text
//!            ┌────────────── an assignment with other scripts or files ──────────────┐
//!            ▼                                                                       │
//!   ┌──► Fetching ── activated ──► Idle ── a stage, start or stop is due ──► Running ┤
//!   └─ failed, later ─┘             ▲                                        │       │
//!                                   ├────────── finished ────────────────────┘       │ superseded
//!                                   └────────── finished (moves nothing) ◄── Killing ◄┘
//! ```
//! At most one thing is under way. After every event the same function, `advance`, looks at all
//! that is known and decides what comes next, so first run, retry, restart and reboot are one path.
//!
//! Never here: what to write when a run ends (`finish.rs`), what others are shown (`status.rs`).

use crate::action::{Action, Event, Now, RunId, RunOrder, Task};
use crate::backoff;
use crate::ledger::{Ledger, LedgerChange, StageRecord};
use crate::outbox;
use crate::outlook::{Outlook, allows, ended_as, fault, outlook};
use crate::status::Told;
use std::collections::BTreeMap;
use straas_schemas::assignment::Limits;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{Facts, Report, ReportBody};
use straas_schemas::{Assignment, Digest, FileRef, Gate, Lifecycle, NodeId, Outcome, Stage};

/// Limits of `start.sh` and `stop.sh` where the assignment has no config stage to take them from:
/// a database may need minutes to replay or write its log.
const SERVICE_LIMITS: Limits = Limits { total_s: 300, no_progress_s: 300 };

/// What the agent finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The node this agent enrolled as.
    pub node: NodeId,
    /// The host's boot id.
    pub boot_id: String,
    /// Whether any release of the scripts is checked out and active.
    pub scripts: bool,
    /// The ledger was damaged and set aside; why.
    pub ledger_lost: Option<String>,
}

/// Decides what a node does. See the module's picture.
#[derive(Debug)]
pub struct Converger {
    pub(crate) node: NodeId,
    pub(crate) ledger: Ledger,
    /// Content digest of the assignment in the ledger.
    pub(crate) content: Option<Digest>,
    pub(crate) work: Work,
    /// What is in place: scripts and files of some assignment.
    pub(crate) ready: Option<(String, Vec<FileRef>)>,
    /// Some release of the scripts is active, not necessarily the wanted one.
    pub(crate) any_scripts: bool,
    pub(crate) fetch: Fetch,
    /// Not before this time, at this digest.
    pub(crate) due: BTreeMap<Stage, (Digest, i64)>,
    pub(crate) monitor_at: i64,
    /// The service is to be started again because `validate` found it down.
    pub(crate) restart_at: Option<i64>,
    /// Failures of start or stop in a row, and not before when.
    pub(crate) service_retry: (u32, i64),
    pub(crate) service: ServiceStatus,
    pub(crate) facts: Facts,
    refused: Option<(u64, Digest)>,
    runs: u32,
    pub(crate) told: Option<Told>,
    known: Option<Outlook>,
    wake: Option<i64>,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Idle,
    Fetching,
    Running(Run),
    /// Waits for the end of a run that was superseded.
    Killing(RunId),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub order: RunOrder,
    /// A look at a settled service: it changes nothing unless the outcome differs.
    pub monitor: bool,
    pub since_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fetch {
    id: u64,
    pub failures: u32,
    pub at: i64,
    pub reason: String,
}

impl Converger {
    /// Takes up where the ledger ends. The actions come first, before those of any event.
    #[must_use]
    pub fn resume(ledger: Ledger, boot: Boot, now: Now) -> (Self, Vec<Action>) {
        let validated = ledger.stages.get(&Stage::Validate);
        let rebooted = ledger.head.boot_id != boot.boot_id;
        let held = validated.is_some_and(|record| record.outcome == Some(Outcome::Succeeded));
        let service = match (rebooted, held) {
            (false, true) => ServiceStatus::Active,
            _ => ServiceStatus::Unknown,
        };
        let mut this = Self {
            node: boot.node,
            content: ledger.assignment.as_ref().map(Assignment::content_digest),
            facts: validated.map(|record| record.facts.clone()).unwrap_or_default(),
            ledger,
            work: Work::Idle,
            ready: None,
            any_scripts: boot.scripts,
            fetch: Fetch::default(),
            due: BTreeMap::new(),
            monitor_at: now.mono_ms,
            restart_at: None,
            service_retry: (0, now.mono_ms),
            service,
            refused: None,
            runs: 0,
            told: None,
            known: None,
            wake: None,
        };
        let mut head = this.ledger.head.clone();
        head.epoch += 1;
        if rebooted {
            head.boot_id = boot.boot_id;
            head.start_owed |= this.ledger.assignment.as_ref().is_some_and(|assignment| {
                assignment.lifecycle == Lifecycle::Running
                    && assignment.autonomy.restart_service
                    && ended_as(&this.ledger, Stage::Config, Outcome::Succeeded)
            });
            // the host may start services of its own
            head.halted = false;
        }
        if boot.ledger_lost.is_some() {
            // The controller knows sequence numbers up to an unknown one; the time is above any
            // count of reports.
            head.last_seq = head.last_seq.max(u64::try_from(now.unix_ms).unwrap_or(0));
        }
        let mut out = Vec::new();
        let mut changes = vec![LedgerChange::Head(head.clone())];
        this.apply(&changes);
        if let Some(reason) = boot.ledger_lost {
            let generation = this.ledger.generation();
            this.report(now, generation, ReportBody::LedgerLost { reason }, &mut changes);
        }
        out.push(Action::Persist(changes));
        // A failed stage is not run at once again: an agent in a crash loop must not become a load.
        if let Some(assignment) = &this.ledger.assignment {
            let first = now.mono_ms + backoff::exponential(&assignment.timing, 1);
            for (stage, record) in &this.ledger.stages {
                if record.outcome == Some(Outcome::Failed) {
                    this.due.insert(*stage, (record.digest.clone(), first));
                }
            }
        }
        if !this.ledger.outbox.is_empty() {
            out.push(Action::Send);
        }
        this.advance(now, &mut out);
        this.tell(now, &mut out);
        (this, out)
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Offered(assignment) => self.offered(now, *assignment, &mut out),
            Event::Activated { fetch } => self.fetched(now, fetch, None),
            Event::FetchFailed { fetch, reason } => self.fetched(now, fetch, Some(reason)),
            Event::Finished { run, result } => self.finished(now, run, *result, &mut out),
            Event::Acknowledged { seq } => self.acknowledged(seq, &mut out),
            Event::Tick => {}
        }
        self.advance(now, &mut out);
        self.tell(now, &mut out);
        out
    }

    /// What is durable once all actions so far are done.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Content digest of the assignment in the ledger, for the next poll.
    #[must_use]
    pub const fn content_digest(&self) -> Option<&Digest> {
        self.content.as_ref()
    }

    /// The three-way generation rule.
    fn offered(&mut self, now: Now, offered: Assignment, out: &mut Vec<Action>) {
        let have = self.ledger.generation();
        let digest = offered.content_digest();
        let reason = if let Some(reason) = fault(&offered, &self.node) {
            reason
        } else if offered.generation < have {
            format!("generation {} is older than {have}, which this node already holds", offered.generation)
        } else if offered.generation > have {
            return self.take(offered, digest, out);
        } else if self.content.as_ref() == Some(&digest) {
            return;
        } else {
            format!("generation {have} was given out with other content before; only a higher one can change it")
        };
        // an offer is repeated with every poll; one report of it is enough
        let refusal = (offered.generation, digest);
        if self.refused.as_ref() == Some(&refusal) {
            return;
        }
        self.refused = Some(refusal);
        let mut changes = Vec::new();
        self.report(now, have, ReportBody::Refused { offered: offered.generation, have, reason }, &mut changes);
        out.extend([Action::Persist(changes), Action::Send]);
    }

    fn take(&mut self, offered: Assignment, digest: Digest, out: &mut Vec<Action>) {
        let mut head = self.ledger.head.clone();
        match offered.lifecycle {
            Lifecycle::Stopped => head.start_owed = false,
            Lifecycle::Running => head.start_owed |= head.halted,
        }
        let mut changes = vec![LedgerChange::Assignment(Box::new(offered))];
        if head != self.ledger.head {
            changes.push(LedgerChange::Head(head));
        }
        self.apply(&changes);
        out.push(Action::Persist(changes));
        self.content = Some(digest);
        self.refused = None;
        self.fetch = Fetch { id: self.fetch.id, ..Fetch::default() };
        if self.work == Work::Fetching {
            // a newer fetch replaces it
            self.work = Work::Idle;
        }
    }

    fn fetched(&mut self, now: Now, fetch: u64, failure: Option<String>) {
        if fetch != self.fetch.id || self.work != Work::Fetching {
            return;
        }
        self.work = Work::Idle;
        let Some(assignment) = &self.ledger.assignment else { return };
        if let Some(reason) = failure {
            self.fetch.failures += 1;
            self.fetch.at = now.mono_ms + backoff::exponential(&assignment.timing, self.fetch.failures);
            self.fetch.reason = reason;
        } else {
            self.ready = Some((assignment.scripts.clone(), assignment.files.clone()));
            self.any_scripts = true;
            self.fetch.failures = 0;
            self.fetch.reason.clear();
        }
    }

    fn acknowledged(&mut self, seq: u64, out: &mut Vec<Action>) {
        let changes: Vec<_> = self.ledger.outbox.range(..=seq).map(|(seq, _)| LedgerChange::Forget(*seq)).collect();
        if !changes.is_empty() {
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
    }

    /// Decides what comes next, if nothing is under way.
    fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        let known = self.outlook();
        if let (Some(known), Some(assignment)) = (known, self.ledger.assignment.take()) {
            self.advance_to(now, &assignment, &known, out);
            self.ledger.assignment = Some(assignment);
        }
        if let Some(at) = self.wake {
            out.push(Action::WakeAt(at));
        }
    }

    fn advance_to(&mut self, now: Now, assignment: &Assignment, known: &Outlook, out: &mut Vec<Action>) {
        match &self.work {
            Work::Running(run) if !still_wanted(run, assignment, known) => {
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
        if running && self.ledger.head.start_owed && self.any_scripts {
            return self.service_run(now, assignment, Task::Start, out);
        }
        if !self.ready.as_ref().is_some_and(|(s, f)| *s == assignment.scripts && *f == assignment.files) {
            if !self.reached(now, self.fetch.at) {
                return;
            }
            self.fetch.id += 1;
            // from now on nobody knows what is active, even if this fetch is superseded
            self.ready = None;
            self.work = Work::Fetching;
            let (scripts, files) = (assignment.scripts.clone(), assignment.files.clone());
            return out.push(Action::Fetch { fetch: self.fetch.id, scripts, files });
        }
        if running && self.ledger.head.start_owed {
            return self.service_run(now, assignment, Task::Start, out);
        }
        if let Some(at) = self.restart_at.filter(|_| running)
            && self.reached(now, at)
        {
            return self.service_run(now, assignment, Task::Start, out);
        }
        match &known.next {
            Some((stage, digest)) => {
                let gate = assignment.order(*stage).map_or(&Gate::Open, |order| &order.gate);
                let at = self.due.get(stage).filter(|(of, _)| of == digest).map_or(i64::MIN, |(_, at)| *at);
                if allows(gate, digest) && self.reached(now, at) {
                    return self.stage_run(now, assignment, *stage, digest, false, out);
                }
            }
            None if !running && !self.ledger.head.halted => {
                return self.service_run(now, assignment, Task::Stop, out);
            }
            None => self.converged(now, assignment.generation, out),
        }
        let gate = assignment.order(Stage::Validate).map_or(&Gate::Open, |order| &order.gate);
        if let Some(digest) = known.monitor.as_ref().filter(|digest| allows(gate, digest))
            && self.reached(now, self.monitor_at)
        {
            self.stage_run(now, assignment, Stage::Validate, digest, true, out);
        }
    }

    /// Whether `at` has come; if not, sees to being woken then.
    fn reached(&mut self, now: Now, at: i64) -> bool {
        if at <= now.mono_ms {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |other| other.min(at)));
        false
    }

    fn service_run(&mut self, now: Now, assignment: &Assignment, task: Task, out: &mut Vec<Action>) {
        if !self.reached(now, self.service_retry.1) {
            return;
        }
        let id = self.run_id();
        let config = self.ledger.stages.get(&Stage::Config);
        let order = RunOrder {
            id,
            task,
            digest: config.map_or_else(|| Digest(String::new()), |record| record.digest.clone()),
            attempt: self.service_retry.0 + 1,
            generation: assignment.generation,
            limits: assignment.order(Stage::Config).map_or(SERVICE_LIMITS, |order| order.limits),
            rendered: None,
        };
        if task == Task::Start && self.ledger.head.halted {
            // it may be up from now on, even if this run is never heard of again
            let changes = vec![LedgerChange::Head(crate::Head { halted: false, ..self.ledger.head.clone() })];
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
        self.run(now, order, false, out);
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
        let before = self.ledger.stages.get(&stage).filter(|record| record.digest == *digest);
        let attempt = before.filter(|r| r.outcome != Some(Outcome::Succeeded)).map_or(1, |r| r.attempt + 1);
        // `validate` changes nothing on the node, so a crash in the middle of it leaves nothing to
        // remember; of the others it must be known that they had begun.
        if stage != Stage::Validate {
            let record = StageRecord::begun(digest, attempt, before.map_or(0, |record| record.failures));
            let mut changes = vec![LedgerChange::Stage(stage, Box::new(record))];
            if stage == Stage::Config {
                // Puppet starts the service itself
                self.restart_at = None;
                // what was validated before says nothing of what is configured now
                let seen = self.ledger.stages.get(&Stage::Validate).filter(|record| record.outcome.is_some());
                changes.extend(seen.map(|r| {
                    LedgerChange::Stage(
                        Stage::Validate,
                        Box::new(StageRecord { outcome: None, attempt: 0, ..r.clone() }),
                    )
                }));
                let head = &self.ledger.head;
                if head.halted || head.start_owed {
                    changes.push(LedgerChange::Head(crate::Head { halted: false, start_owed: false, ..head.clone() }));
                }
            }
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
        let rendered = self.ledger.stages.get(&Stage::PreConfig).and_then(|record| record.output.clone());
        let order = RunOrder {
            id: self.run_id(),
            task: Task::Stage(stage),
            digest: digest.clone(),
            attempt,
            generation: assignment.generation,
            limits: order.limits,
            rendered: rendered.filter(|_| stage > Stage::PreConfig),
        };
        self.run(now, order, monitor, out);
    }

    fn run(&mut self, now: Now, order: RunOrder, monitor: bool, out: &mut Vec<Action>) {
        self.work = Work::Running(Run { order: order.clone(), monitor, since_ms: now.mono_ms });
        out.push(Action::Run(order));
    }

    fn run_id(&mut self) -> RunId {
        self.runs += 1;
        RunId(u64::from(self.ledger.head.epoch) << 32 | u64::from(self.runs))
    }

    fn converged(&mut self, now: Now, generation: u64, out: &mut Vec<Action>) {
        if self.ledger.head.converged >= generation {
            return;
        }
        let mut changes = Vec::new();
        self.report(now, generation, ReportBody::Converged { generation }, &mut changes);
        changes.push(LedgerChange::Head(crate::Head { converged: generation, ..self.ledger.head.clone() }));
        self.apply(&changes[changes.len() - 1..]);
        out.extend([Action::Persist(changes), Action::Send]);
    }

    /// Puts a report into the outbox, dropping another if it is full. `generation` is the newest.
    pub(crate) fn report(&mut self, now: Now, generation: u64, body: ReportBody, changes: &mut Vec<LedgerChange>) {
        let first = changes.len();
        if let Some(seq) = outbox::victim(&self.ledger.outbox, generation) {
            changes.push(LedgerChange::Forget(seq));
        }
        let seq = self.ledger.head.last_seq + 1;
        changes.push(LedgerChange::Head(crate::Head { last_seq: seq, ..self.ledger.head.clone() }));
        changes.push(LedgerChange::Append(Box::new(Report { seq, at_ms: now.unix_ms, body })));
        let added = changes.split_off(first);
        self.apply(&added);
        changes.extend(added);
    }

    /// The only way the ledger changes. The caller puts the same changes into a `Persist`.
    pub(crate) fn apply(&mut self, changes: &[LedgerChange]) {
        for change in changes {
            if matches!(change, LedgerChange::Assignment(_) | LedgerChange::Stage(..)) {
                self.known = None;
            }
            self.ledger.apply(change);
        }
    }

    /// What has to be done, judged anew only after a change.
    pub(crate) fn outlook(&mut self) -> Option<Outlook> {
        if self.known.is_none() {
            self.known = self.ledger.assignment.as_ref().map(|assignment| outlook(assignment, &self.ledger));
        }
        self.known.clone()
    }
}

/// Whether a run is still what the assignment wants.
fn still_wanted(run: &Run, assignment: &Assignment, known: &Outlook) -> bool {
    let is_next = |stage: Stage| known.next.as_ref() == Some(&(stage, run.order.digest.clone()));
    match run.order.task {
        Task::Start => assignment.lifecycle == Lifecycle::Running,
        Task::Stop => assignment.lifecycle == Lifecycle::Stopped,
        Task::Stage(stage) if run.monitor => {
            // a look must not hold up work
            let work = known.next.as_ref().is_some_and(|(next, digest)| {
                *next != stage && assignment.order(*next).is_some_and(|order| allows(&order.gate, digest))
            });
            is_next(stage) || (known.monitor.as_ref() == Some(&run.order.digest) && !work)
        }
        Task::Stage(stage) => is_next(stage),
    }
}
