//! Of members that may change one at a time: the sets that they are configured with have to fit, whatever happens.

use crate::agent::Agent;
use crate::history::History;
use std::collections::BTreeSet;
use straas_schemas::ComponentId;
use straas_schemas::metadata::Membership;

/// The names of a set of members.
type Set<'a> = BTreeSet<&'a str>;

impl History {
    /// A node begins to be configured, with the peers that its service will have.
    pub fn check_members(&self, host: u64) {
        let new = &self.agents[&host];
        let stepwise = self.meta_of(&new.node).is_some_and(|meta| meta.membership == Membership::Stepwise);
        let Some(component) = self.component_of(&new.node).filter(|_| stepwise) else { return };
        let of_it = |a: &&Agent| !a.truth.peers.is_empty() && self.component_of(&a.node).as_ref() == Some(&component);
        let sets: Vec<(&str, Set<'_>)> = self.agents.values().filter(of_it).map(|a| (name(a), set(a))).collect();
        self.check_steps(&component, (name(new), set(new)), &sets);
        check_majorities(&sets);
        let down = self.down_by_us(&component);
        for (name, set) in &sets {
            let ours = down.iter().filter(|n| set.contains(n.as_str())).count();
            let spare = (set.len() - (set.len() / 2 + 1)).max(1);
            assert!(ours <= spare, "no quorum by our doing: {name} has {set:?}, down are {down:?}");
        }
    }

    fn check_steps(&self, component: &ComponentId, (new, set): (&str, Set<'_>), sets: &[(&str, Set<'_>)]) {
        let nodes: Vec<_> =
            self.site.database.book().nodes.values().filter(|n| n.component == *component).cloned().collect();
        let topology = nodes.first().map(|node| &node.topology);
        let there = |name: &&&str| {
            let wanted = nodes.iter().any(|n| n.name == **name && self.is_wanted(&n.id));
            wanted
                || topology
                    .is_some_and(|of| self.agents.values().any(|a| a.topology == *of && a.machine.name == **name))
        };
        for (name, other) in sets {
            let apart = set.symmetric_difference(other).filter(there).count();
            assert!(apart <= 1, "members differ by more than one: {new} has {set:?}, {name} {other:?}");
        }
    }
}

fn name(agent: &Agent) -> &str {
    &agent.machine.name
}

fn set(agent: &Agent) -> Set<'_> {
    agent.truth.peers.iter().map(String::as_str).collect()
}

/// Any two majorities of those that are there have a node in common.
fn check_majorities(sets: &[(&str, Set<'_>)]) {
    let alive: Set<'_> = sets.iter().map(|(name, _)| *name).collect();
    for (_, a) in sets {
        for (_, b) in sets {
            // the largest part of each that leaves what they have in common untouched
            let rest = a.difference(b).filter(|n| alive.contains(*n)).count();
            let others = b.difference(a).filter(|n| alive.contains(*n)).count();
            let both = a.intersection(b).filter(|n| alive.contains(*n)).count();
            let shared = (a.len() / 2 + 1).saturating_sub(rest) + (b.len() / 2 + 1).saturating_sub(others);
            assert!(shared > both, "majorities without a common node: {a:?} and {b:?}");
        }
    }
}
