//! Processes by handle instead of by number.
//!
//! A number can be recycled between the look and the kill. So a process is remembered by number,
//! start time and the machine's boot id, opened as a pidfd, checked *after* the open, and then
//! signalled and awaited through the pidfd only.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::error::HostError;

/// How long a killed process may take to be gone: a loaded machine frees a JVM's memory first.
const DEATH_SECONDS_MAX: u64 = 60;

/// Which process we mean, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks since the machine's boot.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// A process that was alive when it was opened.
#[derive(Debug)]
pub struct Process {
    /// Its number, for messages and for `nsenter`.
    pub pid: i32,
    fd: OwnedFd,
}

impl ProcessId {
    /// Notes who runs under this number now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: stat(pid)?.start_ticks, boot_id: boot_id()? })
    }

    /// Opens the process if it still is the one that was noted and is not dead.
    pub fn open(&self) -> Option<Process> {
        if boot_id()? != self.boot_id {
            return None;
        }
        let process = Process::open(self.pid)?;
        let stat = stat(self.pid)?;
        (stat.start_ticks == self.start_ticks && stat.alive()).then_some(process)
    }
}

impl Process {
    /// Opens whatever runs under this number.
    pub fn open(pid: i32) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, fd })
    }

    /// Sends a signal; a process that is gone already is fine.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Waits until it is dead; `false` when the time is over first.
    pub fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(n) if n > 0 => return true,
                Ok(_) if left.is_zero() => return false,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Kills it and waits for its end. For the init of a pid namespace that is the end of all.
    pub fn kill(&self) -> Result<(), HostError> {
        self.signal(Signal::KILL);
        if self.wait(Duration::from_secs(DEATH_SECONDS_MAX)) {
            return Ok(());
        }
        Err(HostError::Timeout { what: format!("the end of process {}", self.pid), seconds: DEATH_SECONDS_MAX })
    }
}

/// What we read of `/proc/<pid>/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// One letter, e.g. `S`, `Z`.
    pub letter: char,
    /// The parent's number.
    pub parent: i32,
    /// Clock ticks since the machine's boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Neither a zombie nor being removed.
    pub fn alive(&self) -> bool {
        !matches!(self.letter, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/<pid>/stat`.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name stands in parentheses and may hold anything, so fields count from its end.
fn parse_stat(text: &str) -> Option<Stat> {
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        letter: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// All live processes below `root`, children before grandchildren.
pub fn descendants(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all_pids() {
        if let Some(stat) = stat(pid).filter(Stat::alive) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found.remove(0);
    found
}

/// Every process whose environment has exactly this `KEY=value`.
pub fn with_environment(entry: &str) -> Vec<i32> {
    all_pids()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|text| text.split(|b| *b == 0).any(|e| e == entry.as_bytes()))
        })
        .collect()
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
}

fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let mut text = String::from("12 (a) (b) Z 7");
        (0..17).for_each(|_| text.push_str(" 0"));
        text.push_str(" 4711 0");
        assert_eq!(parse_stat(&text), Some(Stat { letter: 'Z', parent: 7, start_ticks: 4711 }));
    }

    #[test]
    fn a_recycled_number_is_not_the_same_process() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.open().is_some());
        assert!(ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() }.open().is_none());
        assert!(ProcessId { boot_id: "another boot".into(), ..me }.open().is_none());
    }

    #[test]
    fn a_killed_child_is_awaited_by_its_handle() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        id.open().unwrap().kill().unwrap();
        assert!(id.open().is_none(), "a zombie counts as dead");
        child.wait().unwrap();
    }
}
