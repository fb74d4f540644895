//! What is written goes upstream before it is seen here.
//!
//! ```text
//!  pushed ──► Done      the refs here move: acknowledged
//!         ├─► Raced     nothing moved; what upstream has is taken, the caller decides: anew, or a conflict
//!         ├─► Refused   nothing moved; upstream's words are told
//!         └─► Unknown   looked up; if that cannot be, it is told so, and the next look has what there is
//! ```
//! Without an upstream refs move here alone. Never retries: what a change means on top of another one is
//! its caller's to know.

use super::remote::Pushed;
use super::{Move, Outage, Scope, Upstream, UpstreamView};
use crate::bare::Bare;
use crate::cache::locked;
use crate::error::{Error, Result};
use crate::refs;
use git2::Repository;

impl Bare {
    /// How the upstream is, if there is one.
    pub(crate) fn upstream_view(&self) -> Option<UpstreamView> {
        self.upstream().map(Upstream::view)
    }

    /// Refuses if it is known that nothing can be written now.
    pub(crate) fn reachable(&self) -> Result<()> {
        let Some(upstream) = self.upstream() else { return Ok(()) };
        match &locked(&upstream.standing).away {
            Some(away) => Err(upstream.absent(away, Outage::NothingSent)),
            None => Ok(()),
        }
    }

    /// Moves refs: upstream first, if there is one, then here. Whoever calls it has the turn.
    ///
    /// # Errors
    /// [`Error::Conflict`] if one is not where it has to be: what upstream has was taken then;
    /// [`Error::Away`], [`Error::Apart`] if upstream cannot or does not want to.
    pub(crate) fn publish(&self, repo: &Repository, moves: &[Move], why: &str) -> Result<()> {
        if let Some(upstream) = self.upstream()
            && !moves.is_empty()
        {
            self.push(upstream, moves)?;
        }
        // from here on it is upstream: if what follows fails, the next look makes up for it
        for m in moves {
            // what goes may have been elsewhere upstream than here
            let here = if m.new.is_none() { refs::target(repo, &m.name)? } else { m.old };
            refs::swap(repo, &m.name, here, m.new, why)?;
        }
        if let Some(upstream) = self.upstream() {
            let mut standing = locked(&upstream.standing);
            for Move { name, new, .. } in moves {
                standing.refused.remove(name);
                if let Some(refs) = &mut standing.refs {
                    match new {
                        Some(new) => refs.insert(name.clone(), *new),
                        None => refs.remove(name),
                    };
                }
            }
        }
        Ok(())
    }

    pub(super) fn push(&self, upstream: &Upstream, moves: &[Move]) -> Result<()> {
        match upstream.pushed(moves)? {
            Pushed::Done => Ok(()),
            Pushed::Raced(words) => {
                for m in moves.iter().filter_map(|m| m.name.strip_prefix("refs/heads/")) {
                    self.refresh(Scope::Branch(m))?;
                }
                Err(Error::Conflict {
                    what: format!("another writer was faster at the upstream of the {} repo: {words}", upstream.name),
                    next: "read the newer version, apply the change to it and try again".into(),
                })
            }
            Pushed::Refused(words) => {
                let next = "nothing was changed; let the user of this controller push there, or change what refuses it";
                Err(upstream.apart(format!("upstream refuses the push: {words}"), next))
            }
            // whether it arrived can be looked up, if anything can
            Pushed::Unknown(words) => match upstream.listed(Scope::All.kinds()) {
                Ok(theirs) if moves.iter().all(|m| theirs.get(&m.name).copied() == m.new) => Ok(()),
                _ => Err(upstream.failed(&words, Outage::Unknown)),
            },
        }
    }
}
