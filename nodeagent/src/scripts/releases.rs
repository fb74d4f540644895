//! Releases: a commit as files, and which of them is active.
//!
//! A release gets its name by a rename after everything in it is on the disk, and becomes active
//! by another rename; so a name that exists is whole, and `current` never points at half of
//! something.

use super::{ScriptsError, packs};
use git2::{Oid, Repository, build::CheckoutBuilder};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Releases kept: the active one, the one before (a run may still use it), one more to go back to.
const RELEASES_MAX: usize = 3;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ScriptsError {
    let path = path.to_owned();
    move |source| ScriptsError::Io { path, source }
}

/// Checks `commit` out into its release directory.
///
/// # Errors
/// When it is incomplete, may not be checked out, or the disk does not take it.
pub fn check_out(base: &Path, commit: &str) -> Result<(), ScriptsError> {
    let releases = base.join("releases");
    let (tmp, release) = (releases.join(format!(".tmp-{commit}")), releases.join(commit));
    // the thread of a fetch that was superseded goes on beside the one that took its place
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if release.is_dir() {
        return Ok(());
    }
    let repo = Repository::open_bare(base.join("repo.git"))?;
    packs::verify(&repo, commit)?;
    remove(&tmp)?;
    fs::create_dir_all(&tmp).map_err(io(&tmp))?;
    let object = repo.find_object(Oid::from_str(commit)?, None)?;
    let mut checkout = CheckoutBuilder::new();
    checkout.force().target_dir(&tmp).recreate_missing(true).update_index(false).disable_filters(true);
    repo.checkout_tree(&object, Some(&mut checkout))?;
    sync(&tmp)?;
    fs::rename(&tmp, &release).map_err(io(&release))
}

/// Makes a release the active one and removes the oldest ones.
///
/// # Errors
/// When the disk does not let it.
pub fn switch(base: &Path, commit: &str) -> Result<(), ScriptsError> {
    let (link, current) = (base.join(".current.new"), base.join("current"));
    let target = PathBuf::from("releases").join(commit);
    if fs::read_link(&current).is_ok_and(|now| now == target) {
        return Ok(());
    }
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&target, &link).map_err(io(&link))?;
    fs::rename(&link, &current).map_err(io(&current))?;
    sync(base)?;
    prune(base, commit);
    Ok(())
}

fn prune(base: &Path, active: &str) {
    let Ok(entries) = fs::read_dir(base.join("releases")) else { return };
    let mut old: Vec<(std::time::SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.file_name() != active)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(RELEASES_MAX);
    for (_, path) in old.into_iter().take(surplus) {
        if let Err(error) = remove(&path) {
            tracing::warn!(%error, "an old release cannot be removed");
        }
    }
}

fn remove(dir: &Path) -> Result<(), ScriptsError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(dir)(error)),
        _ => Ok(()),
    }
}

/// Everything of this file system to the disk: a checkout is hundreds of files.
fn sync(dir: &Path) -> Result<(), ScriptsError> {
    let file = fs::File::open(dir).map_err(io(dir))?;
    nix::unistd::syncfs(&file).map_err(|errno| io(dir)(errno.into()))
}
