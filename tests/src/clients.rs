//! Clients of the clusters under test that are not ours: `tests/clients/` runs librdkafka and kazoo.
//!
//! They run on this machine in the network namespace of the test's hosts, write without a break
//! while the test does things to the cluster, and say at the end what was acknowledged and lost.

use crate::cluster::Cluster;
use crate::wait;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// From the start of a client to its first acknowledged write: a session and a topic.
const FIRST_WRITE_MAX: Duration = Duration::from_secs(120);
/// From SIGTERM to the summary: what is in flight is flushed, and everything is read back.
const SUMMARY_MAX: Duration = Duration::from_secs(300);

/// A client that writes until it is told to stop.
pub struct Writer {
    child: Child,
    log: PathBuf,
}

/// What a client saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// Writes that were tried.
    pub sent: u64,
    /// Writes that the cluster acknowledged.
    pub acknowledged: u64,
    /// How many of those were not there at the end.
    pub lost_count: u64,
    /// Some of them.
    pub lost: Vec<u64>,
    /// How many were there twice.
    pub twice: u64,
    /// Writes that the client gave up, after all its own retries.
    pub failed_count: u64,
    /// Some of them.
    pub failed: Vec<String>,
    /// Longest time between two acknowledged writes, in seconds.
    pub longest_gap_s: f64,
    /// When it ended, in seconds from the start.
    pub gap_at_s: f64,
    /// How long the client ran.
    pub ran_s: f64,
}

impl Writer {
    /// Writes to a new topic of a Kafka cluster.
    ///
    /// # Errors
    /// Nothing was acknowledged in time.
    pub async fn kafka(cluster: &Cluster, servers: &[String], topic: &str, replication: u32) -> Result<Self> {
        let args = [servers.join(","), topic.to_owned(), "6".to_owned(), replication.to_string()];
        Self::start(cluster, "kafka_writer.py", &args).await
    }

    /// Writes below a path of a ZooKeeper ensemble.
    ///
    /// # Errors
    /// Nothing was acknowledged in time.
    pub async fn zookeeper(cluster: &Cluster, servers: &[String], path: &str) -> Result<Self> {
        Self::start(cluster, "zookeeper_writer.py", &[servers.join(","), path.to_owned()]).await
    }

    async fn start(cluster: &Cluster, script: &str, args: &[String]) -> Result<Self> {
        let ready = cluster.data().join(format!("{script}.ready"));
        let log = cluster.data().join(format!("{script}.log"));
        let _ = std::fs::remove_file(&ready);
        let child = Command::new("ip")
            .args(["netns", "exec", &cluster.netns(), "/usr/bin/python3"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(script))
            .args(args)
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {script}"))?;
        let mut this = Self { child, log };
        let what = format!("{script} to write");
        let first = wait(&what, FIRST_WRITE_MAX, async || {
            let ended = this.child.try_wait().ok().flatten();
            if ready.exists() { Some(Ok(())) } else { ended.map(Err) }
        });
        if let Err(how) = first.await? {
            anyhow::bail!("{script} ended with {how}: {}", this.said());
        }
        Ok(this)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops it and hears what it saw.
    ///
    /// # Errors
    /// It ended early, or without a summary.
    pub async fn finish(mut self) -> Result<Summary> {
        let pid = self.child.id().with_context(|| format!("the client ended early: {}", self.said()))?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        let stdout = self.child.stdout.take().context("no output")?;
        let read = async {
            let mut text = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut { stdout }, &mut text).await?;
            anyhow::Ok(text)
        };
        let text = tokio::time::timeout(SUMMARY_MAX, read).await.context("the client says nothing")??;
        serde_json::from_str(text.trim()).with_context(|| format!("the client says {text:?}; {}", self.said()))
    }
}

impl Summary {
    /// Fails unless everything acknowledged is there and nothing was given up.
    ///
    /// # Errors
    /// What is lost.
    pub fn nothing_lost(&self) -> Result<()> {
        ensure!(self.acknowledged > 0, "nothing was acknowledged: {self:?}");
        ensure!(self.lost_count == 0, "acknowledged writes are lost: {self:?}");
        ensure!(self.failed_count == 0, "the client gave up writes: {self:?}");
        Ok(())
    }
}
