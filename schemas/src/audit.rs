//! The audit trail as the user API shows it.

use crate::TopologyId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request that may have changed something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// Its number, which rises.
    pub id: String,
    /// When it began, Unix ms.
    pub at_ms: i64,
    /// Its id, as in the answer's `X-Request-Id` and in the log.
    pub request_id: String,
    /// Who asked.
    pub caller: String,
    /// The tenant he worked in.
    pub tenant: String,
    /// Id of his token.
    pub token: String,
    /// The address he asked from.
    pub source: String,
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The topology it was about.
    pub topology: Option<TopologyId>,
    /// Status of the answer; none while it is at work, or if the controller died in it.
    pub status: Option<u16>,
    /// When it was answered, Unix ms.
    pub ended_ms: Option<i64>,
    /// What was changed.
    pub changes: Vec<AuditChange>,
}

/// Something that a request changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditChange {
    /// What.
    pub what: String,
    /// As it was; of an object what differs.
    pub before: Value,
    /// As it is.
    pub after: Value,
}
