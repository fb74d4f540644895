//! Disruption permits: how many serving nodes of a component may be disturbed at once.
//!
//! A permit is a word in a node's assignment: "you may run this stage at exactly this digest". It is
//! held from the moment it is granted until the node confirms that it converged on an assignment
//! that carries it; then it is taken out of the assignment again. A node that falls silent with a
//! permit keeps holding it, and so does one whose inputs change meanwhile: time gives nothing back.
//! A host that is to be replaced takes from the same budget. Its service is stopped first, so that it
//! goes as one that was told to and not as one that died: others need not wait for its session to
//! end, and the new one does not meet it. Who does not work, or cannot be asked any more, is not asked.
//!
//! A node that asks and says itself that its service does not work has nothing to lose. It does
//! not wait for the budget, or a component that is down as a whole could never be mended. One that does
//! not know, because its agent forgot, is taken at its last word.

use crate::desired::{self, Wanted};
use crate::digests;
use crate::membership::{SMALL, joined};
use crate::observe::{Known, Silence, confirmed, failed, says, serves, service, stopped, unstopped, untried, works};
use crate::roster::Rosters;
use crate::targets::Targets;
use crate::{Component, Node};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::heartbeat::{Heartbeat, ServiceStatus};
use straas_schemas::metadata::Disruption;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, NodeId, Outcome, Stage};

/// What became of a request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A permit for this digest.
    Given(Stage, Digest),
    /// It never worked and does not now: it needs none.
    Free(Stage),
    /// These nodes are disturbed or broken; no more may be.
    Waits(Vec<String>),
    /// By its facts it goes last, and these nodes are not through yet.
    Last(Vec<String>),
    /// Nodes of the component or of one that depends on it show that they are not settled.
    Unsettled(Vec<String>),
    /// The change is paused or held.
    Barred,
}

/// Who may be disturbed.
#[derive(Default)]
pub struct Permits<'a> {
    /// What became of each request.
    pub grants: BTreeMap<&'a NodeId, Grant>,
    /// Nodes whose hosts go now, to be replaced.
    pub replaced: BTreeSet<&'a NodeId>,
    /// Nodes whose services are to stand still, because their hosts go next or go now.
    pub halted: BTreeSet<&'a NodeId>,
    /// Nodes whose hosts are to be replaced and wait for these.
    pub waiting: BTreeMap<&'a NodeId, Vec<String>>,
}

/// What the drafts of this plan say of nodes.
pub struct Drafted<'a> {
    /// Nodes whose inputs do not change now: a permit for inputs that are about to change would be
    /// of no use and would take the budget.
    pub stable: BTreeSet<&'a NodeId>,
    /// Nodes that keep their last assignment, whatever it is.
    pub kept: BTreeSet<&'a NodeId>,
}

/// The permit for a stage in the node's assignment, unless it has done what it was for.
pub fn held_for(node: &Node, stage: Stage) -> Option<&Digest> {
    match &node.assignment.as_ref()?.order(stage)?.gate {
        Gate::Permit { granted } => granted.as_ref().filter(|_| !confirmed(node)),
        Gate::Open | Gate::Closed { .. } => None,
    }
}

/// Whether the node holds a permit.
pub fn held(node: &Node) -> bool {
    held_for(node, Stage::Config).is_some() || held_for(node, Stage::Install).is_some()
}

/// What a node that leaves gets instead of its last assignment; `None` for nothing else. Permits that
/// it is through with are taken back: with them it would put right by itself what somebody changes on
/// its host. It runs if only a replacement had stopped it, since the others may need it. And scripts that were turned back
/// after it had got them are exchanged: with them it may not show that it works, which the others wait for.
pub fn of_leaver(known: &Known<'_>, node: &Node) -> Option<Assignment> {
    let component = known.component(&node.component).filter(|c| !c.removed && !known.input.topology.deleting)?;
    let last = node.assignment.as_ref()?;
    let stays = component.wishes.get(&node.id).is_some_and(|wish| wish.lifecycle == Lifecycle::Stopped);
    let lifecycle = if stays { last.lifecycle } else { Lifecycle::Running };
    let through = confirmed(node) && last.lifecycle == Lifecycle::Running;
    let used = |gate: &Gate| through && matches!(gate, Gate::Permit { granted: Some(_) });
    let mended = mended(component, last);
    if lifecycle == last.lifecycle && mended.is_none() && !last.stages.iter().any(|order| used(&order.gate)) {
        return None;
    }
    let mut new = Assignment { generation: last.generation.saturating_add(1), lifecycle, ..last.clone() };
    if let Some((scripts, validate)) = mended {
        scripts.clone_into(&mut new.scripts);
        new.stages.iter_mut().filter(|order| order.stage == Stage::Validate).for_each(|o| o.inputs = validate.clone());
    }
    for order in new.stages.iter_mut().filter(|order| used(&order.gate)) {
        order.gate = Gate::Permit { granted: None };
    }
    Some(new)
}

/// The scripts that a node should have, and what its `validate` depends on with them, if those of its last assignment are of
/// a change that was turned back or that another one took the place of.
fn mended<'a>(component: &'a Component, last: &Assignment) -> Option<(&'a str, Digest)> {
    let goes_on = component.rollout.as_ref().filter(|rollout| rollout.reverted.is_none());
    let target = goes_on.map_or(&component.target, |rollout| &rollout.before);
    let of_change = goes_on.is_some() && last.scripts == component.target.scripts;
    if last.scripts == target.scripts || of_change {
        return None;
    }
    let nature = desired::nature(component, target, &last.role).ok()?;
    let validate = nature.knowledge.scripts.get(&nature.role.script_role)?.get(&Stage::Validate)?;
    Some((&target.scripts, digests::of_script(Stage::Validate, validate.as_str())))
}

/// Tries to stop a service, after which its host goes all the same: it may be replaced because of that.
const STOP_TRIES: u32 = 3;

/// Whether the host of a node may go as far as its service is concerned: it stands still as told, or
/// there is no use in telling it.
fn still(node: &Node) -> bool {
    let refuses = |a: &Assignment| node.refused.as_ref().is_some_and(|(generation, _)| *generation == a.generation);
    let told = node.assignment.as_ref().filter(|a| a.lifecycle == Lifecycle::Stopped);
    let stuck = || unstopped(node).is_some_and(|failed| failed.attempt >= STOP_TRIES);
    told.is_some_and(|a| confirmed(node) || refuses(a) || stuck())
}

/// The stage and digest that a node asks a permit for and does not have.
fn asked(node: &Node) -> Option<(Stage, &Digest)> {
    let (beat, _) = node.heartbeat.as_ref()?;
    let assignment = node.assignment.as_ref()?;
    let ask = beat.asks.as_ref().filter(|ask| matches!(ask.stage, Stage::Config | Stage::Install))?;
    let current = beat.generation == assignment.generation && beat.incarnation == node.incarnation;
    let gate = &assignment.order(ask.stage)?.gate;
    let gated = matches!(gate, Gate::Permit { granted } if granted.as_ref() != Some(&ask.digest));
    (current && gated && ask.digest.is_well_formed()).then_some((ask.stage, &ask.digest))
}

/// Whether a node waits for a permit.
pub fn asks(node: &Node) -> bool {
    asked(node).is_some()
}

/// Whether a node was seen to work with what it was configured with last: else it may be down.
fn seen(node: &Node) -> bool {
    let at = |stage| node.stages.get(&stage).map_or(i64::MIN, |(_, at)| *at);
    // what came with one report has one time; after a configuration that failed nobody looks
    works(node) && !failed(node, Stage::Config) && at(Stage::Validate) >= at(Stage::Config)
}

/// Whether the permit that a node holds has disturbed it already: it says itself that it was not seen
/// to work since it began to be configured.
fn begun(node: &Node) -> bool {
    let validated = |(beat, _): &(Heartbeat, i64)| beat.stages.contains_key(&Stage::Validate);
    held_for(node, Stage::Config).is_some() && !node.heartbeat.as_ref().is_some_and(validated)
}

/// Whether a node's facts say that it goes last.
pub fn goes_last(node: &Node, disruption: &Disruption) -> bool {
    let facts = service(node).1;
    let holds = |(name, value): (&String, &serde_json::Value)| facts.is_some_and(|f| f.get(name) == Some(value));
    !disruption.last_fact.is_empty() && disruption.last_fact.iter().all(holds)
}

impl<'a> Permits<'a> {
    /// Judges every request.
    pub fn new(known: &Known<'a>, targets: &Targets<'a>, rosters: &Rosters<'a>, drafted: &Drafted<'a>) -> Self {
        let mut this = Self::default();
        for component in &known.input.components {
            let Some(meta) = desired::meta(component) else { continue };
            let asking = |n: &&Node| {
                known.silence(n) != Silence::Unreachable && drafted.stable.contains(&n.id) && asked(n).is_some()
            };
            let asking: Vec<&Node> = known.recorded_of(&component.id).filter(asking).collect();
            let of_component = known.of_component(&component.id);
            let replacing = of_component.iter().filter_map(|w| {
                let node = w.recorded?;
                (node.host.is_up() && !w.detained && w.wish.replacements > node.host_number).then_some(node)
            });
            let replacing: Vec<&Node> = replacing.collect();
            if asking.is_empty() && replacing.is_empty() {
                continue;
            }
            let mut budget = Budget::new(known, component, &meta.disruption, rosters);
            this.replace(&mut budget, replacing);
            let barred = targets.wave(component).is_some_and(|wave| wave.barred());
            this.judge(&mut budget, asking, barred, drafted);
        }
        this
    }

    /// Whether the services of a node are to run now.
    pub fn lifecycle(&self, wanted: &Wanted<'_>) -> Lifecycle {
        if self.halted.contains(&wanted.node.id) { Lifecycle::Stopped } else { wanted.wish.lifecycle }
    }

    fn replace(&mut self, budget: &mut Budget<'_, 'a>, mut nodes: Vec<&'a Node>) {
        nodes.sort_by_key(|n| (!stopped(n), !budget.down(n), goes_last(n, budget.disruption), n.ordinal));
        for node in nodes {
            let hollow: Vec<String> =
                budget.others(node).filter(|n| budget.hollow(n)).map(|n| n.name.clone()).collect();
            let waits = if budget.stepwise && !hollow.is_empty() {
                hollow
            } else if budget.down(node) || stopped(node) {
                Vec::new()
            } else if !budget.unsettled.is_empty() {
                budget.unsettled.clone()
            } else {
                budget.spent_on(node, &BTreeSet::new())
            };
            if !waits.is_empty() {
                self.waiting.insert(&node.id, waits);
                continue;
            }
            budget.disturbed.insert(&node.id);
            let goes = budget.down(node) || still(node);
            if goes {
                self.replaced.insert(&node.id);
            }
            if !goes || stopped(node) {
                self.halted.insert(&node.id);
            }
            // from here on another one with data may not go
            budget.emptied.insert(&node.id);
        }
    }

    fn judge(&mut self, budget: &mut Budget<'_, 'a>, mut asking: Vec<&'a Node>, barred: bool, drafted: &Drafted<'a>) {
        let forgot = |node: &Node| says(node, ServiceStatus::Unknown) && seen(node) && !held(node);
        let down = |node: &Node| !says(node, ServiceStatus::Active) && !forgot(node);
        asking.sort_by_key(|node| {
            let again = held(node).then(|| seen(node));
            (!down(node), again.is_none(), again, goes_last(node, budget.disruption), node.ordinal)
        });
        // what they hold permits for has changed: of these, too, not all at once
        let mut again: BTreeSet<&NodeId> =
            asking.iter().filter(|n| held(n) && !down(n) && !begun(n)).map(|n| &n.id).collect();
        let goes = |n: &&Node| self.replaced.contains(&n.id) || self.halted.contains(&n.id);
        for node in asking.into_iter().filter(|n| !goes(n)).collect::<Vec<_>>() {
            let Some((stage, digest)) = asked(node) else { continue };
            let given = Grant::Given(stage, digest.clone());
            let grant = if (down(node) && (held(node) || serves(node))) || begun(node) {
                given
            } else if again.remove(&node.id) {
                match budget.spent_on(node, &again) {
                    spent if spent.is_empty() => given,
                    spent => Grant::Waits(spent),
                }
            } else if down(node) {
                Grant::Free(stage)
            } else if barred {
                Grant::Barred
            } else if !budget.unsettled.is_empty() {
                Grant::Unsettled(budget.unsettled.clone())
            } else {
                let first = budget.before(node, drafted);
                let spent = budget.spent_on(node, &BTreeSet::new());
                match (first.is_empty(), spent.is_empty()) {
                    (false, _) => Grant::Last(first),
                    (true, true) => given,
                    (true, false) => Grant::Waits(spent),
                }
            };
            if matches!(grant, Grant::Given(..)) {
                budget.disturbed.insert(&node.id);
            }
            self.grants.insert(&node.id, grant);
        }
    }
}

/// How many nodes of a component are disturbed, and how many may be.
struct Budget<'k, 'a> {
    known: &'k Known<'a>,
    disruption: &'a Disruption,
    nodes: Vec<&'a Node>,
    disturbed: BTreeSet<&'a NodeId>,
    /// Hosts that this plan takes away.
    emptied: BTreeSet<&'a NodeId>,
    /// Nodes and the facts that say that they are not settled.
    unsettled: Vec<String>,
    stepwise: bool,
}

impl<'k, 'a> Budget<'k, 'a> {
    fn new(known: &'k Known<'a>, component: &Component, disruption: &'a Disruption, rosters: &Rosters<'a>) -> Self {
        let steps = rosters.steps.iter().filter(|((id, _), _)| *id == component.id.as_str());
        let steps: Vec<_> = steps.map(|(_, steps)| steps).collect();
        // who was stopped to be replaced, and leaves now instead, was told to run again, because the others may need it
        let resumes = |n: &Node| serves(n) && (stopped(n) || (!confirmed(n) && !says(n, ServiceStatus::Active)));
        let member =
            |n: &&Node| n.host.is_up() && (held(n) || resumes(n) || steps.iter().any(|s| s.current.contains(&n.id)));
        // who is no member yet has no part in what the members keep up
        let outside = |n: &Node| {
            let role = rosters.steps.get(&(component.id.as_str(), n.role.as_str()));
            role.is_some_and(|s| !s.current.contains(&n.id)) && !held(n)
        };
        let insiders = known.recorded_of(&component.id).filter(|n| !outside(n));
        let nodes: Vec<&Node> = insiders.chain(known.leavers(&component.id).filter(member)).collect();
        let wanted = known.of_component(&component.id);
        // who was stopped for its host to be replaced stands still, too
        let stopped = |n: &Node| stopped(n) || known.wanted.get(&n.id).is_some_and(|w: &&Wanted<'_>| w.stopped());
        // where everybody is to stand still there is nothing that the others could keep up
        let all_stopped = wanted.iter().all(|w| w.stopped());
        // a member that joins must work before the others come back and need its vote
        let small = !steps.is_empty() && steps.iter().all(|s| s.current.len() <= SMALL);
        let arriving = |n: &Node| !small && joined(n) && !serves(n) && steps.iter().any(|s| s.current.contains(&n.id));
        let out = |n: &&&Node| {
            held(n)
                || arriving(n)
                || ((known.broken(n) || untried(n)) && !(small && let_in(known, n)) && !(all_stopped && stopped(n)))
                || (stopped(n) && !all_stopped)
                || (!known.wanted.contains_key(&n.id) && resumes(n))
        };
        Self {
            known,
            disruption,
            disturbed: nodes.iter().filter(out).map(|n| &n.id).collect(),
            nodes,
            emptied: BTreeSet::new(),
            unsettled: unsettled(known, component),
            stepwise: !steps.is_empty(),
        }
    }

    fn others(&self, node: &Node) -> impl Iterator<Item = &'a Node> {
        let id = node.id.clone();
        self.nodes.iter().copied().filter(move |n| n.id != id)
    }

    fn down(&self, node: &Node) -> bool {
        self.known.broken(node) || !serves(node)
    }

    /// There is nothing on its host, or there will not be.
    fn hollow(&self, node: &Node) -> bool {
        self.emptied.contains(&node.id) || !node.host.is_up() || !serves(node)
    }

    /// Who has used up the budget, if it is used up for `node`, but for these that only wait.
    fn spent_on(&self, node: &Node, waiting: &BTreeSet<&NodeId>) -> Vec<String> {
        let counts = |n: &&Node| self.disturbed.contains(&n.id) && !waiting.contains(&n.id);
        let others: Vec<String> = self.others(node).filter(counts).map(|n| n.name.clone()).collect();
        match self.disruption.max_unavailable as usize {
            0 => vec!["nobody: no node may be disturbed".to_owned()],
            max if others.len() < max => Vec::new(),
            _ => others,
        }
    }

    /// Nodes that go before one that goes last by its facts.
    fn before(&self, node: &Node, drafted: &Drafted<'a>) -> Vec<String> {
        if !goes_last(node, self.disruption) {
            return Vec::new();
        }
        let through = |n: &Node| (confirmed(n) && drafted.stable.contains(&n.id)) || drafted.kept.contains(&n.id);
        let pending = |n: &&Node| works(n) && !through(n) && !goes_last(n, self.disruption) && !self.known.broken(n);
        // who leaves is not configured anew: waiting for it would be for ever
        let stays = |n: &&Node| self.known.wanted.contains_key(&n.id);
        self.others(node).filter(stays).filter(pending).map(|n| n.name.clone()).collect()
    }
}

/// Whether a new host has done all it can and waits for the others to know it: then they may be
/// configured although it does not work.
fn let_in(known: &Known<'_>, node: &Node) -> bool {
    let configured = node.stages.get(&Stage::Config).is_some_and(|(r, _)| r.outcome == Outcome::Succeeded);
    let tried = node.stages.get(&Stage::Validate).is_some_and(|(r, _)| r.outcome != Outcome::Succeeded);
    !serves(node) && !held(node) && known.reachable(node) && configured && tried
}

/// Whether one of a component's nodes does not work and cannot be configured before one that it depends on works as a whole:
/// until then the copies that are owed because of it are made by nobody.
fn waits(known: &Known<'_>, component: &Component, dependency: &Component) -> bool {
    let whole = known.of_component(&dependency.id).iter().all(|w| w.stopped() || w.works());
    let closed = |n: &Node| {
        let order = n.assignment.as_ref().and_then(|a| a.order(Stage::PreConfig));
        order.is_some_and(|order| matches!(order.gate, Gate::Closed { .. }))
    };
    !whole && known.recorded_of(&component.id).any(|n| !works(n) && closed(n))
}

/// Which nodes of a component, or of one that depends on it, show that they are not settled.
pub fn unsettled(known: &Known<'_>, component: &Component) -> Vec<String> {
    let mut out = Vec::new();
    for (one, home) in known.dependents(component).into_iter().chain([(component, None)]) {
        let Some(disruption) = desired::meta(one).map(|m| &m.disruption) else { continue };
        if disruption.settled.is_empty() || (one.id != component.id && waits(known, one, component)) {
            continue;
        }
        // what a node that is down said last is of no use: it could never be mended
        let of = home.map_or_else(String::new, |topology| format!(" of topology {}", topology.name));
        let tells = |n: &&Node| serves(n) && known.reachable(n) && !known.broken(n);
        for node in known.recorded_of(&one.id).filter(tells) {
            let (ServiceStatus::Active, Some(facts)) = service(node) else { continue };
            for (name, value) in &disruption.settled {
                match facts.get(name) {
                    Some(shown) if shown != value => out.push(format!("{}{of} ({name} = {shown})", node.name)),
                    None if !facts.is_empty() => out.push(format!("{}{of} (says nothing of {name})", node.name)),
                    Some(_) | None => {}
                }
            }
        }
    }
    out
}
