//! Packages of components for process mode, where all nodes use this machine's own apt.
//!
//! Agents get an apt configuration that adds one source to the machine's: the packages that are made
//! here. Its lists are apart, so whoever else runs apt on this machine never meets that source, and
//! nothing below `/etc/apt` is touched. Never here: installing anything; agents do, on demand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::HostError;
use crate::local::Progress;
use crate::local::components;
use crate::local::config::LocalConfig;
use crate::local::tools::{make_dirs, remove_tree, write_atomic};

/// Where apt keeps the machine's further sources.
const PARTS: &str = "/etc/apt/sources.list.d";
/// Where an agent's `install` looks for an apt configuration, below its prefix.
pub const IN_PREFIX: &str = "etc/apt/straas.conf";

/// The configuration, of the instance with this state directory.
pub fn settings(state: &Path) -> PathBuf {
    state.join("apt/apt.conf")
}

/// Makes the packages and puts them before the agents of this instance. Blocking. Packages that
/// cannot be made are told and are no error: then the machine's own sources are all there is.
pub fn offer(config: &LocalConfig, progress: &Progress) -> Result<(), HostError> {
    let made = components::build(config.components.as_deref(), progress);
    if made.debs.is_empty() {
        return Ok(());
    }
    let apt = config.state_dir.join("apt");
    let (offer, parts, lists) = (apt.join("offer"), apt.join("sources.list.d"), apt.join("lists"));
    made.offer(&offer)?;
    make_dirs(&lists.join("partial"))?;
    remove_tree(&parts)?;
    make_dirs(&parts)?;
    for entry in fs::read_dir(PARTS).into_iter().flatten().flatten() {
        let link = parts.join(entry.file_name());
        symlink(entry.path(), &link).map_err(HostError::at("name a source of this machine in", &link))?;
    }
    let source = format!("deb [trusted=yes] file:{} ./\n", offer.display());
    write_atomic(&parts.join("straas-components.list"), source.as_bytes(), 0o644)?;
    // The state directory is ours alone, so apt reads it as root.
    let text = format!(
        "Dir::Etc::sourceparts \"{}/\";\nDir::State::lists \"{}/\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n\
         APT::Sandbox::User \"root\";\n",
        parts.display(),
        lists.display(),
    );
    write_atomic(&settings(&config.state_dir), text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::quiet;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    /// A directory whose build.sh makes one tiny package.
    fn components(home: &Path) -> PathBuf {
        let (dir, tree) = (home.join("components"), home.join("tree"));
        make_dirs(&dir).unwrap();
        make_dirs(&tree.join("DEBIAN")).unwrap();
        let control =
            "Package: straas-tiny\nVersion: 1.0-1\nArchitecture: all\nMaintainer: a <a@localhost>\nDescription: tiny\n";
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let deb = home.join("straas-tiny_1.0-1_all.deb");
        let script = format!("#!/bin/sh\ndpkg-deb --build {} {} >&2 && echo {1}\n", tree.display(), deb.display());
        fs::write(dir.join("build.sh"), script).unwrap();
        fs::set_permissions(dir.join("build.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn agents_find_the_packages_and_the_machine_does_not() {
        let home = tempfile::tempdir().unwrap();
        let mut config = LocalConfig::new("test", home.path().join("state"));
        offer(&config, &quiet()).unwrap();
        assert!(!settings(&config.state_dir).exists(), "nothing is offered where nothing is made");
        config.components = Some(components(home.path()));
        offer(&config, &quiet()).unwrap();
        offer(&config, &quiet()).unwrap();
        // only our own source is asked: the test must not need the network
        let apt = |program: &str, words: &[&str]| {
            let mut command = Command::new(program);
            command.args(["-o", "Dir::Etc::sourcelist=-", "-o", "Debug::NoLocking=true"]).args(words);
            command.env("LC_ALL", "C").env("APT_CONFIG", settings(&config.state_dir)).output().unwrap()
        };
        let parts = config.state_dir.join("apt/sources.list.d");
        let machines: Vec<_> = fs::read_dir(PARTS).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        assert!(machines.iter().all(|name| parts.join(name).exists()), "{machines:?}");
        machines.iter().for_each(|name| fs::remove_file(parts.join(name)).unwrap());
        let update = apt("apt-get", &["-q", "update"]);
        assert!(update.status.success(), "{}", String::from_utf8_lossy(&update.stderr));
        let shown = apt("apt-cache", &["policy", "straas-tiny"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("Candidate: 1.0-1"), "{shown:?}");
        let own = Command::new("apt-cache").args(["policy", "straas-tiny"]).output().unwrap();
        assert!(own.stdout.is_empty(), "{own:?}");
    }
}
