//! What failed its canaries and nobody should get any more.

use super::SqlStore;
use super::rows::{QuarantineRow, key};
use crate::input::clean;
use crate::{QuarantineRecord, Result};
use sqlx::{query, query_as};

statements! {
    ADD = "insert into quarantine (what, name, reason, topology, at_ms) values ($1, $2, $3, $4, $5)
        on conflict (what, name) do nothing";
    QUARANTINED = "select what, name, reason, topology, at_ms from quarantine order by what, name";
    REMOVE = "delete from quarantine where what = $1 and name = $2";
}

/// See [`crate::Store::quarantine`].
pub(super) async fn add(store: &SqlStore, records: &[QuarantineRecord]) -> Result<()> {
    let mut records: Vec<_> = records.iter().collect();
    // One order for all writers: no deadlocks.
    records.sort_by(|a, b| (&a.what, &a.key).cmp(&(&b.what, &b.key)));
    writing!(store, "writing to the quarantine", |tx, on| {
        for record in &records {
            query(on(&ADD))
                .bind(key(&record.what))
                .bind(key(&record.key))
                .bind(clean(&record.reason))
                .bind(key(record.topology.as_str()))
                .bind(record.at_ms)
                .execute(&mut *tx)
                .await?;
        }
    })
}

/// See [`crate::Store::quarantined`].
pub(super) async fn list(store: &SqlStore) -> Result<Vec<QuarantineRecord>> {
    reading!(store, "reading the quarantine", |tx, on| {
        let found: Vec<QuarantineRow> = query_as(on(&QUARANTINED)).fetch_all(&mut *tx).await?;
        found.into_iter().map(QuarantineRecord::from).collect()
    })
}

/// See [`crate::Store::release`].
pub(super) async fn release(store: &SqlStore, what: &str, name: &str) -> Result<bool> {
    writing!(store, "releasing from the quarantine", |tx, on| {
        query(on(&REMOVE)).bind(key(what)).bind(key(name)).execute(&mut *tx).await?.rows_affected() > 0
    })
}
