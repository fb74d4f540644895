//! Tags of branches, without listing all tags at every call.
//!
//! Tags are called `{role}&{branch}&{tag}` (2017 design, 4.2.1): one is found by its name, but those
//! of one branch only by looking at all. The listing is kept and used for as long as the folder of
//! tags and the packed refs are as they were. Times of files are coarse: a listing made while they
//! were fresh is used once and not kept.

use crate::bare::{check_message, signature};
use crate::cache::locked;
use crate::config::ConfigRepo;
use crate::error::{Doing, Error, Result};
use crate::refs::{self, CommitId};
use crate::upstream::{Move, Scope};
use git2::{ObjectType, Oid, Repository};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use straas_schemas::configuration::TagView;

/// Two changes closer than this may leave the same time on a file; kernels tick every 1 to 10 ms.
const TICK: Duration = Duration::from_millis(100);
/// Most tags of one branch: each is read when they are listed.
pub(crate) const TAGS_MAX: usize = 1_000;
/// Who tags may belong to.
pub(crate) const ROLES: [&str; 2] = ["user", "admin"];

/// Which tags of a branch are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagFilter<'a> {
    /// Only those of `user` or `admin`.
    pub role: Option<&'a str>,
    /// Only those whose name begins so.
    pub prefix: &'a str,
}

/// The tags by branch, as of the last look.
#[derive(Default)]
pub(crate) struct TagIndex(Mutex<Option<(Stamp, ByBranch)>>);

type ByBranch = BTreeMap<String, Vec<String>>;
/// Inode, length and time of the tags' folder and of the packed refs.
type Stamp = [Option<(u64, u64, SystemTime)>; 2];

impl TagIndex {
    /// The full names of a branch's tags.
    pub(crate) fn of(&self, repo: &Repository, branch: &str) -> Result<Vec<String>> {
        let mut known = locked(&self.0);
        let stamp = stamp(repo.path());
        if known.as_ref().is_none_or(|(then, _)| *then != stamp) {
            *known = Some((stamp, list(repo)?));
        }
        let names = known.as_ref().and_then(|(_, tags)| tags.get(branch)).cloned().unwrap_or_default();
        if stamp.iter().flatten().any(|(_, _, time)| time.elapsed().is_ok_and(|age| age < TICK)) {
            *known = None;
        }
        Ok(names)
    }

    /// Has the tags listed anew.
    pub(crate) fn forget(&self) {
        *locked(&self.0) = None;
    }
}

fn stamp(git_dir: &Path) -> Stamp {
    ["refs/tags", "packed-refs"].map(|name| {
        let meta = fs::metadata(git_dir.join(name)).ok()?;
        Some((meta.ino(), meta.len(), meta.modified().ok()?))
    })
}

fn list(repo: &Repository) -> Result<ByBranch> {
    let doing = || "listing the tags of the config repo";
    let mut tags = ByBranch::new();
    let mut found = repo.references_glob("refs/tags/*").doing(doing)?;
    for name in found.names() {
        let name = name.doing(doing)?;
        let mut parts = name.trim_start_matches("refs/tags/").splitn(3, '&');
        if let (Some("user" | "admin"), Some(branch), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            tags.entry(branch.to_owned()).or_default().push(name.to_owned());
        }
    }
    Ok(tags)
}

/// The ref of a tag.
pub(crate) fn tag_ref(role: &str, branch: &str, tag: &str) -> Result<String> {
    refs::branch_ref(branch)?;
    if !ROLES.contains(&role) {
        return Err(Error::invalid("tag", "belongs to user or admin, nobody else"));
    }
    if let Some(why) = refs::tag_fault(tag) {
        return Err(Error::invalid("tag", why));
    }
    Ok(format!("refs/tags/{role}&{branch}&{tag}"))
}

/// What a tag says, from its full name.
fn picture(repo: &Repository, name: &str) -> Result<Option<TagView>> {
    let doing = || format!("reading {name}");
    let Some(id) = refs::target(repo, name)? else { return Ok(None) };
    let object = repo.find_object(id, None).doing(doing)?;
    let Ok(commit) = object.peel_to_commit() else { return Ok(None) };
    let mut parts = name.trim_start_matches("refs/tags/").splitn(3, '&').map(str::to_owned);
    let (Some(role), Some(branch), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return Ok(None) };
    let annotated = object.as_tag();
    let who = annotated.and_then(git2::Tag::tagger);
    let who = who.unwrap_or_else(|| commit.author().to_owned());
    Ok(Some(TagView {
        reference: format!("{branch}&{tag}"),
        commit: commit.id().to_string(),
        message: annotated.and_then(|tag| tag.message().ok()?).unwrap_or_default().trim_end().to_owned(),
        author: String::from_utf8_lossy(who.name_bytes()).into_owned(),
        at_ms: who.when().seconds().saturating_mul(1000),
        tag,
        branch,
        role,
    }))
}

impl ConfigRepo {
    /// The tags of a branch, by name, at most `limit` after `after`; whether there are more.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a branch that is not there.
    pub fn tags(
        &self,
        branch: &str,
        only: TagFilter<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<TagView>, bool)> {
        self.must_have(branch)?;
        self.bare.with(|repo| {
            let mut names = self.tags.of(repo, branch)?;
            let short = |name: &String| name.rsplit('&').next().unwrap_or_default().to_owned();
            let top = only.role.map(|role| format!("refs/tags/{role}&"));
            names.sort_by_key(short);
            names.retain(|name| {
                let tag = short(name);
                after.is_none_or(|after| tag.as_str() > after)
                    && tag.starts_with(only.prefix)
                    && top.as_ref().is_none_or(|top| name.starts_with(top.as_str()))
            });
            let more = names.len() > limit;
            let mut tags = Vec::with_capacity(names.len().min(limit));
            for name in names.iter().take(limit) {
                tags.extend(picture(repo, name)?);
            }
            Ok((tags, more))
        })
    }

    /// Marks a commit of a branch, its newest if none is named.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is such a tag; [`Error::NotFound`] for a branch that is not
    /// there, or a commit that is not on it; [`Error::Invalid`] for a name, a message or too many.
    pub fn create_tag(
        &self,
        role: &str,
        branch: &str,
        tag: &str,
        commit: Option<&CommitId>,
        message: &str,
        author: &str,
    ) -> Result<TagView> {
        let name = tag_ref(role, branch, tag)?;
        let author = signature(author)?;
        check_message(message)?;
        // a branch and its tags go together: nobody deletes it meanwhile
        let _turn = self.bare.turn()?;
        self.bare.refresh(Scope::Tagged(branch))?;
        let head = self.must_have(branch)?;
        if let Some(commit) = commit
            && !self.on_branch(branch, commit)?
        {
            return Err(Error::not_found(format!("commit {commit} on branch {branch}"), "see its log"));
        }
        let oid: Oid = commit.unwrap_or(&head).oid()?;
        self.bare.with(|repo| {
            for role in ROLES {
                if refs::target(repo, &tag_ref(role, branch, tag)?)?.is_some() {
                    return Err(Error::Conflict {
                        what: format!("there is a tag {tag} on branch {branch} already"),
                        next: "take another name, or delete that one first".into(),
                    });
                }
            }
            if self.tags.of(repo, branch)?.len() >= TAGS_MAX {
                let text = format!("{branch} has {TAGS_MAX} tags, which is the most; delete some first");
                return Err(Error::invalid("tag", text));
            }
            let doing = || format!("making {name}");
            let object = repo.find_object(oid, Some(ObjectType::Commit)).doing(doing)?;
            let made = repo.tag_annotation_create(name.trim_start_matches("refs/tags/"), &object, &author, message);
            let new = Some(made.doing(doing)?);
            self.bare.publish(repo, &[Move { name: name.clone(), old: None, new }], "tag: made")?;
            picture(repo, &name)?.ok_or_else(|| Error::not_found(format!("tag {tag}"), "make it again"))
        })
    }

    /// Deletes a tag of a branch, whichever of the roles' it is. Where commits are named, one
    /// that is of none of them stays, and its commit is the answer.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none.
    pub fn delete_tag(&self, branch: &str, tag: &str, seen: Option<&[CommitId]>) -> Result<Option<CommitId>> {
        let names = ROLES.map(|role| tag_ref(role, branch, tag));
        let _turn = self.bare.turn()?;
        self.bare.refresh(Scope::Tagged(branch))?;
        self.bare.with(|repo| {
            let mut moves = Vec::new();
            for name in names {
                let name = name?;
                if let (Some(seen), Some(found)) = (seen, picture(repo, &name)?) {
                    let commit = CommitId::parse(&found.commit)?;
                    if !seen.contains(&commit) {
                        return Ok(Some(commit));
                    }
                }
                if let Some(old) = refs::target(repo, &name)? {
                    moves.push(Move { name, old: Some(old), new: None });
                }
            }
            self.bare.publish(repo, &moves, "tag: deleted")?;
            if moves.is_empty() {
                Err(Error::not_found(format!("tag {tag} of branch {branch}"), "list its tags"))
            } else {
                Ok(None)
            }
        })
    }
}
