//! What depends on what across topologies, read off the specs.

use super::{Tables, conflict};
use crate::{ComponentRecord, ForeignSpec, Neighbour, Result};
use std::collections::BTreeSet;
use straas_schemas::{ComponentId, TopologyId};

impl Tables {
    /// Refuses new dependencies on what is gone or going, or that close a circle.
    pub(super) fn check_links(&self, component: &ComponentRecord) -> Result<()> {
        let have = self.components.get(&component.id).map_or(&[][..], |c| c.spec.foreign.as_slice());
        let new = |link: &&ForeignSpec| !have.iter().any(|known| known.component == link.component);
        for link in component.spec.foreign.iter().filter(new) {
            let topology = self.topologies.get(&link.topology).filter(|topology| !topology.deleting);
            let found = self.components.get(&link.component);
            let stays = found.is_some_and(|c| c.topology == link.topology && !c.spec.removed);
            if topology.is_none() || !stays || self.leads_to(&link.topology, &component.topology) {
                return Err(conflict("dependency", &link.component));
            }
        }
        Ok(())
    }

    /// Refuses what would take something from those that depend on it.
    pub(super) fn check_unneeded(&self, on: impl Fn(&ForeignSpec) -> bool) -> Result<()> {
        match self.components.values().find(|component| component.spec.foreign.iter().any(&on)) {
            Some(by) => Err(conflict("dependency", &by.id)),
            None => Ok(()),
        }
    }

    pub(super) fn leads_to(&self, from: &TopologyId, to: &TopologyId) -> bool {
        let mut reached = BTreeSet::from([from]);
        loop {
            let of = self.components.values().filter(|c| reached.contains(&c.topology));
            let more: BTreeSet<_> = of.flat_map(|c| &c.spec.foreign).map(|link| &link.topology).collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                return reached.contains(to);
            }
        }
    }

    pub(super) fn neighbour(&self, id: &ComponentId) -> Option<Neighbour> {
        let component = self.components.get(id)?.clone();
        let topology = self.topologies.get(&component.topology)?.clone();
        let nodes = self.nodes.values().map(|node| &node.seen).filter(|node| node.record.component == *id);
        Some(Neighbour { topology, component, nodes: nodes.cloned().collect() })
    }

    /// The components of other topologies that those of a topology have to do with.
    pub(super) fn near(&self, topology: &TopologyId) -> Vec<Neighbour> {
        let own = || self.components.values().filter(|c| c.topology == *topology);
        let mut near: BTreeSet<&ComponentId> =
            own().flat_map(|c| &c.spec.foreign).map(|link| &link.component).collect();
        let mut reached: Vec<&ComponentRecord> = own().collect();
        while let Some(on) = reached.pop() {
            for other in self.components.values() {
                let beside = other.topology == on.topology && other.spec.depends_on.contains(&on.name);
                let needs = beside || other.spec.foreign.iter().any(|link| link.component == on.id);
                if needs && other.topology != *topology && near.insert(&other.id) {
                    reached.push(other);
                }
            }
        }
        near.into_iter().filter_map(|id| self.neighbour(id)).collect()
    }
}
