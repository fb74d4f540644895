//! Which versions of this program work on one database side by side.
//!
//! A version's level is its newest migration. Migrations add, and what an older version writes stays right: so controllers
//! can be exchanged one by one, and the older version can be started again if the newer one does not do. A version
//! that writes what older ones cannot work with raises [`OLDEST`]. It does not start while such older ones are there, and
//! none of those starts afterwards.
//!
//! Never here: a migration.

use super::connect::MIGRATOR;
use super::{Fail, Pools, SqlStore};
use crate::input::broken;
use crate::{PRESENT_MS, Result};
use sqlx::{PgPool, query, query_as, query_scalar};

statements! {
    DATABASE_LEVEL = "select coalesce(max(version), 0) from _sqlx_migrations";
    OLDEST_LEVEL = "select value from counter where name = 'oldest_level'";
    RAISE_OLDEST = "update counter set value = $1 where name = 'oldest_level' and value < $1";
}

/// The oldest level that works on tables as this version makes and fills them. Of versions before 21 nobody knows which
/// are there: to raise this beyond 20 is to ask operators to stop them first.
pub(super) const OLDEST: i64 = 19;

/// Those that are there, by the database's clock, and cannot stay. PostgreSQL alone: SQLite is worked on by one.
const IN_THE_WAY: &str = "select id, version from controller where level < $1 and seen_ms > \
                          (extract(epoch from now()) * 1000)::bigint - $2 order by seen_ms limit 10";
/// What PostgreSQL says of a table and of a column that are not there.
const NOT_THERE: [&str; 2] = ["42P01", "42703"];

/// The level of this version.
pub fn mine() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Refuses to change tables on which older controllers work that could not afterwards.
pub(super) async fn make_way(pool: &PgPool, oldest: i64) -> Result<()> {
    let found: Result<Vec<(String, String)>, _> =
        query_as(IN_THE_WAY).bind(oldest).bind(PRESENT_MS).fetch_all(pool).await;
    let there = match found {
        Ok(there) => there,
        // tables of a version that did not tell its level, or none at all
        Err(sqlx::Error::Database(cause)) if cause.code().is_some_and(|code| NOT_THERE.contains(&&*code)) => Vec::new(),
        Err(cause) => return Err(Fail::from(cause).into_error("looking for older controllers")),
    };
    let Some((id, version)) = there.first() else { return Ok(()) };
    Err(broken(
        format!(
            "bringing the tables up to date: {} older controllers work on this database and cannot after that; stop them, \
             wait a minute, start this one again",
            there.len()
        ),
        format!("one is {id} of version {version}"),
    ))
}

/// Refuses a database that this version cannot work on, and notes which can from now on.
pub(super) async fn settle(store: &SqlStore, mine: i64, oldest: i64) -> Result<()> {
    let what = "looking which version wrote this database";
    let database = of_database(store).await?;
    let needed: i64 = asking!(store, what, |pool, on| query_scalar(on(&OLDEST_LEVEL)).fetch_one(pool))?;
    if needed > mine {
        return Err(broken(
            "opening the database: a newer version of this program wrote it; use that one or a newer",
            format!("it is of level {database} and needs {needed}, this program is of level {mine}"),
        ));
    }
    if database > mine {
        tracing::warn!(
            database,
            mine,
            "a newer version of this program wrote this database; working on it all the same"
        );
    }
    if needed < oldest {
        writing!(store, "noting which versions can work on this database", |tx, on| {
            query(on(&RAISE_OLDEST)).bind(oldest).execute(&mut *tx).await?;
        })?;
    }
    Ok(())
}

/// Refuses a database with tables or columns that this version does not know: it would leave them behind.
pub(super) async fn refuse_newer(pools: &Pools) -> Result<()> {
    let (database, mine) = (of_database(&SqlStore::over(pools.clone())).await?, mine());
    match database > mine {
        false => Ok(()),
        true => Err(broken(
            "copying a database: a newer version of this program wrote it, and has to copy it",
            format!("it is of level {database}, this program is of level {mine}"),
        )),
    }
}

/// The newest migration of a database.
async fn of_database(store: &SqlStore) -> Result<i64> {
    asking!(store, "looking which version wrote this database", |pool, on| query_scalar(on(&DATABASE_LEVEL))
        .fetch_one(pool))
}
