//! Reading commands: one, many, those that wait, those that changed.

use super::super::SqlStore;
use super::super::rows::{self, key};
use super::super::run::Statement;
use super::CommandRow;
use crate::commands::{CommandChange, CommandFilter, CommandRecord, marked};
use crate::{PAGE_MAX, PageRequest, Result};
use sqlx::{query_as, query_scalar};
use straas_schemas::{CommandId, NodeId};

/// A page of commands, newest first: the first filter finds them by an index, the others sift.
macro_rules! sifted {
    ($first:literal) => {
        concat!(
            "select id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name, command,
                args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                started_ms, ended_ms, document, assumed, output_bytes
            from command where ",
            $first,
            " (created_ms, id) < ($1, $2)
                and (cast($4 as text) is null or tenant = $4) and (cast($5 as text) is null or topology = $5)
                and (cast($6 as text) is null or component = $6) and (cast($7 as text) is null or node = $7)
                and (cast($8 as text) is null or batch = $8) and (cast($9 as text) is null or standing = $9)
                and (cast($10 as text) is null or command = $10)
            order by created_ms desc, id desc limit $3"
        )
    };
}

statements! {
    GET = command_columns!("where id = $1");
    WAITING = command_columns!("where node = $1 and ended_ms is null and held = 0 order by created_ms, id");
    LIST = sifted!("");
    LIST_OF_TENANT = sifted!("tenant = $4 and");
    LIST_OF_TOPOLOGY = sifted!("topology = $5 and");
    LIST_OF_COMPONENT = sifted!("component = $6 and");
    LIST_OF_NODE = sifted!("node = $7 and");
    LIST_OF_BATCH = sifted!("batch = $8 and");
    CHANGES = "select changed, id, node, batch, standing, held, cancelling from command
        where (changed, id) > ($1, $2) order by changed, id limit $3";
    LAST = "select value from counter where name = 'command'";
}

/// See [`crate::CommandStore::command`].
pub(super) async fn get(store: &SqlStore, id: &CommandId) -> Result<Option<CommandRecord>> {
    reading!(store, "reading a command", |tx, on| {
        let row: Option<CommandRow> = query_as(on(&GET)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
        row.map(CommandRecord::try_from).transpose()?
    })
}

/// See [`crate::CommandStore::waiting_commands`].
pub(super) async fn waiting(store: &SqlStore, node: &NodeId) -> Result<Vec<CommandRecord>> {
    reading!(store, "reading the commands that wait for a node", |tx, on| {
        let found: Vec<CommandRow> = query_as(on(&WAITING)).bind(key(node.as_str())).fetch_all(&mut *tx).await?;
        rows::all(found)?
    })
}

/// The statement whose index leads to the fewest rows.
fn best(filter: &CommandFilter) -> &'static Statement {
    match filter {
        CommandFilter { batch: Some(_), .. } => &LIST_OF_BATCH,
        CommandFilter { node: Some(_), .. } => &LIST_OF_NODE,
        CommandFilter { component: Some(_), .. } => &LIST_OF_COMPONENT,
        CommandFilter { topology: Some(_), .. } => &LIST_OF_TOPOLOGY,
        CommandFilter { tenant: Some(_), .. } => &LIST_OF_TENANT,
        _ => &LIST,
    }
}

/// See [`crate::CommandStore::commands`].
pub(super) async fn list(store: &SqlStore, filter: &CommandFilter, page: &PageRequest) -> Result<Vec<CommandRecord>> {
    let (before_ms, before_id) = marked(page.after.as_deref());
    let limit = i64::from(page.limit.min(PAGE_MAX));
    let texts = [
        filter.tenant.as_deref(),
        filter.topology.as_ref().map(|id| id.as_str()),
        filter.component.as_ref().map(|id| id.as_str()),
        filter.node.as_ref().map(|id| id.as_str()),
        filter.batch.as_deref(),
        filter.standing.map(|standing| standing.name()),
        filter.command.as_deref(),
    ];
    reading!(store, "listing commands", |tx, on| {
        let mut asked = query_as::<_, CommandRow>(on(best(filter))).bind(before_ms).bind(key(before_id)).bind(limit);
        for text in texts {
            asked = asked.bind(text.map(key));
        }
        rows::all(asked.fetch_all(&mut *tx).await?)?
    })
}

/// See [`crate::CommandStore::command_changes`].
pub(super) async fn changes(store: &SqlStore, after: (i64, &str), limit: u32) -> Result<Vec<CommandChange>> {
    type Row = (i64, String, String, Option<String>, String, i64, i64);
    let limit = i64::from(limit.min(PAGE_MAX));
    reading!(store, "reading which commands changed", |tx, on| {
        let found: Vec<Row> =
            query_as(on(&CHANGES)).bind(after.0).bind(key(after.1)).bind(limit).fetch_all(&mut *tx).await?;
        let mut changes = Vec::with_capacity(found.len());
        for (number, id, node, batch, standing, held, cancelling) in found {
            changes.push(CommandChange {
                number,
                id: id.into(),
                node: node.into(),
                batch,
                standing: super::row::standing(&standing)?,
                held: held != 0,
                cancelling: cancelling != 0,
            });
        }
        changes
    })
}

/// See [`crate::CommandStore::last_command_change`].
pub(super) async fn last_change(store: &SqlStore) -> Result<i64> {
    asking!(store, "reading the number of the last change", |pool, on| query_scalar(on(&LAST)).fetch_one(pool))
}
