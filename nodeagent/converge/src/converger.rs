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
//! At most one thing of these is under way. After every event the same function, `advance`, looks
//! at all that is known and decides what comes next, so first run, retry, restart and reboot are
//! one path. Guest commands run beside it (`commands.rs`); neither waits for the other.
//!
//! Never here: what comes next (`advance.rs`), what an offer or the end of a run changes (`offer.rs`,
//! `finish.rs`, `drift.rs`), what others are shown (`status.rs`).

use crate::action::{Action, Event, Now, RunId, RunOrder};
use crate::backoff;
use crate::commands::Commands;
use crate::ledger::{Ledger, LedgerChange};
use crate::look::Looks;
use crate::outbox;
use crate::outlook::{Outlook, ended_as, outlook};
use crate::status::Told;
use crate::waits::Waits;
use std::collections::BTreeMap;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{Facts, Report, ReportBody};
use straas_schemas::{Assignment, Digest, FileRef, Lifecycle, NodeId, Outcome, Stage};

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
    /// How long the host has been up, in ms, by a clock that goes as [`Now::mono_ms`] does.
    pub up_ms: i64,
}

/// Decides what a node does. See the module's picture.
#[derive(Debug)]
pub struct Converger {
    pub(crate) node: NodeId,
    pub(crate) ledger: Ledger,
    /// Content digest of the assignment in the ledger.
    pub(crate) content: Option<Digest>,
    pub(crate) work: Work,
    /// What is in place of some assignment.
    pub(crate) ready: Option<Placed>,
    /// Some release of the scripts is active, not necessarily the wanted one.
    pub(crate) any_scripts: bool,
    pub(crate) fetch: Fetch,
    /// Not before this time, at this digest.
    pub(crate) due: BTreeMap<Stage, (Digest, i64)>,
    pub(crate) waits: Waits,
    pub(crate) monitor_at: i64,
    pub(crate) looks: Looks,
    /// The service is to be started again because `validate` found it down.
    pub(crate) restart_at: Option<i64>,
    /// Failures of start or stop in a row, and not before when.
    pub(crate) service_retry: (u32, i64),
    /// Why the last of them failed.
    pub(crate) service_failure: String,
    pub(crate) service: ServiceStatus,
    pub(crate) facts: Facts,
    /// The service was started, and `validate` has not found it working since.
    pub(crate) settling: bool,
    /// When to look for drift next; `None` until the node is settled.
    pub(crate) drift_at: Option<i64>,
    /// When the newest look ended, Unix ms, if later than what the ledger says.
    pub(crate) drift_looked_ms: Option<i64>,
    pub(crate) commands: Commands,
    pub(crate) refused: Option<(u64, Digest)>,
    runs: u32,
    pub(crate) told: Option<Told>,
    known: Option<Outlook>,
    wake: Option<i64>,
}

/// What an assignment wants to be in place before any stage runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub scripts: String,
    pub files: Vec<FileRef>,
    pub hosts: BTreeMap<String, String>,
}

impl Placed {
    pub fn of(assignment: &Assignment) -> Self {
        let Assignment { scripts, files, hosts, .. } = assignment;
        Self { scripts: scripts.clone(), files: files.clone(), hosts: hosts.clone() }
    }

    pub fn is_of(&self, assignment: &Assignment) -> bool {
        let Self { scripts, files, hosts } = self;
        *scripts == assignment.scripts && *files == assignment.files && *hosts == assignment.hosts
    }
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
    /// `Assignment::restarts` when it began.
    pub restarts: u32,
    pub since_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fetch {
    pub id: u64,
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
            (false, _) if ledger.head.halted => ServiceStatus::Inactive,
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
            waits: Waits::default(),
            monitor_at: now.mono_ms,
            looks: Looks::default(),
            restart_at: None,
            service_retry: (0, now.mono_ms),
            service_failure: String::new(),
            service,
            settling: rebooted,
            drift_at: None,
            drift_looked_ms: None,
            commands: Commands::since(boot.up_ms.saturating_sub(now.mono_ms)),
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
        this.resume_commands(now, rebooted, &mut changes);
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
        this.go_on(now, &mut out);
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
            Event::Commanded { orders, cancel } => self.commanded(now, orders, &cancel, &mut out),
            Event::Ended { run, command, result } => self.command_ended(now, run, &command, *result, &mut out),
            Event::Look => self.look_wished(now),
            Event::Tick => {}
        }
        self.go_on(now, &mut out);
        out
    }

    fn go_on(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wake = None;
        self.advance(now, out);
        self.advance_commands(now, out);
        if let Some(at) = self.wake {
            out.push(Action::WakeAt(at));
        }
        self.tell(now, out);
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

    /// Whether `at` has come; if not, sees to being woken then.
    pub(crate) fn reached(&mut self, now: Now, at: i64) -> bool {
        if at <= now.mono_ms {
            return true;
        }
        self.wake = Some(self.wake.map_or(at, |other| other.min(at)));
        false
    }

    pub(crate) fn run_id(&mut self) -> RunId {
        self.runs += 1;
        RunId(u64::from(self.ledger.head.epoch) << 32 | u64::from(self.runs))
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
