//! Jobs: that one was begun, how it ended, its last picture.

use super::rows::{self, JobRow, key, to_text};
use super::{Fail, SqlStore};
use crate::input::broken;
use crate::{JobFilter, JobRecord, PAGE_MAX, PageRequest, Result, StoreError};
use sqlx::{query, query_as, query_scalar};
use straas_schemas::JobId;
use straas_schemas::job::JobStanding;

macro_rules! job_columns {
    ($rest:literal) => {
        concat!(
            "select id, kind, component, topology, topology_name, tenant, detail, created_ms, undo, standing, ended_ms,
                document
            from job ",
            $rest
        )
    };
}

/// A page of jobs, newest first: the first filter finds them by an index, the others sift.
macro_rules! sifted {
    ($first:literal) => {
        concat!(
            "select id, kind, component, topology, topology_name, tenant, detail, created_ms, undo, standing, ended_ms,
                document
            from job where ",
            $first,
            " id < $1
                and (cast($3 as text) is null or tenant = $3) and (cast($4 as text) is null or topology = $4)
                and (cast($5 as text) is null or component = $5) and (cast($6 as text) is null or kind = $6)
                and (cast($7 as text) is null or standing = $7)
            order by id desc limit $2"
        )
    };
}

statements! {
    ADD = "insert into job (id, kind, component, topology, topology_name, tenant, detail, created_ms, undo, standing,
            ended_ms, document)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    GET = job_columns!("where id = $1");
    LIST = sifted!("");
    LIST_OPEN = sifted!("ended_ms is null and");
    LIST_OF_TENANT = sifted!("tenant = $3 and");
    LIST_OF_TENANT_OPEN = sifted!("tenant = $3 and ended_ms is null and");
    LIST_OF_TOPOLOGY = sifted!("topology = $4 and");
    LIST_OF_TOPOLOGY_OPEN = sifted!("topology = $4 and ended_ms is null and");
    SUPERSEDE = "update job set standing = 'superseded', ended_ms = $3, document = null
        where topology = $1 and kind = $2 and ended_ms is null";
    SUPERSEDE_OF_COMPONENT = "update job set standing = 'superseded', ended_ms = $3, document = null
        where topology = $1 and kind = $2 and component = $4 and ended_ms is null";
    PICTURE = "update job set document = $3 where id = $1 and topology = $2 and ended_ms is null";
    SUCCEED_ALL = "update job set standing = 'succeeded', ended_ms = $2 where topology = $1 and ended_ms is null";
    FINISH = "update job set standing = $2, ended_ms = $3, document = $4 where id = $1 and ended_ms is null";
    CANCEL = "update job set standing = 'cancelled', ended_ms = $2 where id = $1 and ended_ms is null";
    THERE = "select count(*) from job where id = $1";
    @ OPEN_OF_TOPOLOGIES = sqlite job_columns!("where topology in (select value from json_each($1)) and ended_ms is null"),
        postgres job_columns!("where topology = any(array(select json_array_elements_text($1::json))) and ended_ms is null");
}

/// Records a job inside a transaction.
macro_rules! record_job {
    ($tx:ident, $on:ident, $job:expr) => {{
        let job: &$crate::JobRecord = $job;
        let ended = job.ended.as_ref();
        let document = match ended.and_then(|ended| ended.document.as_ref()) {
            Some(document) => Some($crate::sql::rows::to_text("the last picture", document)?),
            None => None,
        };
        let undo = match &job.undo {
            Some(undo) => Some($crate::sql::rows::to_text("what undoes it", undo)?),
            None => None,
        };
        sqlx::query($on(&$crate::sql::jobs::ADD))
            .bind(job.id.as_str())
            .bind(job.kind.name())
            .bind(job.component.as_ref().map(|id| id.as_str()))
            .bind(job.topology.as_str())
            .bind(&job.topology_name)
            .bind(&job.tenant)
            .bind($crate::input::clean(&job.detail))
            .bind(job.created_ms)
            .bind(undo)
            .bind(ended.map(|ended| ended.standing.name()))
            .bind(ended.map(|ended| ended.at_ms))
            .bind(document)
            .execute(&mut *$tx)
            .await
            .map_err(|cause| $crate::sql::Fail::or_duplicate(cause, "job", job.id.as_str()))?;
    }};
}

/// Ends the open jobs that a new one takes the place of, inside a transaction: those of its
/// component, or all of the topology if it is of the whole.
macro_rules! supersede {
    ($tx:ident, $on:ident, $topology:expr, $job:expr) => {
        for open in JobKind::ALL.into_iter().filter(|open| $job.kind.takes_place_of(*open)) {
            let all =
                query($on(if $job.component.is_some() { &jobs::SUPERSEDE_OF_COMPONENT } else { &jobs::SUPERSEDE }))
                    .bind($topology.as_str())
                    .bind(open.name())
                    .bind($job.created_ms);
            let all = match &$job.component {
                Some(component) => all.bind(component.as_str()),
                None => all,
            };
            all.execute(&mut *$tx).await?;
        }
    };
}

/// Above every id in bytewise order: where a list of the newest begins.
const ABOVE_ALL: &str = "\u{10ffff}";

/// See [`crate::Store::job`].
pub(super) async fn get(store: &SqlStore, id: &JobId) -> Result<Option<JobRecord>> {
    reading!(store, "reading a job", |tx, on| {
        let row: Option<JobRow> = query_as(on(&GET)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
        row.map(JobRecord::try_from).transpose()?
    })
}

/// See [`crate::Store::jobs`].
pub(super) async fn list(store: &SqlStore, filter: &JobFilter, page: &PageRequest) -> Result<Vec<JobRecord>> {
    let statement = match (&filter.topology, &filter.tenant, filter.open_only) {
        (None, None, false) => &LIST,
        (None, None, true) => &LIST_OPEN,
        (None, Some(_), false) => &LIST_OF_TENANT,
        (None, Some(_), true) => &LIST_OF_TENANT_OPEN,
        (Some(_), _, false) => &LIST_OF_TOPOLOGY,
        (Some(_), _, true) => &LIST_OF_TOPOLOGY_OPEN,
    };
    reading!(store, "listing jobs", |tx, on| {
        let found: Vec<JobRow> = query_as(on(statement))
            .bind(key(page.after.as_deref().unwrap_or(ABOVE_ALL)))
            .bind(i64::from(page.limit.min(PAGE_MAX)))
            .bind(filter.tenant.as_deref().map(key))
            .bind(filter.topology.as_ref().map(|id| key(id.as_str())))
            .bind(filter.component.as_ref().map(|id| key(id.as_str())))
            .bind(filter.kind.map(|kind| kind.name()))
            .bind(filter.ended.map(|standing| standing.name()))
            .fetch_all(&mut *tx)
            .await?;
        rows::all(found)?
    })
}

/// See [`crate::Store::finish_job`].
pub(super) async fn finish(
    store: &SqlStore,
    id: &JobId,
    standing: JobStanding,
    now_ms: i64,
    document: &serde_json::Value,
) -> Result<bool> {
    if !standing.is_final() {
        return Err(broken(format!("ending job {id}"), format!("{:?} is not an end", standing.name())));
    }
    writing!(store, "ending a job", |tx, on| {
        let ended = query(on(&FINISH))
            .bind(key(id.as_str()))
            .bind(standing.name())
            .bind(now_ms)
            .bind(to_text("the last picture", document)?)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if ended == 0 {
            let there: i64 = query_scalar(on(&THERE)).bind(key(id.as_str())).fetch_one(&mut *tx).await?;
            if there == 0 {
                return Err(Fail::from(StoreError::NotFound { what: "job", id: id.to_string() }));
            }
        }
        ended > 0
    })
}
