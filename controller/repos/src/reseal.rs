//! What older keys sealed is sealed with the newest, on every branch.
//!
//! A commit per branch, made like any other, so a crash leaves some branches done and the rest to whoever asks again.
//! Trees that hold nothing to be done are remembered by their hash: most branches have most of their files from
//! `master`. Commits that were made before stay as they are; that is what the older keys are kept for.

use crate::bare::{Change, apply, tree_of};
use crate::config::ConfigRepo;
use crate::error::{Doing, Result};
use crate::refs::CommitId;
use crate::secret::{is_config, pretty};
use crate::vault::Vault;
use git2::{ObjectType, Oid, Repository, Tree};
use std::collections::HashMap;
use straas_schemas::config::{ConfigFile, SEALED};

/// Folders that have configuration files.
const FOLDERS: [&str; 2] = ["app", "service"];

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Branches with the commits that have it.
    pub commits: Vec<(String, CommitId)>,
    /// There is more to be done.
    pub more: bool,
}

/// What is known of objects: whether something in them is sealed with an older key.
type Known = HashMap<Oid, bool>;

impl ConfigRepo {
    /// Seals what older keys sealed with the newest, on at most so many branches.
    ///
    /// # Errors
    /// The repository cannot be read, or a branch cannot be written; those before it are done.
    pub fn reseal(&self, author: &str, branches_max: usize) -> Result<Resealed> {
        let Some(vault) = self.vault() else { return Ok(Resealed::default()) };
        let mut known = Known::new();
        let mut stale = self.bare.with(|repo| {
            let mut stale = Vec::new();
            for (branch, tip) in heads(repo)? {
                let top = tree_of(repo, &tip.into())?;
                let mut any = false;
                for folder in FOLDERS {
                    let Some(entry) = top.get_name(folder) else { continue };
                    any |= entry.kind() == Some(ObjectType::Tree) && in_tree(repo, entry.id(), vault, &mut known)?;
                }
                if any {
                    stale.push(branch);
                    if stale.len() > branches_max {
                        break;
                    }
                }
            }
            Ok(stale)
        })?;
        let more = stale.len() > branches_max;
        stale.truncate(branches_max);
        let mut commits = Vec::with_capacity(stale.len());
        for branch in stale {
            let message = "secrets sealed with the newest key";
            let commit = self.bare.commit_with(&branch, None, message, author, |repo, base| {
                apply(repo, base, &changes(repo, base, vault)?)
            })?;
            commits.push((branch, commit));
        }
        Ok(Resealed { commits, more })
    }
}

/// Every branch with its commit, by name.
fn heads(repo: &Repository) -> Result<Vec<(String, Oid)>> {
    let doing = || "listing the branches".to_owned();
    let mut out = Vec::new();
    for found in repo.references_glob("refs/heads/*").doing(doing)? {
        let found = found.doing(doing)?;
        let branch = found.name().ok().and_then(|name| name.strip_prefix("refs/heads/"));
        out.extend(branch.map(str::to_owned).zip(found.target()));
    }
    out.sort();
    Ok(out)
}

fn in_tree(repo: &Repository, id: Oid, vault: &Vault, known: &mut Known) -> Result<bool> {
    if let Some(any) = known.get(&id) {
        return Ok(*any);
    }
    let tree = repo.find_tree(id).doing(|| format!("reading the tree {id}"))?;
    let mut any = false;
    for entry in &tree {
        any |= match entry.kind() {
            Some(ObjectType::Tree) => in_tree(repo, entry.id(), vault, known)?,
            Some(ObjectType::Blob) if entry.name_bytes().ends_with(b".json") => {
                in_blob(repo, entry.id(), vault, known)?
            }
            _ => false,
        };
    }
    known.insert(id, any);
    Ok(any)
}

fn in_blob(repo: &Repository, id: Oid, vault: &Vault, known: &mut Known) -> Result<bool> {
    if let Some(any) = known.get(&id) {
        return Ok(*any);
    }
    let blob = repo.find_blob(id).doing(|| format!("reading the file {id}"))?;
    let any = resealed(blob.content(), vault).is_some();
    known.insert(id, any);
    Ok(any)
}

/// The file with what older keys sealed sealed anew; `None` if there is nothing of that.
fn resealed(content: &[u8], vault: &Vault) -> Option<String> {
    if !content.windows(SEALED.len()).any(|window| window == SEALED.as_bytes()) {
        return None;
    }
    // what is no configuration file is told by whoever reads it as one
    let mut file: ConfigFile = serde_json::from_slice(content).ok()?;
    let mut any = false;
    for section in &mut file.content {
        for option in &mut section.options {
            if let Some(value) = vault.resealed(&section.section, &option.key, &option.value) {
                option.value = value;
                any = true;
            }
        }
    }
    any.then(|| pretty(&file))
}

fn changes(repo: &Repository, base: &Tree<'_>, vault: &Vault) -> Result<Vec<Change>> {
    let mut out = Vec::new();
    for folder in FOLDERS {
        let Some(entry) = base.get_name(folder).filter(|entry| entry.kind() == Some(ObjectType::Tree)) else {
            continue;
        };
        let tree = repo.find_tree(entry.id()).doing(|| format!("reading the folder {folder}"))?;
        collect(repo, &tree, folder, vault, &mut out)?;
    }
    Ok(out)
}

fn collect(repo: &Repository, tree: &Tree<'_>, below: &str, vault: &Vault, out: &mut Vec<Change>) -> Result<()> {
    for entry in tree {
        let path = format!("{below}/{}", String::from_utf8_lossy(entry.name_bytes()));
        let doing = || format!("reading {path}");
        match entry.kind() {
            Some(ObjectType::Tree) => collect(repo, &repo.find_tree(entry.id()).doing(doing)?, &path, vault, out)?,
            Some(ObjectType::Blob) if is_config(&path) => {
                let blob = repo.find_blob(entry.id()).doing(doing)?;
                if let Some(text) = resealed(blob.content(), vault) {
                    out.push(Change::Put { path, content: text.into_bytes(), executable: None });
                }
            }
            _ => {}
        }
    }
    Ok(())
}
