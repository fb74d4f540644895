//! Folders laid over the repositories: components in the making, for a controller that tries them.
//!
//! ```text
//!  DIR/ cmd/ pre_config/ puppet/ guestcmds/   ──► master of the script repo
//!  DIR/ metadata/ app/ service/               ──► master of the config repo
//! ```
//! A file that stands there takes the place of the repository's; nothing is removed. Whatever else is
//! in the folder stays out. Files that are the same make no commit, so laying twice is laying once.

use crate::bare::Change;
use crate::config::ConfigRepo;
use crate::error::{Error, Result};
use crate::import::{self, Source};
use crate::refs::{CommitId, MASTER};
use crate::scripts::ScriptRepo;
use crate::seed::is_byproduct;
use std::path::Path;

/// What of an overlay goes to the script repo.
pub(crate) const SCRIPT_PARTS: [&str; 4] = ["cmd", "pre_config", "puppet", "guestcmds"];
/// What of it goes to the config repo.
pub(crate) const CONFIG_PARTS: [&str; 3] = ["metadata", "app", "service"];

/// The files of overlays below these folders, a later overlay's before an earlier one's.
fn changes(dirs: &[impl AsRef<Path>], parts: &[&str]) -> Result<Vec<Change>> {
    let mut files = std::collections::BTreeMap::new();
    for dir in dirs {
        let dir = dir.as_ref();
        let mut any = false;
        for part in SCRIPT_PARTS.iter().chain(&CONFIG_PARTS) {
            let below = dir.join(part);
            if !below.is_dir() {
                continue;
            }
            any = true;
            if !parts.contains(part) {
                continue;
            }
            for Source { path, content, executable } in import::files_below(&below, part)? {
                if !is_byproduct(&path) {
                    files.insert(path, (content, executable));
                }
            }
        }
        if !any {
            let known: Vec<&str> = SCRIPT_PARTS.iter().chain(&CONFIG_PARTS).copied().collect();
            let text = format!("is no component's folder: it has none of {}", known.join("/ "));
            return Err(Error::invalid(dir.display().to_string(), text));
        }
    }
    let put = |(path, (content, executable))| Change::Put { path, content, executable: Some(executable) };
    Ok(files.into_iter().map(put).collect())
}

impl ConfigRepo {
    /// Lays folders of components over `master`; the commit that has them.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a folder that is none of a component, or holds what may not be in a
    /// repository.
    pub fn overlay(&self, dirs: &[impl AsRef<Path>]) -> Result<CommitId> {
        let changes = changes(dirs, &CONFIG_PARTS)?;
        self.commit(MASTER, None, &changes, "components laid over\n", "StraaS")
    }
}

impl ScriptRepo {
    /// As [`ConfigRepo::overlay`], for what runs on nodes.
    ///
    /// # Errors
    /// As there.
    pub fn overlay(&self, dirs: &[impl AsRef<Path>]) -> Result<CommitId> {
        let changes = changes(dirs, &SCRIPT_PARTS)?;
        self.commit(None, &changes, "components laid over\n", "StraaS")
    }
}
