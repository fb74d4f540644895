//! The catalog: all `metadata/*.json` of `master`, read, checked and kept by commit.
//!
//! A commit that breaks a file must not stop the fleet: the newest good catalog stays in use, and
//! what is wrong with the newest commit is reported beside it. After a restart the good one is
//! found again by going back in the history. A version counts as good only with a readable
//! configuration, so that a mistake shows at the commit, not at the next creation.

use crate::bare::{folder_in, read_in};
use crate::cache::locked;
use crate::checks::check;
use crate::effective::{Effectives, json_fault};
use crate::error::{Error, FileFault, Result};
use crate::history::last_good;
use crate::refs::{CommitId, segment_fault};
use crate::shape::line_of;
use git2::{Repository, Tree};
use std::sync::{Arc, Mutex};
use straas_schemas::config::CONFIG_FILE_BYTES_MAX;
use straas_schemas::metadata::{Catalog, ComponentMeta};

/// Most component types; every one is read when `master` moves.
const KINDS_MAX: usize = 256;

/// The catalog in use.
#[derive(Clone, Debug)]
pub struct CatalogView {
    /// The newest commit of `master`.
    pub head: CommitId,
    /// The commit that `catalog` is from; equal to `head` if that is good.
    pub commit: CommitId,
    /// The component types.
    pub catalog: Arc<Catalog>,
    /// What is wrong with `head`; empty if it is good.
    pub faults: Vec<FileFault>,
}

/// The view of the last head, made again when the head differs.
#[derive(Default)]
pub(crate) struct CatalogCache(Mutex<Option<CatalogView>>);

impl CatalogCache {
    pub(crate) fn view(&self, repo: &Repository, effectives: &Effectives, head: &CommitId) -> Result<CatalogView> {
        // held while reading, so that one of many callers reads
        let mut known = locked(&self.0);
        if let Some(view) = known.as_ref().filter(|view| view.head == *head) {
            return Ok(view.clone());
        }
        let view = match read(repo, effectives, head) {
            Ok(catalog) => {
                CatalogView { head: head.clone(), commit: head.clone(), catalog: Arc::new(catalog), faults: Vec::new() }
            }
            Err(Error::Invalid { faults }) => {
                let good = known.take().map(|view| (view.commit, view.catalog));
                let good = match good {
                    Some(good) => Some(good),
                    None => last_good(repo, head, |id| read(repo, effectives, id).map(Arc::new))?,
                };
                let Some((commit, catalog)) = good else { return Err(Error::Invalid { faults }) };
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                tracing::error!(%head, in_use = %commit, faults = faults.len(), first, "the catalog on master is broken");
                CatalogView { head: head.clone(), commit, catalog, faults }
            }
            Err(other) => return Err(other),
        };
        *known = Some(view.clone());
        Ok(view)
    }
}

fn read(repo: &Repository, effectives: &Effectives, commit: &CommitId) -> Result<Catalog> {
    read_tree(repo, effectives, &crate::bare::tree_of(repo, commit)?)
}

/// What is wrong with the catalog of a tree.
pub(crate) fn faults_of(repo: &Repository, effectives: &Effectives, top: &Tree<'_>) -> Result<Vec<FileFault>> {
    match read_tree(repo, effectives, top) {
        Ok(_) => Ok(Vec::new()),
        Err(Error::Invalid { faults }) => Ok(faults),
        Err(other) => Err(other),
    }
}

fn read_tree(repo: &Repository, effectives: &Effectives, top: &Tree<'_>) -> Result<Catalog> {
    let Some(folder) = folder_in(repo, top, "metadata")? else {
        return Err(Error::invalid(
            "metadata",
            "this folder is missing; put it back on master, one {type}.json per component type",
        ));
    };
    let names: Vec<String> = folder
        .iter()
        .map(|entry| String::from_utf8_lossy(entry.name_bytes()).into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect();
    if names.len() > KINDS_MAX {
        return Err(Error::invalid(
            "metadata",
            format!("has {} component types; at most {KINDS_MAX} are read", names.len()),
        ));
    }
    let mut catalog = Catalog::new();
    let mut texts = Vec::new();
    let mut faults = Vec::new();
    for name in names {
        let file = format!("metadata/{name}");
        match parse(repo, &folder, &name, &file) {
            Ok((text, meta)) => {
                if name != format!("{}.json", meta.kind) {
                    let message = format!("says type {:?}; it must equal the file's name without .json", meta.kind);
                    faults.push(fault(&file, &text, "/type", message));
                }
                texts.push((file, text, meta.kind.clone()));
                catalog.insert(meta.kind.clone(), meta);
            }
            Err(Error::Invalid { faults: more }) => faults.extend(more),
            Err(other) => return Err(other),
        }
    }
    for (file, text, kind) in &texts {
        if let Some(meta) = catalog.get(kind) {
            let found = check(meta, &catalog);
            faults.extend(found.into_iter().map(|(pointer, message)| fault(file, text, &pointer, message)));
            for version in meta.versions.keys().filter(|version| segment_fault(version).is_none()) {
                match effectives.of(repo, top, &format!("app/{kind}/{version}")) {
                    Ok(effective) => {
                        for (r, role) in meta.roles.iter().enumerate() {
                            let unknown = role.sections.iter().flatten().filter(|name| !effective.contains_key(*name));
                            for name in unknown {
                                let why = format!("{name:?} is no section of app/{kind}/{version}/default.json");
                                faults.push(fault(file, text, &format!("/roles/{r}/sections"), why));
                            }
                        }
                    }
                    Err(Error::Invalid { faults: more }) => faults.extend(more),
                    Err(Error::NotFound { what, next }) => {
                        faults.push(fault(
                            file,
                            text,
                            "/versions",
                            format!("offers {version}, but {what} does not exist; {next}"),
                        ));
                    }
                    Err(other) => return Err(other),
                }
            }
        }
    }
    if faults.is_empty() { Ok(catalog) } else { Err(Error::Invalid { faults }) }
}

fn parse(repo: &Repository, folder: &Tree<'_>, name: &str, file: &str) -> Result<(String, ComponentMeta)> {
    let bytes = read_in(repo, folder, name)?.unwrap_or_default();
    if bytes.len() > CONFIG_FILE_BYTES_MAX {
        return Err(Error::invalid(
            file,
            format!("has {} bytes; at most {CONFIG_FILE_BYTES_MAX} are allowed", bytes.len()),
        ));
    }
    let meta =
        serde_json::from_slice(&bytes).map_err(|error| Error::Invalid { faults: vec![json_fault(file, &error)] })?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), meta))
}

/// A fault with the line of what it points to, or of what that should stand in.
fn fault(file: &str, text: &str, pointer: &str, message: String) -> FileFault {
    let ends = pointer.match_indices('/').map(|(end, _)| end).chain([pointer.len()]);
    let line = ends.rev().find_map(|end| line_of(text, pointer.get(..end)?));
    FileFault { file: file.to_owned(), line, pointer: pointer.to_owned(), message }
}
