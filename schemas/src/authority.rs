//! The fleet's certificate authority, and its exchange for another one.
//!
//! ```text
//!             begin            all trust both         all have certificates of the new one      all dropped the old one
//!  settled ─────────► spreading ──────────► renewing ───────────────────────► retiring ──────────────► settled
//!     ▲                   │ take back           │ take back                      ▲ (of the new one, if it was taken back)
//!     │                   └─────────────────────┼────────────────────────────────┤
//!     │                                         ▼            all have certificates of the old one again
//!     │                                   taking_back ───────────────────────────┘
//! ```
//! Never here: certificates' contents, or which step is next.

use crate::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most authorities that an agent names as those it trusts: two while they are exchanged, and some that an operator may
/// have put into its file.
pub const TRUSTS_MAX: usize = 8;
/// Most bytes of certificates that an agent takes as those to trust, PEM: one has under 1 KiB.
pub const TRUST_BYTES_MAX: usize = 32 * 1024;
/// Most agents that one answer names as those that are waited for; how many there are is said beside them.
pub const MISSING_MAX: usize = 100;

/// How far the exchange is; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationPhase {
    /// There is one authority, and nothing is waited for.
    Settled,
    /// There is a new one; agents are told to trust both. The old one still issues.
    Spreading,
    /// The new one issues: controllers show its certificates, agents renew theirs.
    Renewing,
    /// The old one issues again; agents renew theirs.
    TakingBack,
    /// The one that is not wanted any more is trusted by no controller; agents are told to drop it.
    Retiring,
}

impl RotationPhase {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Settled, Self::Spreading, Self::Renewing, Self::TakingBack, Self::Retiring];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Spreading => "spreading",
            Self::Renewing => "renewing",
            Self::TakingBack => "taking_back",
            Self::Retiring => "retiring",
        }
    }
}

/// An authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorityInfo {
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
    /// The name in its certificate.
    pub name: String,
    /// When its certificate ends, Unix ms.
    pub not_after_ms: i64,
}

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A node's.
    Node,
    /// That of a host of the pool.
    Host,
}

/// Why an agent is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingReason {
    /// It has been heard of lately and will do it at its next poll.
    OnItsWay,
    /// It has not been heard of for some minutes.
    Silent,
    /// Its build does not say whom it trusts, so it is too old to be told: give it a newer one.
    TooOld,
}

/// An agent that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissingAgent {
    /// What it is.
    pub kind: AgentKind,
    /// The node's or host's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: MissingReason,
    /// When it was heard of last, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<i64>,
}

/// `GET /authority`, and the answer of what changes it: as it is then, or would be with `dry_run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthorityView {
    /// How far an exchange is.
    pub phase: RotationPhase,
    /// The one that issues.
    pub issuer: AuthorityInfo,
    /// The other one, while there are two: the new one while it spreads, then the one to be retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<AuthorityInfo>,
    /// Who began the exchange, if there ever was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when the phase lasts, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// How many agents there are: nodes that enrolled and hosts of the pool that joined.
    pub agents: u32,
    /// How many of them have done what this phase waits for.
    pub ready: u32,
    /// The first of those that are waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub missing: Vec<MissingAgent>,
    /// What happens next, for people.
    pub next: String,
    /// The certificates that agents are to trust, PEM: what a new machine gets as its `ca.pem`.
    pub certificates_pem: String,
}

/// `POST /authority/rotation/advance`: goes on without those that are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdvanceRequest {
    /// The phase that is to end: one that has ended meanwhile is not taken for the next.
    pub phase: RotationPhase,
}
