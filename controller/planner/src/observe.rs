//! What is known of the nodes, looked at in the ways the rest of the planner asks.
//!
//! Never here: what follows from it. This is the input, indexed.

use crate::desired::{self, Desired, Wanted};
use crate::{Component, Foreign, Host, NewNode, Node, PlanInput, Topology, digests};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::report::Facts;
use straas_schemas::{ComponentId, Gate, Lifecycle, NodeId, Outcome, Stage};

/// The input, indexed.
pub struct Known<'a> {
    /// The input itself.
    pub input: &'a PlanInput,
    /// Nodes that have to exist.
    pub desired: &'a [Wanted<'a>],
    /// The same by id, with those of other topologies.
    pub wanted: BTreeMap<&'a NodeId, &'a Wanted<'a>>,
    /// Recorded nodes by id, with those of other topologies.
    pub recorded: BTreeMap<&'a NodeId, &'a Node>,
    /// Wanted nodes that are not recorded.
    pub missing: Vec<NewNode>,
    /// Recorded nodes that are not wanted.
    pub unwanted: Vec<&'a Node>,
    /// The same in other topologies.
    leaving: Vec<&'a Node>,
    by_component: BTreeMap<&'a ComponentId, Vec<&'a Wanted<'a>>>,
    served: BTreeSet<&'a ComponentId>,
}

/// How long a node has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// No heartbeat ever.
    Unheard,
    /// Heard of lately.
    None,
    /// Some heartbeats are missing.
    Suspect,
    /// Silent for long.
    Unreachable,
}

/// A component that another one depends on.
#[derive(Clone, Copy)]
pub struct Dependency<'a> {
    /// The component.
    pub component: &'a Component,
    /// What it is called where it is depended on.
    pub name: &'a str,
    /// Its topology, if that is another one.
    pub home: Option<&'a Topology>,
}

impl<'a> Known<'a> {
    /// Indexes the input.
    pub fn new(input: &'a PlanInput, desired: &'a Desired<'a>) -> Self {
        let foreign = || input.neighbours.iter().flat_map(|n| &n.nodes);
        let all = || desired.own.iter().chain(&desired.foreign);
        let recorded: BTreeMap<_, _> = input.nodes.iter().chain(foreign()).map(|n| (&n.id, n)).collect();
        let wanted: BTreeMap<_, _> = all().map(|w| (&w.node.id, w)).collect();
        let mut by_component: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for wanted in all() {
            by_component.entry(&wanted.component.id).or_default().push(wanted);
        }
        let missing = desired.own.iter().filter(|w| !recorded.contains_key(&w.node.id));
        Self {
            missing: missing.map(|w| w.node.clone()).collect(),
            unwanted: input.nodes.iter().filter(|n| !wanted.contains_key(&n.id)).collect(),
            leaving: foreign().filter(|n| !wanted.contains_key(&n.id)).collect(),
            served: input.nodes.iter().chain(foreign()).filter(|n| serves(n)).map(|n| &n.component).collect(),
            input,
            desired: &desired.own,
            wanted,
            recorded,
            by_component,
        }
    }

    /// Wanted nodes of a component in the order of groups and ordinals.
    pub fn of_component(&self, id: &ComponentId) -> &[&'a Wanted<'a>] {
        self.by_component.get(id).map_or(&[], Vec::as_slice)
    }

    /// The wanted nodes of a component that are recorded.
    pub fn recorded_of(&self, id: &ComponentId) -> impl Iterator<Item = &'a Node> {
        self.of_component(id).iter().filter_map(|w| w.recorded)
    }

    /// Recorded nodes of a component that are not wanted.
    pub fn leavers<'s>(&'s self, id: &'s ComponentId) -> impl Iterator<Item = &'a Node> + 's {
        self.unwanted.iter().chain(&self.leaving).copied().filter(move |n| n.component == *id)
    }

    /// Whether no node of a component that is not wanted has a host any more.
    pub fn rid_of_leavers(&self, id: &ComponentId) -> bool {
        self.leavers(id).all(|n| n.host == Host::Absent)
    }

    /// Whether some node of a component works or has worked on its present host. Before that there
    /// is nothing that a change could disturb or lose.
    pub fn served(&self, id: &ComponentId) -> bool {
        self.served.contains(id)
    }

    /// The component of an id, of this topology.
    pub fn component(&self, id: &ComponentId) -> Option<&'a Component> {
        self.input.components.iter().find(|c| c.id == *id)
    }

    /// The components that `component` depends on.
    pub fn dependencies(&self, component: &'a Component) -> impl Iterator<Item = Dependency<'a>> {
        let own = self.input.components.iter().filter(|c| component.depends_on.contains(&c.name));
        let own = own.map(|component| Dependency { component, name: &component.name, home: None });
        let neighbours = &self.input.neighbours;
        let foreign = component.foreign.iter().filter_map(|foreign| {
            let neighbour = neighbours.iter().find(|n| n.component.id == foreign.component)?;
            Some(Dependency { component: &neighbour.component, name: &foreign.name, home: Some(&neighbour.topology) })
        });
        own.chain(foreign)
    }

    /// A component of another topology that it depends on and of which nothing is known.
    pub fn lost(&self, component: &'a Component) -> Option<&'a Foreign> {
        let known = |foreign: &Foreign| self.input.neighbours.iter().any(|n| n.component.id == foreign.component);
        component.foreign.iter().find(|foreign| !known(foreign))
    }

    /// The components that depend on `component`, through others as well, with the topology of
    /// those that are not of this one.
    pub fn dependents(&self, component: &Component) -> Vec<(&'a Component, Option<&'a Topology>)> {
        let own = self.input.components.iter().map(|c| (c, None));
        let all = own.chain(self.input.neighbours.iter().map(|n| (&n.component, Some(&n.topology))));
        let all: Vec<(&Component, Option<&Topology>)> = all.collect();
        let home = self.input.neighbours.iter().find(|n| n.component.id == component.id).map(|n| &n.topology);
        let mut out: Vec<(&'a Component, Option<&'a Topology>)> = Vec::new();
        let mut open = vec![(component, home)];
        while let Some((on, home)) = open.pop() {
            let direct = |(other, at): &&(&Component, Option<&Topology>)| {
                let same = at.map(|t| &t.id) == home.map(|t| &t.id);
                (same && other.depends_on.contains(&on.name)) || other.foreign.iter().any(|f| f.component == on.id)
            };
            for (other, at) in all.iter().filter(direct) {
                if other.id != component.id && !out.iter().any(|(c, _)| c.id == other.id) {
                    out.push((other, *at));
                    open.push((other, *at));
                }
            }
        }
        out
    }

    /// How long a node has been silent.
    pub fn silence(&self, node: &Node) -> Silence {
        silence(self.input, node)
    }

    /// What of a component cannot be read, in words: its nodes keep what they have.
    pub fn fault(&self, component: &Component) -> Option<String> {
        let of = |group: &crate::Group| {
            let nature = desired::nature(component, &component.target, &group.role).err();
            nature.or_else(|| desired::flavor(component, &group.name).err())
        };
        component.target.known.as_ref().err().cloned().or_else(|| component.groups.iter().find_map(of))
    }

    /// Whether a node that once worked is known not to work, or cannot be asked. A new host in
    /// the place of an earlier one counts until it works, a node that never was does not.
    pub fn broken(&self, node: &Node) -> bool {
        let silent = || self.silence(node) == Silence::Unreachable || says(node, ServiceStatus::Inactive);
        if serves(node) { !node.host.is_up() || silent() } else { node.incarnation > 1 }
    }

    /// Whether a node can be talked to, as far as is known.
    pub fn reachable(&self, node: &Node) -> bool {
        node.host.is_up() && matches!(self.silence(node), Silence::None | Silence::Suspect)
    }

    /// Whether a node confirmed its last assignment, works, and is what was last heard of it. One that was
    /// stopped confirms without being configured, and its agent may have started anew and know of nothing.
    pub fn well(&self, node: &Node) -> bool {
        confirmed(node) && !stopped(node) && works(node) && !self.broken(node)
    }
}

/// How long a node has been silent.
pub fn silence(input: &PlanInput, node: &Node) -> Silence {
    let Some((_, at)) = &node.heartbeat else { return Silence::Unheard };
    let quiet = input.now_ms.saturating_sub(*at);
    if quiet >= i64::from(input.settings.unreachable_after_ms) {
        Silence::Unreachable
    } else if quiet >= i64::from(input.settings.suspect_after_ms) {
        Silence::Suspect
    } else {
        Silence::None
    }
}

/// Whether the node's service was seen to work when it was last looked at.
pub fn works(node: &Node) -> bool {
    let validated = node.stages.get(&Stage::Validate);
    serves(node) && validated.is_some_and(|(r, _)| r.outcome == Outcome::Succeeded)
}

/// Whether the node worked before, in this incarnation. A node may have dropped the report that says
/// so, never the one that it confirmed its newest generation.
pub fn serves(node: &Node) -> bool {
    node.worked || (confirmed(node) && !stopped(node))
}

/// Whether the node settled while it stood still, and has not worked on this host yet.
pub fn untried(node: &Node) -> bool {
    node.converged_generation > 0 && !serves(node)
}

/// Whether the node has not worked on any host yet, as far as is known.
pub fn newcomer(node: &Node) -> bool {
    node.incarnation <= 1 && !serves(node)
}

/// Whether the node confirmed its newest assignment: every stage of it is done.
pub fn confirmed(node: &Node) -> bool {
    node.assignment.as_ref().is_some_and(|a| node.converged_generation >= a.generation)
}

/// Whether `pre_config` of the node's last assignment may run, or an earlier one could: then it
/// may be configured.
pub fn opened(node: &Node) -> bool {
    let gate = |stage| node.assignment.as_ref().and_then(|a| a.order(stage)).map(|o| &o.gate);
    gate(Stage::PreConfig) == Some(&Gate::Open) || matches!(gate(Stage::Config), Some(Gate::Permit { .. }))
}

/// Whether the node is configured as its last assignment says, whether it works or not.
pub fn applied(node: &Node) -> bool {
    let Some(assignment) = &node.assignment else { return false };
    if confirmed(node) {
        return true;
    }
    let expected = digests::effective(assignment, node);
    [Stage::Install, Stage::PreConfig, Stage::Config].iter().all(|stage| {
        let result = node.stages.get(stage).map(|(result, _)| result);
        result.is_some_and(|r| r.outcome == Outcome::Succeeded && expected.get(stage) == Some(&r.digest))
    })
}

/// Whether the last assignment says that the services are stopped.
pub fn stopped(node: &Node) -> bool {
    node.assignment.as_ref().is_some_and(|a| a.lifecycle == Lifecycle::Stopped)
}

/// The service and its facts as last seen: by the newest heartbeat, or by a `validate` that was
/// reported after it. Right after a node settled its next heartbeat may still be on its way.
pub fn service(node: &Node) -> (ServiceStatus, Option<&Facts>) {
    let beat = node.heartbeat.as_ref().map(|(beat, at)| (*at, beat.service, Some(&beat.facts)));
    let validated = node.stages.get(&Stage::Validate).map(|(result, at)| {
        let status = match result.outcome {
            Outcome::Succeeded => ServiceStatus::Active,
            Outcome::Failed => ServiceStatus::Inactive,
            Outcome::Waiting => ServiceStatus::Unknown,
        };
        (*at, status, Some(&result.facts))
    });
    let newest = beat.into_iter().chain(validated).max_by_key(|(at, ..)| *at);
    newest.map_or((ServiceStatus::Unknown, None), |(_, status, facts)| (status, facts))
}

/// Whether the last run of a stage failed.
pub fn failed(node: &Node, stage: Stage) -> bool {
    node.stages.get(&stage).is_some_and(|(result, _)| result.outcome == Outcome::Failed)
}

/// A stop of the services that failed.
pub struct Unstopped<'a> {
    /// How many times.
    pub attempt: u32,
    /// Why, in the script's words.
    pub reason: &'a str,
    /// When it is tried again, Unix ms.
    pub next_ms: i64,
}

/// Whether the node says that it cannot stop its services, as its last assignment wants.
pub fn unstopped(node: &Node) -> Option<Unstopped<'_>> {
    let (beat, at) = node.heartbeat.as_ref()?;
    let current = node.assignment.as_ref().is_some_and(|a| a.generation == beat.generation);
    let Activity::Retrying { attempt, in_ms, reason, .. } = &beat.activity else { return None };
    let failed = Unstopped { attempt: *attempt, reason, next_ms: at.saturating_add_unsigned(*in_ms) };
    (current && stopped(node)).then_some(failed)
}

/// Whether the node says this of the service: by its newest heartbeat, or by a `validate` that was
/// reported after it and found that it works.
pub fn says(node: &Node, status: ServiceStatus) -> bool {
    let Some((beat, at)) = &node.heartbeat else { return false };
    let validated = node.stages.get(&Stage::Validate);
    let works = validated.is_some_and(|(r, since)| r.outcome == Outcome::Succeeded && since > at);
    status == if works { ServiceStatus::Active } else { beat.service }
}

/// When silence alone will change the plan.
pub fn silence_changes(known: &Known<'_>) -> Option<i64> {
    let settings = &known.input.settings;
    let next = |node: &Node| match (known.silence(node), &node.heartbeat) {
        (Silence::None, Some((_, at))) => Some(at.saturating_add(settings.suspect_after_ms.into())),
        (Silence::Suspect, Some((_, at))) => Some(at.saturating_add(settings.unreachable_after_ms.into())),
        _ => None,
    };
    known.input.nodes.iter().filter_map(next).min()
}

impl Host {
    /// Whether the provider says it runs.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }
}
