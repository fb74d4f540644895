//! What a folder of a branch was made from: the commit of `master` that its files came from.
//!
//! ```text
//!  master  ──●──────────●───────────●──────           a branch begins as a copy of master; a commit that
//!            │\          \                            brings a folder from master onto it has that commit
//!  branch    └─●──●───────M──●──                      of master as its second parent
//! ```
//! So what a user set himself is told from what he was given, whatever `master` has become since.
//! Nobody can make such a commit through the API.

use crate::bare::entry_in;
use crate::error::{Doing, Result};
use crate::history::WALK_MAX;
use git2::{Commit, Oid, Repository};

/// The commit that the files of a folder at the tip of a branch came from; `None` if that is further
/// back than was looked.
pub(crate) fn of(repo: &Repository, tip: Oid, master: Oid, folder: &str) -> Result<Option<Oid>> {
    let mut commit = repo.find_commit(tip).doing(|| format!("reading commit {tip}"))?;
    for _ in 0..WALK_MAX {
        if commit.parent_count() > 1 && came_with(&commit, folder)? {
            return Ok(commit.parent_id(1).ok());
        }
        if commit.parent_count() == 1 && on(repo, master, commit.id())? || commit.parent_count() == 0 {
            return Ok(Some(commit.id()));
        }
        commit = commit.parent(0).doing(|| format!("reading the parent of {}", commit.id()))?;
    }
    Ok(None)
}

/// Whether a commit that brings something from master changed this folder.
fn came_with(commit: &Commit<'_>, folder: &str) -> Result<bool> {
    let at = |commit: &Commit<'_>| -> Result<Option<Oid>> {
        let tree = commit.tree().doing(|| format!("reading the tree of {}", commit.id()))?;
        Ok(entry_in(&tree, folder)?.map(|entry| entry.id()))
    };
    let before = commit.parent(0).doing(|| format!("reading the parent of {}", commit.id()))?;
    Ok(at(commit)? != at(&before)?)
}

fn on(repo: &Repository, master: Oid, commit: Oid) -> Result<bool> {
    if master == commit {
        return Ok(true);
    }
    repo.graph_descendant_of(master, commit).doing(|| format!("looking for {commit} on master"))
}
