//! Binary files: what a tenant keeps in the storage, and what of it nodes are to have.
//!
//! A file in the storage is known by tenant, region and path; its first folder is what Swift calls
//! a container. What nodes get is the content that stood there when it was asked for, by its hash:
//! a file that is replaced later reaches nobody who was not asked for anew.

use crate::change::Scope;
use crate::{Digest, Fault};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most bytes of a path in the storage, of a target path on a node and of a region's name.
pub const STORED_PATH_BYTES_MAX: usize = 512;
/// Most bytes of a file that nodes are to have: each of them fetches and keeps it.
pub const DELIVERED_BYTES_MAX: u64 = 256 << 20;
/// Most files that one component or one node is to have: they are part of every assignment.
pub const DELIVERED_MAX: usize = 64;
/// Where nodes may not have files put: what the agent itself, the kernel and the boot live on.
pub const TARGETS_KEPT: [&str; 8] =
    ["/proc", "/sys", "/dev", "/boot", "/run", "/etc/straas", "/var/lib/straas", "/usr/sbin/straas-agent"];

/// A file in the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoredFile {
    /// Its storage.
    pub storage: String,
    /// Its region.
    pub region: String,
    /// `container/name`, with folders in between or without.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// When it was uploaded, Unix ms.
    pub created_ms: i64,
    /// Who uploaded it.
    pub author: String,
}

/// How far an upload is that has not come whole yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UploadView {
    /// Bytes that are here: go on with `offset` at this number.
    pub have: u64,
}

/// `POST /nodes/files`: have these nodes keep a file of the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesRequest {
    /// What the items name. Nodes that are added later to a topology or component get the file too.
    pub scope: Scope,
    /// Ids.
    #[schemars(length(min = 1, max = 1_000))]
    pub items: Vec<String>,
    /// The first folder of its path in the storage.
    #[schemars(length(min = 1, max = 512))]
    pub container: String,
    /// The rest of that path.
    #[schemars(length(min = 1, max = 512))]
    pub filename: String,
    /// Absolute path on the nodes.
    #[schemars(length(min = 2, max = 512))]
    pub target_path: String,
    /// The storage; the one there is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The region; the zone of each topology if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Permission bits in octal; `0644` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub mode: Option<String>,
}

/// `DELETE /nodes/files`: have these nodes not keep a file any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesRemoval {
    /// What the items name.
    pub scope: Scope,
    /// Ids.
    #[schemars(length(min = 1, max = 1_000))]
    pub items: Vec<String>,
    /// Absolute path on the nodes.
    #[schemars(length(min = 2, max = 512))]
    pub target_path: String,
}

/// A file that a component or a node is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveredFile {
    /// Absolute path on the nodes.
    pub target_path: String,
    /// Where it was in the storage when it was asked for: `storage:region/path`.
    pub from: String,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Asked for of the whole topology: components that are added to it get it as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everywhere: bool,
}

/// What is wrong with a path in the storage.
#[must_use]
pub fn stored_path_fault(path: &str) -> Option<String> {
    if path.len() > STORED_PATH_BYTES_MAX {
        return Some(format!("has {} bytes; at most {STORED_PATH_BYTES_MAX} are allowed", path.len()));
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() < 2 {
        return Some(format!("{path:?} has no container: use container/name"));
    }
    let bad = |part: &&&str| part.is_empty() || **part == "." || **part == ".." || part.chars().any(char::is_control);
    parts.iter().find(bad).map(|part| format!("{part:?} cannot be a folder or a file of it"))
}

/// What is wrong with a path on a node.
#[must_use]
pub fn target_fault(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Some(format!("{path:?} is not the absolute path of a file"));
    }
    if let Some(fault) = stored_path_fault(&format!("node{path}")) {
        return Some(fault);
    }
    let kept =
        TARGETS_KEPT.iter().find(|kept| path.strip_prefix(**kept).is_some_and(|r| r.is_empty() || r.starts_with('/')));
    kept.map(|kept| format!("nothing is put into {kept}; choose another place"))
}

impl FilesRequest {
    /// `container/filename`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.container, self.filename)
    }

    /// The permission bits.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o644)
    }

    /// What is wrong with it beyond its shape.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.container.contains('/') {
            faults.push(Fault::at("/container", "is one folder; what comes below it belongs into filename"));
        }
        faults.extend(stored_path_fault(&self.path()).map(|text| Fault::at("/filename", text)));
        faults.extend(target_fault(&self.target_path).map(|text| Fault::at("/target_path", text)));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_where_they_belong() {
        let check = |fault: Option<String>, part: &str| match fault {
            None => assert_eq!(part, "", "no fault"),
            Some(text) => assert!(!part.is_empty() && text.contains(part), "{text}"),
        };
        for (path, part) in [
            ("jars/word-count.jar", ""),
            ("jars/2026/ä b.jar", ""),
            ("alone", "container"),
            ("a/../b", "\"..\""),
            ("a//b", "\"\""),
            ("a/b\n", "cannot be"),
        ] {
            check(stored_path_fault(path), part);
        }
        for (path, part) in [
            ("/opt/a", ""),
            ("/etc/straas-more/x", ""),
            ("opt/a", "absolute"),
            ("/opt/", "absolute"),
            ("/opt/../etc/shadow", "\"..\""),
            ("/etc/straas/agent.toml", "/etc/straas;"),
            ("/proc/sys/kernel/core_pattern", "/proc;"),
        ] {
            check(target_fault(path), part);
        }
        check(target_fault(&format!("/{}", "x".repeat(STORED_PATH_BYTES_MAX))), "at most");
    }
}
