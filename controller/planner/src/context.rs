//! The context document that scripts read (`proxy-scripts/README.md` describes it).
//!
//! Only what changes a node's configuration belongs in it: its digest decides whether
//! `pre_config` runs again, so nothing that moves by itself (facts, times) may enter. All but
//! `node` is the same for every node of a role and is made once.

use crate::observe::Known;
use crate::{Component, Knowledge, NewNode};
use serde_json::{Value, json};
use std::cell::OnceCell;
use straas_schemas::Digest;

/// What a node of a component knows of others.
pub struct View<'k, 'a> {
    /// What is known.
    pub known: &'k Known<'a>,
    /// The component.
    pub component: &'a Component,
    /// What the repos say of it.
    pub knowledge: &'a Knowledge,
    /// Roles whose nodes it must know.
    pub peer_roles: &'a [String],
    /// Addresses are left out: not all are known, and a document that changes with each of them
    /// would raise the generation of every node as often as there are nodes.
    pub blank: bool,
}

impl<'a> View<'_, 'a> {
    /// The address that the node's own part shows.
    pub fn address(&self, node: &NewNode) -> Option<&'a str> {
        if self.blank { None } else { self.known.address(&node.id) }
    }

    fn is_peer(&self, node: &NewNode) -> bool {
        self.peer_roles.contains(&node.role)
    }

    /// Digest of everything in the context but the node itself.
    pub fn shared_digest(&self) -> Digest {
        let topology = &self.known.input.topology;
        let (component, config) = (self.component, &self.knowledge.config);
        // maps of strings and JSON values always serialise
        let config = serde_json::to_string(config).unwrap_or_default();
        let mut parts: Vec<String> = vec![config, component.id.0.clone(), component.name.clone()];
        parts.extend([&component.kind, &component.version, &topology.id.0, &topology.name].map(Clone::clone));
        parts.extend([&topology.tenant, &topology.zone].map(Clone::clone));
        let add = |parts: &mut Vec<String>, nodes: Vec<&'a NewNode>| {
            parts.push(nodes.len().to_string());
            for node in nodes {
                let address = self.address(node).unwrap_or_default().to_owned();
                parts.extend([node.name.clone(), node.role.clone(), node.ordinal.to_string(), address]);
            }
        };
        add(&mut parts, self.known.of_component(&component.id).filter(|n| self.is_peer(n)).collect());
        for dependency in self.known.dependencies(component) {
            parts.extend([&dependency.name, &dependency.kind, &dependency.version].map(Clone::clone));
            add(&mut parts, self.known.of_component(&dependency.id).collect());
        }
        Digest::of(&parts)
    }

    /// The whole document. `shared` is kept from one node to the next.
    pub fn document(&self, node: &NewNode, shared: &OnceCell<Value>) -> Value {
        let topology = &self.known.input.topology;
        let mut document = shared.get_or_init(|| self.shared()).clone();
        document["node"] = json!({
            "id": node.id, "name": node.name, "role": node.role, "ordinal": node.ordinal,
            "address": self.address(node), "az": topology.zone, "prefix": "",
        });
        if !self.is_peer(node) {
            // a role whose nodes need not know each other: only the node itself is among its peers
            document["peers"] = self.peers(Some(node));
        }
        document
    }

    fn peers(&self, own: Option<&NewNode>) -> Value {
        let is_own = |peer: &NewNode| own.is_some_and(|own| own.id == peer.id);
        let peers = self.known.of_component(&self.component.id).filter(|peer| is_own(peer) || self.is_peer(peer));
        peers.map(|peer| self.brief(peer)).collect()
    }

    fn brief(&self, node: &NewNode) -> Value {
        json!({ "name": node.name, "role": node.role, "ordinal": node.ordinal, "address": self.address(node) })
    }

    fn shared(&self) -> Value {
        let (topology, component) = (&self.known.input.topology, self.component);
        let dependency = |dependency: &Component| {
            let nodes: Vec<Value> = self.known.of_component(&dependency.id).map(|node| self.brief(node)).collect();
            let value = json!({ "type": dependency.kind, "version": dependency.version, "nodes": nodes });
            (dependency.name.clone(), value)
        };
        let dependencies: serde_json::Map<String, Value> = self.known.dependencies(component).map(dependency).collect();
        json!({
            "topology": { "id": topology.id, "name": topology.name, "tenant": topology.tenant, "az": topology.zone },
            "component": {
                "id": component.id, "name": component.name, "type": component.kind, "version": component.version,
            },
            "peers": self.peers(None),
            "dependencies": dependencies,
            "config": self.knowledge.config,
            "facts": {},
        })
    }
}
