//! The pool of hosts: what is kept of them and of the tokens they join with, and what the store promises.
//!
//! A host's record is changed by compare-and-swap as a whole; when it was last heard of is written beside that, in
//! batches. Each change has a number that rises over all hosts, so that every controller finds what others changed.
//!
//! Never here: which host gets a node.

use crate::input::clean;
use crate::{PageRequest, Result};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use straas_schemas::pool::{HostCleaning, HostFacts};
use straas_schemas::{HostId, NodeId};

/// A token that has expired is kept so long, in ms: so long it is told that it has, and not that it is unknown.
pub const EXPIRED_TOKEN_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// A host of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHost {
    /// Its id.
    pub id: HostId,
    /// What it calls itself, or was announced as.
    pub name: String,
    /// The zone whose pool it is in.
    pub zone: String,
    /// What it shares with others and fails with.
    pub fault_domain: Option<String>,
    /// What it said of itself last.
    pub facts: HostFacts,
    /// It gets no further node.
    pub cordoned: bool,
    /// It was cleaned by hand and is to forget what it could not clean up after.
    pub cleaned: bool,
    /// The node that it is to have.
    pub allotment: Option<Allotted>,
    /// The node that it last said it has; or that it was told to have, and may have taken up since, when it is to have it no more.
    pub holds: Option<NodeId>,
    /// How often it had joined when it was told of that: what it says after it joined anew is the newer word.
    pub told_as: u64,
    /// What it is cleaning up, as it last said.
    pub cleaning: Option<HostCleaning>,
    /// Since when it has had nothing, Unix ms: who is longest without is first.
    pub free_ms: i64,
    /// When it joined last, Unix ms.
    pub joined_ms: Option<i64>,
    /// How often it joined.
    #[serde(skip)]
    pub incarnation: u64,
    /// Rises with each change.
    #[serde(skip)]
    pub revision: u64,
    /// When it was heard of last, Unix ms.
    #[serde(skip)]
    pub seen_ms: Option<i64>,
}

impl PoolHost {
    /// A host that has not joined and has nothing.
    #[must_use]
    pub fn announced(id: HostId, name: String, zone: String, fault_domain: Option<String>, now_ms: i64) -> Self {
        Self {
            id,
            name,
            zone,
            fault_domain,
            facts: HostFacts::default(),
            cordoned: false,
            cleaned: false,
            allotment: None,
            holds: None,
            told_as: 0,
            cleaning: None,
            free_ms: now_ms,
            joined_ms: None,
            incarnation: 0,
            revision: 1,
            seen_ms: None,
        }
    }

    /// The host that joins with a token, if that is for no host of the pool.
    #[must_use]
    pub(crate) fn newcomer(token: &PoolToken, joining: &Joining) -> Self {
        let Joining { id, name, now_ms, .. } = joining;
        let (zone, fault_domain) = (token.zone.clone(), token.fault_domain.clone());
        let host = Self::announced(id.clone(), clean(name).into_owned(), zone, fault_domain, *now_ms);
        Self { joined_ms: Some(*now_ms), incarnation: 1, seen_ms: Some(*now_ms), ..host }
    }

    /// What it was given a node with, if it is to have that one.
    #[must_use]
    pub fn allotted(&self, node: &NodeId) -> Option<&Allotted> {
        self.allotment.as_ref().filter(|allotted| allotted.node == *node)
    }
}

/// A node that a host is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotted {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whose it is, in the words of who asked for the host.
    pub owner: String,
    /// Nodes with the same word are spread over the fault domains.
    pub spread: Option<String>,
    /// The host was told, or is about to be: only it knows from here on whether it runs something of the node.
    pub told: bool,
}

/// A token that hosts join with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolToken {
    /// Its id, which is no secret.
    pub id: String,
    /// SHA-256 of it, in hex.
    #[serde(skip)]
    pub hash: String,
    /// What it is for, in its maker's words.
    pub label: String,
    /// The zone whose pool hosts join with it.
    pub zone: String,
    /// Their fault domain.
    pub fault_domain: Option<String>,
    /// The only host that may join with it.
    #[serde(skip)]
    pub host: Option<HostId>,
    /// How many hosts may join with it.
    #[serde(skip)]
    pub most: u32,
    /// How many did.
    #[serde(skip)]
    pub joined: u32,
    /// Who made it.
    pub by: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Unix ms.
    #[serde(skip)]
    pub expires_ms: i64,
}

/// A host at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// SHA-256 of the token it shows.
    pub hash: String,
    /// The public key it wants a certificate for.
    pub key: String,
    /// The id it gets if it is a new one.
    pub id: HostId,
    /// What it calls itself.
    pub name: String,
    /// Unix ms.
    pub now_ms: i64,
}

/// What comes of joining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// It is in the pool.
    Joined {
        /// As which host.
        host: HostId,
        /// How often that has joined.
        incarnation: u64,
    },
    /// There is no such token.
    Unknown,
    /// As many hosts joined with it as may.
    Used,
    /// It has expired.
    Expired,
}

/// Which hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolFilter {
    /// Of this zone.
    pub zone: Option<String>,
    /// Only those that are to have no node and said that they have none.
    pub idle_only: bool,
}

/// What the store promises of the pool.
#[async_trait]
pub trait PoolStore: Send + Sync {
    /// Records a host that has not joined, and the token that it does so with. `Duplicate` of either.
    async fn announce_host(&self, host: &PoolHost, token: &PoolToken) -> Result<()>;
    /// Records a token; those that expired [`EXPIRED_TOKEN_KEPT_MS`] before it was made are forgotten. `NotFound` if its
    /// host is none of the pool.
    async fn add_pool_token(&self, token: &PoolToken) -> Result<()>;
    /// Tokens that have not expired, by id.
    async fn pool_tokens(&self, now_ms: i64, page: &PageRequest) -> Result<Vec<PoolToken>>;
    /// One token.
    async fn pool_token(&self, id: &str) -> Result<Option<PoolToken>>;
    /// Forgets a token: nobody joins with it any more. `NotFound` if there is none.
    async fn remove_pool_token(&self, id: &str) -> Result<()>;
    /// Lets a host in: a new one, or the one that the token is for, whose earlier certificates end with it. Whoever comes
    /// again with the same token and key, because the answer was lost, gets the same answer, as long as the host has not
    /// joined anew since.
    async fn join_pool(&self, joining: &Joining) -> Result<JoinOutcome>;
    /// One host.
    async fn pool_host(&self, id: &HostId) -> Result<Option<PoolHost>>;
    /// Hosts by id, filtered.
    async fn pool_hosts(&self, filter: &PoolFilter, page: &PageRequest) -> Result<Vec<PoolHost>>;
    /// The hosts that are to have a node, or said that they have it.
    async fn pool_hosts_of(&self, node: &NodeId) -> Result<Vec<PoolHost>>;
    /// Writes a host if its revision is still that of `host`, and raises that by one; when it was heard of and how often
    /// it joined stay. `Conflict` otherwise, `NotFound` if there is none, `Duplicate` of an `allotment` if another host is
    /// to have that node already.
    async fn change_pool_host(&self, host: &PoolHost) -> Result<()>;
    /// Forgets a host with its tokens if its revision is still `revision`; its certificates end with it.
    async fn remove_pool_host(&self, id: &HostId, revision: u64) -> Result<()>;
    /// Notes when hosts were heard of last; never an earlier time than is known. Those that are gone are no error.
    async fn pool_seen(&self, seen: &[(HostId, i64)]) -> Result<()>;
    /// Hosts that were changed after the change of this number, each with the number of its last; at most
    /// [`crate::PAGE_MAX`], by that number.
    async fn pool_changes(&self, after: u64) -> Result<Vec<(HostId, u64)>>;
}
