//! Runs a command inside an image, with the machine's network: how layers are built and packages
//! are fetched.
//!
//! Two stages like a microhost, but without network, UTS and IPC namespaces and with the machine's
//! `resolv.conf`. The command dies with its caller, and every mount with the command.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::keeper::clean;
use super::{again, root, start, task, task_line};
use crate::error::HostError;

/// What `chroot` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChrootTask {
    /// The image's directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// A directory with `upper`, `work` and `root`; what the command changes stays in `upper`.
    pub dir: PathBuf,
    /// Directories of the machine to be seen inside, as (machine, inside without leading slash).
    pub binds: Vec<(PathBuf, String)>,
    /// Program and arguments.
    pub argv: Vec<String>,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: ChrootTask = task()?;
    die_with_parent()?;
    start::isolate(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    let what = "cannot start the second stage";
    let mut child = again("chroot-inner").stdin(Stdio::piped()).spawn().map_err(HostError::io(what))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&task_line(&task)?).map_err(HostError::io(what))?;
    }
    let status = child.wait().map_err(HostError::io(what))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

pub(crate) fn run_inner() -> Result<ExitCode, HostError> {
    let task: ChrootTask = task()?;
    die_with_parent()?;
    let inside = task.dir.join("root");
    root::overlay(&task.lower, &task.dir.join("upper"), &task.dir.join("work"), &inside)?;
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(HostError::at("bind on", to))
    };
    root::at(&inside, "proc", |p| mount(Some("proc"), p, Some("proc"), MsFlags::MS_NOSUID, None::<&str>))?;
    bind(Path::new("/dev"), &inside.join("dev"))?;
    root::tmpfs(&inside, "tmp", "mode=1777")?;
    root::tmpfs(&inside, "run", "mode=755")?;
    let resolver = inside.join("run/resolv.conf");
    if fs::copy("/etc/resolv.conf", &resolver).is_ok() {
        let target = inside.join("etc/resolv.conf");
        bind(&resolver, &target)?;
    }
    for (from, to) in &task.binds {
        let to = inside.join(to);
        fs::create_dir_all(&to).map_err(HostError::at("create", &to))?;
        bind(from, &to)?;
    }
    std::os::unix::fs::chroot(&inside).map_err(HostError::at("chroot to", &inside))?;
    std::env::set_current_dir("/").map_err(HostError::io("cannot enter the image"))?;
    let mut words = task.argv.iter();
    let program = words.next().map_or("/bin/false", String::as_str);
    let mut command = Command::new(program);
    clean(command.args(words)).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    Err(HostError::io(format!("cannot run {program} in the image"))(command.exec()))
}

fn die_with_parent() -> Result<(), HostError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(HostError::io("cannot ask for a death signal"))
}
