//! Component metadata: what the controller knows of a component type, as data of the config repo.
//!
//! `metadata/{type}.json` on the `master` branch. Adding a component or a version is a commit
//! there and in the script repo; no Rust changes.

use crate::assignment::{DriftPolicy, Limits};
use crate::{Package, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The component types a fleet offers, by type name.
pub type Catalog = BTreeMap<String, ComponentMeta>;

/// What is known of a component type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentMeta {
    /// The type's name, equal to the file's.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence for people.
    pub description: String,
    /// The roles of its nodes.
    pub roles: Vec<RoleMeta>,
    /// The role of nodes for which a request names none.
    pub default_role: String,
    /// The version of a request that names none.
    pub default_version: String,
    /// Supported versions.
    pub versions: BTreeMap<String, VersionMeta>,
    /// Supported flavors: the size of a host.
    pub flavors: BTreeMap<String, Flavor>,
    /// The flavor of a request that names none.
    pub default_flavor: String,
    /// How many nodes a component may have.
    pub sizes: Sizes,
    /// Component types it may or must depend on.
    pub dependencies: Vec<DependencyMeta>,
    /// Role → roles of the same component whose nodes it must know before it is configured.
    pub peers: BTreeMap<String, Vec<String>>,
    /// How many nodes may be disturbed at once, and in which order.
    pub disruption: Disruption,
    /// How the set of its nodes may change.
    #[serde(default)]
    pub membership: Membership,
    /// How drift is looked for.
    #[serde(default)]
    pub drift: DriftMeta,
    /// Ports its nodes listen on.
    pub ports: Vec<Port>,
    /// Time limits by stage or verb (`install` … `validate`, `start`, `stop`, `remove`).
    pub stages: BTreeMap<String, Limits>,
    /// Seconds of "not yet" in a row after which `validate` counts as failed, and again with growing pauses.
    pub validate_wait_s: u32,
    /// Seconds between two validations of a settled node.
    pub validate_every_s: u32,
}

impl ComponentMeta {
    /// The role called `name`.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&RoleMeta> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// How many nodes of a role there may be.
    #[must_use]
    pub fn sizes_of(&self, role: &str) -> Sizes {
        self.role(role).and_then(|role| role.sizes).unwrap_or(self.sizes)
    }

    /// The limits of `stage`.
    #[must_use]
    pub fn limits(&self, stage: Stage) -> Limits {
        self.stages.get(stage.name()).copied().unwrap_or(DEFAULT_LIMITS)
    }
}

/// Limits of a stage that the metadata does not name: an installation over a slow mirror fits.
pub const DEFAULT_LIMITS: Limits = Limits { total_s: 1800, no_progress_s: 600 };

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleMeta {
    /// Its name, as requests say it.
    pub name: String,
    /// Names the folder of its scripts.
    pub script_role: String,
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// Its own limits of size, instead of the component's.
    #[serde(default)]
    pub sizes: Option<Sizes>,
    /// Sections of the configuration that its scripts read; all if absent. A key of another section
    /// re-runs nothing on its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sections: Option<Vec<String>>,
    /// Its scripts read in which fault domain the node's host is, and those of its peers: the context has them, and
    /// `pre_config` runs again when they change.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fault_domain: bool,
    /// What is to be done once a node that joined a working component works itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Operation>,
    /// What is to be done before a node that leaves loses its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave: Option<Operation>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks it
fn is_false(value: &bool) -> bool {
    !value
}

/// A version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionMeta {
    /// The packages that make it up.
    pub packages: Vec<Package>,
}

/// Size of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flavor {
    /// MiB of memory.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
    /// GiB of disk.
    pub disk_gib: u32,
}

/// Allowed numbers of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
    /// For a request that names none.
    pub default: u32,
    /// Only odd numbers (a quorum gains nothing from an even one).
    #[serde(default)]
    pub odd: bool,
}

/// A component type that another one may or must depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DependencyMeta {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// It cannot run without.
    pub required: bool,
    /// What is to be done on the dependency before the first `pre_config`, once per component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// What is to be done on the dependency once a component that depended on it is removed and its
    /// hosts are gone: what is left there of it goes. Given up after some tries, and the job says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Operation>,
}

/// How a running component may be disturbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disruption {
    /// Nodes that may be re-configuring or restarting at once.
    pub max_unavailable: u32,
    /// Nodes with these facts go last, e.g. `{"mode": "leader"}`.
    #[serde(default)]
    pub last_fact: BTreeMap<String, serde_json::Value>,
    /// Facts that every node must show, e.g. `{"under_replicated": 0}`. While one shows another
    /// value, nobody in this component or in one that it depends on may be disturbed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settled: BTreeMap<String, serde_json::Value>,
    /// Installing another version disturbs the running one, so `install` too waits for a permit.
    #[serde(default)]
    pub install: bool,
}

/// How the set of nodes of a component may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Any number at once.
    #[default]
    Free,
    /// One at a time, and the others first: any two majorities of consecutive sets intersect.
    Stepwise,
}

/// A guest command that the planner runs by itself. It must be declared idempotent: it is tried
/// again until it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// `group/name`.
    pub command: String,
    /// Its arguments. In texts `{node}`, `{ordinal}`, `{role}`, `{topology}`, `{component}` and
    /// `{component_id}` stand for those of the node that joins or leaves, or of the component that depends.
    #[serde(default)]
    pub args: BTreeMap<String, serde_json::Value>,
}

/// Seconds between two looks for drift where the metadata names none: a look is a Puppet run.
pub const DRIFT_EVERY_S: u32 = 3_600;

/// How drift is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftMeta {
    /// Seconds between two looks.
    pub every_s: u32,
    /// What is done about it.
    #[serde(default)]
    pub policy: DriftPolicy,
}

impl Default for DriftMeta {
    fn default() -> Self {
        Self { every_s: DRIFT_EVERY_S, policy: DriftPolicy::Report }
    }
}

/// A port that nodes listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What it is for.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who may connect: `tenant` or `component`.
    pub from: String,
}
