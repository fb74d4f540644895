//! What is known of the nodes, looked at in the ways the rest of the planner asks.
//!
//! Never here: what follows from it. This is the input, indexed.

use crate::desired::{self, Wanted};
use crate::{Component, Host, NewNode, Node, PlanInput, digests};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::Facts;
use straas_schemas::{ComponentId, Gate, Lifecycle, NodeId, Outcome, Stage};

/// The input, indexed.
pub struct Known<'a> {
    /// The input itself.
    pub input: &'a PlanInput,
    /// Nodes that have to exist.
    pub desired: &'a [Wanted<'a>],
    /// The same by id.
    pub wanted: BTreeMap<&'a NodeId, &'a Wanted<'a>>,
    /// Recorded nodes by id.
    pub recorded: BTreeMap<&'a NodeId, &'a Node>,
    /// Wanted nodes that are not recorded.
    pub missing: Vec<NewNode>,
    /// Recorded nodes that are not wanted.
    pub unwanted: Vec<&'a Node>,
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

impl<'a> Known<'a> {
    /// Indexes the input.
    pub fn new(input: &'a PlanInput, desired: &'a [Wanted<'a>]) -> Self {
        let recorded: BTreeMap<_, _> = input.nodes.iter().map(|n| (&n.id, n)).collect();
        let wanted: BTreeMap<_, _> = desired.iter().map(|w| (&w.node.id, w)).collect();
        let mut by_component: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for wanted in desired {
            by_component.entry(&wanted.component.id).or_default().push(wanted);
        }
        Self {
            missing: desired.iter().filter(|w| !recorded.contains_key(&w.node.id)).map(|w| w.node.clone()).collect(),
            unwanted: input.nodes.iter().filter(|n| !wanted.contains_key(&n.id)).collect(),
            served: input.nodes.iter().filter(|n| serves(n)).map(|n| &n.component).collect(),
            input,
            desired,
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
        self.of_component(id).iter().filter_map(|w| self.recorded.get(&w.node.id).copied())
    }

    /// Recorded nodes of a component that are not wanted.
    pub fn leavers<'s>(&'s self, id: &'s ComponentId) -> impl Iterator<Item = &'a Node> + 's {
        self.unwanted.iter().copied().filter(move |n| n.component == *id)
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

    /// The component of an id.
    pub fn component(&self, id: &ComponentId) -> Option<&'a Component> {
        self.input.components.iter().find(|c| c.id == *id)
    }

    /// The components that `component` depends on.
    pub fn dependencies(&self, component: &Component) -> impl Iterator<Item = &'a Component> {
        self.input.components.iter().filter(|c| component.depends_on.contains(&c.name))
    }

    /// The components that depend on `component`, through others as well.
    pub fn dependents(&self, component: &Component) -> Vec<&'a Component> {
        let mut out: Vec<&'a Component> = Vec::new();
        let mut names = vec![component.name.as_str()];
        while let Some(name) = names.pop() {
            for other in self.input.components.iter().filter(|c| c.depends_on.iter().any(|d| d == name)) {
                if other.id != component.id && !out.iter().any(|c| c.id == other.id) {
                    out.push(other);
                    names.push(&other.name);
                }
            }
        }
        out
    }

    /// The address of a node's host.
    pub fn address(&self, id: &NodeId) -> Option<&'a str> {
        self.recorded.get(id).and_then(|n| n.address.as_deref())
    }

    /// Whether a node's service was seen to work. Unlike "settled" this does not wait for the node
    /// to confirm its newest generation.
    pub fn works(&self, id: &NodeId) -> bool {
        self.recorded.get(id).is_some_and(|node| works(node))
    }

    /// How long a node has been silent.
    pub fn silence(&self, node: &Node) -> Silence {
        let Some((_, at)) = &node.heartbeat else { return Silence::Unheard };
        let quiet = self.input.now_ms.saturating_sub(*at);
        if quiet >= i64::from(self.input.settings.unreachable_after_ms) {
            Silence::Unreachable
        } else if quiet >= i64::from(self.input.settings.suspect_after_ms) {
            Silence::Suspect
        } else {
            Silence::None
        }
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

    /// Whether a node confirmed its last assignment, works, and is what was last heard of it.
    pub fn well(&self, node: &Node) -> bool {
        confirmed(node) && works(node) && !self.broken(node)
    }
}

/// Whether the node's service was seen to work when it was last looked at.
pub fn works(node: &Node) -> bool {
    let validated = node.stages.get(&Stage::Validate);
    serves(node) && validated.is_some_and(|(r, _)| r.outcome == Outcome::Succeeded)
}

/// Whether the node worked before, in this incarnation.
pub fn serves(node: &Node) -> bool {
    node.converged_generation > 0
}

/// Whether the node has not worked on any host yet, as far as is known.
pub fn newcomer(node: &Node) -> bool {
    !serves(node) && node.incarnation <= 1
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

/// Whether the newest heartbeat says this of the service.
pub fn says(node: &Node, status: ServiceStatus) -> bool {
    node.heartbeat.as_ref().is_some_and(|(beat, _)| beat.service == status)
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
