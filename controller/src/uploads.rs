//! Bodies of any size on their way to disk: streamed, hashed, bounded, synced.
//!
//! Files for guest commands are kept by their hash here; those of the storage (`storage.rs`) come
//! the same way and are kept there. What was promised by its hash before it came can be resumed: its
//! beginning stays for a while, and the next request goes on from there.

use crate::files::uploaded;
use crate::http::problem::ApiError;
use axum::body::Body;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use straas_schemas::Digest;
use straas_schemas::command::COMMAND_SECONDS_MAX;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Most bytes of a file for a command: a jar with everything in it has some tens of MiB.
const UPLOAD_BYTES_MAX: u64 = 256 << 20;
/// A stranger who sends nothing for so long has gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// An upload is kept so long after it came last: any command that needs it has ended by then, and
/// whoever wanted to go on with a part of one has.
const KEPT: Duration = Duration::from_secs(COMMAND_SECONDS_MAX as u64 * 3);
/// Bytes hashed at once of the part that is here already.
const PIECE_BYTES: usize = 256 * 1024;

/// Takes in a body for a command; its hash and size.
///
/// # Errors
/// 413 if it is too large, 422 if it is empty or has another hash than the sender says, 408 if it
/// stalls, 507 if there is no room.
pub async fn take_in(data_dir: &Path, said: Option<&Digest>, body: Body) -> Result<(Digest, u64), ApiError> {
    let dir = data_dir.join("uploads");
    tidy(&dir).await;
    let partial = dir.join(format!("partial-{}", uuid::Uuid::new_v4()));
    let taken = receive(&partial, 0, body, UPLOAD_BYTES_MAX).await.and_then(|came| checked(came, said));
    let kept = match taken {
        Ok((_, 0)) => Err(ApiError::invalid("", "send the file itself as the body")),
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

/// What came, if it is what the sender says.
///
/// # Errors
/// 422 if it is not.
pub fn checked((sha256, size): (Digest, u64), said: Option<&Digest>) -> Result<(Digest, u64), ApiError> {
    if said.is_some_and(|said| *said != sha256) {
        let why = format!("{size} bytes with the SHA-256 {sha256} arrived, which is another; send the file again");
        return Err(ApiError::invalid("/sha256", &why));
    }
    Ok((sha256, size))
}

/// Appends a body to the first `have` bytes of a file, which it makes if `have` is 0; hash and size of
/// the whole, once that is on the disk. What came before an error stays in the file.
///
/// # Errors
/// As [`take_in`] but for the hash, and 409 if the file has another size than `have`.
pub async fn receive(path: &Path, have: u64, body: Body, bytes_max: u64) -> Result<(Digest, u64), ApiError> {
    let (mut file, mut hash) = begin(path, have).await?;
    let came = append(&mut file, &mut hash, have, body, bytes_max).await;
    // writes go on behind a file that is let go of, and the next request may be here by then
    file.flush().await.map_err(cannot)?;
    let size = came?;
    file.sync_all().await.map_err(cannot)?;
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((Digest(hex), size))
}

/// The size of the whole.
async fn append(file: &mut File, hash: &mut Sha256, have: u64, body: Body, bytes_max: u64) -> Result<u64, ApiError> {
    let mut size = have;
    let mut pieces = body.into_data_stream();
    loop {
        let stalled = |_| ApiError::timeout("the body stalled; send it again");
        let Some(piece) = tokio::time::timeout(SILENCE_MAX, pieces.next()).await.map_err(stalled)? else {
            return Ok(size);
        };
        let piece = piece.map_err(|error| ApiError::unreadable(format!("the body broke off: {error}")))?;
        size += piece.len() as u64;
        if size > bytes_max {
            return Err(ApiError::too_large());
        }
        hash.update(&piece);
        file.write_all(&piece).await.map_err(cannot)?;
    }
}

/// Opens the file at its end, with the hash of what is in it.
async fn begin(path: &Path, have: u64) -> Result<(File, Sha256), ApiError> {
    let mut hash = Sha256::new();
    if have == 0 {
        // whoever begins anew does not mean what was there
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).await;
        return Ok((file.map_err(cannot)?, hash));
    }
    let mut file = OpenOptions::new().read(true).append(true).open(path).await.map_err(cannot)?;
    let mut left = have;
    let mut bytes = vec![0; PIECE_BYTES];
    while left > 0 {
        let count = file.read(&mut bytes).await.map_err(cannot)?;
        if count == 0 {
            break;
        }
        hash.update(&bytes[..count]);
        left = left.saturating_sub(count as u64);
    }
    let len = file.metadata().await.map_err(cannot)?.len();
    if len != have {
        return Err(ApiError::conflict(&format!("{len} bytes are here, not {have}; go on with offset={len}")));
    }
    Ok((file, hash))
}

/// The HTTP face of a disk that fails.
fn cannot(error: std::io::Error) -> ApiError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        tracing::error!(%error, "no room for an upload");
        return ApiError::full("the controller's disk has no room left for it; nothing was kept");
    }
    ApiError::internal("cannot keep an upload", &error)
}

/// Removes what nobody can want any more; how many. What cannot be removed now is tried again.
pub async fn tidy(dir: &Path) -> usize {
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return 0 };
    let mut gone = 0;
    while let Ok(Some(entry)) = entries.next_entry().await {
        let age = entry.metadata().await.ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) && tokio::fs::remove_file(entry.path()).await.is_ok() {
            gone += 1;
        }
    }
    gone
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

    #[tokio::test]
    async fn a_part_that_came_is_gone_on_with() {
        let data = tempfile::tempdir().expect("a directory");
        let path = data.path().join("part");
        let broken = futures_util::stream::iter([Ok("a whole "), Err(std::io::Error::other("gone"))]);
        assert!(receive(&path, 0, Body::from_stream(broken), 100).await.is_err());
        assert_eq!(std::fs::read(&path).expect("the part"), b"a whole ");
        let elsewhere = receive(&path, 3, Body::from("file"), 100).await.expect_err("it has more");
        assert_eq!(elsewhere.status(), 409);
        assert_eq!(receive(&path, 8, Body::from("file"), 11).await.expect_err("too much").status(), 413);
        std::fs::write(&path, "a whole ").expect("written");
        let came = receive(&path, 8, Body::from("file"), 12).await.expect("taken in");
        assert_eq!(came, (Digest::sha256(b"a whole file"), 12));
        let anew = receive(&path, 0, Body::from("new"), 12).await.expect("taken in");
        assert_eq!(anew, (Digest::sha256(b"new"), 3));
    }
}
