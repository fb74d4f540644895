//! What the planner is given: one topology, complete, as of one moment.
//!
//! Unknown is not absent: what has not been observed is `None`, and the planner never takes it
//! for a no.

use serde::Serialize;
use std::collections::BTreeMap;
use straas_schemas::build::AgentBuild;
use straas_schemas::command::CommandStanding;
use straas_schemas::config::Effective;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobKind;
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::report::StageResult;
use straas_schemas::settings::TimingSettings;
use straas_schemas::view::HostFailure;
use straas_schemas::{
    Assignment, CommandId, ComponentId, Digest, FileRef, JobId, Lifecycle, NodeId, Stage, TopologyId,
};

/// Desired and observed state of one topology, and the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanInput {
    /// Unix ms by the controller's clock.
    pub now_ms: i64,
    /// The topology.
    pub topology: Topology,
    /// How many assignments had been written for it. A plan holds while no other one was: two plans of two controllers,
    /// each right for what it had read, may together disturb too many nodes at once.
    pub writes: u64,
    /// Its components in the order of the request.
    pub components: Vec<Component>,
    /// Its recorded nodes.
    pub nodes: Vec<Node>,
    /// Its jobs that have not ended, oldest first.
    pub jobs: Vec<OpenJob>,
    /// The operations that were begun for it, by key in the order of their attempts.
    pub operations: Vec<OperationRun>,
    /// Components of other topologies: those that components of this one depend on, and those that
    /// depend on them, through others as well.
    pub neighbours: Vec<Neighbour>,
    /// Files every host should have.
    pub files: Vec<FileRef>,
    /// Intervals.
    pub settings: TimingSettings,
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

/// A component of another topology of the tenant, with its nodes.
///
/// Its nodes' assignments are needed where something depends on it: they say who is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// Its topology.
    pub topology: Topology,
    /// The component. Of what the repos know, only the metadata is needed.
    pub component: Component,
    /// Its recorded nodes.
    pub nodes: Vec<Node>,
}

/// A component of another topology that must work first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// The component.
    pub component: ComponentId,
    /// What it is called here: `topology/component`.
    pub name: String,
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
    /// Names of components of its topology that must work first.
    pub depends_on: Vec<String>,
    /// Components of other topologies that must work first.
    pub foreign: Vec<Foreign>,
    /// Its groups of nodes.
    pub groups: Vec<Group>,
    /// What its nodes should get.
    pub target: Target,
    /// The change that is under way: which nodes may have `target` already, and what the others
    /// have meanwhile.
    pub rollout: Option<Rollout>,
    /// What is wanted of single nodes, where it differs from [`NodeWish::default`].
    pub wishes: BTreeMap<NodeId, NodeWish>,
    /// Files that all its nodes are to have beside those of [`PlanInput::files`].
    pub files: Vec<FileRef>,
    /// The build of the agent that all its nodes are to run; `None` for the packaged one.
    pub agent: Option<AgentBuild>,
    /// It is to be removed.
    pub removed: bool,
}

/// What a node gets: versions of all that it is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Version of the component.
    pub version: String,
    /// Commit of the config repo.
    pub config: String,
    /// Commit of the script repo.
    pub scripts: String,
    /// What the repos know of these, or why that cannot be read: then nodes keep what they have
    /// and say so.
    pub known: Result<Knowledge, String>,
}

/// A change on its way through the nodes of a component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rollout {
    /// The job it belongs to.
    pub job: JobId,
    /// What nodes have that are not let through yet.
    pub before: Target,
    /// One node of each role goes first and has to work.
    pub canary: bool,
    /// Hold once so many nodes fail.
    pub max_failures: u32,
    /// A user paused it.
    pub paused: bool,
    /// It was turned back: `target` is what was before, `before` what failed, and there is no
    /// canary.
    pub reverted: Option<Reverted>,
}

/// Why a change was turned back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reverted {
    /// In words.
    pub reason: String,
    /// A user did it, no failure.
    pub by_user: bool,
}

/// What is wanted of one node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeWish {
    /// Whether its services run.
    pub lifecycle: Lifecycle,
    /// How many restarts were asked for so far.
    pub restarts: u32,
    /// How many replacements of its host were asked for so far.
    pub replacements: u32,
    /// Scripts of its own: a target that differs from the component's in nothing else.
    pub target: Option<Target>,
    /// Files of its own; one comes in the place of the component's of the same path.
    pub files: Vec<FileRef>,
}

impl Default for NodeWish {
    fn default() -> Self {
        Self { lifecycle: Lifecycle::Running, restarts: 0, replacements: 0, target: None, files: Vec::new() }
    }
}

/// A guest command that an earlier plan asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperationRun {
    /// Its id, as in [`crate::OperationWish::id`].
    pub id: CommandId,
    /// What it is for, as in [`crate::OperationWish::key`].
    pub key: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// The node it runs on.
    pub node: NodeId,
    /// How it stands.
    pub standing: CommandStanding,
    /// Why it did not succeed; empty if it did or has not ended.
    pub reason: String,
    /// When it ended, Unix ms.
    pub ended_ms: Option<i64>,
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
    /// Ordinals that are not given out: nodes that left. Their numbers are not used again, since
    /// others may remember them.
    pub without: Vec<u32>,
    /// Size of a host.
    pub flavor: String,
    /// Hosts are spread over at least so many fault domains; 0 for no.
    pub fault_domains_min: u32,
    /// Hosts of one group are kept apart.
    pub anti_affinity_group: Option<String>,
    /// Nodes get an alias that stays when their host is replaced.
    pub cname: bool,
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
    /// When that was recorded, Unix ms.
    pub host_changed_ms: i64,
    /// Its host's address once known.
    pub address: Option<String>,
    /// What its host shares with others and fails with, where the provider tells.
    pub fault_domain: Option<String>,
    /// Which replacement its host is, as in [`NodeWish::replacements`]; of no host, that of the last.
    pub host_number: u32,
    /// Counts enrolments, and hosts that an agent had enrolled on and that are gone; 0 before the first.
    pub incarnation: u64,
    /// The agent of this incarnation has enrolled.
    pub enrolled: bool,
    /// The assignment it was given last.
    pub assignment: Option<Assignment>,
    /// Newest generation it confirmed to hold.
    pub converged_generation: u64,
    /// A `validate` of this incarnation succeeded once. To confirm a generation is less than that: one
    /// whose services are stopped confirms it without; and more: one that is given another generation
    /// right after it was seen to work confirms none before it has that.
    pub worked: bool,
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
    /// It could not be made, or not be removed, and why.
    Failed(HostFailure),
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
    /// Of which component; none for the whole topology.
    pub component: Option<ComponentId>,
    /// In words.
    pub detail: String,
    /// When, Unix ms.
    pub created_ms: i64,
}
