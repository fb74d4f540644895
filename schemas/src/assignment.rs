//! The assignment: everything one node has to be, complete, in one document.
//!
//! The planner writes it, the converger obeys it. It carries no history and no commands: an agent
//! that lost every earlier assignment needs only the newest. Its generation only rises; the
//! receiver judges it by the three-way rule in `nodeagent/converge`.

use crate::build::AgentBuild;
use crate::{Digest, NodeId, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of one assignment as JSON: a 1,000-node component's peers fit four times over.
pub const ASSIGNMENT_BYTES_MAX: usize = 1 << 20;
/// What a controller that is put back from a backup raises every generation by: more than a node can have been given since,
/// with one each second for twelve days. An agent that sees a generation rise by half of it or more, since it may be ahead of
/// the backup, tells all its results again.
pub const GENERATION_LEAP: u64 = 1 << 20;

/// What a node has to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// Protocol version this was written in ([`crate::PROTOCOL`]).
    pub protocol: u32,
    /// The node it is for; an agent refuses any other.
    pub node: NodeId,
    /// Raised by compare-and-swap with every change of content; never lowered.
    pub generation: u64,
    /// Whether the services should run.
    pub lifecycle: Lifecycle,
    /// The node's host name, for logs and scripts.
    pub name: String,
    /// The role, which names the scripts' folder.
    pub role: String,
    /// The component's version, which names the scripts' folder.
    pub version: String,
    /// Commit of the script repo to have checked out; `None` before the first.
    pub scripts: String,
    /// Commit of the config repo that the context was made of: for people, no stage depends on it.
    #[serde(default)]
    pub config: String,
    /// How many restarts of the services were asked for so far. Part of the inputs of `config`,
    /// which stops the services first when this is new to the node.
    #[serde(default)]
    pub restarts: u32,
    /// Names that resolve on the host, with their addresses (`enable_cname`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
    /// The build of the agent that the node is to run; `None` for the packaged one. No stage depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentBuild>,
    /// The slow look for drift; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftOrder>,
    /// Files to have on the host before any stage runs.
    #[serde(default)]
    pub files: Vec<FileRef>,
    /// Packages of the install stage.
    #[serde(default)]
    pub packages: Vec<Package>,
    /// The context document handed to every script (`proxy-scripts/README.md`).
    pub context: serde_json::Value,
    /// The stages in the order of the work.
    pub stages: Vec<StageOrder>,
    /// How often things happen.
    pub timing: Timing,
    /// What the agent may do of its own while it cannot ask.
    pub autonomy: Autonomy,
}

impl Assignment {
    /// Digest of everything but the generation: equal digests mean equal content.
    #[must_use]
    pub fn content_digest(&self) -> Digest {
        let mut copy = self.clone();
        copy.generation = 0;
        // A struct of strings, numbers and JSON values always serialises.
        Digest::sha256(&serde_json::to_vec(&copy).unwrap_or_default())
    }

    /// The order for `stage`, if the assignment has one.
    #[must_use]
    pub fn order(&self, stage: Stage) -> Option<&StageOrder> {
        self.stages.iter().find(|order| order.stage == stage)
    }
}

/// Whether a node's services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Installed, configured, running.
    Running,
    /// Installed and configured, services stopped; stays so over a reboot.
    Stopped,
}

/// One stage: its inputs, whether it may run, and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageOrder {
    /// Which stage.
    pub stage: Stage,
    /// Digest of the inputs that the planner knows; see [`crate::stage::effective_digest`].
    pub inputs: Digest,
    /// Whether it may run.
    pub gate: Gate,
    /// Time limits.
    pub limits: Limits,
}

/// Whether a stage may run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Gate {
    /// It may.
    Open,
    /// It may not; `why` says what it waits for.
    Closed {
        /// For people: what is waited for.
        why: String,
    },
    /// It disturbs a running service: it may run only with a permit for exactly this effective
    /// digest. Without one the agent asks in its heartbeat.
    Permit {
        /// The effective digest that is permitted, if any.
        granted: Option<Digest>,
    },
}

/// How drift is looked for: what is configured against what is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriftOrder {
    /// Between two looks, in ms.
    pub every_ms: u32,
    /// What is done about it.
    pub policy: DriftPolicy,
}

/// What is done about drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftPolicy {
    /// It is shown.
    #[default]
    Report,
    /// `config` runs again, under a permit if the service could be disturbed.
    Enforce,
}

/// Time limits of one run of a stage, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Seconds a run may take in all; then its whole process group is killed.
    pub total_s: u32,
    /// Seconds a run may go without any output.
    pub no_progress_s: u32,
}

/// A package at a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Package {
    /// The package's name as the package manager knows it.
    pub name: String,
    /// Its version; a trailing `*` matches any packaging revision.
    pub version: String,
}

/// A file the host has to have, fetched by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileRef {
    /// Absolute path on the host.
    pub path: String,
    /// SHA-256 of the content, also its address at the controller.
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, e.g. `0o644`.
    pub mode: u32,
}

/// Intervals, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat_ms: u32,
    /// Between two runs of `validate` on a settled node.
    pub validate_every_ms: u32,
    /// First wait after a failed stage; doubles to `retry_max_ms`.
    pub retry_ms: u32,
    /// Longest wait after a failed stage.
    pub retry_max_ms: u32,
    /// Longest wait after a stage that ended with "not yet"; the first ones are short.
    pub waiting_ms: u32,
    /// How long `validate` may say "not yet" before that counts as a failure, and again by the back-off of failures; 0 for
    /// ever, which is what controllers mean that do not tell.
    #[serde(default, skip_serializing_if = "crate::poll::is_zero")]
    pub validate_wait_ms: u32,
}

/// What an agent may do without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Autonomy {
    /// Start the service again when `validate` finds it inactive, or after a reboot.
    pub restart_service: bool,
}
