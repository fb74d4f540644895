//! A folder of the file system as a git tree.
//!
//! Refuses what should not reach a fleet (links that point anywhere, devices, oversized trees)
//! before the first object is written. Leftovers of tools (`.git`, `__pycache__`) are left out.

use crate::bare::{CHANGES_MAX, FILE_BYTES_MAX, is_script, mode};
use crate::error::{Doing, Error, Result};
use crate::refs::{PATH_DEPTH_MAX, check_path};
use git2::build::TreeUpdateBuilder;
use git2::{Oid, Repository};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Most bytes of an import: every new node downloads them.
pub(crate) const IMPORT_BYTES_MAX: usize = 64 << 20;

/// A file to be imported.
pub(crate) struct Source {
    /// From the top of the repository.
    pub(crate) path: String,
    /// Its bytes.
    pub(crate) content: Vec<u8>,
    /// It may be run.
    pub(crate) executable: bool,
}

/// Reads all files below `dir`.
pub(crate) fn files_of(dir: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut bytes = 0;
    collect(dir, "", 0, &mut files, &mut bytes)?;
    if files.is_empty() {
        return Err(Error::invalid(
            dir.display().to_string(),
            "holds no files; name the folder with cmd/ and pre_config/",
        ));
    }
    Ok(files)
}

/// Reads all files below `dir`, which is the folder `below` of the repository.
pub(crate) fn files_below(dir: &Path, below: &str) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    collect(dir, below, 1, &mut files, &mut 0)?;
    Ok(files)
}

fn collect(dir: &Path, below: &str, depth: usize, files: &mut Vec<Source>, bytes: &mut usize) -> Result<()> {
    let doing = || format!("reading {}", dir.display());
    if depth > PATH_DEPTH_MAX {
        return Err(Error::invalid(below, format!("is deeper than {PATH_DEPTH_MAX} folders")));
    }
    for entry in fs::read_dir(dir).doing(doing)? {
        let entry = entry.doing(doing)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if matches!(name.as_str(), ".git" | "__pycache__") || name.ends_with(".pyc") {
            continue;
        }
        check_path(&path)?;
        // of the entry itself: links are not followed
        let meta = entry.metadata().doing(|| format!("reading {path}"))?;
        if meta.is_dir() {
            collect(&entry.path(), &path, depth + 1, files, bytes)?;
            continue;
        }
        if !meta.is_file() {
            return Err(Error::invalid(path, "is a link or a device; only regular files are imported"));
        }
        if meta.len() > FILE_BYTES_MAX as u64 {
            return Err(Error::invalid(
                path,
                format!("has {} bytes; at most {FILE_BYTES_MAX} are allowed", meta.len()),
            ));
        }
        let content = fs::read(entry.path()).doing(|| format!("reading {path}"))?;
        *bytes += content.len();
        let executable = meta.permissions().mode() & 0o111 != 0 || is_script(&content);
        files.push(Source { path, content, executable });
        if *bytes > IMPORT_BYTES_MAX || files.len() > CHANGES_MAX {
            let limit = format!("holds more than {IMPORT_BYTES_MAX} bytes or {CHANGES_MAX} files");
            return Err(Error::invalid(dir.display().to_string(), limit));
        }
    }
    Ok(())
}

/// The tree that holds exactly these files.
pub(crate) fn tree_of_files(repo: &Repository, files: &[Source]) -> Result<Oid> {
    let doing = || format!("writing a tree to {}", repo.path().display());
    let mut update = TreeUpdateBuilder::new();
    for file in files {
        let blob = repo.blob(&file.content).doing(|| format!("storing {}", file.path))?;
        update.upsert(file.path.as_str(), blob, mode(file.executable));
    }
    let empty = repo.treebuilder(None).and_then(|builder| builder.write()).doing(doing)?;
    let empty = repo.find_tree(empty).doing(doing)?;
    update.create_updated(repo, &empty).doing(doing)
}
