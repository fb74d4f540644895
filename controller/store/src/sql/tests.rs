//! Every statement finds its rows by an index: a query plan that scans a table is a fault, unless
//! the statement is meant to read everything.

#![allow(clippy::unwrap_used)]

use super::{Pools, SqlStore, statements};
use sqlx::{AssertSqlSafe, Row as _};

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
