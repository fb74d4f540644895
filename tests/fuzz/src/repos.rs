//! Names of branches, tags, commits and paths, and files of the repositories.

use std::sync::LazyLock;
use straas_repos::{CommitId, ConfigRepo, TagFilter, line_of, shape_faults};
use straas_schemas::config::{ConfigFile, effective};
use straas_schemas::ids::name_fault;
use straas_schemas::storage::{stored_path_fault, target_fault};
use tempfile::TempDir;

static REPO: LazyLock<(TempDir, ConfigRepo, CommitId)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let repo = ConfigRepo::open(&dir.path().join("config.git")).expect("a repository");
    let head = repo.head().expect("a commit");
    (dir, repo, head)
});

/// Whatever is taken for a name or a path stays inside.
pub(super) fn reference(data: &[u8]) {
    // the end of a text file is not meant
    let Ok(text) = std::str::from_utf8(data.strip_suffix(b"\n").unwrap_or(data)) else {
        return;
    };
    let (_, repo, head) = &*REPO;
    if let Ok(commit) = CommitId::parse(text) {
        assert!(commit.as_str() == text && text.len() == 40);
    }
    let _ = repo.branch(text);
    let _ = repo.tags(text, TagFilter::default(), None, 10);
    let _ = repo.tags("master", TagFilter { role: Some(text), prefix: text }, Some(text), 10);
    let part = |path: &str, parts: &[&str]| path.split('/').any(|part| parts.contains(&part));
    let outside = |path: &str| path.starts_with('/') || part(path, &[".", "..", ".git"]);
    if let Ok(Some(_)) = repo.read(head, text) {
        assert!(!outside(text), "{text:?} is read");
    }
    if let Ok(Some(_)) = repo.list(head, text) {
        assert!(!outside(text), "{text:?} is listed");
    }
    if name_fault("the name", text, 100).is_none() {
        assert!(!text.is_empty() && !text.contains(['/', '&', '@', '\0', ' ']), "{text:?} is a name");
    }
    if stored_path_fault(text).is_none() {
        assert!(!text.starts_with('/') && !part(text, &["", ".", ".."]), "{text:?} is a place in the storage");
    }
    if target_fault(text).is_none() {
        assert!(text.starts_with('/') && !part(text, &[".", ".."]), "{text:?} is a file on a node");
    }
}

/// Files of the repositories: faults have lines that exist, and what has none can be read.
pub(super) fn config_file(data: &[u8]) {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    for path in ["app/zookeeper/default.json", "metadata/zookeeper.json", "guestcmds/zk-cmd/list.json"] {
        let found = shape_faults(path, data);
        assert!(found.iter().filter_map(|fault| fault.line).all(|line| (1..=lines).contains(&line)), "{found:?}");
        if path.starts_with("app/") && found.is_empty() {
            let file: ConfigFile = serde_json::from_slice(data).expect("of the right form, and not to be read");
            let _ = effective(&[&file]);
            let _ = effective(&[&file, &file]);
        }
    }
    if let Ok(text) = std::str::from_utf8(data)
        && serde_json::from_str::<serde_json::Value>(text).is_ok()
    {
        for pointer in ["", "/a", "/0", "/description/b", "/~1~0"] {
            let _ = line_of(text, pointer);
        }
    }
}
