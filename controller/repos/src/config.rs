//! The config repo: metadata and configuration files; one branch per topology.
//!
//! ```text
//!  master ──────●──────●──────●           metadata/ app/ service/ schema/
//!                \              \
//!  demo@az1       ●──●           big@az2  app/{type}/{version}/user.json is the tenant's
//! ```
//! Never lists branches: a topology's branch is looked up by name, everything else by commit.

use crate::bare::{Bare, Change, Entry, tree_of};
use crate::catalog::{CatalogCache, CatalogView};
use crate::effective::Effectives;
use crate::error::{Error, Result};
use crate::refs::{self, CommitId, check_path};
use crate::seed;
use crate::service::ServiceCache;
use crate::tags::TagIndex;
use crate::upstream::{Move, Scope, Taken, UpstreamSpec, UpstreamView};
use crate::vault::Vault;
use std::path::Path;
use std::sync::Arc;
use straas_schemas::config::Effective;
use straas_schemas::metadata::Catalog;

/// Handle to the config repo.
#[derive(Clone)]
pub struct ConfigRepo {
    pub(crate) bare: Bare,
    pub(crate) catalog: Arc<CatalogCache>,
    pub(crate) effectives: Arc<Effectives>,
    pub(crate) tags: Arc<TagIndex>,
    pub(crate) vault: Option<Arc<Vault>>,
    pub(crate) services: Arc<ServiceCache>,
    /// What the controller's own configuration sets of the service.
    pub(crate) own: Arc<Effective>,
}

impl ConfigRepo {
    /// Opens the bare repository at `dir`, making it from the built-in defaults if there is none.
    ///
    /// # Errors
    /// [`Error::Git`] or [`Error::Io`] if it is not a repository or cannot be made.
    pub fn open(dir: &Path) -> Result<Self> {
        let bare = seed::open_or_seed(dir, seed::configs, "Defaults of this version of StraaS\n")?;
        Ok(Self {
            bare,
            catalog: Arc::default(),
            effectives: Arc::new(Effectives::new()),
            tags: Arc::default(),
            vault: None,
            services: Arc::default(),
            own: Arc::default(),
        })
    }

    /// The same, with the key that secrets are sealed with before they are committed.
    #[must_use]
    pub fn with_vault(self, vault: Arc<Vault>) -> Self {
        Self { vault: Some(vault), ..self }
    }

    /// The same, as the mirror of an upstream git server: what is written has to be there first.
    ///
    /// # Errors
    /// [`Error::Away`] if it does not answer and never did; [`Error::Apart`] if both sides have what
    /// the other lacks, or upstream has what may not come in. Nothing is changed then.
    pub fn with_upstream(self, spec: UpstreamSpec) -> Result<Self> {
        self.bare.attach("config", spec)?;
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

    /// Takes what upstream has of one branch: another controller may have gone on.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub fn catch_up(&self, branch: &str) -> Result<()> {
        refs::branch_ref(branch)?;
        let _turn = self.bare.turn()?;
        self.bare.refresh(Scope::Branch(branch))
    }

    /// Refuses if it is known that nothing can be written now; asks nobody.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub fn reachable(&self) -> Result<()> {
        self.bare.reachable()
    }

    /// What seals and opens secrets, if there is a key.
    #[must_use]
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.as_deref()
    }

    /// The commit of `master`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if an operator removed it.
    pub fn head(&self) -> Result<CommitId> {
        self.bare.head()
    }

    /// The component types that `master` offers.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault if a file is broken; [`Self::catalog_view`] goes on with
    /// the newest good one.
    pub fn catalog(&self) -> Result<(CommitId, Arc<Catalog>)> {
        let view = self.catalog_view()?;
        if view.faults.is_empty() {
            Ok((view.commit, view.catalog))
        } else {
            Err(Error::Invalid { faults: view.faults })
        }
    }

    /// The newest good catalog, and what is wrong with `master` if that is not it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no catalog of the recent history is good.
    pub fn catalog_view(&self) -> Result<CatalogView> {
        let head = self.head()?;
        self.bare.with(|repo| self.catalog.view(repo, &self.effectives, &head))
    }

    /// Makes a topology's branch (`name@zone`) from `master`; one that exists stays as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for any other name.
    pub fn create_branch(&self, branch: &str) -> Result<CommitId> {
        let head = self.head()?;
        self.create_branch_at(branch, &head)
    }

    /// Makes a topology's branch from a commit of `master`: the one whose catalog
    /// ([`CatalogView::commit`]) the request was checked with. One that exists stays as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is no topology's, [`Error::NotFound`] for a commit that is
    /// not on `master`.
    pub fn create_branch_at(&self, branch: &str, start: &CommitId) -> Result<CommitId> {
        let name = refs::topology_ref(branch)?;
        let (head, start) = (self.head()?.oid()?, start.oid()?);
        let _turn = self.bare.turn()?;
        self.bare.refresh(Scope::Branch(branch))?;
        self.bare.with(|repo| {
            if let Some(there) = refs::target(repo, &name)? {
                return Ok(there.into());
            }
            if !refs::reaches(repo, head, start)? {
                return Err(Error::not_found(format!("commit {start} on master of the config repo"), "use its head"));
            }
            let made = Move { name: name.clone(), old: None, new: Some(start) };
            match self.bare.publish(repo, &[made], "branch: created with the topology") {
                Ok(()) => Ok(start.into()),
                // another controller, or a git command of somebody else, was faster
                Err(Error::Conflict { what, next }) => {
                    refs::target(repo, &name)?.map(CommitId::from).ok_or(Error::Conflict { what, next })
                }
                Err(other) => Err(other),
            }
        })
    }

    /// Deletes a topology's branch and its tags; one that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is no topology's; [`Error::Conflict`] if it keeps moving.
    pub fn delete_branch(&self, branch: &str) -> Result<()> {
        let name = refs::topology_ref(branch)?;
        let _turn = self.bare.turn()?;
        // what somebody pushed there that may not come in goes as well
        let refused = self.bare.refresh_all_but_refused(Scope::Tagged(branch))?;
        self.bare.with(|repo| {
            // the tags first: after a crash in between, the branch is still there and so is the way back here
            let mut names = self.tags.of(repo, branch)?;
            names.push(name);
            let mut moves = Vec::with_capacity(names.len());
            for name in names {
                let there = refused.get(&name).map(|(commit, _)| CommitId::parse(commit)?.oid()).transpose()?;
                let here = refs::target(repo, &name)?;
                if let Some(old) = there.or(here) {
                    moves.push(Move { name, old: Some(old), new: None });
                }
            }
            self.tags.forget();
            self.bare.publish(repo, &moves, "branch: deleted with the topology")
        })
    }

    /// The commit of a branch, a topology's or an operator's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be a branch.
    pub fn branch(&self, branch: &str) -> Result<Option<CommitId>> {
        self.bare.branch(branch)
    }

    /// A file of a commit, at most [`crate::FILE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown commit, [`Error::Invalid`] for a path that may not be
    /// used, is a folder or a link, or is too large.
    pub fn read(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>> {
        self.bare.read(commit, path)
    }

    /// The entries of a folder of a commit; `""` is the top.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn list(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<Entry>>> {
        self.bare.list(commit, path)
    }

    /// The effective configuration of a component version at a commit (of a topology's branch).
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of `default.json` or `user.json`.
    pub fn effective(&self, commit: &CommitId, kind: &str, version: &str) -> Result<Arc<Effective>> {
        let folder = format!("app/{kind}/{version}");
        check_path(&folder)?;
        self.bare.with(|repo| self.effectives.of(repo, &tree_of(repo, commit)?, &folder))
    }

    /// Writes one file on top of whatever the branch holds now.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub fn write(&self, branch: &str, path: &str, content: &[u8], message: &str, author: &str) -> Result<CommitId> {
        let change = Change::Put { path: path.to_owned(), content: content.to_vec(), executable: None };
        self.commit(branch, None, &[change], message, author)
    }

    /// Writes one file if the branch is still at `expect`.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not; otherwise as for [`Self::commit`].
    pub fn write_at(
        &self,
        branch: &str,
        expect: &CommitId,
        path: &str,
        content: &[u8],
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        let change = Change::Put { path: path.to_owned(), content: content.to_vec(), executable: None };
        self.commit(branch, Some(expect), &[change], message, author)
    }

    /// Adds one commit with all `changes` to a branch; changes that change nothing add none, and
    /// the head is returned. The author is `Name <mail>` or a name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a branch or a file to remove that is not there, [`Error::Conflict`]
    /// if the branch is not at `expect`, [`Error::Invalid`] for names, sizes or texts out of bounds;
    /// with an upstream also [`Error::Away`] and [`Error::Apart`].
    pub fn commit(
        &self,
        branch: &str,
        expect: Option<&CommitId>,
        changes: &[Change],
        message: &str,
        author: &str,
    ) -> Result<CommitId> {
        self.bare.commit(branch, expect, changes, message, author)
    }
}
