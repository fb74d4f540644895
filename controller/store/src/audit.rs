//! The audit trail: what is kept of requests that change something, and what the store promises.

use crate::{PageRequest, Result};
use async_trait::async_trait;
use serde_json::Value;
use straas_schemas::TopologyId;

/// A request that may change something, before anything is done for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditBegin {
    /// Unix ms.
    pub at_ms: i64,
    /// The request's id.
    pub request_id: String,
    /// Who asks.
    pub caller: String,
    /// The tenant he works in.
    pub tenant: String,
    /// Id of his token.
    pub token: String,
    /// The address he asks from.
    pub source: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEnd {
    /// Unix ms.
    pub at_ms: i64,
    /// Status of the answer.
    pub status: u16,
    /// The topology it was about.
    pub topology: Option<TopologyId>,
    /// What was changed: a list of what, before and after.
    pub changes: Value,
}

/// A request of the trail.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// Its number, which rises.
    pub seq: i64,
    /// What was asked.
    pub begin: AuditBegin,
    /// How it ended; none while it is at work, or if the controller died in it.
    pub end: Option<AuditEnd>,
}

/// Which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this caller.
    pub caller: Option<String>,
    /// About this topology.
    pub topology: Option<TopologyId>,
    /// Of this method.
    pub method: Option<String>,
    /// Answered so.
    pub status: Option<u16>,
    /// Begun at this time or later, Unix ms.
    pub since_ms: Option<i64>,
    /// Begun before this time, Unix ms.
    pub until_ms: Option<i64>,
}

/// What the store promises of the audit trail. There is no way to change or remove what is in it.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Records that a request began; its number.
    async fn audit_begin(&self, begin: &AuditBegin) -> Result<i64>;
    /// Records how it ended, once: a second end is `Duplicate`, one of an unknown number `NotFound`.
    async fn audit_end(&self, seq: i64, end: &AuditEnd) -> Result<()>;
    /// Requests, newest first; `page.after` is the number of the last one seen.
    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Vec<AuditRecord>>;
}
