//! Starts our own helpers and talks to them: a task in, a line of answer out.
//!
//! The helper's standard error goes into a file of the host, so that what an init says later is
//! found next to the host. A helper that does not say "ready" within its time limit is killed.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::error::HostError;
use crate::helper::{ChrootTask, ERROR, ProbeTask, READY, task_line};
use crate::local::tools::{run_with_input, tail};

/// A host starts in a tenth of a second; on a machine at load 40 it was seen to take two.
const READY_SECONDS_MAX: u64 = 60;

/// How to start a helper: our own program and the words of its hidden subcommand.
#[derive(Debug, Clone)]
pub struct Helper(pub Vec<OsString>);

impl Helper {
    fn words(&self) -> Result<(&OsString, &[OsString]), HostError> {
        self.0.split_first().ok_or(HostError::Invalid { field: "helper", reason: "is empty".into() })
    }

    /// Starts a helper and waits until it says that it is ready. It keeps running on its own.
    pub async fn start<T: Serialize>(&self, name: &str, task: &T, log: &Path) -> Result<(), HostError> {
        let (program, words) = self.words()?;
        let what = || HostError::io(format!("cannot start the helper {name} ({})", program.to_string_lossy()));
        let line = task_line(task)?;
        let stderr = File::options().append(true).create(true).open(log).map_err(HostError::at("open", log))?;
        let mut child = tokio::process::Command::new(program)
            .args(words)
            .arg(name)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(what())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&line).await.map_err(what())?;
        }
        let answer = match child.stdout.take() {
            Some(out) => tokio::time::timeout(Duration::from_secs(READY_SECONDS_MAX), answer(out)).await,
            None => Ok(None),
        };
        match answer {
            Ok(Some(line)) if line == READY => Ok(()),
            Ok(Some(line)) => Err(HostError::Command {
                what: format!("the helper {name}"),
                status: "gave up".into(),
                output: line.strip_prefix(ERROR).unwrap_or(&line).to_owned(),
            }),
            Ok(None) => Err(HostError::Command {
                what: format!("the helper {name}"),
                status: "ended without an answer".into(),
                output: tail(&std::fs::read(log).unwrap_or_default()),
            }),
            Err(_) => {
                let _ = child.start_kill();
                Err(HostError::Timeout { what: format!("the helper {name}"), seconds: READY_SECONDS_MAX })
            }
        }
    }

    /// Tries what microhosts need (blocking); the error is the first thing that did not work.
    pub fn probe(&self, task: &ProbeTask) -> Result<(), HostError> {
        let (program, words) = self.words()?;
        let line = String::from_utf8_lossy(&task_line(task)?).into_owned();
        let mut command = std::process::Command::new(program);
        command.args(words).arg("probe");
        run_with_input("trying namespaces and overlayfs", &mut command, &line).map(drop)
    }

    /// Runs a command inside an image to its end (blocking) and gives its standard output.
    pub fn chroot(&self, what: &str, task: &ChrootTask) -> Result<String, HostError> {
        let (program, words) = self.words()?;
        let mut line = String::from_utf8_lossy(&task_line(task)?).into_owned();
        let mut command = std::process::Command::new(program);
        command.args(words).arg("chroot");
        let output = run_with_input(what, &mut command, std::mem::take(&mut line).as_str())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The first line that is an answer; `None` at the end of the output.
async fn answer(out: tokio::process::ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == READY || line.starts_with(ERROR) {
            return Some(line);
        }
    }
    None
}

/// A fresh directory with what an overlay needs; removed with everything when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes `<parent>/<name>` with `upper`, `work` and `root`, removing an old one.
    pub fn make(parent: &Path, name: &str) -> Result<Self, HostError> {
        let dir = parent.join(name);
        crate::local::tools::remove_tree(&dir)?;
        for part in ["upper", "work", "root"] {
            crate::local::tools::make_dirs(&dir.join(part))?;
        }
        Ok(Self(dir))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = crate::local::tools::remove_tree(&self.0) {
            tracing::warn!(error = %error.chain(), "a scratch directory stays behind");
        }
    }
}
