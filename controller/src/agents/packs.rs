//! Script packs and files, streamed from disk.

use super::OwnNode;
use crate::app::{App, blocking};
use crate::http::extract::{Path, Query};
use crate::http::problem::ApiError;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use std::path::Path as FilePath;
use std::sync::Arc;
use straas_repos::CommitId;
use tokio_util::io::ReaderStream;

/// Query of a pack.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Have {
    have: Option<String>,
}

/// `GET /agent/v1/nodes/{id}/packs/{want}?have=…`
pub async fn pack(
    State(app): State<Arc<App>>,
    OwnNode(_): OwnNode,
    Path((_, want)): Path<(String, String)>,
    Query(query): Query<Have>,
) -> Result<Response, ApiError> {
    let packs = app.packs.clone();
    let pack = blocking(move || {
        let want = CommitId::parse(&want)?;
        let have = query.have.as_deref().map(CommitId::parse).transpose()?;
        packs.pack(&want, have.as_ref())
    })
    .await?;
    let mut response = stream(&pack.path, pack.sha256.as_str(), pack.len).await?;
    // holding the pack keeps its file from being evicted while it is sent
    response.extensions_mut().insert(pack);
    Ok(response)
}

/// `GET /agent/v1/nodes/{id}/files/{sha256}`
pub async fn file(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Path((_, sha256)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    // a file that only this node needs, for a command or as assigned, is nobody else's to read
    let slot = app.fleet.get(&identity.id);
    if let Some((_, size)) = slot.as_ref().and_then(|slot| slot.orders.file(&sha256)) {
        return stream(&crate::files::uploaded(&app.config.data_dir, &sha256), &sha256, size).await;
    }
    if let Some(known) = app.files.iter().find(|file| file.sha256.as_str() == sha256) {
        return stream(&crate::files::path(&app.config.data_dir, known), &sha256, known.size).await;
    }
    let missing = || ApiError::not_found("file", &sha256);
    let offer = slot.and_then(|slot| slot.offer).ok_or_else(missing)?;
    let assignment = &offer.assignment;
    if let Some(named) = assignment.files.iter().find(|file| file.sha256.as_str() == sha256) {
        let kept = crate::files::path(&app.config.data_dir, named);
        if tokio::fs::try_exists(&kept).await.unwrap_or(false) {
            return stream(&kept, &sha256, named.size).await;
        }
    } else if assignment.agent.as_ref().is_none_or(|build| build.sha256.as_str() != sha256) {
        return Err(missing());
    }
    let storage = app.storage.named(None, "").ok().ok_or_else(missing)?;
    let blob = storage.blobs.open(&sha256).await?.ok_or_else(missing)?;
    Ok((headers(&sha256, blob.size), Body::from_stream(ReaderStream::new(blob.content))).into_response())
}

async fn stream(path: &FilePath, sha256: &str, len: u64) -> Result<Response, ApiError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| ApiError::internal("cannot open a file that is to be sent", &error))?;
    Ok((headers(sha256, len), Body::from_stream(ReaderStream::new(file))).into_response())
}

fn headers(sha256: &str, len: u64) -> [(header::HeaderName, String); 3] {
    [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, len.to_string()),
        (header::HeaderName::from_static("x-straas-sha256"), sha256.to_owned()),
    ]
}
