//! The processes that a local driver starts of its own program: `<controller> microhost <what>`.
//!
//! Making namespaces needs a process without threads, and a host must outlive the controller. So
//! the driver starts itself again with a hidden subcommand. What to do comes as one line of JSON on
//! standard input, never as arguments; answers are lines on standard output. The entry must run
//! before any thread or async runtime exists.

mod chroot;
mod delay;
mod init;
mod inittab;
mod keeper;
mod logfile;
mod probe;
mod root;
mod start;
mod supervise;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::error::HostError;

pub(crate) use chroot::ChrootTask;
pub(crate) use delay::DelayTask;
pub(crate) use init::InitTask;
pub(crate) use probe::ProbeTask;
pub(crate) use start::StartTask;
pub(crate) use supervise::SuperviseTask;

/// The line on standard output that says that a helper is where its caller wants it.
pub(crate) const READY: &str = "ready";
/// What a line with an error starts with.
pub(crate) const ERROR: &str = "error ";

/// Runs one helper. `args` are the words after the subcommand's name.
pub fn microhost_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    close_inherited();
    let mut args = args.into_iter();
    let task = args.next().unwrap_or_default();
    let done = match task.to_str() {
        Some("start") => start::run(),
        Some("init") => init::run(),
        Some("delay") => delay::run(),
        Some("supervise") => supervise::run(),
        Some("child") => supervise::run_child(args),
        Some("probe") => probe::run(),
        Some("probe-inner") => probe::run_inner(),
        Some("chroot") => chroot::run(),
        Some("chroot-inner") => chroot::run_inner(),
        _ => Err(HostError::Invalid {
            field: "microhost",
            reason: format!("{task:?} is not one of the helpers; the controller starts them itself"),
        }),
    };
    match done {
        Ok(code) => code,
        // Our starter died, or gave up and says so itself.
        Err(HostError::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => ExitCode::FAILURE,
        Err(error) => {
            let line = error.chain().replace('\n', " | ");
            say(&format!("{ERROR}{line}"));
            let _ = writeln!(std::io::stderr(), "microhost {}: {line}", task.to_string_lossy());
            ExitCode::FAILURE
        }
    }
}

/// Closes what whoever started the controller left open in it: a host lives on, and must not hold
/// a stranger's lock or pipe. Nothing of ours is open yet.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // Collected first: the listing itself uses one of them, which is closed by then.
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        let _ = nix::unistd::close(fd);
    }
}

/// Writes one line to whoever started us; nobody listening is fine.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Reads what to do. An end of input without a line means that our starter died: do nothing.
pub(crate) fn task<T: DeserializeOwned>() -> Result<T, HostError> {
    let mut line = String::new();
    let what = "cannot read the helper's task";
    std::io::stdin().read_line(&mut line).map_err(HostError::io(what))?;
    serde_json::from_str(&line).map_err(|e| HostError::io(what)(std::io::Error::other(e)))
}

/// A task as the line that [`task`] reads.
pub(crate) fn task_line<T: serde::Serialize>(task: &T) -> Result<Vec<u8>, HostError> {
    let mut line =
        serde_json::to_vec(task).map_err(|e| HostError::io("cannot encode a task")(std::io::Error::other(e)))?;
    line.push(b'\n');
    Ok(line)
}

/// A command for another helper of this same program.
pub(crate) fn again(task: &str) -> std::process::Command {
    let mut args = std::env::args_os();
    let program = args.next();
    // /proc/self/exe is right even when the file was replaced by an upgrade meanwhile.
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(program) = program {
        std::os::unix::process::CommandExt::arg0(&mut command, program);
    }
    // Keep the words between the program and the task: the hidden subcommand, or nothing.
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let own = words.iter().position(|w| TASKS.iter().any(|t| w == t)).unwrap_or(0);
    command.args(&words[..own]).arg(task);
    command
}

/// Every helper's name, to find where the task stands among our own arguments.
const TASKS: [&str; 9] =
    ["start", "init", "delay", "supervise", "child", "probe", "probe-inner", "chroot", "chroot-inner"];

/// Where the userdata of a microhost stands and what it leaves, as seen inside the host.
pub(crate) mod userdata_files {
    pub(crate) use super::init::{USERDATA, USERDATA_FAILED, USERDATA_LOG};
}
