//! Effective configurations: `default.json` overridden by `user.json`, read from one folder.
//!
//! Cached by the hash of the folder's tree: thousands of topologies that changed nothing share one
//! entry, and a branch that changed one value costs one. Faults name the file, and are not cached.

use crate::bare::{folder_in, read_in};
use crate::cache::Bounded;
use crate::error::{Error, FileFault, Result};
use git2::{Oid, Repository, Tree};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::Fault;
use straas_schemas::config::{CONFIG_FILE_BYTES_MAX, ConfigFile, ConfigOption, Effective, ValueKind, effective};

/// Folders kept: one per component version in use, and one per topology that was reconfigured.
const FOLDERS_MAX: usize = 1024;

/// Effective configurations by folder.
pub(crate) struct Effectives(Bounded<Oid, Arc<Effective>>);

impl Effectives {
    pub(crate) fn new() -> Self {
        Self(Bounded::new(FOLDERS_MAX))
    }

    /// The effective configuration of a folder, with every fault of both files.
    pub(crate) fn of(&self, repo: &Repository, top: &Tree<'_>, folder: &str) -> Result<Arc<Effective>> {
        let Some(tree) = folder_in(repo, top, folder)? else {
            return Err(Error::not_found(
                format!("folder {folder} of the config repo"),
                format!(
                    "add {folder}/default.json to master; a topology's branch has what master had when it was made"
                ),
            ));
        };
        if let Some(known) = self.0.get(&tree.id()) {
            return Ok(known);
        }
        let merged = Arc::new(merge(repo, &tree, folder)?);
        self.0.insert(tree.id(), Arc::clone(&merged));
        Ok(merged)
    }
}

fn merge(repo: &Repository, tree: &Tree<'_>, folder: &str) -> Result<Effective> {
    let default_path = format!("{folder}/default.json");
    let user_path = format!("{folder}/user.json");
    let Some(default) = parse(repo, tree, folder, "default.json")? else {
        return Err(Error::not_found(format!("file {default_path}"), "add it to master of the config repo"));
    };
    let user = parse(repo, tree, folder, "user.json")?;
    let in_file = |file: &str, faults: Vec<Fault>| Error::Invalid {
        faults: faults
            .into_iter()
            .map(|fault| FileFault {
                file: file.to_owned(),
                line: None,
                pointer: fault.pointer,
                message: fault.message,
            })
            .collect(),
    };
    let mut merged = Effective::new();
    let mut twice = repeated(&default);
    twice.extend(open_secrets(&default));
    if !twice.is_empty() {
        return Err(in_file(&default_path, twice));
    }
    // alone first: what is still wrong with both of them stands in user.json
    let alone = effective(&[&default]).map_err(|faults| in_file(&default_path, faults))?;
    merged.extend(alone);
    if let Some(user) = user {
        let mut faults = repeated(&user);
        faults.extend(strangers(&default, &user));
        match effective(&[&default, &user]) {
            Ok(both) => merged = both,
            Err(more) => faults.extend(more),
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(in_file(&user_path, faults));
        }
    }
    Ok(merged)
}

fn parse(repo: &Repository, tree: &Tree<'_>, folder: &str, name: &str) -> Result<Option<ConfigFile>> {
    parsed(read_in(repo, tree, name)?, format!("{folder}/{name}"))
}

/// The configuration file at a path of a commit's tree.
pub(crate) fn parse_file(repo: &Repository, top: &Tree<'_>, path: &str) -> Result<Option<ConfigFile>> {
    parsed(read_in(repo, top, path)?, path.to_owned())
}

fn parsed(bytes: Option<Vec<u8>>, path: String) -> Result<Option<ConfigFile>> {
    let Some(bytes) = bytes else { return Ok(None) };
    if bytes.len() > CONFIG_FILE_BYTES_MAX {
        let message = format!("has {} bytes; at most {CONFIG_FILE_BYTES_MAX} are allowed", bytes.len());
        return Err(Error::invalid(path, message));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Invalid { faults: vec![json_fault(&path, &error)] })
}

/// A fault of JSON with its line; the parser's words do not show values of strings that are secret,
/// since every value is a string and a string is what it expects there.
pub(crate) fn json_fault(file: &str, error: &serde_json::Error) -> FileFault {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    FileFault {
        file: file.to_owned(),
        line: (error.line() > 0).then(|| error.line()),
        pointer: String::new(),
        message: format!("{message}; correct it and commit to the same branch"),
    }
}

/// Options that stand in a file twice.
pub(crate) fn repeated(file: &ConfigFile) -> Vec<Fault> {
    let mut seen = BTreeMap::new();
    let mut faults = Vec::new();
    for placed in file.options() {
        let (pointer, name) = (placed.pointer(), placed.name);
        if let Some(first) = seen.insert(name, pointer.clone()) {
            faults
                .push(Fault::at(format!("{pointer}/key"), format!("{} stands here and at {first}; keep one", name.1)));
        }
    }
    faults
}

/// Secrets that are no texts: what is sealed is a text, and cannot be looked at.
fn open_secrets(default: &ConfigFile) -> Vec<Fault> {
    let is_text = |o: &ConfigOption| o.kind == ValueKind::String && o.values.is_none();
    let wrong = default.options().filter(|placed| placed.option.secret && !is_text(placed.option));
    let text = "a secret is of the type string and has no list of values, since it is sealed";
    wrong.map(|placed| Fault::at(format!("{}/secret", placed.pointer()), text)).collect()
}

/// Options of an overriding file that `default.json` does not have in this type: nothing would read them.
pub(crate) fn strangers(default: &ConfigFile, user: &ConfigFile) -> Vec<Fault> {
    let known: BTreeMap<_, _> = default.options().map(|placed| (placed.name, placed.option.kind)).collect();
    let mut faults = Vec::new();
    for placed in user.options() {
        let (pointer, name, option) = (placed.pointer(), placed.name, placed.option);
        match known.get(&name) {
            None => {
                let message =
                    format!("{} is not in section {} of default.json; only keys from there can be set", name.1, name.0);
                faults.push(Fault::at(format!("{pointer}/key"), message));
            }
            Some(kind) if *kind != option.kind => {
                faults.push(Fault::at(
                    format!("{pointer}/type"),
                    format!("must be {kind:?}, as in default.json").to_lowercase(),
                ));
            }
            Some(_) => {}
        }
    }
    faults
}
