//! The repositories, without git: what a commit says follows from its name (`catalog.rs` of the planner's tests).

use crate::catalog;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use straas_controller::parts::Books;
use straas_repos::Error;
use straas_schemas::command::CommandMeta;
use straas_schemas::config::Effective;
use straas_schemas::metadata::{Catalog, ComponentMeta};
use straas_schemas::{Assignment, Digest, Stage};

/// Every component type that histories are about.
pub const KINDS: [&str; 7] =
    ["zookeeper", "zookeeper/enforce", "kafka", "kafka/install", "kafka/enforce", "storm", "storm/two"];

/// What is written down.
#[derive(Default)]
pub struct Shelf {
    branches: Mutex<BTreeSet<String>>,
}

impl Shelf {
    pub fn branches(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn types() -> &'static Arc<Catalog> {
    static TYPES: OnceLock<Arc<Catalog>> = OnceLock::new();
    let of = |kind: &str| catalog::target(kind, "1.0", "c0=1", "s0").known.expect("it is readable").meta;
    TYPES.get_or_init(|| Arc::new(KINDS.iter().map(|kind| ((*kind).to_owned(), of(kind))).collect()))
}

/// What is known of a type.
pub fn meta(kind: &str) -> &'static ComponentMeta {
    &types()[kind]
}

/// Something that was found out, by what it was asked with.
type Memory<T> = RefCell<BTreeMap<(String, String), T>>;

fn remembered<T: Clone>(memory: &Memory<T>, kind: &str, commit: &str, find: impl FnOnce() -> T) -> T {
    // what changes nothing of it is no part of its name
    memory.borrow_mut().entry((kind.to_owned(), commit.to_owned())).or_insert_with(find).clone()
}

impl Books for Shelf {
    fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        Ok(Arc::clone(types()))
    }

    fn config(&self, commit: &str, kind: &str, version: &str) -> Result<Arc<Effective>, String> {
        thread_local!(static KNOWN: Memory<Arc<Effective>> = RefCell::default());
        let value = commit.split_once('=').map_or(commit, |(_, value)| value);
        let find = || Arc::new(catalog::target(kind, version, commit, "s0").known.expect("readable").config);
        Ok(KNOWN.with(|known| remembered(known, kind, value, find)))
    }

    fn locked(&self, _: &Effective) -> Option<String> {
        None
    }

    fn stages(&self, commit: &str, kind: &str, role: &str, version: &str) -> Result<BTreeMap<Stage, Digest>, String> {
        thread_local!(static KNOWN: Memory<BTreeMap<String, BTreeMap<Stage, Digest>>> = RefCell::default());
        let changed = if commit.contains(':') { commit } else { "" };
        let find = || catalog::target(kind, version, "c0=1", commit).known.expect("readable").scripts;
        let scripts = KNOWN.with(|known| remembered(known, kind, changed, find));
        scripts.get(role).cloned().ok_or_else(|| format!("{kind} has no role {role}"))
    }

    fn command(&self, _: &str, _: &str) -> Option<CommandMeta> {
        None
    }

    fn open(&self, _: &Assignment) -> Option<Assignment> {
        None
    }

    fn has_branch(&self, branch: &str) -> Result<bool, Error> {
        Ok(self.branches().contains(branch))
    }

    fn make_branch(&self, branch: &str, _: &str) -> Result<(), Error> {
        self.branches().insert(branch.to_owned());
        Ok(())
    }

    fn delete_branch(&self, branch: &str) -> Result<(), Error> {
        self.branches().remove(branch);
        Ok(())
    }
}
