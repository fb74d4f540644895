//! Files that a host has to have, by their hash.
//!
//! A file that is there with the right content and mode is left alone. Any other is fetched into a
//! temporary file beside it, checked, synced and renamed over it: nobody ever reads half of one.
//! With a prefix (process mode) the path is taken below it.

use crate::client::{Client, ClientError};
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use straas_schemas::{FileRef, NodeId};

/// Largest file; what is larger belongs into a package.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// How long a guest command's file is kept: longer than the longest command.
const LEFT_MAX: Duration = Duration::from_secs(2 * 86_400);

/// Why a file is not in place.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The assignment names a path that may not be written.
    #[error("{0:?} is not an absolute path without '..'")]
    Path(String),
    /// A guest command's file has no plain name.
    #[error("{0:?} is not a plain file name")]
    Name(String),
    /// The controller did not give it.
    #[error("{path} could not be fetched: {source}")]
    Fetch {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: ClientError,
    },
    /// It is not what the assignment says.
    #[error("{path}: {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk.
    #[error("{path} cannot be written: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Puts every file in place.
///
/// # Errors
/// At the first that cannot be; those before it are in place.
pub async fn ensure(client: &Client, node: &NodeId, prefix: &str, files: &[FileRef]) -> Result<(), FilesError> {
    for file in files {
        put(client, node, &target(prefix, &file.path)?, file).await?;
    }
    Ok(())
}

/// Removes a file that was put in place; one that is another by now is left, with a warning.
///
/// # Errors
/// It cannot be removed.
pub fn remove(prefix: &str, file: &FileRef) -> Result<(), FilesError> {
    let path = target(prefix, &file.path)?;
    if is_in_place(&path, file) {
        std::fs::remove_file(&path).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        tracing::info!(path = %path.display(), "file removed: it is assigned no more");
    } else if path.exists() {
        tracing::warn!(path = %path.display(), "a file that is assigned no more was changed by somebody else; it stays");
    }
    Ok(())
}

/// Puts the files of a guest command into `dir`, where each `path` is a plain name, and removes what
/// nobody can be using any more.
///
/// # Errors
/// As [`ensure`].
pub async fn ensure_in(client: &Client, node: &NodeId, dir: &Path, files: &[FileRef]) -> Result<(), FilesError> {
    if files.is_empty() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > LEFT_MAX) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    for file in files {
        let plain = !file.path.is_empty() && !file.path.starts_with('.') && !file.path.contains(['/', '\0']);
        if !plain {
            return Err(FilesError::Name(file.path.clone()));
        }
        put(client, node, &dir.join(&file.path), file).await?;
    }
    Ok(())
}

/// Has a file at `path`, whatever path it names itself.
///
/// # Errors
/// It cannot be fetched, is not what its hash says, or the disk does not take it.
pub async fn put(client: &Client, node: &NodeId, path: &Path, file: &FileRef) -> Result<(), FilesError> {
    if is_in_place(path, file) {
        return Ok(());
    }
    let io = |source| FilesError::Io { path: path.into(), source };
    let content = |what: String| FilesError::Content { path: path.into(), what };
    if file.size > FILE_BYTES_MAX {
        return Err(content(format!("{} bytes are more than {FILE_BYTES_MAX}", file.size)));
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(io)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // several commands may fetch at once
    let tmp = dir.join(format!(".{name}.{:08x}.straas-new", rand::random::<u32>()));
    let mut sink = Hashing { file: std::fs::File::create(&tmp).map_err(io)?, hash: Sha256::new() };
    let fetched = client.download(&format!("/agent/v1/nodes/{node}/files/{}", file.sha256), file.size, &mut sink).await;
    let done = fetched.map_err(|source| FilesError::Fetch { path: path.into(), source }).and_then(|_| {
        let found = hex(&sink.hash.finalize());
        if found != file.sha256.as_str() {
            return Err(content(format!("its SHA-256 is {found}, the assignment says {}", file.sha256)));
        }
        sink.file.set_permissions(mode(file)).map_err(io)?;
        sink.file.sync_all().map_err(io)?;
        std::fs::rename(&tmp, path).map_err(io)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    done?;
    tracing::info!(path = %path.display(), "file put in place");
    Ok(())
}

fn target(prefix: &str, path: &str) -> Result<PathBuf, FilesError> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') || !plain {
        return Err(FilesError::Path(path.into()));
    }
    Ok(PathBuf::from(format!("{prefix}{path}")))
}

fn mode(file: &FileRef) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(file.mode & 0o7777)
}

fn is_in_place(path: &Path, file: &FileRef) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
    if !metadata.is_file()
        || metadata.len() != file.size
        || metadata.permissions().mode() & 0o7777 != file.mode & 0o7777
    {
        return false;
    }
    let Ok(mut open) = std::fs::File::open(path) else { return false };
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match open.read(&mut bytes) {
            Ok(0) => return hex(&hash.finalize()) == file.sha256.as_str(),
            Ok(count) => hash.update(&bytes[..count]),
            Err(_) => return false,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hashing {
    file: std::fs::File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(target("", "/etc/a").expect("fine"), Path::new("/etc/a"));
        assert_eq!(target("/p", "/etc/a").expect("fine"), Path::new("/p/etc/a"));
        for bad in ["etc/a", "/etc/../a", "", "/", "/etc/", "/a\0b"] {
            target("/p", bad).expect_err(bad);
        }
    }
}
