//! Random histories of every workflow in a ghost world, with everything that can go wrong.
//!
//! ```text
//! requests.rs   what users ask for (`wishes.rs` draws it)   ─┐
//! carry.rs      the controller: plans, applies, makes hosts  ├─► what is recorded ─► plan
//! faults.rs     messages, agents, hosts, clocks             ─┘
//! checks.rs     what must hold at every step, on what really happens
//! rest.rs       the faults stop: everything has to become as it is wanted
//! ```
//! A failure prints its seed and, with every step left out that it does not need, one line for each
//! thing that happened.
//!
//! `STRAAS_SEED=7,20-29 cargo test -p straas-planner histories` replays these, `STRAAS_HISTORIES=n` runs
//! more, `STRAAS_FROM=n` begins elsewhere, `STRAAS_ALL=1` goes on after a failure and lists all,
//! `STRAAS_WHOLE=1` leaves out no step, `STRAAS_STORY=1` tells a history that holds, too.

mod checks;
mod dice;
mod faults;
mod rest;
mod wishes;

use crate::carry::Moment;
use crate::catalog;
use crate::fixture;
use crate::world::World;
use checks::Ghost;
use dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use straas_planner::{OperationRun, Plan, plan};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobKind;
use straas_schemas::report::Report;
use straas_schemas::{Assignment, CommandId, ComponentId, JobId, NodeId, Stage};

/// Histories of one run of the test: as many as a debug build tells in less than a minute.
const HISTORIES: u64 = 90;
/// Later ones that are told as well: each failed once, and most are among the few that
/// some fault of the table in `guards.rs` fails.
const TOLD_TOO: [u64; 15] = [161, 241, 252, 417, 511, 606, 635, 741, 1139, 1332, 1697, 2735, 3103, 3166, 3331];
/// Random steps of one history.
const STEPS: u64 = 500;
/// Histories that are run to find out which steps a failure needs.
const TRIES: u32 = 250;

#[derive(Clone)]
enum Message {
    Offer(NodeId, Box<Assignment>),
    Order(NodeId, CommandId),
    Beat(NodeId, Box<Heartbeat>),
    Reports(NodeId, u64, Vec<Report>),
    Acknowledged(NodeId, u64, u64),
}

/// What goes wrong for a while.
#[derive(Default)]
struct Trouble {
    cut: BTreeSet<NodeId>,
    /// No host can be made.
    no_room: bool,
    /// Operations fail.
    operations: bool,
    /// A stage fails on a node.
    failing: BTreeMap<NodeId, Stage>,
    /// Whatever a node runs does not end.
    slow: BTreeSet<NodeId>,
}

struct History {
    dice: Dice,
    world: World,
    flying: Vec<Message>,
    /// Plans made and not yet carried out, with what they were made of.
    plans: Vec<(Plan, Moment)>,
    trouble: Trouble,
    ghost: Ghost,
    jobs: u32,
    commits: u32,
    told: Option<Vec<String>>,
}

impl History {
    fn new(seed: u64, tell: bool) -> Self {
        let mut dice = Dice::of(seed, u64::MAX);
        let zk = if dice.one_in(4) { "zookeeper/enforce" } else { "zookeeper" };
        let size = 1 + u32::try_from(dice.below(5)).expect("small");
        let mut components = vec![catalog::component("zk", zk, &[size], &[])];
        if dice.one_in(2) {
            components.push(wishes::brokers(&mut dice, "kf"));
        }
        if dice.one_in(3) {
            components.push(wishes::workers(&mut dice, "st"));
        }
        let mut this = Self {
            dice,
            world: World::new(fixture::input(components)),
            flying: Vec::new(),
            plans: Vec::new(),
            trouble: Trouble::default(),
            ghost: Ghost::default(),
            jobs: 0,
            commits: 0,
            told: tell.then(Vec::new),
        };
        let job = this.job();
        this.world.begin_job(JobKind::Create, None, &job);
        let parts: Vec<String> = this.world.store.components.iter().map(wishes::describe).collect();
        this.tell(|| format!("{job}: create {}", parts.join(", ")));
        this
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let at = self.world.store.now_ms - 1_000_000;
            told.push(format!("{:>6}.{:03} {}", at / 1000, at.rem_euclid(1000), text()));
        }
    }

    fn job(&mut self) -> JobId {
        self.jobs += 1;
        format!("job-{}", self.jobs).into()
    }

    fn commit(&mut self) -> u32 {
        self.commits += 1;
        self.commits
    }

    fn name(&self, id: &NodeId) -> String {
        let node = self.world.store.nodes.iter().find(|n| n.id == *id);
        node.map_or_else(|| format!("({id})"), |n| n.name.clone())
    }

    fn node(&mut self) -> Option<NodeId> {
        let ids: Vec<_> = self.world.store.nodes.iter().map(|n| n.id.clone()).collect();
        self.dice.pick(&ids).cloned()
    }

    fn component(&mut self) -> Option<ComponentId> {
        let ids: Vec<_> = self.world.store.components.iter().map(|c| c.id.clone()).collect();
        self.dice.pick(&ids).cloned()
    }

    fn open_operations(&self) -> impl Iterator<Item = &OperationRun> {
        self.world.store.operations.iter().filter(|run| !run.standing.is_final())
    }

    fn planned(&mut self) -> Plan {
        let plan = plan(&self.world.store);
        if self.dice.one_in(16) {
            assert_eq!(plan, straas_planner::plan(&self.world.store), "the same input gave two plans");
        }
        self.check_plan(&plan);
        plan
    }

    /// One thing happens.
    fn step(&mut self) {
        self.world.store.now_ms += i64::try_from(self.dice.below(400)).expect("small");
        match self.dice.below(100) {
            0..22 => self.deliver(),
            22..32 => {
                let plan = self.planned();
                let moment = self.world.moment();
                self.plans.push((plan, moment));
            }
            32..43 => self.apply(),
            43..50 => self.host(),
            50..67 => self.work(),
            67..92 => self.talk(),
            92..94 => self.accident(),
            94..97 => self.calm(),
            _ => self.wish(),
        }
    }
}

/// Runs a history with these of its steps; what happened, if that was asked for, and why it failed.
fn run(seed: u64, steps: &[u64], tell: bool) -> (Vec<String>, Result<(), String>) {
    let mut history = History::new(seed, tell);
    let story = AssertUnwindSafe(|| {
        // most begin with a topology that works: then it is changes that meet faults
        if !seed.is_multiple_of(4) {
            history.settle();
        }
        for step in steps {
            history.dice = Dice::of(seed, *step);
            history.step();
            if history.world.forgotten {
                break;
            }
        }
        history.dice = Dice::of(seed, u64::MAX - 1);
        history.rest();
    });
    let result = catch_unwind(story).map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    });
    (history.told.unwrap_or_default(), result)
}

/// The kind of a failure: what it says before it names anything.
fn kind(failure: &str) -> String {
    let words = failure.split([':', '{', '[', '"']).next().unwrap_or_default();
    words.chars().filter(|c| !c.is_ascii_digit()).take(40).collect()
}

/// Leaves out all steps that a failure does not need.
fn shrink(seed: u64, failure: &str) -> Vec<u64> {
    let mut steps: Vec<u64> = (0..STEPS).collect();
    let fails = |steps: &[u64]| run(seed, steps, false).1.is_err_and(|text| kind(&text) == kind(failure));
    let (mut tries, mut part) = (0, steps.len() / 2);
    while part > 0 && tries < TRIES {
        let mut at = 0;
        while at < steps.len() && tries < TRIES {
            let end = (at + part).min(steps.len());
            let rest: Vec<u64> = steps[..at].iter().chain(&steps[end..]).copied().collect();
            tries += 1;
            if fails(&rest) {
                steps = rest;
            } else {
                at = end;
            }
        }
        part /= 2;
    }
    steps
}

#[allow(clippy::disallowed_methods)] // the planner reads no environment, its test may be told a seed
fn words(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn setting(name: &str) -> Option<u64> {
    words(name)?.parse().ok()
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

#[test]
#[allow(clippy::print_stderr)]
fn random_histories_hold_every_invariant() {
    let from = setting("STRAAS_FROM").unwrap_or(1);
    let seeds: Vec<u64> = match (words("STRAAS_SEED"), setting("STRAAS_HISTORIES")) {
        (Some(seeds), _) => listed(&seeds),
        (None, Some(more)) => (from..from + more).collect(),
        (None, None) => (from..from + HISTORIES).chain(TOLD_TOO).collect(),
    };
    let all: Vec<u64> = (0..STEPS).collect();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = BTreeMap::new();
    for seed in seeds {
        let tell = setting("STRAAS_STORY").is_some();
        let (told, result) = run(seed, &all, tell);
        if tell {
            eprintln!("{}", told.join("\n"));
        }
        let Err(failure) = result else { continue };
        failed.insert(seed, failure);
        if setting("STRAAS_ALL").is_none() {
            break;
        }
    }
    let stories = failed.iter().take(1).map(|(seed, failure)| {
        let steps = if setting("STRAAS_WHOLE").is_some() { all.clone() } else { shrink(*seed, failure) };
        let (told, result) = run(*seed, &steps, true);
        let steps = steps.len();
        format!("STRAAS_SEED={seed} with {steps} steps:\n{}\n{}", told.join("\n"), result.err().unwrap_or_default())
    });
    let story = stories.collect::<String>();
    std::panic::set_hook(quiet);
    let list: Vec<String> =
        failed.iter().map(|(seed, text)| format!("{seed}: {}", text.lines().next().unwrap_or_default())).collect();
    assert!(failed.is_empty(), "{story}\n\nfailed: {}\n{}", failed.len(), list.join("\n"));
}
