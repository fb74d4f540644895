//! The first start with an upstream, and each later one.
//!
//! ```text
//!  upstream is empty            what is here is pushed
//!  what is here is as it came   upstream is taken over
//!  each has all of the other's  each side gets what it lacks
//!  both have what the other     nothing is changed; the error says where they part
//!    lacks
//! ```
//! That they belong together is noted in the mirror's own git configuration, with the URL: from then on
//! upstream decides (`mirror.rs`), and a start without upstream goes on from the mirror.

use super::mirror::{Scope, master, refs_of};
use super::remote::Refs;
use super::spec::UpstreamSpec;
use super::{Move, Upstream};
use crate::bare::Bare;
use crate::cache::locked;
use crate::error::{Doing, Error, Result};
use crate::refs;
use crate::seed::SEED_TIME_S;
use git2::{ErrorCode, Repository};
use std::collections::BTreeSet;

/// Where the URL of the upstream is noted that a mirror belongs to.
const NOTED: &str = "straas.upstream";
/// Refs of one push: each takes some 200 bytes of a command line, which has 128 KiB at least.
const REFS_PER_PUSH: usize = 200;
/// Tries of a first start: another controller may be starting as well.
const TRIES_MAX: u32 = 4;
/// Refs told in an error.
const TOLD_MAX: usize = 5;

impl Bare {
    /// Gives the repository its upstream.
    ///
    /// # Errors
    /// [`Error::Away`] if it does not answer and never did; [`Error::Apart`] if both have what the other
    /// lacks, or upstream has what may not come in.
    pub(crate) fn attach(&self, name: &'static str, spec: UpstreamSpec) -> Result<()> {
        let url = spec.url.clone();
        let upstream = Upstream::new(name, spec, self.dir().to_owned());
        let _turn = self.turn()?;
        self.repack(&upstream)?;
        let noted = self.with(noted)?;
        if noted.as_deref() == Some(url.as_str()) {
            let looked =
                upstream.listed(&["--heads", "--tags"]).and_then(|theirs| self.take(&upstream, &theirs, Scope::All));
            match looked {
                Ok(_) => {}
                Err(error @ (Error::Away { .. } | Error::Apart { .. })) => {
                    tracing::warn!(repo = name, %error, "starting from the mirror as it is");
                }
                Err(other) => return Err(other),
            }
        } else {
            let mut tries = 1;
            while let Err(error) = self.join(&upstream) {
                if !matches!(error, Error::Conflict { .. }) || tries >= TRIES_MAX {
                    return Err(error);
                }
                tries += 1;
            }
            self.with(|repo| {
                let doing = || "noting the upstream";
                repo.config().and_then(|mut config| config.set_str(NOTED, &url)).doing(doing)
            })?;
            tracing::info!(repo = name, url, "the repository has an upstream now");
        }
        // whoever opens a repository reads all of it anew
        locked(&upstream.standing).news.clear();
        self.set_upstream(upstream);
        Ok(())
    }

    fn join(&self, upstream: &Upstream) -> Result<()> {
        let mut theirs = upstream.listed(&["--heads", "--tags"])?;
        self.with(|repo| {
            let ours = refs_of(repo, Scope::All)?;
            if !theirs.is_empty() && !theirs.contains_key(&master()) {
                let next = "name it so there, or give an empty repository";
                return Err(upstream.apart(format!("{} has no branch master", upstream.spec.url), next));
            }
            if !self.complete(repo, upstream, &theirs, &theirs.keys().collect::<Vec<_>>())? {
                return Err(Error::Conflict { what: "upstream moves".into(), next: "try again".into() });
            }
            if let Some(head) = theirs.get(&master())
                && let Some(why) = upstream.unfit(repo, *head)?
            {
                let what = format!("master of {} at {head} may not come in: {why}", upstream.spec.url);
                return Err(upstream.apart(what, "mend it there; nothing was changed"));
            }
            let untouched = untouched(repo, &ours)?;
            let (pushes, apart) = compared(repo, &ours, &theirs, untouched)?;
            if !apart.is_empty() {
                let what = format!(
                    "what is in {} and what {} has went different ways: {}",
                    self.dir().display(),
                    upstream.spec.url,
                    apart.join("; ")
                );
                return Err(upstream.apart(
                    what,
                    "nothing was changed; push what is here to another branch there and merge it, or give an empty \
                     repository, or move this folder away to take over what upstream has",
                ));
            }
            for some in pushes.chunks(REFS_PER_PUSH) {
                self.push(upstream, some)?;
                theirs.extend(some.iter().filter_map(|m| Some((m.name.clone(), m.new?))));
            }
            if let (true, Some(old), Some(new)) = (untouched, ours.get(&master()), theirs.get(&master()))
                && !refs::reaches(repo, *new, *old)?
            {
                // nodes may run what we began with
                let kept = format!("refs/kept/master/{old}");
                if refs::target(repo, &kept)?.is_none() {
                    refs::swap(repo, &kept, None, Some(*old), "what this controller began with")?;
                }
                refs::swap(repo, &master(), Some(*old), Some(*new), "taken over from upstream")?;
            }
            Ok(())
        })?;
        match self.take(upstream, &theirs, Scope::All)? {
            Some(_) => Ok(()),
            None => Err(Error::Conflict { what: "upstream moves".into(), next: "try again".into() }),
        }
    }
}

/// What has to be pushed, and where the two sides part.
fn compared(repo: &Repository, ours: &Refs, theirs: &Refs, untouched: bool) -> Result<(Vec<Move>, Vec<String>)> {
    let (mut pushes, mut apart) = (Vec::new(), Vec::new());
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let (old, new) = (theirs.get(name).copied(), ours.get(name).copied());
        let (Some(here), true) = (new, old != new) else { continue };
        let Some(there) = old else {
            pushes.push(Move { name: name.clone(), old, new });
            continue;
        };
        let branch = name.starts_with("refs/heads/");
        if branch && (refs::reaches(repo, there, here)? || untouched) {
            continue;
        }
        if branch && refs::reaches(repo, here, there)? {
            pushes.push(Move { name: name.clone(), old, new });
        } else if apart.len() < TOLD_MAX {
            apart.push(format!("{name} is at {here} here and at {there} there"));
        }
    }
    // an untouched repository gives its seed to an empty upstream only
    if untouched && !theirs.is_empty() {
        pushes.clear();
    }
    Ok((pushes, apart))
}

/// Whether nobody ever wrote here: there is what the controller began with, and nothing else.
fn untouched(repo: &Repository, ours: &Refs) -> Result<bool> {
    let (1, Some(head)) = (ours.len(), ours.get(&master())) else { return Ok(false) };
    let commit = repo.find_commit(*head).doing(|| format!("reading commit {head}"))?;
    Ok(commit.parent_count() == 0 && commit.time().seconds() == SEED_TIME_S)
}

fn noted(repo: &Repository) -> Result<Option<String>> {
    match repo.config().and_then(|config| config.get_string(NOTED)) {
        Ok(url) => Ok(Some(url)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(source) => Err(Error::Git { doing: format!("reading {NOTED}"), source }),
    }
}
