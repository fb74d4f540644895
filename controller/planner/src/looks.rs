//! Whose service is to be looked at once more, before its own regular look.
//!
//! Facts are as old as the last look, and some of them decide what happens next: who leads goes
//! last, copies that are owed keep everybody else up. When a neighbour has come back, another one
//! may lead, and nobody but a look can tell. What is wished for is a time: facts no older than that.
//! Who has newer ones fulfils it, so the same plan made twice wishes for nothing new.
//!
//! Never here: facts as a condition for ever. Who waits for a look that does not come goes on after
//! [`WAIT_MS_MAX`] with what is known.

use crate::gates::Gates;
use crate::observe::{Known, serves, service, stopped};
use crate::permits::held;
use crate::{Component, Node, desired};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::metadata::{ComponentMeta, Disruption};
use straas_schemas::{NodeId, Outcome, Stage};

/// How long something waits for a look at most, from what made it necessary: a look takes a second.
pub const WAIT_MS_MAX: i64 = 3_000;
/// Shortest time between two looks at a node that shows that it is not settled.
const PAUSE_MS: i64 = 1_000;
/// Of the time since the last change, after which part such a node is looked at again.
const PARTS: i64 = 4;

/// Wishes for looks.
#[derive(Default)]
pub struct Looks {
    /// By node: facts no older than this, Unix ms.
    pub wished: BTreeMap<NodeId, i64>,
    /// When another wish is due, Unix ms.
    pub due_ms: Option<i64>,
}

/// Names of the facts that plans of these components look at.
pub fn facts<'a>(components: impl Iterator<Item = &'a Component>) -> BTreeSet<String> {
    components.filter_map(desired::meta).flat_map(|meta| names(&meta.disruption)).cloned().collect()
}

fn names(disruption: &Disruption) -> impl Iterator<Item = &String> {
    disruption.last_fact.keys().chain(disruption.settled.keys())
}

impl Looks {
    /// Finds them.
    pub fn new(known: &Known<'_>, gates: &Gates<'_>) -> Self {
        let mut this = Self::default();
        for component in known.input.components.iter().filter(|c| !c.removed && !known.input.topology.deleting) {
            let Some(meta) = desired::meta(component).filter(|m| names(&m.disruption).next().is_some()) else {
                continue;
            };
            let stepwise = gates.rosters.steps.keys().any(|(id, _)| *id == component.id.as_str());
            this.of_component(known, component, meta, stepwise);
        }
        this
    }

    fn of_component(&mut self, known: &Known<'_>, component: &Component, meta: &ComponentMeta, stepwise: bool) {
        let events = Events::new(known, component, stepwise);
        self.due(events.due_ms);
        let idle = !nodes(known, component).any(held);
        for node in nodes(known, component).filter(|n| tells(known, n, &meta.disruption)) {
            let Some(looked) = looked_ms(node) else { continue };
            let event = events.before(node);
            if looked < event {
                self.wished.insert(node.id.clone(), event);
            } else if idle && !settled(node, &meta.disruption) {
                // what everybody waits for: the longer it takes, the less often it is looked at
                let pause = (looked.saturating_sub(events.newest) / PARTS).max(PAUSE_MS);
                let due = looked.saturating_add(pause);
                if pause >= i64::from(meta.validate_every_s).saturating_mul(1_000) {
                    continue;
                }
                if due <= known.input.now_ms {
                    self.wished.insert(node.id.clone(), due);
                } else {
                    self.due(Some(due));
                }
            }
        }
    }

    fn due(&mut self, at: Option<i64>) {
        self.due_ms = self.due_ms.into_iter().chain(at).min();
    }
}

/// A node whose facts are older than what happened to another, and until when that is waited for.
pub fn outdated<'a>(known: &Known<'a>, component: &Component) -> Option<(&'a Node, i64)> {
    let meta = desired::meta(component)?;
    let events = Events::new(known, component, true);
    let old = |node: &&Node| {
        let event = events.before(node);
        tells(known, node, &meta.disruption)
            && looked_ms(node).is_some_and(|looked| looked < event)
            && known.input.now_ms < event.saturating_add(WAIT_MS_MAX)
    };
    let node = nodes(known, component).find(old)?;
    Some((node, events.before(node).saturating_add(WAIT_MS_MAX)))
}

/// When something happened to the nodes of a component that may show elsewhere, Unix ms.
struct Events {
    newest: i64,
    by: Option<NodeId>,
    /// The newest of all others but `by`.
    second: i64,
    due_ms: Option<i64>,
}

impl Events {
    fn new(known: &Known<'_>, component: &Component, stepwise: bool) -> Self {
        let mut this = Self { newest: 0, by: None, second: 0, due_ms: None };
        for node in nodes(known, component) {
            let Some((result, at)) = node.stages.get(&Stage::Validate) else { continue };
            let at = match result.outcome {
                Outcome::Succeeded => *at,
                // it does not come back: perhaps by what another one has become meanwhile
                Outcome::Waiting | Outcome::Failed if stepwise => at.saturating_add(WAIT_MS_MAX),
                Outcome::Waiting | Outcome::Failed => continue,
            };
            if at > known.input.now_ms {
                this.due_ms = this.due_ms.into_iter().chain([at]).min();
            } else if at > this.newest {
                this.second = this.newest;
                (this.newest, this.by) = (at, Some(node.id.clone()));
            } else {
                this.second = this.second.max(at);
            }
        }
        this
    }

    /// The newest that happened to another node.
    fn before(&self, node: &Node) -> i64 {
        if self.by.as_ref() == Some(&node.id) { self.second } else { self.newest }
    }
}

fn nodes<'a, 's>(known: &'s Known<'a>, component: &'s Component) -> impl Iterator<Item = &'a Node> + 's {
    known.recorded_of(&component.id).chain(known.leavers(&component.id)).filter(|n| n.host.is_up())
}

/// Whether a look at the node can show what is waited for.
fn tells(known: &Known<'_>, node: &Node, disruption: &Disruption) -> bool {
    let shows = service(node).1.is_some_and(|facts| names(disruption).any(|name| facts.contains_key(name)));
    shows && serves(node) && known.reachable(node) && !held(node) && !stopped(node)
}

fn settled(node: &Node, disruption: &Disruption) -> bool {
    let facts = service(node).1;
    disruption.settled.iter().all(|(name, value)| facts.and_then(|facts| facts.get(name)) == Some(value))
}

/// When the look began that the node's facts are of, by this clock; unknown of older agents.
fn looked_ms(node: &Node) -> Option<i64> {
    let (beat, at) = node.heartbeat.as_ref()?;
    let seen = at.saturating_sub_unsigned(beat.looked_ago_ms?);
    let validated = node.stages.get(&Stage::Validate);
    let validated = validated.map(|(result, at)| at.saturating_sub_unsigned(result.duration_ms));
    Some(validated.map_or(seen, |at| at.max(seen)))
}
