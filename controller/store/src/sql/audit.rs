//! The audit trail in SQL.

use super::SqlStore;
use super::error::Fail;
use super::rows::{count, from_text, key, to_text};
use crate::input::clean;
use crate::{AuditBegin, AuditEnd, AuditFilter, AuditRecord, AuditStore, PAGE_MAX, PageRequest, Result};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as, query_scalar};

statements! {
    NUMBER = "update counter set value = value + 1 where name = 'audit' returning value";
    BEGIN = "insert into audit (seq, at_ms, request_id, caller, tenant, token, source, method, path)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    END = "insert into audit_end (seq, at_ms, status, topology, changes) values ($1, $2, $3, $4, $5)";
    LIST = "select a.seq, a.at_ms, a.request_id, a.caller, a.tenant, a.token, a.source, a.method, a.path,
            e.at_ms as ended_ms, e.status, e.topology, e.changes
        from audit a left join audit_end e on e.seq = a.seq
        where a.seq < $1 and ($3 = '' or a.tenant = $3) and ($4 = '' or a.caller = $4)
            and ($5 = '' or e.topology = $5) and a.at_ms >= $6 and a.at_ms < $7
            and ($8 = '' or a.method = $8) and ($9 = 0 or e.status = $9)
        order by a.seq desc limit $2";
}

#[derive(FromRow)]
struct Row {
    seq: i64,
    at_ms: i64,
    request_id: String,
    caller: String,
    tenant: String,
    token: String,
    source: String,
    method: String,
    path: String,
    ended_ms: Option<i64>,
    status: Option<i64>,
    topology: Option<String>,
    changes: Option<String>,
}

impl TryFrom<Row> for AuditRecord {
    type Error = Fail;
    fn try_from(row: Row) -> Result<Self, Fail> {
        let end = match (row.ended_ms, row.status, row.changes) {
            (Some(at_ms), Some(status), Some(changes)) => Some(AuditEnd {
                at_ms,
                status: count(status)?,
                topology: row.topology.map(Into::into),
                changes: from_text(|| format!("the changes of request {}", row.seq), &changes)?,
            }),
            _ => None,
        };
        let begin = AuditBegin {
            at_ms: row.at_ms,
            request_id: row.request_id,
            caller: row.caller,
            tenant: row.tenant,
            token: row.token,
            source: row.source,
            method: row.method,
            path: row.path,
        };
        Ok(Self { seq: row.seq, begin, end })
    }
}

#[async_trait]
impl AuditStore for SqlStore {
    async fn audit_begin(&self, begin: &AuditBegin) -> Result<i64> {
        writing!(self, "recording that a request began", |tx, on| {
            let seq: i64 = query_scalar(on(&NUMBER)).fetch_one(&mut *tx).await?;
            query(on(&BEGIN))
                .bind(seq)
                .bind(begin.at_ms)
                .bind(clean(&begin.request_id))
                .bind(clean(&begin.caller))
                .bind(clean(&begin.tenant))
                .bind(clean(&begin.token))
                .bind(clean(&begin.source))
                .bind(clean(&begin.method))
                .bind(clean(&begin.path))
                .execute(&mut *tx)
                .await?;
            seq
        })
    }

    async fn audit_end(&self, seq: i64, end: &AuditEnd) -> Result<()> {
        writing!(self, "recording how a request ended", |tx, on| {
            let number = seq.to_string();
            query(on(&END))
                .bind(seq)
                .bind(end.at_ms)
                .bind(i64::from(end.status))
                .bind(end.topology.as_ref().map(|topology| topology.as_str()))
                .bind(to_text("the changes", &end.changes)?)
                .execute(&mut *tx)
                .await
                .map_err(|cause| {
                    Fail::or_duplicate_or_missing(cause, ("end of request", &number), ("request", &number))
                })?;
        })
    }

    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Vec<AuditRecord>> {
        let before = page.after.as_deref().and_then(|after| after.parse::<i64>().ok()).unwrap_or(i64::MAX);
        let text = |of: Option<&str>| key(of.unwrap_or_default()).into_owned();
        let found: Vec<Row> = asking!(self, "reading the audit trail", |pool, on| {
            query_as(on(&LIST))
                .bind(before)
                .bind(i64::from(page.limit.min(PAGE_MAX)))
                .bind(text(filter.tenant.as_deref()))
                .bind(text(filter.caller.as_deref()))
                .bind(text(filter.topology.as_ref().map(|topology| topology.as_str())))
                .bind(filter.since_ms.unwrap_or(i64::MIN))
                .bind(filter.until_ms.unwrap_or(i64::MAX))
                .bind(text(filter.method.as_deref()))
                .bind(i64::from(filter.status.unwrap_or(0)))
                .fetch_all(pool)
        })?;
        super::rows::all(found).map_err(|fail: Fail| fail.into_error("reading the audit trail"))
    }
}
