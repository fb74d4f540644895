//! Jobs as seen from outside: a request, its steps as a DAG, and per-node progress.
//!
//! Nothing here is stored as a workflow: the planner derives it from desired and observed state
//! each time it is asked. Only that a job was begun, and how it ended, is recorded.

use crate::{ComponentId, JobId, NodeId, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub kind: JobKind,
    /// The component it works on; none for the whole topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentId>,
    /// The topology it works on.
    pub topology: TopologyId,
    /// That topology's name, kept after its deletion.
    pub topology_name: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// How it stands.
    #[serde(rename = "state")]
    pub standing: JobStanding,
    /// In words: what it is about or why it stands so.
    pub detail: String,
    /// When it was accepted, Unix ms.
    pub created_ms: i64,
    /// When it ended, Unix ms.
    pub finished_ms: Option<i64>,
    /// Its steps; each names those it waits for.
    pub steps: Vec<Step>,
}

/// What a job was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Create a topology.
    Create,
    /// Change several things of a component at once.
    Change,
    /// Another version of a component.
    Upgrade,
    /// Another configuration of a component.
    Configure,
    /// An earlier configuration of a component.
    Rollback,
    /// Another commit of the scripts.
    Sync,
    /// More nodes.
    Flexup,
    /// Fewer nodes.
    Flexdown,
    /// Another host for a node.
    Replace,
    /// Start services.
    Start,
    /// Stop services.
    Stop,
    /// Restart services.
    Restart,
    /// Give files to nodes, or take them.
    Files,
    /// Another build of the agent.
    Agent,
    /// Remove a component.
    Remove,
    /// Delete a topology.
    Delete,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Create,
        Self::Change,
        Self::Upgrade,
        Self::Configure,
        Self::Rollback,
        Self::Sync,
        Self::Flexup,
        Self::Flexdown,
        Self::Replace,
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Files,
        Self::Agent,
        Self::Remove,
        Self::Delete,
    ];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Upgrade => "upgrade",
            Self::Configure => "configure",
            Self::Rollback => "rollback",
            Self::Sync => "sync",
            Self::Flexup => "flexup",
            Self::Flexdown => "flexdown",
            Self::Replace => "replace",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Files => "files",
            Self::Agent => "agent",
            Self::Remove => "remove",
            Self::Delete => "delete",
        }
    }

    /// Whether a new job of this kind takes the place of an open one: of the same component, and of
    /// any of the topology if it is of the whole.
    #[must_use]
    pub const fn takes_place_of(self, open: Self) -> bool {
        match self {
            Self::Delete => true,
            Self::Remove => !matches!(open, Self::Create | Self::Delete),
            Self::Change | Self::Upgrade | Self::Configure | Self::Rollback | Self::Sync => {
                matches!(open, Self::Change | Self::Upgrade | Self::Configure | Self::Rollback | Self::Sync)
            }
            Self::Flexup | Self::Flexdown => matches!(open, Self::Flexup | Self::Flexdown),
            Self::Start | Self::Stop | Self::Restart => matches!(open, Self::Start | Self::Stop | Self::Restart),
            Self::Agent => matches!(open, Self::Agent),
            Self::Create | Self::Replace | Self::Files => false,
        }
    }
}

/// How a job stands.
///
/// ```text
///            ┌──────────► Succeeded
/// Running ◄──┤  a stage failed on some node
///  │  ▲ │ ──► Failing ──► Succeeded   (the retry or a correction helped)
///  ▼  │ │        └──────► Held ──────► (resumed) Running, or Cancelled
/// Paused │                └─────────► RolledBack (the canary failed)
///        └──► Superseded              (a later request took its place)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStanding {
    /// Work is going on or waited for.
    Running,
    /// Some node failed a stage and will retry; a correction is taken up at once.
    Failing,
    /// A user paused it: nodes that have begun go on, no other begins.
    Paused,
    /// Too many nodes failed: as paused, until a user resumes, cancels or corrects it.
    Held,
    /// Everything holds.
    Succeeded,
    /// A later request changed what this one wanted.
    Superseded,
    /// Its canary failed; what was before holds again.
    RolledBack,
    /// A user took it back; what was before holds again.
    Cancelled,
}

impl JobStanding {
    /// Whether nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Superseded | Self::RolledBack | Self::Cancelled)
    }

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Superseded => "superseded",
            Self::RolledBack => "rolled_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A step of the workflow: one stage of one component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// `component/stage`, unique in the job.
    pub id: String,
    /// The component, none for steps of the whole topology.
    pub component: Option<ComponentId>,
    /// The component's name, empty for steps of the whole topology.
    pub component_name: String,
    /// Which stage of the workflow.
    pub stage: JobStage,
    /// Ids of the steps that come first.
    pub after: Vec<String>,
    /// Nodes that are done.
    pub done: u32,
    /// Nodes in all.
    pub total: u32,
    /// How it stands.
    #[serde(rename = "state")]
    pub progress: Progress,
    /// What it waits for, if it waits.
    pub waiting_for: Option<String>,
    /// Each node.
    pub nodes: Vec<NodeStep>,
}

/// Stages of a workflow (2017 design, 4.3.2.1): those of the controller around those of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStage {
    /// Branch in the config repo, records.
    Start,
    /// Hosts are made.
    Spawn,
    /// Agents have enrolled.
    VerifySpawn,
    /// Operations on the components it depends on.
    Prepare,
    /// Packages.
    Install,
    /// Aliases resolve.
    Cname,
    /// `site.pp`.
    PreConfig,
    /// Puppet.
    Config,
    /// The service works.
    Validate,
    /// Operations for nodes that joined.
    Join,
    /// Operations for nodes that leave.
    Leave,
    /// Services are stopped.
    Halt,
    /// Files are put in place.
    Files,
    /// Agents are replaced by another build.
    Agent,
    /// Hosts are removed.
    Remove,
    /// What a removed component had on those it depended on is removed there.
    Release,
    /// Branch, tags and records are removed.
    Finish,
}

impl JobStage {
    /// The name on the wire and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Spawn => "spawn",
            Self::VerifySpawn => "verify_spawn",
            Self::Prepare => "prepare",
            Self::Install => "install",
            Self::Cname => "cname",
            Self::PreConfig => "pre_config",
            Self::Config => "config",
            Self::Validate => "validate",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Halt => "halt",
            Self::Files => "files",
            Self::Agent => "agent",
            Self::Remove => "remove",
            Self::Release => "release",
            Self::Finish => "finish",
        }
    }
}

/// How a step or a node in it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Its turn has not come.
    Pending,
    /// Something has to happen first.
    Waiting,
    /// It is being done.
    Running,
    /// It failed and will be tried again.
    Retrying,
    /// Done.
    Done,
}

/// One node in a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStep {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// How it stands.
    #[serde(rename = "state")]
    pub progress: Progress,
    /// Which run, from 1; 0 before the first.
    pub attempt: u32,
    /// How long the last run took, in ms.
    pub duration_ms: Option<u64>,
    /// What it is doing, waits for, or why it failed.
    pub detail: String,
    /// The script's own percentage.
    pub percent: Option<u8>,
    /// Last lines of output of a failed run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output_tail: String,
    /// What the script advises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When the next run starts, Unix ms by the controller's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_ms: Option<i64>,
}
