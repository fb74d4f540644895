//! Which tags belong to a branch, without listing all tags at every call.
//!
//! Tags are called `{role}&{branch}&{tag}` (2017 design, 4.2.1), so git can only find those of one
//! branch by looking at all. The listing is kept and used for as long as the folder of tags and the
//! packed refs are as they were. Times of files are coarse: a listing made while they were fresh is
//! used once and not kept.

use crate::cache::locked;
use crate::error::{Doing, Result};
use git2::{ErrorCode, Repository};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Two changes closer than this may leave the same time on a file; kernels tick every 1 to 10 ms.
const TICK: Duration = Duration::from_millis(100);

/// The tags by branch, as of the last look.
#[derive(Default)]
pub(crate) struct TagIndex(Mutex<Option<(Stamp, ByBranch)>>);

type ByBranch = BTreeMap<String, Vec<String>>;
/// Inode, length and time of the tags' folder and of the packed refs.
type Stamp = [Option<(u64, u64, SystemTime)>; 2];

impl TagIndex {
    /// Deletes the tags of a branch.
    pub(crate) fn delete(&self, repo: &Repository, branch: &str) -> Result<()> {
        let mut known = locked(&self.0);
        let stamp = stamp(repo.path());
        if known.as_ref().is_none_or(|(then, _)| *then != stamp) {
            *known = Some((stamp, list(repo)?));
        }
        let names = known.as_ref().and_then(|(_, tags)| tags.get(branch)).cloned().unwrap_or_default();
        let fresh = stamp.iter().flatten().any(|(_, _, time)| time.elapsed().is_ok_and(|age| age < TICK));
        if fresh || !names.is_empty() {
            *known = None;
        }
        for name in names {
            match repo.find_reference(&name).and_then(|mut tag| tag.delete()) {
                Err(error) if error.code() != ErrorCode::NotFound => Err(error).doing(|| format!("deleting {name}"))?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn stamp(git_dir: &Path) -> Stamp {
    ["refs/tags", "packed-refs"].map(|name| {
        let meta = fs::metadata(git_dir.join(name)).ok()?;
        Some((meta.ino(), meta.len(), meta.modified().ok()?))
    })
}

fn list(repo: &Repository) -> Result<ByBranch> {
    let doing = || "listing the tags of the config repo";
    let mut tags = ByBranch::new();
    let mut found = repo.references_glob("refs/tags/*").doing(doing)?;
    for name in found.names() {
        let name = name.doing(doing)?;
        let mut parts = name.trim_start_matches("refs/tags/").splitn(3, '&');
        if let (Some("user" | "admin"), Some(branch), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            tags.entry(branch.to_owned()).or_default().push(name.to_owned());
        }
    }
    Ok(tags)
}
