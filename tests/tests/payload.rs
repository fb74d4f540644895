//! The payload's own checks, run with everything else: its golden contexts, shellcheck over every
//! shell script, Puppet's parser over every manifest and template, what the packages hold, and the
//! life of components as real software, without controller and agent.
//!
//! A tool that is missing fails the test and names its package: a check that is skipped in silence
//! is no check.
#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use straas_tests::root;

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

/// What installing the controller's package leaves: a configuration that it takes, a unit that starts
/// it in a way that it knows, and whatever the packages of components are made from.
#[test]
fn the_controllers_package_is_whole() {
    let programs = straas_tests::artifacts::artifacts().expect("the programs");
    let home = tempfile::tempdir().expect("a directory");
    let (out, installed) = (home.path().join("out"), home.path().join("installed"));
    let mut pack = Command::new("packaging/debian/build-controller.sh");
    check("dpkg-dev", pack.arg(&programs.controller).arg(&programs.agent_deb).arg(&out));
    let deb = std::fs::read_dir(&out).expect("the output").next().expect("a package").expect("an entry").path();
    check("dpkg", Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&installed));

    let controller = installed.join("usr/sbin/straas-controller");
    check("", Command::new(&controller).arg("check-config").arg(installed.join("etc/straas/controller.toml")));
    let unit = std::fs::read_to_string(installed.join("lib/systemd/system/straas-controller.service")).expect("a unit");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a start");
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(words[0], "/usr/sbin/straas-controller");
    check("", Command::new(&controller).args(&words[1..]).arg("--help"));

    let here = root().join("packaging/components");
    for file in files(&["packaging/components"], |path| path.extension().is_none_or(|e| e != "md")) {
        let there = installed.join("usr/share/straas/components").join(file.strip_prefix(&here).expect("below it"));
        let same = std::fs::read(&file).ok() == std::fs::read(&there).ok();
        assert!(same && is_program(&file) == is_program(&there), "{} is not what the package has", file.display());
    }
    assert!(installed.join("usr/share/straas/straas-agent.deb").is_file());
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o100 != 0)
}

/// ZooKeeper, a nimbus, two supervisors and a topology whose tuples are acknowledged: created,
/// changed, restarted, upgraded, bereft of a disk, removed.
#[test]
fn storm_lives() {
    check("maven", Command::new("proxy-scripts/tests/real/box.sh").arg("proxy-scripts/tests/real/storm.py"));
}

/// Two nimbuses on hosts of their own: the one that leads is killed, the other takes over.
#[test]
fn a_nimbus_takes_over() {
    check("maven", Command::new("proxy-scripts/tests/real/box.sh").arg("proxy-scripts/tests/real/storm_nimbuses.py"));
}

/// Three brokers and a client that is not ours, which loses nothing: created, rolled, upgraded, grown,
/// drained, killed, made again under its old name.
#[test]
fn kafka_lives() {
    check("maven", Command::new("proxy-scripts/tests/real/box.sh").arg("proxy-scripts/tests/real/kafka.py"));
}

/// The component made of files alone: three to five servers and a stream on three of them.
#[test]
fn nats_lives() {
    let overlay = "tests/components/nats";
    check("iproute2", Command::new("proxy-scripts/tests/real/box.sh").args([&format!("{overlay}/real.py"), overlay]));
}
