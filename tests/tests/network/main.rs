//! The real programs over a network that is played: what agents and controllers say to each other, while links are cut,
//! held and slow, and both are killed.
//!
//! ```text
//!  user.rs ──HTTP──► seat.rs: two controllers, whole (ports, TLS, engine, chores) ──► one store in memory
//!                        ▲  │                                        └──► ground.rs: machines ──┐
//!             HTTP over mTLS│ long polls, packs, reports, heartbeats, commands                  ▼
//!                        └──┴────────────────────────────── node.rs: the real agent with its ledger, scripts on paper
//!  faults.rs: cuts, held and slow links, kills, by the seed        checks.rs: what must hold of it
//! ```
//! turmoil carries the bytes and gives the time, so ten minutes pass in seconds. Each history is a process of its own,
//! since a killed program of turmoil leaves its traces in the one it was killed in.
//!
//! `cargo test -p straas-tests --test network` tells 24 histories. Words behind `--`: `--seeds N` tells more, `--seed 7` tells
//! one (so does `STRAAS_SEED`) with all that the programs log. The seed fixes what users want, what fails and when; the
//! jitter of back-offs and the keys are the programs' own, so a history is nearly, but not wholly, the same each time.
//!
//! Never here: what a pure history tells better (`tests/tests/simulation`), processes, real time.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, clippy::disallowed_methods)]

mod checks;
#[path = "../../../controller/planner/tests/planner/histories/dice.rs"]
#[allow(dead_code)]
mod dice;
mod faults;
mod ground;
mod history;
mod node;
mod seat;
#[path = "../../../controller/repos/tests/suite/server.rs"]
mod server;
mod user;
mod wire;

use clap::Parser;
use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Histories of one run of the test.
const SEEDS: u64 = 24;
/// What has to happen somewhere in so many.
const HAPPENS: [&str; 14] = [
    "a link is cut",
    "answers are lost",
    "an answer to a user is lost",
    "a zone is cut off",
    "a link is held",
    "a link is slow",
    "a controller is killed",
    "an agent is killed",
    "a stage fails",
    "a pack is fetched",
    "a change is accepted",
    "a command is accepted",
    "a request is asked again",
    "the certificate authority is exchanged",
];
/// Begins a line with what happened how often.
const SEEN: &str = "seen ";

/// What to tell.
#[derive(Parser)]
struct Words {
    /// So many histories.
    #[arg(long, default_value_t = SEEDS)]
    seeds: u64,
    /// This one, here.
    #[arg(long, env = "STRAAS_SEED")]
    seed: Option<u64>,
    /// Tells in a line for the process that asked what happened.
    #[arg(long, hide = true)]
    child: bool,
    /// What cargo hands to every test.
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(short, hide = true)]
    quiet: bool,
    #[arg(hide = true)]
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let words = Words::parse();
    if let Some(seed) = words.seed {
        return one(seed, words.child);
    }
    let begun = Instant::now();
    let (next, seen, failed) = (AtomicU64::new(1), Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    let tell = || {
        while let seed @ 1.. = next.fetch_add(1, Ordering::Relaxed)
            && seed <= words.seeds
        {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--seed", &seed.to_string(), "--child"])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if !output.status.success() {
                eprintln!("seed {seed} failed ({}):\n{out}{err}", output.status);
                failed.lock().unwrap().push(seed);
                return;
            }
            let mut seen = seen.lock().unwrap();
            for (count, what) in out.lines().filter_map(|line| line.strip_prefix(SEEN)?.split_once(' ')) {
                *seen.entry(what.to_owned()).or_default() += count.parse::<u64>().unwrap();
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(tell))));
    let (seen, failed) = (seen.into_inner().unwrap(), failed.into_inner().unwrap());
    if !failed.is_empty() {
        eprintln!("failed: {failed:?}; cargo test -p straas-tests --test network -- --seed N tells one");
        return ExitCode::FAILURE;
    }
    for (what, count) in &seen {
        println!("  {count:>6} {what}");
    }
    let never: Vec<_> = HAPPENS.iter().filter(|what| !seen.contains_key(**what)).collect();
    if words.seeds >= SEEDS && !never.is_empty() {
        eprintln!("never happened: {never:?}");
        return ExitCode::FAILURE;
    }
    println!("{} histories over a played network hold, in {:.1} s", words.seeds, begun.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}

/// Tells one history in this process.
fn one(seed: u64, child: bool) -> ExitCode {
    if !child {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env();
        let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,turmoil=warn"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    }
    match history::run(seed) {
        Ok(told) => {
            for (what, count) in &told.seen {
                println!("{SEEN}{count} {what}");
            }
            if !child {
                println!("{}", told.lines.join("\n"));
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
