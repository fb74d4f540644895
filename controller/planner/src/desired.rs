//! Which nodes and hosts have to exist, and what the repos say of them.
//!
//! A node's id is derived from its place (topology, component, group, ordinal): planning the same
//! topology on two controllers at once makes the same node, not two. Ordinals of nodes that left
//! are not given out again, and a component under the name of one that was removed has another id: so a
//! place has one life only, and nothing that is left of an earlier host speaks for a later one.

use crate::membership::told_of;
use crate::observe::{Known, Silence, applied, opened, says, serves, silence, stopped, works};
use crate::permits::held;
use crate::{Component, Group, Host, HostWish, Knowledge, NewNode, Node, NodeWish, PlanInput, Target, Topology};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::metadata::{ComponentMeta, Flavor, Membership, RoleMeta, VersionMeta};
use straas_schemas::{ComponentId, Digest, Lifecycle, NodeId, TopologyId};

/// What is wanted of a node that nobody wanted anything special of.
static USUAL: NodeWish =
    NodeWish { lifecycle: Lifecycle::Running, restarts: 0, replacements: 0, target: None, files: Vec::new() };

/// The id of the node at a place.
#[must_use]
pub fn node_id(topology: &TopologyId, component: &ComponentId, group: &str, ordinal: u32) -> NodeId {
    let digest = Digest::of(&["node", topology.as_str(), component.as_str(), group, &ordinal.to_string()]);
    NodeId(digest.as_str().chars().take(32).collect())
}

/// A wanted node, what it belongs to and what is wanted of it.
pub struct Wanted<'a> {
    /// The node.
    pub node: NewNode,
    /// Its topology.
    pub home: &'a Topology,
    /// Its component.
    pub component: &'a Component,
    /// Its group.
    pub group: &'a Group,
    /// What is wanted of it alone.
    pub wish: &'a NodeWish,
    /// The node as recorded.
    pub recorded: Option<&'a Node>,
    /// It is to leave, and cannot yet.
    pub detained: bool,
}

impl Wanted<'_> {
    /// Its services are to be stopped.
    pub fn stopped(&self) -> bool {
        self.wish.lifecycle == Lifecycle::Stopped
    }

    /// Whether its service was seen to work. Unlike "settled" this does not wait for it to confirm
    /// its newest generation.
    pub fn works(&self) -> bool {
        self.recorded.is_some_and(works)
    }
}

/// The ordinals of a group: the first `size` that are given out.
fn ordinals(group: &Group) -> impl Iterator<Item = u32> {
    (1..=u32::MAX).filter(|n| !group.without.contains(n)).take(group.size as usize)
}

/// The nodes that have to exist.
pub struct Desired<'a> {
    /// Of the topology.
    pub own: Vec<Wanted<'a>>,
    /// Of the components of other topologies that it has to do with.
    pub foreign: Vec<Wanted<'a>>,
}

/// Every node that has to exist, in the order of components, groups and ordinals.
pub fn nodes(input: &PlanInput) -> Desired<'_> {
    let foreign = input.neighbours.iter();
    Desired {
        own: places(input, &input.topology, &input.components, &input.nodes),
        foreign: foreign
            .flat_map(|n| places(input, &n.topology, std::slice::from_ref(&n.component), &n.nodes))
            .collect(),
    }
}

fn places<'a>(
    input: &PlanInput,
    home: &'a Topology,
    components: &'a [Component],
    nodes: &'a [Node],
) -> Vec<Wanted<'a>> {
    if home.deleting {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut taken = BTreeSet::new();
    // an id once derived is recorded: deriving it again is the dearest part of a plan without changes
    let recorded: BTreeMap<(&str, &str, u32), &Node> =
        nodes.iter().map(|n| ((n.component.as_str(), n.group.as_str(), n.ordinal), n)).collect();
    let by_id = OnceCell::new();
    let of_id = |id: &NodeId| {
        let by_id = by_id.get_or_init(|| nodes.iter().map(|n| (&n.id, n)).collect::<BTreeMap<_, _>>());
        by_id.get(id).copied()
    };
    for component in components.iter().filter(|c| !c.removed) {
        for group in &component.groups {
            for ordinal in ordinals(group) {
                let known = recorded.get(&(component.id.as_str(), group.name.as_str(), ordinal)).copied();
                let derive = || node_id(&home.id, &component.id, &group.name, ordinal);
                let node = NewNode {
                    id: known.map_or_else(derive, |node| node.id.clone()),
                    component: component.id.clone(),
                    group: group.name.clone(),
                    role: group.role.clone(),
                    name: format!("{}-{}-{ordinal}", home.name, group.name),
                    ordinal,
                };
                // two groups at one place would be one node recorded twice, for ever
                if taken.insert(node.id.clone()) {
                    let wish = component.wishes.get(&node.id).unwrap_or(&USUAL);
                    let recorded = known.or_else(|| of_id(&node.id));
                    out.push(Wanted { node, home, component, group, wish, recorded, detained: false });
                }
            }
        }
        let detained = detained(input, home, component, nodes, &out);
        out.extend(detained);
    }
    out
}

/// Nodes that are to leave and cannot yet: of members that change one at a time, those that alone
/// have the data, until one works that stays, but for one that they were told to leave out; those that
/// do not work, or were disturbed, while none of those that stay works and some were told of them, so
/// that their votes may be missing: nobody configures a leaver, not even if that would mend it; and
/// those that are in the middle of a step, until what they have is what they were told of. Meanwhile
/// they are as if they were wanted, and run, even if somebody stopped them before: what they are kept
/// for takes their service.
fn detained<'a>(
    input: &PlanInput,
    home: &'a Topology,
    component: &'a Component,
    nodes: &'a [Node],
    wanted: &[Wanted<'a>],
) -> Vec<Wanted<'a>> {
    let stepwise = meta(component).is_some_and(|meta| meta.membership == Membership::Stepwise);
    let stay = || wanted.iter().filter(|w| w.component.id == component.id);
    if !stepwise {
        return Vec::new();
    }
    let replaceable = stay().any(|w| w.recorded.is_some_and(serves));
    let idle = stay().any(|w| !w.stopped()) && !stay().any(Wanted::works);
    let counted = |n: &Node| stay().filter_map(|w| w.recorded).any(|w| told_of(w).any(|name| name == n.name));
    let useless = |n: &Node| stopped(n) || held(n) || says(n, ServiceStatus::Inactive);
    let missed = |n: &Node| idle && useless(n) && counted(n);
    let tells = |by: &Node, of: &Node| told_of(by).any(|name| name == of.name);
    let of_it = || nodes.iter().filter(|n| n.component == component.id);
    // whoever is to work without it has all that it has
    let left_out = |n: &Node| of_it().any(|by| serves(by) && tells(n, by) && !tells(by, n));
    let alone = |n: &Node| !replaceable && !left_out(n);
    let tied = |n: &Node| serves(n) && (alone(n) || missed(n) || in_a_step(input, n));
    let leaves = |n: &&Node| n.component == component.id && tied(n) && !stay().any(|w| w.node.id == n.id);
    let keep = |n: &'a Node| {
        let node = NewNode {
            id: n.id.clone(),
            component: n.component.clone(),
            group: n.group.clone(),
            role: n.role.clone(),
            name: n.name.clone(),
            ordinal: n.ordinal,
        };
        let group = component.groups.iter().find(|g| g.name == n.group)?;
        let wish = component.wishes.get(&n.id).filter(|wish| wish.lifecycle == Lifecycle::Running).unwrap_or(&USUAL);
        Some(Wanted { node, home, component, group, wish, recorded: Some(n), detained: true })
    };
    nodes.iter().filter(leaves).filter_map(keep).collect()
}

/// Whether a node works with something else than it was told of last, as far as is known.
fn in_a_step(input: &PlanInput, node: &Node) -> bool {
    let hears = node.host.is_up() && silence(input, node) != Silence::Unreachable;
    hears && !says(node, ServiceStatus::Inactive) && opened(node) && !applied(node)
}

/// What the repos say of one node: all that is needed to assign it anything.
pub struct Nature<'a> {
    /// Of its component.
    pub knowledge: &'a Knowledge,
    /// Its role.
    pub role: &'a RoleMeta,
    /// Its version.
    pub version: &'a VersionMeta,
}

/// What the repos say of a node of this role and target, or why it cannot be said.
pub fn nature<'a>(component: &Component, target: &'a Target, role: &str) -> Result<Nature<'a>, String> {
    let (kind, version) = (&component.kind, &target.version);
    let unread = |problem: &String| format!("what {kind} {version} is cannot be read: {problem}");
    let knowledge = target.known.as_ref().map_err(unread)?;
    let role =
        knowledge.meta.role(role).ok_or_else(|| format!("the metadata of {kind} has no role {role:?} any more"))?;
    let version = knowledge
        .meta
        .versions
        .get(version)
        .ok_or_else(|| format!("the metadata of {kind} has no version {version:?}"))?;
    Ok(Nature { knowledge, role, version })
}

/// The metadata of a component: of what is wanted, or while that cannot be read, of what was before.
pub fn meta(component: &Component) -> Option<&ComponentMeta> {
    let before = || component.rollout.as_ref().and_then(|r| r.before.known.as_ref().ok());
    component.target.known.as_ref().ok().or_else(before).map(|known| &known.meta)
}

/// Which sections of the configuration a role reads; all if it does not say.
pub fn sections(role: &RoleMeta) -> Option<&[String]> {
    role.sections.as_deref()
}

/// The size of the hosts of a group, or why it is not known.
pub fn flavor<'a>(component: &'a Component, group: &str) -> Result<&'a Flavor, String> {
    let unread = || component.target.known.as_ref().err().cloned().unwrap_or_default();
    let meta = meta(component).ok_or_else(unread)?;
    let name = component.groups.iter().find(|g| g.name == group).map_or("", |g| &g.flavor);
    meta.flavors.get(name).ok_or_else(|| format!("the metadata of {} has no flavor {name:?}", component.kind))
}

/// The hosts that have to exist, but for those that are to be `replaced` and still there. A
/// component whose type cannot be read gets no new hosts, since their size is not known; those it
/// has are left alone.
pub fn hosts(known: &Known<'_>, replaced: &BTreeSet<&NodeId>) -> Vec<HostWish> {
    let mut out = Vec::new();
    for wanted in known.desired.iter().filter(|w| !replaced.contains(&w.node.id)) {
        let Ok(flavor) = flavor(wanted.component, &wanted.node.group) else { continue };
        // one that waits for its turn to be replaced is the one it is
        let up = wanted.recorded.filter(|n| n.host == Host::Up);
        out.push(HostWish {
            node: wanted.node.id.clone(),
            name: wanted.node.name.clone(),
            zone: known.input.topology.zone.clone(),
            memory_mib: flavor.memory_mib,
            vcpus: flavor.vcpus,
            number: up.map_or(wanted.wish.replacements, |n| n.host_number),
            spread: spread(known, wanted),
        });
    }
    out
}

/// An anti-affinity group is of the tenant, whichever topologies its hosts are in; without one, the hosts of a group
/// are spread with each other.
fn spread(known: &Known<'_>, wanted: &Wanted<'_>) -> Option<String> {
    let group = wanted.group;
    let apart = group.anti_affinity_group.as_ref().map(|name| format!("{}/{name}", known.input.topology.tenant));
    apart.or_else(|| (group.fault_domains_min > 0).then(|| format!("{}/{}", wanted.component.id, group.name)))
}
