//! Guest commands: asked for on one node; what all requests for commands have in common.
//!
//! A request is checked as a whole before anything is queued: the command is there at the commit
//! that the node has, its arguments fit its schema, the node's role can run it, the caller may.

pub mod batches;
pub mod live;
pub mod reading;

use super::auth::Caller;
use super::extract::{Body, Path};
use super::once::{self, Made};
use super::problem::ApiError;
use super::{body, nodes, topologies};
use crate::app::{App, blocking};
use crate::commands::meta;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use straas_schemas::command::{
    Allowed, COMMAND_ARGS_BYTES_MAX, COMMAND_DEADLINE_S, COMMANDS_WAITING_MAX, CommandMeta, CommandRequest,
    CommandStanding, CommandView,
};
use straas_schemas::{CommandId, Fault, FileRef, NodeId};
use straas_store::{CommandRecord, NodeRecord, Queued, TopologyRecord};
use uuid::Uuid;

/// A command as asked for, for one node or for many.
pub struct Order {
    pub command: String,
    pub args: Map<String, Value>,
    pub timeout_s: Option<u32>,
    pub deadline_s: Option<u32>,
    pub files: Vec<FileRef>,
}

/// `POST /v1.0/nodes/{id}/commands`
pub async fn on_node(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let node = nodes::own(&app, &caller, &id).await?.record;
    let request: CommandRequest = body::typed(&bytes)?;
    let CommandRequest { command, args, timeout_s, deadline_s } = request;
    let order = Order { command, args, timeout_s, deadline_s, files: Vec::new() };
    let record = queue_one(&app, &caller, &node, order).await?;
    Ok(accepted(&format!("commands/{}", record.id), &view(record, String::new())))
}

/// Queues a command for one node.
///
/// # Errors
/// Whatever is wrong with it.
pub async fn queue_one(app: &App, caller: &Caller, node: &NodeRecord, order: Order) -> Result<CommandRecord, ApiError> {
    let topology = topologies::own(app, caller, node.topology.as_str()).await?;
    let record = checked(app, caller, &topology, node, &order).await?;
    let store = once::store(app, &Made::Command { id: record.id.clone() });
    match store.queue_commands(std::slice::from_ref(&record), None).await? {
        Queued::New => {
            app.metrics.commands_queued(1);
            app.commands_changed(std::slice::from_ref(&record)).await;
            Ok(record)
        }
        Queued::Full(node) => Err(full(&node)),
    }
}

/// 409: a node has enough to do.
fn full(node: &NodeId) -> ApiError {
    ApiError::conflict(&format!(
        "{COMMANDS_WAITING_MAX} commands wait for node {node} already; wait for some to end, or cancel them"
    ))
}

/// The commit of the script repo that a node has.
async fn scripts(app: &App, node: &NodeRecord) -> Result<String, ApiError> {
    if app.fleet.get(&node.id).is_none_or(|slot| slot.offer.is_none()) {
        app.sync_node(&node.id).await?;
    }
    let offer = app.fleet.get(&node.id).and_then(|slot| slot.offer);
    offer.map(|offer| offer.assignment.scripts.clone()).ok_or_else(|| {
        ApiError::conflict(&format!(
            "{} has no scripts yet; GET /nodes/{}/why says what it waits for",
            node.name, node.id
        ))
    })
}

/// The script role of a node.
async fn script_role(app: &App, node: &NodeRecord) -> Result<String, ApiError> {
    let component = app.store.component(&node.component).await?;
    let configs = app.configs.clone();
    let catalog = blocking(move || configs.catalog_view()).await?.catalog;
    let role = component.and_then(|c| Some(catalog.get(&c.spec.kind)?.role(&node.role)?.script_role.clone()));
    Ok(role.unwrap_or_else(|| node.role.clone()))
}

/// The record of a command that may be queued.
async fn checked(
    app: &App,
    caller: &Caller,
    topology: &TopologyRecord,
    node: &NodeRecord,
    order: &Order,
) -> Result<CommandRecord, ApiError> {
    if topology.deleting {
        return Err(ApiError::conflict("its topology is being deleted"));
    }
    let meta = meta::of(app, &scripts(app, node).await?, &order.command).await?;
    may_run(app, caller, &order.command).await?;
    let mut faults = faults(&meta, order);
    if let Some(role) = meta.role.as_ref().filter(|_| faults.is_empty()) {
        let own = script_role(app, node).await?;
        if own != *role {
            let message = format!("runs on nodes of the script role {role}; {} is of {own}", node.name);
            faults.push(Fault::at("/command", message));
        }
    }
    if faults.is_empty() {
        Ok(record((caller, app.now_ms()), topology, node, order, &meta))
    } else {
        Err(ApiError::faults(faults))
    }
}

fn faults(meta: &CommandMeta, order: &Order) -> Vec<Fault> {
    let args = Value::Object(order.args.clone());
    let mut faults = meta::faults(meta, &args);
    if args.to_string().len() > COMMAND_ARGS_BYTES_MAX {
        faults.push(Fault::at("/args", "longer than 16 KiB"));
    }
    faults.sort();
    faults.dedup();
    faults
}

async fn may_run(app: &App, caller: &Caller, command: &str) -> Result<(), ApiError> {
    let group = command.split('/').next().unwrap_or_default();
    if may(caller, meta::allowed(app, group)) {
        return Ok(());
    }
    Err(ApiError::forbidden(&format!("commands of {group} are for administrators")))
}

/// Whether a caller may run commands of a group that is allowed to these.
fn may(caller: &Caller, allowed: Allowed) -> bool {
    caller.is_admin() || allowed == Allowed::Tenant
}

fn record(
    (caller, now): (&Caller, i64),
    topology: &TopologyRecord,
    node: &NodeRecord,
    order: &Order,
    meta: &CommandMeta,
) -> CommandRecord {
    CommandRecord {
        id: CommandId(Uuid::now_v7().to_string()),
        batch: None,
        operation: None,
        tenant: topology.tenant.clone(),
        topology: topology.id.clone(),
        component: node.component.clone(),
        node: node.id.clone(),
        node_name: node.name.clone(),
        command: order.command.clone(),
        args: order.args.clone(),
        files: order.files.clone(),
        timeout_s: order.timeout_s.unwrap_or(meta.timeout_s),
        idempotent: meta.idempotent,
        by: caller.name.clone(),
        created_ms: now,
        deadline_ms: now + i64::from(order.deadline_s.unwrap_or(COMMAND_DEADLINE_S)) * 1000,
        standing: CommandStanding::Queued,
        held: false,
        cancelling: false,
        started_ms: None,
        ended_ms: None,
        end: None,
        assumed: false,
        output_bytes: 0,
    }
}

/// 202 with the place where it can be followed.
pub fn accepted(place: &str, body: &impl Serialize) -> Response {
    let headers: [(HeaderName, String); 1] = [(header::LOCATION, format!("/straas/v1.0/{place}"))];
    (StatusCode::ACCEPTED, headers, axum::Json(body)).into_response()
}

/// A command as people see it.
pub fn view(record: CommandRecord, output: String) -> CommandView {
    CommandView {
        id: record.id,
        batch: record.batch,
        topology: record.topology,
        component: record.component,
        node: record.node,
        node_name: record.node_name,
        command: record.command,
        args: record.args,
        standing: record.standing,
        by: record.by,
        created_ms: record.created_ms,
        deadline_ms: record.deadline_ms,
        started_ms: record.started_ms,
        ended_ms: record.ended_ms,
        cancelling: record.cancelling,
        end: record.end,
        output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::{Rank, Reach};

    #[test]
    fn commands_for_administrators_are_for_administrators() {
        let rank = |admin| if admin { Rank::Admin } else { Rank::Operator };
        let caller = |admin| Caller::of("t", rank(admin), Reach::Own);
        for (admin, allowed, expect) in [
            (false, Allowed::Tenant, true),
            (false, Allowed::Admin, false),
            (true, Allowed::Tenant, true),
            (true, Allowed::Admin, true),
        ] {
            assert_eq!(may(&caller(admin), allowed), expect, "{admin} {allowed:?}");
        }
    }
}
