//! What components of other topologies use of this one: when it changes, theirs have to be looked at.
//!
//! A component that something elsewhere depends on shows whom it lists, who works and what is in
//! use; one that depends on something elsewhere shows which nodes are not settled, for those they
//! depend on are not disturbed meanwhile. Each is a digest: nobody else needs to understand it.
//!
//! Never here: what follows from it there. A plan reads what it needs of others anew each time.

use crate::gates::Gates;
use crate::observe::{Known, Silence, newcomer, opened, serves, stopped, works};
use crate::permits;
use crate::{Component, Node};
use std::collections::BTreeMap;
use straas_schemas::{Digest, TopologyId};

/// What each topology that has to do with this one may see of it.
pub fn shown(known: &Known<'_>, gates: &Gates<'_>) -> BTreeMap<TopologyId, Digest> {
    let input = known.input;
    let mut parts: BTreeMap<&TopologyId, Vec<String>> = BTreeMap::new();
    for neighbour in &input.neighbours {
        let parts = parts.entry(&neighbour.topology.id).or_default();
        for own in &input.components {
            if neighbour.component.foreign.iter().any(|f| f.component == own.id) {
                of_dependency(parts, known, gates, own);
            }
            if own.foreign.iter().any(|f| f.component == neighbour.component.id) {
                parts.push(format!("needs {}", neighbour.component.id));
                parts.extend(permits::unsettled(known, own));
            }
        }
    }
    parts.into_iter().map(|(topology, parts)| (topology.clone(), Digest::of(&parts))).collect()
}

fn of_dependency(parts: &mut Vec<String>, known: &Known<'_>, gates: &Gates<'_>, component: &Component) {
    let before = component.rollout.as_ref().map_or("", |rollout| &rollout.before.version);
    parts.push(format!("is needed: {} {} {before} {}", component.id, component.target.version, component.removed));
    for peer in gates.rosters.listed(component) {
        parts.push(format!("{} {:?} {:?}", peer.name, peer.address, peer.last_address));
    }
    let nodes = known.recorded_of(&component.id).chain(known.leavers(&component.id));
    parts.extend(nodes.map(|node| of_node(known, node)));
}

fn of_node(known: &Known<'_>, node: &Node) -> String {
    let heard = known.silence(node) != Silence::Unheard;
    let wanted = known.wanted.get(&node.id).map(|wanted| wanted.stopped());
    let stands = [serves(node), works(node), newcomer(node), opened(node), stopped(node), known.broken(node), heard];
    format!("{} {wanted:?} {:?} {stands:?}", node.id, node.address)
}
