//! `straas component test`: the whole life of a component on hosts of this machine, with times.
//!
//! ```text
//!  create → config change → flexup → replace → upgrade → flexdown → restart → delete
//! ```
//! Against a controller of its own that is gone afterwards, or a given one. Each phase is a job
//! (`phases.rs`); one that does not succeed ends the test with what the node said. Hosts, network and
//! data of a private controller go whatever happens, also when the test is interrupted, unless they
//! are to be kept for a look.

mod phases;

use super::check;
use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{clean, duration, print, table};
use crate::{Global, dev};
use phases::Life;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What to try.
#[derive(clap::Args)]
pub struct Args {
    /// The component type.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Folder of a component, laid over the built-in ones; may be given more than once.
    #[arg(long = "dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// The version to end with; the type's default if absent.
    #[arg(long = "component-version", visible_alias = "to", value_name = "VERSION")]
    version: Option<String>,
    /// The version to begin with; the next older one that the type offers if absent.
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// Nodes of the default role to begin with; the type's default if absent.
    #[arg(long)]
    size: Option<u32>,
    /// Most seconds that a phase may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    phase_timeout: u64,
    /// A stage that fails for so many seconds on a node, tried again and again, does not get better.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// If a phase does not succeed, keep controller and hosts for a look.
    #[arg(long, conflicts_with = "given")]
    keep: bool,
    /// Use the controller that --endpoint or `straas dev up` names, not one of its own.
    #[arg(long, conflicts_with = "dirs")]
    given: bool,
}

/// How a life went.
#[derive(Debug, Default, Serialize)]
struct Report {
    #[serde(rename = "type")]
    kind: String,
    from: String,
    to: String,
    succeeded: bool,
    took_ms: u64,
    phases: Vec<Phase>,
    /// What did not go well, and what the nodes said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure: Vec<String>,
}

/// How a phase went.
#[derive(Debug, Serialize)]
struct Phase {
    phase: &'static str,
    /// What it was to do, or why it was skipped.
    what: String,
    took_ms: u64,
    ended: String,
    /// What the scripts took on each node in this phase, in ms.
    nodes: BTreeMap<String, u64>,
}

/// Lives it.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let faults = check::faults(&args.dirs)?;
    if let Some(first) = faults.first() {
        let dirs: Vec<String> = args.dirs.iter().map(|dir| dir.display().to_string()).collect();
        return Err(CliError::Input(format!(
            "{first}\nsee all with: straas component check {} ({} in all)",
            if dirs.is_empty() { "--builtin".to_owned() } else { dirs.join(" ") },
            faults.len()
        )));
    }
    if args.given {
        return live(&Client::new(global)?, &args, global).await;
    }
    let home = tempfile::Builder::new().prefix("straas-life-").tempdir_in("/var/tmp")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let dirs = args.dirs.iter().map(std::fs::canonicalize).collect::<Result<Vec<_>, _>>()?;
    // from here on a signal ends the life, not this program
    let interrupted = interrupted()?;
    let lived = match dev::private(home.path(), port, &dirs) {
        Ok(()) => {
            let token_file = Some(home.path().join("admin.token"));
            let context = Context { endpoint: format!("http://127.0.0.1:{port}"), token_file };
            let log = home.path().join("controller.log");
            anstream::eprintln!("--- a controller of its own is at {}, its log in {}", context.endpoint, log.display());
            let client = Client::with(context)?;
            tokio::select! {
                lived = live(&client, &args, global) => lived,
                name = interrupted => Err(CliError::Local(format!("interrupted by {name}"))),
            }
        }
        Err(error) => Err(error),
    };
    if lived.is_err() && args.keep {
        kept(&home.keep(), port);
        return lived;
    }
    anstream::eprintln!("--- removing controller, hosts and network");
    let gone = dev::remove(home.path(), true);
    lived.and(gone)
}

/// Ends when this program is told to.
fn interrupted() -> Result<impl Future<Output = &'static str>, CliError> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = int.recv() => "SIGINT",
            _ = term.recv() => "SIGTERM",
        }
    })
}

fn kept(home: &Path, port: u16) {
    let home = home.display();
    anstream::eprintln!(
        "kept for a look:\n  export STRAAS_ENDPOINT=http://127.0.0.1:{port} STRAAS_TOKEN_FILE={home}/admin.token STRAAS_DEV_DIR={home}\n  \
         straas topology show {name}; straas job show {name}; straas dev exec NODE bash\n  \
         less {home}/controller.log\n\
         remove it:  straas dev down --dir {home} --purge",
        name = phases::TOPOLOGY,
    );
}

async fn live(client: &Client, args: &Args, global: &Global) -> Result<(), CliError> {
    let begun = Instant::now();
    let seconds = Duration::from_secs;
    let mut life = Life::new(client, seconds(args.phase_timeout), seconds(args.patience), args.given);
    let outcome = life.lived(args).await;
    let mut report = life.report;
    report.succeeded = outcome.is_ok();
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    print(global.format(), &report, shown)?;
    // a test that fails is a failure, whatever it was
    outcome.map_err(|error| CliError::Local(format!("{} did not live its life: {}", args.kind, error.text())))
}

fn shown(report: &Report) -> String {
    let row = |p: &Phase| {
        let nodes: Vec<String> = p.nodes.iter().map(|(name, ms)| format!("{name} {}", duration(*ms))).collect();
        let took = if p.ended == "skipped" { "-".to_owned() } else { duration(p.took_ms) };
        vec![p.phase.to_owned(), took, p.ended.clone(), p.what.clone(), nodes.join(", ")]
    };
    let mut out = table(&["phase", "took", "ended", "what", "scripts on each node"], report.phases.iter().map(row));
    for line in &report.failure {
        out.push_str(&format!("\n{}", clean(line)));
    }
    let how = if report.succeeded { "lived its whole life in" } else { "ended after" };
    out.push_str(&format!("\n{} {} {how} {}", report.kind, report.to, duration(report.took_ms)));
    out
}
