//! A file written by a user: checked against everything that would read it, before it is committed.
//!
//! ```text
//!  master, develop   anything below app/, service/, metadata/, schema/; what it leaves must be sound
//!  name@zone         app/{type}/{version}/user.json, and of that the values only
//! ```
//! Which keys a user may set is the administrator's choice: those that stand in `user.json`. All
//! faults are told at once. The checks run on the tree that the commit would make, under the turn to
//! write, so that two changes that are each right cannot be wrong together.

use crate::bare::{Change, apply, check_changes, read_in};
use crate::catalog;
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Doing, Error, FileFault, Result};
use crate::refs::CommitId;
use crate::secret;
use crate::service;
use crate::shape::{line_of, shape_faults};
use git2::{Repository, Tree};
use std::collections::BTreeMap;
use straas_schemas::config::{CONFIG_FILE_BYTES_MAX, ConfigFile, ConfigOption};

/// Folders of the config repo that files may be written to.
const TOPS: [&str; 4] = ["app", "service", "metadata", "schema"];

impl ConfigRepo {
    /// Writes a file as a user would have it: form, keys, types and limits are checked first.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault; [`Error::Conflict`] if the branch is not at `expect`;
    /// [`Error::NotFound`] for a branch that is not there.
    pub fn edit(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        path: &str,
        content: &str,
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        let only_values = branch.contains('@');
        check_place(path, only_values)?;
        if content.len() > CONFIG_FILE_BYTES_MAX {
            let text = format!("has {} bytes; at most {CONFIG_FILE_BYTES_MAX} are allowed", content.len());
            return Err(Error::invalid(path, text));
        }
        let faults = shape_faults(path, content.as_bytes());
        if !faults.is_empty() {
            return Err(Error::Invalid { faults });
        }
        self.bare.commit_with(branch, expect, message, author, |repo, base| {
            let faults = secret::sealed_by_hand(path, content);
            if !faults.is_empty() {
                return Err(Error::Invalid { faults });
            }
            let content = match secret::taken_back(repo, base, path, content.to_owned())? {
                Ok(content) => content,
                Err(faults) => return Err(Error::Invalid { faults }),
            };
            let content = secret::sealed(repo, base, path, content, self.vault())?;
            if only_values {
                values_only(repo, base, path, &content)?;
            }
            let change = Change::Put { path: path.to_owned(), content: content.clone().into_bytes(), executable: None };
            check_changes(std::slice::from_ref(&change))?;
            let made = apply(repo, base, &[change])?;
            let tree = repo.find_tree(made).doing(|| "reading a tree that was just made")?;
            self.sound(repo, base, &tree, path, &content)?;
            Ok(made)
        })
    }

    /// Whether what would read the file could.
    fn sound(&self, repo: &Repository, base: &Tree<'_>, new: &Tree<'_>, path: &str, content: &str) -> Result<()> {
        let faults = if path.starts_with("metadata/") {
            // what was wrong before is not this change's fault: a broken catalog is mended file by file
            let before = catalog::faults_of(repo, &self.effectives, base)?;
            let mut after = catalog::faults_of(repo, &self.effectives, new)?;
            after.retain(|fault| !before.iter().any(|old| old.file == fault.file && old.message == fault.message));
            after
        } else if path.starts_with("service/") {
            let mut after = service::faults_of(repo, new, &self.own)?;
            // what was broken before is mended file by file, whatever else then comes to light
            if !after.is_empty() && !service::faults_of(repo, base, &self.own)?.is_empty() {
                after.retain(|fault| fault.file == path);
            }
            after
        } else if let Some(folder) = path.rsplit_once('/').map(|(folder, _)| folder).filter(|_| secret::is_config(path))
        {
            match self.effectives.of(repo, new, folder) {
                Ok(_) => Vec::new(),
                // a default.json that is on its way: a user.json without it is read by nobody
                Err(Error::NotFound { .. }) => Vec::new(),
                Err(Error::Invalid { faults }) => faults,
                Err(other) => return Err(other),
            }
        } else {
            Vec::new()
        };
        if faults.is_empty() {
            return Ok(());
        }
        let placed = faults.into_iter().map(|mut fault| {
            if fault.line.is_none() && fault.file == path {
                fault.line = line_of(content, &fault.pointer);
            }
            fault
        });
        Err(Error::Invalid { faults: placed.collect() })
    }
}

fn check_place(path: &str, only_values: bool) -> Result<()> {
    crate::refs::check_path(path)?;
    let parts: Vec<&str> = path.split('/').collect();
    let top = parts.first().copied().unwrap_or_default();
    if !TOPS.contains(&top) || parts.len() < 2 {
        return Err(Error::invalid("path", format!("{path:?} is not a file below {}", TOPS.join("/, "))));
    }
    if !only_values {
        return Ok(());
    }
    match parts.as_slice() {
        ["app", _, _, "user.json"] => Ok(()),
        _ => Err(Error::invalid(
            "path",
            format!(
                "{path:?} belongs to master; on a topology's branch only app/{{type}}/{{version}}/user.json changes"
            ),
        )),
    }
}

fn options(file: &ConfigFile) -> BTreeMap<(&str, &str), (String, &ConfigOption)> {
    file.options().map(|placed| (placed.name, (placed.pointer(), placed.option))).collect()
}

/// On a topology's branch: the same keys as before, other values.
fn values_only(repo: &Repository, base: &Tree<'_>, path: &str, content: &str) -> Result<()> {
    let before = match read_in(repo, base, path)? {
        Some(_) => parse_file(repo, base, path)?,
        None => None,
    };
    let Some(before) = before else {
        return Err(Error::not_found(
            format!("file {path} on this branch"),
            "a version's files come with the topology, or with the upgrade to that version",
        ));
    };
    let after: ConfigFile =
        serde_json::from_str(content).map_err(|error| Error::invalid(path, format!("cannot be read: {error}")))?;
    let (old, new) = (options(&before), options(&after));
    let fault = |pointer: String, message: String| FileFault {
        file: path.to_owned(),
        line: line_of(content, &pointer),
        pointer,
        message,
    };
    let mut faults = Vec::new();
    for ((section, key), (pointer, option)) in &new {
        match old.get(&(*section, *key)) {
            None => {
                let known: Vec<String> = old.keys().map(|(section, key)| format!("{section}.{key}")).collect();
                let text = format!("{section}.{key} is not one of the keys that a user may set: {}", known.join(", "));
                faults.push(fault(format!("{pointer}/key"), text));
            }
            Some((_, was)) => {
                let same = ConfigOption { value: was.value.clone(), ..(*option).clone() };
                if same != **was {
                    let text = format!("{section}.{key}: only its value can be changed; leave the rest as it was");
                    faults.push(fault(pointer.clone(), text));
                }
            }
        }
    }
    for (section, key) in old.keys().filter(|name| !new.contains_key(*name)) {
        let text = format!("{section}.{key} is missing; only values can be changed, every key stays");
        faults.push(fault(String::new(), text));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid { faults }) }
}
