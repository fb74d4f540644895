//! Files that the node was given: put in place when they are assigned, removed when they are not any more.
//!
//! What was put in place is noted before it is fetched, so that a crash in between forgets nothing.
//! A file is removed only while it is what was delivered; one that somebody changed is left to him.
//!
//! Never here: what a guest command needs, which goes by its age (`files.rs`).

use crate::client::Client;
use crate::files::{self, FilesError};
use crate::stages::write_private;
use std::collections::BTreeMap;
use std::path::Path;
use straas_schemas::{FileRef, NodeId};

/// Where it is noted, in the agent's own directory.
const NOTES: &str = "delivered.json";

/// Puts what is assigned in place and removes what is not any more.
///
/// # Errors
/// At the first file that cannot be put in place or removed, or if that cannot be noted.
pub async fn ensure(
    client: &Client,
    node: &NodeId,
    state_dir: &Path,
    prefix: &str,
    wanted: &[FileRef],
) -> Result<(), FilesError> {
    let notes = state_dir.join(NOTES);
    let before = noted(&notes);
    let kept = |path: &str| wanted.iter().any(|file| file.path == path);
    let gone: Vec<&FileRef> = before.iter().filter(|file| !kept(&file.path)).collect();
    let all: Vec<FileRef> = wanted.iter().chain(gone.iter().copied()).cloned().collect();
    note(&notes, &before, &all)?;
    files::ensure(client, node, prefix, wanted).await?;
    for file in gone {
        files::remove(prefix, file)?;
    }
    note(&notes, &all, wanted)
}

/// What was noted; notes that cannot be read are as none: then what they named stays.
fn noted(notes: &Path) -> Vec<FileRef> {
    let Ok(bytes) = std::fs::read(notes) else { return Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(path = %notes.display(), %error, "cannot read which files were delivered; they stay");
        Vec::new()
    })
}

fn note(notes: &Path, before: &[FileRef], now: &[FileRef]) -> Result<(), FilesError> {
    let by_path = |files: &[FileRef]| files.iter().map(|f| (f.path.clone(), f.clone())).collect::<BTreeMap<_, _>>();
    if by_path(before) == by_path(now) {
        return Ok(());
    }
    // strings and numbers always serialise
    let bytes = serde_json::to_vec(now).unwrap_or_default();
    write_private(notes, &bytes).map_err(|what| FilesError::Content { path: notes.into(), what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_schemas::Digest;

    fn file(path: &str, content: &str) -> FileRef {
        FileRef {
            path: path.into(),
            sha256: Digest::sha256(content.as_bytes()),
            size: content.len() as u64,
            mode: 0o644,
        }
    }

    #[test]
    fn what_was_changed_by_somebody_else_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let prefix = dir.path().to_str().expect("text");
        let put = |name: &str, content: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
        };
        put("ours", "delivered");
        put("theirs", "edited");
        for (path, left) in [("/ours", false), ("/theirs", true), ("/never-there", false)] {
            files::remove(prefix, &file(path, "delivered")).expect(path);
            assert_eq!(dir.path().join(&path[1..]).exists(), left, "{path}");
        }
    }

    #[test]
    fn notes_survive_and_unreadable_ones_are_as_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let notes = dir.path().join(NOTES);
        assert_eq!(noted(&notes), []);
        let files = [file("/a", "1"), file("/b", "2")];
        note(&notes, &[], &files).expect("noted");
        assert_eq!(noted(&notes), files);
        std::fs::write(&notes, "{").expect("written");
        assert_eq!(noted(&notes), []);
    }
}
