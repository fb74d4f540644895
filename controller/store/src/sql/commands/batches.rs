//! Batches: how many of their commands may go, and when they are over.
//!
//! What a batch does next follows from how its commands stand; nothing else is remembered, so that
//! bringing it forward twice, or after a crash, is the same as once. Its row is the lock.

use super::super::rows::{count, key};
use super::super::{Fail, SqlStore};
use crate::Result;
use crate::commands::{BatchRecord, CommandRecord, because};
use sqlx::{FromRow, query, query_as, query_scalar};
use straas_schemas::command::CommandStanding;

statements! {
    OPEN = "select id from command_batch where ended_ms is null order by id";
    COUNTS = "select standing, held, count(*) from command where batch = $1 group by standing, held";
    STOP = "update command set standing = 'cancelled', held = 0, assumed = $2, ended_ms = $3, changed = $4
        where batch = $1 and standing = 'queued' returning id";
    RELEASE = "update command set held = 0, changed = $3 where id in (
            select id from command where batch = $1 and held = 1 and ended_ms is null order by created_ms, id limit $2)
        returning id";
    ENDED = "update command_batch set ended_ms = $2 where id = $1";
    GET = "select id, tenant, topology, component, command, concurrency, max_errors, author, created_ms, ended_ms
        from command_batch where id = $1";
    @ LOCK = sqlite "select id, tenant, topology, component, command, concurrency, max_errors, author, created_ms, ended_ms
            from command_batch where id = $1",
        postgres "select id, tenant, topology, component, command, concurrency, max_errors, author, created_ms, ended_ms
            from command_batch where id = $1 for no key update";
}

#[derive(FromRow)]
struct BatchRow {
    id: String,
    tenant: String,
    topology: String,
    component: Option<String>,
    command: String,
    concurrency: Option<i64>,
    max_errors: Option<i64>,
    author: String,
    created_ms: i64,
    ended_ms: Option<i64>,
}

impl TryFrom<BatchRow> for BatchRecord {
    type Error = Fail;
    fn try_from(row: BatchRow) -> Result<Self, Fail> {
        Ok(Self {
            id: row.id,
            tenant: row.tenant,
            topology: row.topology.into(),
            component: row.component.map(Into::into),
            command: row.command,
            concurrency: row.concurrency.map(count).transpose()?,
            max_errors: row.max_errors.map(count).transpose()?,
            by: row.author,
            created_ms: row.created_ms,
            ended_ms: row.ended_ms,
        })
    }
}

/// See [`crate::CommandStore::batch`].
pub(super) async fn get(store: &SqlStore, id: &str) -> Result<Option<BatchRecord>> {
    reading!(store, "reading a batch", |tx, on| {
        let row: Option<BatchRow> = query_as(on(&GET)).bind(key(id)).fetch_optional(&mut *tx).await?;
        row.map(BatchRecord::try_from).transpose()?
    })
}

/// See [`crate::CommandStore::open_batches`].
pub(super) async fn open(store: &SqlStore) -> Result<Vec<String>> {
    asking!(store, "listing open batches", |pool, on| query_scalar(on(&OPEN)).fetch_all(pool))
}

/// How many commands of a batch stand how.
#[derive(Default)]
struct Counts {
    held: i64,
    going: i64,
    not_begun: i64,
    bad: i64,
}

impl Counts {
    fn of(rows: Vec<(String, i64, i64)>) -> Result<Self, Fail> {
        let mut counts = Self::default();
        for (standing, held, number) in rows {
            match super::row::standing(&standing)? {
                CommandStanding::Queued if held != 0 => {
                    counts.held += number;
                    counts.not_begun += number;
                }
                CommandStanding::Queued => {
                    counts.going += number;
                    counts.not_begun += number;
                }
                CommandStanding::Running => counts.going += number,
                CommandStanding::Succeeded => {}
                _ => counts.bad += number,
            }
        }
        Ok(counts)
    }
}

/// See [`crate::CommandStore::advance_batch`].
pub(super) async fn advance(store: &SqlStore, id: &str, now_ms: i64) -> Result<Vec<CommandRecord>> {
    let id = key(id);
    writing!(store, "bringing a batch forward", |tx, on| {
        let row: Option<BatchRow> = query_as(on(&LOCK)).bind(&*id).fetch_optional(&mut *tx).await?;
        let Some(batch) = row.map(BatchRecord::try_from).transpose()? else { return Ok(Vec::new()) };
        if batch.ended_ms.is_some() {
            return Ok(Vec::new());
        }
        let rows: Vec<(String, i64, i64)> = query_as(on(&COUNTS)).bind(&*id).fetch_all(&mut *tx).await?;
        let counts = Counts::of(rows)?;
        let stop = batch.max_errors.is_some_and(|most| counts.bad >= i64::from(most));
        let room = batch.concurrency.map_or(i64::MAX, i64::from).saturating_sub(counts.going).max(0);
        let mut changed: Vec<String> = Vec::new();
        if stop && counts.not_begun > 0 {
            let number = change_number!(tx, on);
            changed = query_scalar(on(&STOP))
                .bind(&*id)
                .bind(because::BATCH)
                .bind(now_ms)
                .bind(number)
                .fetch_all(&mut *tx)
                .await?;
        } else if !stop && counts.held > 0 && room > 0 {
            let number = change_number!(tx, on);
            changed = query_scalar(on(&RELEASE)).bind(&*id).bind(room).bind(number).fetch_all(&mut *tx).await?;
        }
        let running = counts.going + counts.held - if stop { counts.not_begun } else { 0 };
        if running == 0 {
            query(on(&ENDED)).bind(&*id).bind(now_ms).execute(&mut *tx).await?;
        }
        commands_by_ids!(tx, on, changed)
    })
}
