//! Ends: reported, wanted, assumed.

use super::super::SqlStore;
use super::super::rows::key;
use super::CommandRow;
use crate::Result;
use crate::commands::{COMMAND_AGE_MS_MAX, Cancelled, CommandRecord, PRUNED_MAX, because};
use sqlx::{query, query_as, query_scalar};
use straas_schemas::CommandId;
use straas_schemas::command::CommandStanding;

statements! {
    // a reported end is final; one that was only assumed gives way
    ENDED = "update command set standing = $3, held = 0, document = $4, assumed = null, ended_ms = $5,
            started_ms = coalesce(started_ms, $6), changed = $7
        where id = $1 and node = $2 and document is null";
    LOST = "update command set standing = 'unknown', assumed = $2, ended_ms = $3, changed = $4
        where node = $1 and ended_ms is null and held = 0 and (standing = 'running' or idempotent = 0)";
    CANCEL_QUEUED = "update command set standing = 'cancelled', held = 0, cancelling = 1, assumed = $2, ended_ms = $3, changed = $4
        where id = $1 and standing = 'queued'";
    CANCEL_RUNNING = "update command set cancelling = 1, changed = $2 where id = $1 and standing = 'running'";
    EXPIRE = "update command set standing = 'expired', held = 0, assumed = $1, ended_ms = $2, changed = $3
        where standing = 'queued' and deadline_ms <= $4 returning id";
    ORPHANS = "update command set standing = case standing when 'running' then 'unknown' else 'expired' end, held = 0,
            assumed = $1, ended_ms = $2, changed = $3
        where ended_ms is null and not exists (select 1 from node where node.id = command.node) returning id";
    PRUNE = "delete from command where id in (select id from command where ended_ms < $1 order by ended_ms limit $2)";
    PRUNE_BATCHES = "delete from command_batch where created_ms < $1 and ended_ms is not null";
    DEADLINE = "select min(deadline_ms) from command where standing = 'queued'";
    @ LOCK = sqlite "select id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name, command,
                args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                started_ms, ended_ms, document, assumed, output_bytes from command where id = $1",
        postgres "select id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name, command,
                args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                started_ms, ended_ms, document, assumed, output_bytes from command where id = $1 for no key update";
}

/// Records an end that a node reported, inside a transaction.
macro_rules! end_command {
    ($tx:ident, $on:ident, $node:expr, $end:expr, $now_ms:expr) => {{
        let number = change_number!($tx, $on);
        let end: &straas_schemas::command::CommandEnd = $end;
        let standing = straas_schemas::command::CommandStanding::from(end.outcome);
        let began = standing != straas_schemas::command::CommandStanding::Expired;
        let began_ms = $now_ms.saturating_sub(i64::try_from(end.duration_ms).unwrap_or(0));
        sqlx::query($on(&$crate::sql::commands::ENDED))
            .bind($crate::sql::rows::key(end.id.as_str()))
            .bind($node)
            .bind(standing.name())
            .bind($crate::sql::rows::to_text("the end of a command", end)?)
            .bind($now_ms)
            .bind(began.then_some(began_ms))
            .bind(number)
            .execute(&mut *$tx)
            .await?;
    }};
}

/// Ends what an agent that is gone, or that lost its journal, may have run, inside a transaction.
macro_rules! lose_commands {
    ($tx:ident, $on:ident, $node:expr, $reason:expr, $now_ms:expr) => {{
        let number = change_number!($tx, $on);
        sqlx::query($on(&$crate::sql::commands::LOST))
            .bind($node)
            .bind($reason)
            .bind($now_ms)
            .bind(number)
            .execute(&mut *$tx)
            .await?;
    }};
}

/// See [`crate::CommandStore::cancel_command`].
pub(super) async fn cancel(store: &SqlStore, id: &CommandId, now_ms: i64) -> Result<Cancelled> {
    let id = key(id.as_str());
    writing!(store, "cancelling a command", |tx, on| {
        let number = change_number!(tx, on);
        let row: Option<CommandRow> = query_as(on(&LOCK)).bind(&*id).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(Cancelled::Unknown) };
        let record = CommandRecord::try_from(row)?;
        if record.standing.is_final() {
            return Ok(Cancelled::Ended(record));
        }
        let cancel = if record.standing == CommandStanding::Queued {
            query(on(&CANCEL_QUEUED)).bind(&*id).bind(because::CANCELLED).bind(now_ms).bind(number)
        } else {
            query(on(&CANCEL_RUNNING)).bind(&*id).bind(number)
        };
        cancel.execute(&mut *tx).await?;
        let row: CommandRow = query_as(on(&LOCK)).bind(&*id).fetch_one(&mut *tx).await?;
        Cancelled::Wanted(CommandRecord::try_from(row)?)
    })
}

/// See [`crate::CommandStore::settle_commands`].
pub(super) async fn settle(store: &SqlStore, now_ms: i64, grace_ms: i64) -> Result<Vec<CommandRecord>> {
    writing!(store, "ending overdue commands", |tx, on| {
        let number = change_number!(tx, on);
        let mut ended: Vec<String> = query_scalar(on(&EXPIRE))
            .bind(because::EXPIRED)
            .bind(now_ms)
            .bind(number)
            .bind(now_ms.saturating_sub(grace_ms))
            .fetch_all(&mut *tx)
            .await?;
        let orphans: Vec<String> =
            query_scalar(on(&ORPHANS)).bind(because::REMOVED).bind(now_ms).bind(number).fetch_all(&mut *tx).await?;
        ended.extend(orphans);
        let old_ms = now_ms.saturating_sub(COMMAND_AGE_MS_MAX);
        query(on(&PRUNE)).bind(old_ms).bind(i64::from(PRUNED_MAX)).execute(&mut *tx).await?;
        query(on(&PRUNE_BATCHES)).bind(old_ms).execute(&mut *tx).await?;
        commands_by_ids!(tx, on, ended)
    })
}

/// See [`crate::CommandStore::next_deadline`].
pub(super) async fn next_deadline(store: &SqlStore) -> Result<Option<i64>> {
    asking!(store, "reading the next deadline", |pool, on| query_scalar(on(&DEADLINE)).fetch_one(pool))
}
