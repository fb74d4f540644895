//! Leases in memory.

use super::{MemoryStore, Tables, conflict};
use crate::{Lease, LeaseStore, Result};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Leases by name: holder, epoch, until when.
#[derive(Debug, Default)]
pub(super) struct Leases {
    last: u64,
    taken: BTreeMap<String, (String, u64, i64)>,
}

impl Tables {
    /// Refuses what is written under a lease that its writer no longer has.
    pub(super) fn fence(&self, lease: &Lease) -> Result<()> {
        match self.leases.taken.get(&lease.name) {
            Some((_, epoch, _)) if *epoch == lease.epoch => Ok(()),
            _ => Err(conflict("lease", &lease.name)),
        }
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn take_lease(&self, name: &str, holder: &str, now_ms: i64, until_ms: i64) -> Result<Option<Lease>> {
        self.write(|tables| {
            let leases = &mut tables.leases;
            if leases.taken.get(name).is_some_and(|(.., until)| *until > now_ms) {
                return Ok(None);
            }
            leases.last += 1;
            leases.taken.insert(name.to_owned(), (holder.to_owned(), leases.last, until_ms));
            Ok(Some(Lease { name: name.to_owned(), epoch: leases.last }))
        })
    }

    async fn keep_lease(&self, lease: &Lease, until_ms: i64) -> Result<bool> {
        self.write(|tables| {
            let ours = tables.fence(lease).is_ok();
            if let Some((.., until)) = tables.leases.taken.get_mut(&lease.name).filter(|_| ours) {
                *until = until_ms;
            }
            Ok(ours)
        })
    }

    async fn end_lease(&self, lease: &Lease) -> Result<()> {
        self.write(|tables| {
            if tables.fence(lease).is_ok() {
                tables.leases.taken.remove(&lease.name);
            }
            Ok(())
        })
    }

    async fn end_leases(&self, holder: &str) -> Result<()> {
        self.write(|tables| {
            tables.leases.taken.retain(|_, (of, ..)| of != holder);
            Ok(())
        })
    }
}
