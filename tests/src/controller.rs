//! A running controller: the real program, or its library inside the test.
//!
//! The program can be killed and started anew, as a machine does it to it. The one inside shares
//! its hosts with the test, which can then crash, cut and delay them while they are in use.

use crate::artifacts::Artifacts;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;
use straas_controller::config::Config;
use straas_drivers::local::{Isolation, LocalConfig, LocalHosts};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A controller that has not stopped by then is killed: five times a poll's and a write's longest.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A controller.
pub enum Controller {
    /// The program.
    Program(Child),
    /// The library.
    Inside {
        /// Its hosts, for faults.
        hosts: LocalHosts,
        /// Dropped, it stops.
        stop: oneshot::Sender<()>,
        /// Ends when it has stopped.
        task: JoinHandle<Result<()>>,
    },
}

impl Controller {
    /// Starts the program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn program(artifacts: &Artifacts, config: &Path, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&artifacts.controller);
        command.arg("run").arg("--config").arg(config).env("RUST_LOG", "info,straas_controller=debug");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self::Program(child.with_context(|| format!("start {}", artifacts.controller.display()))?))
    }

    /// Starts the library in this process.
    ///
    /// # Errors
    /// The hosts cannot be opened.
    pub async fn inside(artifacts: &Artifacts, config: &Path, log: &Path) -> Result<Self> {
        log_into(log)?;
        let config = Config::load(config)?;
        let hosts = open_hosts(artifacts, &config).await?;
        let (stop, stopped) = oneshot::channel();
        let run = straas_controller::run_on(config, hosts.clone(), async move { drop(stopped.await) });
        Ok(Self::Inside { hosts, stop, task: tokio::spawn(run) })
    }

    /// Kills the program, as `kill -9` does.
    ///
    /// # Errors
    /// It is not a program.
    pub fn kill(self) -> Result<()> {
        let Self::Program(mut child) = self else { anyhow::bail!("only a program can be killed") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It did not end, or not well.
    pub async fn stop(self) -> Result<()> {
        match self {
            Self::Program(mut child) => {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
                let ended =
                    crate::wait("the controller to stop", STOP_MAX, async || child.try_wait().ok().flatten()).await;
                if ended.is_err() {
                    child.kill()?;
                    child.wait()?;
                }
                ensure!(ended?.success(), "the controller did not end well");
            }
            Self::Inside { hosts, stop, task } => {
                drop(stop);
                tokio::time::timeout(STOP_MAX, task).await.context("the controller does not stop")???;
                drop(hosts);
            }
        }
        Ok(())
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<String> {
        match self {
            Self::Program(child) => child.try_wait().ok().flatten().map(|status| status.to_string()),
            Self::Inside { task, .. } => task.is_finished().then(|| "its task ended".to_owned()),
        }
    }
}

/// The hosts of a configuration, for a test that is alone with them.
///
/// # Errors
/// A controller has them, or they cannot be opened.
pub async fn open_hosts(artifacts: &Artifacts, config: &Config) -> Result<LocalHosts> {
    let mut local = LocalConfig::new(&config.local.instance, config.data_dir.join("hosts"));
    local.cache_dir = config.local.cache_dir.clone();
    local.isolation = Isolation::Microhost;
    local.fault_domains = 4;
    local.agent_deb = artifacts.agent_deb.clone();
    local.agent_binary = artifacts.agent.clone();
    // the test's own binary has no such subcommand
    local.helper = vec![artifacts.controller.clone().into(), "microhost".into()];
    LocalHosts::open(local).await.context("open the hosts of this machine")
}

/// Sends the log of this process to a file, from now on.
fn log_into(path: &Path) -> Result<()> {
    static ONCE: Once = Once::new();
    static FILE: Mutex<Option<File>> = Mutex::new(None);
    struct Target;
    impl std::io::Write for Target {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match FILE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(file) => file.write(bytes),
                None => Ok(bytes.len()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let file = File::options().create(true).append(true).open(path)?;
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    ONCE.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Target).init());
    Ok(())
}
