//! From what a person names to a commit: branch, tag or commit.
//!
//! | text | means |
//! |---|---|
//! | `master`, `demo@az1` | the newest commit of that branch |
//! | `demo@az1&v1` | the commit that the branch's tag marks |
//! | `user&demo@az1&v1` | the same, with the role in front as git has it |
//! | 40 hex digits | that commit |
//!
//! Nothing else: no `~1`, no `HEAD`, no short hashes. Looked up by name, so the cost does not grow
//! with the number of branches and tags.

use crate::config::ConfigRepo;
use crate::error::{Doing, Error, Result};
use crate::refs::{self, CommitId};
use crate::tags::{ROLES, tag_ref};

impl ConfigRepo {
    /// The commit that a ref stands for. One that is not here is looked for upstream, if there is one:
    /// another controller may have answered with it just before.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; [`Error::Invalid`] for what cannot be a ref.
    pub fn resolve(&self, reference: &str) -> Result<CommitId> {
        match self.resolve_here(reference) {
            Err(Error::NotFound { .. }) if self.bare.look_for_missing() => self.resolve_here(reference),
            other => other,
        }
    }

    fn resolve_here(&self, reference: &str) -> Result<CommitId> {
        let parts: Vec<&str> = reference.split('&').collect();
        match parts.as_slice() {
            [commit] if commit.len() == 40 && !commit.contains('@') => {
                let commit = CommitId::parse(commit)?;
                let oid = commit.oid()?;
                let there = self.bare.with(|repo| Ok(repo.find_commit(oid).is_ok()))?;
                if there { Ok(commit) } else { Err(Error::not_found(format!("commit {commit}"), "see a branch's log")) }
            }
            [branch] => self.must_have(branch),
            [branch, tag] => {
                for role in ROLES {
                    if let Some(commit) = self.tagged(&tag_ref(role, branch, tag)?)? {
                        return Ok(commit);
                    }
                }
                Err(Error::not_found(format!("tag {tag} of branch {branch}"), "list the branch's tags"))
            }
            [role, branch, tag] => self
                .tagged(&tag_ref(role, branch, tag)?)?
                .ok_or_else(|| Error::not_found(format!("tag {tag} of branch {branch}"), "list the branch's tags")),
            _ => Err(Error::invalid(
                "ref",
                format!("{:?} is not a branch, {{branch}}&{{tag}} or a commit", refs::shown(reference)),
            )),
        }
    }

    /// Whether a commit is the newest of a branch or one before it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a branch that is not there.
    pub fn on_branch(&self, branch: &str, commit: &CommitId) -> Result<bool> {
        let head = self.must_have(branch)?;
        self.leads_to(&head, commit)
    }

    /// Whether `commit` is `newer` or one before it.
    ///
    /// # Errors
    /// Git's own.
    pub fn leads_to(&self, newer: &CommitId, commit: &CommitId) -> Result<bool> {
        let (newer, commit) = (newer.oid()?, commit.oid()?);
        self.bare.with(|repo| refs::reaches(repo, newer, commit))
    }

    /// The newest commit of a branch that has to be there.
    pub(crate) fn must_have(&self, branch: &str) -> Result<CommitId> {
        self.branch(branch)?.ok_or_else(|| {
            Error::not_found(
                format!("branch {}", refs::shown(branch)),
                "check the name; a topology's branch is called name@zone and lives as long as the topology",
            )
        })
    }

    fn tagged(&self, name: &str) -> Result<Option<CommitId>> {
        self.bare.with(|repo| {
            let Some(id) = refs::target(repo, name)? else { return Ok(None) };
            let object = repo.find_object(id, None).doing(|| format!("reading {name}"))?;
            Ok(object.peel_to_commit().ok().map(|commit| commit.id().into()))
        })
    }
}
