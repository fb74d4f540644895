//! What the user API shows of topologies, components and nodes.
//!
//! Read-only pictures made by the planner from a snapshot; nothing is stored in this form.

use crate::build::{AgentBuild, BuildStatus};
use crate::health::HealthView;
use crate::heartbeat::{ServiceStatus, Vitals};
use crate::job::Job;
use crate::report::{DriftFound, Facts};
use crate::{ComponentId, FileRef, JobId, Lifecycle, NodeId, Outcome, Stage, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Answer to a mutation that starts work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// What was created, changed or is being deleted.
    pub id: String,
    /// The job that does it.
    pub job: Job,
}

/// Answer to a dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRun {
    /// What is wanted otherwise than before: `section.key: old → new`, `version: old → new`, ...
    #[serde(default)]
    pub changes: Vec<String>,
    /// What would be done, in the order of the work.
    pub steps: Vec<String>,
    /// Nodes that would run stages again, with the reason.
    pub nodes: BTreeMap<String, Vec<String>>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Pass as `marker` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How a topology or component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Standing {
    /// Being made for the first time.
    Creating,
    /// Every node is what it should be.
    Active,
    /// Some node is changing.
    Changing,
    /// Some node fails or is silent.
    Degraded,
    /// Being removed.
    Deleting,
}

/// A topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyView {
    /// Its id.
    pub id: TopologyId,
    /// Its name, unique in its zone.
    pub name: String,
    /// Its availability zone.
    pub availability_zone: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// How it stands.
    pub status: Standing,
    /// Its branch in the config repo.
    pub branch: String,
    /// When it was asked for, Unix ms.
    pub created_ms: i64,
    /// Its components.
    pub components: Vec<ComponentView>,
    /// The newest job.
    pub job: Option<JobId>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentView {
    /// Its id.
    pub id: ComponentId,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Commit of the config repo that it should have.
    #[serde(default)]
    pub config: String,
    /// Commit of the script repo that it should have.
    #[serde(default)]
    pub scripts: String,
    /// The build of the agent that its nodes should run; none for the packaged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentBuild>,
    /// The change that is being rolled out, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
    /// How it stands.
    pub status: Standing,
    /// Names of the components it depends on; `topology/component` of those of other topologies.
    pub depends_on: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// A change that reaches the nodes of a component in waves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutView {
    /// The job it belongs to.
    pub job: JobId,
    /// How far it is.
    pub phase: RolloutPhase,
    /// Nodes that go first.
    pub canaries: Vec<String>,
    /// Nodes that have it and work.
    pub done: u32,
    /// Nodes that have it and fail.
    pub failed: Vec<String>,
    /// Nodes in all.
    pub total: u32,
    /// Why it is held or was turned back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPhase {
    /// The canaries have it.
    Canary,
    /// Everybody may have it.
    Rolling,
    /// A user paused it.
    Paused,
    /// Too many nodes failed.
    Held,
    /// What was before is brought back.
    Reverting,
}

/// A host that could not be made or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFailure {
    /// Why, in the words of whoever makes hosts.
    pub reason: String,
    /// How often in a row it was tried, from 1.
    pub attempt: u32,
    /// When it failed last, Unix ms.
    pub failed_ms: i64,
    /// When it is tried again at the latest, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_ms: Option<i64>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name, also its host name.
    pub name: String,
    /// Its topology.
    pub topology: TopologyId,
    /// Its component.
    pub component: ComponentId,
    /// The component's name.
    pub component_name: String,
    /// Its role.
    pub role: String,
    /// Its number in the role, from 1.
    pub ordinal: u32,
    /// The host's address once known.
    pub address: Option<String>,
    /// What its host shares with others and fails with (a rack, a power feed), where the provider tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<String>,
    /// Why its host could not be made or removed, if it was tried in vain last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_failure: Option<HostFailure>,
    /// Component version wanted.
    pub version: String,
    /// Agent version last seen.
    pub agent_version: Option<String>,
    /// Its build, as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<BuildStatus>,
    /// How well it is heard.
    pub liveness: Liveness,
    /// Whether its services should run.
    #[serde(default = "running")]
    pub lifecycle: Lifecycle,
    /// What the newest look for drift found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftFound>,
    /// The service.
    pub service: ServiceStatus,
    /// What a health check said of it last: the one that is built in, or the newest word of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthView>,
    /// Files that it is to have, given to it or to its component.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileRef>,
    /// Generation wanted.
    pub generation: u64,
    /// Newest generation the node confirmed to hold.
    pub converged_generation: u64,
    /// Each stage's last result.
    pub stages: BTreeMap<Stage, StageView>,
    /// Facts.
    pub facts: Facts,
    /// The one thing it waits for.
    pub why: Why,
    /// Metrics of the newest heartbeat.
    pub vitals: Option<Vitals>,
    /// When the newest heartbeat came, Unix ms.
    pub seen_ms: Option<i64>,
}

const fn running() -> Lifecycle {
    Lifecycle::Running
}

/// Last result of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageView {
    /// How it ended.
    pub outcome: Outcome,
    /// Which run at its digest.
    pub attempt: u32,
    /// How long it took, in ms.
    pub duration_ms: u64,
    /// When the controller heard of it, Unix ms.
    pub received_ms: i64,
    /// The 2017 protocol's return value.
    pub return_value: String,
    /// Why it failed or waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Last lines of output, if it failed or waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output_tail: String,
    /// What the script advises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When it runs again, Unix ms by the controller's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_ms: Option<i64>,
}

/// How well a node is heard. Unreachable is not dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Never heard of.
    Unknown,
    /// Heard of lately.
    Reachable,
    /// A few heartbeats are missing.
    Suspect,
    /// Silent for long.
    Unreachable,
}

/// Why a node is where it is: one cause, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The kind of cause.
    pub cause: Cause,
    /// In one sentence.
    pub text: String,
    /// What the sentence rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, String>,
}

/// Kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: it is what it should be.
    Converged,
    /// Its host is being made.
    Spawning,
    /// Its host could not be made; it is tried again.
    SpawnFailed,
    /// Its host is there, its agent has not enrolled.
    AwaitingEnrolment,
    /// A node it must know has no address yet.
    AwaitingPeers,
    /// A component it depends on is not working yet.
    AwaitingDependency,
    /// It asked for a permit that others hold.
    AwaitingPermit,
    /// The nodes that go first with a change have not shown that it works.
    AwaitingCanary,
    /// The change was paused by a user.
    Paused,
    /// The change is held because nodes failed.
    Held,
    /// The set of members changes one node at a time; it is not its turn.
    AwaitingMembership,
    /// An operation on another node has to succeed first.
    AwaitingOperation,
    /// It has not taken up the newest assignment yet.
    AwaitingAgent,
    /// It is working.
    Working,
    /// A stage failed and will run again.
    Retrying,
    /// It has been silent for long.
    Unreachable,
    /// Its agent cannot write down what it does, so it begins nothing new.
    CannotWrite,
    /// It refused its assignment.
    Refused,
    /// It is being removed.
    Deleting,
}

/// Something that happened, as streamed and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Rises with each event of the store.
    pub seq: i64,
    /// Unix ms.
    pub at_ms: i64,
    /// The topology it belongs to.
    pub topology: TopologyId,
    /// The node, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Kind, e.g. `stage`, `host`, `job`.
    pub kind: String,
    /// In one sentence.
    pub text: String,
}

/// A version or script commit that failed its canaries and that nobody should get any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineView {
    /// `version`, `scripts` or `agents`.
    pub what: String,
    /// `{type}@{version}`, the commit, or the SHA-256 of the build.
    pub key: String,
    /// Why.
    pub reason: String,
    /// The topology where it failed.
    pub topology: TopologyId,
    /// Unix ms.
    pub at_ms: i64,
}
