//! Runs one script: in a process group of its own, with limits, with nothing left behind.
//!
//! * A clean environment, no input, its own process group; the session stays the agent's.
//! * Both pipes are read as they fill; nothing is kept but what `output.rs` and `messages.rs` bound.
//! * Over a limit, or on a kill, the whole group gets SIGTERM, then SIGKILL.
//! * When the leader has ended, what it left behind is killed (`strays.rs`), and the pipes are read
//!   only as far as they are full: a daemon that was started properly (`setsid`) lives on, even if
//!   it inherited a pipe, and nobody waits for it.
//! * After a crash of the agent, [`strays::leftovers`] ends what its predecessor was running.
//!
//! Never here: retries, and what an exit code means.

use crate::messages::{Parser, Said};
use crate::output::Output;
use crate::redact::{Secrets, Stream};
use crate::strays::{self, Leaves};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getsid};
use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use straas_schemas::assignment::Limits;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// From SIGTERM to SIGKILL: time for a script's own clean-up.
pub const KILL_GRACE: Duration = Duration::from_secs(5);
/// Most bytes read from each pipe after the leader has ended: what a pipe can hold, at its largest.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// Marks the processes of a run: `<node>/<run id>-<random>`. Run ids begin anew when a ledger was lost, and a service
/// keeps the mark of the run that started it.
pub(crate) const RUN_ENV: &str = "STRAAS_RUN";
/// The session the agent had; a process that left it has made itself a daemon.
pub(crate) const SESSION_ENV: &str = "STRAAS_RUN_SESSION";

/// What to run.
#[derive(Clone, Debug)]
pub struct Script {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment, but for what the executor adds.
    pub environment: Vec<(String, OsString)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// `<node>/<run id>`.
    pub mark: String,
    /// Time limits.
    pub limits: Limits,
    /// Where its output goes.
    pub spool: PathBuf,
    /// What is hidden in whatever it says.
    pub secrets: Secrets,
    /// What may live on when it has ended.
    pub leaves: Leaves,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// Killed by us, for this reason.
    Killed(Why),
    /// It could not be started.
    NotStarted(String),
}

/// Why a run was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Over its total time, in seconds.
    TotalTime(u32),
    /// No output for this long, in seconds.
    NoProgress(u32),
    /// Superseded, or the agent ends.
    Asked,
}

/// Everything that is known of a run that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Its messages.
    pub said: Said,
    /// Last lines of output.
    pub tail: String,
    /// Bytes of output in all.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Takes what a script writes, as it comes.
pub trait Ears {
    /// Of its stdout.
    fn out(&mut self, bytes: &[u8]);
    /// Of its stderr.
    fn err(&mut self, bytes: &[u8]);
}

/// What listens to a stage.
struct Listener<'a> {
    output: Output,
    hiding: [Stream; 2],
    parser: Parser,
    progress: &'a dyn Fn(&Said),
}

impl Ears for Listener<'_> {
    fn out(&mut self, bytes: &[u8]) {
        self.output.feed(&self.hiding[0].feed(bytes));
        if self.parser.feed(bytes) {
            (self.progress)(self.parser.said());
        }
    }

    fn err(&mut self, bytes: &[u8]) {
        self.output.feed(&self.hiding[1].feed(bytes));
    }
}

/// Runs a script to its end. `kill` turning true ends it; `progress` hears of each progress.
/// Dropping the future does not end the processes: turn `kill` and wait.
pub async fn run(script: Script, kill: watch::Receiver<bool>, progress: &dyn Fn(&Said)) -> Ended {
    let output = Output::to(&script.spool);
    let hidden = |said: &Said| progress(&said.hidden(&script.secrets));
    let hiding = [script.secrets.stream(), script.secrets.stream()];
    let mut ears = Listener { output, hiding, parser: Parser::default(), progress: &hidden };
    let (end, took) = supervise(&script, kill, &mut ears).await;
    let Listener { mut output, mut hiding, parser, .. } = ears;
    hiding.iter_mut().for_each(|stream| output.feed(&stream.finish()));
    let said = parser.finish().hidden(&script.secrets);
    Ended { end, said, tail: output.tail(), bytes: output.bytes(), took }
}

/// The same, with whoever listens; gives how it ended and how long it took.
pub async fn supervise(script: &Script, mut kill: watch::Receiver<bool>, ears: &mut dyn Ears) -> (End, Duration) {
    let begin = Instant::now();
    let mark = format!("{}-{:08x}", script.mark, rand::random::<u32>());
    let mut child = match spawn(script, &mark) {
        Ok(child) => child,
        Err(error) => {
            let why = format!("{} cannot be started: {error}", script.program.display());
            return (End::NotStarted(why), begin.elapsed());
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let pipes = [out.as_ref().map(AsRawFd::as_raw_fd), err.as_ref().map(AsRawFd::as_raw_fd)];
    let pipes: Vec<PathBuf> = pipes.into_iter().flatten().filter_map(strays::pipe).collect();
    let total = begin + Duration::from_secs(script.limits.total_s.into());
    let silence = Duration::from_secs(script.limits.no_progress_s.into());
    let mut quiet_until = Instant::now() + silence;
    let (mut out_bytes, mut err_bytes) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut killed: Option<Why> = None;
    let mut last_resort = total;
    let status = loop {
        let why = tokio::select! {
            biased;
            status = child.wait() => break status,
            () = asked(&mut kill), if killed.is_none() => Why::Asked,
            () = sleep_until(total), if killed.is_none() => Why::TotalTime(script.limits.total_s),
            () = sleep_until(last_resort), if killed.is_some() => {
                signal(group, Signal::SIGKILL);
                last_resort = Instant::now() + KILL_GRACE;
                continue;
            }
            () = sleep_until(quiet_until), if killed.is_none() => Why::NoProgress(script.limits.no_progress_s),
            count = read(&mut out, &mut out_bytes) => {
                ears.out(&out_bytes[..count]);
                quiet_until = Instant::now() + silence;
                continue;
            }
            count = read(&mut err, &mut err_bytes) => {
                ears.err(&err_bytes[..count]);
                quiet_until = Instant::now() + silence;
                continue;
            }
        };
        killed = Some(why);
        last_resort = Instant::now() + KILL_GRACE;
        signal(group, Signal::SIGTERM);
    };
    // The leader is reaped, but its number stays taken while its group has members; if it has
    // none, only a process made within these microseconds could have got it.
    signal(group, Signal::SIGKILL);
    let held = if killed.is_some() { pipes.as_slice() } else { &[] };
    let strays = strays::kill(&mark, script.leaves, held);
    if strays > 0 {
        tracing::warn!(mark, strays, "ended what a script had left behind");
    }
    if let Some(pipe) = out.and_then(|pipe| pipe.into_owned_fd().ok()) {
        drain(pipe, |bytes| ears.out(bytes));
    }
    if let Some(pipe) = err.and_then(|pipe| pipe.into_owned_fd().ok()) {
        drain(pipe, |bytes| ears.err(bytes));
    }
    let end = match (killed, status) {
        (Some(why), _) => End::Killed(why),
        (None, Ok(status)) => ended(status),
        (None, Err(error)) => End::NotStarted(format!("its end could not be awaited: {error}")),
    };
    (end, begin.elapsed())
}

fn spawn(script: &Script, mark: &str) -> std::io::Result<Child> {
    let session = getsid(None).map_or(0, Pid::as_raw);
    Command::new(&script.program)
        .args(&script.arguments)
        .env_clear()
        .envs(script.environment.iter().map(|(key, value)| (key, value)))
        .env(RUN_ENV, mark)
        .env(SESSION_ENV, session.to_string())
        .current_dir(&script.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

fn ended(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().map_or_else(|| End::Signalled(status.signal().unwrap_or(0)), End::Exited)
}

async fn asked(kill: &mut watch::Receiver<bool>) {
    if kill.wait_for(|kill| *kill).await.is_err() {
        // nobody is left to ask
        std::future::pending::<()>().await;
    }
}

/// Reads what there is; a pipe that ended or broke is never ready again.
async fn read<R: AsyncRead + Unpin>(pipe: &mut Option<R>, bytes: &mut [u8]) -> usize {
    if let Some(open) = pipe {
        match open.read(bytes).await {
            Ok(count) if count > 0 => return count,
            _ => *pipe = None,
        }
    }
    std::future::pending().await
}

fn drain(pipe: OwnedFd, mut take: impl FnMut(&[u8])) {
    if fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_err() {
        return;
    }
    let mut pipe = std::fs::File::from(pipe);
    let mut bytes = [0; 16 * 1024];
    let mut left = DRAIN_BYTES_MAX;
    while left > 0 {
        match pipe.read(&mut bytes) {
            Ok(count) if count > 0 => {
                take(&bytes[..count]);
                left = left.saturating_sub(count);
            }
            _ => return,
        }
    }
}

pub(crate) fn signal(group: Option<Pid>, signal: Signal) {
    let Some(group) = group else { return };
    match killpg(group, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%group, %signal, %error, "a process group cannot be signalled"),
    }
}
