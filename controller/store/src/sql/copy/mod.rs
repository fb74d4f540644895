//! A whole database into an empty one, of the same engine or of the other: for moving to PostgreSQL and back, and for
//! backups, which are SQLite files whatever the engine.
//!
//! ```text
//!  close the source ─► copy at one moment, in one transaction of the target ─► read it back, compare ─► commit
//!   (moves only)         a failure or a crash leaves an empty target; the source can be reopened
//! ```
//! What is in a table is compared as it was read and as it stands in the target at the end: number of rows, and a hash
//! over every value in the order of the primary key.
//!
//! A source that was moved refuses every write from then on, by triggers: also those of a controller that still runs on it,
//! so that nothing is acknowledged that only the old database has.
//!
//! Never here: rows in memory beyond a batch, or a table by name. Which there are is read off the migrations themselves.

mod schema;
mod side;

use super::{connect, levels};
use crate::input::broken;
use crate::{Result, StoreError};
use schema::Table;
use side::Side;

/// What becomes of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Only looked at: nothing is copied.
    Look,
    /// Copied as it is at one moment; it goes on.
    Stay,
    /// Closed for all writes, then copied.
    Close,
}

/// A table that was copied, or with [`Source::Look`] would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Hash over all values of all rows, SHA-256 in hex; the same in both engines.
    pub sha256: String,
}

/// Copies the database of a URL into that of another, which has to be empty; `told` hears of each table when it is done.
///
/// # Errors
/// One of them cannot be reached, or is of a newer version; the source was moved before; the target is not empty; what
/// stands in the target is not what was read. Nothing is in the target then, and the source is as it was.
pub async fn copy_store(
    from: &str,
    to: &str,
    source: Source,
    mut told: impl FnMut(&CopiedTable),
) -> Result<Vec<CopiedTable>> {
    let tables = schema::tables().await?;
    let (from, to) = (connect::open(from).await?, connect::open(to).await?);
    for side in [&from, &to] {
        levels::refuse_newer(side).await?;
    }
    let (from, to) = (Side::new(from), Side::new(to));
    refuse_moved(&from).await?;
    let copied = match source {
        Source::Look => look(&from, &to, &tables, &mut told).await,
        Source::Stay => copy(&from, &to, &tables, &mut told).await,
        Source::Close => {
            from.close_tables(&tables).await?;
            let copied = copy(&from, &to, &tables, &mut told).await;
            if copied.is_err() {
                from.reopen_tables(&tables).await?;
            }
            copied
        }
    };
    from.disconnect().await;
    to.disconnect().await;
    copied
}

/// Lets a database that was moved be written again; whether it was. What the other one was given meanwhile is not in it.
///
/// # Errors
/// It cannot be reached.
pub async fn reopen_store(url: &str) -> Result<bool> {
    let tables = schema::tables().await?;
    let side = Side::new(connect::open(url).await?);
    let moved = side.is_moved().await?;
    if moved {
        side.reopen_tables(&tables).await?;
    }
    side.disconnect().await;
    Ok(moved)
}

/// Refuses to work on a database that was moved.
pub(super) async fn refuse_if_moved(pools: &super::Pools) -> Result<()> {
    refuse_moved(&Side::new(pools.clone())).await
}

async fn refuse_moved(side: &Side) -> Result<()> {
    match side.is_moved().await? {
        false => Ok(()),
        true => Err(broken(
            "opening the database",
            "it was moved to another one, which [store] url should name; to go on with this one, without what the other one \
             was given since, run: straas-controller reopen-store",
        )),
    }
}

async fn look(
    from: &Side,
    to: &Side,
    tables: &[Table],
    told: &mut impl FnMut(&CopiedTable),
) -> Result<Vec<CopiedTable>> {
    let (mut from, mut to) = (from.reading().await?, to.writing(tables).await?);
    let mut all = Vec::new();
    for table in tables {
        refuse_filled(&mut to, table).await?;
        let found = from.read(table, None).await?;
        told(&found);
        all.push(found);
    }
    Ok(all)
}

async fn copy(
    from: &Side,
    to: &Side,
    tables: &[Table],
    told: &mut impl FnMut(&CopiedTable),
) -> Result<Vec<CopiedTable>> {
    let (mut from, mut to) = (from.reading().await?, to.writing(tables).await?);
    for table in tables {
        refuse_filled(&mut to, table).await?;
    }
    let mut all = Vec::new();
    for table in tables {
        to.clear(table).await?;
        let read = from.read(table, Some(&mut to)).await?;
        let stands = to.read(table, None).await?;
        if read != stands {
            let differ =
                format!("{} rows were read and {} stand there, or their values differ", read.rows, stands.rows);
            return Err(broken(format!("copying the table {}", table.name), differ));
        }
        told(&read);
        all.push(read);
    }
    to.commit().await?;
    Ok(all)
}

async fn refuse_filled(to: &mut side::Open, table: &Table) -> Result<()> {
    // counters begin with their rows
    if table.name == "counter" || to.is_empty(table).await? {
        return Ok(());
    }
    let why = format!(
        "its table {} has rows: the database to copy to must be one that no controller was started with",
        table.name
    );
    Err(StoreError::Broken { what: "writing to the database".to_owned(), source: why.into() })
}
