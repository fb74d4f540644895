//! Who changed what, when: the history of a path, and the origin of every effective value.
//!
//! Follows first parents, the line that a branch itself went; each look is bounded and says where to
//! go on. Values never stand in an answer here unless they may be shown.

use crate::bare::{entry_in, tree_of};
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Doing, Error, Result};
use crate::refs::{CommitId, check_path};
use crate::secret;
use git2::{Commit, Oid, Repository, Tree};
use std::collections::BTreeMap;
use straas_schemas::config::{ConfigFile, ConfigOption, Effective};
use straas_schemas::configuration::{BlamedValue, CommitView, EffectiveValue, SECRET};

/// Most commits looked at in one call: some tens of ms.
pub(crate) const WALK_MAX: usize = 4_096;

/// Commits looked at, newest first, for a good one after a restart.
const GOOD_MAX: usize = 256;

/// A commit as people see it.
pub(crate) fn picture(commit: &Commit<'_>) -> CommitView {
    let author = commit.author();
    CommitView {
        commit: commit.id().to_string(),
        author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
        at_ms: author.when().seconds().saturating_mul(1000),
        message: String::from_utf8_lossy(commit.message_bytes()).trim_end().to_owned(),
    }
}

fn id_at(commit: &Commit<'_>, path: &str) -> Result<Option<Oid>> {
    let tree = commit.tree().doing(|| format!("reading the tree of {}", commit.id()))?;
    if path.is_empty() {
        return Ok(Some(tree.id()));
    }
    Ok(entry_in(&tree, path)?.map(|entry| entry.id()))
}

fn find(repo: &Repository, commit: Oid) -> Result<Commit<'_>> {
    repo.find_commit(commit).doing(|| format!("reading commit {commit}"))
}

impl ConfigRepo {
    /// The commits that changed what stands at a path (`""`: anything), newest first, at most
    /// `limit`; and the commit to go on after, if there may be more.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a commit to go on after that is not before `from`.
    pub fn log(
        &self,
        from: &CommitId,
        path: &str,
        after: Option<&CommitId>,
        limit: usize,
    ) -> Result<(Vec<CommitView>, Option<CommitId>)> {
        if !path.is_empty() {
            check_path(path)?;
        }
        if let Some(after) = after
            && !self.leads_to(from, after)?
        {
            return Err(Error::not_found(format!("commit {after} in this history"), "begin at its newest commit"));
        }
        self.bare.with(|repo| {
            let mut next = match after {
                Some(after) => find(repo, after.oid()?)?.parent_id(0).ok(),
                None => Some(from.oid()?),
            };
            let mut found = Vec::new();
            for looked in 1.. {
                let Some(id) = next else { break };
                let commit = find(repo, id)?;
                next = commit.parent_id(0).ok();
                let before = next.map(|parent| id_at(&find(repo, parent)?, path)).transpose()?.flatten();
                if id_at(&commit, path)? != before {
                    found.push(picture(&commit));
                }
                if found.len() >= limit || looked >= WALK_MAX {
                    return Ok((found, next.map(|_| id.into())));
                }
            }
            Ok((found, None))
        })
    }

    /// Every value of a configuration file at a commit, with the commit that set it so.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such file, [`Error::Invalid`] if it is no configuration file.
    pub fn blame(&self, commit: &CommitId, path: &str) -> Result<Vec<BlamedValue>> {
        check_path(path)?;
        if !secret::is_config(path) {
            return Err(Error::invalid(
                "path",
                format!("{path:?} is no configuration file: those of app/ and service/ are"),
            ));
        }
        self.bare.with(|repo| {
            let top = tree_of(repo, commit)?;
            let missing = || Error::not_found(format!("file {path} at {commit}"), "list the folder above");
            let file = parse_file(repo, &top, path)?.ok_or_else(missing)?;
            let secrets = secret::secrets(repo, &top, path, Some(&file))?;
            let since = since(repo, commit.oid()?, path, &file)?;
            let value = |(name, option): (&(&str, &str), &&ConfigOption)| BlamedValue {
                section: name.0.to_owned(),
                key: name.1.to_owned(),
                value: match secrets.contains(&(name.0.to_owned(), name.1.to_owned())) {
                    true => SECRET.to_owned(),
                    false => option.value.clone(),
                },
                set_by: since.get(name).cloned(),
            };
            Ok(options(&file).iter().map(value).collect())
        })
    }

    /// Every effective value of a component version at a commit, with the file and the commit that
    /// set it.
    ///
    /// # Errors
    /// As for [`Self::effective`].
    pub fn origins(&self, commit: &CommitId, kind: &str, version: &str) -> Result<Vec<EffectiveValue>> {
        // the same checks as for what nodes get
        let effective = self.effective(commit, kind, version)?;
        let folder = format!("app/{kind}/{version}");
        self.bare.with(|repo| {
            let top = tree_of(repo, commit)?;
            let (default_path, user_path) = (format!("{folder}/default.json"), format!("{folder}/user.json"));
            let default = parse_file(repo, &top, &default_path)?.unwrap_or_else(empty);
            let user = parse_file(repo, &top, &user_path)?.unwrap_or_else(empty);
            let secrets = secret::secrets(repo, &top, &default_path, Some(&default))?;
            let since_default = since(repo, commit.oid()?, &default_path, &default)?;
            let since_user = since(repo, commit.oid()?, &user_path, &user)?;
            let settable = options(&user);
            let mut out = Vec::new();
            for (name, option) in options(&default) {
                let (section, key) = name;
                let theirs = settable.contains_key(&name);
                let secret = secrets.contains(&(section.to_owned(), key.to_owned()));
                let set_by = if theirs { since_user.get(&name) } else { since_default.get(&name) };
                let origin = (if theirs { user_path.as_str() } else { &default_path }, set_by.cloned());
                out.push(EffectiveValue { settable: theirs, ..shown(name, option, &effective, secret, origin) });
            }
            Ok(out)
        })
    }
}

/// A value in force, of an option as it is declared; not settable. `origin` is the file and the commit that set it.
pub(crate) fn shown(
    (section, key): (&str, &str),
    option: &ConfigOption,
    values: &Effective,
    secret: bool,
    (file, set_by): (&str, Option<CommitView>),
) -> EffectiveValue {
    let value = values.get(section).and_then(|keys| keys.get(key)).cloned().unwrap_or_default();
    let show = |value: serde_json::Value| if secret { SECRET.into() } else { value };
    EffectiveValue {
        section: section.to_owned(),
        key: key.to_owned(),
        value: show(value),
        default: show(option.typed().unwrap_or_default()),
        kind: option.kind,
        settable: false,
        secret,
        file: file.to_owned(),
        set_by,
        doc: option.doc.clone(),
    }
}

/// The newest commit before `head` of which something good can be read, and that; `None` if there is
/// none among the last [`GOOD_MAX`].
pub(crate) fn last_good<T>(
    repo: &Repository,
    head: &CommitId,
    read: impl Fn(&CommitId) -> Result<T>,
) -> Result<Option<(CommitId, T)>> {
    let mut commit = find(repo, head.oid()?)?;
    for _ in 0..GOOD_MAX {
        let Ok(parent) = commit.parent(0) else { return Ok(None) };
        let id = CommitId::from(parent.id());
        match read(&id) {
            Ok(good) => return Ok(Some((id, good))),
            Err(Error::Invalid { .. }) => commit = parent,
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// Nothing, where a file is absent.
pub(crate) fn empty() -> ConfigFile {
    ConfigFile { kind: straas_schemas::config::ConfigKind::Ini, content: Vec::new() }
}

/// The options of a file by (section, key).
pub(crate) fn options(file: &ConfigFile) -> BTreeMap<(&str, &str), &ConfigOption> {
    file.options().map(|placed| (placed.name, placed.option)).collect()
}

/// For each (section, key) the commit that set it.
pub(crate) type Since<'f> = BTreeMap<(&'f str, &'f str), CommitView>;

/// For each value of a file as it is at `from`: the commit since which it is so.
pub(crate) fn since<'f>(repo: &Repository, from: Oid, path: &str, now: &'f ConfigFile) -> Result<Since<'f>> {
    let mut open = options(now);
    let mut found = Since::new();
    let mut commit = find(repo, from)?;
    for _ in 0..WALK_MAX {
        if open.is_empty() {
            break;
        }
        let parent = commit.parent(0).ok();
        let here = id_at(&commit, path)?;
        let there = parent.as_ref().map(|parent| id_at(parent, path)).transpose()?.flatten();
        if here != there {
            let before = match &parent {
                Some(parent) => at(repo, parent, path),
                None => empty(),
            };
            let before = options(&before);
            let view = picture(&commit);
            open.retain(|name, option| {
                let same = before.get(name).is_some_and(|old| old.value == option.value);
                if !same {
                    found.insert(*name, view.clone());
                }
                same
            });
        }
        let Some(parent) = parent else { break };
        commit = parent;
    }
    Ok(found)
}

/// The file in an old commit; one that could not be read then set nothing.
fn at(repo: &Repository, commit: &Commit<'_>, path: &str) -> ConfigFile {
    let tree: Option<Tree<'_>> = commit.tree().ok();
    tree.and_then(|tree| parse_file(repo, &tree, path).ok().flatten()).unwrap_or_else(empty)
}

/// The configuration file of a commit, if it has one that can be read.
pub(crate) fn file_at(repo: &Repository, commit: Oid, path: &str) -> Option<ConfigFile> {
    let tree = tree_of(repo, &commit.into()).ok()?;
    parse_file(repo, &tree, path).ok().flatten()
}
