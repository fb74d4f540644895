//! Files of the storage that nodes are to have: given and taken, as a part of what is wanted of a
//! component.
//!
//! What is wanted is the content that stands in the storage now, by its hash. Nodes that are added
//! later have it too; a component that is added later to a topology has what was given to the whole
//! of it. No stage runs again for a file: agents fetch it before they do anything else.

use super::auth::Caller;
use super::body;
use super::change::{Situation, Then, Wanted};
use super::extract::{Body, Query};
use super::problem::ApiError;
use super::scope::{Meant, change_each, meant};
use super::topologies::Mutation;
use crate::app::App;
use crate::apt;
use crate::wanted;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::change::Scope;
use straas_schemas::job::JobKind;
use straas_schemas::storage::{
    DELIVERED_BYTES_MAX, DELIVERED_MAX, DeliveredFile, FilesRemoval, FilesRequest, target_fault,
};
use straas_schemas::{ComponentId, Digest, Fault, NodeId};
use straas_store::{ComponentSpec, Undo, Want};

/// `POST /v1.0/nodes/files`
pub async fn give(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: FilesRequest = body::typed(&bytes)?;
    let mut faults = request.faults();
    let everybodys = |path: &str| path == apt::PATH || app.files.iter().any(|file| file.path == path);
    if everybodys(&request.target_path) {
        let text = "is a file that the operator gives to every host; choose another place";
        faults.push(Fault::at("/target_path", text));
    }
    if !faults.is_empty() {
        return Err(ApiError::faults(faults));
    }
    let meant = meant(&app, &caller, request.scope, &request.items).await?;
    let files = found(&app, &caller, &request, &meant).await?;
    let edits = meant.into_iter().zip(files).map(|((component, nodes), file)| {
        let target = file.target_path.clone();
        (component, Arc::new(edit(target, nodes, Some(file))))
    });
    change_each(&app, &caller, query.dry_run, edits.collect()).await
}

/// `POST /v1.0/nodes/files/removal`
pub async fn take(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Mutation>,
    Body(bytes): Body,
) -> Result<Response, ApiError> {
    let request: FilesRemoval = body::typed(&bytes)?;
    if let Some(fault) = target_fault(&request.target_path) {
        return Err(ApiError::invalid("/target_path", &fault));
    }
    let meant = meant(&app, &caller, request.scope, &request.items).await?;
    let target = request.target_path;
    let edits = meant.into_iter().map(|(component, nodes)| (component, Arc::new(edit(target.clone(), nodes, None))));
    change_each(&app, &caller, query.dry_run, edits.collect()).await
}

/// What stands in the storage under the name asked for, for each component that is meant: the region
/// may be that of its topology.
async fn found(
    app: &App,
    caller: &Caller,
    request: &FilesRequest,
    meant: &Meant,
) -> Result<Vec<DeliveredFile>, ApiError> {
    let storage = app.storage.named(request.storage.as_deref(), "/storage")?.name();
    let path = request.path();
    let mut by_region: BTreeMap<String, DeliveredFile> = BTreeMap::new();
    let mut out = Vec::with_capacity(meant.len());
    for component in meant.keys() {
        let region = match &request.region {
            Some(region) => region.clone(),
            None => zone(app, component).await?,
        };
        if !by_region.contains_key(&region) {
            let file = app.store.file(&caller.tenant, storage, &region, &path).await?;
            let missing = format!("there is no {path} of yours in storage {storage}, region {region}; upload it first");
            let file = file.ok_or_else(|| ApiError::invalid("/filename", &missing))?;
            if file.size > DELIVERED_BYTES_MAX {
                let text = format!("has {} bytes; nodes take files of {DELIVERED_BYTES_MAX} at most", file.size);
                return Err(ApiError::invalid("/filename", &text));
            }
            let delivered = DeliveredFile {
                target_path: request.target_path.clone(),
                from: format!("{storage}:{region}/{path}"),
                sha256: Digest(file.sha256),
                size: file.size,
                mode: request.bits(),
                everywhere: request.scope == Scope::Topologies,
            };
            by_region.insert(region.clone(), delivered);
        }
        out.extend(by_region.get(&region).cloned());
    }
    Ok(out)
}

async fn zone(app: &App, component: &ComponentId) -> Result<String, ApiError> {
    let missing = || ApiError::not_found("component", component.as_str());
    let topology = app.store.component(component).await?.ok_or_else(missing)?.topology;
    Ok(app.store.topology(&topology).await?.ok_or_else(missing)?.zone)
}

fn edit(target: String, nodes: Option<Vec<NodeId>>, file: Option<DeliveredFile>) -> impl super::change::Edit {
    move |situation: &Situation, spec: &mut ComponentSpec| {
        let before = wanted::put_file(&mut spec.want, nodes.as_deref(), &target, file.as_ref());
        if before.is_empty() {
            return Ok(None);
        }
        refuse_too_many(&spec.want)?;
        let what = match &file {
            Some(file) => format!("{target} ← {} ({} bytes, {:.12})", file.from, file.size, file.sha256.as_str()),
            None => format!("{target} is taken away"),
        };
        let mut wanted = situation.begin(JobKind::Files, what.clone());
        wanted.notes.push(format!("{} {what}", situation.component.name));
        if let Then::Begin(job) = &mut wanted.then {
            job.undo = Some(Undo::Files { target_path: target.clone(), before });
        }
        Ok(Some::<Wanted>(wanted))
    }
}

fn refuse_too_many(want: &Want) -> Result<(), ApiError> {
    let most = want.nodes.values().map(|node| node.files.len()).max().unwrap_or(0) + want.files.len();
    if most <= DELIVERED_MAX {
        return Ok(());
    }
    let text =
        format!("a node would have {most} files; {DELIVERED_MAX} at most: take one away, or put them into an archive");
    Err(ApiError::conflict(&text))
}
