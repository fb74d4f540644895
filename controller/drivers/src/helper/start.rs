//! Stage one of a microhost: makes the namespaces and the link, starts the init, notes who it is.
//!
//! ```text
//!   driver --task--> start: lock, unshare, veth --spawn--> init (PID 1, waits for its task)
//!                    writes run.json, plugs the port, hands the task over, ends
//!                                                 init: mounts, pivot_root, says "ready"
//! ```
//!
//! The init acts only after `run.json` is on disk. So a microhost that nobody knows cannot exist,
//! wherever the controller or this helper is killed: an init whose task never comes ends itself.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::{InitTask, READY, again, say, task, task_line};
use crate::error::HostError;
use crate::local::proc::ProcessId;
use crate::local::record::{HostDir, RunRecord};
use crate::local::tools::{lock_file, run_with_input};

/// What `start` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartTask {
    /// The host's directory.
    pub dir: PathBuf,
    /// Its host name.
    pub name: String,
    /// The image's directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// Its address with prefix length.
    pub address: String,
    /// Its default route.
    pub gateway: String,
    /// Its MAC address.
    pub mac: String,
    /// The fabric's namespace.
    pub netns: String,
    /// The fabric's bridge.
    pub bridge: String,
    /// The port's name on the bridge side.
    pub port: String,
    /// Leave the port down.
    pub cut: bool,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: StartTask = task()?;
    let dir = HostDir(task.dir.clone());
    let Some(_lock) = claim(&dir)? else {
        say(READY);
        return Ok(ExitCode::SUCCESS);
    };
    nix::unistd::setsid().map_err(HostError::io("cannot start a session"))?;
    isolate(HOST_NAMESPACES)?;
    link(&task)?;
    isolate_processes()?;

    let mut init = again("init");
    // Nothing of the controller's environment may be readable in /proc/1/environ of the host.
    init.arg(&task.name).env_clear().stdin(Stdio::piped());
    let mut child = init.spawn().map_err(HostError::io("cannot start the init"))?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let process = ProcessId::of(pid).ok_or_else(|| HostError::NotFound(format!("the init {pid} just started")))?;
    let boots = dir.run().map_or(0, |run| run.boots) + 1;
    dir.write_run(&RunRecord { process, boots })?;
    let line = task_line(&InitTask { dir: task.dir, name: task.name, lower: task.lower })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&line).map_err(HostError::io("cannot hand the init its task"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Locks a host's directory until we end: whoever judges or removes it waits for that. `None` when
/// the host runs already, started for a controller that was killed before it saw it run.
pub(super) fn claim(dir: &HostDir) -> Result<Option<File>, HostError> {
    let path = dir.at("lock");
    let lock = lock_file(&path)?;
    lock.lock().map_err(HostError::at("lock", &path))?;
    let inode = |meta: std::io::Result<std::fs::Metadata>| meta.map(|m| m.ino()).ok();
    if inode(lock.metadata()) != inode(std::fs::metadata(&path)) || dir.record()?.is_none() {
        return Err(HostError::NotFound(format!("{}: it was removed meanwhile", dir.path().display())));
    }
    let running = dir.run().and_then(|run| run.process.open()).is_some();
    Ok((!running).then_some(lock))
}

/// All namespaces of a host but that of processes: see [`isolate_processes`].
pub(super) const HOST_NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

/// Puts our next child into a pid namespace of its own. The very next one is its PID 1, so no
/// program may be run in between.
pub(super) fn isolate_processes() -> Result<(), HostError> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(HostError::io("cannot make a pid namespace (unshare)"))
}

/// Unshares and makes all mounts private, so that nothing we mount is seen outside.
pub(super) fn isolate(flags: CloneFlags) -> Result<(), HostError> {
    unshare(flags).map_err(HostError::io("cannot make namespaces (unshare)"))?;
    let root = Path::new("/");
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(HostError::io("cannot make the mounts private"))
}

/// Makes the veth pair from inside the new namespace, then plugs its other end into the bridge.
fn link(task: &StartTask) -> Result<(), HostError> {
    let StartTask { port, netns, mac, address, gateway, bridge, .. } = task;
    let inside = format!(
        "link set lo up\n\
         link add eth0 address {mac} type veth peer name {port} netns {netns}\n\
         addr add {address} dev eth0\n\
         link set eth0 up\n\
         route add default via {gateway}\n"
    );
    run_with_input("setting up the host's network", Command::new("ip").args(["-batch", "-"]), &inside)?;
    let up = if task.cut { "" } else { "up" };
    let outside = format!("link set {port} master {bridge} {up}\n");
    run_with_input("plugging in the host's port", Command::new("ip").args(["-n", netns, "-batch", "-"]), &outside)?;
    Ok(())
}
