//! Health of nodes and models of topologies in SQL.

use super::SqlStore;
use super::error::Fail;
use super::rows::{from_text, ids, key, to_text, word};
use crate::input::clean;
use crate::{CmsRecord, CmsStore, HealthRecord, HealthStore, Result, StoreError};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as};
use straas_schemas::TopologyId;
use straas_schemas::health::HealthStatus;

statements! {
    PUT = "insert into health (node, built_in, status, source, at_ms)
        select id, $5, $2, $3, $4 from node where id = $1
        on conflict (node, built_in) do update set status = excluded.status, source = excluded.source, at_ms = excluded.at_ms
            where health.at_ms <= excluded.at_ms";
    CMS_ADD = "insert into cms_model (topology, document, written_ms, author) values ($1, $2, $3, $4)";
    CMS_SYNC = "update cms_model set document = $2, written_ms = $3, author = $4 where topology = $1";
    CMS_GET = "select topology, document, written_ms, author from cms_model where topology = $1";
    CMS_REMOVE = "delete from cms_model where topology = $1";
    @ CMS_LOCK = sqlite "select topology, document, written_ms, author from cms_model where topology = $1",
        postgres "select topology, document, written_ms, author from cms_model where topology = $1 for no key update";
    @ OF_TOPOLOGIES = sqlite "select h.node, h.built_in, h.status, h.source, h.at_ms
            from node n join health h on h.node = n.id where n.topology in (select value from json_each($1))",
        postgres "select h.node, h.built_in, h.status, h.source, h.at_ms
            from node n join health h on h.node = n.id
            where n.topology = any(array(select json_array_elements_text($1::json)))";
}

#[derive(FromRow)]
struct HealthRow {
    node: String,
    built_in: i64,
    status: String,
    source: String,
    at_ms: i64,
}

impl TryFrom<HealthRow> for HealthRecord {
    type Error = Fail;
    fn try_from(row: HealthRow) -> Result<Self, Fail> {
        let status = word(&row.status, &HealthStatus::ALL, |status| status.name())?;
        Ok(Self { node: row.node.into(), built_in: row.built_in != 0, status, source: row.source, at_ms: row.at_ms })
    }
}

#[derive(FromRow)]
struct CmsRow {
    topology: String,
    document: String,
    written_ms: i64,
    author: String,
}

impl TryFrom<CmsRow> for CmsRecord {
    type Error = Fail;
    fn try_from(row: CmsRow) -> Result<Self, Fail> {
        Ok(Self {
            document: from_text(|| format!("the model of topology {}", row.topology), &row.document)?,
            topology: row.topology.into(),
            written_ms: row.written_ms,
            author: row.author,
        })
    }
}

#[async_trait]
impl HealthStore for SqlStore {
    async fn put_health(&self, found: &[HealthRecord]) -> Result<()> {
        let mut found: Vec<_> = found.iter().collect();
        // One order for all writers: no deadlocks.
        found.sort_by(|a, b| a.node.cmp(&b.node));
        writing!(self, "recording health", |tx, on| {
            for record in &found {
                query(on(&PUT))
                    .bind(key(record.node.as_str()))
                    .bind(record.status.name())
                    .bind(clean(&record.source))
                    .bind(record.at_ms)
                    .bind(i64::from(record.built_in))
                    .execute(&mut *tx)
                    .await?;
            }
        })
    }

    async fn health(&self, topologies: &[TopologyId]) -> Result<Vec<HealthRecord>> {
        let ids =
            ids(topologies.iter().map(TopologyId::as_str)).map_err(|fail: Fail| fail.into_error("reading health"))?;
        let found: Vec<HealthRow> =
            asking!(self, "reading health", |pool, on| query_as(on(&OF_TOPOLOGIES)).bind(&ids).fetch_all(pool))?;
        let mut found: Vec<HealthRecord> =
            super::rows::all(found).map_err(|fail: Fail| fail.into_error("reading health"))?;
        found.sort_by(|a, b| (&a.node, !a.built_in).cmp(&(&b.node, !b.built_in)));
        Ok(found)
    }
}

/// Locks a model inside a transaction; `Conflict` if it is not the one that was seen.
macro_rules! cms_as_seen {
    ($tx:ident, $on:ident, $topology:expr, $seen:expr) => {
        if let Some(seen) = $seen {
            let row: Option<CmsRow> =
                query_as($on(&CMS_LOCK)).bind(key($topology.as_str())).fetch_optional(&mut *$tx).await?;
            let now: Option<CmsRecord> = row.map(CmsRecord::try_from).transpose()?;
            if now.is_some_and(|now| now != *seen) {
                return Err(StoreError::Conflict { what: "model", id: $topology.to_string() }.into());
            }
        }
    };
}

#[async_trait]
impl CmsStore for SqlStore {
    async fn create_cms(&self, model: &CmsRecord) -> Result<()> {
        let id = model.topology.as_str();
        writing!(self, "recording a topology's model", |tx, on| {
            query(on(&CMS_ADD))
                .bind(key(id))
                .bind(to_text("the model", &model.document)?)
                .bind(model.written_ms)
                .bind(clean(&model.author))
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate_or_missing(cause, ("model of topology", id), ("topology", id)))?;
        })
    }

    async fn sync_cms(&self, model: &CmsRecord, seen: Option<&CmsRecord>) -> Result<()> {
        let id = model.topology.as_str();
        writing!(self, "recording a topology's model", |tx, on| {
            cms_as_seen!(tx, on, model.topology, seen);
            let synced = query(on(&CMS_SYNC))
                .bind(key(id))
                .bind(to_text("the model", &model.document)?)
                .bind(model.written_ms)
                .bind(clean(&model.author))
                .execute(&mut *tx)
                .await?;
            if synced.rows_affected() == 0 {
                return Err(StoreError::NotFound { what: "model of topology", id: id.to_owned() }.into());
            }
        })
    }

    async fn cms(&self, topology: &TopologyId) -> Result<Option<CmsRecord>> {
        reading!(self, "reading a topology's model", |tx, on| {
            let row: Option<CmsRow> =
                query_as(on(&CMS_GET)).bind(key(topology.as_str())).fetch_optional(&mut *tx).await?;
            row.map(CmsRecord::try_from).transpose()?
        })
    }

    async fn remove_cms(&self, topology: &TopologyId, seen: Option<&CmsRecord>) -> Result<bool> {
        writing!(self, "forgetting a topology's model", |tx, on| {
            cms_as_seen!(tx, on, topology, seen);
            query(on(&CMS_REMOVE)).bind(key(topology.as_str())).execute(&mut *tx).await?.rows_affected() > 0
        })
    }
}
