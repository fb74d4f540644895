//! Disruption permits: how many serving nodes of a component may be disturbed at once.
//!
//! A permit is a word in a node's assignment: "you may run `config` at exactly this digest". It is
//! held from the moment it is granted until the node confirms that it converged on an assignment
//! that carries it; then it is taken out of the assignment again. A node that falls silent with a
//! permit keeps holding it, and so does one whose inputs change meanwhile: time gives nothing back.
//!
//! A node that asks and says itself that its service does not work has nothing to lose. It does
//! not wait for the budget, or a component that is down as a whole could never be mended.

use crate::observe::{Known, Silence, says, serves, works};
use crate::{Component, Node};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::metadata::Disruption;
use straas_schemas::{Digest, Gate, NodeId, Stage};

/// What became of a request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A permit for this digest.
    Given(Digest),
    /// It never worked and does not now: it needs none.
    Free,
    /// These nodes are disturbed or broken; no more may be.
    Waits(Vec<String>),
    /// By its facts it goes last, and these nodes are not through yet.
    Last(Vec<String>),
}

/// The permit in the node's assignment, unless it has done what it was for.
pub fn held(node: &Node) -> Option<&Digest> {
    let assignment = node.assignment.as_ref()?;
    match &assignment.order(Stage::Config)?.gate {
        Gate::Permit { granted } => granted.as_ref().filter(|_| !confirmed(node)),
        Gate::Open | Gate::Closed { .. } => None,
    }
}

/// Whether the node confirmed its newest assignment: every stage of it is done.
fn confirmed(node: &Node) -> bool {
    node.assignment.as_ref().is_some_and(|a| node.converged_generation >= a.generation)
}

/// The digest that a node asks a permit for and does not have.
fn asked(node: &Node) -> Option<&Digest> {
    let (beat, _) = node.heartbeat.as_ref()?;
    let assignment = node.assignment.as_ref()?;
    let ask = beat.asks.as_ref().filter(|ask| ask.stage == Stage::Config)?;
    let current = beat.generation == assignment.generation && beat.incarnation == node.incarnation;
    let gated = matches!(&assignment.order(Stage::Config)?.gate, Gate::Permit { granted } if granted.as_ref() != Some(&ask.digest));
    (current && gated && ask.digest.is_well_formed()).then_some(&ask.digest)
}

/// Judges every request. `stable` are the nodes whose inputs do not change now: a permit for
/// inputs that are about to change would be of no use and would take the budget.
pub fn grants<'a>(known: &'a Known<'a>, stable: &BTreeMap<&'a NodeId, &'a Node>) -> BTreeMap<&'a NodeId, Grant> {
    let mut out = BTreeMap::new();
    for component in &known.input.components {
        if let Ok(knowledge) = &component.known {
            in_component(known, component, &knowledge.meta.disruption, stable, &mut out);
        }
    }
    out
}

fn in_component<'a>(
    known: &'a Known<'a>,
    component: &Component,
    disruption: &Disruption,
    stable: &BTreeMap<&'a NodeId, &'a Node>,
    out: &mut BTreeMap<&'a NodeId, Grant>,
) {
    let nodes = known.recorded_of(&component.id);
    let mut asking: Vec<(&Node, &Digest)> = nodes
        .iter()
        .filter(|node| stable.contains_key(&node.id) && known.silence(node) != Silence::Unreachable)
        .filter_map(|node| Some((*node, asked(node)?)))
        .collect();
    if asking.is_empty() {
        return;
    }
    let mut disturbed: BTreeSet<&NodeId> = BTreeSet::new();
    disturbed.extend(nodes.iter().filter(|n| held(n).is_some() || known.broken(n)).map(|n| &n.id));
    let budget = disruption.max_unavailable as usize;
    let goes_last = |node: &Node| goes_last(node, disruption);
    let down = |node: &Node| !says(node, ServiceStatus::Active);
    asking.sort_by_key(|(node, _)| (!down(node), goes_last(node), node.ordinal));
    for (node, digest) in asking {
        let others = || nodes.iter().filter(|n| n.id != node.id);
        let grant = if held(node).is_some() || (serves(node) && down(node)) {
            Grant::Given(digest.clone())
        } else if down(node) {
            Grant::Free
        } else {
            let through = |n: &Node| confirmed(n) && stable.contains_key(&n.id);
            let pending = |n: &&&Node| works(n) && !through(n) && !goes_last(n) && !known.broken(n);
            let first: Vec<String> = others().filter(pending).map(|n| n.name.clone()).collect();
            if goes_last(node) && !first.is_empty() {
                Grant::Last(first)
            } else if disturbed.len() < budget {
                Grant::Given(digest.clone())
            } else {
                Grant::Waits(others().filter(|n| disturbed.contains(&n.id)).map(|n| n.name.clone()).collect())
            }
        };
        if matches!(grant, Grant::Given(_)) {
            disturbed.insert(&node.id);
        }
        out.insert(&node.id, grant);
    }
}

fn goes_last(node: &Node, disruption: &Disruption) -> bool {
    let facts = node.heartbeat.as_ref().map(|(beat, _)| &beat.facts);
    let holds = |(name, value): (&String, &serde_json::Value)| facts.is_some_and(|f| f.get(name) == Some(value));
    !disruption.last_fact.is_empty() && disruption.last_fact.iter().all(holds)
}
