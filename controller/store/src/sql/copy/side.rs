//! One of two databases, of either engine: reads whole tables, takes rows, closes and reopens.

use super::CopiedTable;
use super::schema::{Kind, Table};
use crate::Result;
use crate::sql::Pools;
use crate::sql::error::Fail;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder, Row, Sqlite, Transaction, query, query_scalar};

/// Rows written with one statement: of the widest table some thousand values, which both engines take.
const BATCH: usize = 200;
/// What a write to a database that was moved is refused with.
const MOVED: &str = "this database was moved to another one";

/// A value as every table's columns are.
enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    fn hash(&self, into: &mut Sha256) {
        let mut put = |tag: u8, bytes: Option<&[u8]>| {
            into.update([tag, u8::from(bytes.is_some())]);
            let bytes = bytes.unwrap_or_default();
            into.update((bytes.len() as u64).to_le_bytes());
            into.update(bytes);
        };
        match self {
            Self::Text(text) => put(1, text.as_ref().map(String::as_bytes)),
            Self::Int(number) => put(2, number.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            Self::Bytes(bytes) => put(3, bytes.as_deref()),
        }
    }
}

type Cells = Vec<Cell>;

/// See the module.
pub(super) struct Side {
    pools: Pools,
}

/// A transaction on one side.
pub(super) enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Runs the same body on the connection of either engine.
macro_rules! on {
    ($open:expr, $tx:ident => $body:expr) => {
        match $open {
            Open::Sqlite($tx) => $body,
            Open::Postgres($tx) => $body,
        }
    };
}

fn failed(what: String) -> impl Fn(sqlx::Error) -> crate::StoreError {
    move |cause| Fail::from(cause).into_error(&what)
}

/// Takes the time limits off a transaction: a table is read as fast as the other side takes it.
async fn unhurried(tx: &mut Transaction<'static, Postgres>) -> sqlx::Result<()> {
    query("set local statement_timeout = 0").execute(&mut **tx).await?;
    query("set local idle_in_transaction_session_timeout = 0").execute(&mut **tx).await.map(drop)
}

impl Side {
    pub fn new(pools: Pools) -> Self {
        Self { pools }
    }

    /// Closes all connections.
    pub async fn disconnect(&self) {
        self.pools.close().await;
    }

    /// A transaction that sees one moment.
    pub async fn reading(&self) -> Result<Open> {
        let failed = failed("beginning to read".to_owned());
        Ok(match &self.pools {
            Pools::Sqlite { reader, .. } => Open::Sqlite(reader.begin_with("begin").await.map_err(failed)?),
            Pools::Postgres(pool) => {
                let begin = "begin isolation level repeatable read read only";
                let mut tx = pool.begin_with(begin).await.map_err(&failed)?;
                unhurried(&mut tx).await.map_err(&failed)?;
                Open::Postgres(tx)
            }
        })
    }

    /// A transaction beside which nobody else writes.
    pub async fn writing(&self, tables: &[Table]) -> Result<Open> {
        let failed = failed("beginning to write".to_owned());
        Ok(match &self.pools {
            Pools::Sqlite { writer, .. } => Open::Sqlite(writer.begin_with("begin immediate").await.map_err(failed)?),
            Pools::Postgres(pool) => {
                let mut tx = pool.begin().await.map_err(&failed)?;
                unhurried(&mut tx).await.map_err(&failed)?;
                let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
                let lock = format!("lock table {} in exclusive mode", names.join(", "));
                query(AssertSqlSafe(lock)).execute(&mut *tx).await.map_err(&failed)?;
                Open::Postgres(tx)
            }
        })
    }

    /// Whether it was closed.
    pub async fn is_moved(&self) -> Result<bool> {
        let failed = failed("looking whether the database was moved".to_owned());
        let count: i64 = match &self.pools {
            Pools::Sqlite { reader, .. } => {
                let made = "select count(*) from sqlite_master where type = 'trigger' and name like 'moved_%'";
                query_scalar(made).fetch_one(reader).await.map_err(failed)?
            }
            Pools::Postgres(pool) => {
                let made = "select count(*) from pg_trigger where tgname = 'moved' and tgrelid = 'topology'::regclass";
                query_scalar(made).fetch_one(pool).await.map_err(failed)?
            }
        };
        Ok(count > 0)
    }

    /// Has every write to these tables refused, also those of others that are connected.
    pub async fn close_tables(&self, tables: &[Table]) -> Result<()> {
        let of = |Table { name, .. }: &Table| match &self.pools {
            Pools::Sqlite { .. } => ["insert", "update", "delete"]
                .iter()
                .map(|verb| {
                    format!(
                        "create trigger moved_{name}_{verb} before {verb} on {name} \
                         begin select raise(abort, '{MOVED}'); end"
                    )
                })
                .collect(),
            Pools::Postgres(_) => vec![format!(
                "create trigger moved before insert or update or delete on {name} \
                 for each statement execute function straas_moved()"
            )],
        };
        let mut statements: Vec<String> = match &self.pools {
            Pools::Sqlite { .. } => vec![],
            Pools::Postgres(_) => vec![format!(
                "create or replace function straas_moved() returns trigger language plpgsql \
                 as $$ begin raise exception '{MOVED}'; end $$"
            )],
        };
        statements.extend(tables.iter().flat_map(of));
        self.run("closing the database", tables, statements).await
    }

    /// Takes writes again.
    pub async fn reopen_tables(&self, tables: &[Table]) -> Result<()> {
        let of = |Table { name, .. }: &Table| match &self.pools {
            Pools::Sqlite { .. } => ["insert", "update", "delete"]
                .map(|verb| format!("drop trigger if exists moved_{name}_{verb}"))
                .to_vec(),
            Pools::Postgres(_) => vec![format!("drop trigger if exists moved on {name}")],
        };
        self.run("reopening the database", tables, tables.iter().flat_map(of).collect()).await
    }

    /// Runs statements in one transaction.
    async fn run(&self, what: &str, tables: &[Table], statements: Vec<String>) -> Result<()> {
        let mut open = self.writing(tables).await?;
        for statement in statements {
            let done = on!(&mut open, tx => query(AssertSqlSafe(statement)).execute(&mut **tx).await.map(drop));
            done.map_err(failed(what.to_owned()))?;
        }
        open.commit().await
    }
}

/// Reads a table on one engine, hashes it, and gives its rows away in batches.
macro_rules! read_table {
    ($tx:expr, $table:expr, $to:expr) => {{
        let (table, mut to): (&Table, Option<&mut Open>) = ($table, $to);
        let failed = failed(format!("reading the table {}", table.name));
        let (mut count, mut hash, mut batch) = (0_u64, Sha256::new(), Vec::new());
        let mut rows = query(AssertSqlSafe(table.select())).fetch(&mut **$tx);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let cell = |(at, (_, kind)): (usize, &(String, Kind))| {
                Ok::<_, sqlx::Error>(match kind {
                    Kind::Text => Cell::Text(row.try_get(at)?),
                    Kind::Int => Cell::Int(row.try_get(at)?),
                    Kind::Bytes => Cell::Bytes(row.try_get(at)?),
                })
            };
            let cells = table.columns.iter().enumerate().map(cell).collect::<Result<Cells, _>>().map_err(&failed)?;
            cells.iter().for_each(|cell| cell.hash(&mut hash));
            count += 1;
            if let Some(to) = &mut to {
                batch.push(cells);
                if batch.len() == BATCH {
                    to.insert(table, std::mem::take(&mut batch)).await?;
                }
            }
        }
        drop(rows);
        if let Some(to) = to.filter(|_| !batch.is_empty()) {
            to.insert(table, batch).await?;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(CopiedTable { name: table.name.clone(), rows: count, sha256 })
    }};
}

impl Open {
    /// Reads a table in the order of its key, and writes it to another side if there is one.
    pub async fn read(&mut self, table: &Table, to: Option<&mut Self>) -> Result<CopiedTable> {
        on!(self, tx => read_table!(tx, table, to))
    }

    async fn insert(&mut self, table: &Table, rows: Vec<Cells>) -> Result<()> {
        let into = format!("insert into {} ({}) ", table.name, table.names());
        let done = on!(self, tx => {
            let mut insert = QueryBuilder::new(into);
            insert.push_values(rows, |mut values, row| {
                for cell in row {
                    match cell {
                        Cell::Text(text) => values.push_bind(text),
                        Cell::Int(number) => values.push_bind(number),
                        Cell::Bytes(bytes) => values.push_bind(bytes),
                    };
                }
            });
            insert.build().execute(&mut **tx).await.map(drop)
        });
        done.map_err(failed(format!("writing the table {}", table.name)))
    }

    /// Empties a table.
    pub async fn clear(&mut self, table: &Table) -> Result<()> {
        let delete = AssertSqlSafe(format!("delete from {}", table.name));
        let done = on!(self, tx => query(delete).execute(&mut **tx).await.map(drop));
        done.map_err(failed(format!("emptying the table {}", table.name)))
    }

    /// Whether a table has no row.
    pub async fn is_empty(&mut self, table: &Table) -> Result<bool> {
        let any = AssertSqlSafe(format!("select 1 from (select 1 from {} limit 1) as found", table.name));
        let found = on!(self, tx => query(any).fetch_optional(&mut **tx).await.map(|row| row.is_some()));
        found.map(|found| !found).map_err(failed(format!("reading the table {}", table.name)))
    }

    /// Makes what was written last.
    pub async fn commit(self) -> Result<()> {
        on!(self, tx => tx.commit().await).map_err(failed("the last step".to_owned()))
    }
}
