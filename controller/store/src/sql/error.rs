//! What can go wrong in a body of statements, and what the caller is told of it.
//!
//! `Unavailable` is for what may pass by itself (no connection, a server that shuts down or is a
//! read-only replica) and `Full` for a disk without room; `Broken` for what a person has to look at.
//! Constraints are told apart by the statement that failed and by `kind()`: SQLite does not say which one it was.

use crate::StoreError;
use sqlx::error::{DatabaseError, ErrorKind};

/// Why a body ended early.
pub(super) enum Fail {
    /// With an answer for the caller.
    Answer(StoreError),
    /// With an error of the database.
    Sql(sqlx::Error),
    /// With something stored that cannot be read, or something that cannot be stored.
    Value(String, Box<dyn std::error::Error + Send + Sync>),
}

impl From<sqlx::Error> for Fail {
    fn from(cause: sqlx::Error) -> Self {
        Self::Sql(cause)
    }
}

impl From<StoreError> for Fail {
    fn from(answer: StoreError) -> Self {
        Self::Answer(answer)
    }
}

impl Fail {
    /// For a statement that adds something: whether it was there before.
    pub(super) fn or_duplicate(cause: sqlx::Error, what: &'static str, name: &str) -> Self {
        if has_kind(&cause, &ErrorKind::UniqueViolation) {
            return Self::Answer(StoreError::Duplicate { what, name: name.to_owned() });
        }
        Self::Sql(cause)
    }

    /// For a statement that adds something to a thing: whether that thing is missing.
    pub(super) fn or_missing(cause: sqlx::Error, what: &'static str, id: &str) -> Self {
        if has_kind(&cause, &ErrorKind::ForeignKeyViolation) {
            return Self::Answer(StoreError::NotFound { what, id: id.to_owned() });
        }
        Self::Sql(cause)
    }

    /// The same, for one that can fail in both ways.
    pub(super) fn or_duplicate_or_missing(
        cause: sqlx::Error,
        added: (&'static str, &str),
        to: (&'static str, &str),
    ) -> Self {
        if has_kind(&cause, &ErrorKind::UniqueViolation) {
            return Self::or_duplicate(cause, added.0, added.1);
        }
        Self::or_missing(cause, to.0, to.1)
    }

    /// Whether the same transaction may succeed at once when run again.
    pub(super) fn is_passing(&self) -> bool {
        // PostgreSQL: 40001 serialisation failure, 40P01 deadlock.
        matches!(self, Self::Sql(sqlx::Error::Database(cause)) if matches!(cause.code().as_deref(), Some("40001" | "40P01")))
    }

    /// Whether the connection on which it happened cannot be relied on: SQLite ends a transaction by itself where the
    /// disk or the memory fails, or the connection was found in the middle of one.
    pub(super) fn spoils(&self) -> bool {
        let Self::Sql(cause) = self else { return false };
        if matches!(cause, sqlx::Error::InvalidSavePointStatement | sqlx::Error::BeginFailed) {
            return true;
        }
        let Some(cause) = cause.as_database_error() else { return false };
        // the low byte is the primary code: out of memory, read-only, interrupted, I/O error, full
        let failed = |code: u32| matches!(code & 0xff, 7 | 8 | 9 | 10 | 13);
        cause.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
            && cause.code().is_some_and(|code| code.parse().is_ok_and(failed))
    }

    /// What the caller is told; `what` says what was being done.
    pub(super) fn into_error(self, what: &str) -> StoreError {
        match self {
            Self::Answer(answer) => answer,
            Self::Value(which, source) => StoreError::Broken { what: format!("{what}: {which}"), source },
            Self::Sql(cause) if is_full(&cause) => StoreError::Full(Box::new(cause)),
            Self::Sql(cause) if may_pass(&cause) => StoreError::Unavailable(Box::new(cause)),
            Self::Sql(cause) => StoreError::Broken { what: what.to_owned(), source: Box::new(cause) },
        }
    }
}

fn has_kind(cause: &sqlx::Error, kind: &ErrorKind) -> bool {
    cause.as_database_error().is_some_and(|cause| std::mem::discriminant(&cause.kind()) == std::mem::discriminant(kind))
}

fn is_full(cause: &sqlx::Error) -> bool {
    let Some(cause) = cause.as_database_error() else { return false };
    let Some(code) = cause.code() else { return false };
    match cause.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        // the low byte is the primary code: SQLITE_FULL
        Some(_) => code.parse::<u32>().is_ok_and(|code| code & 0xff == 13),
        None => code == "53100",
    }
}

fn may_pass(cause: &sqlx::Error) -> bool {
    match cause {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // a connection that ended within an exchange: so it looks where a load balancer knows no primary
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(cause) => database_may_pass(cause.as_ref()),
        _ => false,
    }
}

fn database_may_pass(cause: &dyn DatabaseError) -> bool {
    let Some(code) = cause.code() else { return false };
    if cause.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // The low byte is the primary code: perm, busy, locked, read-only, I/O error, cannot open.
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 3 | 5 | 6 | 8 | 10 | 14));
    }
    // Classes: connection, resources, operator intervention, rollback; 25006 is a read-only
    // replica, 55P03 a lock that was not had in time.
    ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class))
        || matches!(code.as_ref(), "25006" | "55P03")
}
