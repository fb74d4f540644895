//! What is known, together with what should be: the difference between the two, node by node.

use crate::desired::Wanted;
use crate::gates::Gates;
use crate::observe::{Known, works};
use crate::permits::Grant;
use crate::{Node, digests, why};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::report::StageResult;
use straas_schemas::view::Why;
use straas_schemas::{Assignment, Digest, NodeId, Outcome, Stage};

/// The known world with the assignments that nodes should now have.
pub struct Picture<'a> {
    /// What is known.
    pub known: &'a Known<'a>,
    /// What each node should have.
    pub gates: Gates<'a>,
    expected: BTreeMap<&'a NodeId, BTreeMap<Stage, Digest>>,
    causes: BTreeMap<&'a NodeId, Why>,
}

impl<'a> Picture<'a> {
    /// Compares.
    pub fn new(known: &'a Known<'a>, gates: Gates<'a>) -> Self {
        let mut this = Self { known, gates, expected: BTreeMap::new(), causes: BTreeMap::new() };
        for (id, assignment) in &this.gates.assignments {
            if let Some(node) = known.recorded.get(id).filter(|node| !this.settled(node)) {
                this.expected.insert(id, digests::effective(assignment, node));
            }
        }
        this
    }

    /// With why each wanted node is where it is: jobs and views show that, a plan alone does not.
    pub fn explained(mut self) -> Self {
        self.causes = self.known.desired.iter().map(|w| (&w.node.id, why::wanted(&self, w))).collect();
        self
    }

    /// Why a wanted node is where it is.
    pub fn why(&self, wanted: &Wanted<'_>) -> Why {
        self.causes.get(&wanted.node.id).cloned().unwrap_or_else(why::unknown)
    }

    /// The same by id.
    pub fn why_of(&self, node: &NodeId) -> Option<&Why> {
        self.causes.get(node)
    }

    /// The assignments that have to be written.
    pub fn into_changed(self) -> Vec<Assignment> {
        let new = |assignment: Cow<'_, Assignment>| match assignment {
            Cow::Owned(new) => Some(new),
            Cow::Borrowed(_) => None,
        };
        self.gates.assignments.into_values().filter_map(new).collect()
    }

    /// The nodes that are given something now only because of what others have: a permit, a turn to
    /// join or leave, another host.
    pub fn granted(&self) -> Vec<NodeId> {
        let given = |(id, grant): (&&NodeId, &Grant)| matches!(grant, Grant::Given(..)).then(|| (*id).clone());
        let mut out: BTreeSet<NodeId> = self.gates.permits.grants.iter().filter_map(given).collect();
        out.extend(self.gates.permits.replaced.iter().map(|id| (*id).clone()));
        out.extend(self.gates.permits.halted.iter().map(|id| (*id).clone()));
        out.extend(self.gates.stepped.iter().cloned());
        out.into_iter().collect()
    }

    /// The generation a node should have.
    pub fn generation(&self, node: &NodeId) -> Option<u64> {
        self.gates.assignments.get(node).map(|a| a.generation)
    }

    /// The newest result of a stage if it was of what is wanted now.
    pub fn result(&self, node: &'a Node, stage: Stage) -> Option<(&'a StageResult, i64)> {
        let (result, at) = node.stages.get(&stage)?;
        if self.settled(node) {
            return Some((result, *at));
        }
        let expected = self.expected.get(&node.id)?.get(&stage)?;
        (result.digest == *expected).then_some((result, *at))
    }

    /// Whether a stage is done as wanted now, and all before it.
    pub fn done(&self, node: &'a Node, stage: Stage) -> bool {
        // a node may have dropped a report, never the one that it converged
        self.settled(node)
            || Stage::ALL
                .iter()
                .take_while(|s| **s <= stage)
                .all(|s| self.result(node, *s).is_some_and(|(r, _)| r.outcome == Outcome::Succeeded))
    }

    /// Whether the node confirmed the assignment it should have, and works if it is to. Converged is what the
    /// node confirmed for that generation, nothing else.
    pub fn settled(&self, node: &Node) -> bool {
        let stopped = || self.known.wanted.get(&node.id).is_some_and(|w| w.stopped());
        self.generation(&node.id) == Some(node.converged_generation) && (works(node) || stopped())
    }

    /// The first stage that is not done, if any.
    pub fn current(&self, node: &'a Node) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| !self.done(node, *stage))
    }
}
