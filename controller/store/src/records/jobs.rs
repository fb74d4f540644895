//! Jobs, which tell people what becomes of what they asked for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::job::{JobKind, JobStanding};
use straas_schemas::storage::DeliveredFile;
use straas_schemas::{ComponentId, JobId, NodeId, TopologyId};

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
