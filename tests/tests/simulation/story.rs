//! Runs histories, leaves out of one that fails all that the failure does not need, and tells it.

use crate::dice::Dice;
use crate::history::History;
use crate::mutants::Mutant;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use straas_schemas::{Assignment, Gate};

/// Random steps of one history: many short ones find more than few long ones.
pub const STEPS: u64 = 220;
/// Histories that are run to find out which steps a failure needs.
const TRIES: u32 = 400;

/// What happened.
pub struct Told {
    /// One line for each thing, if they are asked for.
    lines: Option<Vec<String>>,
    /// How often things of a kind did.
    seen: BTreeMap<String, u64>,
}

impl Told {
    pub fn new(lines: bool) -> Self {
        Self { lines: lines.then(Vec::new), seen: BTreeMap::new() }
    }

    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }

    pub fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    pub fn seen(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.seen)
    }
}

/// A gate in a word.
pub fn gate(gate: &Gate) -> String {
    match gate {
        Gate::Open => "open".to_owned(),
        Gate::Closed { .. } => "closed".to_owned(),
        Gate::Permit { granted } => if granted.is_some() { "permitted" } else { "no permit" }.to_owned(),
    }
}

/// Names of the peers that an assignment tells of.
pub fn peers(assignment: &Assignment) -> Vec<&str> {
    assignment.context["peers"].as_array().into_iter().flatten().filter_map(|peer| peer["name"].as_str()).collect()
}

/// Runs a history with these of its steps; what happened, and why it failed.
pub fn run(seed: u64, steps: &[u64], mutant: Option<Mutant>, tell: bool) -> (Told, Result<(), String>) {
    let mut history = History::new(seed, mutant, tell);
    let story = AssertUnwindSafe(|| {
        // most begin with a topology that works: then it is changes that meet faults
        if !seed.is_multiple_of(4) {
            history.settle();
        }
        for step in steps {
            history.dice = Dice::of(seed, *step);
            history.step();
        }
        history.dice = Dice::of(seed, u64::MAX - 1);
        history.rest();
    });
    let result = catch_unwind(story).map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        text.strip_prefix("assertion `left == right` failed: ").map_or(text.clone(), str::to_owned)
    });
    (history.told, result)
}

/// All steps of a history.
pub fn all() -> Vec<u64> {
    (0..STEPS).collect()
}

/// The kind of a failure: what it says before it names anything.
pub fn kind(failure: &str) -> String {
    let words = failure.split([':', '{', '[', '"']).next().unwrap_or_default();
    words.chars().filter(|c| !c.is_ascii_digit()).take(40).collect()
}

/// Leaves out all steps that a failure does not need.
pub fn shrink(seed: u64, mutant: Option<Mutant>, failure: &str) -> Vec<u64> {
    let mut steps = all();
    let fails = |steps: &[u64]| run(seed, steps, mutant, false).1.is_err_and(|text| kind(&text) == kind(failure));
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

/// A failure in words, with as few steps as it needs.
pub fn tell(seed: u64, mutant: Option<Mutant>, failure: &str, whole: bool) -> String {
    let steps = if whole { all() } else { shrink(seed, mutant, failure) };
    let (told, result) = run(seed, &steps, mutant, true);
    let failure = result.err().unwrap_or_default();
    format!("seed {seed} with {} of its steps:\n{}\n{failure}\n", steps.len(), told.lines().join("\n"))
}
