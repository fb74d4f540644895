//! Opening a database and bringing its tables up to date.
//!
//! Two controllers may start at the same moment over an empty database. PostgreSQL's advisory lock
//! (taken here for the collation, by the migrator for the rest) and, for SQLite, a kernel lock on a
//! file beside the database let one wait for the other; the second finds nothing to do.
//!
//! A PostgreSQL server that went away without a word (its machine lost power, the link is cut) leaves connections on which
//! nothing ever comes. So each has to answer at once before it is used and before it is kept, and a standby, which a
//! fail-over may lead to for a moment, is not taken for the database.
//!
//! Never here: a downgrade. Whether a database of a newer version can be worked on is decided in `levels.rs`.

use super::run::within;
use super::{Fail, Pools, levels};
use crate::input::broken;
use crate::{Result, StoreError};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// What brings tables up to date; migrations of a newer version are left to `levels.rs`.
pub(super) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.set_ignore_missing(true);
    migrator
});

/// Longest wait for a free connection: a request that waits longer is better told 503.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);
/// Longest wait of SQLite's writer for a writer of another process.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// Reading connections of SQLite: reads are short and run on the machine's own processors.
const SQLITE_READERS_MAX: u32 = 4;
/// Connections to PostgreSQL: with 100 on its side by default, several controllers fit.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;
/// Longest run of one statement on PostgreSQL: nothing here takes a second unless something is stuck.
const POSTGRES_LIMITS: &str =
    "set statement_timeout = '15s'; set lock_timeout = '10s'; set idle_in_transaction_session_timeout = '60s'";
/// A connection that does not answer the shortest question within this time is a dead one.
const PING_MAX: Duration = Duration::from_secs(2);
/// Whether the server only follows another one.
const STANDBY: &str = "select pg_is_in_recovery()";
/// Key of the advisory lock around the making of the collation; any number that is not the migrator's.
const COLLATION_LOCK: &str = "select pg_advisory_xact_lock(7017710077)";
/// See `migrations/0001_start.sql`.
const COLLATION_MAKE: &str = "create collation if not exists \"BINARY\" from \"C\"";

pub(super) async fn open(url: &str) -> Result<Pools> {
    match url.split(':').next() {
        Some("sqlite") => open_sqlite(url).await,
        Some("postgres" | "postgresql") => open_postgres(url).await,
        // Not the URL itself: it may hold a password.
        _ => Err(broken("opening a database", "its URL must begin with sqlite: or postgres:")),
    }
}

async fn open_sqlite(url: &str) -> Result<Pools> {
    let opening = |cause: sqlx::Error| Fail::from(cause).into_error("opening the SQLite database");
    let base: SqliteConnectOptions = url.parse().map_err(opening)?;
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(broken("opening the SQLite database", "it must be a file; there is a store in memory for tests"));
    }
    let path = base.get_filename().to_owned();
    let guard = guard_start(path).await?;
    let base = base
        .foreign_keys(true)
        .busy_timeout(BUSY_MAX)
        .synchronous(SqliteSynchronous::Full)
        .statement_cache_capacity(256);
    let writing = base.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    let reading = base.create_if_missing(false).pragma("query_only", "on");
    let pool = || {
        SqlitePoolOptions::new()
            .acquire_timeout(ACQUIRE_MAX)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let writer = pool().max_connections(1).connect_with(writing).await.map_err(opening)?;
    MIGRATOR.run(&writer).await.map_err(migrating)?;
    drop(guard);
    let reader = pool().max_connections(SQLITE_READERS_MAX).connect_with(reading).await.map_err(opening)?;
    Ok(Pools::Sqlite { writer, reader })
}

/// Waits until no other process is starting on this database, and makes its file private to its
/// owner. The lock ends with the returned file, or with the process.
async fn guard_start(path: PathBuf) -> Result<File> {
    let locked = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
        let lock = private(OpenOptions::new().create(true).truncate(false), &beside(&path, ".lock"))?;
        lock.lock()?;
        // Only made, never opened: closing a file that SQLite has open would end SQLite's own locks.
        if !path.exists() {
            private(OpenOptions::new().create_new(true), &path)?;
        }
        Ok(lock)
    });
    match locked.await {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(cause)) => Err(StoreError::Unavailable(Box::new(cause))),
        Err(cause) => Err(StoreError::Unavailable(Box::new(cause))),
    }
}

fn private(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    options.write(true).mode(0o600).open(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A pool of at most so many connections, each known to be alive when it is used.
fn postgres_pool(connections_max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(ACQUIRE_MAX)
        .max_connections(connections_max)
        // asked below, where an answer is not waited for for ever
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(async move { alive(connection).await.map(|()| true) }))
        .after_release(|connection, _| Box::pin(async move { alive(connection).await.map(|()| true) }))
        .after_connect(|connection, _| Box::pin(within(PING_MAX, begin(connection))))
}

/// Asks for a sign of life.
pub(super) async fn alive(connection: &mut PgConnection) -> sqlx::Result<()> {
    within(PING_MAX, connection.ping()).await
}

async fn begin(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(POSTGRES_LIMITS).execute(&mut *connection).await?;
    if sqlx::query_scalar::<_, bool>(STANDBY).fetch_one(connection).await? {
        return Err(sqlx::Error::Io(std::io::Error::other("this PostgreSQL server is a standby, not the primary")));
    }
    Ok(())
}

/// A pool of one connection to the same server, which is made when it is needed.
pub(super) fn alone(pool: &PgPool) -> PgPool {
    postgres_pool(1).connect_lazy_with((*pool.connect_options()).clone())
}

async fn open_postgres(url: &str) -> Result<Pools> {
    let opening = |cause: sqlx::Error| Fail::from(cause).into_error("opening the PostgreSQL database");
    let options: PgConnectOptions = url.parse().map_err(opening)?;
    let pool = postgres_pool(POSTGRES_CONNECTIONS_MAX)
        .connect_with(options.application_name("straas-controller"))
        .await
        .map_err(opening)?;
    let mut transaction = pool.begin().await.map_err(opening)?;
    sqlx::query(COLLATION_LOCK).execute(&mut *transaction).await.map_err(opening)?;
    sqlx::query(COLLATION_MAKE).execute(&mut *transaction).await.map_err(opening)?;
    transaction.commit().await.map_err(opening)?;
    levels::make_way(&pool, levels::OLDEST).await?;
    MIGRATOR.run(&pool).await.map_err(migrating)?;
    Ok(Pools::Postgres(pool))
}

pub(super) fn migrating(cause: MigrateError) -> StoreError {
    match cause {
        MigrateError::Execute(cause) => Fail::from(cause).into_error("bringing the tables up to date"),
        cause @ (MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)) => broken(
            "bringing the tables up to date: another version of this program wrote this database; use that one or a newer",
            cause,
        ),
        cause => broken("bringing the tables up to date", cause),
    }
}
