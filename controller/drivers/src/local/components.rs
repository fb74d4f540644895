//! Packages of components that no mirror has: made by the project's own script, offered to apt.
//!
//! `packaging/components/build.sh` makes them once and keeps them by content; here they become a
//! small repository of their own that apt, inside the image, reads beside the mirror's, so that
//! what they depend on is found like anything else. A script that fails takes nothing else along:
//! its words are the reason that a node's missing package is then reported with.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::error::HostError;
use crate::local::Progress;
use crate::local::tools::{failed, make_dirs, need, remove_tree, run, spawn_error, write_atomic};

/// The script, in the directory that the configuration names.
const SCRIPT: &str = "build.sh";
/// The script's standard output is a few paths; more than this is not it.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Packages that were made here.
#[derive(Debug, Default)]
pub struct Components {
    /// File name → where it is. The path holds a digest of what the package was made from.
    pub debs: BTreeMap<String, PathBuf>,
    /// Why there are none, or not all.
    pub failure: Option<String>,
}

/// Makes the packages of every component, or finds them made. Blocking; the first time it needs
/// the network and about half a minute.
pub fn build(dir: Option<&Path>, progress: &Progress) -> Components {
    let Some(script) = dir.map(|dir| dir.join(SCRIPT)).filter(|script| script.is_file()) else {
        return Components::default();
    };
    match run_script(&script, progress) {
        Ok(paths) => {
            let named = |path: &str| Some((Path::new(path).file_name()?.to_str()?.to_owned(), PathBuf::from(path)));
            Components { debs: paths.lines().filter_map(named).collect(), failure: None }
        }
        Err(error) => {
            let failure = match &error {
                HostError::Command { output, .. } => output.clone(),
                other => other.to_string(),
            };
            progress(&format!("packages of components could not be made: {failure}"));
            Components { debs: BTreeMap::new(), failure: Some(failure) }
        }
    }
}

/// Runs the script; its stderr is progress, its stdout the answer.
fn run_script(script: &Path, progress: &Progress) -> Result<String, HostError> {
    let what = "making the packages of components";
    let mut command = Command::new(script);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| spawn_error(what, &command, error))?;
    let stdout = child.stdout.take();
    // Read beside stderr: neither pipe may fill while the other is waited for.
    let answer = thread::spawn(move || {
        let mut text = String::new();
        stdout.map(|stdout| stdout.take(OUTPUT_BYTES_MAX).read_to_string(&mut text));
        text
    });
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            progress(&String::from_utf8_lossy(&line));
            said.extend_from_slice(&line);
            said.push(b'\n');
        }
    }
    let status = child.wait().map_err(HostError::io(what))?;
    let answer = answer.join().unwrap_or_default();
    if status.success() {
        return Ok(answer);
    }
    Err(failed(what, &std::process::Output { status, stdout: Vec::new(), stderr: said }))
}

impl Components {
    /// Writes a repository of these packages to `dir`, without signature: only our own apt, in
    /// a throw-away overlay on this machine, ever reads it.
    pub fn offer(&self, dir: &Path) -> Result<(), HostError> {
        remove_tree(dir)?;
        make_dirs(dir)?;
        for (name, from) in &self.debs {
            put(from, &dir.join(name))?;
        }
        need("apt-ftparchive")?;
        let mut list = Command::new("apt-ftparchive");
        list.current_dir(dir).args(["packages", "."]);
        let list = run("indexing the packages of components", &mut list)?;
        write_atomic(&dir.join("Packages"), &list.stdout, 0o644)
    }
}

/// One file, two names where the file system allows it, else a copy.
pub fn put(from: &Path, to: &Path) -> Result<(), HostError> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map(drop).map_err(HostError::at("copy the package to", to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::quiet;
    use std::os::unix::fs::PermissionsExt;

    fn script(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SCRIPT);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn paths_are_known_by_their_names() {
        let dir = script("echo packing >&2; echo /c/kafka-1/kafka-3.9.2_3.9.2-1_all.deb");
        let made = build(Some(dir.path()), &quiet());
        assert_eq!(made.failure, None);
        let path = PathBuf::from("/c/kafka-1/kafka-3.9.2_3.9.2-1_all.deb");
        assert_eq!(made.debs, BTreeMap::from([("kafka-3.9.2_3.9.2-1_all.deb".to_owned(), path)]));
    }

    #[test]
    fn a_failure_keeps_its_words() {
        let dir = script("echo /c/half.deb; echo 'mvn is missing; apt-get install maven' >&2; exit 1");
        let made = build(Some(dir.path()), &quiet());
        assert!(made.debs.is_empty());
        assert_eq!(made.failure.as_deref(), Some("mvn is missing; apt-get install maven"));
    }

    #[test]
    fn without_a_script_there_is_nothing_to_make() {
        let dir = tempfile::tempdir().unwrap();
        for made in [build(None, &quiet()), build(Some(dir.path()), &quiet())] {
            assert!(made.debs.is_empty() && made.failure.is_none());
        }
    }
}
