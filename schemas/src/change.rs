//! Requests that change a running component.
//!
//! Each is another desired state, nothing more: the planner finds out what that means for whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most items of one script sync.
pub const SYNC_ITEMS_MAX: usize = 1_000;
/// Nodes that may fail a change before it is held, if the request names no other number.
pub const MAX_FAILURES: u32 = 1;

/// `PATCH /components/{id}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentPatch {
    /// Another version of its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Another number of nodes of `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub size: Option<u32>,
    /// Which nodes `size` counts; may be absent where there is one role only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Another commit, tag or branch of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How it reaches the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutOptions>,
}

/// How a change reaches the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutOptions {
    /// One node of each role goes first and has to work; true if absent, but for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<bool>,
    /// Hold once so many nodes fail; [`MAX_FAILURES`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_failures: Option<u32>,
}

/// `POST /components/{id}`: more nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlexupRequest {
    /// How many more.
    #[schemars(range(min = 1, max = 1_000))]
    pub count: u32,
    /// Of which role; may be absent where there is one role only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// `PUT /nodes/scripts`: have this commit of the script repo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// What the items name.
    pub scope: Scope,
    /// Ids.
    #[schemars(length(min = 1, max = 1_000))]
    pub items: Vec<String>,
    /// The commit; the newest if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How it reaches the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutOptions>,
}

/// What the items of a request are; in the singular, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = singular_too)]
pub enum Scope {
    /// Every component of these topologies.
    #[serde(alias = "topology")]
    Topologies,
    /// These components.
    #[serde(alias = "component")]
    Components,
    /// These nodes only.
    #[serde(alias = "node")]
    Nodes,
}

/// The singular is the spelling of the API's first description; both are understood.
fn singular_too(schema: &mut schemars::Schema) {
    let names = ["topologies", "components", "nodes", "topology", "component", "node"];
    let text = "Every component of these topologies, these components, or these nodes only.";
    *schema = schemars::json_schema!({ "type": "string", "description": text, "enum": names });
}
