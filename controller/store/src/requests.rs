//! Requests that name themselves: what is kept of them, and what the store promises.
//!
//! ```text
//!  begin ──► carried out (claim, until) ──► changed something (made) ──► answered
//!                 │ until is over: whoever asks again takes it over, if nothing was changed
//!                 └──► forgotten: it was refused and changed nothing
//! ```
//! Whoever carries a request out has a claim to it and writes through [`RequestStore::claimed`]: what
//! he changes and the note of it are one transaction, and fail as one when the request was taken over
//! meanwhile. So a request is carried out once, whatever dies in its middle.
//!
//! Never here: what an answer is. It is a text that comes back as it was given.

use crate::{Result, Store};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

/// A request is remembered so long, in ms: a day.
pub const REQUEST_AGE_MS_MAX: i64 = 24 * 3600 * 1000;
/// Requests of a tenant that are remembered: one every twenty seconds, all day long.
pub const REQUESTS_PER_TENANT_MAX: u32 = 4_000;
/// Requests forgotten by age in one go: keeps the transaction short; the rest goes with the next.
pub const REQUESTS_PRUNED_MAX: u32 = 100;

/// A request that names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The tenant who asks.
    pub tenant: String,
    /// The name he gave it.
    pub key: String,
    /// Digest of what he asks for.
    pub digest: String,
}

/// The right to carry a request out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestClaim {
    /// The tenant who asks.
    pub tenant: String,
    /// The name he gave it.
    pub key: String,
    /// Whose right it is: unique.
    pub id: String,
}

/// What became of the wish to carry a request out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is new, or was left without anything changed: the claim is given.
    New,
    /// It is being carried out; until then nobody else does, Unix ms.
    Running {
        /// Unix ms.
        until_ms: i64,
    },
    /// It was answered.
    Answered(String),
    /// It made this, and whoever did it died before he answered.
    Made(Value),
    /// Another request was made under this name.
    Other,
    /// The tenant has [`REQUESTS_PER_TENANT_MAX`].
    Full,
}

/// What the store promises of requests that name themselves.
#[async_trait]
pub trait RequestStore: Send + Sync {
    /// Gives the claim `claim` to a request until `until_ms`, if nobody has it at `now_ms`. Forgets what
    /// is older than [`REQUEST_AGE_MS_MAX`].
    async fn begin_request(&self, request: &RequestKey, claim: &str, now_ms: i64, until_ms: i64) -> Result<Begun>;
    /// Keeps a claim longer; `false` if it is not held any more.
    async fn renew_request(&self, claim: &RequestClaim, until_ms: i64) -> Result<bool>;
    /// Ends a claim that is held. With an answer, that is what the request is answered with from then on. Without
    /// one, the request is forgotten if it changed nothing; else what it made stays known.
    async fn end_request(&self, claim: &RequestClaim, answer: Option<&str>) -> Result<()>;
    /// The store for who carries a request out: whatever is changed through it, `made` is noted of the request
    /// in the same moment. `Conflict` of a `request`, and nothing changed, if the claim is not held any more.
    fn claimed(&self, claim: &RequestClaim, made: &Value) -> Arc<dyn Store>;
}
