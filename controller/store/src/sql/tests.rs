//! Every statement finds its rows by an index: a query plan that scans a table is a fault, unless
//! the statement is meant to read everything. Which versions work on a database side by side. And a disk without room is
//! overcome.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/temp_pg.rs"]
mod temp_pg;

use super::{Pools, Source, SqlStore, copy_store, levels, statements};
use crate::{AuditBegin, AuditStore as _, NewsStore as _, StoreError};
use sqlx::{AssertSqlSafe, Row as _};
use temp_pg::TempPg;

/// Statements that read a whole table, as their callers want.
const READ_ALL: &[&str] = &[
    "INDEX",
    "ASSIGNMENTS",
    "QUARANTINED",
    "OPEN",
    "ORPHANS",
    "COUNTS",
    "STORED_HASHES",
    "SPECS_WITH_FILES",
    "OPEN_ROLLOUTS",
    "OPEN_MEMBERS",
    "TARGETS",
    "TARGETS_OF",
    "AGENTS_OF_NODES",
    "AGENTS_OF_HOSTS",
];

#[tokio::test]
async fn no_statement_scans_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqlStore::connect(&format!("sqlite:{}/plan.db", dir.path().display())).await.unwrap();
    let Pools::Sqlite { reader, .. } = &store.pools else { panic!("not SQLite") };
    let mut faults = Vec::new();
    for statement in statements().filter(|statement| !READ_ALL.contains(&statement.name)) {
        // `explain` wants no values: a placeholder without one is null.
        let plan = sqlx::query(AssertSqlSafe(format!("explain query plan {}", statement.sqlite)))
            .fetch_all(reader)
            .await
            .unwrap();
        for line in plan {
            let line: String = line.get("detail");
            let no_table = ["VIRTUAL TABLE", "CONSTANT ROW"].iter().any(|of| line.contains(of));
            if (line.starts_with("SCAN") && !no_table) || line.contains("TEMP B-TREE") {
                faults.push(format!("{}: {line}", statement.name));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn an_older_version_works_on_a_database_until_a_newer_one_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("sqlite:{}/{name}.db", dir.path().display());
    let store = SqlStore::connect(&url("a")).await.unwrap();
    let Pools::Sqlite { writer, .. } = &store.pools else { panic!("not SQLite") };
    let later = levels::mine() + 1;
    let migrated = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values ($1, 'later', \
                    true, x'00', 0)";
    sqlx::query(migrated).bind(later).execute(writer).await.unwrap();
    SqlStore::connect(&url("a")).await.unwrap().close().await;
    let copied = copy_store(&url("a"), &url("b"), Source::Stay, |_| {}).await.unwrap_err().to_string();
    assert!(copied.contains("a newer version of this program wrote it, and has to copy it"), "{copied}");

    levels::settle(&store, later, later).await.unwrap();
    let refused = SqlStore::connect(&url("a")).await.unwrap_err().to_string();
    assert!(refused.contains("use that one or a newer"), "{refused}");
    levels::settle(&store, later, levels::OLDEST).await.unwrap();
    SqlStore::connect(&url("a")).await.expect_err("what was said once is not taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_not_changed_under_older_controllers_that_could_not_go_on() {
    let server = TempPg::start().unwrap();
    let url = server.create_database("levels").await.unwrap();
    let empty = sqlx::PgPool::connect(&url).await.unwrap();
    levels::make_way(&empty, i64::MAX).await.expect("nobody is there");
    let store = SqlStore::connect(&url).await.unwrap();
    let Pools::Postgres(pool) = &store.pools else { panic!("not PostgreSQL") };
    levels::make_way(pool, levels::mine() + 1).await.expect("nobody is there");
    let now: i64 =
        sqlx::query_scalar("select (extract(epoch from now()) * 1000)::bigint").fetch_one(pool).await.unwrap();
    store.present("gone", "0.1.0", now - crate::PRESENT_MS).await.unwrap();
    store.present("there", "0.2.0", now).await.unwrap();
    levels::make_way(pool, levels::mine()).await.expect("it can go on");
    let refused = levels::make_way(pool, levels::mine() + 1).await.unwrap_err();
    let text = format!("{refused}: {}", std::error::Error::source(&refused).unwrap());
    assert!(
        text.contains("1 older controllers work on this database") && text.contains("there of version 0.2.0"),
        "{text}"
    );
}

#[tokio::test]
async fn a_disk_without_room_is_told_and_spoils_no_later_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqlStore::connect(&format!("sqlite:{}/full.db", dir.path().display())).await.unwrap();
    let Pools::Sqlite { writer, .. } = &store.pools else { panic!("not SQLite") };
    // the database may not grow; SQLite ends the transaction as on a full disk
    sqlx::query("pragma max_page_count = 1").fetch_one(writer).await.unwrap();
    let line = AuditBegin { path: "x".repeat(2_000), ..AuditBegin::default() };
    let refused = loop {
        if let Err(error) = store.audit_begin(&line).await {
            break error;
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
    // another connection, on which no such limit was set
    for _ in 0..3 {
        store.audit_begin(&line).await.unwrap();
    }
}
