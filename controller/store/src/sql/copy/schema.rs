//! The tables as the migrations make them: read from an empty database in memory, so that no list can be out of date.

use crate::Result;
use crate::sql::connect::MIGRATOR;
use crate::sql::error::Fail;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{query_as, query_scalar};

/// Of the moment, and of the database they are in: controllers that are there, what they tell each other, what they have
/// leases on.
const PASSING: [&str; 3] = ["controller", "news", "lease"];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Bytes,
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
    /// The columns that its rows are told apart by.
    pub key: Vec<String>,
}

impl Table {
    /// The columns' names, for a statement.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    /// The statement that reads all of it in the order of its key.
    pub fn select(&self) -> String {
        format!("select {} from {} order by {}", self.names(), self.name, self.key.join(", "))
    }
}

/// All tables, those that others refer to first.
pub(super) async fn tables() -> Result<Vec<Table>> {
    let failed = |cause: sqlx::Error| Fail::from(cause).into_error("reading the tables of this version");
    let memory = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(memory).await.map_err(failed)?;
    MIGRATOR.run(&pool).await.map_err(crate::sql::connect::migrating)?;
    let made = "select name from sqlite_master where type = 'table' and name not like '\\_sqlx%' escape '\\' and name not like \
                'sqlite\\_%' escape '\\' order by rowid";
    let names: Vec<String> = query_scalar(made).fetch_all(&pool).await.map_err(failed)?;
    let mut tables = Vec::new();
    for name in names.into_iter().filter(|name| !PASSING.contains(&name.as_str())) {
        let about = "select name, lower(type), pk from pragma_table_info($1) order by cid";
        let columns: Vec<(String, String, i64)> = query_as(about).bind(&name).fetch_all(&pool).await.map_err(failed)?;
        let mut key: Vec<_> = columns.iter().filter(|(.., place)| *place > 0).collect();
        key.sort_by_key(|(.., place)| *place);
        let key = key.into_iter().map(|(column, ..)| column.clone()).collect();
        let kind = |kind: &str| match kind {
            "bigint" => Kind::Int,
            "bytea" => Kind::Bytes,
            _ => Kind::Text,
        };
        let columns = columns.iter().map(|(column, of, _)| (column.clone(), kind(of))).collect();
        tables.push(Table { name, columns, key });
    }
    pool.close().await;
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_table_has_a_key_and_comes_after_what_it_refers_to() {
        let tables = tables().await.expect("read");
        let at = |name: &str| tables.iter().position(|table| table.name == name).expect(name);
        assert!(tables.len() > 25 && at("topology") < at("component") && at("component") < at("node"));
        for table in &tables {
            assert!(!table.key.is_empty(), "{} has no primary key", table.name);
        }
        let output = &tables[at("command_output")];
        assert!(output.columns.contains(&("bytes".to_owned(), Kind::Bytes)), "{output:?}");
    }
}
