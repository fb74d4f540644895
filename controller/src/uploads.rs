//! Files that users upload for commands: kept by their hash, streamed to disk.
//!
//! A file is readable by the nodes that have an unfinished command that needs it, and by nobody
//! else. Files that nobody took in for long are removed with the next upload.

use crate::files::uploaded;
use crate::http::problem::ApiError;
use axum::body::Body;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::Duration;
use straas_schemas::Digest;
use straas_schemas::command::COMMAND_SECONDS_MAX;
use tokio::io::AsyncWriteExt as _;

/// Most bytes of a file: a jar with everything in it has some tens of MiB.
const UPLOAD_BYTES_MAX: u64 = 256 << 20;
/// A stranger who sends nothing for so long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// An upload is kept so long after it came last: any command that needs it has ended by then.
const KEPT: Duration = Duration::from_secs(COMMAND_SECONDS_MAX as u64 * 3);

/// Takes in a body; its hash and size.
///
/// # Errors
/// 413 if it is too large, 422 if it is empty or has another hash than the sender says, 408 if it stalls.
pub async fn take_in(data_dir: &Path, said: Option<&Digest>, body: Body) -> Result<(Digest, u64), ApiError> {
    let cannot = |error: std::io::Error| ApiError::internal("cannot keep an upload", &error);
    let dir = data_dir.join("uploads");
    tidy(&dir).await;
    let partial = dir.join(format!("partial-{}", uuid::Uuid::new_v4()));
    let taken = write(&partial, body).await;
    let kept = match taken {
        Ok((sha256, size)) if said.is_some_and(|said| *said != sha256) => {
            let why = format!("{size} bytes with the SHA-256 {sha256} arrived, which is another; send the file again");
            Err(ApiError::invalid("/sha256", &why))
        }
        Ok((sha256, size)) => {
            let renamed = tokio::fs::rename(&partial, uploaded(data_dir, sha256.as_str())).await;
            renamed.map(|()| (sha256, size)).map_err(cannot)
        }
        Err(error) => Err(error),
    };
    if kept.is_err() {
        let _ = tokio::fs::remove_file(&partial).await;
    }
    kept
}

async fn write(path: &Path, body: Body) -> Result<(Digest, u64), ApiError> {
    let cannot = |error: std::io::Error| ApiError::internal("cannot keep an upload", &error);
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
    let file = file.as_mut().map_err(|error| ApiError::internal("cannot keep an upload", error))?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    let mut pieces = body.into_data_stream();
    loop {
        let stalled = |_| ApiError::timeout("the body stalled; send it again");
        let Some(piece) = tokio::time::timeout(SILENCE_MAX, pieces.next()).await.map_err(stalled)? else { break };
        let piece = piece.map_err(|error| ApiError::unreadable(format!("the body broke off: {error}")))?;
        size += piece.len() as u64;
        if size > UPLOAD_BYTES_MAX {
            return Err(ApiError::too_large());
        }
        hash.update(&piece);
        file.write_all(&piece).await.map_err(cannot)?;
    }
    if size == 0 {
        return Err(ApiError::invalid("", "send the jar itself as the body"));
    }
    file.sync_all().await.map_err(cannot)?;
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((Digest(hex), size))
}

/// Removes what is older than any command can be; what cannot be removed now is tried again.
async fn tidy(dir: &Path) {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let age = entry.metadata().await.ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_arrives_otherwise_than_it_was_sent_is_not_kept() {
        let data = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(data.path().join("uploads")).expect("made");
        let kept = || std::fs::read_dir(data.path().join("uploads")).expect("a folder").count();
        let right = Digest::sha256(b"a jar");
        let wrong = Digest::sha256(b"another jar");
        assert!(take_in(data.path(), Some(&wrong), Body::from("a jar")).await.is_err());
        assert!(take_in(data.path(), None, Body::empty()).await.is_err());
        assert_eq!(kept(), 0);
        let (sha256, size) = take_in(data.path(), Some(&right), Body::from("a jar")).await.expect("taken in");
        assert_eq!((sha256, size), (right.clone(), 5));
        // sent again it is the same file
        take_in(data.path(), None, Body::from("a jar")).await.expect("taken in");
        assert_eq!(kept(), 1);
        assert_eq!(std::fs::read(uploaded(data.path(), right.as_str())).expect("the file"), b"a jar");
    }
}
