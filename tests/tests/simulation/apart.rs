//! Of several topologies in one world none ever sees or changes anything of another one: no host, no node, no command.
//!
//! They share controllers, the database with its leases and numbers, the provider of hosts, and the quarantine of what
//! failed; some have the same name, in another zone, so that their nodes have the same names, too.
//!
//! Never here: what must hold of each of them (`checks.rs`, `rest.rs`, `end.rs`).

use crate::agent::Agent;
use crate::database::Database;
use crate::history::History;
use serde_json::Value;
use std::collections::BTreeSet;
use straas_planner::{Plan, PlanInput};
use straas_schemas::{Assignment, CommandId, ComponentId, NodeId, TopologyId};

/// Whether a component is one of a topology's: its id says so.
pub fn is_of(component: &ComponentId, topology: &TopologyId) -> bool {
    component.as_str().strip_prefix(topology.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

impl Database {
    /// A plan is made of one topology, and is about nothing else.
    pub fn check_plan(&self, input: &PlanInput, plan: &Plan) {
        let id = &input.topology.id;
        for node in &input.nodes {
            assert_eq!(self.topology_of(&node.id).as_ref(), Some(id), "another topology is seen: {}", node.name);
        }
        let components: BTreeSet<&ComponentId> = input.components.iter().map(|c| &c.id).collect();
        let strange = components.iter().find(|component| !is_of(component, id));
        assert!(strange.is_none() && input.neighbours.is_empty(), "another topology is seen: {strange:?} in {id}");
        let added = plan.add_nodes.iter().map(|node| &node.id);
        let nodes: BTreeSet<&NodeId> = input.nodes.iter().map(|node| &node.id).chain(added).collect();
        let hosts = plan.hosts.iter().map(|wish| &wish.node).chain(&plan.no_hosts);
        let told = plan.assignments.iter().map(|new| &new.node).chain(plan.operations.iter().map(|wish| &wish.node));
        let about = hosts.chain(told).chain(&plan.forget_nodes).chain(plan.looks.keys()).chain(plan.health.keys());
        for node in about {
            assert!(nodes.contains(node), "another topology is changed: {node} by a plan of {id}");
        }
        let made = plan.add_nodes.iter().map(|node| &node.component);
        let turned = plan.reverts.iter().map(|revert| &revert.component);
        for component in made.chain(turned).chain(&plan.rolled_out).chain(&plan.forget_components) {
            assert!(components.contains(component), "another topology is changed: {component} by a plan of {id}");
        }
    }
}

/// All texts in a document.
fn texts<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, out)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, out)),
        _ => {}
    }
}

impl History {
    /// What a host is called in a story: nodes of topologies of the same name are told apart by their zones.
    pub fn told_as(&self, home: usize, name: &str) -> String {
        let zone = self.homes[home].zone;
        if zone == self.homes[0].zone { name.to_owned() } else { format!("{name}@{zone}") }
    }

    /// An agent is offered what is its own, and is told of hosts of its topology.
    pub fn check_offered(&self, agent: &Agent, assignment: &Assignment) {
        assert_eq!(
            assignment.node, agent.node,
            "another topology is told: {} is offered to {}",
            assignment.name, agent.label
        );
        if self.homes.len() == 1 {
            return;
        }
        let mut all = Vec::new();
        texts(&assignment.context, &mut all);
        let soil = self.site.ground.soil();
        for text in all {
            let of = soil.addresses.get(text).and_then(|node| self.site.database.topology_of(&node.as_str().into()));
            assert!(of.is_none_or(|of| of == agent.topology), "another topology is told: {} of {text}", agent.label);
        }
    }

    /// A command runs on the node that it was asked for.
    pub fn check_own(&self, host: u64, id: &CommandId) {
        let agent = &self.agents[&host];
        let record = self.site.database.command(id);
        let own = record.is_none_or(|record| record.node == agent.node && record.topology == agent.topology);
        assert!(own, "another topology is changed: {id} runs on {}", agent.label);
    }
}
