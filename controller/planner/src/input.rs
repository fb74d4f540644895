//! What the planner is given: one topology, complete, as of one moment.
//!
//! Unknown is not absent: what has not been observed is `None`, and the planner never takes it
//! for a no.

use serde::Serialize;
use std::collections::BTreeMap;
use straas_schemas::config::Effective;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobKind;
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::report::StageResult;
use straas_schemas::{Assignment, ComponentId, Digest, FileRef, JobId, NodeId, Stage, TopologyId};

/// Desired and observed state of one topology, and the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanInput {
    /// Unix ms by the controller's clock.
    pub now_ms: i64,
    /// The topology.
    pub topology: Topology,
    /// Its components in the order of the request.
    pub components: Vec<Component>,
    /// Its recorded nodes.
    pub nodes: Vec<Node>,
    /// Its jobs that have not ended, oldest first.
    pub jobs: Vec<OpenJob>,
    /// Commit of the script repo that nodes should have.
    pub scripts: String,
    /// Files every host should have.
    pub files: Vec<FileRef>,
    /// Intervals.
    pub settings: Settings,
}

/// A topology as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Its id.
    pub id: TopologyId,
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its tenant.
    pub tenant: String,
    /// Its branch in the config repo.
    pub branch: String,
    /// It is to be removed.
    pub deleting: bool,
    /// When it was asked for, Unix ms.
    pub created_ms: i64,
}

/// A component as wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// Its id.
    pub id: ComponentId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Names of components that must work first.
    pub depends_on: Vec<String>,
    /// Its groups of nodes.
    pub groups: Vec<Group>,
    /// What the repos know of its type and version, or why that cannot be read: then its nodes
    /// keep what they have and say so.
    pub known: Result<Knowledge, String>,
}

/// What the config and script repos say of a component's type and version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Knowledge {
    /// Metadata of the type.
    pub meta: ComponentMeta,
    /// Effective configuration.
    pub config: Effective,
    /// For each script role: digests of the scripts of each stage.
    pub scripts: BTreeMap<String, BTreeMap<Stage, Digest>>,
}

/// Nodes of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Names the hosts.
    pub name: String,
    /// The role.
    pub role: String,
    /// How many.
    pub size: u32,
    /// Size of a host.
    pub flavor: String,
}

/// A recorded node with what is observed of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its component.
    pub component: ComponentId,
    /// Its group.
    pub group: String,
    /// Its role.
    pub role: String,
    /// Its host name.
    pub name: String,
    /// Its number in the group.
    pub ordinal: u32,
    /// Its host.
    pub host: Host,
    /// Its host's address once known.
    pub address: Option<String>,
    /// Counts enrolments; 0 before the first.
    pub incarnation: u64,
    /// The assignment it was given last.
    pub assignment: Option<Assignment>,
    /// Newest generation it confirmed to hold.
    pub converged_generation: u64,
    /// Newest result of each stage and when it was received, Unix ms.
    pub stages: BTreeMap<Stage, (StageResult, i64)>,
    /// Newest refused generation and the reason.
    pub refused: Option<(u64, String)>,
    /// Newest heartbeat and when it was received, Unix ms.
    pub heartbeat: Option<(Heartbeat, i64)>,
}

/// How a node's host stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Host {
    /// There is none.
    Absent,
    /// It could not be made, and why.
    Failed(String),
    /// The provider says it runs.
    Up,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenJob {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub kind: JobKind,
    /// In words.
    pub detail: String,
    /// When, Unix ms.
    pub created_ms: i64,
}

/// Intervals, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Between two heartbeats of a node.
    pub heartbeat_ms: u32,
    /// Silence after which a node is suspect.
    pub suspect_after_ms: u32,
    /// Silence after which a node counts as unreachable.
    pub unreachable_after_ms: u32,
    /// First wait after a failed stage.
    pub retry_ms: u32,
    /// Longest wait after a failed stage.
    pub retry_max_ms: u32,
    /// Wait after a stage that said "not yet".
    pub waiting_ms: u32,
}
