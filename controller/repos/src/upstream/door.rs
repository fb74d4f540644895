//! What may come in from an upstream: the rules of an import, for a commit that somebody pushed.
//!
//! Looks at the whole tree of a commit; trees that were found right are remembered by their hash, so the
//! trees of a thousand branches cost little more than one. Faults name the path and are told at once,
//! up to a few. Git itself has checked the form of every object (`fetch.fsckObjects`).

use crate::bare::{CHANGES_MAX, EXECUTABLE, FILE_BYTES_MAX};
use crate::cache::Bounded;
use crate::error::{Doing, Error, FileFault, Result};
use crate::import::IMPORT_BYTES_MAX;
use crate::refs::{PATH_BYTES_MAX, PATH_DEPTH_MAX, segment_fault};
use git2::{FileMode, ObjectType, Oid, Repository};

/// Faults told of one commit.
const FAULTS_MAX: usize = 20;

/// What a tree holds, all below it.
#[derive(Clone, Copy, Default)]
struct Sum {
    files: usize,
    bytes: usize,
    depth: usize,
    longest: usize,
}

/// Trees that were found right.
pub(super) struct Door(Bounded<String, Sum>);

impl Default for Door {
    fn default() -> Self {
        Self(Bounded::new(4_096))
    }
}

impl Door {
    /// Refuses a commit whose files may not come in.
    pub(super) fn check(&self, repo: &Repository, commit: Oid) -> Result<()> {
        let tree = repo.find_commit(commit).map(|commit| commit.tree_id());
        let tree = tree.doing(|| format!("reading commit {commit}"))?;
        let mut faults = Vec::new();
        let sum = self.sum(repo, tree, "", &mut faults)?;
        let mut fault = |message: String| faults.push(at("", message));
        if sum.files > CHANGES_MAX {
            fault(format!("has {} files; at most {CHANGES_MAX} are allowed", sum.files));
        }
        if sum.bytes > IMPORT_BYTES_MAX {
            fault(format!("has {} bytes in all; at most {IMPORT_BYTES_MAX} are allowed", sum.bytes));
        }
        if sum.longest > PATH_BYTES_MAX {
            fault(format!("has a path of {} bytes; at most {PATH_BYTES_MAX} are allowed", sum.longest));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid { faults }) }
    }

    fn sum(&self, repo: &Repository, id: Oid, path: &str, faults: &mut Vec<FileFault>) -> Result<Sum> {
        let key = id.to_string();
        if let Some(known) = self.0.get(&key) {
            return deep_enough(known, path, faults);
        }
        let before = faults.len();
        let doing = || format!("reading the folder {path:?} of what upstream has");
        let tree = repo.find_tree(id).doing(doing)?;
        let odb = repo.odb().doing(doing)?;
        let mut sum = Sum { depth: 1, ..Sum::default() };
        for entry in &tree {
            if faults.len() >= FAULTS_MAX {
                break;
            }
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let here = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if let Some(why) = segment_fault(&name) {
                faults.push(at(&here, why));
                continue;
            }
            let mode = entry.filemode();
            let plain = [FileMode::Blob.into(), FileMode::BlobGroupWritable.into(), EXECUTABLE].contains(&mode);
            let below = match entry.kind() {
                Some(ObjectType::Tree) if here.split('/').count() >= PATH_DEPTH_MAX => {
                    faults.push(at(&here, format!("is deeper than {PATH_DEPTH_MAX} folders")));
                    continue;
                }
                Some(ObjectType::Tree) => self.sum(repo, entry.id(), &here, faults)?,
                Some(ObjectType::Blob) if plain => {
                    let (bytes, _) = odb.read_header(entry.id()).doing(|| format!("reading the size of {here}"))?;
                    if bytes > FILE_BYTES_MAX {
                        faults.push(at(&here, format!("has {bytes} bytes; at most {FILE_BYTES_MAX} are allowed")));
                    }
                    Sum { files: 1, bytes, depth: 0, longest: 0 }
                }
                _ => {
                    faults.push(at(&here, "is a link or a submodule; only regular files are taken".to_owned()));
                    continue;
                }
            };
            sum.files = sum.files.saturating_add(below.files);
            sum.bytes = sum.bytes.saturating_add(below.bytes);
            sum.depth = sum.depth.max(below.depth + 1);
            sum.longest = sum.longest.max(name.len() + below.longest + usize::from(below.longest > 0));
        }
        if faults.len() == before {
            self.0.insert(key, sum);
        }
        Ok(sum)
    }
}

/// A known tree may hang at a deeper place than where it was found right.
fn deep_enough(sum: Sum, path: &str, faults: &mut Vec<FileFault>) -> Result<Sum> {
    let above = if path.is_empty() { 0 } else { path.split('/').count() };
    if above + sum.depth > PATH_DEPTH_MAX {
        faults.push(at(path, format!("holds what is deeper than {PATH_DEPTH_MAX} folders")));
    }
    Ok(sum)
}

fn at(path: &str, message: String) -> FileFault {
    FileFault { file: path.to_owned(), line: None, pointer: String::new(), message }
}
