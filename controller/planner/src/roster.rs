//! Who is listed to whom: the nodes that a role's peers, and the components that depend on it, are
//! told of.
//!
//! Each list is the same for everybody and changes as seldom as can be, because a change of it is a
//! reason to configure others anew: a host that is away for a while stays listed at its last
//! address, and newcomers are listed once all of them have one. Where members may only come and go
//! one at a time, `membership.rs` says who is one.

use crate::desired::{self, Wanted};
use crate::membership::{self, Steps};
use crate::observe::{Known, newcomer, opened};
use crate::{Component, Node};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::metadata::Membership;
use straas_schemas::{ComponentId, NodeId};

/// A node as others know it.
#[derive(Clone, Debug)]
pub struct Peer<'a> {
    /// Its id.
    pub id: &'a NodeId,
    /// Its host name.
    pub name: &'a str,
    /// Its role.
    pub role: &'a str,
    /// Its number.
    pub ordinal: u32,
    /// The address of its host.
    pub address: Option<&'a str>,
    /// The same, or the one its last host had.
    pub last_address: Option<&'a str>,
    /// The name that stays when its host is replaced.
    pub alias: Option<String>,
    /// What its host shares with others and fails with, or its last one did; where the provider tells.
    pub fault_domain: Option<&'a str>,
    /// As recorded.
    pub recorded: Option<&'a Node>,
}

/// The nodes of one role of a component, as others are told of them.
#[derive(Default)]
pub struct Roster<'a> {
    /// Whom those know that are configured already.
    pub peers: Vec<Peer<'a>>,
    /// Whom those will know that are not: newcomers without an address among them.
    pub everybody: Vec<Peer<'a>>,
}

impl Roster<'_> {
    /// Nodes whose hosts have no address yet.
    pub fn without_address(&self) -> Vec<String> {
        self.everybody.iter().filter(|p| p.address.is_none()).map(|p| p.name.to_owned()).collect()
    }
}

/// Every roster.
pub struct Rosters<'a> {
    /// By component and role.
    rosters: BTreeMap<&'a str, BTreeMap<&'a str, Roster<'a>>>,
    /// Steps of memberships that change one at a time.
    pub steps: BTreeMap<(&'a str, &'a str), Steps<'a>>,
    /// By component: whom those that depend on it are told of.
    listed: BTreeMap<&'a str, Vec<Peer<'a>>>,
}

impl<'a> Rosters<'a> {
    /// Until when a step waits for a look at most, Unix ms.
    pub fn due_ms(&self) -> Option<i64> {
        self.steps.values().filter_map(|steps| steps.look_ms).min()
    }

    /// Draws them up.
    pub fn new(known: &Known<'a>) -> Self {
        let mut this = Self { rosters: BTreeMap::new(), steps: BTreeMap::new(), listed: BTreeMap::new() };
        let foreign = known.input.components.iter().flat_map(|c| &c.foreign);
        let foreign: BTreeSet<&ComponentId> = foreign.map(|f| &f.component).collect();
        let foreign = known.input.neighbours.iter().map(|n| &n.component).filter(|c| foreign.contains(&c.id));
        for component in known.input.components.iter().chain(foreign).filter(|c| !c.removed) {
            let meta = desired::meta(component);
            let roles: BTreeSet<&str> = component.groups.iter().map(|g| g.role.as_str()).collect();
            for role in roles {
                let key = (component.id.as_str(), role);
                // only those that know each other can disagree on who they are
                let knows_itself = meta.is_some_and(|m| m.peers.get(role).is_some_and(|p| p.iter().any(|r| r == role)));
                let stepwise = meta.is_some_and(|m| m.membership == Membership::Stepwise) && knows_itself;
                let roster = if stepwise && membership::founded(known, component, role) {
                    let steps = membership::steps(known, component, role);
                    let peers = members(known, component, role, &steps);
                    this.steps.insert(key, steps);
                    Roster { everybody: peers.clone(), peers }
                } else {
                    free(known, component, role)
                };
                this.rosters.entry(key.0).or_default().insert(role, roster);
            }
            this.listed.insert(component.id.as_str(), this.list(known, component));
        }
        this
    }

    /// The roster of a role.
    pub fn of(&self, component: &Component, role: &str) -> Option<&Roster<'a>> {
        self.rosters.get(component.id.as_str())?.get(role)
    }

    /// Whom components are told of that depend on this one: not of newcomers, unless all are.
    pub fn listed(&self, component: &Component) -> &[Peer<'a>] {
        self.listed.get(component.id.as_str()).map_or(&[], Vec::as_slice)
    }

    fn list(&self, known: &Known<'a>, component: &'a Component) -> Vec<Peer<'a>> {
        let fresh = |p: &Peer<'_>| p.recorded.is_none_or(newcomer);
        let served = known.served(&component.id);
        let mut roles: Vec<&str> = Vec::new();
        for group in &component.groups {
            if !roles.contains(&group.role.as_str()) {
                roles.push(&group.role);
            }
        }
        let rosters = roles.into_iter().filter_map(|role| self.of(component, role));
        rosters.flat_map(|r| r.peers.iter().filter(|p| !(served && fresh(p))).cloned()).collect()
    }
}

/// Members may come and go in any number.
fn free<'a>(known: &Known<'a>, component: &'a Component, role: &str) -> Roster<'a> {
    let of_role = known.of_component(&component.id).iter().filter(|w| w.node.role == role);
    let everybody: Vec<Peer<'a>> = of_role.map(|w| peer(w)).collect();
    let complete = everybody.iter().all(|p| p.address.is_some());
    let listed = |p: &&Peer<'a>| complete || p.recorded.is_some_and(opened);
    Roster { peers: everybody.iter().filter(listed).cloned().collect(), everybody }
}

/// Members are who the steps say; one that is to leave is one until its turn has come.
fn members<'a>(known: &Known<'a>, component: &'a Component, role: &str, steps: &Steps<'a>) -> Vec<Peer<'a>> {
    let of_role = known.of_component(&component.id).iter().filter(|w| w.node.role == role);
    let mut out: Vec<(usize, Peer<'a>)> = Vec::new();
    let place = |group: &str| component.groups.iter().position(|g| g.name == group).unwrap_or(usize::MAX);
    out.extend(of_role.map(|w| (place(&w.node.group), peer(w))));
    let leavers = known.leavers(&component.id).filter(|n| n.role == role);
    let zone = of_zone(known, component);
    out.extend(leavers.map(|n| (place(&n.group), leaver(zone, component, n))));
    out.retain(|(_, p)| steps.current.contains(p.id));
    // where a node stands does not change when it is no longer wanted
    out.sort_by_key(|(place, p)| (*place, p.ordinal, p.id));
    out.into_iter().map(|(_, p)| p).collect()
}

/// A wanted node as others know it.
pub fn peer<'a>(wanted: &'a Wanted<'a>) -> Peer<'a> {
    let node = &wanted.node;
    let recorded = wanted.recorded;
    let alias = wanted.group.cname.then(|| alias(&wanted.home.zone, &node.name));
    Peer {
        id: &node.id,
        name: &node.name,
        role: &node.role,
        ordinal: node.ordinal,
        address: recorded.and_then(|n| n.address.as_deref()),
        last_address: recorded.and_then(|n| last_address(n, alias.as_deref())),
        alias,
        fault_domain: recorded.and_then(fault_domain),
        recorded,
    }
}

fn leaver<'a>(zone: &str, component: &Component, node: &'a Node) -> Peer<'a> {
    let cname = component.groups.iter().any(|g| g.name == node.group && g.cname);
    let alias = cname.then(|| alias(zone, &node.name));
    Peer {
        id: &node.id,
        name: &node.name,
        role: &node.role,
        ordinal: node.ordinal,
        address: node.address.as_deref(),
        last_address: last_address(node, alias.as_deref()),
        alias,
        fault_domain: fault_domain(node),
        recorded: Some(node),
    }
}

fn alias(zone: &str, name: &str) -> String {
    format!("{name}.{zone}.straas")
}

/// The zone that a component's nodes are in.
fn of_zone<'a>(known: &Known<'a>, component: &Component) -> &'a str {
    let foreign = known.input.neighbours.iter().find(|n| n.component.id == component.id);
    foreign.map_or(&known.input.topology.zone, |n| &n.topology.zone)
}

/// The fault domain of a node's host, or of its last while there is none.
fn fault_domain(node: &Node) -> Option<&str> {
    let last = node.assignment.as_ref().filter(|_| node.address.is_none());
    let remembered = last.and_then(|last| last.context.pointer("/node/fault_domain").and_then(Value::as_str));
    node.fault_domain.as_deref().or(remembered)
}

/// The address of a node's host, or of its last: its own last assignment remembers.
fn last_address<'a>(node: &'a Node, alias: Option<&str>) -> Option<&'a str> {
    let remembered = || {
        let last = node.assignment.as_ref()?;
        match alias {
            Some(alias) => last.hosts.get(alias).map(String::as_str),
            None => last.context.pointer("/node/address").and_then(Value::as_str),
        }
    };
    node.address.as_deref().or_else(remembered)
}
