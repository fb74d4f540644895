//! Defaults that moved on `master` since a branch took them: what they are, what they collide with, and
//! how the branch takes them up when its owner wants that. Limits, types and words move as values do.
//!
//! Nothing moves under a topology by itself. A value that the user set himself stays his; where the
//! default of the same key moved as well, that is told as a conflict, and his value still stays.
//!
//! Never here: applying; a component takes up a commit when it is told to.

use crate::bare::{Change, tree_of};
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Error, Result};
use crate::history::{empty, file_at, options};
use crate::origin;
use crate::refs::{self, CommitId};
use crate::secret::{self, pretty};
use git2::{Oid, Repository, Tree};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::config::{ConfigFile, ConfigOption};
use straas_schemas::configuration::{MovedPart, MovedValue, SECRET};

type Name<'f> = (&'f str, &'f str);

/// What moved, and the files as they would be with it.
struct Move {
    values: Vec<MovedValue>,
    changes: Vec<Change>,
}

impl ConfigRepo {
    /// The defaults of a component version that moved on `master` since the branch took them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if `master` has no such version, or there is no such branch;
    /// [`Error::Invalid`] if a file is broken.
    pub fn updates(&self, branch: &str, kind: &str, version: &str) -> Result<Vec<MovedValue>> {
        let (tip, master) = self.sides(branch, kind, version)?;
        self.bare.with(|repo| Ok(moved(repo, tip, master, kind, version)?.values))
    }

    /// Takes them up, in one commit that leaves the user's own values as they are; the commit, and
    /// what moved. Nothing is written if nothing moved.
    ///
    /// # Errors
    /// As [`Self::updates`].
    pub fn update(&self, branch: &str, kind: &str, version: &str, author: &str) -> Result<(CommitId, Vec<MovedValue>)> {
        let (_, master) = self.sides(branch, kind, version)?;
        let told = std::cell::RefCell::new(Vec::new());
        let message = format!("{kind} {version}: take up the defaults of master {}", &master.to_string()[..10]);
        let name = refs::branch_ref(branch)?;
        let commit = self.bare.commit_from(branch, None, master, &message, author, |repo, base| {
            let tip = refs::target(repo, &name)?
                .ok_or_else(|| Error::not_found(format!("branch {branch}"), "its topology is gone"))?;
            let found = moved(repo, tip, master, kind, version)?;
            *told.borrow_mut() = found.values;
            crate::bare::apply(repo, base, &found.changes)
        })?;
        // what nodes would get has to be sound; a user's value may be outside of new limits
        self.effective(&commit, kind, version)?;
        Ok((commit, told.into_inner()))
    }

    fn sides(&self, branch: &str, kind: &str, version: &str) -> Result<(Oid, Oid)> {
        refs::topology_ref(branch)?;
        for name in [kind, version] {
            refs::check_path(name)?;
        }
        Ok((self.must_have(branch)?.oid()?, self.head()?.oid()?))
    }
}

fn moved(repo: &Repository, tip: Oid, master: Oid, kind: &str, version: &str) -> Result<Move> {
    let folder = format!("app/{kind}/{version}");
    let (default_path, user_path) = (format!("{folder}/default.json"), format!("{folder}/user.json"));
    let (ours, theirs) = (tree_of(repo, &tip.into())?, tree_of(repo, &master.into())?);
    let Some(new_default) = parse_file(repo, &theirs, &default_path)? else {
        return Err(Error::not_found(format!("file {default_path} on master"), "this version is offered no more"));
    };
    let new_user = parse_file(repo, &theirs, &user_path)?.unwrap_or_else(empty);
    let default = parse_file(repo, &ours, &default_path)?.unwrap_or_else(empty);
    let user = parse_file(repo, &ours, &user_path)?.unwrap_or_else(empty);
    let from = origin::of(repo, tip, master, &folder)?.unwrap_or(master);
    let was_user = file_at(repo, from, &user_path).unwrap_or_else(|| user.clone());
    let hidden = hidden(repo, &ours, &theirs, &default_path)?;

    let own: BTreeSet<Name<'_>> = {
        let given = options(&was_user);
        let differs =
            |(name, option): &(Name<'_>, &ConfigOption)| given.get(name).is_none_or(|was| was.value != option.value);
        options(&user).into_iter().filter(differs).map(|(name, _)| name).collect()
    };
    let before = given(&default, &was_user);
    let after = given(&new_default, &new_user);
    let names: BTreeSet<Name<'_>> = before.keys().chain(after.keys()).copied().collect();
    let mine = options(&user);
    let settable = options(&new_user);
    let values = names.into_iter().filter_map(|name| {
        let (was, now) = (before.get(&name), after.get(&name));
        let parts = parts(was, now);
        if parts.is_empty() {
            return None;
        }
        let show = |value: &str| if hidden(&name) { SECRET.to_owned() } else { value.to_owned() };
        let more_than_words = parts.iter().any(|part| *part != MovedPart::Doc);
        let yours = (more_than_words && own.contains(&name)).then(|| mine.get(&name)).flatten();
        let limits = |given: Option<&Given<'_>>| {
            given.filter(|_| parts.contains(&MovedPart::Limits)).map(|given| limits(given.declared))
        };
        Some(MovedValue {
            section: name.0.to_owned(),
            key: name.1.to_owned(),
            was: was.map(|given| show(given.value)),
            now: now.map(|given| show(given.value)),
            limits_were: limits(was),
            limits_are: limits(now),
            yours: yours.map(|option| show(&option.value)),
            kept: yours.is_some() && settable.contains_key(&name),
            parts,
        })
    });
    let values = values.collect();
    let mut taken = new_user.clone();
    for section in &mut taken.content {
        for option in &mut section.options {
            let name = (section.section.as_str(), option.key.as_str());
            if let Some(mine) = mine.get(&name).filter(|_| own.contains(&name)) {
                option.value.clone_from(&mine.value);
            }
        }
    }
    let mut changes = Vec::new();
    for (path, new, old) in [(default_path, &new_default, &default), (user_path, &taken, &user)] {
        if new != old {
            let content = pretty(new).into_bytes();
            changes.push(Change::Put { path, content, executable: None });
        }
    }
    Ok(Move { values, changes })
}

/// An option as it is given where the user sets nothing.
struct Given<'f> {
    value: &'f str,
    /// Where its type and limits are told.
    declared: &'f ConfigOption,
    /// As the user may set it.
    settable: Option<&'f ConfigOption>,
}

/// What is given: `user.json` as it came over `default.json`.
fn given<'f>(default: &'f ConfigFile, user: &'f ConfigFile) -> BTreeMap<Name<'f>, Given<'f>> {
    let only = |option: &'f ConfigOption| Given { value: &option.value, declared: option, settable: None };
    let mut all: BTreeMap<_, _> = options(default).into_iter().map(|(name, option)| (name, only(option))).collect();
    for (name, option) in options(user) {
        let given = all.entry(name).or_insert_with(|| only(option));
        (given.value, given.settable) = (&option.value, Some(option));
    }
    all
}

/// What differs between two states of an option.
fn parts(was: Option<&Given<'_>>, now: Option<&Given<'_>>) -> Vec<MovedPart> {
    let (was, now) = match (was, now) {
        (Some(was), Some(now)) => (was, now),
        (None, Some(_)) => return vec![MovedPart::Added],
        (Some(_), None) => return vec![MovedPart::Removed],
        (None, None) => return Vec::new(),
    };
    let (a, b) = (was.declared, now.declared);
    let rights = |given: &Given<'_>| (given.declared.exclusive, given.declared.secret, given.settable.is_some());
    // of one that may be set now and could not be before, nothing more was said
    let said = |given: &Given<'_>| given.settable.map(|option| option.doc.clone());
    let words = a.doc != b.doc || was.settable.is_some() && now.settable.is_some() && said(was) != said(now);
    let all = [
        (MovedPart::Value, was.value != now.value),
        (MovedPart::Type, a.kind != b.kind),
        (MovedPart::Limits, (a.min, a.max, &a.values) != (b.min, b.max, &b.values)),
        (MovedPart::Rights, rights(was) != rights(now)),
        (MovedPart::Doc, words),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
}

/// Which values an option may have, in words.
fn limits(option: &ConfigOption) -> String {
    match (&option.values, option.min, option.max) {
        (Some(_), ..) if option.secret => "some".to_owned(),
        (Some(values), ..) => format!("one of {}", values.join(", ")),
        (None, Some(min), Some(max)) => format!("{min} to {max}"),
        (None, Some(min), None) => format!("at least {min}"),
        (None, None, Some(max)) => format!("at most {max}"),
        (None, None, None) => "any".to_owned(),
    }
}

/// What is secret on either side.
fn hidden<'f>(
    repo: &Repository,
    ours: &Tree<'_>,
    theirs: &Tree<'_>,
    path: &str,
) -> Result<impl Fn(&Name<'f>) -> bool + use<'f>> {
    let mut all = secret::secrets(repo, ours, path, None)?;
    all.extend(secret::secrets(repo, theirs, path, None)?);
    Ok(move |name: &Name<'f>| all.contains(&(name.0.to_owned(), name.1.to_owned())))
}
