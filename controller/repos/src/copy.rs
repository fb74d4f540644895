//! A repository as it is at one moment, into another folder, while others may go on writing to it.
//!
//! The refs are read first and the objects copied after: whatever a ref named is among them, because objects are only ever
//! added. (Packs may be put together meanwhile; then what a pack held that is gone stands in one that came.) Objects that
//! no ref names any more are copied too, since nodes may hold such commits.
//!
//! Never here: git's own configuration for programs, such as hooks.

use crate::error::{Doing as _, Result};
use git2::{Oid, Repository};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Looks for objects that came while others were copied; each finds less to do than the one before.
const ROUNDS_MAX: u32 = 20;

/// Copies a bare repository into a folder that is not there yet.
///
/// # Errors
/// The disk; a ref that names an object which is not there.
pub fn copy_repository(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("copying the git repository {}", from.display());
    let source = Repository::open_bare(from).doing(doing)?;
    let mut refs: Vec<(String, Oid)> = Vec::new();
    for reference in source.references().doing(doing)? {
        let reference = reference.doing(doing)?;
        if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
            refs.push((name.to_owned(), target));
        }
    }
    let copy = Repository::init_bare(to).doing(doing)?;
    fs::remove_dir_all(to.join("hooks")).or_else(|cause| if_missing(cause, ())).doing(doing)?;
    for name in ["HEAD", "config"] {
        fs::copy(from.join(name), to.join(name)).doing(doing)?;
    }
    let mut rounds = 0;
    while copy_new(&from.join("objects"), &to.join("objects")).doing(doing)? {
        rounds += 1;
        if rounds == ROUNDS_MAX {
            return Err(std::io::Error::other("objects come and go faster than they are copied")).doing(doing);
        }
    }
    copy.odb().and_then(|odb| odb.refresh()).doing(doing)?;
    for (name, target) in refs {
        copy.find_object(target, None).doing(|| format!("{}: {name} names an object that is not there", doing()))?;
        copy.reference(&name, target, true, "copied").doing(doing)?;
    }
    Ok(())
}

fn if_missing<T>(cause: std::io::Error, instead: T) -> std::io::Result<T> {
    if cause.kind() == ErrorKind::NotFound { Ok(instead) } else { Err(cause) }
}

/// Copies the files that are not there yet; whether there were any, or one went away.
fn copy_new(from: &Path, to: &Path) -> std::io::Result<bool> {
    let mut found = false;
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            found |= copy_new(&source, &target)?;
        } else if !entry.file_name().to_string_lossy().starts_with("tmp_") && !target.exists() {
            // under another name first: half a file must not count as copied
            let half = target.with_extension("half");
            match fs::copy(&source, &half) {
                Ok(_) => fs::rename(&half, &target)?,
                Err(cause) => if_missing(cause, ())?,
            }
            found = true;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigRepo;

    #[test]
    fn a_copy_is_whole_while_others_write() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("from.git"), dir.path().join("to.git"));
        ConfigRepo::open(&from).expect("made");
        let at = from.clone();
        let writing = std::thread::spawn(move || {
            let repo = Repository::open_bare(at).expect("open");
            let author = git2::Signature::now("a", "a@b").expect("a name");
            for number in 0..60 {
                let blob = repo.blob(format!("content {number}").as_bytes()).expect("written");
                let mut tree = repo.treebuilder(None).expect("a tree");
                tree.insert("file", blob, 0o100_644).expect("in it");
                let tree = repo.find_tree(tree.write().expect("written")).expect("there");
                let (branch, text) = (format!("refs/heads/t{number}@z1"), format!("commit {number}"));
                repo.commit(Some(&branch), &author, &author, &text, &tree, &[]).expect("made");
            }
        });
        copy_repository(&from, &to).expect("copied");
        writing.join().expect("written");
        let copy = Repository::open_bare(&to).expect("a repository");
        let names: Vec<String> =
            copy.references().expect("refs").map(|r| r.expect("one").name().expect("text").to_owned()).collect();
        assert!(names.contains(&"refs/heads/master".to_owned()), "{names:?}");
        for name in &names {
            let mut walk = copy.revwalk().expect("walk");
            walk.push_ref(name).expect("there");
            for commit in walk {
                let tree = copy.find_commit(commit.expect("one")).and_then(|commit| commit.tree()).expect("whole");
                tree.walk(git2::TreeWalkMode::PreOrder, |_, entry| {
                    assert!(copy.find_object(entry.id(), None).is_ok(), "{name}: {:?}", entry.name());
                    git2::TreeWalkResult::Ok
                })
                .expect("walked");
            }
        }
        ConfigRepo::open(&to).expect("as good as the other");
    }
}
