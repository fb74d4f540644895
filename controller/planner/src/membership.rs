//! Members that come and go one at a time.
//!
//! Two majorities of sets that differ by one node always have a node in common; of sets that differ
//! by two they need not, and two halves of one ensemble would each take writes. So where the
//! metadata says `stepwise`, the set of members changes by one node per step:
//!
//! ```text
//! joining:  host, install ─► it is configured ─► it works ─► the others are configured with it: next
//! leaving:  the others are configured without it ─► its host goes: next
//! ```
//! A joining node goes before the others, because each of them needs the votes of a majority of the
//! new set when it comes back: of three that become four it would be one short without the fourth.
//! A set of one is the exception. It has no votes to give, so it is configured first.
//!
//! Which step it is follows from what the contexts of the assignments say. Between two steps every
//! host holds the same set, so at any time two sets are in use, one node apart. A host that is gone
//! holds none and never comes back as it was: it can be left out at once.
//!
//! Leavers are not configured again while others leave. What they hold names hosts that are gone by
//! then, so a majority of it is a majority of those that are left, too.
//!
//! Leavers go before anybody joins: nobody configures them anew while they wait. One that does not
//! work goes first and is not asked, if a majority works without it.
//!
//! A leaver that leads loses its host before the others are configured without it: they elect another
//! one by the set they hold.
//!
//! Never here: hosts that are spawned or installed. All newcomers do that at once.

use crate::observe::{Known, applied, confirmed, failed, newcomer, opened, serves, works};
use crate::permits::{goes_last, held_for};
use crate::{Component, Host, Node, desired, looks};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::{Gate, NodeId, Outcome, Stage};

/// Members of a set that cannot work without any of them.
pub const SMALL: usize = 2;

/// The step that a membership is in.
#[derive(Default)]
pub struct Steps<'a> {
    /// The members that everybody is to know now.
    pub current: BTreeSet<&'a NodeId>,
    /// Nodes whose `pre_config` waits, and for what.
    pub waits: BTreeMap<&'a NodeId, String>,
    /// Nodes that leave and whose hosts may go.
    pub may_go: BTreeSet<&'a NodeId>,
    /// Why the next step is not taken, in words; empty if none is due.
    pub held_up: String,
    /// Until when a look is waited for, Unix ms.
    pub look_ms: Option<i64>,
    /// Wanted nodes that the members were not told of before this step.
    pub outsiders: BTreeSet<&'a NodeId>,
}

/// The nodes of one role, and the set that all of them held before this step.
struct Role<'k, 'a> {
    known: &'k Known<'a>,
    nodes: Vec<&'a Node>,
    /// What each node's last assignment says that the members are.
    views: BTreeMap<&'a NodeId, BTreeSet<&'a NodeId>>,
    base: BTreeSet<&'a NodeId>,
}

/// Whether a role has members: some node works, or may be configured with a set of them. Those that
/// are opened together are its founders; who is asked for later joins.
pub fn founded(known: &Known<'_>, component: &Component, role: &str) -> bool {
    let nodes = || known.recorded_of(&component.id).chain(known.leavers(&component.id));
    known.served(&component.id) || nodes().any(|n| n.role == role && opened(n))
}

/// Finds the step that a role of a component is in, which is [`founded`].
pub fn steps<'a>(known: &Known<'a>, component: &'a Component, role: &str) -> Steps<'a> {
    let wanted = known.recorded_of(&component.id).filter(|n| n.role == role);
    let nodes: Vec<&Node> = wanted.chain(known.leavers(&component.id).filter(|n| n.role == role)).collect();
    let views: BTreeMap<_, _> = nodes.iter().filter(|n| opened(n)).map(|n| (&n.id, view(n, &nodes))).collect();
    let mut role = Role { known, nodes, views, base: BTreeSet::new() };
    role.base = role.base();
    let outsider = |n: &&&Node| role.wanted(n) && !role.base.contains(&n.id);
    let outsiders = role.nodes.iter().filter(outsider).map(|n| &n.id).collect();
    let mut out = Steps { current: role.base.clone(), outsiders, ..Steps::default() };
    let disruption = desired::meta(component).map(|meta| &meta.disruption);
    let last = |node: &Node| disruption.is_some_and(|d| goes_last(node, d));
    role.departures(&mut out, last);
    if out.may_go.is_empty() {
        // who leads decides how a member leaves
        let outdated = if role.has_leavers() { looks::outdated(known, component) } else { None };
        if let Some((node, until)) = outdated {
            out.held_up = format!("the members change when {} was looked at again", node.name);
            out.look_ms = Some(until);
        } else {
            role.next(&mut out, last);
        }
    }
    role.doors(&mut out);
    out
}

/// Names of the members by the context of a node's last assignment.
pub fn told_of(node: &Node) -> impl Iterator<Item = &str> {
    let peers = node.assignment.as_ref().and_then(|a| a.context.get("peers")).and_then(Value::as_array);
    peers.into_iter().flatten().filter_map(|p| p.get("name")?.as_str())
}

/// Who they are.
fn view<'a>(node: &Node, nodes: &[&'a Node]) -> BTreeSet<&'a NodeId> {
    let names: BTreeSet<&str> = told_of(node).collect();
    nodes.iter().filter(|n| names.contains(n.name.as_str())).map(|n| &n.id).collect()
}

/// Whether a node may be down at this moment because it was let: its permit is for a configuration of which it has
/// reported nothing yet.
fn is_down_for_config(node: &Node) -> bool {
    let Some(digest) = held_for(node, Stage::Config) else { return false };
    node.stages.get(&Stage::Config).is_none_or(|(result, _)| result.digest != *digest)
}

fn gone(node: &Node) -> bool {
    node.host == Host::Absent
}

/// Whether a node has nothing on its host yet: another one took its place.
fn empty(node: &Node) -> bool {
    let order = node.assignment.as_ref().and_then(|a| a.order(Stage::PreConfig));
    let closed = order.is_some_and(|o| matches!(o.gate, Gate::Closed { .. }));
    // its new host may not have enrolled yet, what was closed for it stays so until then
    !node.host.is_up() || !serves(node) || (closed && !confirmed(node))
}

impl<'a> Role<'_, 'a> {
    fn wanted(&self, node: &Node) -> bool {
        self.known.wanted.contains_key(&node.id)
    }

    fn has_leavers(&self) -> bool {
        self.members(&self.base).any(|n| !self.wanted(n))
    }

    /// The set that is in use. In the middle of a step two are, one node apart: then whether that
    /// node is wanted decides which of the two it shall be, and both ways are safe.
    fn base(&self) -> BTreeSet<&'a NodeId> {
        let speak: Vec<_> = self.nodes.iter().filter(|n| !gone(n) || self.wanted(n)).collect();
        let views: Vec<_> = speak.iter().filter_map(|n| self.views.get(&n.id)).collect();
        let listed = |n: &&&'a Node| {
            let by = views.iter().filter(|v| v.contains(&n.id)).count();
            by > 0 && if self.wanted(n) { true } else { by == views.len() && !gone(n) }
        };
        let mut base: BTreeSet<_> = self.nodes.iter().filter(listed).map(|n| &n.id).collect();
        if base.is_empty() {
            // nobody says: then it is those that work
            base.extend(self.nodes.iter().filter(|n| serves(n)).map(|n| &n.id));
        }
        base
    }

    fn members<'s>(&'s self, set: &'s BTreeSet<&'a NodeId>) -> impl Iterator<Item = &'a Node> + 's {
        self.nodes.iter().copied().filter(|n| set.contains(&n.id))
    }

    /// It was given this set last, and is configured so.
    fn has(&self, node: &Node, set: &BTreeSet<&'a NodeId>) -> bool {
        self.views.get(&node.id) == Some(set) && applied(node)
    }

    fn settled(&self, node: &Node, set: &BTreeSet<&'a NodeId>) -> bool {
        self.views.get(&node.id) == Some(set) && self.known.well(node)
    }

    /// Whether more than half of a set works without `but`.
    fn majority(&self, set: &BTreeSet<&'a NodeId>, but: &[&Node]) -> bool {
        let well = |n: &Node| works(n) && !self.known.broken(n) && !but.iter().any(|b| b.id == n.id);
        self.members(set).filter(|n| well(n)).count() * 2 > set.len()
    }

    fn dead(&self, node: &Node) -> bool {
        self.known.broken(node) || !serves(node)
    }

    /// A leaver that does not work, or that does not know of a member: nobody configures it anew, so
    /// its host goes first and it is left out then.
    fn unasked(&self, node: &Node) -> bool {
        let knows = |view: &BTreeSet<_>| view.is_superset(&self.base);
        self.dead(node) || (self.base.contains(&node.id) && !self.views.get(&node.id).is_some_and(knows))
    }

    /// Whether nothing is lost with a member that does not work: it has no data, or of two the other
    /// one has all that was ever agreed on, and works alone after that.
    fn is_idle(&self, node: &Node) -> bool {
        let other = || self.members(&self.base).any(|n| n.id != node.id && self.wanted(n) && serves(n));
        !serves(node) || (self.base.len() == SMALL && self.dead(node) && other())
    }

    /// Whether a member is down while another one works with the set that both are of, and those that
    /// are not down are enough for that: then its vote is none of those that count. Who is up and does
    /// not work by its own set may vote all the same.
    fn is_outvoted(&self, node: &Node) -> bool {
        let down = |n: &Node| !self.known.reachable(n) || !serves(n) || failed(n, Stage::Validate);
        let proves = |n: &Node| self.wanted(n) && self.settled(n, &self.base);
        let up = self.members(&self.base).filter(|n| n.id != node.id && !down(n)).count();
        down(node) && up * 2 > self.base.len() && self.members(&self.base).any(proves)
    }

    /// Whether a leaver that waits for its turn holds the present set, but for hosts that are gone.
    fn waits(&self, node: &Node) -> bool {
        let here = |id: &&&NodeId| !self.nodes.iter().any(|n| n.id == ***id && gone(n));
        let view = self.views.get(&node.id).map(|view| view.iter().filter(here).copied().collect::<BTreeSet<_>>());
        view.as_ref() == Some(&self.base)
    }

    /// Leavers whose hosts may go now.
    fn departures(&self, out: &mut Steps<'a>, last: impl Fn(&Node) -> bool) {
        let leavers: Vec<&Node> = self.nodes.iter().copied().filter(|n| !self.wanted(n)).collect();
        let dead: Vec<&Node> = leavers.iter().copied().filter(|n| self.unasked(n)).collect();
        for node in &leavers {
            let go = if gone(node) {
                false
            } else if !self.base.contains(&node.id) {
                // it was left out, or never let in: the others must be through with that
                let small = self.base.len() <= SMALL;
                let through = |n: &Node| if small { self.has(n, &self.base) } else { self.settled(n, &self.base) };
                // of few nobody can be spared, whether it is heard of or not
                let mut rest = self.members(&self.base).filter(|n| self.wanted(n) && (small || !self.dead(n)));
                // two need each other to work, and the other one may still follow who leaves
                rest.all(through) && (small || self.majority(&self.base, &[]))
                    || self.views.is_empty()
                    || !self.views.values().any(|view| view.contains(&node.id))
                    || (last(node) && self.can_elect())
                    // nobody may be configured while it keeps a permit that it does nothing with
                    || (self.dead(node) && self.works_without(&dead))
            } else {
                self.unasked(node) && (self.majority(&self.base, &dead) || self.is_idle(node) || self.is_outvoted(node))
            };
            if go {
                out.may_go.insert(&node.id);
            }
        }
    }

    /// Whether more than half of every set that a live node holds works without these.
    fn works_without(&self, dead: &[&Node]) -> bool {
        let live = self.nodes.iter().filter(|n| !self.dead(n));
        live.filter_map(|n| self.views.get(&n.id)).all(|view| self.majority(view, dead))
    }

    /// Whether the members, configured anew or not, can agree on a leader without one more that
    /// leaves: it was not known to lead when they began to be configured without it.
    fn can_elect(&self) -> bool {
        let there = |n: &&Node| serves(n) && self.known.reachable(n) && !is_down_for_config(n);
        self.members(&self.base).filter(there).count() * 2 > self.base.len() + 1
    }

    /// Takes the next step if the last one is over.
    fn next(&self, out: &mut Steps<'a>, last: impl Fn(&Node) -> bool) {
        let base = &self.base;
        let joiner = |n: &&&Node| self.wanted(n) && !base.contains(&n.id);
        let mut joiners: Vec<&Node> = self.nodes.iter().filter(joiner).copied().collect();
        joiners.sort_by_key(|n| n.ordinal);
        let mut leavers: Vec<&Node> = self.members(base).filter(|n| !self.wanted(n)).collect();
        leavers.sort_by_key(|n| (!self.dead(n), last(n), std::cmp::Reverse(n.ordinal)));
        if joiners.is_empty() && leavers.is_empty() {
            return;
        }
        // leavers are not configured anew, so they go before anybody joins
        let through = |n: &Node| match (self.wanted(n), base.contains(&n.id)) {
            (true, true) => self.has(n, base),
            (true, false) => true,
            (false, true) => self.waits(n),
            (false, false) => false,
        };
        if let Some(node) = self.nodes.iter().find(|n| !gone(n) && !through(n)) {
            out.held_up = format!("the members change one at a time, and {} is not through yet", node.name);
            return;
        }
        if let Some(node) = leavers.first() {
            let mut rest = base.clone();
            rest.remove(&node.id);
            let unsettled = |n: &&Node| self.wanted(n) && !self.dead(n) && !self.settled(n, base);
            if self.dead(node) || rest.is_empty() || !self.majority(&rest, &[]) {
                out.held_up = format!("{} cannot leave while the others have no majority that works", node.name);
            } else if let Some(other) = self.members(&rest).find(unsettled) {
                out.held_up = format!("{} leaves when {} has settled", node.name, other.name);
            } else if last(node) && self.majority(base, &[node]) {
                // nobody can follow a leader that is not in its own set, so this one makes way first
                out.may_go.insert(&node.id);
            } else {
                out.current = rest;
            }
        } else if let Some(node) = joiners.iter().find(|n| ready(n) && self.known.reachable(n)) {
            match self.members(base).find(|n| !self.settled(n, base)) {
                Some(other) => {
                    out.held_up = format!("the next member joins when all work, and {} does not", other.name)
                }
                None => drop(out.current.insert(&node.id)),
            }
        } else if let Some(node) = joiners.first() {
            out.held_up = format!("the next member is {}, when its host is ready", node.name);
        }
    }

    /// Whose `pre_config` waits: newcomers until the others know them, and of several new hosts
    /// all but as many as join at once, since together they could outvote those that have the data.
    fn doors(&self, out: &mut Steps<'a>) {
        let current = &out.current;
        for node in self.nodes.iter().copied().filter(|n| self.wanted(n) && !current.contains(&n.id)) {
            let text = if out.held_up.is_empty() { "another node joins first".to_owned() } else { out.held_up.clone() };
            out.waits.insert(&node.id, text);
        }
        if !self.members(current).any(|n| !empty(n)) {
            return;
        }
        // those that are made together with the component are members from the beginning
        let founder = |n: &Node| newcomer(n) && !joined(n);
        let hollow = self.members(current).filter(|n| empty(n) && self.wanted(n) && !founder(n));
        let mut hollow: Vec<&Node> = hollow.collect();
        hollow.sort_by_key(|n| (newcomer(n), serves(n) || !n.stages.contains_key(&Stage::Config), n.ordinal));
        let Some(first) = hollow.first() else { return };
        let others = hollow.iter().skip(self.at_once(current));
        let text = format!("{} must work first: hosts without data join one at a time", first.name);
        out.waits.extend(others.map(|n| (&n.id, text.clone())));
        if let Some(other) = self.unaware(first, current).filter(|_| newcomer(first)) {
            out.waits.insert(&first.id, format!("it joins when {} is configured with it", other.name));
        }
    }

    /// How many hosts without data join at once: one; more where those that have data are too few for a majority with it,
    /// but never so many that they are a majority themselves.
    fn at_once(&self, current: &BTreeSet<&'a NodeId>) -> usize {
        let with_data = self.members(current).filter(|n| !empty(n)).count();
        let enough = |joining: &usize| (with_data + joining) * 2 > current.len();
        let outvotes = |joining: usize| joining * 2 > current.len();
        (1..).find(|joining| enough(joining) || outvotes(joining + 1)).unwrap_or(1)
    }

    /// The member that has to know a joining node before that may begin: the first of two. They
    /// cannot work without each other, so it is enough that it is configured.
    fn unaware(&self, node: &Node, current: &BTreeSet<&'a NodeId>) -> Option<&'a Node> {
        let mut others = self.members(current).filter(|n| n.id != node.id && current.len() <= SMALL);
        others.find(|n| !self.has(n, current))
    }
}

/// The job that added a node to a component that worked already; empty if it was not known.
pub fn joined_by(node: &Node) -> Option<&str> {
    node.assignment.as_ref()?.context.get("node")?.get("joined")?.as_str()
}

/// Whether a node was added to a component that worked already.
pub fn joined(node: &Node) -> bool {
    joined_by(node).is_some()
}

/// Whether a newcomer has all it needs to be configured.
fn ready(node: &Node) -> bool {
    let installed = node.stages.get(&Stage::Install).is_some_and(|(r, _)| r.outcome == Outcome::Succeeded);
    node.host.is_up() && node.address.is_some() && installed
}
