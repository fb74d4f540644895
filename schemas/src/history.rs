//! As of a time: what a node was told, what it had run and what it reported.

use crate::report::{Report, StageResult};
use crate::{Digest, Lifecycle, NodeId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A node as it was at a time, as far as that is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAsOf {
    /// The node.
    pub node: NodeId,
    /// The time that was asked for, Unix ms.
    pub at_ms: i64,
    /// What it was told; absent if nothing from before that time is kept.
    pub told: Option<ToldView>,
    /// The incarnation that had reported last; absent before the first report that is kept.
    pub incarnation: Option<u64>,
    /// The generation that it had confirmed; 0 for none that is kept.
    pub converged_generation: u64,
    /// The last run of each stage, of that incarnation.
    pub stages: Vec<StageAsOf>,
    /// What it had reported, newest first; also of earlier incarnations.
    pub reports: Vec<ReportView>,
}

/// What a node was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToldView {
    /// The generation.
    pub generation: u64,
    /// When it was written, Unix ms.
    pub written_ms: i64,
    /// Digest of its content.
    pub digest: Digest,
    /// The component's version.
    pub version: String,
    /// Commit of the config repo.
    pub config: String,
    /// Commit of the script repo.
    pub scripts: String,
    /// Whether its services were to run.
    pub lifecycle: Lifecycle,
    /// All of it; secrets are hidden.
    pub assignment: Value,
}

/// A run of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageAsOf {
    /// When its end was reported, Unix ms by the controller's clock.
    pub received_ms: i64,
    /// How it ended.
    #[serde(flatten)]
    pub result: StageResult,
}

/// A report, with when it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportView {
    /// The incarnation that sent it.
    pub incarnation: u64,
    /// When it was received, Unix ms by the controller's clock.
    pub received_ms: i64,
    /// What it says.
    pub report: Report,
}
