//! What a user types: the program `straas` against the controller of a test.

use crate::cluster::{Cluster, Ran};
use anyhow::{Context as _, Result, ensure};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

impl Cluster {
    fn straas(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.artifacts.cli);
        command.args(args).env("STRAAS_ENDPOINT", &self.api.endpoint).env("STRAAS_TOKEN_FILE", &self.api.token_file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs `straas`, whatever comes of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn tried(&self, args: &[&str]) -> Result<Ran> {
        let output = self.straas(args).output().await.with_context(|| format!("start straas {args:?}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs `straas`, which has to succeed; what it printed.
    ///
    /// # Errors
    /// As [`Cluster::tried`], or it failed.
    pub async fn typed(&self, args: &[&str]) -> Result<String> {
        let ran = self.tried(args).await?;
        ensure!(ran.code == 0, "straas {args:?} ended with {}: {}{}", ran.code, ran.stdout, ran.stderr);
        Ok(ran.stdout)
    }

    /// Starts `straas`, to be read while it runs.
    ///
    /// # Errors
    /// As [`Cluster::tried`].
    pub fn typing(&self, args: &[&str]) -> Result<Typing> {
        let mut child = self.straas(args).spawn().with_context(|| format!("start straas {args:?}"))?;
        let stdout = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Typing { child, stdout, text: String::new() })
    }
}

/// A `straas` that runs.
pub struct Typing {
    child: Child,
    stdout: BufReader<ChildStdout>,
    text: String,
}

impl Typing {
    /// The next line that it prints.
    ///
    /// # Errors
    /// It ended first.
    pub async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line).await? > 0, "it ended after {:?}", self.text);
        self.text.push_str(&line);
        Ok(line.trim_end().to_owned())
    }

    /// Its end, with everything that it printed.
    ///
    /// # Errors
    /// The pipe broke.
    pub async fn ended(mut self) -> Result<Ran> {
        self.stdout.read_to_string(&mut self.text).await?;
        let output = self.child.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Ran { code: output.status.code().unwrap_or(-1), stdout: self.text, stderr })
    }
}
