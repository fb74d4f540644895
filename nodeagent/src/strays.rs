//! Processes that a script left behind, and how they are told from a service that is to live on.
//!
//! A script's process group is killed with it. What can escape that is in a group of its own (a
//! shell's job control) or in a session of its own (`setsid`, a double fork). The first is no daemon
//! and goes. The second may be the service that the script was to start, and stays, unless
//!
//! * the run had no business starting one ([`Leaves::Nothing`]), or
//! * the run was killed, and the process still holds its output: a service that was started
//!   properly has its output elsewhere, so this is a piece of the script that was to end.
//!
//! They are found by the mark in their environment, or by the pipe.
//!
//! Never here: the script's own group (`executor.rs`).

use crate::executor::{RUN_ENV, SESSION_ENV, signal};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::{Pid, getpgid, getpid, getsid};
use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Looks over all processes until none is found: one that forks as fast as it can is faster than one look.
const LOOKS_MAX: usize = 50;

/// What may live on when a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// A service: whatever made a session of its own.
    Services,
    /// Nothing: the run looks or renders.
    Nothing,
}

/// What a descriptor of a pipe is called in `/proc`.
#[must_use]
pub fn pipe(descriptor: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()
}

/// Kills what the run of this mark left behind, and whoever holds one of these pipes; gives their number.
#[must_use]
pub fn kill(mark: &str, leaves: Leaves, pipes: &[PathBuf]) -> usize {
    let session = getsid(None).ok();
    let is_stray = |pid: &Pid| {
        let daemon = getsid(Some(*pid)).ok() != session;
        let marked = || marks(*pid).is_some_and(|(of, _)| of == mark);
        (!daemon || leaves == Leaves::Nothing) && marked() || holds(*pid, pipes)
    };
    let mut found = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        let strays: Vec<Pid> = processes().filter(is_stray).filter(|pid| found.insert(*pid)).collect();
        if strays.is_empty() {
            break;
        }
        for pid in strays {
            // one that is gone by itself is as good
            let _ = send(pid, Signal::SIGKILL);
        }
    }
    found.len()
}

/// Kills what an agent of this node that died was running; gives the number of groups.
/// Daemons that a script started are spared: they left its session.
#[must_use]
pub fn leftovers(node: &str) -> usize {
    let of_node = |mark: &str| mark.strip_prefix(node).is_some_and(|rest| rest.starts_with('/'));
    let mut groups = BTreeSet::new();
    for pid in processes() {
        if let Some((mark, session)) = marks(pid)
            && of_node(&mark)
            && getsid(Some(pid)).is_ok_and(|of| Some(of.as_raw()) == session)
        {
            groups.extend(getpgid(Some(pid)).ok());
        }
    }
    let own = getpgid(None).ok();
    groups.retain(|group| Some(*group) != own);
    for group in &groups {
        tracing::warn!(%group, "ends a script that a dead agent left running");
        signal(Some(*group), Signal::SIGKILL);
    }
    groups.len()
}

/// All but this one, and those that only wait to be reaped.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|pid| *pid != getpid())
}

/// The mark of its run and the session that the agent had.
fn marks(pid: Pid) -> Option<(String, Option<i32>)> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &str| {
        let mut variables = environment.split(|byte| *byte == 0);
        let value = variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    Some((value(RUN_ENV)?, value(SESSION_ENV).and_then(|session| session.parse().ok())))
}

fn holds(pid: Pid, pipes: &[PathBuf]) -> bool {
    if pipes.is_empty() {
        return false;
    }
    let proc = Path::new("/proc").join(pid.to_string());
    // a process that is just being made has all that its maker has, until it becomes another program
    let program = |of: &Path| std::fs::read_link(of.join("exe")).ok();
    if program(&proc) == program(Path::new("/proc/self")) {
        return false;
    }
    let open = std::fs::read_dir(proc.join("fd"));
    open.into_iter().flatten().flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| pipes.contains(&to)))
}
