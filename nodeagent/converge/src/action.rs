//! What goes into the converger (events) and what comes out (actions).
//!
//! Actions are done strictly in the order given, each before the next begins; only `Fetch`, `Run`
//! and `Begin` merely *start* something whose end comes back as an event. After `Persist` the executor
//! goes on only when the change is on the disk (fsync), because what follows relies on it.
//!
//! Never here: a decision.

use crate::ledger::LedgerChange;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use straas_schemas::assignment::Limits;
use straas_schemas::command::CommandOrder;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DriftFound, Facts};
use straas_schemas::{Assignment, CommandId, Digest, FileRef, Outcome, Stage};

/// The time as the caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; its zero does not matter. All waiting is
    /// done on this one.
    pub mono_ms: i64,
    /// Unix milliseconds, which may jump; only stamped on reports for people.
    pub unix_ms: i64,
}

/// Names one run, for ever: the high half counts starts of the agent, the low half runs since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Task {
    /// A stage of the assignment.
    Stage(Stage),
    /// `start.sh`: the service, without configuring it.
    Start,
    /// `stop.sh`.
    Stop,
    /// `runpuppet.sh` that only looks whether the host is still as configured.
    Drift,
}

impl Task {
    /// The name for logs, files and `STRAAS_STAGE`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stage(stage) => stage.name(),
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Drift => "drift",
        }
    }
}

/// One run, complete: the executor needs this and the assignment, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOrder {
    /// Its name.
    pub id: RunId,
    /// What to do.
    pub task: Task,
    /// The effective digest; of `Start` and `Stop`, the digest of what is configured.
    pub digest: Digest,
    /// 1 for the first run at this digest.
    pub attempt: u32,
    /// The generation it runs for.
    pub generation: u64,
    /// Time limits.
    pub limits: Limits,
    /// SHA-256 of the `site.pp` that `config` and `validate` are to find, if one was rendered.
    pub rendered: Option<Digest>,
    /// Of `config`: stop the services first, because a restart was asked for.
    pub restart: bool,
    /// Of `validate`: it merely looks again at a settled node.
    pub settled: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Why it failed or waits; empty on success.
    pub reason: String,
    /// What the script advises.
    pub hint: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Last lines of output, already bounded.
    pub output_tail: String,
    /// Bytes of output in all.
    pub output_bytes: u64,
    /// Facts it reported.
    pub facts: Facts,
    /// What it said about the service, if anything.
    pub service: Option<ServiceStatus>,
    /// SHA-256 of what the stage produced: `site.pp` for `pre_config`, nothing for the others.
    pub output: Option<Digest>,
    /// A stage whose product was found missing or changed on the disk: it has to run again.
    pub lost: Option<Stage>,
    /// Of a look for drift: what it found; its time is not looked at.
    pub drift: Option<DriftFound>,
}

/// One run of a guest command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandRun {
    /// Its name.
    pub id: RunId,
    /// What to run.
    pub order: CommandOrder,
    /// Which run: over 1 after a crash in the middle of an earlier one.
    pub attempt: u32,
}

/// How a run of a guest command ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandResult {
    /// How.
    pub fate: CommandFate,
    /// Exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Why it failed; empty on success.
    pub reason: String,
    /// What the script advises.
    pub hint: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Its structured answer, already bounded.
    pub result: Map<String, Value>,
    /// Bytes of output in all.
    pub output_bytes: u64,
}

/// How a run of a guest command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFate {
    /// Exit code 0.
    Succeeded,
    /// Any other end by itself, over its time, or what made it impossible.
    Failed,
    /// Its [`Action::Kill`] ended it.
    Killed,
    /// Nothing was started: the active release has no such command.
    Missing,
    /// Nothing was started: that it begins became durable only after its deadline.
    Late,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The controller offers an assignment.
    Offered(Box<Assignment>),
    /// A fetch ended well: scripts and files are in place.
    Activated {
        /// Which fetch.
        fetch: u64,
    },
    /// A fetch failed.
    FetchFailed {
        /// Which fetch.
        fetch: u64,
        /// Why, for people.
        reason: String,
    },
    /// A run ended, by itself or killed.
    Finished {
        /// Which run.
        run: RunId,
        /// How.
        result: Box<RunResult>,
    },
    /// Every report up to and including this one is durable at the controller.
    Acknowledged {
        /// Its sequence number.
        seq: u64,
    },
    /// The controller offers guest commands, oldest first, and wants others to end. Each may have
    /// been offered before.
    Commanded {
        /// To be run.
        orders: Vec<CommandOrder>,
        /// To be ended.
        cancel: Vec<CommandId>,
    },
    /// A run of a guest command ended.
    Ended {
        /// Which run.
        run: RunId,
        /// Of which command.
        command: CommandId,
        /// How.
        result: Box<CommandResult>,
    },
    /// The controller wants to know how the service is now.
    Look,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write all of these to the ledger in one atomic step and fsync, before the next action.
    Persist(Vec<LedgerChange>),
    /// Have this commit checked out and active, these files in place and these names resolve. What
    /// is there already is not fetched again, so it needs no network then. A newer fetch replaces
    /// an older one.
    Fetch {
        /// Comes back with the end of it.
        fetch: u64,
        /// Commit of the script repo.
        scripts: String,
        /// Files.
        files: Vec<FileRef>,
        /// Addresses by name.
        hosts: BTreeMap<String, String>,
    },
    /// Start a run. There is none of this kind at this moment.
    Run(RunOrder),
    /// Start a run of a guest command, beside whatever runs.
    Begin(Box<CommandRun>),
    /// End a run now, its whole process group. Its end comes back as `Finished` or `Ended`.
    Kill {
        /// Which.
        run: RunId,
    },
    /// There are reports in the outbox that were not there before.
    Send,
    /// Send a heartbeat now: something changed that others wait for.
    Beat,
    /// Give a `Tick` at this time of `mono_ms`; replaces every earlier one.
    WakeAt(i64),
}
