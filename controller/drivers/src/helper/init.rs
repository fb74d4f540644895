//! Stage two of a microhost: its PID 1.
//!
//! Makes the file system, says "ready", runs the userdata if this disk never saw it succeed, then
//! keeps the programs of `/etc/inittab` running and reaps orphans until it is told to stop. Its
//! death is the death of every process of the host: the kernel sees to that.
//!
//! ```text
//!   mounts -> ready -> userdata (until it succeeded once) -> keep inittab's programs -> SIGTERM -> end
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use super::keeper::{self, Keeper, Program};
use super::{READY, inittab, root, say, task};
use crate::error::HostError;
use crate::local::tools::{sync_dir, write_atomic};

/// The userdata script inside a host.
pub(crate) const USERDATA: &str = "/var/lib/straas/userdata";
/// Exists once the userdata succeeded.
pub(crate) const USERDATA_DONE: &str = "/var/lib/straas/userdata.done";
/// Exists while the last try of the userdata failed; holds its exit status.
pub(crate) const USERDATA_FAILED: &str = "/var/lib/straas/userdata.failed";
/// What the userdata printed.
pub(crate) const USERDATA_LOG: &str = "/var/log/userdata.log";

/// What `init` needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InitTask {
    /// The host's directory.
    pub dir: PathBuf,
    /// Its host name.
    pub name: String,
    /// The image's directories, topmost first.
    pub lower: Vec<PathBuf>,
}

pub(crate) fn run() -> Result<ExitCode, HostError> {
    let task: InitTask = task()?;
    root::enter(&task.dir, &task.lower)?;
    nix::unistd::sethostname(&task.name).map_err(HostError::io("cannot set the host name"))?;
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(HostError::io("cannot open /dev/null"))?;
    nix::unistd::dup2_stdin(&null).map_err(HostError::io("cannot close standard input"))?;
    let runtime = keeper::runtime()?;
    runtime.block_on(async {
        let mut keeper = Keeper::new(PathBuf::from("/var/log"))?;
        say(READY);
        nix::unistd::dup2_stdout(&null).map_err(HostError::io("cannot close standard output"))?;
        drop(null);
        if first_boot(&mut keeper).await? {
            keeper.load(programs());
            while keeper.keep().await == keeper::Wish::Reload {
                keeper.load(programs());
            }
        }
        keeper.stop_namespace().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the userdata unless it succeeded before. `false` when we were told to stop meanwhile.
async fn first_boot(keeper: &mut Keeper) -> Result<bool, HostError> {
    if !Path::new(USERDATA).exists() || Path::new(USERDATA_DONE).exists() {
        return Ok(true);
    }
    let log = File::options()
        .append(true)
        .create(true)
        .open(USERDATA_LOG)
        .map_err(HostError::at("open", Path::new(USERDATA_LOG)))?;
    let err = log.try_clone().map_err(HostError::at("open", Path::new(USERDATA_LOG)))?;
    let mut script = Command::new("/bin/sh");
    script.arg(USERDATA).current_dir("/").stdin(Stdio::null()).stdout(log).stderr(err);
    let Some(status) = keeper.run_once(&mut script).await? else { return Ok(false) };
    let status = status.to_string();
    if status == "exit 0" {
        write_atomic(Path::new(USERDATA_DONE), b"ok\n", 0o644)?;
        // It held the join token; nobody needs it any more.
        let _ = fs::remove_file(USERDATA);
        let _ = fs::remove_file(USERDATA_FAILED);
        sync_dir(Path::new("/var/lib/straas"))?;
    } else {
        write_atomic(Path::new(USERDATA_FAILED), format!("{status}\n").as_bytes(), 0o644)?;
    }
    Ok(true)
}

fn programs() -> Vec<Program> {
    let table = fs::read_to_string("/etc/inittab").unwrap_or_default();
    inittab::parse(&table)
        .into_iter()
        .map(|entry| Program {
            id: entry.id,
            argv: vec!["/bin/sh".into(), "-c".into(), format!("exec {}", entry.command)],
            environment: Vec::new(),
            directory: PathBuf::from("/"),
        })
        .collect()
}
