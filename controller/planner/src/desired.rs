//! Which nodes and hosts have to exist.
//!
//! A node's id is derived from its place (topology, component, group, ordinal): planning the same
//! topology on two controllers at once makes the same node, not two.

use crate::observe::Known;
use crate::{Component, HostWish, Knowledge, NewNode, PlanInput};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::metadata::{Flavor, RoleMeta, VersionMeta};
use straas_schemas::{Digest, NodeId, TopologyId};

/// The id of the node at a place.
#[must_use]
pub fn node_id(topology: &TopologyId, component: &str, group: &str, ordinal: u32) -> NodeId {
    let digest = Digest::of(&["node", topology.as_str(), component, group, &ordinal.to_string()]);
    NodeId(digest.as_str().chars().take(32).collect())
}

/// A wanted node and the component it belongs to.
pub struct Wanted<'a> {
    /// The node.
    pub node: NewNode,
    /// Its component.
    pub component: &'a Component,
}

/// Every node that has to exist, in the order of components, groups and ordinals.
pub fn nodes(input: &PlanInput) -> Vec<Wanted<'_>> {
    if input.topology.deleting {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut taken = BTreeSet::new();
    // an id once derived is recorded: deriving it again is the dearest part of a plan without changes
    let recorded: BTreeMap<(&str, &str, u32), &NodeId> =
        input.nodes.iter().map(|n| ((n.component.as_str(), n.group.as_str(), n.ordinal), &n.id)).collect();
    for component in &input.components {
        for group in &component.groups {
            for ordinal in 1..=group.size {
                let known = recorded.get(&(component.id.as_str(), group.name.as_str(), ordinal));
                let derive = || node_id(&input.topology.id, &component.name, &group.name, ordinal);
                let node = NewNode {
                    id: known.map_or_else(derive, |id| (*id).clone()),
                    component: component.id.clone(),
                    group: group.name.clone(),
                    role: group.role.clone(),
                    name: format!("{}-{}-{ordinal}", input.topology.name, group.name),
                    ordinal,
                };
                // two groups at one place would be one node recorded twice, for ever
                if taken.insert(node.id.clone()) {
                    out.push(Wanted { node, component });
                }
            }
        }
    }
    out
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

/// What the repos say of a node of this role, or why it cannot be said.
pub fn nature<'a>(component: &'a Component, role: &str) -> Result<Nature<'a>, String> {
    let (kind, version) = (&component.kind, &component.version);
    let unread = |problem: &String| format!("what {kind} {version} is cannot be read: {problem}");
    let knowledge = component.known.as_ref().map_err(unread)?;
    let role =
        knowledge.meta.role(role).ok_or_else(|| format!("the metadata of {kind} has no role {role:?} any more"))?;
    let version = knowledge
        .meta
        .versions
        .get(version)
        .ok_or_else(|| format!("the metadata of {kind} has no version {version:?}"))?;
    Ok(Nature { knowledge, role, version })
}

/// The size of the hosts of a group, or why it is not known.
pub fn flavor<'a>(component: &'a Component, group: &str) -> Result<&'a Flavor, String> {
    let knowledge = component.known.as_ref().map_err(Clone::clone)?;
    let name = component.groups.iter().find(|g| g.name == group).map_or("", |g| &g.flavor);
    knowledge.meta.flavors.get(name).ok_or_else(|| format!("the metadata of {} has no flavor {name:?}", component.kind))
}

/// The hosts that have to exist. A component whose type cannot be read gets no new hosts, since
/// their size is not known; those it has are left alone.
pub fn hosts(known: &Known<'_>) -> Vec<HostWish> {
    let mut out = Vec::new();
    for wanted in known.desired {
        let Ok(flavor) = flavor(wanted.component, &wanted.node.group) else { continue };
        out.push(HostWish {
            node: wanted.node.id.clone(),
            name: wanted.node.name.clone(),
            zone: known.input.topology.zone.clone(),
            memory_mib: flavor.memory_mib,
            vcpus: flavor.vcpus,
        });
    }
    out
}
