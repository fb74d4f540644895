//! Output: appended without gaps, read from anywhere, pruned with its command.

use super::super::SqlStore;
use super::super::rows::{count, int, key};
use crate::commands::{COMMANDS_PER_NODE_MAX, OUTPUTS_PER_NODE_BYTES_MAX};
use crate::{Result, StoreError};
use sqlx::{query, query_as, query_scalar};
use straas_schemas::command::COMMAND_OUTPUT_BYTES_MAX;
use straas_schemas::{CommandId, NodeId};

statements! {
    ADD = "insert into command_output (command, position, bytes) values ($1, $2, $3)";
    GROWN = "update command set output_bytes = $2 where id = $1";
    PIECE = "select position, bytes from command_output where command = $1 and position <= $2 order by position desc limit 1";
    PIECES_AFTER = "select bytes from command_output where command = $1 and position > $2 and position < $3 order by position";
    OLD = "delete from command where id in (select id from command where node = $1 and ended_ms is not null
        and operation_key is null order by created_ms desc, id desc limit 10000 offset $2)";
    OUTPUTS = "select id, output_bytes from command where node = $1 and output_bytes > 0 and ended_ms is not null
        order by created_ms desc, id desc";
    DROP = "delete from command_output where command = $1";
    @ LOCK = sqlite "select output_bytes from command where id = $1 and node = $2",
        postgres "select output_bytes from command where id = $1 and node = $2 for no key update";
}

/// See [`crate::CommandStore::append_output`].
pub(super) async fn append(store: &SqlStore, node: &NodeId, id: &CommandId, offset: u64, bytes: &[u8]) -> Result<u64> {
    let name = key(id.as_str());
    let most = COMMAND_OUTPUT_BYTES_MAX as u64;
    writing!(store, "appending output", |tx, on| {
        let have: Option<i64> =
            query_scalar(on(&LOCK)).bind(&*name).bind(key(node.as_str())).fetch_optional(&mut *tx).await?;
        let missing = || StoreError::NotFound { what: "command", id: id.to_string() };
        let have: u64 = count(have.ok_or_else(missing)?)?;
        let end = offset.saturating_add(bytes.len() as u64);
        if have >= most || offset > have || end <= have {
            return Ok(if have >= most { end.max(have) } else { have });
        }
        let from = usize::try_from(have - offset).unwrap_or(usize::MAX).min(bytes.len());
        let upto = usize::try_from(end.min(most) - offset).unwrap_or(usize::MAX).min(bytes.len());
        query(on(&ADD)).bind(&*name).bind(int(have)?).bind(&bytes[from..upto]).execute(&mut *tx).await?;
        query(on(&GROWN)).bind(&*name).bind(int(end.min(most))?).execute(&mut *tx).await?;
        end
    })
}

/// See [`crate::CommandStore::output`].
pub(super) async fn read(store: &SqlStore, id: &CommandId, offset: u64, limit: usize) -> Result<Vec<u8>> {
    let id = key(id.as_str());
    let limit = limit.max(1);
    reading!(store, "reading output", |tx, on| {
        let at = int(offset.min(i64::MAX as u64))?;
        let first: Option<(i64, Vec<u8>)> = query_as(on(&PIECE)).bind(&*id).bind(at).fetch_optional(&mut *tx).await?;
        let Some((position, piece)) = first else { return Ok(Vec::new()) };
        let skip = usize::try_from(at - position).unwrap_or(usize::MAX);
        let mut found = piece.get(skip..).unwrap_or_default().to_vec();
        let until = at.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
        let rest: Vec<Vec<u8>> =
            query_scalar(on(&PIECES_AFTER)).bind(&*id).bind(position).bind(until).fetch_all(&mut *tx).await?;
        // beyond the end there is nothing, however the pieces lie
        if skip <= piece.len() {
            found.extend(rest.into_iter().flatten());
        }
        found.truncate(limit);
        found
    })
}

/// See [`crate::CommandStore::prune_commands`].
pub(super) async fn prune(store: &SqlStore, nodes: &[NodeId]) -> Result<()> {
    let mut nodes: Vec<_> = nodes.iter().collect();
    nodes.sort();
    for node in nodes {
        let node = key(node.as_str());
        writing!(store, "pruning commands", |tx, on| {
            query(on(&OLD)).bind(&*node).bind(i64::from(COMMANDS_PER_NODE_MAX)).execute(&mut *tx).await?;
            let outputs: Vec<(String, i64)> = query_as(on(&OUTPUTS)).bind(&*node).fetch_all(&mut *tx).await?;
            let mut kept = 0;
            for (id, bytes) in outputs {
                kept += count::<u64>(bytes)?;
                if kept > OUTPUTS_PER_NODE_BYTES_MAX {
                    query(on(&DROP)).bind(&id).execute(&mut *tx).await?;
                    query(on(&GROWN)).bind(&id).bind(0_i64).execute(&mut *tx).await?;
                }
            }
        })?;
    }
    Ok(())
}
