//! Faults of this machine that the controller meets while it makes and removes hosts.
//!
//! Both are what they look like to the program: a directory that takes no change, as a disk that
//! failed, and a network that carries nothing. Each ends with its guard, so that a test that fails
//! leaves nothing broken.

use crate::cluster::Cluster;
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::process::Command;

/// Ends a fault when it is dropped.
pub struct Fault(Vec<std::ffi::OsString>);

impl Drop for Fault {
    fn drop(&mut self) {
        // a fault that cannot be ended is found by whoever removes the hosts
        let _ = run(&self.0);
    }
}

/// No host can be made or removed: the directory that holds them takes no entry and gives none up.
/// Hosts that run go on.
///
/// # Errors
/// There is no such directory, or its file system knows no such attribute.
pub fn disk(cluster: &Cluster) -> Result<Fault> {
    let dir = cluster.data().join("hosts/hosts");
    let words = |flag: &str| ["chattr".into(), flag.into(), dir.clone().into_os_string()].to_vec();
    run(&words("+i"))?;
    Ok(Fault(words("-i")))
}

/// Nobody hears anybody: the bridge of the hosts is down.
///
/// # Errors
/// There is no bridge.
pub fn network(cluster: &Cluster) -> Result<Fault> {
    let netns = cluster.netns();
    let words = |to: &str| ["ip", "-n", &netns, "link", "set", "br0", to].map(Into::into).to_vec();
    run(&words("down"))?;
    Ok(Fault(words("up")))
}

fn run(words: &[std::ffi::OsString]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program).args(arguments.iter().map(OsStr::new)).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
