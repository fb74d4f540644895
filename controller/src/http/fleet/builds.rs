//! Which build of the agent a rollout brings, and whether the nodes it goes to can have it.
//!
//! Agents run as root on everybody's nodes: only who may do things to all tenants' nodes rolls them out.

use super::super::auth::Caller;
use super::super::problem::ApiError;
use super::begin::{Component, NAMED_MAX, READ_AT_ONCE};
use crate::app::App;
use straas_schemas::build::{AgentBuild, BUILD_BYTES_MAX};
use straas_schemas::rollout::{BuildFile, FleetRolloutKind};
use straas_schemas::{ComponentId, Digest, Fault};
use straas_store::NodeSnapshot;
use tokio::io::AsyncReadExt as _;

/// How a program for this kind of machine begins: ELF, of 64 bits.
const PROGRAM: [u8; 5] = [0x7f, b'E', b'L', b'F', 2];

/// Refuses who may not steer rollouts of a kind.
///
/// # Errors
/// 403.
pub fn allowed(caller: &Caller, kind: FleetRolloutKind) -> Result<(), ApiError> {
    match kind {
        FleetRolloutKind::Agents if !caller.may_common() => {
            Err(ApiError::forbidden("builds of the agent are rolled out by administrators and operators"))
        }
        FleetRolloutKind::Agents | FleetRolloutKind::Scripts => Ok(()),
    }
}

/// The build that a file of the caller's storage is now, and where it is.
///
/// # Errors
/// 422 if there is none, or it cannot be a build.
pub async fn stored(app: &App, caller: &Caller, file: &BuildFile) -> Result<(AgentBuild, String), ApiError> {
    let storage = app.storage.named(file.storage.as_deref(), "/file/storage")?;
    let (name, region, path) = (storage.name(), &file.region, file.path());
    let invalid = |text: &str| ApiError::invalid("/file/filename", text);
    let found = app.store.file(&caller.tenant, name, region, &path).await?;
    let missing = format!("there is no {path} of yours in storage {name}, region {region}; upload it first");
    let found = found.ok_or_else(|| invalid(&missing))?;
    if found.size > BUILD_BYTES_MAX {
        return Err(invalid(&format!("has {} bytes; a build of the agent has {BUILD_BYTES_MAX} at most", found.size)));
    }
    let Some(mut blob) = storage.blobs.open(&found.sha256).await? else {
        let gone = std::io::Error::other(format!("blob {} of file {path}", found.sha256));
        return Err(ApiError::internal("the content of this file is not in the storage", &gone));
    };
    let mut begin = [0; PROGRAM.len()];
    match blob.content.read_exact(&mut begin).await {
        Ok(_) if begin == PROGRAM => {}
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(ApiError::internal("the storage failed", &error));
        }
        _ => return Err(invalid("is no program for Linux (ELF, 64 bits); a build of straas-agent is needed")),
    }
    let build = AgentBuild { sha256: Digest(found.sha256), size: found.size };
    Ok((build, format!("{name}:{region}/{path}")))
}

/// Refuses components with a node whose agent is too old to be replaced by a build.
///
/// # Errors
/// 422, naming some of them.
pub async fn refuse_unable(app: &App, found: &[Component]) -> Result<(), ApiError> {
    let ids: Vec<ComponentId> = found.iter().map(|(_, component)| component.id.clone()).collect();
    let mut faults = Vec::new();
    for ids in ids.chunks(READ_AT_ONCE) {
        for one in app.store.neighbours(ids).await? {
            let unable = |node: &NodeSnapshot| {
                let (beat, _) = node.heartbeat.as_ref().filter(|(beat, _)| beat.incarnation == node.incarnation)?;
                let text = format!(
                    "the agent of {} (version {}) cannot be replaced by a build; install a newer straas-agent package there",
                    node.record.name, beat.agent_version
                );
                beat.agent.is_none().then(|| Fault::at("/kind", text))
            };
            faults.extend(one.nodes.iter().filter_map(unable));
        }
        if faults.len() >= NAMED_MAX {
            break;
        }
    }
    faults.truncate(NAMED_MAX);
    if faults.is_empty() { Ok(()) } else { Err(ApiError::faults(faults)) }
}
