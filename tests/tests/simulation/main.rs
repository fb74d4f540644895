//! The whole system without a network, a disk or a clock: seeded histories with everything that can go wrong.
//!
//! ```text
//!   requests.rs ──► controller.rs: snapshot ─► plan ─► apply ──► door.rs ─► database.rs (the real store, in memory)
//!                     ▲      │ (the real ones, several)                        ▲ what must hold of every write
//!     network.rs ─────┘      └──► ground.rs: hosts ──► agent.rs (the real converger) ─► work.rs: what scripts come to
//!   faults.rs, zones.rs: crashes at every call, cuts, clocks, fail-over   checks.rs, rest.rs, end.rs: what must hold of what happens
//! ```
//! `cargo test -p straas-tests --test simulation` tells 10,000 histories and then takes one protection after another
//! away (`mutants.rs`): each has to be missed by the invariant that is named for it.
//!
//! Further words go behind `--`: `--seeds 1000000` tells more, `--from N` begins elsewhere, `--seed 7,20-29` tells
//! these (so does `STRAAS_SEED`), `--all` goes on after a failure and lists all, `--whole` leaves out no step of a
//! failure, `--story` tells a history that holds, too, `--mutant NAME` tells them without a protection.
//!
//! Never here: tokio, sleeps, chance that is not the seed's.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, clippy::disallowed_methods)]

mod agent;
mod apart;
mod books;
#[path = "../../../controller/planner/tests/planner/catalog.rs"]
#[allow(dead_code)]
mod catalog;
mod checks;
mod controller;
mod database;
#[path = "../../../controller/planner/tests/planner/histories/dice.rs"]
#[allow(dead_code)]
mod dice;
mod door;
mod end;
mod faults;
#[path = "../../../controller/planner/tests/planner/fixture.rs"]
#[allow(dead_code)]
mod fixture;
mod ground;
mod history;
mod homes;
mod members;
mod mutants;
mod network;
mod requests;
mod rest;
mod story;
mod turns;
mod work;
mod zones;

use clap::Parser;
use mutants::Mutant;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Histories of one run of the test.
const SEEDS: u64 = 10_000;
/// Histories in which each mutant has to be caught.
const MUTANT_SEEDS: u64 = 1_500;

/// In so many everything happens.
const ENOUGH: usize = 1_000;
/// What has to happen somewhere.
const HAPPENS: [&str; 30] = [
    "create succeeded",
    "delete succeeded",
    "flexup succeeded",
    "flexdown succeeded",
    "replace succeeded",
    "configure succeeded",
    "configure rolled_back",
    "configure cancelled",
    "rollback succeeded",
    "upgrade succeeded",
    "upgrade rolled_back",
    "sync succeeded",
    "sync rolled_back",
    "start succeeded",
    "stop succeeded",
    "restart succeeded",
    "remove succeeded",
    "command succeeded",
    "command failed",
    "a command is cut off in the middle",
    "a controller dies in the middle",
    "an agent dies in the middle",
    "the database is away",
    "an answer is too late",
    "a zone is cut off",
    "a zone is cut off for long",
    "a controller without its database answers",
    "two topologies",
    "three topologies",
    "a topology goes on while another one is cut off",
];

/// How often what happened.
type Seen = BTreeMap<String, u64>;

/// What to tell.
#[derive(Parser)]
struct Words {
    /// So many histories.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// These, e.g. `7,20-29`.
    #[arg(long, env = "STRAAS_SEED")]
    seed: Option<String>,
    /// Goes on after a failure.
    #[arg(long)]
    all: bool,
    /// Leaves out no step of a failure.
    #[arg(long)]
    whole: bool,
    /// Tells histories that hold, too.
    #[arg(long)]
    story: bool,
    /// Without this protection; `all` for one after another.
    #[arg(long)]
    mutant: Option<String>,
    /// What cargo hands to every test.
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(short, hide = true)]
    quiet: bool,
    #[arg(hide = true)]
    filters: Vec<String>,
}

/// Seeds in words: `7,20-29`.
fn listed(text: &str) -> Vec<u64> {
    let number = |text: &str| text.trim().parse().expect("a seed");
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    };
    text.split(',').flat_map(part).collect()
}

/// Tells histories on all cores; those that failed. Unless `all`, the first failure ends it.
fn tell(seeds: &[u64], mutant: Option<Mutant>, all: bool, story: bool) -> (BTreeMap<u64, String>, Seen) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let seen = Mutex::new(Seen::new());
    let failed = Mutex::new(BTreeMap::new());
    let steps = story::all();
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (mut told, result) = story::run(*seed, &steps, mutant, story);
            if story {
                println!("{}", told.lines().join("\n"));
            }
            let mut seen = seen.lock().expect("nobody panics with it");
            told.seen().into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times);
            drop(seen);
            if let Err(failure) = result {
                if all {
                    println!("{seed}: {}", failure.lines().next().unwrap_or_default());
                }
                failed.lock().expect("nobody panics with it").insert(*seed, failure);
                stop.store(!all, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores.min(seeds.len())).for_each(|_| drop(scope.spawn(work)));
    });
    let whole = "nobody panics with it";
    (failed.into_inner().expect(whole), seen.into_inner().expect(whole))
}

/// Takes a protection away: whether it is missed, by the invariant that is named for it.
fn missed(mutant: Mutant, whole: bool) -> bool {
    let begun = Instant::now();
    let seeds: Vec<u64> = (1..=MUTANT_SEEDS).collect();
    let (failed, _) = tell(&seeds, Some(mutant), false, false);
    let Some((seed, failure)) = failed.first_key_value() else {
        println!("{mutant:?} SURVIVES {MUTANT_SEEDS} histories");
        return false;
    };
    let named = mutant.caught_by().iter().any(|words| failure.starts_with(words));
    let first = failure.lines().next().unwrap_or_default();
    println!("{mutant:?}: caught by history {seed} after {:.1?}: {first}", begun.elapsed());
    if !named {
        println!("  which is not what was to catch it: {:?}", mutant.caught_by());
        if whole {
            println!("{}", story::tell(*seed, Some(mutant), failure, false));
        }
    }
    named
}

fn main() -> ExitCode {
    let words = Words::parse();
    // another test was asked for
    if words.filters.iter().any(|filter| !"simulation".contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let of = |name: &str| Mutant::ALL.into_iter().find(|mutant| format!("{mutant:?}") == name).expect("a mutant");
    let mutant = words.mutant.as_deref().filter(|name| *name != "all").map(of);
    let given = words.seed.as_deref().map(listed);
    let seeds = given.clone().unwrap_or_else(|| {
        let count = words.seeds.unwrap_or(if words.mutant.is_some() { 0 } else { SEEDS });
        (words.from..words.from + count).collect()
    });
    let begun = Instant::now();
    let (failed, seen) = tell(&seeds, mutant, words.all, words.story);
    println!("{} histories in {:.1?}, {} failed", seeds.len(), begun.elapsed(), failed.len());
    if let Some((seed, failure)) = failed.first_key_value() {
        println!("{}", story::tell(*seed, mutant, failure, words.whole));
    }
    let mut fine = failed.is_empty();
    // a simulation in which something never happens proves nothing of it
    if fine && seeds.len() >= ENOUGH {
        let never: Vec<&&str> = HAPPENS.iter().filter(|what| !seen.contains_key(**what)).collect();
        println!("{seen:#?}");
        if !never.is_empty() {
            println!("never happened: {never:?}");
            fine = false;
        }
    }
    if fine && given.is_none() && words.seeds.is_none() {
        let all: Vec<Mutant> = mutant.map_or_else(|| Mutant::ALL.to_vec(), |mutant| vec![mutant]);
        fine = all.into_iter().filter(|mutant| !missed(*mutant, words.whole)).count() == 0;
    }
    std::panic::set_hook(quiet);
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
