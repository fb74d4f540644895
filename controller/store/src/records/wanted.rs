//! What is wanted of a component and its nodes, which is all that requests change.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::build::AgentBuild;
use straas_schemas::storage::DeliveredFile;
use straas_schemas::{ComponentId, JobId, NodeId, TopologyId};

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
    /// The hashes of all files that its nodes are to have, and of the build that their agents are to be.
    pub fn hashes(&self) -> impl Iterator<Item = &str> {
        let of_nodes = self.want.nodes.values().flat_map(|node| &node.files);
        let files = self.want.files.iter().chain(of_nodes).map(|file| file.sha256.as_str());
        files.chain(self.want.agent.iter().map(|build| build.sha256.as_str()))
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
    /// The build of the agent that all its nodes are to run; none for the packaged one. No part of a rollout of the
    /// component: what is turned back there leaves it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentBuild>,
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
