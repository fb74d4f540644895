//! How a body of statements is run: macros that expand it once per engine.
//!
//! - `writing!` runs it in a writing transaction: `begin immediate` on SQLite, read committed on
//!   PostgreSQL, where row locks and conditions in where-clauses make the decisions. Run again a
//!   bounded number of times if PostgreSQL picks it as the victim of a deadlock.
//! - `reading!` runs it in a transaction that sees one moment.
//! - `asking!` runs a single reading statement without a transaction.
//!
//! On a full or failing disk SQLite may end a transaction by itself. A connection that does not know of it would
//! refuse every other one, so it is closed, and the pool makes a new one.
//!
//! A body gets a connection and the function that picks an engine's text of a [`Statement`]; an
//! error leaves it with `?`, and the transaction is rolled back. A body may run more than once, so
//! it changes nothing outside of itself.

use std::time::Duration;

/// Longest a body may take on PostgreSQL, the wait for a connection included. Its own limits (`connect.rs`) end what is
/// stuck there; this one ends what waits for a server that is not there any more, of which nobody tells the connection.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Ends a body that gets no answer. Its connection is closed: see `connect.rs`.
pub(super) fn answered<T, E: From<sqlx::Error>>(
    body: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    within(ANSWER_MAX, body)
}

/// The same, with another time.
pub(super) fn within<T, E: From<sqlx::Error>>(
    time: Duration,
    body: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    // bodies are large, and callers hold several of them
    let body = Box::pin(body);
    async move {
        tokio::time::timeout(time, body).await.unwrap_or_else(|_| {
            let text = format!("the database gave no answer within {} s", time.as_secs());
            Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text)).into())
        })
    }
}

/// How often a transaction is run in all before its caller hears of a deadlock.
pub(super) const RUNS_MAX: u32 = 8;

/// One statement, in both dialects.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its constant's name.
    pub name: &'static str,
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

impl Statement {
    /// The text for SQLite.
    pub(super) const fn for_sqlite(&self) -> &'static str {
        self.sqlite
    }
    /// The text for PostgreSQL.
    pub(super) const fn for_postgres(&self) -> &'static str {
        self.postgres
    }
}

/// Declares statements as constants, and `ALL` of a file.
macro_rules! statements {
    ($($name:ident = $both:expr;)* $(@ $pair:ident = sqlite $sqlite:expr, postgres $postgres:expr;)*) => {
        $(pub(in crate::sql) const $name: $crate::sql::run::Statement =
            $crate::sql::run::Statement { name: stringify!($name), sqlite: $both, postgres: $both };)*
        $(pub(in crate::sql) const $pair: $crate::sql::run::Statement =
            $crate::sql::run::Statement { name: stringify!($pair), sqlite: $sqlite, postgres: $postgres };)*
        /// Every statement of this file.
        pub(in crate::sql) const ALL: &[$crate::sql::run::Statement] = &[$($name,)* $($pair,)*];
    };
}

macro_rules! in_transaction {
    ($pool:expr, $begin:literal, $pick:expr, $tx:ident, $on:ident, $body:block, $last:block $(, $bound:path)?) => {
        $($bound)?(async {
            let mut connection = $pool.acquire().await?;
            let outcome = async {
                let mut transaction = sqlx::Connection::begin_with(&mut *connection, $begin).await?;
                let $on = $pick;
                let $tx = &mut *transaction;
                let value = $body;
                $last
                transaction.commit().await?;
                Ok::<_, $crate::sql::error::Fail>(value)
            }
            .await;
            if outcome.as_ref().is_err_and($crate::sql::error::Fail::spoils) {
                connection.close_on_drop();
            }
            outcome
        })
        .await
    };
}

/// The last of a writing transaction: what it made is noted of the request that it is for, if it is for one.
macro_rules! noted {
    ($store:expr, $tx:ident, $on:ident) => {
        if let Some(bound) = &$store.bound {
            note_made!($tx, $on, bound);
        }
    };
}

macro_rules! writing {
    ($store:expr, $what:expr, |$tx:ident, $on:ident| $body:block) => {{
        let mut runs = 0;
        loop {
            runs += 1;
            let outcome = match &$store.pools {
                $crate::sql::Pools::Sqlite { writer, .. } => {
                    in_transaction!(
                        writer,
                        "begin immediate",
                        $crate::sql::run::Statement::for_sqlite,
                        $tx,
                        $on,
                        $body,
                        { noted!($store, $tx, $on) }
                    )
                }
                $crate::sql::Pools::Postgres(pool) => in_transaction!(
                    pool,
                    "begin isolation level read committed",
                    $crate::sql::run::Statement::for_postgres,
                    $tx,
                    $on,
                    $body,
                    { noted!($store, $tx, $on) },
                    $crate::sql::run::answered
                ),
            };
            match outcome {
                Ok(value) => {
                    $store.written.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    break Ok(value);
                }
                Err(fail) if fail.is_passing() && runs < $crate::sql::run::RUNS_MAX => {
                    tracing::debug!(runs, what = $what, "the database asks to try again");
                }
                Err(fail) => break Err(fail.into_error($what)),
            }
        }
    }};
}

macro_rules! reading {
    ($store:expr, $what:expr, |$tx:ident, $on:ident| $body:block) => {
        match &$store.pools {
            $crate::sql::Pools::Sqlite { reader, .. } => {
                in_transaction!(reader, "begin", $crate::sql::run::Statement::for_sqlite, $tx, $on, $body, {})
            }
            $crate::sql::Pools::Postgres(pool) => in_transaction!(
                pool,
                "begin isolation level repeatable read read only",
                $crate::sql::run::Statement::for_postgres,
                $tx,
                $on,
                $body,
                {},
                $crate::sql::run::answered
            ),
        }
        .map_err(|fail| fail.into_error($what))
    };
}

macro_rules! asking {
    ($store:expr, $what:expr, |$pool:ident, $on:ident| $body:expr) => {
        match &$store.pools {
            $crate::sql::Pools::Sqlite { reader: $pool, .. } => {
                let $on = $crate::sql::run::Statement::for_sqlite;
                $body.await
            }
            $crate::sql::Pools::Postgres($pool) => {
                let $on = $crate::sql::run::Statement::for_postgres;
                $crate::sql::run::answered($body).await
            }
        }
        .map_err(|cause| $crate::sql::error::Fail::from(cause).into_error($what))
    };
}
