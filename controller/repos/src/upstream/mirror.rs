//! The mirror: what upstream has is taken, by these rules.
//!
//! | upstream's ref            | master          | any other branch                            | tag     |
//! |---------------------------|-----------------|---------------------------------------------|---------|
//! | went on                   | taken           | taken                                       | taken   |
//! | was rewritten, or is gone | refused, told   | followed; what was here stays in `refs/kept/` | followed |
//! | has what may not come in  | refused, told   | refused, told                               | refused, told |
//!
//! `master` never loses a commit. A topology's branch goes with its topology, and may be made anew, by
//! another controller; nodes hold commits by their hash, and those stay readable. An upstream without
//! `master` is broken or another one: nothing at all is taken from it.
//!
//! All under the turn to write: what upstream was seen to have cannot be older than what is written here.

use super::command::run;
use super::remote::{Refs, is_ours};
use super::{Move, Refused, Upstream};
use crate::bare::Bare;
use crate::cache::locked;
use crate::error::{Doing, Error, Result};
use crate::refs::{self, MASTER};
use crate::secret;
use git2::{ObjectType, Oid, Repository};
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

/// Looks at an upstream whose refs move while it is looked at.
const LOOKS_MAX: u32 = 4;
/// What is missed is looked for so often at most: anybody may ask for what is nowhere.
const MISSED_AGAIN: Duration = Duration::from_secs(1);
/// Packs beyond which they are put together: each look that brought something is one.
const PACKS_MAX: usize = 50;
/// More refs than these are moved together: each one's own file costs a sync of the disk.
const MOVED_ONE_BY_ONE: usize = 200;
/// Moved refs that are logged one by one.
const TOLD_MAX: usize = 20;

/// The refs that a question is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'n> {
    /// A branch.
    Branch(&'n str),
    /// A branch and its tags.
    Tagged(&'n str),
    /// All there are.
    All,
}

/// What came from upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Refs of the mirror that moved, by full name.
    pub moved: Vec<String>,
}

impl Taken {
    /// Whether `master` moved.
    #[must_use]
    pub fn master(&self) -> bool {
        self.moved.iter().any(|name| *name == master())
    }

    /// The branches that moved, or are gone.
    pub fn branches(&self) -> impl Iterator<Item = &str> {
        self.moved.iter().filter_map(|name| name.strip_prefix("refs/heads/"))
    }
}

pub(super) fn master() -> String {
    format!("refs/heads/{MASTER}")
}

impl Scope<'_> {
    pub(super) fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Branch(_) => &["--heads"],
            Self::Tagged(_) | Self::All => &["--heads", "--tags"],
        }
    }

    fn has(self, name: &str) -> bool {
        let branch = |branch: &str| name.strip_prefix("refs/heads/") == Some(branch);
        match self {
            Self::All => true,
            Self::Branch(of) => branch(of),
            Self::Tagged(of) => {
                let tag = |tag: &str| tag.split('&').nth(1) == Some(of);
                branch(of) || name.strip_prefix("refs/tags/").is_some_and(tag)
            }
        }
    }
}

impl Bare {
    /// Looks at upstream, and takes what is new. The answer has what others took since the last call, too.
    pub(crate) fn poll(&self) -> Result<Taken> {
        let Some(upstream) = self.upstream() else { return Ok(Taken::default()) };
        self.look_for_news(upstream)?;
        let news = std::mem::take(&mut locked(&upstream.standing).news);
        Ok(Taken { moved: news.into_iter().collect() })
    }

    /// Looks at upstream for what somebody asked for and is not here: another controller may have
    /// answered him before. Whether it was looked; then it may be here, also where the look itself brought nothing:
    /// somebody else may have taken it in between.
    pub(crate) fn look_for_missing(&self) -> bool {
        let Some(upstream) = self.upstream() else { return false };
        {
            let mut standing = locked(&upstream.standing);
            let just_now = standing.missed.is_some_and(|at| at.elapsed() < MISSED_AGAIN);
            if standing.away.is_some() || just_now {
                return false;
            }
            standing.missed = Some(Instant::now());
        }
        self.look_for_news(upstream).is_ok()
    }

    fn look_for_news(&self, upstream: &Upstream) -> Result<()> {
        // without the turn: nobody waits for a look that finds nothing
        let theirs = upstream.listed(Scope::All.kinds())?;
        {
            let mut standing = locked(&upstream.standing);
            if standing.refs.as_ref() == Some(&theirs) {
                standing.seen = Some(Instant::now());
                return Ok(());
            }
        }
        let _turn = self.turn()?;
        self.look(upstream, Scope::All)?;
        self.repack(upstream)
    }

    /// Puts many packs together; drops nothing, since nodes may hold commits that no ref has any more.
    /// Who reads meanwhile finds what he looks for in the new one. Whoever calls it has the turn.
    pub(super) fn repack(&self, upstream: &Upstream) -> Result<()> {
        let packs = fs::read_dir(self.dir().join("objects/pack")).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count()
        });
        if packs <= PACKS_MAX {
            return Ok(());
        }
        let ended = run(&upstream.spec, self.dir(), &["repack", "--geometric=2", "-d", "-q"], "")?;
        if !ended.fine {
            tracing::warn!(repo = upstream.name, packs, why = ended.words, "cannot put the packs together");
        }
        // those that are open hold on to files that are gone
        self.close();
        Ok(())
    }

    /// Takes what upstream has of these refs, so that what is written is on top of it. Whoever calls it
    /// has the turn. Nothing to do without an upstream.
    pub(crate) fn refresh(&self, scope: Scope<'_>) -> Result<()> {
        let refused = self.refresh_all_but_refused(scope)?;
        let (Some(upstream), Some((name, (commit, why)))) = (self.upstream(), refused.into_iter().next()) else {
            return Ok(());
        };
        let what = format!("{name} of upstream is at {commit}, which is not taken: {why}");
        Err(upstream.apart(what, "nothing was changed; mend it upstream, then try again"))
    }

    /// As [`Self::refresh`], for who minds no refused ref: those in scope, with the commit there and why.
    pub(crate) fn refresh_all_but_refused(&self, scope: Scope<'_>) -> Result<Refused> {
        let Some(upstream) = self.upstream() else { return Ok(Refused::new()) };
        upstream.hoped()?;
        self.look(upstream, scope)?;
        let mut refused = locked(&upstream.standing).refused.clone();
        refused.retain(|name, _| scope.has(name));
        Ok(refused)
    }

    fn look(&self, upstream: &Upstream, scope: Scope<'_>) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            let theirs = upstream.listed(scope.kinds())?;
            if self.take(upstream, &theirs, scope)?.is_some() {
                return Ok(());
            }
        }
        Err(Error::Conflict {
            what: format!("the refs of the upstream of the {} repo keep moving", upstream.name),
            next: "try again".into(),
        })
    }

    /// Makes the refs in scope what upstream has, by the rules above: whether any moved; `None` if they
    /// moved upstream meanwhile.
    pub(super) fn take(&self, upstream: &Upstream, theirs: &Refs, scope: Scope<'_>) -> Result<Option<bool>> {
        if !theirs.contains_key(&master()) {
            let text = "upstream has no branch master: it lost it, or is another repository; nothing is taken from it";
            upstream.refuse(&master(), "nothing".to_owned(), text.to_owned());
            return Err(upstream.apart(text.to_owned(), "nothing was changed; give upstream back what it had"));
        }
        self.with(|repo| {
            let ours = refs_of(repo, scope)?;
            let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).filter(|name| scope.has(name)).collect();
            let moving = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
            let moving: Vec<&String> = moving.collect();
            if !self.complete(repo, upstream, theirs, &moving)? {
                return Ok(None);
            }
            let mut moves = Vec::with_capacity(moving.len());
            for name in &moving {
                let (old, new) = (ours.get(*name).copied(), theirs.get(*name).copied());
                if let Some(why) = self.refusal(repo, upstream, name, old, new)? {
                    upstream.refuse(name, new.map_or_else(|| "nothing".to_owned(), |new| new.to_string()), why);
                    continue;
                }
                self.keep(repo, upstream, name, old, new)?;
                moves.push(Move { name: (*name).clone(), old, new });
            }
            if moves.len() > MOVED_ONE_BY_ONE {
                upstream.moved(&moves)?;
            } else {
                moves.iter().try_for_each(|m| refs::swap(repo, &m.name, m.old, m.new, "taken from upstream"))?;
            }
            let moved: BTreeSet<String> = moves.into_iter().map(|m| m.name).collect();
            for name in moved.iter().take(TOLD_MAX) {
                tracing::info!(repo = upstream.name, name, "taken from upstream");
            }
            let mut standing = locked(&upstream.standing);
            // what is as upstream has it, or is gone on both sides, is refused no more
            standing.refused.retain(|name, _| !scope.has(name) || moving.contains(&name) && !moved.contains(name));
            if matches!(scope, Scope::All) {
                standing.seen = Some(Instant::now());
                standing.refs = Some(theirs.clone());
            }
            let any = !moved.is_empty();
            standing.news.extend(moved);
            Ok(Some(any))
        })
    }

    /// Fetches what is not here; `false` if that is not to be had any more.
    pub(super) fn complete(
        &self,
        repo: &Repository,
        upstream: &Upstream,
        theirs: &Refs,
        names: &[&String],
    ) -> Result<bool> {
        let odb = repo.odb().doing(|| "opening the object store")?;
        let absent = |name: &&&String| theirs.get(**name).is_some_and(|oid| !odb.exists(*oid));
        let lacking: Vec<&str> = names.iter().filter(absent).map(|name| name.as_str()).collect();
        if lacking.is_empty() {
            return Ok(true);
        }
        upstream.fetched(&lacking)?;
        odb.refresh().doing(|| "looking for what was fetched")?;
        Ok(!names.iter().any(|name| absent(&name)))
    }

    /// Why upstream's ref is not taken.
    fn refusal(
        &self,
        repo: &Repository,
        upstream: &Upstream,
        name: &str,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<Option<String>> {
        let Some(new) = new else { return Ok(None) };
        if let Some(why) = upstream.unfit(repo, new)? {
            return Ok(Some(why));
        }
        match old {
            Some(old) if name == master() && !refs::reaches(repo, new, old)? => Ok(Some(format!(
                "it was rewritten: it lacks {old}, which is here. Push a merge of both, or {old} again; to give up \
                 what is only here, run `git update-ref {name} {new}` in the mirror of every controller"
            ))),
            old => in_plain(repo, old, new),
        }
    }

    /// Keeps what a branch pointed to where its commits are on no other.
    fn keep(
        &self,
        repo: &Repository,
        upstream: &Upstream,
        name: &str,
        old: Option<Oid>,
        new: Option<Oid>,
    ) -> Result<()> {
        let (Some(old), Some(branch)) = (old, name.strip_prefix("refs/heads/")) else { return Ok(()) };
        let head = refs::target(repo, &master())?;
        for tip in [new, head].into_iter().flatten() {
            if refs::reaches(repo, tip, old)? {
                return Ok(());
            }
        }
        let kept = format!("refs/kept/{branch}/{old}");
        if refs::target(repo, &kept)?.is_none() {
            refs::swap(repo, &kept, None, Some(old), "upstream has it no more")?;
        }
        let what = if new.is_some() { "rewritten" } else { "deleted" };
        tracing::warn!(repo = upstream.name, branch, kept, "a branch was {what} upstream; what was here is kept");
        Ok(())
    }
}

/// Why a commit may not come in that has secrets in plain which what is here has not. Sealing them would be of no
/// use: upstream has them. The first time, all of upstream is taken as it is.
fn in_plain(repo: &Repository, old: Option<Oid>, new: Oid) -> Result<Option<String>> {
    let Some(old) = old.map_or_else(|| refs::target(repo, &master()), |old| Ok(Some(old)))? else { return Ok(None) };
    // tags may be of anything
    let Ok(commit) = repo.find_commit(new) else { return Ok(None) };
    let top = commit.tree().doing(|| format!("reading the tree of {new}"))?;
    let before = match repo.find_commit(old) {
        Ok(commit) => Some(commit.tree().doing(|| format!("reading the tree of {old}"))?),
        Err(_) => None,
    };
    secret::in_plain(repo, before.as_ref(), &top)
}

impl Upstream {
    /// Why what a ref points to may not come in.
    pub(super) fn unfit(&self, repo: &Repository, oid: Oid) -> Result<Option<String>> {
        let object = repo.find_object(oid, None).doing(|| format!("reading {oid} of upstream"))?;
        let Ok(commit) = object.peel(ObjectType::Commit) else { return Ok(Some("it is no commit".to_owned())) };
        match self.door.check(repo, commit.id()) {
            Err(error @ Error::Invalid { .. }) => Ok(Some(error.to_string().replace('\n', "; "))),
            other => other.map(|()| None),
        }
    }

    fn refuse(&self, name: &str, commit: String, why: String) {
        let mut standing = locked(&self.standing);
        let before = standing.refused.insert(name.to_owned(), (commit.clone(), why.clone()));
        if before.is_none_or(|(known, _)| known != commit) {
            tracing::error!(repo = self.name, name, commit, why, "what upstream has is not taken; the last good stays");
        }
    }
}

/// The refs in scope, of those that upstream could have.
pub(super) fn refs_of(repo: &Repository, scope: Scope<'_>) -> Result<Refs> {
    let mut found = Refs::new();
    if let Scope::Branch(branch) | Scope::Tagged(branch) = scope {
        let name = format!("refs/heads/{branch}");
        found.extend(refs::target(repo, &name)?.map(|oid| (name, oid)));
    }
    let globs: &[&str] = match scope {
        Scope::Branch(_) => &[],
        Scope::Tagged(_) => &["refs/tags/*"],
        Scope::All => &["refs/heads/*", "refs/tags/*"],
    };
    for glob in globs {
        let doing = || format!("listing {glob}");
        for reference in repo.references_glob(glob).doing(doing)? {
            let reference = reference.doing(doing)?;
            let (Ok(name), Some(oid)) = (reference.name(), reference.target()) else { continue };
            if is_ours(name) && scope.has(name) {
                found.insert(name.to_owned(), oid);
            }
        }
    }
    Ok(found)
}
