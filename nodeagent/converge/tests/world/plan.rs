//! The dice, and the assignments they make.

use std::collections::BTreeMap;
use straas_converge::RunResult;
use straas_schemas::assignment::{Autonomy, DriftOrder, DriftPolicy, Limits, Timing};
use straas_schemas::build::AgentBuild;
use straas_schemas::heartbeat::{Ask, ServiceStatus};
use straas_schemas::report::Facts;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, NodeId, Outcome, Stage, StageOrder};

/// Splitmix64: the same seed, the same history, on every machine.
pub struct Dice(u64);

impl Dice {
    /// Neighbouring seeds must not be the same stream one step apart, so the seed is mixed first.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5743_1f2e_9b6d_c0a5))
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn node() -> NodeId {
    "node-1".into()
}

/// Few different inputs, so that old ones come back. Those of `config` count the restarts.
fn inputs(dice: &mut Dice, stage: Stage, restarts: u32) -> Digest {
    let restarts = if stage == Stage::Config { restarts } else { 0 };
    Digest::of(&[stage.name().as_bytes(), &[dice.below(3) as u8], &restarts.to_le_bytes()])
}

fn gate(dice: &mut Dice, asks: Option<&Ask>, stage: Stage) -> Gate {
    match dice.below(8) {
        0 => Gate::Closed { why: "a dependency".into() },
        1 | 2 => {
            let granted = asks.filter(|ask| ask.stage == stage).map(|ask| ask.digest.clone());
            Gate::Permit { granted: granted.filter(|_| dice.below(4) > 0) }
        }
        3 => Gate::Permit { granted: Some(inputs(dice, stage, 0)) },
        _ => Gate::Open,
    }
}

pub fn assignment(dice: &mut Dice, generation: u64, _: Option<()>) -> Assignment {
    let limits = Limits { total_s: 60, no_progress_s: 60 };
    let order = |dice: &mut Dice, stage| StageOrder {
        stage,
        inputs: inputs(dice, stage, 0),
        gate: gate(dice, None, stage),
        limits,
    };
    Assignment {
        protocol: straas_schemas::PROTOCOL,
        node: node(),
        generation,
        lifecycle: Lifecycle::Running,
        name: "demo-1".into(),
        role: "role".into(),
        version: "1".into(),
        scripts: "commit-0".into(),
        config: String::new(),
        restarts: 0,
        hosts: BTreeMap::new(),
        agent: None,
        drift: None,
        files: Vec::new(),
        packages: Vec::new(),
        context: serde_json::Value::Null,
        stages: Stage::ALL.into_iter().map(|stage| order(dice, stage)).collect(),
        timing: Timing {
            heartbeat_ms: 1_000,
            validate_every_ms: 5_000,
            retry_ms: 200,
            retry_max_ms: 2_000,
            waiting_ms: 300,
            validate_wait_ms: 10_000,
        },
        autonomy: Autonomy { restart_service: true },
    }
}

pub fn change(dice: &mut Dice, before: &Assignment, asks: Option<Ask>) -> Assignment {
    let mut next = before.clone();
    let at = dice.below(4) as usize;
    match dice.below(10) {
        0 => next.scripts = format!("commit-{}", dice.below(3)),
        1 => next.lifecycle = if dice.below(3) == 0 { Lifecycle::Stopped } else { Lifecycle::Running },
        2..5 => next.stages[at].inputs = inputs(dice, next.stages[at].stage, next.restarts),
        5 => {
            next.restarts += 1;
            next.stages[2].inputs = inputs(dice, Stage::Config, next.restarts);
        }
        6 => next.hosts = [("demo-1".to_owned(), format!("10.0.0.{}", dice.below(3)))].into(),
        7 => {
            next.drift = (dice.below(4) > 0).then(|| DriftOrder {
                every_ms: 2_000,
                policy: if dice.below(3) > 0 { DriftPolicy::Enforce } else { DriftPolicy::Report },
            });
        }
        8 => {
            let build = |n: u64| AgentBuild { sha256: Digest::of(&[n.to_le_bytes()]), size: n };
            next.agent = (dice.below(3) > 0).then(|| build(dice.below(2)));
        }
        _ => {}
    }
    for order in &mut next.stages {
        if dice.below(2) == 0 {
            order.gate = gate(dice, asks.as_ref(), order.stage);
        }
    }
    next
}

/// Other inputs and an open gate for one stage.
pub fn change_stage(dice: &mut Dice, assignment: &mut Assignment, stage: Stage) {
    for order in assignment.stages.iter_mut().filter(|order| order.stage == stage) {
        order.inputs = inputs(dice, stage, assignment.restarts);
        order.gate = Gate::Open;
    }
}

pub fn result(
    outcome: Outcome,
    output: Option<Digest>,
    service: Option<ServiceStatus>,
    lost: Option<Stage>,
) -> RunResult {
    RunResult {
        outcome,
        exit_code: Some(0),
        reason: "reason".into(),
        hint: None,
        duration_ms: 5,
        output_tail: String::new(),
        output_bytes: 0,
        facts: Facts::new(),
        service,
        output: output.filter(|_| outcome == Outcome::Succeeded),
        lost,
        drift: None,
    }
}
