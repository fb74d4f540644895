//! Tries what microhosts need, for real, in a scratch directory: the only honest way to know.
//!
//! Namespaces can be forbidden by a container's seccomp filter, overlayfs by the file system that
//! the state directory is on, veth by the kernel. Each is tried where it will be used; the first
//! that fails is the reason that the operator reads.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::{READY, again, root, say, start, task, task_line};
use crate::error::HostError;
use crate::local::tools::run_with_input;

/// What `probe` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProbeTask {
    /// A scratch directory with `lower`, `upper`, `work` and `root`.
    pub dir: PathBuf,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: ProbeTask = task()?;
    start::isolate(start::HOST_NAMESPACES)?;
    let links =
        "link set lo up\nlink add br0 type bridge\nlink add p0 type veth peer name p1\nlink set p0 master br0\n";
    run_with_input("making a bridge and a veth pair", Command::new("ip").args(["-batch", "-"]), links)?;
    start::isolate_processes()?;
    let mut child = again("probe-inner")
        .stdin(Stdio::piped())
        .spawn()
        .map_err(HostError::io("cannot start in a new pid namespace"))?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, &task_line(&task)?)
            .map_err(HostError::io("cannot hand over the task"))?;
    }
    let status = child.wait().map_err(HostError::io("cannot wait for the second stage"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn run_inner() -> Result<ExitCode, HostError> {
    let ProbeTask { dir } = task()?;
    let inside = dir.join("root");
    root::overlay(&[dir.join("lower")], &dir.join("upper"), &dir.join("work"), &inside)?;
    root::at(&inside, "proc", |p| mount(Some("proc"), p, Some("proc"), MsFlags::MS_NOSUID, None::<&str>))?;
    root::tmpfs(&inside, "run", "mode=755")?;
    say(READY);
    Ok(ExitCode::SUCCESS)
}
