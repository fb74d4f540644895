//! The four routes of the version before 1.0 that still work: list, get by name, a guest command
//! that is waited for, a Storm jar. They answer in today's shapes.

use super::auth::Caller;
use super::commands::{Order, queue_one, reading, view};
use super::extract::{Body, Path, Query};
use super::problem::ApiError;
use super::{body, components, finish, topologies};
use crate::app::App;
use crate::uploads;
use axum::Extension;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::command::COMMAND_OUTPUT_BYTES_MAX;
use straas_schemas::{Digest, FileRef};
use straas_store::{CommandRecord, NodeRecord, PAGE_MAX, PageRequest, TopologyFilter};
use tokio::time::Instant;

/// Longest wait for a command's end: a caller who waits longer has given up, and its id is told.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// The command that submits a jar, and the role of the nodes that have it.
const SUBMIT: (&str, &str) = ("storm-cmd/submit-jar", "nimbus");

/// `GET /straas/`
pub async fn list(
    state: State<Arc<App>>,
    caller: Extension<Caller>,
    query: Query<topologies::TopologiesQuery>,
) -> Result<Response, ApiError> {
    topologies::list(state, caller, query).await
}

/// Query of a topology by its name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    #[serde(default)]
    availability_zone: Option<String>,
}

/// `GET /straas/{topology_name}`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(zone): Query<Zone>,
) -> Result<Response, ApiError> {
    let filter = TopologyFilter { tenant: Some(caller.tenant), name: Some(name.clone()), zone: zone.availability_zone };
    let found = app.store.topologies(&filter, &PageRequest { after: None, limit: PAGE_MAX }).await?;
    match found.as_slice() {
        [] => Err(ApiError::not_found("topology", &name)),
        [one] => topologies::shown(&app, &one.id).await,
        many => {
            let zones: Vec<_> = many.iter().map(|topology| topology.zone.as_str()).collect();
            Err(ApiError::conflict(&format!("it is in several zones; add ?availability_zone= {}", zones.join(" or "))))
        }
    }
}

/// A guest command as it was asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OldCommand {
    /// `group/name`.
    command: String,
    /// An object, or a text that holds one.
    #[serde(default)]
    args: Option<Value>,
}

/// `POST /straas/guestcmd/{component_id}/{node_name}`: answers with the result.
pub async fn guestcmd(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((component, name)): Path<(String, String)>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let nodes = nodes_of(&app, &caller, &component).await?;
    let node = nodes.into_iter().find(|node| node.name == name);
    let node = node.ok_or_else(|| ApiError::not_found("node", &name))?;
    let request: OldCommand = body::typed(&bytes)?;
    let args = args(request.args)?;
    let order = Order { command: request.command, args, timeout_s: None, deadline_s: None, files: Vec::new() };
    let record = queue_one(&app, &caller, &node, order).await?;
    Ok(result(app, record))
}

fn args(args: Option<Value>) -> Result<Map<String, Value>, ApiError> {
    let wrong = || ApiError::invalid("/args", "must be an object, or a text that holds one");
    match args {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(args)) => Ok(args),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

/// The nodes of the caller's component.
async fn nodes_of(app: &App, caller: &Caller, id: &str) -> Result<Vec<NodeRecord>, ApiError> {
    let missing = || ApiError::not_found("component", id);
    let (topology, component) = components::own(app, caller, id).await?;
    let snapshot = app.store.snapshot(&topology.id).await?.ok_or_else(missing)?;
    let nodes = snapshot.nodes.into_iter().map(|node| node.record);
    Ok(nodes.filter(|node| node.component == component.id).collect())
}

/// Waits for the end of a command; 202 if it has not ended.
fn result(app: Arc<App>, record: CommandRecord) -> Response {
    let queued = (StatusCode::ACCEPTED, Json(view(record.clone(), String::new())));
    finish::later(queued, async move {
        let record = reading::ended(&app, record, Instant::now() + WAIT_MAX).await?;
        let output = app.store.output(&record.id, 0, COMMAND_OUTPUT_BYTES_MAX).await?;
        let status = if record.standing.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok((status, Json(view(record, String::from_utf8_lossy(&output).into_owned()))).into_response())
    })
}

/// Query of a jar: what to do with it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jar {
    main_class: String,
    #[serde(default)]
    args: Option<String>,
    /// Comes first among the arguments, as most main classes want it.
    #[serde(default)]
    topology_name: Option<String>,
    /// The SHA-256 of the body in hex: a jar that arrives otherwise is refused.
    #[serde(default)]
    sha256: Option<Digest>,
}

/// `POST /straas/stormjar/{component_id}?main_class=…`: the body is the jar.
pub async fn stormjar(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(component): Path<String>,
    Query(jar): Query<Jar>,
    request: Request,
) -> Result<Response, ApiError> {
    let mut nodes = nodes_of(&app, &caller, &component).await?;
    nodes.retain(|node| node.role == SUBMIT.1);
    nodes.sort_by_key(|node| node.ordinal);
    let hears = |node: &&NodeRecord| app.fleet.polls(&node.id);
    let node = nodes.iter().find(hears).or(nodes.first()).cloned();
    let node = node.ok_or_else(|| ApiError::conflict("this component has no nimbus node to submit a jar to"))?;
    let (sha256, size) = uploads::take_in(&app.config.data_dir, jar.sha256.as_ref(), request.into_body()).await?;
    let name = format!("{}.jar", &sha256.as_str()[..16]);
    let words: Vec<_> = jar.topology_name.into_iter().chain(jar.args).collect();
    let mut args = json!({ "jar": name, "class": jar.main_class });
    if !words.is_empty() {
        args["args"] = words.join(" ").into();
    }
    let Value::Object(args) = args else { return Err(ApiError::panicked()) };
    let files = vec![FileRef { path: name, sha256, size, mode: 0o644 }];
    let order = Order { command: SUBMIT.0.to_owned(), args, timeout_s: None, deadline_s: None, files };
    let record = queue_one(&app, &caller, &node, order).await?;
    Ok(result(app, record))
}
