//! Packs: what arrives from the controller, and what is checked before it counts.
//!
//! A pack is checked against its hash, indexed by libgit2 (which checks every object's id), and
//! then the whole tree of the wanted commit is walked: `packwriter` accepts a pack whose base is
//! missing, and a tree can name things that must never be written to a disk.
//!
//! Never here: the network, and the working copy.

use super::ScriptsError;
use git2::{ObjectType, Oid, Repository};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use straas_schemas::Digest;

/// The commit that is known to be complete; the base of the next incremental pack.
const HAVE_REF: &str = "refs/straas/have";
/// Most files and directories of a commit: modules and scripts have hundreds.
const ENTRIES_MAX: usize = 100_000;
/// Most bytes of all files of a commit.
const TREE_BYTES_MAX: u64 = 1 << 30;

fn repo_dir(base: &Path) -> PathBuf {
    base.join("repo.git")
}

fn open(base: &Path) -> Result<Repository, ScriptsError> {
    let dir = repo_dir(base);
    if let Ok(repo) = Repository::open_bare(&dir) {
        return Ok(repo);
    }
    wipe(base)?;
    Ok(Repository::init_bare(&dir)?)
}

/// Removes the repository; releases stay.
///
/// # Errors
/// When the disk does not let it.
pub fn wipe(base: &Path) -> Result<(), ScriptsError> {
    let dir = repo_dir(base);
    match std::fs::remove_dir_all(&dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(ScriptsError::Io { path: dir, source }),
        _ => Ok(()),
    }
}

/// Whether the repository holds all of a commit.
#[must_use]
pub fn has(base: &Path, commit: &str) -> bool {
    Repository::open_bare(repo_dir(base)).is_ok_and(|repo| verify(&repo, commit).is_ok())
}

/// The commit that an incremental pack may build on.
#[must_use]
pub fn have(base: &Path) -> Option<String> {
    let repo = Repository::open_bare(repo_dir(base)).ok()?;
    let have = repo.refname_to_id(HAVE_REF).ok()?.to_string();
    verify(&repo, &have).ok().map(|()| have)
}

/// Takes a pack into the repository and checks that `want` is complete with it.
///
/// # Errors
/// Another hash, a damaged pack, something missing, or something that may not be checked out.
pub fn index(base: &Path, want: &str, pack: &Path, sum: &Digest) -> Result<(), ScriptsError> {
    let io = |source| ScriptsError::Io { path: pack.into(), source };
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 64 * 1024];
    let each =
        |take: &mut dyn FnMut(&[u8]) -> Result<(), ScriptsError>, bytes: &mut Vec<u8>| -> Result<(), ScriptsError> {
            let mut file = std::fs::File::open(pack).map_err(io)?;
            loop {
                match file.read(bytes).map_err(io)? {
                    0 => return Ok(()),
                    count => take(&bytes[..count])?,
                }
            }
        };
    each(
        &mut |part| {
            hash.update(part);
            Ok(())
        },
        &mut bytes,
    )?;
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != sum.as_str() {
        return Err(ScriptsError::Damaged(format!("its SHA-256 is {found}, the controller said {sum}")));
    }
    let repo = open(base)?;
    {
        let odb = repo.odb()?;
        let mut writer = odb.packwriter()?;
        let damaged = |error: &dyn std::fmt::Display| ScriptsError::Damaged(error.to_string());
        each(&mut |part| writer.write_all(part).map_err(|error| damaged(&error)), &mut bytes)?;
        writer.commit().map_err(|error| damaged(&error))?;
    }
    verify(&repo, want)?;
    repo.reference(HAVE_REF, Oid::from_str(want)?, true, "fetched")?;
    Ok(())
}

/// Walks all of a commit: every object is there, every name and kind may be checked out.
///
/// # Errors
/// [`ScriptsError::Incomplete`] or [`ScriptsError::Refused`].
pub fn verify(repo: &Repository, commit: &str) -> Result<(), ScriptsError> {
    let missing = |error: git2::Error| ScriptsError::Incomplete(error.message().to_owned());
    let root = repo.find_commit(Oid::from_str(commit)?).and_then(|commit| commit.tree()).map_err(missing)?;
    let odb = repo.odb()?;
    let mut trees = vec![(PathBuf::new(), root.id())];
    let (mut entries, mut bytes) = (0, 0);
    while let Some((path, tree)) = trees.pop() {
        let mut names = BTreeSet::new();
        for entry in &repo.find_tree(tree).map_err(missing)? {
            entries += 1;
            let name = std::str::from_utf8(entry.name_bytes())
                .map_err(|_| ScriptsError::Refused(format!("a name in {} is not UTF-8", path.display())))?;
            let at = path.join(name);
            let refuse = |what: &str| ScriptsError::Refused(format!("{}: {what}", at.display()));
            if matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']) || name.eq_ignore_ascii_case(".git")
            {
                return Err(ScriptsError::Refused(format!("the name {name:?} in {:?}", path.display())));
            }
            // a link and a directory of one name would have files written through the link
            if !names.insert(name.to_owned()) {
                return Err(refuse("a name that is there twice"));
            }
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => trees.push((at.clone(), entry.id())),
                (Some(ObjectType::Blob), 0o120_000) => {
                    let blob = repo.find_blob(entry.id()).map_err(missing)?;
                    let target = std::str::from_utf8(blob.content()).unwrap_or("/");
                    if !stays_inside(&path, Path::new(target)) {
                        return Err(refuse(&format!("a symbolic link that leaves the tree: {target:?}")));
                    }
                }
                (Some(ObjectType::Blob), _) => {
                    let (size, _) = odb.read_header(entry.id()).map_err(missing)?;
                    bytes += size as u64;
                }
                _ => return Err(refuse("neither a file, a directory nor a link inside the tree")),
            }
            if entries > ENTRIES_MAX || bytes > TREE_BYTES_MAX {
                return Err(refuse("more files or bytes than a script repository may have"));
            }
        }
    }
    Ok(())
}

/// Whether a link in directory `at` stays below the top. It may go up only at its beginning: what comes after a name goes up
/// from wherever that leads, which may be another link.
fn stays_inside(at: &Path, target: &Path) -> bool {
    use std::path::Component;
    let (mut depth, mut named) = (at.components().count(), false);
    for component in target.components() {
        match component {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 && !named => depth -= 1,
            _ => return false,
        }
    }
    true
}
