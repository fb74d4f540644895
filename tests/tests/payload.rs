//! The payload's own checks, run with everything else: its golden contexts, shellcheck over every
//! shell script, Puppet's parser over every manifest and template, and the life of components as
//! real software, without controller and agent.
//!
//! A tool that is missing fails the test and names its package: a check that is skipped in silence
//! is no check.
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Runs a command at the top of the tree; its output is shown when it fails.
fn check(package: &str, command: &mut Command) {
    let shown = format!("{command:?}");
    let output = command.current_dir(root()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {shown}: {e}; apt-get install {package}"));
    assert!(
        output.status.success(),
        "{shown}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every file below the given folders for which `wanted` holds.
fn files(folders: &[&str], wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else if wanted(&path) {
                out.push(path);
            }
        }
    }
    assert!(!out.is_empty(), "no file to check below {folders:?}");
    out
}

fn is_shell(path: &Path) -> bool {
    let first = std::fs::read(path).unwrap_or_default();
    let first = String::from_utf8_lossy(&first);
    let first = first.lines().next().unwrap_or_default();
    path.extension().is_some_and(|e| e == "sh") || (first.starts_with("#!") && first.ends_with("sh"))
}

fn ends_with(extension: &'static str) -> impl Fn(&Path) -> bool {
    move |path| path.extension().is_some_and(|e| e == extension)
}

#[test]
fn golden_contexts() {
    check("python3", Command::new("proxy-scripts/tests/run.sh").env("LC_ALL", "C.UTF-8"));
}

#[test]
fn shellcheck() {
    let scripts = files(&["proxy-scripts", "guestcmds", "packaging", "tests/components", ".ci"], is_shell);
    check("shellcheck", Command::new("shellcheck").args(["--severity=warning", "-x"]).args(scripts));
}

#[test]
fn puppet_parses() {
    let manifests = files(&["puppet", "tests/components"], ends_with("pp"));
    check("puppet-agent", Command::new("puppet").args(["parser", "validate"]).args(manifests));
    let templates = files(&["puppet", "tests/components"], ends_with("epp"));
    check("puppet-agent", Command::new("puppet").args(["epp", "validate"]).args(templates));
}

/// ZooKeeper, a nimbus, two supervisors and a topology whose tuples are acknowledged: created,
/// changed, restarted, upgraded, bereft of a disk, removed.
#[test]
fn storm_lives() {
    check("maven", Command::new("proxy-scripts/tests/real/box.sh").arg("proxy-scripts/tests/real/storm.py"));
}

/// Three brokers and a client that is not ours, which loses nothing: created, rolled, upgraded, grown,
/// drained, killed.
#[test]
fn kafka_lives() {
    check("maven", &mut Command::new("proxy-scripts/tests/kafka.sh"));
}

/// The component made of files alone: three to five servers and a stream on three of them.
#[test]
fn nats_lives() {
    let overlay = "tests/components/nats";
    check("iproute2", Command::new("proxy-scripts/tests/real/box.sh").args([&format!("{overlay}/real.py"), overlay]));
}
