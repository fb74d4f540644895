//! The heartbeat: how a node is right now.
//!
//! Sent at an interval and at once when the activity changes. Only the newest matters, so a lost
//! one is not sent again; what must not be lost is a report (`report.rs`).

use crate::build::BuildStatus;
use crate::report::{DriftFound, Facts};
use crate::{Digest, Outcome, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest `ledger_fault`, in bytes: a path and two sentences.
pub const LEDGER_FAULT_BYTES_MAX: usize = 2 * 1024;
/// Most bytes of a heartbeat as JSON: facts (16 KiB), 64 disks and 64 interfaces fit.
pub const HEARTBEAT_BYTES_MAX: usize = 64 * 1024;

/// How a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The incarnation that sends it.
    pub incarnation: u64,
    /// Rises with each heartbeat of one run of the agent; an older one is ignored.
    pub beat: u64,
    /// Random at each start of the agent, so that `beat` may start again.
    pub run: String,
    /// The agent's version.
    pub agent_version: String,
    /// Its build; none from agents that cannot be replaced by another build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<BuildStatus>,
    /// Generation in the ledger.
    pub generation: u64,
    /// Whether every stage of that generation is done.
    pub converged: bool,
    /// What the agent is doing.
    pub activity: Activity,
    /// A stage that waits for a permit.
    #[serde(default)]
    pub asks: Option<Ask>,
    /// The service, as `validate` last saw it.
    pub service: ServiceStatus,
    /// Last result of each stage.
    #[serde(default)]
    pub stages: BTreeMap<Stage, StageSummary>,
    /// Facts as last reported by `validate`.
    #[serde(default)]
    pub facts: Facts,
    /// How long ago the service was last looked at, in ms: the age of `service` and `facts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_ago_ms: Option<u64>,
    /// What the newest look for drift found; `None` before the first at what is configured now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftFound>,
    /// The ledger took a write and an fsync since the last heartbeat.
    pub ledger_writable: bool,
    /// Why it did not, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_fault: Option<String>,
    /// Reports waiting to be acknowledged.
    pub outbox: u32,
    /// Metrics of the host and the agent.
    pub vitals: Vitals,
}

/// What the agent is doing now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum Activity {
    /// Nothing to do.
    Idle,
    /// Fetching scripts or files.
    Fetching {
        /// What, for people.
        what: String,
    },
    /// Running a stage.
    Running {
        /// Which stage.
        stage: Stage,
        /// Which run at this digest.
        attempt: u32,
        /// For how long, in ms.
        for_ms: u64,
        /// Last progress text of the script.
        progress: Option<String>,
        /// Last progress percentage.
        percent: Option<u8>,
    },
    /// A stage failed or said "not yet" and will run again.
    Retrying {
        /// Which stage.
        stage: Stage,
        /// How many runs there were.
        attempt: u32,
        /// When the next run starts, in ms from now.
        in_ms: u64,
        /// Why, for people.
        reason: String,
    },
    /// A gate is closed.
    Gated {
        /// Which stage waits.
        stage: Stage,
        /// What it waits for.
        why: String,
    },
}

/// A request for a permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ask {
    /// The stage that would disturb the service.
    pub stage: Stage,
    /// Its effective digest.
    pub digest: Digest,
}

/// The service as last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServiceStatus {
    /// Works.
    Active,
    /// Does not work.
    Inactive,
    /// Not looked at yet.
    Unknown,
}

/// Last result of a stage in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageSummary {
    /// Effective digest of that run.
    pub digest: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Which run at this digest.
    pub attempt: u32,
    /// How long it took, in ms.
    pub duration_ms: u64,
}

/// Metrics of a host and of its agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vitals {
    /// The host's boot id; changes with each boot.
    pub boot_id: String,
    /// Seconds since the host booted.
    pub uptime_s: u64,
    /// Logical processors.
    pub cpus: u32,
    /// Use of all processors since the last sample, 0 to 100.
    pub cpu_percent: f32,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory available without swapping.
    pub memory_available: u64,
    /// Disks by mount point.
    #[serde(default)]
    pub disks: BTreeMap<String, DiskVitals>,
    /// Network interfaces by name.
    #[serde(default)]
    pub networks: BTreeMap<String, NetworkVitals>,
    /// The agent itself.
    pub agent: AgentVitals,
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskVitals {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free for an ordinary user.
    pub available: u64,
    /// Mounted read-only.
    pub read_only: bool,
}

/// One network interface, counters since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkVitals {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Receive and transmit errors.
    pub errors: u64,
}

/// The agent process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentVitals {
    /// Resident bytes.
    pub resident: u64,
    /// Processor time used since its start, in ms.
    pub cpu_ms: u64,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Requests to a controller that failed since its start.
    pub failed_requests: u64,
}
