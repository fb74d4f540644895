//! Process mode's stand-in for an init: keeps one agent running and outlives the controller.
//!
//! It is a child subreaper: whatever the agent starts and abandons becomes its child, so that
//! "all processes of this host" has an answer without a namespace. The agent is started through
//! `child`, which asks the kernel to kill it when its supervisor dies.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::keeper::{self, Keeper, Program, Wish};
use super::start::claim;
use super::{READY, again, say, task};
use crate::error::HostError;
use crate::local::proc::ProcessId;
use crate::local::record::{HostDir, RunRecord};

/// What `supervise` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SuperviseTask {
    /// The host's directory.
    pub dir: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the clean environment.
    pub environment: Vec<(String, String)>,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: SuperviseTask = task()?;
    let dir = HostDir(task.dir.clone());
    let Some(lock) = claim(&dir)? else {
        say(READY);
        return Ok(ExitCode::SUCCESS);
    };
    nix::unistd::setsid().map_err(HostError::io("cannot start a session"))?;
    prctl::set_child_subreaper(true).map_err(HostError::io("cannot become a subreaper"))?;
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let process = ProcessId::of(own).ok_or_else(|| HostError::NotFound("our own process in /proc".into()))?;
    let boots = dir.run().map_or(0, |run| run.boots) + 1;
    dir.write_run(&RunRecord { process, boots })?;
    drop(lock);

    // Through ourselves: `child` sets the death signal, then becomes the agent.
    let child = again("child");
    let mut argv = vec![child.get_program().to_string_lossy().into_owned()];
    argv.extend(child.get_args().map(|word| word.to_string_lossy().into_owned()));
    argv.extend(task.argv);
    let program = Program { id: "sa".into(), argv, environment: task.environment, directory: dir.prefix() };

    keeper::runtime()?.block_on(async {
        let mut keeper = Keeper::new(dir.at("log"))?;
        keeper.load(vec![program]);
        say(READY);
        let null =
            std::fs::File::options().write(true).open("/dev/null").map_err(HostError::io("cannot open /dev/null"))?;
        nix::unistd::dup2_stdout(&null).map_err(HostError::io("cannot close standard output"))?;
        while keeper.keep().await == Wish::Reload {}
        keeper.stop_descendants().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Becomes a program that dies with its parent.
pub(crate) fn run_child(mut args: impl Iterator<Item = OsString>) -> Result<ExitCode, HostError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(HostError::io("cannot ask for a death signal"))?;
    let program = args.next().ok_or(HostError::Invalid { field: "child", reason: "no program".into() })?;
    let error = Command::new(&program).args(args).exec();
    Err(HostError::io(format!("cannot run {}", program.to_string_lossy()))(error))
}
