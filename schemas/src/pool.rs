//! The pool: hosts that exist already, on which an agent was installed, and which wait for a node.
//!
//! A host joins with a token and gets a certificate of its own. From then on it asks what it is wanted for, in a poll
//! that is held as a node's is. Given a node, it runs that node's agent beside itself, with a directory of its own;
//! when the node is taken away it stops the service, cleans up, and waits for the next.
//!
//! ```text
//!  Expected ──► Free ──► Allotted ──► Serving ──► Leaving ──► Cleaning ──► Free
//!  (announced,            (told, or about to be)   (to stop)   (stopped: nothing of the node runs any more)
//!   not joined)
//! ```

use crate::{Digest, HostId, NodeId, TopologyId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most hosts that may join with one token.
pub const TOKEN_HOSTS_MAX: u32 = 1_000;
/// Shortest life of a join token, in seconds: a minute.
pub const TOKEN_LIFE_S_MIN: u32 = 60;
/// Longest life of a join token, in seconds: 30 days. Whoever holds one gets a host into the pool.
pub const TOKEN_LIFE_S_MAX: u32 = 30 * 24 * 3600;
/// Life of a join token that names none, in seconds: a day.
pub const TOKEN_LIFE_S: u32 = 24 * 3600;
/// Longest name of a host: `gethostname(2)` gives at most 64 bytes.
pub const HOST_NAME_MAX: usize = 64;
/// Longest name of a fault domain.
pub const FAULT_DOMAIN_MAX: usize = 64;
/// Longest label of a join token.
pub const LABEL_MAX: usize = 128;
/// Longest reason for which a host is not clean yet.
pub const REASON_MAX: usize = 2_000;

/// `POST /join-tokens`: hosts that are to join a zone's pool, or one that joins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The zone whose pool they join; not with `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$"))]
    pub zone: Option<String>,
    /// What they share with each other and fail with: a rack, a power feed; not with `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
    pub fault_domain: Option<String>,
    /// How many hosts may join with it; 1 if absent; not with `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub hosts: Option<u32>,
    /// A host of the pool that joins anew: it was installed again, or its certificate has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9-]{1,64}$"))]
    pub host: Option<HostId>,
    /// Seconds until it expires; a day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub expires_in_s: Option<u32>,
    /// What it is for, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub label: Option<String>,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenView {
    /// Its id.
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The zone whose pool hosts join with it.
    pub zone: String,
    /// Their fault domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<String>,
    /// The only host that may join with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// How many hosts may join with it.
    pub hosts: u32,
    /// How many did.
    pub joined: u32,
    /// Who made it.
    pub by: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Unix ms.
    pub expires_ms: i64,
}

/// A new join token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenIssued {
    /// What to write into the hosts' `/etc/straas/join-token`.
    pub token: String,
    /// What is known of it later.
    #[serde(flatten)]
    pub view: JoinTokenView,
}

/// `POST /hosts`: announces one host, which then joins with the token that is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRequest {
    /// Its name, for people; what it calls itself once it has joined.
    #[schemars(regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$"))]
    pub name: String,
    /// The zone whose pool it joins.
    #[schemars(regex(pattern = "^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$"))]
    pub zone: String,
    /// What it shares with others and fails with: a rack, a power feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
    pub fault_domain: Option<String>,
    /// Seconds until its token expires; a day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub expires_in_s: Option<u32>,
}

/// An announced host, with the token that it joins with, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostAnnounced {
    /// What to write into its `/etc/straas/join-token`.
    pub token: String,
    /// When that expires, Unix ms.
    pub expires_ms: i64,
    /// The host.
    #[serde(flatten)]
    pub host: HostView,
}

// a token in a log would be one too many
impl fmt::Debug for JoinTokenIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTokenIssued").field("view", &self.view).finish_non_exhaustive()
    }
}
impl fmt::Debug for HostAnnounced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostAnnounced").field("host", &self.host).finish_non_exhaustive()
    }
}

/// `PATCH /hosts/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// It gets no further node; the one it has stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<bool>,
    /// `true`: somebody has cleaned it by hand; it is to forget the node that it could not clean up after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaned: Option<bool>,
}

/// How a host of the pool stands; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostStanding {
    /// Announced; it has not joined.
    Expected,
    /// It can be given a node.
    Free,
    /// It is to have a node, and has not taken it up.
    Allotted,
    /// It runs a node's agent.
    Serving,
    /// It is to have that node no more, and still runs its service.
    Leaving,
    /// Nothing of the node runs; what it left is being removed.
    Cleaning,
}

impl HostStanding {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Expected, Self::Free, Self::Allotted, Self::Serving, Self::Leaving, Self::Cleaning];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Free => "free",
            Self::Allotted => "allotted",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Cleaning => "cleaning",
        }
    }
}

/// A host of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// What it calls itself.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// What it shares with others and fails with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<String>,
    /// How it stands.
    #[serde(rename = "state")]
    pub standing: HostStanding,
    /// It gets no further node.
    pub cordoned: bool,
    /// The node it is to have, has, or is cleaned after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<HostNode>,
    /// Why it is not clean yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it said of itself.
    #[serde(flatten)]
    pub facts: HostFacts,
    /// When it joined, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_ms: Option<i64>,
    /// When it was heard of last, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_ms: Option<i64>,
}

/// The node of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostNode {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its topology; absent if the node is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<TopologyId>,
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Where other nodes reach it.
    #[serde(default)]
    pub address: String,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mib: u32,
    /// Processors.
    #[serde(default)]
    pub vcpus: u32,
    /// Its operating system, for people.
    #[serde(default)]
    pub os: String,
    /// The version of its agent.
    #[serde(default)]
    pub agent_version: String,
}

/// `POST /agent/v1/hosts`: a host joins the pool.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinRequest {
    /// Protocol version of the agent.
    pub protocol: u32,
    /// The join token.
    pub token: String,
    /// Certificate signing request, PEM. Only its public key is used.
    pub csr_pem: String,
    /// What it calls itself.
    pub hostname: String,
}

impl fmt::Debug for JoinRequest {
    /// Without the token, so that it cannot reach a log by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("hostname", &self.hostname).field("token", &"***").finish_non_exhaustive()
    }
}

/// A host's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostCertificate {
    /// The host it stands for.
    pub host: HostId,
    /// Counts how often the host joined: an earlier certificate is in standing no more.
    pub incarnation: u64,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// When it ends, Unix ms by the controller's clock.
    pub not_after_ms: i64,
}

/// `POST /agent/v1/hosts/{id}/poll`: how the host is, and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPollRequest {
    /// Protocol version of the agent.
    pub protocol: u32,
    /// What it calls itself.
    pub hostname: String,
    /// What else it says of itself.
    pub facts: HostFacts,
    /// What it was told last; none if it was told nothing since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knows: Option<HostWish>,
    /// The node whose agent or service runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<NodeId>,
    /// The node of which nothing runs here any more, or ever did, and that it was told last to have no more. A request
    /// that was overtaken by a later one does not know it: that is how one is told from the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<NodeId>,
    /// The agent of the node it holds has no certificate and no token that is accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wants_token: bool,
    /// The node whose remains are still here, though nothing of it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<HostCleaning>,
    /// The authorities it trusts, as a node's agent says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts: Option<Vec<Digest>>,
    /// How long the answer may be held, in ms; capped as a node's.
    pub wait_ms: u32,
}

/// What a host is wanted for: a level, told again until it is so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostWish {
    /// The node it is to have; none: it is to have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The node it is to have no more, and is to say so of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<NodeId>,
    /// It was cleaned by hand: what is being cleaned up is to be forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleaned: bool,
}

/// How cleaning up goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostCleaning {
    /// After which node.
    pub node: NodeId,
    /// Why it did not succeed, last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to a host's poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPollAnswer {
    /// What it is wanted for.
    pub wish: HostWish,
    /// What it needs to take the node up; absent if it holds that node and needs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allotment: Option<Allotment>,
    /// The certificate is past two thirds of its life, or of an authority that issues no more: renew it.
    #[serde(default)]
    pub renew: bool,
    /// The certificates of the authorities to trust from now on, as a node's agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_pem: Option<String>,
}

/// A node for a host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allotment {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// With which its agent enrols.
    pub join_token: String,
    /// Where its agent shows its metrics; empty for nowhere.
    #[serde(default)]
    pub metrics_listen: String,
}

impl fmt::Debug for Allotment {
    /// Without the token, so that it cannot reach a log by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allotment").field("node", &self.node).field("name", &self.name).finish_non_exhaustive()
    }
}
