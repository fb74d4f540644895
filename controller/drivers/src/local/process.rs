//! Process mode: an agent as a plain process, for machines that allow no namespaces.
//!
//! Each host is a directory (the agent's `prefix`) and a loopback address `127.77.0.x`, kept by a
//! supervisor of our own so that it outlives the controller like a VM. Faults of the network cannot
//! be made here, and packages are installed on the machine itself: the driver says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::{AgentPaths, agent_toml};
use crate::error::HostError;
use crate::helper::SuperviseTask;
use crate::hosts::HostSpec;
use crate::local::proc::{Process, descendants, with_environment};
use crate::local::record::{HostDir, HostRecord};
use crate::local::registry::{Known, running};
use crate::local::shared_apt;
use crate::local::spawn::Helper;
use crate::local::subnet::Subnet;
use crate::local::tools::{make_dirs, write_atomic};

/// What this mode cannot show.
pub const NOTE: &str = "hosts share this machine's network, packages, users and processes: no package is installed per node, no link can be cut or delayed, and no host name or port range is a node's own";

/// How long a process tree may take to die.
const DEATH_LIMIT: Duration = Duration::from_secs(60);

/// The loopback addresses of process mode. All of 127/8 is on every machine without set-up.
pub fn subnet() -> Result<Subnet, HostError> {
    "127.77.0.0/24".parse()
}

/// Refuses to start without an agent.
pub fn check_agent(binary: &Path) -> Result<(), HostError> {
    let meta = fs::metadata(binary).map_err(HostError::at("find the agent", binary))?;
    if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(HostError::Invalid { field: "agent_binary", reason: format!("{} is not a program", binary.display()) })
}

/// Writes what userdata would write, below the prefix.
pub fn make_disk(dir: &HostDir, spec: &HostSpec, record: &HostRecord, state: &Path) -> Result<(), HostError> {
    let prefix = dir.prefix();
    let etc = prefix.join("etc/straas");
    for path in [&etc, &prefix.join("var/lib/straas"), &dir.at("log")] {
        make_dirs(path)?;
    }
    let paths = AgentPaths { prefix: prefix.display().to_string() };
    let mut agent = spec.agent.clone();
    // All nodes share this machine's addresses and ports, so each listens on its own address only.
    if let Some((_, port)) = agent.metrics_listen.rsplit_once(':') {
        agent.metrics_listen = format!("{}:{port}", record.address);
    }
    let files = [
        ("agent.toml", agent_toml(&agent, &paths), 0o600),
        ("ca.pem", agent.ca_pem.clone(), 0o644),
        ("join-token", format!("{}\n", agent.join_token.expose()), 0o600),
    ];
    for (name, content, mode) in files {
        write_atomic(&etc.join(name), content.as_bytes(), mode)?;
    }
    // `install` then finds the packages of components, too.
    let settings = shared_apt::settings(state);
    if settings.is_file() {
        let to = prefix.join(shared_apt::IN_PREFIX);
        to.parent().map_or(Ok(()), make_dirs)?;
        fs::copy(&settings, &to).map_err(HostError::at("copy apt's settings to", &to))?;
    }
    // The services of a node run as users of their own and must get through to their files, but
    // not to the agent's secrets.
    for (path, mode) in [(etc.as_path(), 0o700), (dir.path(), 0o711)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(HostError::at("set the mode of", path))?;
    }
    Ok(())
}

/// Starts the supervisor of a host that is down.
pub async fn start(helper: &Helper, agent: &Path, known: &Known) -> Result<(), HostError> {
    check_agent(agent)?;
    let dir = &known.dir;
    let prefix = dir.prefix().display().to_string();
    let task = SuperviseTask {
        dir: dir.path().to_owned(),
        argv: vec![agent.display().to_string(), "--config".into(), format!("{prefix}/etc/straas/agent.toml")],
        environment: vec![("STRAAS_PREFIX".into(), prefix)],
    };
    helper.start("supervise", &task, &dir.at("init.log")).await
}

/// Ends everything that belongs to a host. The supervisor is stopped first, so that it starts
/// nothing new, and killed last: while it lives, orphans become its children and can be found.
/// What escaped from a killed supervisor is found by the prefix in its environment.
pub fn power_off(dir: &HostDir) -> Result<(), HostError> {
    let end = Instant::now() + DEATH_LIMIT;
    let late = || HostError::Timeout {
        what: format!("the end of all in {}", dir.path().display()),
        seconds: DEATH_LIMIT.as_secs(),
    };
    let kill_all = |pids: Vec<i32>| {
        for process in pids.into_iter().filter_map(Process::open) {
            process.signal(Signal::KILL);
            process.wait(end.saturating_duration_since(Instant::now()));
        }
    };
    if let Some(supervisor) = running(dir) {
        supervisor.signal(Signal::STOP);
        loop {
            let below = descendants(supervisor.pid);
            if below.is_empty() {
                break;
            }
            if Instant::now() > end {
                return Err(late());
            }
            kill_all(below);
        }
        supervisor.kill()?;
    }
    let mark = format!("STRAAS_PREFIX={}", dir.prefix().display());
    loop {
        let strays = with_environment(&mark);
        if strays.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(late());
        }
        kill_all(strays);
    }
}

/// A command beside a host: in its directory, with its prefix in the environment.
pub fn exec_command(dir: &HostDir, argv: &[&str]) -> Command {
    let mut command = Command::new(argv.first().copied().unwrap_or("true"));
    command.args(argv.iter().skip(1)).current_dir(dir.prefix());
    command.env("STRAAS_PREFIX", dir.prefix());
    command
}
