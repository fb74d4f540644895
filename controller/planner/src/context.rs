//! The context document that scripts read (`proxy-scripts/README.md` describes it).
//!
//! Only what changes a node's configuration belongs in it: its digest decides whether
//! `pre_config` runs again, so nothing that moves by itself (facts, times) may enter. All but
//! `node` is the same for every node of a role and is made once.

use crate::observe::{Dependency, Known};
use crate::roster::{Peer, Rosters};
use crate::{Component, Knowledge, NewNode, Target};
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use straas_schemas::Digest;

/// What a node of a component knows of others.
#[derive(Clone, Copy)]
pub struct View<'k, 'a> {
    /// What is known.
    pub known: &'k Known<'a>,
    /// Who is listed.
    pub rosters: &'k Rosters<'a>,
    /// The component.
    pub component: &'a Component,
    /// What the nodes get.
    pub target: &'a Target,
    /// What the repos say of it.
    pub knowledge: &'a Knowledge,
    /// Roles whose nodes it must know.
    pub peer_roles: &'a [String],
    /// The sections of the configuration that the role reads; all if it does not say.
    pub sections: Option<&'a [String]>,
    /// The role reads fault domains.
    pub fault_domains: bool,
    /// Addresses are left out: not all are known, and a document that changes with each of them
    /// would raise the generation of every node as often as there are nodes.
    pub blank: bool,
}

impl<'k, 'a> View<'k, 'a> {
    /// The address as scripts see it: the alias, or that of the host.
    pub fn address<'p>(&self, peer: &'p Peer<'a>) -> Option<&'p str> {
        if self.blank { None } else { peer.alias.as_deref().or(peer.last_address) }
    }

    /// The fault domain as scripts see it; none at all if the role does not read it.
    pub fn fault_domain(&self, peer: &Peer<'a>) -> Option<Option<&'a str>> {
        self.fault_domains.then_some(if self.blank { None } else { peer.fault_domain })
    }

    fn is_peer(&self, role: &str) -> bool {
        self.peer_roles.iter().any(|r| r == role)
    }

    /// Whom a node of the role knows of its own component.
    fn peers(&self) -> impl Iterator<Item = &'k Peer<'a>> {
        // in the order of the groups, each role where its first group stands
        let mut roles: Vec<&str> = Vec::new();
        for group in &self.component.groups {
            if self.is_peer(&group.role) && !roles.contains(&group.role.as_str()) {
                roles.push(&group.role);
            }
        }
        let (rosters, component, blank) = (self.rosters, self.component, self.blank);
        let rosters = roles.into_iter().filter_map(move |role| rosters.of(component, role));
        rosters.flat_map(move |roster| if blank { &roster.everybody } else { &roster.peers })
    }

    /// The components it depends on, with the version that is in use, and whom it knows of them.
    fn dependencies(&self) -> impl Iterator<Item = (Dependency<'a>, &'a str, &'k [Peer<'a>])> {
        let rosters = self.rosters;
        let in_use = |d: &'a Component| match &d.rollout {
            Some(rollout) if rollout.reverted.is_none() => rollout.before.version.as_str(),
            _ => d.target.version.as_str(),
        };
        self.known.dependencies(self.component).map(move |d| (d, in_use(d.component), rosters.listed(d.component)))
    }

    /// The configuration as the role reads it.
    fn config(&self) -> Value {
        let read = |section: &String| self.sections.is_none_or(|s| s.contains(section));
        self.knowledge
            .config
            .iter()
            .filter(|(section, _)| read(section))
            .map(|(s, keys)| (s.clone(), json!(keys)))
            .collect()
    }

    /// Names and addresses that have to resolve on a host: of all whom it knows and who have an alias.
    pub fn hosts(&self) -> BTreeMap<String, String> {
        if self.blank {
            return BTreeMap::new();
        }
        let entry = |p: &Peer<'_>| Some((p.alias.clone()?, p.last_address?.to_owned()));
        self.peers().chain(self.dependencies().flat_map(|(_, _, nodes)| nodes)).filter_map(entry).collect()
    }

    /// Digest of everything in the context but the node itself.
    pub fn shared_digest(&self) -> Digest {
        let topology = &self.known.input.topology;
        let component = self.component;
        let mut parts: Vec<String> = vec![self.config().to_string(), component.id.0.clone(), component.name.clone()];
        parts.extend([&component.kind, &self.target.version, &topology.id.0, &topology.name].map(Clone::clone));
        parts.extend([&topology.tenant, &topology.zone].map(Clone::clone));
        let add = |parts: &mut Vec<String>, nodes: &[&Peer<'a>]| {
            parts.push(nodes.len().to_string());
            for node in nodes {
                let address = self.address(node).unwrap_or_default().to_owned();
                parts.extend([node.name.to_owned(), node.role.to_owned(), node.ordinal.to_string(), address]);
            }
        };
        let peers: Vec<_> = self.peers().collect();
        add(&mut parts, &peers);
        parts.extend(
            peers.iter().filter_map(|peer| self.fault_domain(peer)).map(|it| it.unwrap_or_default().to_owned()),
        );
        for (dependency, version, nodes) in self.dependencies() {
            parts.extend([dependency.name, &dependency.component.kind, version].map(str::to_owned));
            add(&mut parts, &nodes.iter().collect::<Vec<_>>());
        }
        Digest::of(&parts)
    }

    /// The whole document. `shared` is kept from one node to the next.
    pub fn document(&self, node: &NewNode, own: &Peer<'a>, joined: Option<&str>, shared: &OnceCell<Value>) -> Value {
        let topology = &self.known.input.topology;
        let mut document = shared.get_or_init(|| self.shared()).clone();
        document["node"] = json!({
            "id": node.id, "name": node.name, "role": node.role, "ordinal": node.ordinal,
            "address": self.address(own), "cname": own.alias, "az": topology.zone, "prefix": "",
        });
        if let Some(domain) = self.fault_domain(own) {
            document["node"]["fault_domain"] = domain.into();
        }
        if let Some(job) = joined {
            document["node"]["joined"] = job.into();
        }
        if !self.is_peer(&node.role) {
            // a role whose nodes need not know each other: only the node itself is among its peers
            document["peers"] = self.peers().chain([own]).map(|peer| self.of_own_component(peer)).collect();
        }
        document
    }

    fn of_own_component(&self, peer: &Peer<'a>) -> Value {
        let mut brief = self.brief(peer);
        if let Some(domain) = self.fault_domain(peer) {
            brief["fault_domain"] = domain.into();
        }
        brief
    }

    fn brief(&self, peer: &Peer<'a>) -> Value {
        json!({
            "name": peer.name, "role": peer.role, "ordinal": peer.ordinal,
            "address": self.address(peer), "cname": peer.alias,
        })
    }

    fn shared(&self) -> Value {
        let (topology, component) = (&self.known.input.topology, self.component);
        let dependency = |(dependency, version, nodes): (Dependency<'_>, &str, &[Peer<'a>])| {
            let nodes: Vec<Value> = nodes.iter().map(|node| self.brief(node)).collect();
            let value = json!({ "type": dependency.component.kind, "version": version, "nodes": nodes });
            (dependency.name.to_owned(), value)
        };
        let dependencies: serde_json::Map<String, Value> = self.dependencies().map(dependency).collect();
        json!({
            "topology": { "id": topology.id, "name": topology.name, "tenant": topology.tenant, "az": topology.zone },
            "component": {
                "id": component.id, "name": component.name, "type": component.kind, "version": self.target.version,
            },
            "peers": self.peers().map(|peer| self.of_own_component(peer)).collect::<Value>(),
            "dependencies": dependencies,
            "config": self.config(),
            "facts": {},
        })
    }
}
