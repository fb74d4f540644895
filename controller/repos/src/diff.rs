//! What differs between two commits, file by file, and in configuration files key by key.
//!
//! Values that are secret on either side are told to differ, not shown.

use crate::bare::tree_of;
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Doing, Result};
use crate::history::{empty, options};
use crate::refs::CommitId;
use crate::secret;
use git2::{Delta, DiffOptions, Repository, Tree};
use std::collections::BTreeSet;
use straas_schemas::configuration::{ConfigDiff, FileChange, FileDiff, KeyDiff, SECRET};

/// Most files told of.
const FILES_MAX: usize = 1_000;

impl ConfigRepo {
    /// What differs from `from` to `to`.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for an unknown commit.
    pub fn diff(&self, from: &CommitId, to: &CommitId) -> Result<ConfigDiff> {
        self.bare.with(|repo| {
            let (old, new) = (tree_of(repo, from)?, tree_of(repo, to)?);
            let doing = || format!("comparing {from} and {to}");
            let mut how = DiffOptions::new();
            how.skip_binary_check(true).context_lines(0);
            let diff = repo.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut how)).doing(doing)?;
            let mut files = Vec::new();
            for delta in diff.deltas().take(FILES_MAX) {
                let change = match delta.status() {
                    Delta::Added => FileChange::Added,
                    Delta::Deleted => FileChange::Removed,
                    _ => FileChange::Changed,
                };
                let side = if change == FileChange::Removed { delta.old_file() } else { delta.new_file() };
                let Some(path) = side.path().and_then(|path| path.to_str()).map(str::to_owned) else { continue };
                let keys = if secret::is_config(&path) { keys(repo, &old, &new, &path)? } else { Vec::new() };
                files.push(FileDiff { path, change, keys });
            }
            let truncated = diff.deltas().len() > FILES_MAX;
            Ok(ConfigDiff { from: from.to_string(), to: to.to_string(), files, truncated })
        })
    }
}

/// The keys whose values differ. A side that cannot be read counts as empty: the diff of a repair
/// shows the repair.
fn keys(repo: &Repository, old: &Tree<'_>, new: &Tree<'_>, path: &str) -> Result<Vec<KeyDiff>> {
    let file = |tree| parse_file(repo, tree, path).ok().flatten().unwrap_or_else(empty);
    let (before, after) = (file(old), file(new));
    let mut hidden = secret::secrets(repo, old, path, Some(&before))?;
    hidden.extend(secret::secrets(repo, new, path, Some(&after))?);
    let (before, after) = (options(&before), options(&after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let mut found = Vec::new();
    for (section, key) in names {
        let value = |side: &std::collections::BTreeMap<_, &straas_schemas::config::ConfigOption>| {
            side.get(&(section, key)).map(|option| option.value.clone())
        };
        let (old, new) = (value(&before), value(&after));
        if old == new {
            continue;
        }
        let secret = hidden.contains(&(section.to_owned(), key.to_owned()));
        let show = |value: Option<String>| if secret { value.map(|_| SECRET.to_owned()) } else { value };
        found.push(KeyDiff { section: section.to_owned(), key: key.to_owned(), old: show(old), new: show(new) });
    }
    Ok(found)
}
