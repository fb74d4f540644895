//! Guest commands for many nodes: of a component, of a topology.

use super::super::auth::Caller;
use super::super::extract::{Body, Path, Query};
use super::super::once::{self, Made};
use super::super::problem::ApiError;
use super::super::{body, components, topologies};
use super::reading::{LOOK_EVERY, Waiting};
use super::{Order, accepted, checked, full, view};
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::ComponentId;
use straas_schemas::command::{BatchView, CommandBatchRequest};
use straas_store::{
    BatchRecord, Cancelled, CommandFilter, CommandRecord, NodeRecord, PAGE_MAX, PageRequest, Queued, TopologyRecord,
};
use tokio::time::Instant;
use uuid::Uuid;

/// `POST /v1.0/components/{id}/commands`
pub async fn on_component(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let (topology, component) = components::own(&app, &caller, &id).await?;
    queue(&app, &caller, &topology, Some(component.id), &bytes).await
}

/// `POST /v1.0/topologies/{id}/commands`
pub async fn on_topology(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let topology = topologies::own(&app, &caller, &id).await?;
    queue(&app, &caller, &topology, None, &bytes).await
}

async fn queue(
    app: &App,
    caller: &Caller,
    topology: &TopologyRecord,
    component: Option<ComponentId>,
    bytes: &[u8],
) -> Result<Response, ApiError> {
    let request: CommandBatchRequest = body::typed(bytes)?;
    let batch = BatchRecord {
        id: Uuid::now_v7().to_string(),
        tenant: topology.tenant.clone(),
        topology: topology.id.clone(),
        component,
        command: request.command.clone(),
        concurrency: request.concurrency,
        max_errors: request.max_errors,
        by: caller.name.clone(),
        created_ms: app.now_ms(),
        ended_ms: None,
    };
    let records = records(app, caller, topology, &batch, request).await?;
    let store = once::store(app, &Made::Batch { id: batch.id.clone() });
    match store.queue_commands(&records, Some(&batch)).await? {
        Queued::New => {
            app.metrics.commands_queued(records.len());
            app.commands_changed(&records).await;
            answer(app, &batch.id).await
        }
        Queued::Full(node) => Err(full(&node)),
    }
}

/// 202 with the batch as it is.
///
/// # Errors
/// It is not there any more.
pub async fn answer(app: &App, id: &str) -> Result<Response, ApiError> {
    let batch = app.store.batch(id).await?.ok_or_else(|| ApiError::not_found("batch", id))?;
    Ok(accepted(&format!("batches/{id}"), &picture(app, batch).await?))
}

/// The commands of a batch: of the nodes asked for, those that begin at once first.
async fn records(
    app: &App,
    caller: &Caller,
    topology: &TopologyRecord,
    batch: &BatchRecord,
    request: CommandBatchRequest,
) -> Result<Vec<CommandRecord>, ApiError> {
    let missing = || ApiError::not_found("topology", topology.id.as_str());
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    let wanted = |node: &NodeRecord| {
        batch.component.as_ref().is_none_or(|id| node.component == *id)
            && request.role.as_ref().is_none_or(|role| node.role == *role)
    };
    let mut nodes: Vec<_> = snapshot.nodes.into_iter().map(|node| node.record).filter(wanted).collect();
    nodes.sort_by(|a, b| (&a.component, &a.group, a.ordinal).cmp(&(&b.component, &b.group, b.ordinal)));
    let CommandBatchRequest { command, args, timeout_s, deadline_s, concurrency, .. } = request;
    let order = Order { command, args, timeout_s, deadline_s, files: Vec::new() };
    let mut first: BTreeMap<_, CommandRecord> = BTreeMap::new();
    let mut records: Vec<CommandRecord> = Vec::with_capacity(nodes.len());
    for node in &nodes {
        // nodes of one role and commit are checked once
        let commit = super::scripts(app, node).await?;
        let known = first.get(&(commit.clone(), node.component.clone(), node.role.clone())).cloned();
        let checked = match known {
            Some(known) => CommandRecord {
                id: Uuid::now_v7().to_string().into(),
                node: node.id.clone(),
                node_name: node.name.clone(),
                ..known
            },
            None => {
                let record = checked(app, caller, topology, node, &order).await?;
                first.insert((commit, node.component.clone(), node.role.clone()), record.clone());
                record
            }
        };
        let held = concurrency.is_some_and(|most| records.len() >= most as usize);
        // one time for all: the order of a batch is that of its ids
        let (created_ms, deadline_ms) =
            (batch.created_ms, records.first().map_or(checked.deadline_ms, |r| r.deadline_ms));
        records.push(CommandRecord { batch: Some(batch.id.clone()), held, created_ms, deadline_ms, ..checked });
    }
    if records.is_empty() {
        return Err(ApiError::invalid("/role", "there are no such nodes"));
    }
    Ok(records)
}

/// `GET /v1.0/batches/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(waiting): Query<Waiting>,
) -> Result<Json<BatchView>, ApiError> {
    let until = waiting.until()?;
    let mut changed = app.commands.listen(&id);
    let mut stopping = app.stopping.clone();
    loop {
        let found = app.store.batch(&id).await?.filter(|batch| caller.may(&batch.tenant));
        let batch = found.ok_or_else(|| ApiError::not_found("batch", &id))?;
        if batch.ended_ms.is_some() || Instant::now() >= until || stopping.is_requested() {
            return picture(&app, batch).await.map(Json);
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
            () = stopping.requested() => {}
        }
    }
}

/// `POST /v1.0/batches/{id}/cancel`: those that wait never begin, those that run are killed.
pub async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = app.store.batch(&id).await?.filter(|batch| caller.may(&batch.tenant));
    let batch = found.ok_or_else(|| ApiError::not_found("batch", &id))?;
    let store = once::store(&app, &Made::Batch { id: id.clone() });
    let mut cancelled = 0;
    // the last first: what is held stays so, whatever ends meanwhile
    for command in commands(&app, &batch).await?.iter().filter(|command| !command.standing.is_final()) {
        if let Cancelled::Wanted(record) = store.cancel_command(&command.id, app.now_ms()).await? {
            app.commands_changed(std::slice::from_ref(&record)).await;
            cancelled += 1;
        }
    }
    if cancelled == 0 {
        return Err(ApiError::conflict("every command of this batch has ended before"));
    }
    answer(&app, &id).await
}

/// The commands of a batch, the last first.
async fn commands(app: &App, batch: &BatchRecord) -> Result<Vec<CommandRecord>, ApiError> {
    let filter = CommandFilter { batch: Some(batch.id.clone()), ..CommandFilter::default() };
    let mut page = PageRequest { after: None, limit: PAGE_MAX };
    let mut commands = Vec::new();
    loop {
        let found = app.store.commands(&filter, &page).await?;
        let full = found.len() == PAGE_MAX as usize;
        page.after = found.last().map(CommandRecord::marker);
        commands.extend(found);
        if !full {
            return Ok(commands);
        }
    }
}

async fn picture(app: &App, batch: BatchRecord) -> Result<BatchView, ApiError> {
    let records = commands(app, &batch).await?.into_iter().rev();
    let commands: Vec<_> = records.map(|record| view(record, String::new())).collect();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for command in &commands {
        *counts.entry(command.standing.name().to_owned()).or_default() += 1;
    }
    Ok(BatchView {
        id: batch.id,
        topology: batch.topology,
        component: batch.component,
        command: batch.command,
        by: batch.by,
        concurrency: batch.concurrency,
        max_errors: batch.max_errors,
        created_ms: batch.created_ms,
        ended_ms: batch.ended_ms,
        counts,
        commands,
    })
}
