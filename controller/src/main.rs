//! `straas-controller`: reads its configuration and runs until it is told to stop.
//!
//! The hidden subcommand `microhost` is the helper that makes hosts on this machine; it must run
//! before any thread exists, since a process with threads cannot enter a new PID namespace.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use straas_controller::backup;
use straas_controller::config::Config;

/// What still runs when everything else has ended gets so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The controller of a StraaS fleet.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the controller.
    Run {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
    },
    /// Make what hosts on this machine need (image, packages), showing progress; then exit.
    Prepare {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
    },
    /// Remove every host and network that this configuration made on this machine; then exit.
    Teardown {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
    },
    /// Have another key seal the secrets of configurations from now on; the older ones still open. A controller that
    /// runs takes it at once; `straas config reseal` then seals anew what older keys sealed.
    RotateSecrets {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
        /// Only lay the key ready, in secrets.key.next: copy that to every controller that shares the repositories,
        /// then run this on each without --prepare.
        #[arg(long)]
        prepare: bool,
    },
    /// Write a backup of everything that cannot be made again, while the controller goes on.
    Backup {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
        /// A folder that is not there yet. It will hold every secret of the controller.
        #[arg(long)]
        to: PathBuf,
    },
    /// Put a backup back: into a data directory and a database that are empty. Then start the controller.
    Restore {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
        /// The folder of the backup.
        #[arg(long)]
        from: PathBuf,
    },
    /// Move everything to another database, such as from SQLite to PostgreSQL or back. The old one takes no writes from
    /// then on; a controller that still runs on it answers 503.
    MigrateStore {
        /// The configuration file (TOML) with the database as it is.
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
        /// The same with another [store] url, of an empty database: a file, so that no password is seen in a list of
        /// processes.
        #[arg(long)]
        to: PathBuf,
        /// Only say what would be copied, and whether it can be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Have a database that was moved take writes again, without what the other one was given since.
    ReopenStore {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
    },
    /// Run a command inside the host of a node of this machine; for people who develop.
    Exec {
        /// The configuration file (TOML).
        #[arg(long, env = "STRAAS_CONFIG", default_value = "/etc/straas/controller.toml")]
        config: PathBuf,
        /// The node's name or id.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Check a configuration file and exit.
    CheckConfig {
        /// The configuration file (TOML).
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|verb| verb == "microhost") {
        return straas_drivers::microhost_main(args);
    }
    straas_controller::log::begin();
    match run(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    match verb {
        Verb::CheckConfig { config } => {
            let faults = Config::load(&config)?.git.faults_here();
            anyhow::ensure!(faults.is_empty(), "{} cannot be used here: {}", config.display(), faults.join("; "));
            Ok(())
        }
        Verb::RotateSecrets { config, prepare } => {
            let config = Config::load(&config)?;
            let written = straas_controller::rotate_secrets(&config, prepare)?;
            #[allow(clippy::print_stdout)] // this verb talks to a person
            match prepare {
                true => {
                    println!("a key lies ready in {0}; copy it to every controller's data directory", written.display())
                }
                false => println!(
                    "{} has another key, which seals from now on; next: straas config reseal",
                    written.display()
                ),
            }
            Ok(())
        }
        Verb::Backup { config, to } => runtime.block_on(backup::backup(&Config::load(&config)?, &to, &mut say)),
        Verb::Restore { config, from } => runtime.block_on(backup::restore(&Config::load(&config)?, &from, &mut say)),
        Verb::MigrateStore { config, to, dry_run } => {
            let (from, to) = (Config::load(&config)?, Config::load(&to)?);
            runtime.block_on(backup::migrate_store(&from, &to, dry_run, &mut say))
        }
        Verb::ReopenStore { config } => runtime.block_on(backup::reopen(&Config::load(&config)?)),
        Verb::Exec { config, node, command } => {
            use std::os::unix::process::CommandExt as _;
            let config = Config::load(&config)?;
            let argv: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut inside = straas_drivers::local::beside::command(&config.data_dir.join("hosts"), &node, &argv)?;
            Err(inside.exec()).with_context(|| format!("run a command in {node}"))
        }
        Verb::Run { config } => {
            let config = Config::load(&config)?;
            let ended = runtime.block_on(straas_controller::run(config, stop_signal()));
            // a git server that hangs holds nobody's restart up; what is cut off is as after a crash
            runtime.shutdown_timeout(LAST_WORDS);
            ended
        }
        Verb::Prepare { config } => {
            let config = Config::load(&config)?;
            #[allow(clippy::print_stdout)] // this verb talks to a person
            let say = std::sync::Arc::new(|line: &str| println!("{line}"));
            runtime.block_on(straas_controller::prepare(&config, say))
        }
        Verb::Teardown { config } => {
            let config = Config::load(&config)?;
            runtime.block_on(straas_controller::teardown(&config))
        }
    }
}

/// Tells a person how far it is.
#[allow(clippy::print_stdout)] // these verbs talk to a person
fn say(line: &str) {
    println!("{line}");
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}
