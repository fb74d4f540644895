//! The catalog: all `metadata/*.json` of `master`, read, checked and kept by commit.
//!
//! A commit that breaks a file must not stop the fleet: the newest good catalog stays in use, and
//! what is wrong with the newest commit is reported beside it. After a restart the good one is
//! found again by going back in the history. A version counts as good only with a readable
//! configuration, so that a mistake shows at the commit, not at the next creation.

use crate::bare::{folder_in, read_in};
use crate::cache::locked;
use crate::effective::{Effectives, json_fault};
use crate::error::{Doing, Error, FileFault, Result};
use crate::refs::{CommitId, segment_fault};
use git2::{Repository, Tree};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use straas_schemas::Stage;
use straas_schemas::config::CONFIG_FILE_BYTES_MAX;
use straas_schemas::ids::{COMPONENT_NAME_MAX, name_fault};
use straas_schemas::metadata::{Catalog, ComponentMeta, Sizes};

/// Most component types; every one is read when `master` moves.
const KINDS_MAX: usize = 256;
/// Commits looked at, newest first, for a good catalog after a restart.
const HISTORY_MAX: usize = 256;
/// Verbs with time limits of their own besides the stages.
const VERBS: [&str; 3] = ["start", "stop", "remove"];

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
                    None => last_good(repo, effectives, head)?,
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

fn last_good(repo: &Repository, effectives: &Effectives, head: &CommitId) -> Result<Option<(CommitId, Arc<Catalog>)>> {
    let mut commit = repo.find_commit(head.oid()?).doing(|| format!("reading {head}"))?;
    for _ in 0..HISTORY_MAX {
        let Ok(parent) = commit.parent(0) else { return Ok(None) };
        let id = CommitId::from(parent.id());
        match read(repo, effectives, &id) {
            Ok(catalog) => return Ok(Some((id, Arc::new(catalog)))),
            Err(Error::Invalid { .. }) => commit = parent,
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

fn read(repo: &Repository, effectives: &Effectives, commit: &CommitId) -> Result<Catalog> {
    let top = crate::bare::tree_of(repo, commit)?;
    let Some(folder) = folder_in(repo, &top, "metadata")? else {
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
                match effectives.of(repo, &top, &format!("app/{kind}/{version}")) {
                    Ok(_) => {}
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

/// A fault at a top-level key; the line is where the key first stands.
fn fault(file: &str, text: &str, pointer: &str, message: String) -> FileFault {
    let key = format!("\"{}\"", pointer.split('/').nth(1).unwrap_or_default());
    let line = text.lines().position(|line| line.trim_start().trim_start_matches('{').trim_start().starts_with(&key));
    FileFault { file: file.to_owned(), line: line.map(|n| n + 1), pointer: pointer.to_owned(), message }
}

/// Everything about a component type that its shape does not say, as (pointer, message).
fn check(meta: &ComponentMeta, catalog: &Catalog) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut add = |pointer: String, message: String| found.push((pointer, message));
    if let Some(why) = name_fault("the type", &meta.kind, COMPONENT_NAME_MAX) {
        add("/type".into(), why);
    }
    let mut names = BTreeSet::new();
    for (r, role) in meta.roles.iter().enumerate() {
        if let Some(why) = name_fault("the role", &role.name, COMPONENT_NAME_MAX) {
            add(format!("/roles/{r}/name"), why);
        }
        if !names.insert(role.name.as_str()) {
            add(format!("/roles/{r}/name"), format!("{:?} is the name of an earlier role", role.name));
        }
        match segment_fault(&role.script_role) {
            Some(why) => add(format!("/roles/{r}/script_role"), why),
            None if role.script_role == "lib" => {
                add(format!("/roles/{r}/script_role"), "\"lib\" holds what scripts share; choose another name".into());
            }
            None => {}
        }
        if let Some(sizes) = role.sizes {
            check_sizes(sizes, &format!("/roles/{r}/sizes"), &mut add);
        }
    }
    check_sizes(meta.sizes, "/sizes", &mut add);
    if !names.contains(meta.default_role.as_str()) {
        add("/default_role".into(), format!("{:?} is not one of the roles", meta.default_role));
    }
    if !meta.versions.contains_key(&meta.default_version) {
        add("/default_version".into(), format!("{:?} is not one of the versions", meta.default_version));
    }
    for why in meta.versions.keys().filter_map(|version| segment_fault(version)) {
        add("/versions".into(), why);
    }
    if !meta.flavors.contains_key(&meta.default_flavor) {
        add("/default_flavor".into(), format!("{:?} is not one of the flavors", meta.default_flavor));
    }
    for (role, peers) in &meta.peers {
        for name in std::iter::once(role).chain(peers).filter(|name| !names.contains(name.as_str())) {
            add(format!("/peers/{role}"), format!("{name:?} is not one of the roles"));
        }
    }
    for (d, dependency) in meta.dependencies.iter().enumerate() {
        if !catalog.contains_key(&dependency.kind) {
            add(format!("/dependencies/{d}/type"), format!("{:?} has no file in metadata/", dependency.kind));
        } else if dependency.kind == meta.kind && dependency.required {
            add(format!("/dependencies/{d}/type"), "a type cannot require itself; nothing could be the first".into());
        }
    }
    if meta.disruption.max_unavailable == 0 {
        add("/disruption/max_unavailable".into(), "must be at least 1, or nothing could ever be changed".into());
    }
    for (stage, limits) in &meta.stages {
        if !Stage::ALL.iter().any(|known| known.name() == stage) && !VERBS.contains(&stage.as_str()) {
            let known: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).chain(VERBS).collect();
            add(format!("/stages/{stage}"), format!("is not a stage or verb; known are {}", known.join(", ")));
        }
        if limits.total_s == 0 || limits.no_progress_s == 0 {
            add(format!("/stages/{stage}"), "limits must be at least 1 second".into());
        }
    }
    for (p, port) in meta.ports.iter().enumerate() {
        let known =
            matches!(port.protocol.as_str(), "tcp" | "udp") && matches!(port.from.as_str(), "tenant" | "component");
        if !known || port.port == 0 {
            add(
                format!("/ports/{p}"),
                "needs a port from 1 up, protocol tcp or udp, and from tenant or component".into(),
            );
        }
    }
    if meta.validate_every_s == 0 {
        add("/validate_every_s".into(), "must be at least 1".into());
    }
    found
}

fn check_sizes(sizes: Sizes, pointer: &str, add: &mut impl FnMut(String, String)) {
    if !(sizes.min <= sizes.default && sizes.default <= sizes.max && sizes.max > 0) {
        add(
            pointer.into(),
            format!("needs min <= default <= max; it has {}, {}, {}", sizes.min, sizes.default, sizes.max),
        );
    } else if sizes.odd && sizes.default.is_multiple_of(2) {
        add(format!("{pointer}/default"), format!("{} is even, but only odd sizes are allowed", sizes.default));
    }
}
