//! Files of a backup: copied, listed with their hashes, compared, and on the disk before they count.

use super::Listed;
use crate::ca::write_private;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes hashed at once.
const PIECE_BYTES: usize = 256 * 1024;
/// How a file that is on its way begins.
const PARTIAL: &str = "partial";

/// Removes a file that may not be there.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(cause).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a file or a folder with everything in it but what is on its way; whether it is there. What goes away meanwhile is
/// left out: it was needed no more.
pub fn copy(from: &Path, to: &Path) -> Result<bool> {
    let what = || format!("copy {} to {}", from.display(), to.display());
    let about = match fs::symlink_metadata(from) {
        Ok(about) => about,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(cause).with_context(what),
    };
    if !about.is_dir() {
        return match fs::copy(from, to) {
            Ok(_) => Ok(true),
            Err(cause) if cause.kind() == ErrorKind::NotFound && !from.exists() => Ok(false),
            Err(cause) => Err(cause).with_context(what),
        };
    }
    fs::create_dir_all(to).with_context(what)?;
    fs::set_permissions(to, about.permissions()).with_context(what)?;
    for entry in fs::read_dir(from).with_context(what)? {
        let name = entry.with_context(what)?.file_name();
        if !name.to_string_lossy().starts_with(PARTIAL) {
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(true)
}

/// Every file below a folder, by path, each on the disk for good.
pub fn listed(dir: &Path) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    walk(dir, Path::new(""), &mut all)?;
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

fn walk(dir: &Path, below: &Path, all: &mut Vec<Listed>) -> Result<()> {
    let here = dir.join(below);
    for entry in fs::read_dir(&here).with_context(|| format!("read {}", here.display()))? {
        let path = below.join(entry?.file_name());
        if dir.join(&path).is_dir() {
            walk(dir, &path, all)?;
        } else {
            all.push(list(dir, path)?);
        }
    }
    sync(&here)
}

/// One file as it is.
pub fn list(dir: &Path, path: PathBuf) -> Result<Listed> {
    let full = dir.join(&path);
    let what = || format!("read {}", full.display());
    let mut file = File::open(&full).with_context(what)?;
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        let read = file.read(&mut piece).with_context(what)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        size += read as u64;
    }
    file.sync_all().with_context(what)?;
    let mode = file.metadata().with_context(what)?.permissions().mode() & 0o777;
    Ok(Listed { path, size, mode, sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect() })
}

/// What was done in a folder is on the disk when this returns.
pub fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", dir.display()))
}

/// Writes a file that says how it stands with all others.
pub fn mark(path: &Path, content: &[u8]) -> Result<()> {
    write_private(path, content).with_context(|| format!("write {}", path.display()))
}
