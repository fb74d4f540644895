//! Random histories against a ghost world, a million steps in one run of the tests.
//!
//! The ghost world knows what *really* happened: what ran on the node and ended how, what the disk
//! holds, whether the service is up, what the controller received. Every invariant speaks of it,
//! never of what the converger believes; a result that is taken for another run's would pass any
//! check of its own belief.
//!
//! A failure names its seed; `STRAAS_SEED=<seed> cargo test -p straas-converge` replays it alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stderr, missing_docs)]

mod world;

use world::World;

/// Random steps of one history before the faults end.
const STEPS: u32 = 400;
/// Histories of one test; four tests make over one and a half million steps.
const HISTORIES: u64 = 500;

fn histories(first: u64) {
    if let Ok(seed) = std::env::var("STRAAS_SEED") {
        return history(seed.parse().unwrap());
    }
    let (mut steps, mut kills) = (0, 0);
    for seed in first..first + HISTORIES {
        let guard = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.random_step();
        }
        world.settle();
        steps += world.steps;
        kills += world.kills;
        std::mem::forget(guard);
    }
    eprintln!("{HISTORIES} histories from seed {first}: {steps} steps, {kills} kills");
    assert!(steps > 250_000 && kills > 500, "only {steps} steps, {kills} kills");
}

fn history(seed: u64) {
    let mut world = World::new(seed);
    world.talk = true;
    for _ in 0..STEPS {
        world.random_step();
    }
    world.settle();
}

/// Says the seed when a history panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        eprintln!("FAILED: replay with STRAAS_SEED={}", self.0);
    }
}

#[test]
fn histories_1() {
    histories(1);
}
#[test]
fn histories_2() {
    histories(1_000_000);
}
#[test]
fn histories_3() {
    histories(2_000_000);
}
#[test]
fn histories_4() {
    histories(3_000_000);
}
