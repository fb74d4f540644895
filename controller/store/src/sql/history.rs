//! What a node was told and what it reported, as of a time, in SQL.

use super::SqlStore;
use super::error::Fail;
use super::rows::{AssignmentRow, all, count, from_text, key};
use crate::{HistoryStore, PAGE_MAX, Reported, Result, StoredAssignment, Told};
use async_trait::async_trait;
use sqlx::{FromRow, query_as};
use straas_schemas::NodeId;

statements! {
    ADD = "insert into assignment_history (node, generation, digest, document, written_ms) values ($1, $2, $3, $4, $5)";
    PRUNE = "delete from assignment_history where node = $1 and generation <=
        (select generation from assignment_history where node = $1 order by generation desc limit 1 offset $2)";
    TOLD_AT = "select node, generation, digest, document, written_ms from assignment_history
        where node = $1 and written_ms <= $2 order by generation desc limit 1";
    REPORTED_UNTIL = "select incarnation, received_ms, document from report
        where node = $1 and received_ms <= $2 order by received_ms desc, incarnation desc, seq desc limit $3";
}

#[derive(FromRow)]
struct ToldRow {
    #[sqlx(flatten)]
    assignment: AssignmentRow,
    written_ms: i64,
}

#[derive(FromRow)]
struct ReportRow {
    incarnation: i64,
    received_ms: i64,
    document: String,
}

impl TryFrom<ReportRow> for Reported {
    type Error = Fail;
    fn try_from(row: ReportRow) -> Result<Self, Fail> {
        let report = from_text(|| "a report".to_owned(), &row.document)?;
        Ok(Self { incarnation: count(row.incarnation)?, received_ms: row.received_ms, report })
    }
}

#[async_trait]
impl HistoryStore for SqlStore {
    async fn told_at(&self, node: &NodeId, at_ms: i64) -> Result<Option<Told>> {
        reading!(self, "reading what a node was told", |tx, on| {
            let row: Option<ToldRow> =
                query_as(on(&TOLD_AT)).bind(key(node.as_str())).bind(at_ms).fetch_optional(&mut *tx).await?;
            let told = |row: ToldRow| {
                let assignment = StoredAssignment::try_from(row.assignment)?;
                Ok::<_, Fail>(Told { assignment, written_ms: row.written_ms })
            };
            row.map(told).transpose()?
        })
    }

    async fn reported_until(&self, node: &NodeId, at_ms: i64, limit: u32) -> Result<Vec<Reported>> {
        reading!(self, "reading what a node reported", |tx, on| {
            let found: Vec<ReportRow> = query_as(on(&REPORTED_UNTIL))
                .bind(key(node.as_str()))
                .bind(at_ms)
                .bind(i64::from(limit.min(PAGE_MAX)))
                .fetch_all(&mut *tx)
                .await?;
            all(found)?
        })
    }
}
