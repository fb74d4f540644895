//! `straas-agent`: reads its arguments and configuration, sets up logs, runs the agent.
//!
//! Never here: anything a test would want to reach.

use anyhow::{Context as _, bail};
use std::path::PathBuf;
use straas_agent::config::{Config, LogFormat};

const USAGE: &str = "straas-agent --config /etc/straas/agent.toml\nstraas-agent --version";

fn main() -> anyhow::Result<()> {
    let Some(path) = arguments()? else { return Ok(()) };
    let config = Config::read(&path)?;
    logs(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    let local = tokio::task::LocalSet::new();
    local
        .block_on(&runtime, straas_agent::agent::run(config))
        .inspect_err(|error| tracing::error!(error = %chain(error), "the agent ends"))?;
    Ok(())
}

#[allow(clippy::print_stdout)] // answers to a person
fn arguments() -> anyhow::Result<Option<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    let mut path = None;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--version" | "-V") => {
                println!("straas-agent {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return Ok(None);
            }
            Some("--config") => path = Some(arguments.next().context("--config needs a file")?),
            _ => bail!("unknown argument {argument:?}\n{USAGE}"),
        }
    }
    Ok(Some(path.map_or_else(|| PathBuf::from("/etc/straas/agent.toml"), PathBuf::from)))
}

fn logs(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.log_format {
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
