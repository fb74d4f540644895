//! A load tool: plays any number of agents in one process, over the real protocol, against a controller of its own.
//!
//! ```text
//!  run ──REST──► serve: a controller with hosts on paper, a process of its own
//!   └─ agents ──mTLS: long poll, heartbeats, results, commands──► the same
//!   └─ heartbeats as fast as they go ──► serve, then bare: axum and rustls alone
//! ```
//! What it measures is told at the end as a table. Both sides share this machine, so every figure is of a machine that also
//! plays all agents; what can be compared between machines are the ratios.
//!
//! `straas-swarm run --agents 5000 --seconds 600` (release build) is what docs/reliability.md quotes.

mod agent;
mod bare;
mod link;
mod measure;
mod paper;
mod run;
mod users;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Plays a fleet of agents.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a controller, play agents, tell what was measured.
    Run(Load),
    /// The controller of a run.
    #[command(hide = true)]
    Serve {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
        /// Where join tokens of hosts are left, one file each.
        #[arg(long)]
        tokens: PathBuf,
        /// Port for agents.
        #[arg(long)]
        port: u16,
    },
    /// A server that takes bodies over the same TLS and does nothing with them.
    #[command(hide = true)]
    Bare {
        /// Folder with the authority's certificate and the server's own.
        #[arg(long)]
        keys: PathBuf,
        /// Port.
        #[arg(long)]
        port: u16,
    },
}

/// What is played.
#[derive(Args, Clone)]
pub struct Load {
    /// Agents; five to a topology.
    #[arg(long, default_value_t = 500)]
    pub agents: usize,
    /// Seconds of changes, commands and cut connections.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Per cent of the agents whose connections are cut each second.
    #[arg(long, default_value_t = 1.0)]
    pub cut_percent: f64,
    /// Changes a second, each of one node.
    #[arg(long, default_value_t = 5)]
    pub changes: u32,
    /// Commands a second, each of one node.
    #[arg(long, default_value_t = 5)]
    pub commands: u32,
    /// Seconds between two heartbeats of an agent.
    #[arg(long, default_value_t = 10)]
    pub heartbeat_seconds: u64,
    /// A file with the URL of an empty PostgreSQL database; SQLite without it.
    #[arg(long)]
    pub postgres: Option<PathBuf>,
}

impl Load {
    const fn heartbeat(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.heartbeat_seconds)
    }
}

fn main() -> Result<()> {
    // one provider of cryptography; a second call in one process changes nothing
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    match Cli::parse().verb {
        Verb::Run(load) => runtime.block_on(run::run(&load)),
        Verb::Serve { config, tokens, port } => {
            straas_controller::log::begin();
            runtime.block_on(paper::serve(&config, tokens, port))
        }
        Verb::Bare { keys, port } => runtime.block_on(bare::serve(&keys, port)),
    }
}

/// As many open files as this process may have: each agent holds two connections.
fn raise_files() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")
}
