//! What looking at a topology and carrying out its plan ask of the repositories: a narrow door.
//!
//! Behind it are git repositories ([`GitBooks`]); whoever simulates the controller puts something
//! else there. Everything here may block; callers go through [`crate::engine::blocking`].
//!
//! Never here: what a plan makes of what it is told.

use crate::error::chain;
use crate::unsealed;
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_repos::{CommitId, ConfigRepo, Error, ScriptRepo};
use straas_schemas::command::CommandMeta;
use straas_schemas::config::Effective;
use straas_schemas::metadata::Catalog;
use straas_schemas::{Assignment, Digest, Stage};

/// What is asked of the repositories.
pub trait Books: Send + Sync {
    /// The component types of now.
    ///
    /// # Errors
    /// They cannot be read at all.
    fn catalog(&self) -> Result<Arc<Catalog>, Error>;
    /// How a version of a type is configured at a commit of a branch.
    ///
    /// # Errors
    /// Why that cannot be said, for people.
    fn config(&self, commit: &str, kind: &str, version: &str) -> Result<Arc<Effective>, String>;
    /// The first secret of a configuration that cannot be opened here, as `section.key`.
    fn locked(&self, config: &Effective) -> Option<String>;
    /// Digests of what the stages of a role are made of, at a commit of the scripts.
    ///
    /// # Errors
    /// Why that cannot be said, for people.
    fn stages(&self, commit: &str, kind: &str, role: &str, version: &str) -> Result<BTreeMap<Stage, Digest>, String>;
    /// What a guest command says of itself at a commit of the scripts, if that can be read.
    fn command(&self, commit: &str, command: &str) -> Option<CommandMeta>;
    /// What a node gets of an assignment, if secrets in it are to be opened.
    fn open(&self, assignment: &Assignment) -> Option<Assignment>;
    /// Whether a topology has its branch.
    ///
    /// # Errors
    /// The repository cannot be read.
    fn has_branch(&self, branch: &str) -> Result<bool, Error>;
    /// Makes a branch that begins at a commit; one that is there stays.
    ///
    /// # Errors
    /// The repository cannot be written.
    fn make_branch(&self, branch: &str, commit: &str) -> Result<(), Error>;
    /// Deletes a branch; without one there is nothing to do.
    ///
    /// # Errors
    /// The repository cannot be written, or its upstream does not answer.
    fn delete_branch(&self, branch: &str) -> Result<(), Error>;
}

/// Those that are git repositories.
pub struct GitBooks {
    configs: ConfigRepo,
    scripts: ScriptRepo,
}

impl GitBooks {
    /// Of these two.
    #[must_use]
    pub fn new(configs: ConfigRepo, scripts: ScriptRepo) -> Self {
        Self { configs, scripts }
    }
}

impl Books for GitBooks {
    fn catalog(&self) -> Result<Arc<Catalog>, Error> {
        Ok(self.configs.catalog_view()?.catalog)
    }

    fn config(&self, commit: &str, kind: &str, version: &str) -> Result<Arc<Effective>, String> {
        let commit = CommitId::parse(commit).map_err(|e| chain(&e))?;
        self.configs.effective(&commit, kind, version).map_err(|e| chain(&e))
    }

    fn locked(&self, config: &Effective) -> Option<String> {
        self.configs.vault().and_then(|vault| unsealed::locked(vault, config))
    }

    fn stages(&self, commit: &str, kind: &str, role: &str, version: &str) -> Result<BTreeMap<Stage, Digest>, String> {
        let commit = CommitId::parse(commit).map_err(|e| chain(&e))?;
        let missing = self.scripts.missing(&commit, kind, role, version).map_err(|e| chain(&e))?;
        if !missing.is_empty() {
            return Err(format!("the script repo lacks {}", missing.join(", ")));
        }
        Ok((*self.scripts.stage_digests(&commit, kind, role, version).map_err(|e| chain(&e))?).clone())
    }

    fn command(&self, commit: &str, command: &str) -> Option<CommandMeta> {
        let path = format!("guestcmds/{command}.json");
        let bytes = self.scripts.read(&CommitId::parse(commit).ok()?, &path).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    fn open(&self, assignment: &Assignment) -> Option<Assignment> {
        self.configs.vault().map(|vault| unsealed::for_node(vault, assignment))
    }

    fn has_branch(&self, branch: &str) -> Result<bool, Error> {
        Ok(self.configs.branch(branch)?.is_some())
    }

    fn make_branch(&self, branch: &str, commit: &str) -> Result<(), Error> {
        self.configs.create_branch_at(branch, &CommitId::parse(commit)?).map(drop)
    }

    fn delete_branch(&self, branch: &str) -> Result<(), Error> {
        // an upstream that hangs must not hold up all topologies
        self.configs.reachable()?;
        self.configs.delete_branch(branch)
    }
}
