//! Component metadata: what the controller knows of a component type, as data of the config repo.
//!
//! `metadata/{type}.json` on the `master` branch. Adding a component or a version is a commit
//! there and in the script repo; no Rust changes.

use crate::{Package, Stage, assignment::Limits};
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
    /// Ports its nodes listen on.
    pub ports: Vec<Port>,
    /// Time limits by stage or verb (`install` … `validate`, `start`, `stop`, `remove`).
    pub stages: BTreeMap<String, Limits>,
    /// Seconds of "not yet" in a row after which `validate` counts as failed.
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
