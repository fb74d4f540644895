//! The ledger: what an agent must know again after a crash, as a value.
//!
//! It changes only by [`LedgerChange`]s, which the executor makes durable before it goes on; the
//! converger applies the same change to its copy, so the two cannot drift apart. A crash loses
//! what was not persisted yet, never a part of one `Persist`.
//!
//! Never here: the database that keeps it (`nodeagent/src/ledger.rs`).

use crate::journal::CommandRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::report::{DriftFound, Facts, Report};
use straas_schemas::{Assignment, CommandId, Digest, Outcome, Stage};

/// What was done and what was promised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Small things that change together.
    pub head: Head,
    /// The newest assignment that was accepted.
    pub assignment: Option<Assignment>,
    /// Last run of each stage.
    pub stages: BTreeMap<Stage, StageRecord>,
    /// Reports not yet acknowledged, by sequence number.
    pub outbox: BTreeMap<u64, Report>,
    /// The journal of guest commands.
    #[serde(default)]
    pub commands: BTreeMap<CommandId, CommandRecord>,
    /// What the last look for drift found; `None` before the first.
    #[serde(default)]
    pub drift: Option<DriftRecord>,
}

/// What a look for drift found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftRecord {
    /// What it found.
    pub found: DriftFound,
    /// Nothing was configured since, so that it still says how the host is.
    pub current: bool,
}

/// The small part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Starts of the agent; makes run ids unique.
    pub epoch: u32,
    /// The boot in which the agent ran last.
    pub boot_id: String,
    /// Sequence number of the newest report; 0 for none yet.
    pub last_seq: u64,
    /// Generation that was last reported as converged; 0 for none.
    pub converged: u64,
    /// The service has to be started without configuring it: after a reboot, or because the
    /// assignment says `running` again.
    pub start_owed: bool,
    /// The service was stopped because the assignment says so.
    pub halted: bool,
}

/// The last run of a stage. It replaces the record of the run before: a node on which a newer
/// digest was tried is no longer what the older one made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Effective digest of the run.
    pub digest: Digest,
    /// How it ended; `None` while it runs, and for ever if the agent died meanwhile.
    pub outcome: Option<Outcome>,
    /// 1 for the first run at this digest.
    pub attempt: u32,
    /// Failures in a row, for the back-off.
    pub failures: u32,
    /// SHA-256 of what it produced (`site.pp`).
    pub output: Option<Digest>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Why it failed or waits.
    pub reason: String,
    /// Facts it reported.
    #[serde(default)]
    pub facts: Facts,
    /// Of `config`: the restart that was done last, `Assignment::restarts` of the last success or
    /// of the very first run.
    #[serde(default)]
    pub restarts: u32,
    /// Of `config`: it succeeded, but a look found the host changed since, and it is to run again.
    #[serde(default)]
    pub drifted: bool,
}

impl StageRecord {
    /// The record of a run that begins.
    #[must_use]
    pub fn begun(digest: &Digest, attempt: u32, failures: u32, restarts: u32) -> Self {
        Self {
            digest: digest.clone(),
            outcome: None,
            attempt,
            failures,
            output: None,
            duration_ms: 0,
            reason: String::new(),
            facts: Facts::new(),
            restarts,
            drifted: false,
        }
    }
}

/// One change. A `Persist` holds several, which become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LedgerChange {
    /// Replace the head.
    Head(Head),
    /// Replace the assignment.
    Assignment(Box<Assignment>),
    /// Replace a stage's record.
    Stage(Stage, Box<StageRecord>),
    /// Put a report into the outbox.
    Append(Box<Report>),
    /// Remove a report from the outbox.
    Forget(u64),
    /// Replace a command's entry in the journal.
    Command(Box<CommandRecord>),
    /// Remove a command from the journal.
    ForgetCommand(CommandId),
    /// Replace what the last look for drift found.
    Drift(Box<DriftRecord>),
}

impl Ledger {
    /// Applies one change.
    pub fn apply(&mut self, change: &LedgerChange) {
        match change {
            LedgerChange::Head(head) => self.head = head.clone(),
            LedgerChange::Assignment(assignment) => self.assignment = Some((**assignment).clone()),
            LedgerChange::Stage(stage, record) => {
                self.stages.insert(*stage, (**record).clone());
            }
            LedgerChange::Append(report) => {
                self.outbox.insert(report.seq, (**report).clone());
            }
            LedgerChange::Forget(seq) => {
                self.outbox.remove(seq);
            }
            LedgerChange::Command(record) => {
                self.commands.insert(record.id.clone(), (**record).clone());
            }
            LedgerChange::ForgetCommand(id) => {
                self.commands.remove(id);
            }
            LedgerChange::Drift(record) => self.drift = Some((**record).clone()),
        }
    }

    /// Generation of the assignment; 0 for none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.assignment.as_ref().map_or(0, |assignment| assignment.generation)
    }

    /// The record of a stage that succeeded in its last run.
    #[must_use]
    pub fn succeeded(&self, stage: Stage) -> Option<&StageRecord> {
        self.stages.get(&stage).filter(|record| record.outcome == Some(Outcome::Succeeded))
    }
}
