//! Keeps programs running: the loop that a host's init and a process host's supervisor share.
//!
//! A program that dies is started again, at once when it had run for a while, after a growing pause
//! when it dies at once. Everything is event driven: SIGCHLD, SIGTERM, SIGHUP and one timer. All
//! children are reaped in one place, orphans of others included, which is why this does not use
//! an async process API that reaps on its own.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::Instant;

use super::logfile::LogFile;
use crate::error::HostError;
use crate::local::proc::descendants;

/// A program that lived this long gets a fresh start: its next death is answered at once.
const SETTLED: Duration = Duration::from_secs(10);
/// The first pause after a quick death, doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause: an operator who repaired something waits no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long programs may take to end by themselves when the host stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// One read from a program's output.
const READ_BYTES: usize = 8192;

/// A program to keep running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Names its log.
    pub id: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the clean environment.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// Why [`Keeper::keep`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM or SIGINT: end.
    Stop,
    /// SIGHUP: read the table again.
    Reload,
}

/// How a child ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended(WaitStatus);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            WaitStatus::Exited(_, code) => write!(f, "exit {code}"),
            WaitStatus::Signaled(_, signal, _) => write!(f, "{signal}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// ```text
///   Due(when) --start--> Up(pid, since) --died--> Due(now, or later when it died at once)
/// ```
enum Phase {
    Due(Instant),
    Up { pid: Pid, since: Instant },
}

struct Kept {
    program: Program,
    phase: Phase,
    pause: Duration,
    output: OwnedFd,
}

/// The loop's memory.
pub(super) struct Keeper {
    kept: Vec<Kept>,
    log_dir: PathBuf,
    child: Signals,
    term: Signals,
    int: Signals,
    hup: Signals,
}

/// The one-thread runtime of a helper. No helper may start a thread: a process that unshared its
/// pid namespace cannot.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, HostError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HostError::io("cannot start the helper's runtime"))
}

/// The environment of everything that a host runs: nothing of the controller's gets in.
pub(super) fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().envs([
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TERM", "dumb"),
    ])
}

impl Keeper {
    /// Takes the signals over. Must run inside [`runtime`].
    pub(super) fn new(log_dir: PathBuf) -> Result<Self, HostError> {
        let take = |kind| signal(kind).map_err(HostError::io("cannot take a signal over"));
        Ok(Self {
            kept: Vec::new(),
            log_dir,
            child: take(SignalKind::child())?,
            term: take(SignalKind::terminate())?,
            int: take(SignalKind::interrupt())?,
            hup: take(SignalKind::hangup())?,
        })
    }

    /// Adds the programs that are not kept yet. None is ever taken away while it runs.
    pub(super) fn load(&mut self, programs: Vec<Program>) {
        for program in programs {
            if self.kept.iter().any(|kept| kept.program.id == program.id) {
                continue;
            }
            match log_pipe(&self.log_dir.join(format!("{}.log", program.id))) {
                Ok(output) => {
                    let phase = Phase::Due(Instant::now());
                    self.kept.push(Kept { program, phase, pause: PAUSE_FIRST, output });
                }
                Err(error) => complain(&format!("no log for {}: {error}", program.id)),
            }
        }
    }

    /// Keeps the programs until somebody wishes something else.
    pub(super) async fn keep(&mut self) -> Wish {
        loop {
            let now = Instant::now();
            self.kept.iter_mut().for_each(|kept| kept.start_if_due(now));
            let next = self.kept.iter().filter_map(Kept::due).min();
            let wake = async {
                match next {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.term.recv() => return Wish::Stop,
                _ = self.int.recv() => return Wish::Stop,
                _ = self.hup.recv() => return Wish::Reload,
                _ = self.child.recv() => self.reap(),
                () = wake => {}
            }
        }
    }

    /// Runs one command to its end; `None` when we were told to stop first.
    pub(super) async fn run_once(&mut self, command: &mut Command) -> Result<Option<Ended>, HostError> {
        let child = clean(command).process_group(0).spawn().map_err(HostError::io("cannot start the userdata"))?;
        let pid = pid_of(&child);
        loop {
            for status in reaped() {
                if status.pid() == Some(pid) {
                    return Ok(Some(Ended(status)));
                }
            }
            tokio::select! {
                _ = self.term.recv() => return Ok(None),
                _ = self.int.recv() => return Ok(None),
                _ = self.child.recv() => {}
            }
        }
    }

    fn reap(&mut self) {
        for status in reaped() {
            let owner = self
                .kept
                .iter_mut()
                .find(|kept| matches!(kept.phase, Phase::Up { pid, .. } if Some(pid) == status.pid()));
            if let Some(kept) = owner {
                kept.died(Ended(status));
            }
        }
    }

    /// The end of a whole pid namespace of which we are PID 1: everybody is asked to end, then we
    /// end and the kernel kills the rest.
    pub(super) async fn stop_namespace(&mut self) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGTERM);
        let end = Instant::now() + STOP_LIMIT;
        while any_child() {
            tokio::select! {
                _ = self.child.recv() => {}
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }

    /// The end of a process host: everything below us is asked to end, then killed.
    pub(super) async fn stop_descendants(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let signal_all = |signal| {
            descendants(own).into_iter().for_each(|pid| {
                let _ = kill(Pid::from_raw(pid), signal);
            })
        };
        signal_all(Signal::SIGTERM);
        let end = Instant::now() + STOP_LIMIT;
        while any_child() {
            tokio::select! {
                _ = self.child.recv() => {}
                () = tokio::time::sleep_until(end) => break,
            }
        }
        while any_child() {
            signal_all(Signal::SIGKILL);
            self.child.recv().await;
        }
    }
}

impl Kept {
    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Due(when) => Some(when),
            Phase::Up { .. } => None,
        }
    }

    fn start_if_due(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Due(when) if when <= now) {
            return;
        }
        match self.spawn() {
            Ok(pid) => self.phase = Phase::Up { pid, since: now },
            Err(error) => {
                complain(&format!("cannot start {}: {error}", self.program.id));
                self.wait();
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Pid> {
        let Program { argv, environment, directory, .. } = &self.program;
        let mut words = argv.iter();
        let mut command = Command::new(words.next().map_or("/bin/false", String::as_str));
        clean(command.args(words)).envs(environment.iter().map(|(k, v)| (k, v)));
        command.current_dir(directory).stdin(Stdio::null());
        command.stdout(self.output.try_clone()?).stderr(self.output.try_clone()?);
        command.process_group(0).spawn().map(|child| pid_of(&child))
    }

    fn died(&mut self, ended: Ended) {
        let Phase::Up { since, .. } = self.phase else { return };
        if since.elapsed() >= SETTLED {
            self.pause = PAUSE_FIRST;
        }
        complain(&format!("{} ended ({ended}), starts again in {} ms", self.program.id, self.pause.as_millis()));
        self.wait();
    }

    fn wait(&mut self) {
        self.phase = Phase::Due(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// A pipe whose reading end feeds a bounded log file for as long as we live.
fn log_pipe(path: &Path) -> std::io::Result<OwnedFd> {
    let (reader, writer) = std::io::pipe()?;
    let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let mut log = LogFile::open(path);
    tokio::spawn(async move {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(n) = reader.read(&mut buffer).await {
            if n == 0 {
                break;
            }
            log.write(&buffer[..n]);
        }
    });
    Ok(writer.into())
}

/// Every child that ended since the last look.
fn reaped() -> Vec<WaitStatus> {
    let mut found = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return found,
            Ok(status) => found.push(status),
            Err(Errno::EINTR) => {}
            Err(_) => return found,
        }
    }
}

/// Reaps, then says whether children are left.
fn any_child() -> bool {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Err(Errno::ECHILD) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

fn pid_of(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Into the host's `init.log`, which is our standard error.
fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
