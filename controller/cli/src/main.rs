//! `straas`: the command line. It asks the API and shows the answers; it computes nothing itself.
//!
//! Results go to stdout in the form that `-o` names, everything else to stderr. Errors say what to
//! do next and end with an exit code that a script can tell apart (`error.rs`).

mod client;
mod context;
mod dev;
mod error;
mod job;
mod node;
mod output;
mod sse;
mod topology;

use clap::{Args, Parser, Subcommand};
use error::CliError;
use output::Format;
use std::path::PathBuf;
use std::process::ExitCode;

/// Stateful clusters as a service.
#[derive(Parser)]
#[command(name = "straas", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

/// Where the controller is and how to show its answers.
#[derive(Args, Clone)]
pub struct Global {
    /// URL of the controller.
    #[arg(long, global = true, env = "STRAAS_ENDPOINT")]
    endpoint: Option<String>,
    /// File with the token to send.
    #[arg(long, global = true, env = "STRAAS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// How to print results.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Subcommand)]
enum Noun {
    /// A whole StraaS on this machine, to try and to develop.
    #[command(subcommand)]
    Dev(dev::Verb),
    /// Topologies: clusters that belong together.
    #[command(subcommand)]
    Topology(topology::Verb),
    /// Nodes of topologies.
    #[command(subcommand)]
    Node(node::Verb),
    /// Jobs: what a request causes, step by step.
    #[command(subcommand)]
    Job(job::Verb),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CliError::Local(format!("cannot start: {error}")).report(),
    };
    let done = runtime.block_on(async {
        match cli.noun {
            Noun::Dev(verb) => dev::run(verb).await,
            Noun::Topology(verb) => topology::run(verb, &cli.global).await,
            Noun::Node(verb) => node::run(verb, &cli.global).await,
            Noun::Job(verb) => job::run(verb, &cli.global).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
