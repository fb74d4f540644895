//! Leases: which controller does what only one of them should do at a time.
//!
//! A lease ends by itself, so that nobody waits for a controller that died for longer than that. Its *epoch* is a number that
//! is given once: what is written under a lease names it, and is refused if another has taken the lease since ([`Conflict`]
//! of a `lease`). So a controller that stood still, and does not know what time it is, changes nothing that is no longer
//! its own. The clocks of controllers need not agree: one that is ahead takes a lease early, and the fence holds.
//!
//! [`Conflict`]: crate::StoreError::Conflict

use crate::Result;
use async_trait::async_trait;
use straas_schemas::NodeId;

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is on.
    pub name: String,
    /// See the module.
    pub epoch: u64,
}

impl Lease {
    /// The name of the lease on a node's host.
    #[must_use]
    pub fn on_host(node: &NodeId) -> String {
        format!("host/{node}")
    }
}

/// What the store promises of leases.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Takes a lease until a time; `None` while somebody has it, the same holder too.
    async fn take_lease(&self, name: &str, holder: &str, now_ms: i64, until_ms: i64) -> Result<Option<Lease>>;
    /// Has it end later; false if it was ended, or another has taken it.
    async fn keep_lease(&self, lease: &Lease, until_ms: i64) -> Result<bool>;
    /// Ends it. If another has taken it, nothing happens.
    async fn end_lease(&self, lease: &Lease) -> Result<()>;
    /// Ends all of a holder, who is known to have died.
    async fn end_leases(&self, holder: &str) -> Result<()>;
}
