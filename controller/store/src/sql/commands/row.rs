//! A row of `command`, and the statements that several files use.

use super::super::Fail;
use super::super::rows::{count, from_text};
use crate::commands::{CommandRecord, assumption};
use sqlx::FromRow;
use std::collections::BTreeMap;
use straas_schemas::command::CommandStanding;

macro_rules! command_columns {
    ($rest:literal) => {
        concat!(
            "select id, batch, operation_key, operation_attempt, tenant, topology, component, node, node_name, command,
                args, files, timeout_s, idempotent, author, created_ms, deadline_ms, standing, held, cancelling,
                started_ms, ended_ms, document, assumed, output_bytes
            from command ",
            $rest
        )
    };
}

statements! {
    NUMBER = "update counter set value = value + 1 where name = 'command' returning value";
    @ BY_IDS = sqlite command_columns!("where id in (select value from json_each($1))"),
        postgres command_columns!("where id in (select json_array_elements_text($1::json))");
    @ OPERATIONS_OF_TOPOLOGIES = sqlite command_columns!("where topology in (select value from json_each($1)) and operation_key is not null"),
        postgres command_columns!("where topology = any(array(select json_array_elements_text($1::json))) and operation_key is not null");
}

/// A new number for what is changed in this transaction; taken before any command's row is locked.
macro_rules! change_number {
    ($tx:ident, $on:ident) => {{
        let number: i64 = sqlx::query_scalar($on(&$crate::sql::commands::NUMBER)).fetch_one(&mut *$tx).await?;
        number
    }};
}

/// The records of these ids, by id.
macro_rules! commands_by_ids {
    ($tx:ident, $on:ident, $ids:expr) => {{
        let ids: Vec<String> = $ids;
        if ids.is_empty() {
            Vec::new()
        } else {
            let text = $crate::sql::rows::to_text("ids", &ids)?;
            let rows: Vec<$crate::sql::commands::CommandRow> =
                sqlx::query_as($on(&super::row::BY_IDS)).bind(text).fetch_all(&mut *$tx).await?;
            let mut found: Vec<$crate::commands::CommandRecord> = $crate::sql::rows::all(rows)?;
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found
        }
    }};
}

/// A row of `command`.
#[derive(FromRow)]
pub(in crate::sql) struct CommandRow {
    id: String,
    batch: Option<String>,
    operation_key: Option<String>,
    operation_attempt: Option<i64>,
    tenant: String,
    topology: String,
    component: String,
    node: String,
    node_name: String,
    command: String,
    args: String,
    files: String,
    timeout_s: i64,
    idempotent: i64,
    author: String,
    created_ms: i64,
    deadline_ms: i64,
    standing: String,
    held: i64,
    cancelling: i64,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    document: Option<String>,
    assumed: Option<String>,
    output_bytes: i64,
}

/// How a command stands, from its name.
pub(super) fn standing(name: &str) -> Result<CommandStanding, Fail> {
    use CommandStanding::{Cancelled, Expired, Failed, Queued, Running, Succeeded, Unknown};
    let all = [Queued, Running, Succeeded, Failed, Cancelled, Expired, Unknown];
    let found = all.into_iter().find(|standing| standing.name() == name);
    found.ok_or_else(|| Fail::Value(format!("the word {name:?}"), "not known to this version".into()))
}

impl TryFrom<CommandRow> for CommandRecord {
    type Error = Fail;
    fn try_from(row: CommandRow) -> Result<Self, Fail> {
        let what = |part: &str| format!("the {part} of command {}", row.id);
        let id = row.id.as_str().into();
        let standing = standing(&row.standing)?;
        let end = match (&row.document, &row.assumed) {
            (Some(text), _) => Some(from_text(|| what("end"), text)?),
            (None, Some(reason)) => assumption(&id, standing, reason),
            (None, None) => None,
        };
        Ok(Self {
            args: from_text(|| what("arguments"), &row.args)?,
            files: from_text(|| what("files"), &row.files)?,
            operation: match (row.operation_key, row.operation_attempt) {
                (Some(key), Some(attempt)) => Some((key, count(attempt)?)),
                _ => None,
            },
            assumed: row.document.is_none() && row.assumed.is_some(),
            id,
            batch: row.batch,
            tenant: row.tenant,
            topology: row.topology.into(),
            component: row.component.into(),
            node: row.node.into(),
            node_name: row.node_name,
            command: row.command,
            timeout_s: count(row.timeout_s)?,
            idempotent: row.idempotent != 0,
            by: row.author,
            created_ms: row.created_ms,
            deadline_ms: row.deadline_ms,
            standing,
            held: row.held != 0,
            cancelling: row.cancelling != 0,
            started_ms: row.started_ms,
            ended_ms: row.ended_ms,
            end,
            output_bytes: count(row.output_bytes)?,
        })
    }
}

/// The newest try of each operation, by topology and key.
pub(in crate::sql) fn newest_tries(rows: Vec<CommandRow>) -> Result<Vec<CommandRecord>, Fail> {
    let mut newest: BTreeMap<(String, String), CommandRecord> = BTreeMap::new();
    for row in rows {
        let record = CommandRecord::try_from(row)?;
        let Some((key, attempt)) = record.operation.clone() else { continue };
        let newer = |last: &CommandRecord| last.operation.as_ref().is_some_and(|(_, other)| *other > attempt);
        let place = (record.topology.to_string(), key);
        if !newest.get(&place).is_some_and(newer) {
            newest.insert(place, record);
        }
    }
    Ok(newest.into_values().collect())
}
