//! The builds on the disk: `builds/<sha256>/straas-agent` in the agent's own directory, and the record beside them.
//! Among the processes of a host every build is called as the packaged agent is.
//!
//! Never here: what follows from what is found.

use super::{Record, Which};
use crate::stages::{private_dir, write_private};
use sha2::{Digest as _, Sha256};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use straas_schemas::Digest;

/// Only root may run a build, and nobody else read it.
pub const MODE: u32 = 0o700;
/// The program's name.
const NAME: &str = "straas-agent";
/// The record's name.
const RECORD: &str = "record.json";
/// The kernel's word for a running program whose file was replaced.
const DELETED: &str = " (deleted)";
/// Bytes hashed at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Where builds are.
pub fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("builds")
}

/// Where a build is.
pub fn path(dir: &Path, build: &Digest) -> PathBuf {
    dir.join(build.as_str()).join(NAME)
}

/// The program that runs.
pub fn exe() -> Option<PathBuf> {
    let exe = std::fs::read_link("/proc/self/exe").ok()?;
    let text = exe.to_str()?;
    Some(text.strip_suffix(DELETED).unwrap_or(text).into())
}

/// The build that runs; whatever is not a file of the directory is the packaged one.
pub fn own(dir: &Path) -> Which {
    let exe = exe()?;
    let dir = std::fs::canonicalize(dir).ok()?;
    let name = exe.strip_prefix(dir).ok()?.parent()?.to_str()?;
    Some(Digest(name.to_owned())).filter(Digest::is_well_formed)
}

/// The record; without one, or with one that cannot be read, the packaged agent goes on.
pub fn read(dir: &Path) -> Record {
    let path = dir.join(RECORD);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Record::default(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "which build of the agent is to run cannot be read");
            return Record::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "which build of the agent is to run cannot be read");
        Record::default()
    })
}

/// Makes a record durable.
pub fn write(dir: &Path, record: &Record) -> Result<(), String> {
    private_dir(dir)?;
    // strings, numbers and paths; a path that is no text does not come from a configuration in TOML
    let bytes = serde_json::to_vec(record).map_err(|error| error.to_string())?;
    write_private(&dir.join(RECORD), &bytes)?;
    sync(dir)
}

/// Makes the names in a directory durable.
pub fn sync(dir: &Path) -> Result<(), String> {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| format!("{} cannot be synced: {error}", dir.display()))
}

/// What is wrong with a build as it is on the disk.
pub fn fault(path: &Path, build: &Digest) -> Option<String> {
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut hash = Sha256::new();
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut bytes)? {
                0 => return Ok((mode, hash.finalize())),
                count => hash.update(&bytes[..count]),
            }
        }
    };
    let found = match read() {
        Ok((mode, _)) if mode & 0o100 == 0 => return Some("it may not be run".to_owned()),
        Ok((_, hash)) => hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        Err(error) => {
            let error: std::io::Error = error;
            return Some(format!("it cannot be read: {error}"));
        }
    };
    (found != build.as_str()).then(|| format!("it is damaged: its SHA-256 is {found}"))
}

/// Removes all but the record and the builds that are kept.
pub fn tidy(dir: &Path, kept: &[&Digest]) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stays = |name: &str| name == RECORD || kept.iter().any(|build| build.as_str() == name);
        if !name.to_str().is_some_and(stays)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "a build of the agent that is not needed stays");
        }
    }
}
