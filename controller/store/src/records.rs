//! What is stored, as plain values.
//!
//! A record is what the controller must not lose. Pictures for people (`schemas/src/view.rs`) and
//! plans are made from records and never stored, with one exception: the last picture of a job
//! that has ended, since the nodes it shows may be gone.

use crate::commands::CommandRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::{JobKind, JobStanding};
use straas_schemas::report::StageResult;
use straas_schemas::storage::DeliveredFile;
use straas_schemas::{ComponentId, Digest, JobId, NodeId, Stage, TopologyId};

/// A topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyRecord {
    /// Its id.
    pub id: TopologyId,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Its name, unique in its zone.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// Its branch in the config repo.
    pub branch: String,
    /// The commit of that branch that is applied.
    pub config_commit: String,
    /// It is to be removed.
    pub deleting: bool,
    /// Unix ms.
    pub created_ms: i64,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentRecord {
    /// Its id.
    pub id: ComponentId,
    /// Its topology.
    pub topology: TopologyId,
    /// Its name.
    pub name: String,
    /// Its position in the request.
    pub position: u32,
    /// What it should be.
    pub spec: ComponentSpec,
    /// Rises with each change of the spec.
    pub revision: u64,
}

/// What a component should be, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Names of components of the same topology that come first.
    pub depends_on: Vec<String>,
    /// Components of other topologies of the tenant that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<ForeignSpec>,
    /// What is wanted of it.
    pub want: Want,
    /// The change that is under way, until every node has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// It is to be removed.
    #[serde(default)]
    pub removed: bool,
}

impl ComponentSpec {
    /// The hashes of all files that its nodes are to have.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        let of_nodes = self.want.nodes.values().flat_map(|node| &node.files);
        self.want.files.iter().chain(of_nodes).map(|file| file.sha256.as_str())
    }
}

/// A component of another topology that comes first. It is meant by its id; the name is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignSpec {
    /// Its topology.
    pub topology: TopologyId,
    /// The component.
    pub component: ComponentId,
    /// `topology/component`, or `topology@zone/component` if that is in another zone.
    pub name: String,
}

/// Everything of a component that a request can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Its version.
    pub version: String,
    /// Commit of the config repo.
    pub config: String,
    /// Commit of the script repo.
    pub scripts: String,
    /// Its groups of nodes.
    pub groups: Vec<GroupSpec>,
    /// What is wanted of single nodes, where it is not the usual.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<NodeId, NodeSpec>,
    /// Files that all its nodes are to have, by target path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DeliveredFile>,
}

/// What is wanted of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its services are to be stopped.
    #[serde(default)]
    pub stopped: bool,
    /// How many restarts were asked for so far.
    #[serde(default)]
    pub restarts: u32,
    /// How many replacements of its host were asked for so far.
    #[serde(default)]
    pub replacements: u32,
    /// Commit of the script repo, if not the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<String>,
    /// Files that it is to have beside those of its component, by target path; one of the same path
    /// comes in the place of the component's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<DeliveredFile>,
}

/// A change on its way through the nodes of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSpec {
    /// The job it belongs to.
    pub job: JobId,
    /// What was wanted before it; what is wanted again if it is cancelled or turned back.
    pub before: Box<Want>,
    /// One node of each role goes first and has to work.
    pub canary: bool,
    /// Hold once so many nodes fail.
    pub max_failures: u32,
    /// A user paused it.
    #[serde(default)]
    pub paused: bool,
    /// A user cancelled it, or its canary failed, for this reason: `want` and `before` changed
    /// places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<Reverted>,
}

/// Why a change was turned back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// In words.
    pub reason: String,
    /// A user did it, no failure.
    pub by_user: bool,
}

/// Nodes of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Names the hosts: `{topology}-{name}-{ordinal}`.
    pub name: String,
    /// The role.
    pub role: String,
    /// How many.
    pub size: u32,
    /// Ordinals that are not given out (again).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<u32>,
    /// Size of a host.
    pub flavor: String,
    /// Spread over fault domains, at least so many; 0 for no.
    pub fault_domains_min: u32,
    /// Kept apart from other hosts of this group.
    pub anti_affinity_group: Option<String>,
    /// Gets a DNS alias.
    pub cname: bool,
}

/// A node as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its topology.
    pub topology: TopologyId,
    /// Its component.
    pub component: ComponentId,
    /// The group it belongs to.
    pub group: String,
    /// Its role.
    pub role: String,
    /// Its host name.
    pub name: String,
    /// Its number in the group, from 1.
    pub ordinal: u32,
}

/// What is known of a node's host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// How it stands.
    pub phase: HostPhase,
    /// Its address once known.
    pub address: Option<String>,
    /// Why it could not be made or removed, last time.
    pub error: Option<String>,
    /// How often in a row that failed; 0 if it did not.
    pub attempt: u32,
    /// When it is tried again, Unix ms.
    pub next_ms: Option<i64>,
    /// Which replacement it is ([`NodeSpec::replacements`]); of no host, that of the last.
    pub number: u32,
    /// When this was written, Unix ms.
    pub changed_ms: i64,
}

impl HostRecord {
    /// Whether there is no host: none was made yet, or the provider says that it is gone. One that is
    /// only down keeps its address.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.phase == HostPhase::Absent && self.address.is_none()
    }
}

/// How a host stands.
///
/// ```text
/// Absent ──► Up ──► Absent
///    └─► Failed ──► Up
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPhase {
    /// Not made yet.
    #[default]
    Absent,
    /// Could not be made; will be tried again.
    Failed,
    /// The provider says it runs.
    Up,
}

/// A node with everything observed of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSnapshot {
    /// As planned.
    pub record: NodeRecord,
    /// Its host.
    pub host: HostRecord,
    /// Counts enrolments; 0 before the first.
    pub incarnation: u64,
    /// When the incarnation enrolled, Unix ms.
    pub enrolled_ms: Option<i64>,
    /// Generation and content digest of the newest assignment.
    pub assigned: Option<(u64, Digest)>,
    /// Newest generation the node confirmed to hold.
    pub converged_generation: u64,
    /// Newest result of each stage with the time it was received.
    pub stages: BTreeMap<Stage, (StageResult, i64)>,
    /// Newest refusal: generation offered, reason.
    pub refused: Option<(u64, String)>,
    /// Newest heartbeat with the time it was received.
    pub heartbeat: Option<(Heartbeat, i64)>,
}

/// A node in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIndex {
    /// The node.
    pub id: NodeId,
    /// Its topology.
    pub topology: TopologyId,
    /// Its newest incarnation.
    pub incarnation: u64,
}

/// A node that can be reached, with what names it for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// The address of its host.
    pub address: String,
    /// Its component's name.
    pub component: String,
    /// Its topology's name.
    pub topology: String,
    /// That topology's zone.
    pub zone: String,
    /// That topology's tenant.
    pub tenant: String,
}

/// An assignment as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAssignment {
    /// The node.
    pub node: NodeId,
    /// Its generation.
    pub generation: u64,
    /// Its content digest.
    pub digest: Digest,
    /// The JSON text.
    pub document: String,
}

/// A topology with everything in it, as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The topology.
    pub topology: TopologyRecord,
    /// Its components by position.
    pub components: Vec<ComponentRecord>,
    /// Its nodes by id.
    pub nodes: Vec<NodeSnapshot>,
    /// Its jobs that have not ended, oldest first.
    pub jobs: Vec<JobRecord>,
    /// The newest try of each of its operations, by key.
    pub operations: Vec<CommandRecord>,
    /// Components of other topologies, by id: those that its own depend on, and those that depend
    /// on its own, through others as well.
    pub neighbours: Vec<Neighbour>,
}

/// A component of another topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Its topology.
    pub topology: TopologyRecord,
    /// The component.
    pub component: ComponentRecord,
    /// Its nodes by id.
    pub nodes: Vec<NodeSnapshot>,
}

/// Something that failed its canaries and that nobody should get any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// `version` or `scripts`.
    pub what: String,
    /// `{type}@{version}`, or the commit.
    pub key: String,
    /// Why.
    pub reason: String,
    /// The topology where it failed.
    pub topology: TopologyId,
    /// Unix ms.
    pub at_ms: i64,
}

/// What became of a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolOutcome {
    /// It was good and is now spent.
    Enrolled {
        /// The node it was bound to.
        node: NodeId,
        /// The node's new incarnation.
        incarnation: u64,
    },
    /// No such token.
    Unknown,
    /// Spent before.
    Used,
    /// Too old.
    Expired,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id; ids rise with time.
    pub id: JobId,
    /// What was asked for.
    pub kind: JobKind,
    /// The component it works on; none for the whole topology.
    pub component: Option<ComponentId>,
    /// The topology it works on.
    pub topology: TopologyId,
    /// That topology's name.
    pub topology_name: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// In words.
    pub detail: String,
    /// Unix ms.
    pub created_ms: i64,
    /// What puts back the numbers that it changed, should it be cancelled.
    pub undo: Option<Undo>,
    /// How it ended, if it has.
    pub ended: Option<JobEnd>,
}

/// What puts back the numbers that a job changed. What a rollout changed is in
/// [`RolloutSpec::before`] instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Undo {
    /// Nodes of a group joined.
    Joined {
        /// The group.
        group: String,
        /// Their ordinals.
        ordinals: Vec<u32>,
    },
    /// Nodes of a group are to leave.
    Left {
        /// The group.
        group: String,
        /// Their ordinals.
        ordinals: Vec<u32>,
    },
    /// Services were started or stopped.
    Stopped {
        /// Whether they were to be stopped before.
        nodes: BTreeMap<NodeId, bool>,
    },
    /// A file was given or taken.
    Files {
        /// Its target path.
        target_path: String,
        /// What there was before, by whom it was given or taken: nodes, or the component (`None`).
        before: Vec<(Option<NodeId>, Option<DeliveredFile>)>,
    },
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobEnd {
    /// Any that is final.
    pub standing: JobStanding,
    /// Unix ms.
    pub at_ms: i64,
    /// Its last picture; `None` if a later request took its place.
    pub document: Option<serde_json::Value>,
}

/// Which topologies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopologyFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// In this zone.
    pub zone: Option<String>,
}

impl TopologyFilter {
    /// Of a tenant, or all.
    #[must_use]
    pub fn of(tenant: Option<&str>) -> Self {
        Self { tenant: tenant.map(str::to_owned), ..Self::default() }
    }
}

/// Which jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this topology.
    pub topology: Option<TopologyId>,
    /// On this component.
    pub component: Option<ComponentId>,
    /// Of this kind.
    pub kind: Option<JobKind>,
    /// That ended so.
    pub ended: Option<JobStanding>,
    /// Only those that have not ended.
    pub open_only: bool,
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Ids after this one (before, where newest come first); none for the first page.
    pub after: Option<String>,
    /// At most so many, capped at [`crate::PAGE_MAX`].
    pub limit: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// An event before it has a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Unix ms.
    pub at_ms: i64,
    /// The topology it belongs to.
    pub topology: TopologyId,
    /// The node, if it is of one.
    pub node: Option<NodeId>,
    /// Kind, e.g. `stage`, `host`, `job`.
    pub kind: &'static str,
    /// In one sentence.
    pub text: String,
}
