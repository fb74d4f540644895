//! Rollouts over the fleet: one change that reaches many components in batches, each verified before the next.
//!
//! What reaches the nodes of a single component in waves is another thing (`change.rs`, `view.rs`): a rollout over the
//! fleet begins one of those in each of its members.

use crate::storage::stored_path_fault;
use crate::{ComponentId, Fault, JobId, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most components of one rollout: its record is read as a whole at every step, and shown in one answer (some MiB).
pub const ROLLOUT_MEMBERS_MAX: usize = 10_000;
/// Most batches of one rollout: more would only make it last.
pub const ROLLOUT_BATCHES_MAX: usize = 20;
/// Longest time for which a batch is watched before the next begins, in seconds: a day.
pub const SOAK_S_MAX: u32 = 86_400;
/// The batches, where the request names none: percent of the nodes that have it when the batch is done.
pub const ROLLOUT_BATCHES: [u32; 4] = [1, 5, 50, 100];

/// What is rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FleetRolloutKind {
    /// A commit of the script repo.
    Scripts,
    /// A build of the agent, or the packaged agent.
    Agents,
}

impl FleetRolloutKind {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Agents => "agents",
        }
    }

    /// What is rolled out, for people.
    #[must_use]
    pub const fn thing(self) -> &'static str {
        match self {
            Self::Scripts => "commit",
            Self::Agents => "build",
        }
    }
}

/// `POST /rollouts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetRolloutRequest {
    /// What is rolled out.
    pub kind: FleetRolloutKind,
    /// Of scripts: the commit; the newest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Of agents: the build, as it is in the storage now. One that is stored under this name later reaches nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<BuildFile>,
    /// Of agents: the packaged one, in the place of a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packaged: bool,
    /// To everybody's components, for who may change them; else to those of the caller's tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_tenants: bool,
    /// What the items name, if it goes to those only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<FleetScope>,
    /// Ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_000))]
    pub items: Option<Vec<String>>,
    /// Percent of the nodes that have it when the batch is done: rising, the last 100. 1, 5, 50, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), inner(range(min = 1, max = 100)))]
    pub batches: Option<Vec<u32>>,
    /// So many seconds a batch has to stay healthy before the next begins; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub soak_s: Option<u32>,
}

/// A file in the caller's storage that is a build of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildFile {
    /// The storage; the one there is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The region.
    pub region: String,
    /// The first folder of its path in the storage.
    #[schemars(length(min = 1, max = 512))]
    pub container: String,
    /// The rest of that path.
    #[schemars(length(min = 1, max = 512))]
    pub filename: String,
}

impl BuildFile {
    /// `container/filename`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.container, self.filename)
    }

    /// What is wrong with it beyond its shape.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.container.contains('/') {
            faults.push(Fault::at("/file/container", "is one folder; what comes below it belongs into filename"));
        }
        faults.extend(stored_path_fault(&self.path()).map(|text| Fault::at("/file/filename", text)));
        faults
    }
}

/// What the items of a rollout are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FleetScope {
    /// Every component of these topologies.
    Topologies,
    /// These components.
    Components,
}

/// How a rollout stands.
///
/// ```text
/// Running ◄──► Paused
///    │  └────────┴──► TurningBack ──► TurnedBack   (a member failed)
///    │           └──► Cancelling ───► Cancelled    (a user took it back)
///    └──► Succeeded
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FleetRolloutStanding {
    /// It goes on.
    Running,
    /// A user paused it: members that have begun go on, no other begins.
    Paused,
    /// A member failed: those that have begun get back what they had.
    TurningBack,
    /// A user cancelled it: those that have begun get back what they had.
    Cancelling,
    /// Every member has it.
    Succeeded,
    /// A member failed; what was before is wanted again.
    TurnedBack,
    /// A user cancelled it; what was before is wanted again.
    Cancelled,
}

impl FleetRolloutStanding {
    /// Whether nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::TurnedBack | Self::Cancelled)
    }

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::TurningBack => "turning_back",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::TurnedBack => "turned_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How far a member of a rollout is.
///
/// ```text
/// Waiting ──► Begun ──► Verified ──► TurnedBack
///    │          ├──► Failed └──► Failed   (unhealthy while its batch is watched)
///    └──────────┴──► Skipped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FleetMemberPhase {
    /// Its turn has not come.
    Waiting,
    /// It is getting it.
    Begun,
    /// It has it, and works.
    Verified,
    /// It does not work with it.
    Failed,
    /// It is gone, or somebody changed it to something else: it is left alone.
    Skipped,
    /// It wants again what it had.
    TurnedBack,
}

impl FleetMemberPhase {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Begun => "begun",
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::TurnedBack => "turned_back",
        }
    }
}

/// A rollout over the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetRollout {
    /// Its id.
    pub id: String,
    /// What is rolled out.
    pub kind: FleetRolloutKind,
    /// Of scripts: the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Of agents: the SHA-256 of the build, or `packaged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Of a build: where it was in the storage when it was asked for, `storage:region/path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who began it.
    pub author: String,
    /// His tenant.
    pub tenant: String,
    /// It goes to everybody's components.
    pub all_tenants: bool,
    /// How it stands.
    #[serde(rename = "state")]
    pub standing: FleetRolloutStanding,
    /// Why it is turned back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which batch it is at, from 1; 0 if there is none.
    pub batch: u32,
    /// Its batches.
    pub batches: Vec<FleetBatch>,
    /// So many seconds each batch has to stay healthy before the next begins.
    pub soak_s: u32,
    /// Since when the present batch has been watched for that, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_since_ms: Option<i64>,
    /// Components in all.
    pub total: u32,
    /// Components that have it and work.
    pub verified: u32,
    /// When it was asked for, Unix ms.
    pub created_ms: i64,
    /// When it ended, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Its components in their order; lists leave them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<FleetMember>,
}

/// A batch of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetBatch {
    /// Percent of the nodes that were to have it once the batch is done.
    pub percent: u32,
    /// Components of the batch.
    pub components: u32,
    /// Their nodes, as of when the rollout was asked for.
    pub nodes: u32,
}

/// A component in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetMember {
    /// The component.
    pub component: ComponentId,
    /// Its name.
    pub component_name: String,
    /// Its topology.
    pub topology: TopologyId,
    /// That topology's name.
    pub topology_name: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its batch, from 1.
    pub batch: u32,
    /// Its nodes, as of when the rollout was asked for.
    pub nodes: u32,
    /// What it had: a commit, or the SHA-256 of a build or `packaged`.
    pub before: String,
    /// How far it is.
    pub phase: FleetMemberPhase,
    /// Why it failed, was skipped or turned back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The job that brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
}
