//! Queueing commands, and noting that nodes have them.

use super::super::rows::{key, to_text};
use super::super::{Fail, SqlStore};
use crate::commands::{BatchRecord, CommandRecord, Queued, TRIES_PER_OPERATION_MAX};
use crate::input::clean;
use crate::{Result, StoreError};
use serde::Serialize;
use sqlx::{query, query_as, query_scalar};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::command::COMMANDS_WAITING_MAX;
use straas_schemas::{CommandId, NodeId};

statements! {
    BATCH_ADD = "insert into command_batch (id, tenant, topology, component, command, concurrency, max_errors, author, created_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    TRIES_PRUNE = "delete from command where topology = $1 and operation_key = $2 and operation_attempt <= $3 and ended_ms is not null";
    @ NODES_THERE = sqlite "select id from node where id in (select value from json_each($1))",
        postgres "select id from node where id in (select json_array_elements_text($1::json))";
    @ WAITING = sqlite "select node, count(*) from command
            where ended_ms is null and operation_key is null and node in (select value from json_each($1)) group by node",
        postgres "select node, count(*) from command
            where ended_ms is null and operation_key is null and node in (select json_array_elements_text($1::json)) group by node";
    @ ADD = sqlite "insert into command (id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name,
                command, args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                output_bytes, changed)
            select b.value ->> 'id', b.value ->> 'batch', b.value ->> 'operation_key', b.value ->> 'operation_attempt',
                b.value ->> 'tenant', b.value ->> 'topology', b.value ->> 'component', b.value ->> 'node', b.value ->> 'node_name',
                b.value ->> 'command', b.value ->> 'args', b.value ->> 'files', b.value ->> 'timeout_s', b.value ->> 'idempotent',
                b.value ->> 'author', b.value ->> 'created_ms', b.value ->> 'deadline_ms', 'queued', b.value ->> 'held', 0, 0, $2
            from json_each($1) b where true on conflict (id) do nothing",
        postgres "insert into command (id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name,
                command, args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                output_bytes, changed)
            select b.id, b.batch, b.operation_key, b.operation_attempt, b.tenant, b.topology, b.component, b.node, b.node_name,
                b.command, b.args, b.files, b.timeout_s, b.idempotent, b.author, b.created_ms, b.deadline_ms, 'queued', b.held, 0, 0, $2
            from json_to_recordset($1::json) as b(id text, batch text, operation_key text, operation_attempt bigint, tenant text,
                topology text, component text, node text, node_name text, command text, args text, files text,
                timeout_s bigint, idempotent bigint, author text, created_ms bigint, deadline_ms bigint, held bigint)
            on conflict (id) do nothing";
    @ START = sqlite "update command set standing = 'running', held = 0, started_ms = coalesce(started_ms, $2), ended_ms = null,
                document = null, assumed = null, changed = $3
            from (select b.value ->> 'id' as id, b.value ->> 'node' as node from json_each($1) b) as named
            where command.id = named.id and command.node = named.node
                and (command.standing = 'queued' or (command.assumed is not null and command.document is null))
            returning command.id",
        postgres "update command set standing = 'running', held = 0, started_ms = coalesce(started_ms, $2), ended_ms = null,
                document = null, assumed = null, changed = $3
            from json_to_recordset($1::json) as named(id text, node text)
            where command.id = named.id and command.node = named.node
                and (command.standing = 'queued' or (command.assumed is not null and command.document is null))
            returning command.id";
}

/// A command as the statement takes it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    batch: Option<&'a str>,
    operation_key: Option<Cow<'a, str>>,
    operation_attempt: Option<u32>,
    tenant: Cow<'a, str>,
    topology: &'a str,
    component: &'a str,
    node: Cow<'a, str>,
    node_name: Cow<'a, str>,
    command: Cow<'a, str>,
    args: String,
    files: String,
    timeout_s: u32,
    idempotent: i64,
    author: Cow<'a, str>,
    created_ms: i64,
    deadline_ms: i64,
    held: i64,
}

fn line(record: &CommandRecord) -> Result<Line<'_>, Fail> {
    Ok(Line {
        id: record.id.as_str(),
        batch: record.batch.as_deref(),
        operation_key: record.operation.as_ref().map(|(key, _)| clean(key)),
        operation_attempt: record.operation.as_ref().map(|(_, attempt)| *attempt),
        tenant: clean(&record.tenant),
        topology: record.topology.as_str(),
        component: record.component.as_str(),
        node: clean(record.node.as_str()),
        node_name: clean(&record.node_name),
        command: clean(&record.command),
        args: to_text("the arguments", &record.args)?,
        files: to_text("the files", &record.files)?,
        timeout_s: record.timeout_s,
        idempotent: record.idempotent.into(),
        author: clean(&record.by),
        created_ms: record.created_ms,
        deadline_ms: record.deadline_ms,
        held: record.held.into(),
    })
}

/// See [`crate::CommandStore::queue_commands`].
pub(super) async fn queue(store: &SqlStore, commands: &[CommandRecord], batch: Option<&BatchRecord>) -> Result<Queued> {
    if commands.is_empty() {
        return Ok(Queued::New);
    }
    let what = "queueing commands";
    let lines = commands.iter().map(line).collect::<Result<Vec<_>, _>>();
    let lines = lines.and_then(|lines| to_text("commands", &lines)).map_err(|fail| fail.into_error(what))?;
    let nodes: BTreeSet<_> = commands.iter().map(|command| key(command.node.as_str())).collect();
    let named = to_text("nodes", &nodes).map_err(|fail| fail.into_error(what))?;
    writing!(store, what, |tx, on| {
        let number = change_number!(tx, on);
        let there: Vec<String> = query_scalar(on(&NODES_THERE)).bind(&named).fetch_all(&mut *tx).await?;
        let there: BTreeSet<_> = there.into_iter().collect();
        if let Some(gone) = nodes.iter().find(|node| !there.contains(&***node)) {
            return Err(StoreError::NotFound { what: "node", id: gone.to_string() }.into());
        }
        let waiting: Vec<(String, i64)> = query_as(on(&WAITING)).bind(&named).fetch_all(&mut *tx).await?;
        if let Some(full) = full(commands, waiting.into_iter().collect()) {
            // the transaction ends with an error, so that nothing of it is kept
            return Err(Fail::Answer(StoreError::Conflict { what: FULL, id: full }));
        }
        if let Some(batch) = batch {
            query(on(&BATCH_ADD))
                .bind(&batch.id)
                .bind(clean(&batch.tenant))
                .bind(batch.topology.as_str())
                .bind(batch.component.as_ref().map(|id| id.as_str()))
                .bind(clean(&batch.command))
                .bind(batch.concurrency.map(i64::from))
                .bind(batch.max_errors.map(i64::from))
                .bind(clean(&batch.by))
                .bind(batch.created_ms)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, "batch", &batch.id))?;
        }
        query(on(&ADD)).bind(&lines).bind(number).execute(&mut *tx).await?;
        for command in commands {
            let Some((name, attempt)) = &command.operation else { continue };
            query(on(&TRIES_PRUNE))
                .bind(command.topology.as_str())
                .bind(key(name))
                .bind(i64::from(*attempt) - i64::from(TRIES_PER_OPERATION_MAX))
                .execute(&mut *tx)
                .await?;
        }
        Queued::New
    })
    .or_else(|error| match error {
        StoreError::Conflict { what: FULL, id } => Ok(Queued::Full(id.into())),
        other => Err(other),
    })
}

/// Marks the error that rolls back for a node that has enough to do; never leaves this file.
const FULL: &str = "queue of node";

fn full(commands: &[CommandRecord], mut waiting: BTreeMap<String, i64>) -> Option<String> {
    for command in commands.iter().filter(|command| command.operation.is_none()) {
        let count = waiting.entry(key(command.node.as_str()).into_owned()).or_default();
        *count += 1;
        if usize::try_from(*count).is_ok_and(|count| count > COMMANDS_WAITING_MAX) {
            return Some(command.node.to_string());
        }
    }
    None
}

/// A node's command as the statement takes it.
#[derive(Serialize)]
struct Named<'a> {
    id: Cow<'a, str>,
    node: Cow<'a, str>,
}

/// See [`crate::CommandStore::start_commands`].
pub(super) async fn start(store: &SqlStore, named: &[(NodeId, CommandId)], now_ms: i64) -> Result<Vec<CommandRecord>> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let what = "noting that commands run";
    let mut named: Vec<_> =
        named.iter().map(|(node, id)| Named { id: key(id.as_str()), node: key(node.as_str()) }).collect();
    named.sort_by(|a, b| a.id.cmp(&b.id));
    named.dedup_by(|a, b| a.id == b.id && a.node == b.node);
    let named = to_text("commands", &named).map_err(|fail| fail.into_error(what))?;
    writing!(store, what, |tx, on| {
        let number = change_number!(tx, on);
        let started: Vec<String> =
            query_scalar(on(&START)).bind(&named).bind(now_ms).bind(number).fetch_all(&mut *tx).await?;
        commands_by_ids!(tx, on, started)
    })
}
