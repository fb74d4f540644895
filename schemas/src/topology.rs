//! The request that creates a topology (2017 design, 4.3.2.1), and what makes one well-formed.
//!
//! Two layers, both of which report every fault at once: the shape is the JSON Schema made from
//! [`TopologyRequest`]; the meaning is [`faults`], which reads the raw JSON leniently, so that a
//! wrong type in one place does not hide a cycle in another.

mod meaning;

pub use meaning::{Elsewhere, elsewhere, faults, is_zone, size_fault};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most components of one topology; a topology is planned as a whole, so its size is bounded.
pub const COMPONENTS_MAX: usize = 32;
/// Most submodules of one component.
pub const SUBMODULES_MAX: usize = 16;
/// Most nodes of one group: a node's assignment names its peers, and a topology of 1,000 nodes is
/// what the planner is measured with.
pub const GROUP_SIZE_MAX: u32 = 1_000;
/// Longest anti-affinity group: a label of the provider.
pub const AFFINITY_NAME_MAX: usize = 63;

/// A topology as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyRequest {
    /// Its name, unique in its availability zone.
    pub name: String,
    /// The availability zone its nodes are in.
    pub availability_zone: String,
    /// Its components.
    #[schemars(length(min = 1, max = 32))]
    pub components: Vec<ComponentRequest>,
}

/// A component as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentRequest {
    /// Its name, unique in the topology.
    pub name: String,
    /// Its type: one of the catalog.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version; the type's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Number of nodes; the type's default if absent. With submodules their sizes count instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub size: Option<u32>,
    /// Size of its hosts; the type's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Spread its hosts over fault domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_fault_domain: Option<bool>,
    /// Over at least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_num_of_fault_domain: Option<u32>,
    /// Hosts of one group are kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity_group: Option<String>,
    /// Give each node a DNS alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_cname: Option<bool>,
    /// Components that must work first: one name or a list. A name is that of a component of this
    /// topology, or `topology/component` for one of another topology of the tenant (its name, its
    /// `name@zone` if it is in another zone, or its id).
    #[serde(default, skip_serializing_if = "DependsOn::is_empty")]
    pub depends_on: DependsOn,
    /// Groups of nodes with a role of their own; they override the component's settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub submodules: Vec<SubmoduleRequest>,
}

/// A group of nodes of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmoduleRequest {
    /// The role: one of the type's.
    pub role: String,
    /// Its name, used in host names.
    pub name: String,
    /// Number of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub size: Option<u32>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_fault_domain: Option<bool>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_num_of_fault_domain: Option<u32>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity_group: Option<String>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_cname: Option<bool>,
}

/// One name or a list of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DependsOn {
    /// One.
    One(String),
    /// Several.
    Many(#[schemars(length(max = 32))] Vec<String>),
}

impl Default for DependsOn {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl DependsOn {
    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// No names at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }
}
