//! Which layers of the image nobody needs any more.
//!
//! Every new agent makes a layer, every new recipe a base, and each stays as long as a host was made
//! from it. So a host that boots leaves a link in its layers to its own record:
//!
//! ```text
//!   <cache>/agent-<hash>/upper        the layer
//!   <cache>/agent-<hash>/used         when it was last asked for: the file's time
//!   <cache>/agent-<hash>/users/<n>    → <state>/hosts/<id>/host.json
//! ```
//!
//! A link that leads nowhere means that the host is gone; nobody has to take it away, so a crash
//! leaves nothing wrong. Never removed: what a host of any instance was made from, what was asked
//! for within a day, the newest of the rest.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::error::HostError;
use crate::local::Progress;
use crate::local::image::short;
use crate::local::record::HostDir;
use crate::local::tools::{make_dirs, remove_tree};

/// An instance that has just asked for a layer may not have recorded a host yet; and whoever works on
/// the agent comes back to the layers of today.
const IN_HAND: Duration = Duration::from_secs(24 * 3600);
/// Layers kept although no host needs them, by the beginning of their names: an agent's costs tens of
/// MB and seconds, a base some hundred MB and a minute.
const KEPT: [(&str, usize); 2] = [("agent-", 8), ("base-", 1)];
/// What belongs to a base besides the base itself.
const OF_A_BASE: [&str; 2] = ["apt-", "repo-"];

/// Notes that a layer was asked for. An error if it is not there.
pub fn used(layer: &Path) -> std::io::Result<()> {
    File::create(layer.join("used")).and_then(|file| file.set_modified(SystemTime::now()))
}

/// Notes that a host was made from these directories.
pub fn pin(lower: &[PathBuf], host: &HostDir) -> Result<(), HostError> {
    let record = host.record_path();
    let mut hash = Sha256::new();
    hash.update(record.to_string_lossy().as_bytes());
    let name = short(hash);
    for layer in lower.iter().filter_map(|upper| upper.parent()) {
        let users = layer.join("users");
        make_dirs(&users)?;
        let link = users.join(&name);
        match symlink(&record, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(HostError::at("note a user of the image in", &link)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes what nobody needs. What cannot be read or removed stays; it is told and tried again.
pub fn prune(cache: &Path, progress: &Progress) {
    let found = fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let found: Vec<String> = found.filter_map(|name: OsString| name.into_string().ok()).collect();
    for gone in found.iter().filter(|name| name.starts_with(".gone-")) {
        let _ = remove_tree(&cache.join(gone)); // of a run that was killed
    }
    for (kind, kept) in KEPT {
        let layers = found.iter().filter(|name| name.starts_with(kind)).map(|name| (age(&cache.join(name)), name));
        let mut unused: Vec<_> = layers.filter(|(_, name)| !needed(&cache.join(name))).collect();
        unused.sort();
        for (age, name) in unused.into_iter().skip(kept).filter(|(age, _)| *age > IN_HAND) {
            match remove(cache, name) {
                Ok(()) => {
                    progress(&format!("{name} of the image is removed: unused for {} days", age.as_secs() / 86_400))
                }
                Err(error) => progress(&format!("{name} of the image is unused but cannot be removed: {error}")),
            }
        }
    }
}

/// Whether a host is there that was made from it.
fn needed(layer: &Path) -> bool {
    match fs::read_dir(layer.join("users")) {
        Ok(users) => users.flatten().any(|link| link.path().exists()),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

fn age(layer: &Path) -> Duration {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let last = time(&layer.join("used")).or_else(|| time(layer)).unwrap_or_else(SystemTime::now);
    last.elapsed().unwrap_or_default()
}

/// Out of sight first: half of it must not be taken for a layer. Who asks for it now makes it anew.
fn remove(cache: &Path, name: &str) -> Result<(), HostError> {
    let aside = cache.join(format!(".gone-{name}"));
    fs::rename(cache.join(name), &aside).map_err(HostError::at("put aside", &aside))?;
    remove_tree(&aside)?;
    if let Some(hash) = name.strip_prefix("base-") {
        for part in OF_A_BASE {
            remove_tree(&cache.join(format!("{part}{hash}")))?;
        }
    }
    let _ = fs::remove_file(cache.join(format!(".{name}.lock")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::quiet;

    /// A layer that was asked for some days ago.
    fn layer(cache: &Path, name: &str, days: u64) -> PathBuf {
        let dir = cache.join(name);
        make_dirs(&dir.join("upper")).unwrap();
        let then = SystemTime::now() - Duration::from_secs(days * 86_400);
        File::create(dir.join("used")).unwrap().set_modified(then).unwrap();
        dir
    }

    fn left(cache: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_old_layers_without_a_host_go_and_some_of_them_stay() {
        let home = tempfile::tempdir().unwrap();
        let (cache, hosts) = (home.path().join("cache"), home.path().join("hosts"));
        for n in 0..12 {
            layer(&cache, &format!("agent-{n:02}"), n);
        }
        let host = |id: &str| {
            let dir = HostDir(hosts.join(id));
            make_dirs(dir.path()).unwrap();
            fs::write(dir.record_path(), "{}").unwrap();
            dir
        };
        let (stays, goes) = (host("one"), host("two"));
        pin(&[cache.join("agent-11/upper")], &stays).unwrap();
        pin(&[cache.join("agent-11/upper")], &stays).unwrap();
        pin(&[cache.join("agent-10/upper")], &goes).unwrap();
        fs::remove_dir_all(goes.path()).unwrap();
        make_dirs(&cache.join(".gone-agent-99")).unwrap();
        File::create(cache.join(".agent-09.lock")).unwrap();
        prune(&cache, &quiet());
        let wanted: Vec<String> = [0, 1, 2, 3, 4, 5, 6, 7, 11].map(|n| format!("agent-{n:02}")).into();
        assert_eq!(left(&cache), wanted);
    }

    #[test]
    fn what_belongs_to_a_base_goes_with_it() {
        let home = tempfile::tempdir().unwrap();
        for (name, days) in
            [("base-aa", 0), ("base-bb", 2), ("base-cc", 3), ("apt-cc", 3), ("repo-cc", 3), ("signing", 9)]
        {
            layer(home.path(), name, days);
        }
        used(&home.path().join("base-bb")).unwrap();
        assert!(used(&home.path().join("base-dd")).is_err());
        prune(home.path(), &quiet());
        assert_eq!(left(home.path()), ["base-aa", "base-bb", "signing"]);
    }
}
