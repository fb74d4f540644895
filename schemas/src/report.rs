//! Reports: what must not be lost between agent and controller.
//!
//! A report is written to the agent's outbox before it is sent and stays there until the
//! controller acknowledged its sequence number. The controller keys it by (node, incarnation,
//! sequence): receiving it twice is the same as once.

use crate::command::CommandEnd;
use crate::{Digest, Outcome, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most reports in one request; the outbox sends the rest in the next.
pub const REPORTS_MAX: usize = 64;
/// Most bytes of a report's `output_tail`. The full output stays on the node.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of the facts of one node, as JSON.
pub const FACTS_BYTES_MAX: usize = 16 * 1024;

/// Facts that `validate` reported, by name.
pub type Facts = BTreeMap<String, serde_json::Value>;

/// A batch of reports of one incarnation, in sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportRequest {
    /// The incarnation that made them.
    pub incarnation: u64,
    /// Reports, rising in sequence.
    pub reports: Vec<Report>,
}

/// Acknowledges reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAnswer {
    /// Every report up to and including this sequence is durable at the controller.
    pub acknowledged: u64,
}

/// One thing that happened on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Rises by one with each report of an incarnation.
    pub seq: u64,
    /// Unix ms by the node's clock, which may be wrong.
    pub at_ms: i64,
    /// What happened.
    #[serde(flatten)]
    pub body: ReportBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportBody {
    /// A run of a stage ended.
    Stage(StageResult),
    /// Every stage of this generation is done: the node is what it was asked to be.
    Converged {
        /// The generation that holds.
        generation: u64,
    },
    /// An assignment was not accepted.
    Refused {
        /// Generation offered.
        offered: u64,
        /// Generation in the ledger.
        have: u64,
        /// Why.
        reason: String,
    },
    /// A guest command ended.
    Command(CommandEnd),
    /// What a look for drift found is not what the look before it found.
    Drift(DriftFound),
    /// The ledger was damaged and set aside; the node starts from nothing.
    LedgerLost {
        /// What was wrong with it.
        reason: String,
    },
}

/// Most resources that one look for drift names; the rest is counted.
pub const DRIFT_RESOURCES_MAX: usize = 50;

/// What a look for drift found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftFound {
    /// Resources that are not as configured, as Puppet names them; at most [`DRIFT_RESOURCES_MAX`].
    pub resources: Vec<String>,
    /// How many there are in all.
    pub total: u32,
    /// Unix ms by the node's clock.
    pub looked_ms: i64,
}

/// The end of one run of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageResult {
    /// Generation it ran for. A result of an older generation is recorded and moves nothing.
    pub generation: u64,
    /// Which stage.
    pub stage: Stage,
    /// Its effective digest.
    pub digest: Digest,
    /// 1 for the first run at this digest.
    pub attempt: u32,
    /// Runs at this digest that failed since one succeeded, or that waited for longer than is usual, this one included:
    /// fewer than the attempts where some waited or were cut off. `None` from agents of before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// How it ended.
    pub outcome: Outcome,
    /// The 2017 protocol's return value, e.g. `GUEST_AGENT_INSTALL_SUCCESS`.
    pub return_value: String,
    /// The script's exit code; `None` when it did not exit by itself.
    pub exit_code: Option<i32>,
    /// In words: why it failed or waits; empty on success.
    #[serde(default)]
    pub reason: String,
    /// What the script advises an operator to do.
    #[serde(default)]
    pub hint: Option<String>,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// Last lines of its output, at most [`OUTPUT_TAIL_BYTES_MAX`] bytes.
    #[serde(default)]
    pub output_tail: String,
    /// Bytes of output in all.
    #[serde(default)]
    pub output_bytes: u64,
    /// When it will run again, in ms from its end; `None` when it will not.
    #[serde(default)]
    pub retry_in_ms: Option<u64>,
    /// Digest of what it produced: for `pre_config` the SHA-256 of the rendered `site.pp`. With it
    /// the planner knows the effective digest that `config` must have.
    #[serde(default)]
    pub produced: Option<Digest>,
    /// Facts it reported.
    #[serde(default)]
    pub facts: Facts,
}

impl StageResult {
    /// Whether the node's service was seen to work.
    #[must_use]
    pub fn shows_work(&self) -> bool {
        (self.stage, self.outcome) == (Stage::Validate, Outcome::Succeeded)
    }

    /// How often it failed. A run that waited or that was cut off says nothing against what it ran.
    #[must_use]
    pub fn failed_times(&self) -> u32 {
        match self.outcome {
            Outcome::Succeeded => 0,
            Outcome::Waiting => self.failures.unwrap_or(0),
            Outcome::Failed => self.failures.unwrap_or(self.attempt),
        }
    }
}
