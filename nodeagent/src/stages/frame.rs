//! What stages and guest commands are given alike: paths, the context file, the environment.
//!
//! Never here: what is run.

use super::Place;
use serde_json::Value;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use straas_schemas::Assignment;

/// The surroundings of one run.
pub struct Frame<'a> {
    /// Where things are.
    pub place: &'a Place,
    /// What the node is to be.
    pub assignment: &'a Assignment,
    /// The rendered `site.pp`.
    pub site_pp: PathBuf,
    /// The role's own directory.
    pub work: PathBuf,
    /// The context file of this run.
    pub context: PathBuf,
}

impl<'a> Frame<'a> {
    /// Makes the directories and writes the context.
    ///
    /// # Errors
    /// In words.
    pub fn prepare(place: &'a Place, assignment: &'a Assignment, context: PathBuf) -> Result<Self, String> {
        for (what, name) in [("role", &assignment.role), ("version", &assignment.version)] {
            if !is_path_name(name) {
                return Err(format!("the {what} {name:?} cannot be part of a path"));
            }
        }
        let site = place.state_dir.join("site").join(&assignment.role);
        let work = place.state_dir.join("work").join(&assignment.role);
        for dir in [site.as_path(), &work, context.parent().unwrap_or(&work)] {
            private_dir(dir)?;
        }
        // where the node's files are is this host's own matter: the controller does not know it
        let mut document = assignment.context.clone();
        if let Some(node) = document.get_mut("node").and_then(Value::as_object_mut) {
            node.insert("prefix".to_owned(), place.prefix.clone().into());
        }
        let text = serde_json::to_vec(&document).map_err(|error| format!("the context: {error}"))?;
        // secrets of the configuration are in it
        write_private(&context, &text)?;
        Ok(Self { place, assignment, site_pp: site.join("site.pp"), work, context })
    }

    /// `cmd/{role}/{version}/{name}`, or the role's default, or everybody's.
    pub fn command(&self, name: &str) -> Option<PathBuf> {
        let all = self.place.scripts.join("cmd");
        let role = all.join(&self.assignment.role);
        let folders = [role.join(&self.assignment.version), role.join("default"), all.join("default")];
        folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// That there is no such script, for people.
    pub fn lacks(&self, name: &str) -> String {
        let (role, version) = (&self.assignment.role, &self.assignment.version);
        format!(
            "the scripts have none of cmd/{role}/{version}/{name}, cmd/{role}/default/{name} and cmd/default/{name}"
        )
    }

    /// The whole environment, but for what is a run's own; `stage` for `STRAAS_STAGE`.
    pub fn environment(&self, stage: &str) -> Vec<(String, OsString)> {
        let (place, assignment) = (self.place, self.assignment);
        let environment: [(&str, OsString); 13] = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME", "/root".into()),
            ("LC_ALL", "C.UTF-8".into()),
            // a release is shared and checked by hash; nothing may be written into it
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("STRAAS_CONTEXT", self.context.clone().into()),
            ("STRAAS_SCRIPTS", place.scripts.clone().into()),
            ("STRAAS_STAGE", stage.into()),
            ("STRAAS_ROLE", assignment.role.clone().into()),
            ("STRAAS_VERSION", assignment.version.clone().into()),
            ("STRAAS_NODE", assignment.name.clone().into()),
            ("STRAAS_PREFIX", place.prefix.clone().into()),
            ("STRAAS_WORK", self.work.clone().into()),
            ("STRAAS_SITE_PP", self.site_pp.clone().into()),
        ];
        environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Letters, digits and `.+~_:-`, not beginning with a dot: Debian versions and role names.
fn is_path_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~_:-".contains(&b))
}

/// Makes a directory that only root enters.
///
/// # Errors
/// In words.
pub fn private_dir(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("{} cannot be made: {error}", dir.display()))
}

/// Writes a file that only root reads, atomically and durably.
///
/// # Errors
/// In words.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let tmp = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&tmp, path)
    };
    write().map_err(|error: std::io::Error| format!("{} cannot be written: {error}", path.display()))
}
