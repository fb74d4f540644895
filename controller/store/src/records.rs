//! What is stored, as plain values.
//!
//! A record is what the controller must not lose. Pictures for people (`schemas/src/view.rs`) and
//! plans are made from records and never stored, with one exception: the last picture of a job
//! that has ended, since the nodes it shows may be gone.

mod jobs;
mod wanted;

pub use jobs::*;
pub use wanted::*;

use crate::commands::CommandRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::report::StageResult;
use straas_schemas::{ComponentId, Digest, NodeId, Stage, TopologyId};

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
    /// What it shares with others and fails with, where the provider tells.
    pub fault_domain: Option<String>,
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
    /// A `validate` of this incarnation succeeded once.
    pub worked: bool,
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
    /// How many assignments were written for it. What is planned holds while that is so: of two plans of two controllers,
    /// each right for what it had read, both together might disturb too many nodes at once.
    pub writes: u64,
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

impl Snapshot {
    /// Of a topology with nothing in it.
    #[must_use]
    pub fn of(topology: TopologyRecord) -> Self {
        let (components, nodes, jobs) = (Vec::new(), Vec::new(), Vec::new());
        Self { topology, writes: 0, components, nodes, jobs, operations: Vec::new(), neighbours: Vec::new() }
    }
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
    /// `version`, `scripts` or `agents`.
    pub what: String,
    /// `{type}@{version}`, the commit, or what the build is called.
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
