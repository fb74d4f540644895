//! What an assignment and the ledger together say about the stages.
//!
//! A stage is *current* when its last run succeeded at the effective digest it has now. The first
//! that is not is the next to run; those behind it cannot even be judged, because their digests
//! depend on what it produces. A stopped node is done when it is prepared: what follows waits.
//!
//! Never here: gates and times. This is what has to be done, not when.

use crate::ledger::{Ledger, StageRecord};
use straas_schemas::assignment::DriftPolicy;
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage, StageOrder};

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The next stage and its effective digest.
    pub next: Option<(Stage, Digest)>,
    /// The digest at which `validate` can look again at what is configured now, while nothing
    /// else is due. It stays possible while a newer configuration waits at a gate.
    pub monitor: Option<Digest>,
}

/// Judges every stage.
pub fn outlook(assignment: &Assignment, ledger: &Ledger) -> Outlook {
    let stopped = assignment.lifecycle == Lifecycle::Stopped;
    let enforced = assignment.drift.is_some_and(|drift| drift.policy == DriftPolicy::Enforce);
    let mut next = None;
    for order in &assignment.stages {
        // `config` starts the service, so both wait until it may run again
        if stopped && order.stage >= Stage::Config {
            break;
        }
        let digest = effective(order, ledger);
        let holds = |record: &StageRecord| record.digest == digest && !(record.drifted && enforced);
        if !ledger.succeeded(order.stage).is_some_and(holds) {
            next = Some((order.stage, digest));
            break;
        }
    }
    // with another script, too, and if what was found before counts no more: whether it works does not wait for what a newer
    // configuration waits for
    let validated = ledger.stages.contains_key(&Stage::Validate);
    let configured = ledger.succeeded(Stage::Config).is_some() || assignment.order(Stage::Config).is_none();
    let monitor = assignment
        .order(Stage::Validate)
        .filter(|_| configured && validated && !stopped)
        .map(|order| effective(order, ledger))
        .filter(|_| next.as_ref().is_none_or(|(stage, _)| *stage != Stage::Validate));
    Outlook { next, monitor }
}

/// The effective digest of a stage, from what the earlier ones left in the ledger.
pub fn effective(order: &StageOrder, ledger: &Ledger) -> Digest {
    let digest = |stage| ledger.stages.get(&stage).map(|record| &record.digest);
    let rendered = ledger.stages.get(&Stage::PreConfig).and_then(|record| record.output.as_ref());
    effective_digest(order.stage, &order.inputs, digest(Stage::Install), rendered, digest(Stage::Config))
}

/// Whether a gate lets a run at this digest through.
pub fn allows(gate: &Gate, digest: &Digest) -> bool {
    match gate {
        Gate::Open => true,
        Gate::Closed { .. } => false,
        Gate::Permit { granted } => granted.as_ref() == Some(digest),
    }
}

/// What is wrong with an assignment for this agent, if anything; its number is not judged here.
pub fn fault(assignment: &Assignment, node: &straas_schemas::NodeId) -> Option<String> {
    if assignment.protocol > straas_schemas::PROTOCOL {
        return Some(format!(
            "it is written in protocol {}, this agent speaks {}: update the agent",
            assignment.protocol,
            straas_schemas::PROTOCOL
        ));
    }
    if assignment.node != *node {
        return Some(format!("it is for node {}, this is {node}", assignment.node));
    }
    if assignment.stages.windows(2).any(|pair| pair[0].stage >= pair[1].stage) {
        return Some("its stages are not in the order install, pre_config, config, validate".into());
    }
    None
}

/// Whether a stage's last run ended as `outcome`.
pub fn ended_as(ledger: &Ledger, stage: Stage, outcome: Outcome) -> bool {
    ledger.stages.get(&stage).is_some_and(|record| record.outcome == Some(outcome))
}
