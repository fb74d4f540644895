//! `straas-agent`: reads its arguments and configuration, sets up logs, runs the agent.
//!
//! Never here: anything a test would want to reach.

use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::time::Duration;
use straas_agent::builds;
use straas_agent::config::{Configuration, LogFormat};

const USAGE: &str = "straas-agent --config /etc/straas/agent.toml\nstraas-agent --version";

/// What is asked for.
struct Arguments {
    config: PathBuf,
    /// Whoever started this agent holds its standard input open: without him it ends. For the agent of a node on a host
    /// of the pool.
    until_stdin_ends: bool,
}

fn main() -> anyhow::Result<()> {
    let Some(arguments) = arguments()? else { return Ok(()) };
    let config = Configuration::read(&arguments.config)?;
    logs(config.log());
    if let Configuration::Node(config) = &config {
        // another build may be the one to go on
        builds::start(&config.state_dir, Duration::from_secs(config.build_trial_s.into()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let local = tokio::task::LocalSet::new();
    let ended = match config {
        Configuration::Node(config) => local.block_on(&runtime, async {
            if arguments.until_stdin_ends {
                straas_agent::agent::run_until_stdin_ends(config).await
            } else {
                straas_agent::agent::run(config).await
            }
        }),
        Configuration::Pool(config) => local.block_on(&runtime, straas_agent::pool::run(config)),
    };
    // a thread that waits for standard input ends with the process
    runtime.shutdown_background();
    ended.inspect_err(|error| tracing::error!(error = %chain(error), "the agent ends"))?;
    Ok(())
}

#[allow(clippy::print_stdout)] // answers to a person
fn arguments() -> anyhow::Result<Option<Arguments>> {
    let mut arguments = std::env::args_os().skip(1);
    let mut path = None;
    let mut until_stdin_ends = false;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version" | "-V") => {
                println!("straas-agent {}\n{}", env!("CARGO_PKG_VERSION"), builds::REPLACEABLE);
                return Ok(None);
            }
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return Ok(None);
            }
            Some("--until-stdin-ends") => until_stdin_ends = true,
            Some("--config") => path = Some(arguments.next().context("--config needs a file")?),
            _ => bail!("unknown argument {argument:?}\n{USAGE}"),
        }
    }
    let config = path.map_or_else(|| PathBuf::from("/etc/straas/agent.toml"), PathBuf::from);
    Ok(Some(Arguments { config, until_stdin_ends }))
}

fn logs((filter, format): (&str, LogFormat)) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // what cannot be logged, on a full disk for one, cannot be complained of either: that would be a panic
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.with_ansi(false).init(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
