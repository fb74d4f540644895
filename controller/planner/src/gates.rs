//! What each node is assigned, and which of its stages may run.
//!
//! - `install` and `validate` are open, unless installing disturbs the running version.
//! - `pre_config` waits for the addresses of peers, for the components the node depends on and the
//!   operations on them, and for its turn to join. Once it was opened for some inputs it stays open
//!   for them: a dependency that stumbles later closes nothing.
//! - `config` is open while there is nothing to disturb. That ends when the node is known to have
//!   worked, and also when inputs change after a node *may* have configured itself: its reports
//!   can be late while it serves. From then on it needs a permit (`permits.rs`).
//!
//! What an assignment is made of stands in `assign.rs`.

use crate::assign::Common;
use crate::desired::Wanted;
use crate::membership::{joined, joined_by};
use crate::observe::{Known, newcomer, opened};
use crate::operations::{Need, Operations, Progress};
use crate::permits::{self, Drafted, Grant, Permits};
use crate::roster::Rosters;
use crate::targets::{Choice, Targets, Which};
use crate::{Component, Node};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::job::JobKind;
use straas_schemas::{Assignment, Gate, Lifecycle, NodeId};

/// What keeps `pre_config` closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// These nodes have no address yet.
    Addresses(Vec<String>),
    /// This component does not work yet.
    Dependency {
        /// The component's name.
        component: String,
        /// Its first node that does not work.
        node: String,
        /// Nodes that work.
        done: usize,
        /// All its nodes.
        total: usize,
    },
    /// An operation on a component that it depends on has not been done.
    Operation {
        /// The command.
        command: String,
        /// How it stands.
        standing: String,
    },
    /// It is not its turn to join.
    Membership(String),
}

impl Block {
    /// In words, without what moves: each change of these words is a new generation.
    pub fn text(&self) -> String {
        match self {
            Self::Addresses(_) => "waiting for the addresses of the component's hosts".to_owned(),
            Self::Dependency { component, .. } => format!("waiting for component {component} to work"),
            Self::Operation { command, .. } => format!("waiting for {command} on a component it depends on"),
            Self::Membership(_) => "waiting for its turn to join".to_owned(),
        }
    }
}

/// What every wanted node should have, and all that follows on the way there.
pub struct Gates<'a> {
    /// Borrowed: it has that already. Owned: it is to be written, its generation is raised.
    pub assignments: BTreeMap<&'a NodeId, Cow<'a, Assignment>>,
    /// How changes stand.
    pub targets: Targets<'a>,
    /// Who is listed to whom.
    pub rosters: Rosters<'a>,
    /// Operations.
    pub operations: Operations<'a>,
    /// What became of requests to disturb.
    pub permits: Permits<'a>,
    /// Nodes whose `pre_config` is closed for what they get now, and why.
    pub blocks: BTreeMap<&'a NodeId, Block>,
    /// Nodes whose new assignment rests on what others have.
    pub stepped: Vec<NodeId>,
}

impl<'a> Gates<'a> {
    /// Judges every wanted node.
    pub fn new(known: &'a Known<'a>) -> Self {
        let (targets, rosters) = (Targets::new(known), Rosters::new(known));
        let operations = Operations::new(known);
        let mut assignments = BTreeMap::new();
        let (mut blocks, mut drafts, mut kept) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut drafted = Drafted { stable: BTreeSet::new(), kept: BTreeSet::new() };
        let mut roles: BTreeMap<(&str, &str, Which<'a>), Option<Common<'_, 'a>>> = BTreeMap::new();
        for wanted in known.desired {
            let recorded = wanted.recorded;
            let last = recorded.and_then(|n| n.assignment.as_ref());
            let Choice::Use(which) = targets.choice(wanted) else {
                if let Some(last) = last {
                    drafted.kept.insert(&wanted.node.id);
                    kept.push((wanted, last));
                }
                continue;
            };
            let key = (wanted.component.id.as_str(), wanted.node.role.as_str(), which);
            let common = roles.entry(key).or_insert_with(|| Common::new(known, &rosters, &operations, wanted, which));
            if let Some(common) = common {
                let (draft, block) = common.draft(wanted, recorded, hard_wait(&rosters, wanted, recorded));
                if let Some(block) = block {
                    blocks.insert(&wanted.node.id, block);
                }
                if draft.last.is_some() && draft.same_inputs {
                    drafted.stable.insert(&wanted.node.id);
                }
                drafts.push((wanted, key, draft));
            } else if let Some(last) = last {
                // what it should be cannot be read: it keeps what it has
                kept.push((wanted, last));
            }
        }
        let permits = Permits::new(known, &targets, &rosters, &drafted);
        let mut stepped = Vec::new();
        for (wanted, key, mut draft) in drafts {
            match permits.grants.get(&wanted.node.id) {
                Some(Grant::Given(stage, digest)) => {
                    draft.gates[*stage as usize] = Gate::Permit { granted: Some(digest.clone()) };
                }
                Some(Grant::Free(stage)) => draft.gates[*stage as usize] = Gate::Open,
                _ => {}
            }
            let Some(Some(common)) = roles.get(&key) else { continue };
            let assignment =
                common.finish(wanted, &draft, permits.lifecycle(wanted), added_by(known, &rosters, wanted, draft.last));
            if matches!(assignment, Cow::Owned(_)) && rosters.steps.contains_key(&(key.0, key.1)) {
                stepped.push(wanted.node.id.clone());
            }
            assignments.insert(&wanted.node.id, assignment);
        }
        drop(roles);
        for (wanted, last) in kept {
            let lifecycle = permits.lifecycle(wanted);
            assignments.insert(&wanted.node.id, with_lifecycle(last, lifecycle));
        }
        let leave =
            known.unwanted.iter().filter_map(|node| Some((&node.id, Cow::Owned(permits::of_leaver(known, node)?))));
        assignments.extend(leave);
        Self { assignments, targets, rosters, operations, permits, blocks, stepped }
    }
}

/// The last assignment, with nothing changed but whether the services run.
fn with_lifecycle(last: &Assignment, lifecycle: Lifecycle) -> Cow<'_, Assignment> {
    if last.lifecycle == lifecycle {
        return Cow::Borrowed(last);
    }
    let generation = last.generation.saturating_add(1);
    Cow::Owned(Assignment { generation, lifecycle, ..last.clone() })
}

/// What a node's turn to join waits for, and whether that closes what was opened for its last host.
fn hard_wait(rosters: &Rosters<'_>, wanted: &Wanted<'_>, node: Option<&Node>) -> Option<(Block, bool)> {
    let steps = rosters.steps.get(&(wanted.component.id.as_str(), wanted.node.role.as_str()))?;
    match steps.waits.get(&wanted.node.id) {
        Some(text) => Some((Block::Membership(text.clone()), node.is_some_and(|n| !newcomer(n)))),
        // it will be known to the others in a later step
        None if node.is_none() => Some((Block::Membership("its host is being made".to_owned()), false)),
        None => None,
    }
}

/// The job that added a node to a component which worked already, or had members; empty if no job
/// is known.
fn added_by<'a>(
    known: &Known<'a>,
    rosters: &Rosters<'_>,
    wanted: &Wanted<'_>,
    node: Option<&'a Node>,
) -> Option<&'a str> {
    let id = &wanted.component.id;
    let steps = rosters.steps.get(&(id.as_str(), wanted.node.role.as_str()));
    let outsider = steps.is_some_and(|s| s.outsiders.contains(&wanted.node.id));
    if let Some(node) = node.filter(|n| n.assignment.is_some() && (joined(n) || opened(n) || !outsider)) {
        return joined_by(node);
    }
    let adds =
        |j: &&crate::OpenJob| matches!(j.kind, JobKind::Flexup | JobKind::Change) && j.component.as_ref() == Some(id);
    let job = || known.input.jobs.iter().rev().find(adds).map_or("", |job| job.id.as_str());
    (known.served(id) || outsider).then(job)
}

/// What blocks every node of a role, besides addresses.
pub fn blocked<'a>(known: &Known<'a>, operations: &Operations<'a>, component: &'a Component) -> Option<Block> {
    let idle = known.dependencies(component).find_map(|dependency| {
        let id = &dependency.component.id;
        let all = known.of_component(id).iter();
        // newcomers are not listed to those that depend on it, and one that is to stand still is no fault
        let counts = |w: &&&Wanted<'_>| !w.stopped() && (!known.served(id) || w.recorded.is_some_and(|n| !newcomer(n)));
        let all: Vec<_> = all.filter(counts).collect();
        let works = all.iter().filter(|w| w.works()).count();
        let node = all.iter().find(|w| !w.works()).map(|w| w.node.name.clone());
        let node = if all.is_empty() { Some("stopped".to_owned()) } else { node }?;
        Some(Block::Dependency { component: dependency.name.to_owned(), node, done: works, total: all.len() })
    });
    let unprepared = || operations.unprepared(&component.id).map(|need| operation(need));
    idle.or_else(unprepared)
}

fn operation(need: &Need<'_>) -> Block {
    let standing = match &need.progress {
        Progress::Done => String::new(),
        Progress::Waits(text) | Progress::Failed(text) | Progress::GivenUp(text) => text.clone(),
        Progress::Runs => "it is queued or runs".to_owned(),
    };
    Block::Operation { command: need.operation.command.clone(), standing }
}
