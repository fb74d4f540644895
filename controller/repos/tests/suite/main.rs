//! Tests of the config repo, the script repo and packs, against real repositories in temp folders.
//!
//! One binary. What StraaS writes is judged by the git command, not by the library that wrote it.

#![allow(clippy::unwrap_used)]

mod catalog;
mod config;
mod many_branches;
mod moved;
mod packs;
mod reseal;
mod scripts;
mod seeding;
mod server;
mod service;
mod upstream;
mod upstream_crash;
mod upstream_rules;
mod users;
mod versions;

use std::path::Path;
use std::process::Command;
use straas_repos::{ConfigRepo, Error, ScriptRepo};
use tempfile::TempDir;

/// Runs git in `dir`; its output.
fn git(dir: &Path, args: &[&str]) -> String {
    let done = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git runs");
    assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn config() -> (TempDir, ConfigRepo) {
    let home = tempfile::tempdir().unwrap();
    let repo = ConfigRepo::open(&home.path().join("config.git")).unwrap();
    (home, repo)
}

fn scripts() -> (TempDir, ScriptRepo) {
    let home = tempfile::tempdir().unwrap();
    let repo = ScriptRepo::open(&home.path().join("scripts.git")).unwrap();
    (home, repo)
}

fn faults(error: Error) -> Vec<String> {
    match error {
        Error::Invalid { faults } => faults.iter().map(ToString::to_string).collect(),
        other => panic!("expected faults, got {other:?}"),
    }
}
