//! Which of two targets each node gets while a change is under way.
//!
//! ```text
//!            ┌─ canary: one node of each role ─ it works ─► rolling: everybody ─► rolled out
//! a change ──┤      └─ it fails ─► reverted (the change is turned round: everybody, at once)
//!            └─ rolling: everybody ─ too many fail ─► held
//! ```
//! Nothing of this is stored but the change itself. Where it stands follows from what the nodes'
//! assignments say: who has the target already keeps it, so nobody is bounced back but by a revert.
//!
//! A component none of whose nodes works has nothing to protect; neither has a node that never
//! worked. They get what is wanted at once: it may be the correction.
//!
//! Never here: how many may be disturbed at once. That is rationed by permits.

use crate::desired::{self, Wanted};
use crate::observe::{Known, confirmed, serves, works};
use crate::permits::{asks, goes_last, held};
use crate::{Component, Node, Quarantined, Revert, Rollout, Target, digests};
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::report::StageResult;
use straas_schemas::view::RolloutPhase;
use straas_schemas::{NodeId, Outcome, Stage};

/// Failures of a stage after which a node counts as failing with a change.
pub const ROLLOUT_FAILURES: u32 = 3;

/// Which of the targets of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which<'a> {
    /// What is wanted.
    Target,
    /// What was before.
    Before,
    /// The scripts of this commit, else what is wanted.
    Own(&'a str),
}

/// What a node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This.
    Use(Which<'a>),
    /// Its last assignment as it is: it is neither of what is wanted nor of what was before.
    Keep,
}

/// A node that has the target and fails with it.
pub struct Failing<'a> {
    /// The node.
    pub node: &'a Node,
    /// The same as wanted.
    wanted: &'a Wanted<'a>,
    /// The stage and the last line of its output.
    pub text: String,
}

/// How a change of a component stands.
pub struct Wave<'a> {
    /// The change.
    pub rollout: &'a Rollout,
    /// How far it is.
    pub phase: RolloutPhase,
    /// The nodes that go first.
    pub canaries: Vec<&'a Node>,
    /// Nodes that fail with it.
    pub failing: Vec<Failing<'a>>,
    /// What it takes to turn it back, if it has to be.
    pub revert: Option<Revert>,
    choices: BTreeMap<&'a NodeId, Choice<'a>>,
}

impl Wave<'_> {
    /// Whether nodes that work may not begin with it.
    pub fn barred(&self) -> bool {
        matches!(self.phase, RolloutPhase::Paused | RolloutPhase::Held)
    }

    /// Which nodes fail with it and how, in words.
    pub fn failures(&self) -> Vec<String> {
        self.failing.iter().map(|f| format!("{}: {}", f.node.name, f.text)).collect()
    }
}

/// How every change stands, and what each node gets.
pub struct Targets<'a>(BTreeMap<&'a str, Wave<'a>>);

impl<'a> Targets<'a> {
    /// Judges every change.
    pub fn new(known: &Known<'a>) -> Self {
        let components = known.input.components.iter().filter(|c| !c.removed);
        let waves = components.filter_map(|c| Some((c.id.as_str(), wave(known, c, c.rollout.as_ref()?))));
        Self(waves.collect())
    }

    /// The change of a component.
    pub fn wave(&self, component: &Component) -> Option<&Wave<'a>> {
        self.0.get(component.id.as_str())
    }

    /// What a node gets.
    pub fn choice(&self, wanted: &Wanted<'a>) -> Choice<'a> {
        let wave = self.wave(wanted.component);
        wave.and_then(|w| w.choices.get(&wanted.node.id)).copied().unwrap_or_else(|| Choice::Use(aim(wanted)))
    }

    /// Changes that have to be turned back.
    pub fn reverts(&self) -> Vec<Revert> {
        self.0.values().filter_map(|wave| wave.revert.clone()).collect()
    }
}

/// The target that a choice stands for.
pub fn target<'a>(component: &'a Component, which: Which<'a>) -> &'a Target {
    match which {
        Which::Target => &component.target,
        Which::Before => component.rollout.as_ref().map_or(&component.target, |r| &r.before),
        Which::Own(scripts) => {
            let mut own = component.wishes.values().filter_map(|wish| wish.target.as_ref());
            own.find(|target| target.scripts == scripts).unwrap_or(&component.target)
        }
    }
}

/// What a node gets in the end.
pub fn aim<'a>(wanted: &Wanted<'a>) -> Which<'a> {
    wanted.wish.target.as_ref().map_or(Which::Target, |own| Which::Own(&own.scripts))
}

/// Whether the node's last assignment is of this target.
pub fn holds(node: &Node, target: &Target) -> bool {
    node.assignment.as_ref().is_some_and(|a| is_of(a, target))
}

/// Whether an assignment is of this target.
pub fn is_of(a: &straas_schemas::Assignment, target: &Target) -> bool {
    (&a.version, &a.config, &a.scripts) == (&target.version, &target.config, &target.scripts)
}

/// Whether a node's last assignment is what it gets in the end.
pub fn arrived(node: &Node, wanted: &Wanted<'_>) -> bool {
    holds(node, target(wanted.component, aim(wanted)))
}

/// A wanted node that is recorded.
type Pair<'a> = (&'a Wanted<'a>, &'a Node);

fn wave<'a>(known: &Known<'a>, component: &'a Component, rollout: &'a Rollout) -> Wave<'a> {
    let nodes = known.of_component(&component.id).iter();
    let nodes: Vec<Pair<'a>> = nodes.filter_map(|w| Some((*w, w.recorded?))).collect();
    let (before, after) = (&rollout.before, &component.target);
    let nothing_new =
        (&before.version, &before.config, &before.scripts) == (&after.version, &after.config, &after.scripts);
    let has = |pair: &Pair<'a>| arrived(pair.1, pair.0);
    let failing: Vec<Failing<'a>> = nodes.iter().filter(|p| has(p)).filter_map(|(w, node)| failing(w, node)).collect();
    let mut wave = Wave {
        rollout,
        phase: RolloutPhase::Rolling,
        canaries: Vec::new(),
        failing,
        revert: None,
        choices: BTreeMap::new(),
    };
    if rollout.reverted.is_some() {
        wave.phase = RolloutPhase::Reverting;
        return wave;
    }
    let mut picked = BTreeSet::new();
    if known.served(&component.id) && rollout.canary {
        // scripts of single nodes are on trial on each of these for itself
        let own = |(w, _): &&Pair<'a>| !nothing_new || w.wish.target.is_some();
        let concerned: Vec<Pair<'a>> = nodes.iter().filter(own).copied().collect();
        picked = canaries(known, component, &concerned, nothing_new, &mut wave);
    }
    let on_trial = wave.phase == RolloutPhase::Canary;
    if rollout.paused {
        wave.phase = RolloutPhase::Paused;
        picked.clear();
    } else if !on_trial && known.served(&component.id) && wave.failing.len() >= rollout.max_failures.max(1) as usize {
        wave.phase = RolloutPhase::Held;
    }
    if on_trial || wave.barred() {
        let barred = wave.barred();
        for pair in nodes.iter().filter(|p| !has(p)) {
            let (wanted, node) = *pair;
            let down = known.reachable(node) && known.broken(node) && !wanted.stopped();
            // who holds a permit is disturbed, or will be: nobody else gets one until it is through
            let nothing_to_lose = !serves(node) || down || held(node);
            let choice = if node.assignment.is_none() || picked.contains(&node.id) || (nothing_to_lose && !barred) {
                Choice::Use(aim(wanted))
            } else if holds(node, before) {
                Choice::Use(Which::Before)
            } else {
                Choice::Keep
            };
            wave.choices.insert(&node.id, choice);
        }
    }
    wave
}

/// Whether the nodes that go first are still on trial, who they are, and which are chosen now. `own`
/// if these nodes get scripts of their own.
fn canaries<'a>(
    known: &Known<'a>,
    component: &'a Component,
    nodes: &[Pair<'a>],
    own: bool,
    wave: &mut Wave<'a>,
) -> BTreeSet<&'a NodeId> {
    let mut picked = BTreeSet::new();
    let trials: BTreeSet<_> = nodes.iter().map(|(w, _)| trial_of(w, own)).collect();
    let alone = trials.len() == nodes.len();
    let everybody = !alone && nodes.iter().all(|(w, n)| n.assignment.is_none() || arrived(n, w));
    let disruption = desired::meta(component).map(|meta| &meta.disruption);
    let last = |node: &Node| disruption.is_some_and(|d| goes_last(node, d));
    for trial in trials {
        let able = |(w, n): &&Pair<'a>| trial_of(w, own) == trial && !w.stopped() && serves(n);
        let able: Vec<&Node> = nodes.iter().filter(able).map(|(_, node)| *node).collect();
        let has = |node: &&&'a Node| nodes.iter().any(|(w, n)| n.id == node.id && arrived(n, w));
        let trying: Vec<&Node> = able.iter().filter(has).copied().collect();
        if able.is_empty() || trying.iter().any(|n| confirmed(n) && works(n) && !known.broken(n)) {
            continue;
        }
        let failing = |n: &&Node| wave.failing.iter().any(|f| f.node.id == n.id);
        let hopeless = !trying.is_empty() && trying.iter().all(failing) && !trying.iter().any(|n| confirmed(n));
        if everybody && !hopeless {
            continue;
        }
        wave.phase = RolloutPhase::Canary;
        if trying.is_empty() {
            let well = able.iter().filter(|n| known.reachable(n) && !known.broken(n));
            // what works on a host that is to be replaced says nothing for long
            let goes = |n: &Node| nodes.iter().any(|(w, o)| o.id == n.id && n.host_number < w.wish.replacements);
            let best = well.min_by_key(|n| (!held(n), goes(n), last(n), n.ordinal));
            wave.canaries.extend(best.copied());
            picked.extend(best.map(|n| &n.id));
            continue;
        }
        // whoever had nothing to lose got it beside them: while one fails, of whatever role, and does not
        // work, nobody else gets a permit, not even one who holds it for something else
        let under_way = |n: &&Node| !failing(n) && !asks(n);
        if trying.iter().all(failing) || !trying.iter().any(under_way) {
            let own_fault = |f: &&Failing<'_>| trying.iter().any(|n| n.id == f.node.id);
            let concerned = |f: &Failing<'_>| nodes.iter().any(|(_, n)| n.id == f.node.id);
            let in_the_way = |f: &&Failing<'_>| concerned(f) && (known.broken(f.node) || !serves(f.node));
            let first = wave.failing.iter().find(own_fault).or_else(|| wave.failing.iter().find(in_the_way));
            let because = first.map(|f| revert(component, wave.rollout, trial_of(f.wanted, own).1, f));
            wave.revert = wave.revert.take().or(because);
        }
        wave.canaries.extend(trying);
    }
    picked
}

/// What is tried on a node: one works for all of its role, unless they get scripts of their own.
fn trial_of<'a>(wanted: &'a Wanted<'a>, own: bool) -> (&'a str, Which<'a>) {
    (&wanted.node.role, if own { aim(wanted) } else { Which::Target })
}

fn revert(component: &Component, rollout: &Rollout, which: Which<'_>, failing: &Failing<'_>) -> Revert {
    let (before, after) = (&rollout.before, target(component, which));
    let mut quarantine = Vec::new();
    if before.version != after.version {
        quarantine.push(Quarantined::Version { kind: component.kind.clone(), version: after.version.clone() });
    }
    if before.scripts != after.scripts {
        quarantine.push(Quarantined::Scripts(after.scripts.clone()));
    }
    let reason = format!("{} went first: {}", failing.node.name, failing.text);
    Revert { component: component.id.clone(), job: rollout.job.clone(), reason, quarantine }
}

/// How a stage failed, in the words of its script.
fn told(result: &StageResult) -> String {
    let (stage, times) = (result.stage, result.failed_times());
    if result.outcome == Outcome::Waiting {
        return format!("{stage} is not there yet, looked at {times} times too late: {}", result.reason);
    }
    let mut lines = result.output_tail.lines().rev();
    let line = lines.find(|l| !l.trim().is_empty() && !l.starts_with("@straas ")).unwrap_or(&result.reason);
    let hint = result.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    format!("{stage} failed {times} times: {}{hint}", line.trim())
}

/// Whether a node fails with what it was given last.
fn failing<'a>(wanted: &'a Wanted<'a>, node: &'a Node) -> Option<Failing<'a>> {
    let assignment = node.assignment.as_ref()?;
    if let Some((generation, reason)) = &node.refused
        && *generation == assignment.generation
        && !confirmed(node)
    {
        return Some(Failing { node, wanted, text: format!("it refused the assignment: {reason}") });
    }
    let failed = |stage: &Stage| {
        let (result, _) = node.stages.get(stage)?;
        (result.failed_times() >= ROLLOUT_FAILURES).then_some(result)
    };
    // the digests are looked at only of a node that fails at something
    let mut results = Stage::ALL.iter().filter_map(failed).peekable();
    results.peek()?;
    let expected = digests::effective(assignment, node);
    let result = results.find(|r| expected.get(&r.stage) == Some(&r.digest))?;
    Some(Failing { node, wanted, text: told(result) })
}
