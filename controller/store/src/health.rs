//! How nodes are, as a health check found them, and models of topologies in the configuration
//! management system: what the store promises of both.

use crate::Result;
use async_trait::async_trait;
use serde_json::Value;
use straas_schemas::health::HealthStatus;
use straas_schemas::{NodeId, TopologyId};

/// What a health check said of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRecord {
    /// The node.
    pub node: NodeId,
    /// How it is.
    pub status: HealthStatus,
    /// Said by what is built in; else by somebody's own health check. Each has the last word of its
    /// own kept.
    pub built_in: bool,
    /// Who said so.
    pub source: String,
    /// When, Unix ms.
    pub at_ms: i64,
}

/// A model of a topology as it was last written.
#[derive(Clone, Debug, PartialEq)]
pub struct CmsRecord {
    /// The topology.
    pub topology: TopologyId,
    /// The model.
    pub document: Value,
    /// Unix ms.
    pub written_ms: i64,
    /// Who had it written.
    pub author: String,
}

/// What the store promises of health.
#[async_trait]
pub trait HealthStore: Send + Sync {
    /// Records what was found, over what the same kind of check found before; a node that is gone is
    /// left out, and so is what is older than what is recorded.
    async fn put_health(&self, found: &[HealthRecord]) -> Result<()>;
    /// What was found of the nodes of topologies, by node, what is built in first.
    async fn health(&self, topologies: &[TopologyId]) -> Result<Vec<HealthRecord>>;
}

/// What the store promises of models.
#[async_trait]
pub trait CmsStore: Send + Sync {
    /// Records the first model of a topology: `Duplicate` if there is one, `NotFound` if there is no
    /// such topology.
    async fn create_cms(&self, model: &CmsRecord) -> Result<()>;
    /// Records a model in the place of the one there is; `NotFound` if there is none. Here and when one is forgotten:
    /// with `seen`, `Conflict` of a `model` if the one there is is another.
    async fn sync_cms(&self, model: &CmsRecord, seen: Option<&CmsRecord>) -> Result<()>;
    /// The model of a topology.
    async fn cms(&self, topology: &TopologyId) -> Result<Option<CmsRecord>>;
    /// Forgets the model of a topology; `false` if there is none.
    async fn remove_cms(&self, topology: &TopologyId, seen: Option<&CmsRecord>) -> Result<bool>;
}
