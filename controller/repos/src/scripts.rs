//! The script repo: what runs on nodes, and which stage depends on which of its files.
//!
//! ```text
//!  install     install.sh (or apt)   cmd/lib
//!  pre_config  pre_config/{role}     pre_config/lib
//!  config      runpuppet.sh          cmd/lib  puppet/modules/{straas,kind,role, theirs}
//!  validate    validate.sh           cmd/lib
//! ```
//! A `.sh` is the first of `cmd/{role}/{version}/`, `cmd/{role}/default/` and `cmd/default/` that there is.
//! A stage's digest is made of git object ids, which cover content, names and modes: a commit that
//! changes one module changes `config` of that component and nothing else. Never looks at facts,
//! contexts or configurations; those are the planner's inputs.

use crate::bare::{Bare, Change, EXECUTABLE, Entry, entry_in, folder_in, read_in, tree_of};
use crate::cache::Bounded;
use crate::error::{Error, Result};
use crate::import;
use crate::refs::{CommitId, MASTER, segment_fault};
use crate::seed;
use crate::upstream::{Taken, UpstreamSpec, UpstreamView};
use git2::{ObjectType, Repository, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use straas_schemas::{Digest, Stage};

/// Digests kept: (commit, kind, role, version) of every version in use, for some commits.
const DIGESTS_MAX: usize = 1024;
/// Most modules that one component's module may need, directly or not.
const MODULES_MAX: usize = 64;
/// The Puppet module that every component's may use without naming it, as `cmd/lib` is for scripts.
const SHARED_MODULE: &str = "straas";

type Key = (CommitId, [String; 3]);

/// Handle to the script repo.
#[derive(Clone)]
pub struct ScriptRepo {
    bare: Bare,
    digests: Arc<Bounded<Key, Arc<BTreeMap<Stage, Digest>>>>,
}

impl ScriptRepo {
    /// Opens the bare repository at `dir`, making it from the built-in payload if there is none.
    ///
    /// # Errors
    /// [`Error::Git`] or [`Error::Io`] if it is not a repository or cannot be made.
    pub fn open(dir: &Path) -> Result<Self> {
        let bare = seed::open_or_seed(dir, seed::scripts, "Scripts of this version of StraaS\n")?;
        Ok(Self { bare, digests: Arc::new(Bounded::new(DIGESTS_MAX)) })
    }

    /// The same, as the mirror of an upstream git server.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::with_upstream`].
    pub fn with_upstream(self, spec: UpstreamSpec) -> Result<Self> {
        self.bare.attach("script", spec)?;
        Ok(self)
    }

    /// How the upstream is, if there is one.
    #[must_use]
    pub fn upstream(&self) -> Option<UpstreamView> {
        self.bare.upstream_view()
    }

    /// Looks at upstream, and takes what others pushed there.
    ///
    /// # Errors
    /// [`Error::Away`] if it does not answer.
    pub fn poll(&self) -> Result<Taken> {
        self.bare.poll()
    }

    pub(crate) fn bare(&self) -> &Bare {
        &self.bare
    }

    /// The commit of `master`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if an operator removed it.
    pub fn head(&self) -> Result<CommitId> {
        self.bare.head()
    }

    /// The digest of the files that each stage of a role depends on.
    ///
    /// Files that are absent count as such, so a role without scripts has digests too; whether it
    /// can run is [`Self::missing`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown commit, [`Error::Invalid`] for a name that cannot be part
    /// of a path.
    pub fn stage_digests(
        &self,
        commit: &CommitId,
        kind: &str,
        script_role: &str,
        version: &str,
    ) -> Result<Arc<BTreeMap<Stage, Digest>>> {
        let names = names(kind, script_role, version)?;
        let key = (commit.clone(), names);
        if let Some(known) = self.digests.get(&key) {
            return Ok(known);
        }
        let digests = self.bare.with(|repo| {
            let scripts = Scripts { repo, top: tree_of(repo, commit)?, kind, role: script_role, version };
            Stage::ALL.into_iter().map(|stage| Ok((stage, scripts.digest(stage)?))).collect::<Result<BTreeMap<_, _>>>()
        })?;
        let digests = Arc::new(digests);
        self.digests.insert(key, Arc::clone(&digests));
        Ok(digests)
    }

    /// Required files of a role that a commit lacks or that cannot be run, in words.
    ///
    /// # Errors
    /// As for [`Self::stage_digests`].
    pub fn missing(&self, commit: &CommitId, kind: &str, script_role: &str, version: &str) -> Result<Vec<String>> {
        names(kind, script_role, version)?;
        self.bare.with(|repo| Scripts { repo, top: tree_of(repo, commit)?, kind, role: script_role, version }.missing())
    }

    /// A file of a commit, at most [`crate::FILE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::read`].
    pub fn read(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>> {
        self.bare.read(commit, path)
    }

    /// The entries of a folder of a commit; `""` is the top.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::read`].
    pub fn list(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<Entry>>> {
        self.bare.list(commit, path)
    }

    /// Refuses a commit that is neither here nor upstream.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn must_have(&self, commit: &CommitId) -> Result<()> {
        match self.list(commit, "") {
            Err(Error::NotFound { .. }) if self.bare.look_for_missing() => self.list(commit, "").map(drop),
            other => other.map(drop),
        }
    }

    /// Writes one file on top of whatever `master` holds now.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::commit`].
    pub fn write(&self, path: &str, content: &[u8], message: &str, author: &str) -> Result<CommitId> {
        let change = Change::Put { path: path.to_owned(), content: content.to_vec(), executable: None };
        self.commit(None, &[change], message, author)
    }

    /// Writes one file if `master` is still at `expect`.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::write_at`].
    pub fn write_at(
        &self,
        expect: &CommitId,
        path: &str,
        content: &[u8],
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        let change = Change::Put { path: path.to_owned(), content: content.to_vec(), executable: None };
        self.commit(Some(expect), &[change], message, author)
    }

    /// Adds one commit with all `changes` to `master`.
    ///
    /// # Errors
    /// As for [`crate::ConfigRepo::commit`].
    pub fn commit(
        &self,
        expect: Option<&CommitId>,
        changes: &[Change],
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        self.bare.commit(MASTER, expect, changes, message, author)
    }

    /// Makes the content of `master` exactly that of the folder `dir`, in one commit.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it holds links, devices, names that may not be used, or too much;
    /// nothing is changed then.
    pub fn import(&self, dir: &Path, message: &str, author: &str) -> Result<CommitId> {
        let files = import::files_of(dir)?;
        self.bare.commit_with(MASTER, None, message, author, |repo, _| import::tree_of_files(repo, &files))
    }
}

fn names(kind: &str, role: &str, version: &str) -> Result<[String; 3]> {
    for (what, name) in [("type", kind), ("role", role), ("version", version)] {
        if let Some(why) = segment_fault(name) {
            return Err(Error::invalid(what, format!("{:?}: {why}", crate::refs::shown(name))));
        }
    }
    Ok([kind.to_owned(), role.to_owned(), version.to_owned()])
}

/// The scripts of one role at one version of one commit.
struct Scripts<'r> {
    repo: &'r Repository,
    top: Tree<'r>,
    kind: &'r str,
    role: &'r str,
    version: &'r str,
}

impl Scripts<'_> {
    fn digest(&self, stage: Stage) -> Result<Digest> {
        let mut parts = vec![stage.name().to_owned()];
        match stage {
            Stage::Install => {
                parts.push(self.object("install.sh", self.verb("install.sh")?.as_deref())?);
                parts.push(self.object("cmd/lib", Some("cmd/lib"))?);
            }
            Stage::PreConfig => {
                let script = format!("pre_config/{}", self.role);
                parts.push(self.object("pre_config", Some(&script))?);
                parts.push(self.object("pre_config/lib", Some("pre_config/lib"))?);
            }
            Stage::Config => {
                parts.push(self.object("runpuppet.sh", self.verb("runpuppet.sh")?.as_deref())?);
                parts.push(self.object("cmd/lib", Some("cmd/lib"))?);
                for module in self.modules()? {
                    parts.push(self.object(&module, Some(&format!("puppet/modules/{module}")))?);
                }
            }
            Stage::Validate => {
                parts.push(self.object("validate.sh", self.verb("validate.sh")?.as_deref())?);
                parts.push(self.object("cmd/lib", Some("cmd/lib"))?);
            }
        }
        Ok(Digest::of(&parts))
    }

    /// What stands at a path: its part in the digest. The path itself has none, so that a version's
    /// own copy of a default script, byte for byte the same, is the same.
    fn object(&self, label: &str, path: Option<&str>) -> Result<String> {
        let entry = match path {
            Some(path) => entry_in(&self.top, path)?,
            None => None,
        };
        Ok(entry.map_or_else(
            || format!("{label} absent"),
            |entry| format!("{label} {:o} {}", entry.filemode(), entry.id()),
        ))
    }

    /// The path of a script: the version's own, else the role's default, else everybody's.
    fn verb(&self, file: &str) -> Result<Option<String>> {
        let role = self.role;
        let folders = [format!("cmd/{role}/{}", self.version), format!("cmd/{role}/default"), "cmd/default".to_owned()];
        for folder in folders {
            let path = format!("{folder}/{file}");
            if entry_in(&self.top, &path)?.is_some() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The Puppet modules of this role: the type's, the role's, everybody's, and those that their
    /// `metadata.json` names, as far as they are in the repository.
    fn modules(&self) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.kind.to_owned(), self.role.to_owned(), SHARED_MODULE.to_owned()];
        while let Some(module) = open.pop() {
            if segment_fault(&module).is_some() || found.contains(&module) || found.len() >= MODULES_MAX {
                continue;
            }
            if let Some(folder) = folder_in(self.repo, &self.top, &format!("puppet/modules/{module}"))? {
                if let Some(bytes) = read_in(self.repo, &folder, "metadata.json")? {
                    open.extend(dependencies(&bytes));
                }
                found.insert(module);
            }
        }
        Ok(found)
    }

    fn missing(&self) -> Result<Vec<String>> {
        let script = format!("pre_config/{}", self.role);
        let mut required = vec![(script.clone(), Some(script))];
        for file in ["runpuppet.sh", "validate.sh"] {
            required.push((format!("cmd/{}/default/{file}", self.role), self.verb(file)?));
        }
        let mut absent = Vec::new();
        for (usual, path) in required {
            let entry = match &path {
                Some(path) => entry_in(&self.top, path)?,
                None => None,
            };
            let shown = path.unwrap_or(usual);
            match entry {
                None => absent.push(shown),
                Some(entry) if entry.kind() != Some(ObjectType::Blob) => absent.push(format!("{shown} (not a file)")),
                Some(entry) if entry.filemode() != EXECUTABLE => {
                    absent.push(format!("{shown} (not executable; git update-index --chmod=+x)"));
                }
                Some(_) => {}
            }
        }
        Ok(absent)
    }
}

/// Names of the modules that a module's `metadata.json` depends on; `author-name` or `author/name`.
/// A file that cannot be read names none: Puppet itself will say what is wrong with it.
fn dependencies(bytes: &[u8]) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let Some(list) = document.get("dependencies").and_then(|list| list.as_array()) else { return Vec::new() };
    list.iter()
        .filter_map(|dependency| dependency.get("name")?.as_str())
        .filter_map(|name| name.split_once(['/', '-']).map(|(_, module)| module.to_owned()))
        .collect()
}
