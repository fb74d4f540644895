//! Guest commands: list, show, wait for, cancel, output; and which there are.

use super::super::auth::Caller;
use super::super::components;
use super::super::extract::{Path, Query};
use super::super::lists::{Listed, cut};
use super::super::once::{self, Made};
use super::super::problem::ApiError;
use super::{accepted, view};
use crate::app::{App, blocking};
use crate::commands::meta;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::command::{COMMAND_OUTPUT_BYTES_MAX, CommandStanding, CommandView, CommandsOffered};
use straas_schemas::view::Page;
use straas_schemas::{CommandId, ComponentId, NodeId, TopologyId};
use straas_store::{Cancelled, CommandFilter, CommandRecord};
use tokio::time::Instant;

/// Longest wait for the end of a command in one request.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Looks again at least so often, should a change have been on another controller.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The last piece of output and the end of a command come over connections of their own; the end is
/// shown without the rest of the output only if that is so late.
const OUTPUT_LATE_MAX_MS: i64 = 5_000;

/// Query of the list of commands.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandsQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Only on this node (id).
    node: Option<NodeId>,
    /// Only on this component (id).
    component: Option<ComponentId>,
    /// Only of this topology (id).
    topology: Option<TopologyId>,
    /// Only of this batch (id).
    batch: Option<String>,
    /// Only those that stand so.
    state: Option<CommandStanding>,
    /// Only this one, `group/name`.
    command: Option<String>,
}

/// `GET /v1.0/commands`
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<CommandsQuery>,
) -> Result<Json<Page<CommandView>>, ApiError> {
    let page = query.listed.page();
    let filter = CommandFilter {
        tenant: query.listed.tenant(&caller)?,
        topology: query.topology,
        component: query.component,
        node: query.node,
        batch: query.batch,
        standing: query.state,
        command: query.command,
    };
    let mut records = app.store.commands(&filter, &page).await?;
    let next = cut(&mut records, &page, CommandRecord::marker);
    Ok(Json(Page { items: records.into_iter().map(|record| view(record, String::new())).collect(), next }))
}

/// The caller's command of this id.
///
/// # Errors
/// 404.
pub async fn own(app: &App, caller: &Caller, id: &str) -> Result<CommandRecord, ApiError> {
    let found = app.store.command(&CommandId(id.to_owned())).await?;
    found.filter(|record| caller.may(&record.tenant)).ok_or_else(|| ApiError::not_found("command", id))
}

/// Query of something that can be waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// How long to wait for its end: `500ms`, `30s`, `1m`; a minute at most.
    #[serde(default)]
    #[schemars(regex(pattern = "^[0-9]{1,3}(ms|s|m)?$"))]
    wait: Option<String>,
}

impl Waiting {
    /// Until when to wait.
    ///
    /// # Errors
    /// 400 if it is no time.
    pub fn until(&self) -> Result<Instant, ApiError> {
        let Some(text) = &self.wait else { return Ok(Instant::now()) };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.parse::<u32>().ok();
        let wait = match (number, &text[digits.len()..]) {
            (Some(number), "ms") => Duration::from_millis(number.into()),
            (Some(number), "s" | "") => Duration::from_secs(number.into()),
            (Some(number), "m") => Duration::from_secs(u64::from(number) * 60),
            _ => return Err(ApiError::unreadable("wait must be a time as 500ms, 30s or 1m")),
        };
        Ok(Instant::now() + wait.min(WAIT_MAX))
    }
}

/// Whether a command has ended and all of its output that is kept is there.
pub(super) fn is_over(record: &CommandRecord, now_ms: i64) -> bool {
    let said = record.end.as_ref().map_or(0, |end| end.output_bytes).min(COMMAND_OUTPUT_BYTES_MAX as u64);
    let late = || record.ended_ms.is_none_or(|at| now_ms.saturating_sub(at) >= OUTPUT_LATE_MAX_MS);
    record.standing.is_final() && (record.output_bytes >= said || late())
}

/// The command once it has ended, or as it stands when the wait is over.
///
/// # Errors
/// The store cannot be read, or the command is gone.
pub async fn ended(app: &App, mut record: CommandRecord, until: Instant) -> Result<CommandRecord, ApiError> {
    let mut changed = app.commands.listen(record.id.as_str());
    let mut stopping = app.stopping.clone();
    loop {
        let id = record.id.clone();
        record = app.store.command(&id).await?.ok_or_else(|| ApiError::not_found("command", id.as_str()))?;
        if is_over(&record, app.now_ms()) || Instant::now() >= until {
            return Ok(record);
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
            () = stopping.requested() => return Ok(record),
        }
    }
}

/// `GET /v1.0/commands/{id}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(waiting): Query<Waiting>,
) -> Result<Json<CommandView>, ApiError> {
    let until = waiting.until()?;
    let record = ended(&app, own(&app, &caller, &id).await?, until).await?;
    let output = app.store.output(&record.id, 0, COMMAND_OUTPUT_BYTES_MAX).await?;
    Ok(Json(view(record, String::from_utf8_lossy(&output).into_owned())))
}

/// `POST /v1.0/commands/{id}/cancel`
pub async fn cancel(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let record = own(&app, &caller, &id).await?;
    let store = once::store(&app, &Made::Command { id: record.id.clone() });
    match store.cancel_command(&record.id, app.now_ms()).await? {
        Cancelled::Wanted(record) => {
            app.commands_changed(std::slice::from_ref(&record)).await;
            Ok(accepted(&format!("commands/{id}"), &view(record, String::new())))
        }
        Cancelled::Ended(record) => {
            Err(ApiError::conflict(&format!("it has ended before: it is {}", record.standing.name())))
        }
        Cancelled::Unknown => Err(ApiError::not_found("command", &id)),
    }
}

/// Query of the output.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct From {
    #[serde(default)]
    offset: u64,
}

/// `GET /v1.0/commands/{id}/output`: the bytes as they came.
pub async fn output(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(from): Query<From>,
) -> Result<Response, ApiError> {
    let record = own(&app, &caller, &id).await?;
    let bytes = app.store.output(&record.id, from.offset, COMMAND_OUTPUT_BYTES_MAX).await?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, bytes).into_response())
}

/// Query of the commands there are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfferedQuery {
    /// Only those that nodes of this component can run, as of the scripts it should have.
    component: Option<String>,
}

/// `GET /v1.0/guestcmds`
pub async fn offered(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<OfferedQuery>,
) -> Result<Json<CommandsOffered>, ApiError> {
    let Some(id) = query.component else { return meta::all(&app, None, None).await.map(Json) };
    let component = components::own(&app, &caller, &id).await?.1;
    let configs = app.configs.clone();
    let catalog = blocking(move || configs.catalog_view()).await?.catalog;
    let kind = catalog.get(&component.spec.kind);
    let role =
        |role: &String| kind.and_then(|kind| kind.role(role)).map_or(role.clone(), |found| found.script_role.clone());
    let roles: Vec<_> = component.spec.want.groups.iter().map(|group| role(&group.role)).collect();
    meta::all(&app, Some(component.spec.want.scripts), Some(&roles)).await.map(Json)
}
