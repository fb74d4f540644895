//! The long poll: the agent says what it has, the controller answers when there is more.
//!
//! It answers "your assignment is now this" and "these guest commands wait for you". A lost answer
//! is asked for again; an answer received twice changes nothing, since the agent's journal knows
//! every command that it ever took.

use crate::command::CommandOrder;
use crate::{Assignment, CommandId, Digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest time a poll is held open. Bounds how long a connection can stick to a controller that
/// is no longer the right one.
pub const POLL_WAIT_MS_MAX: u32 = 60_000;

/// What the agent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PollRequest {
    /// Protocol version of the agent.
    pub protocol: u32,
    /// The incarnation the agent enrolled as.
    pub incarnation: u64,
    /// Generation of the assignment in its ledger; 0 for none.
    pub generation: u64,
    /// Content digest of that assignment.
    pub digest: Option<Digest>,
    /// Guest commands of its journal that have not ended: they are not offered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandId>,
    /// The newest [`PollAnswer::look`] it was told; 0 for none since it started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub look: u64,
    /// The authorities it trusts: the SHA-256 of each certificate; at most [`TRUSTS_MAX`](crate::authority::TRUSTS_MAX).
    /// Absent from agents that cannot be told of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts: Option<Vec<Digest>>,
    /// How long the answer may be held, in ms; capped at [`POLL_WAIT_MS_MAX`].
    pub wait_ms: u32,
}

/// What the controller wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PollAnswer {
    /// The newest assignment if it is not the one the agent has.
    pub assignment: Option<Assignment>,
    /// Guest commands that the agent does not have yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandOrder>,
    /// Guest commands of `PollRequest::commands` that are to be ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel: Vec<CommandId>,
    /// Above [`PollRequest::look`]: somebody waits for how the service is now, so it is to be looked
    /// at once more before long. A wish that is lost costs time only: the service is looked at
    /// regularly anyway.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub look: u64,
    /// The certificate is past two thirds of its life, or of an authority that issues no more: renew it.
    #[serde(default)]
    pub renew: bool,
    /// The certificates of the authorities to trust from now on, and no others, PEM; absent if they are those of
    /// [`PollRequest::trusts`]. To be on the disk before they are named there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_pem: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it with a reference
/// Of a number that is not told when it is none.
pub(crate) fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}
