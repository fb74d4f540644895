//! The store in SQL: one code for SQLite and PostgreSQL.
//!
//! The two pools are variants of one enum, and the macros of `run.rs` expand the same body for
//! each, so that every statement is written once; the few that differ are pairs side by side.
//! One file per noun. What the statements mean is said in the trait (`crate::Store`).
//!
//! Never here: a statement that is not a constant in a `statements!` list. That is what lets a
//! test prepare every one of them on both engines ([`SqlStore::check_statements`]). Only `copy/`, which
//! takes whole tables from one database to another, makes its own from the names of those.

#[macro_use]
mod run;
#[macro_use]
mod requests;
#[macro_use]
mod jobs;
#[macro_use]
mod commands;
#[macro_use]
mod neighbours;
#[macro_use]
mod events;
#[macro_use]
mod agents;
#[macro_use]
mod leases;
mod audit;
mod authority;
mod connect;
mod copy;
mod error;
mod health;
mod history;
mod identity;
mod levels;
mod news;
mod nodes;
mod pool;
mod quarantine;
mod rollouts;
mod rows;
mod snapshots;
mod storage;
mod store;
mod topologies;

pub(crate) use levels::mine as level;

pub use copy::{CopiedTable, Source, copy_store, reopen_store};

use crate::Result;
use error::Fail;
use run::Statement;
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgPool, SqlSafeStr, SqlitePool};

/// A store in SQLite or PostgreSQL. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct SqlStore {
    pools: Pools,
    /// The request that is carried out through it.
    bound: Option<std::sync::Arc<requests::Bound>>,
    /// Where it is heard that another controller has news.
    listener: std::sync::Arc<tokio::sync::Mutex<Option<PgListener>>>,
    /// Transactions that wrote something.
    written: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// Connections to one of the two engines.
#[derive(Clone, Debug)]
enum Pools {
    /// SQLite has one writer at a time: with one writing connection, writers queue in the order
    /// they came and never see "busy" from each other; readers see the last commit meanwhile.
    Sqlite {
        /// The one connection that writes.
        writer: SqlitePool,
        /// Connections that only read.
        reader: SqlitePool,
    },
    /// PostgreSQL.
    Postgres(PgPool),
}

impl Pools {
    async fn close(&self) {
        match self {
            Self::Sqlite { writer, reader } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl SqlStore {
    /// Opens a database, `sqlite:<path>` or `postgres://...`, and brings its tables up to date.
    ///
    /// Any number of controllers may do this at once. An SQLite file is made, readable by its
    /// owner only, if it is not there; its folder must be.
    ///
    /// # Errors
    /// `Unavailable` if the database cannot be reached; `Broken` for a URL that is none of the
    /// two, for a database that a newer version has written so that this one cannot work with it, and for one that was
    /// moved to another.
    pub async fn connect(url: &str) -> Result<Self> {
        let pools = connect::open(url).await?;
        copy::refuse_if_moved(&pools).await?;
        let store = Self::over(pools);
        levels::settle(&store, levels::mine(), levels::OLDEST).await?;
        Ok(store)
    }

    fn over(pools: Pools) -> Self {
        Self { pools, bound: None, listener: Default::default(), written: Default::default() }
    }

    /// Gives every assignment a generation that is higher by this, with the same content: agents may have been told more
    /// than a database knows that was put back. How many there are.
    ///
    /// # Errors
    /// As of every method of the trait.
    pub async fn raise_generations(&self, by: u64, now_ms: i64) -> Result<usize> {
        nodes::raise_generations(self, by, now_ms).await
    }

    /// Closes all connections after the statements under way have ended.
    pub async fn close(&self) {
        self.pools.close().await;
    }

    /// Prepares every statement of this store on the database and returns how many there are:
    /// what takes the place of statements checked by the compiler.
    ///
    /// # Errors
    /// `Broken` with the name of the first statement that the database does not understand.
    pub async fn check_statements(&self) -> Result<usize> {
        let mut count = 0;
        for statement in statements() {
            let prepared = match &self.pools {
                Pools::Sqlite { writer, .. } => writer.prepare(statement.sqlite.into_sql_str()).await.map(drop),
                Pools::Postgres(pool) => pool.prepare(statement.postgres.into_sql_str()).await.map(drop),
            };
            prepared.map_err(|cause| Fail::from(cause).into_error(&format!("preparing {}", statement.name)))?;
            count += 1;
        }
        Ok(count)
    }
}

/// Every statement of every noun.
fn statements() -> impl Iterator<Item = &'static Statement> {
    let nouns = [
        topologies::ALL,
        neighbours::ALL,
        nodes::ALL,
        agents::ALL,
        jobs::ALL,
        events::ALL,
        quarantine::ALL,
        requests::ALL,
        identity::ALL,
        audit::ALL,
        storage::ALL,
        health::ALL,
        history::ALL,
        rollouts::ALL,
        pool::ALL,
        news::ALL,
        leases::ALL,
        levels::ALL,
        authority::ALL,
        store::ALL,
    ];
    nouns.into_iter().chain(commands::ALL).flatten()
}

#[cfg(test)]
mod tests;
