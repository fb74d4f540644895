//! Leases in SQL. The number of a lease is taken only when it is free, so that whoever looks in vain writes nothing.

use super::SqlStore;
use super::rows::key;
use crate::{Lease, LeaseStore, Result};
use async_trait::async_trait;
use sqlx::{query, query_scalar};

statements! {
    LEASE_UNTIL = "select until_ms from lease where name = $1";
    LEASE_EPOCH = "update counter set value = value + 1 where name = 'lease' returning value";
    TAKE_LEASE = "insert into lease (name, holder, epoch, until_ms) values ($1, $2, $3, $4)
        on conflict (name) do update set holder = excluded.holder, epoch = excluded.epoch, until_ms = excluded.until_ms
        where lease.until_ms <= $5";
    KEEP_LEASE = "update lease set until_ms = $3 where name = $1 and epoch = $2";
    END_LEASE = "delete from lease where name = $1 and epoch = $2";
    END_LEASES = "delete from lease where holder = $1";
    @ FENCE = sqlite "select count(*) from lease where name = $1 and epoch = $2",
        postgres "select count(*) from (select 1 from lease where name = $1 and epoch = $2 for share) as held";
}

/// Refuses, in the transaction that writes, what is written under a lease that its writer no longer has.
macro_rules! fence {
    ($tx:ident, $on:ident, $lease:expr) => {{
        let lease: &$crate::Lease = $lease;
        let held: i64 = sqlx::query_scalar($on(&$crate::sql::leases::FENCE))
            .bind($crate::sql::rows::key(&lease.name))
            .bind($crate::sql::leases::number(lease))
            .fetch_one(&mut *$tx)
            .await?;
        if held == 0 {
            return Err($crate::StoreError::Conflict { what: "lease", id: lease.name.clone() }.into());
        }
    }};
}

pub(super) fn number(lease: &Lease) -> i64 {
    i64::try_from(lease.epoch).unwrap_or(i64::MAX)
}

#[async_trait]
impl LeaseStore for SqlStore {
    async fn take_lease(&self, name: &str, holder: &str, now_ms: i64, until_ms: i64) -> Result<Option<Lease>> {
        writing!(self, "taking a lease", |tx, on| {
            let until: Option<i64> = query_scalar(on(&LEASE_UNTIL)).bind(key(name)).fetch_optional(&mut *tx).await?;
            if until.is_some_and(|until| until > now_ms) {
                None
            } else {
                let epoch: i64 = query_scalar(on(&LEASE_EPOCH)).fetch_one(&mut *tx).await?;
                let taken = query(on(&TAKE_LEASE))
                    .bind(key(name))
                    .bind(key(holder))
                    .bind(epoch)
                    .bind(until_ms)
                    .bind(now_ms)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
                (taken > 0).then(|| Lease { name: name.to_owned(), epoch: epoch.unsigned_abs() })
            }
        })
    }

    async fn keep_lease(&self, lease: &Lease, until_ms: i64) -> Result<bool> {
        writing!(self, "keeping a lease", |tx, on| {
            let kept =
                query(on(&KEEP_LEASE)).bind(key(&lease.name)).bind(number(lease)).bind(until_ms).execute(&mut *tx);
            kept.await?.rows_affected() > 0
        })
    }

    async fn end_lease(&self, lease: &Lease) -> Result<()> {
        writing!(self, "ending a lease", |tx, on| {
            query(on(&END_LEASE)).bind(key(&lease.name)).bind(number(lease)).execute(&mut *tx).await?;
        })
    }

    async fn end_leases(&self, holder: &str) -> Result<()> {
        writing!(self, "ending the leases of a controller", |tx, on| {
            query(on(&END_LEASES)).bind(key(holder)).execute(&mut *tx).await?;
        })
    }
}
