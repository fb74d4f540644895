//! The model of a topology in a configuration management system: what there is, and how it hangs
//! together, without anything that changes by itself.

use crate::{ComponentId, NodeId, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topology as a configuration item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CmsModel {
    /// Its id.
    pub id: TopologyId,
    /// Its name.
    pub name: String,
    /// Its availability zone.
    pub availability_zone: String,
    /// Whose it is.
    pub tenant: String,
    /// Its clusters.
    pub components: Vec<CmsComponent>,
}

/// A cluster as a configuration item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CmsComponent {
    /// Its id.
    pub id: ComponentId,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version.
    pub version: String,
    /// What it depends on.
    pub depends_on: Vec<String>,
    /// Its hosts.
    pub nodes: Vec<CmsNode>,
}

/// A host as a configuration item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CmsNode {
    /// Its id.
    pub id: NodeId,
    /// Its host name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its address; absent while it has none.
    pub address: Option<String>,
}

/// The model as it was last made or synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CmsView {
    /// The model.
    pub model: CmsModel,
    /// When it was written, Unix ms.
    pub written_ms: i64,
    /// Who had it written.
    pub author: String,
    /// Whether the topology is as the model says; if not, `PUT` syncs it.
    pub in_sync: bool,
    /// Places of the model that are not as the topology is, as JSON pointers; at most 50.
    pub differs: Vec<String>,
}
