//! Another version of a component on a topology's branch: its files from `master`, the user's own
//! values taken along.
//!
//! ```text
//!  master   app/kafka/3.8.1/  app/kafka/3.9.1/   (added after the branch was made)
//!  branch   app/kafka/3.8.1/user.json: heap 512 (the user's)
//!     └───► app/kafka/3.9.1/ = master's, with heap 512 where 3.9.1 has that key
//! ```
//! A value is the user's own if it differs from what the branch was made with. A key that the user
//! has set in the new version's file already stays as he set it there. What cannot be taken along
//! (no such key, another type, outside of the new limits) is told, never silently lost.

use crate::bare::{Change, apply, entry_in, folder_in, tree_of};
use crate::config::ConfigRepo;
use crate::effective::parse_file;
use crate::error::{Doing, Error, Result};
use crate::history::{empty, file_at, options};
use crate::origin;
use crate::refs::{self, CommitId};
use crate::secret::{self, pretty};
use git2::{ObjectType, Oid, Repository, Tree};
use std::sync::Arc;
use straas_schemas::config::{ConfigFile, ConfigOption, Effective};
use straas_schemas::configuration::{CarriedValue, SECRET};

/// What became of a branch that took up another version.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The branch's newest commit: with the version's files if they were written.
    pub commit: CommitId,
    /// Whether there was, or would be, anything to write.
    pub changed: bool,
    /// Values of the user's, taken along or left behind.
    pub values: Vec<CarriedValue>,
    /// What the version is configured with.
    pub effective: Arc<Effective>,
}

impl ConfigRepo {
    /// Brings the files of version `to` of a component type onto a branch, in one commit.
    ///
    /// `master` is the commit whose catalog the request was checked with. Without `write` nothing is
    /// written: `commit` is then what the branch has now.
    ///
    /// # Errors
    /// [`Error::NotFound`] if neither the branch nor `master` has that version's folder, or there is
    /// no such branch; [`Error::Invalid`] if the files there are broken.
    #[allow(clippy::too_many_arguments)] // each is a name of its own; a struct would only repeat them
    pub fn adopt_version(
        &self,
        branch: &str,
        kind: &str,
        from: &str,
        to: &str,
        master: &CommitId,
        author: &str,
        write: bool,
    ) -> Result<Adoption> {
        refs::topology_ref(branch)?;
        for version in [kind, from, to] {
            refs::check_path(version)?;
        }
        let master = master.oid()?;
        let head = self.must_have(branch)?;
        let look = |repo: &Repository, tip: Oid, base: &Tree<'_>| {
            Upgrade { repo, tip, base, master, kind, from, to }.changes().map(|found| (found.0, found.1))
        };
        if !write {
            return self.bare.imagine(|repo| {
                let base = tree_of(repo, &head)?;
                let (changes, values) = look(repo, head.oid()?, &base)?;
                let tree = apply(repo, &base, &changes)?;
                let changed = tree != base.id();
                let tree = repo.find_tree(tree).doing(|| "reading a tree that was just made")?;
                let effective = self.effectives.of(repo, &tree, &format!("app/{kind}/{to}"))?;
                Ok(Adoption { commit: head.clone(), changed, values, effective })
            });
        }
        let told = std::cell::RefCell::new(Vec::new());
        let message = format!("{kind}: take up version {to} (was {from})");
        let commit = self.bare.commit_from(branch, None, master, &message, author, |repo, base| {
            let tip = refs::target(repo, &refs::branch_ref(branch)?)?
                .ok_or_else(|| Error::not_found(format!("branch {branch}"), "its topology is gone"))?;
            let (changes, values) = look(repo, tip, base)?;
            *told.borrow_mut() = values;
            apply(repo, base, &changes)
        })?;
        let effective = self.effective(&commit, kind, to)?;
        Ok(Adoption { changed: commit != head, commit, values: told.into_inner(), effective })
    }
}

struct Upgrade<'r, 'n> {
    repo: &'r Repository,
    tip: Oid,
    base: &'n Tree<'r>,
    master: Oid,
    kind: &'n str,
    from: &'n str,
    to: &'n str,
}

impl Upgrade<'_, '_> {
    fn changes(&self) -> Result<(Vec<Change>, Vec<CarriedValue>)> {
        let (kind, to) = (self.kind, self.to);
        let folder = format!("app/{kind}/{to}");
        let user_path = format!("{folder}/user.json");
        let top = tree_of(self.repo, &self.master.into())?;
        let there = folder_in(self.repo, self.base, &folder)?.is_some();
        let mut changes = Vec::new();
        if !there {
            self.copy(&top, &folder, &mut changes)?;
        }
        let source = if there { self.base } else { &top };
        let default = parse_file(self.repo, source, &format!("{folder}/default.json"))?.unwrap_or_else(empty);
        let Some(mut target) = parse_file(self.repo, source, &user_path)? else { return Ok((changes, Vec::new())) };
        let original = self.original(&user_path).unwrap_or_else(|| target.clone());
        let (values, any) = self.carry(&default, &original, &mut target)?;
        if any {
            let content = pretty(&target).into_bytes();
            changes.retain(|change| !matches!(change, Change::Put { path, .. } if *path == user_path));
            changes.push(Change::Put { path: user_path, content, executable: None });
        }
        Ok((changes, values))
    }

    /// A file as the branch was given it; as it is on master if that is not known.
    fn original(&self, path: &str) -> Option<ConfigFile> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let from = origin::of(self.repo, self.tip, self.master, folder).ok().flatten();
        from.and_then(|from| file_at(self.repo, from, path)).or_else(|| file_at(self.repo, self.master, path))
    }

    fn copy(&self, top: &Tree<'_>, folder: &str, changes: &mut Vec<Change>) -> Result<()> {
        let Some(tree) = folder_in(self.repo, top, folder)? else {
            return Err(Error::not_found(format!("folder {folder} on master"), "add the version's files there first"));
        };
        for entry in tree.iter() {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let path = format!("{folder}/{name}");
            match entry.kind() {
                Some(ObjectType::Tree) => self.copy(top, &path, changes)?,
                Some(ObjectType::Blob) => {
                    let content = crate::bare::read_in(self.repo, top, &path)?.unwrap_or_default();
                    changes.push(Change::Put { path, content, executable: None });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts the user's values into the new file; whether one differs from what stood there.
    fn carry(
        &self,
        default: &ConfigFile,
        original: &ConfigFile,
        target: &mut ConfigFile,
    ) -> Result<(Vec<CarriedValue>, bool)> {
        let old_path = format!("app/{}/{}/user.json", self.kind, self.from);
        if entry_in(self.base, &old_path)?.is_none() {
            return Ok((Vec::new(), false));
        }
        let mine = parse_file(self.repo, self.base, &old_path)?.unwrap_or_else(empty);
        let made_with = self.original(&old_path).unwrap_or_else(|| mine.clone());
        let secrets = secret::secrets(self.repo, self.base, &old_path, Some(&mine))?;
        let (made_with, limits, original) = (options(&made_with), options(default), options(original));
        let (mut values, mut any) = (Vec::new(), false);
        for (name, option) in options(&mine) {
            if made_with.get(&name).is_some_and(|was| was.value == option.value) {
                continue;
            }
            let place = target.content.iter_mut().filter(|section| section.section == name.0);
            let place = place.flat_map(|section| &mut section.options).find(|known| known.key == name.1);
            let dropped = match place {
                None => Some(format!("version {} has no such key", self.to)),
                Some(place) if place.value == option.value => continue,
                Some(place) if original.get(&name).is_some_and(|was| was.value != place.value) => {
                    Some(format!("another value was set for version {} already", self.to))
                }
                Some(place) => match fits(limits.get(&name).copied().unwrap_or(place), option) {
                    Ok(()) => {
                        place.value.clone_from(&option.value);
                        any = true;
                        None
                    }
                    Err(why) => Some(why),
                },
            };
            let hidden = secrets.contains(&(name.0.to_owned(), name.1.to_owned()));
            values.push(CarriedValue {
                section: name.0.to_owned(),
                key: name.1.to_owned(),
                value: if hidden { SECRET.to_owned() } else { option.value.clone() },
                dropped,
            });
        }
        Ok((values, any))
    }
}

/// Whether a value of the old version can be one of the new.
fn fits(new: &ConfigOption, old: &ConfigOption) -> std::result::Result<(), String> {
    if new.kind != old.kind {
        return Err(format!("it is of another type now ({:?})", new.kind).to_lowercase());
    }
    let tried = ConfigOption { value: old.value.clone(), ..new.clone() };
    tried.typed().map(|_| ()).map_err(|why| format!("the value {why} any more"))
}
