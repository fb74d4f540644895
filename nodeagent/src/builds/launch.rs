//! The start of a program: goes on as the build that the record names, in the same process.
//!
//! Never here: the decision (`record.rs`).

use super::disk;
use super::record::{Launch, Record, Which};
use super::short;
use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use straas_schemas::Digest;
use straas_schemas::build::{PACKAGED, name};

/// Names the build that this process was made to run, for the program that then starts in it. Scripts never see it:
/// their environment is made from nothing.
const LAUNCHED: &str = "STRAAS_AGENT_BUILD";
/// A start comes to its end in fewer steps: each that fails takes one build out of the record.
const STEPS_MAX: u32 = 4;

/// The first thing that an agent does: comes back if this program is the one that is to run, and does not if another is.
/// A build is on trial for so long at most.
pub fn start(state_dir: &Path, trial: Duration) {
    let launched = std::env::var(LAUNCHED).ok().map(|name| (name != PACKAGED).then_some(Digest(name)));
    run(&disk::dir(state_dir), launched.as_ref(), trial);
}

/// Runs what the record names. Comes back if that is this program, or if no other one can be run.
pub fn run(dir: &Path, launched: Option<&Which>, trial: Duration) {
    let me = disk::own(dir);
    let mut record = disk::read(dir);
    for _ in 0..STEPS_MAX {
        let (next, launch) = record.launch(&me, launched);
        if next != record
            && let Err(error) = disk::write(dir, &next)
        {
            // a start that is not counted could be made for ever: the chosen one it is
            tracing::error!(error, "a start of the agent cannot be noted");
            if record.chosen != me
                && launched != Some(&record.chosen)
                && let Err(Failed::Touched(_)) = execute(dir, &record, &record.chosen, trial)
            {
                anew(&record.chosen);
            }
            return;
        }
        record = next;
        let Launch::Run(build) = launch else { return };
        let Err(failed) = execute(dir, &record, &build, trial);
        let (Failed::Before(error) | Failed::Touched(error)) = &failed;
        tracing::error!(build = name(build.as_ref()), error, "a build of the agent cannot be run");
        let without = record.lost(&build);
        if without != record
            && let Err(error) = disk::write(dir, &without)
        {
            tracing::error!(error, "that a build of the agent is lost cannot be noted");
        }
        if matches!(failed, Failed::Touched(_)) {
            anew(&build);
        }
        if without == record {
            return;
        }
        record = without;
    }
}

/// Why a program could not take the place of this one.
enum Failed {
    /// It was not tried.
    Before(String),
    /// It was, and this process is not as it was: signals are as the other program would have had them.
    Touched(String),
}

/// Starts this program anew, with nothing left of the try to run a build, and without another one.
fn anew(build: &Which) -> ! {
    if let Some(own) = disk::exe() {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(own);
        if let Some(own) = arguments.next() {
            command.arg0(own);
        }
        let _ = command.args(arguments).env(LAUNCHED, name(build.as_ref())).exec();
    }
    // the host starts it
    std::process::exit(1)
}

/// Replaces this program.
fn execute(dir: &Path, record: &Record, build: &Which, trial: Duration) -> Result<Infallible, Failed> {
    let path: PathBuf = match build {
        Some(build) => disk::path(dir, build),
        None => record.packaged.clone(),
    };
    if let Some(fault) = build.as_ref().and_then(|build| disk::fault(&path, build)) {
        return Err(Failed::Before(fault));
    }
    tracing::info!(build = name(build.as_ref()), "the agent goes on as {}", short(build));
    let mut arguments = std::env::args_os();
    let mut command = Command::new(&path);
    if let Some(own) = arguments.next() {
        // what people and tools look for among the processes stays the same
        command.arg0(own);
    }
    alarm(record.on_trial(build).then_some(trial));
    // all that is open is closed by the kernel (O_CLOEXEC), the lock of the state directory with it
    let error = command.args(arguments).env(LAUNCHED, name(build.as_ref())).exec();
    alarm(None);
    Err(Failed::Touched(format!("{} cannot be run: {error}", path.display())))
}

/// Has the kernel end this process, whichever program it is by then, unless that takes it back: well after a trial of so
/// long, which ends by itself in a program that does not hang. `None` takes it back.
pub fn alarm(trial: Option<Duration>) {
    let seconds = trial.and_then(|trial| u32::try_from(trial.as_secs()).ok()).map(|seconds| seconds.saturating_mul(2));
    match seconds {
        Some(seconds) if seconds > 0 => drop(nix::unistd::alarm::set(seconds)),
        _ => drop(nix::unistd::alarm::cancel()),
    }
}
