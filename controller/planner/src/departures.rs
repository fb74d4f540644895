//! Which hosts go: of nodes that nobody wants, and of nodes that are to get another one.
//!
//! Of a component or topology that goes as a whole, all at once. Of a component that stays, a node
//! leaves when its `leave` operation is done and, where members change one at a time, when its turn
//! has come. A node that never worked holds nothing and goes at once.
//!
//! Never here: how a host is removed. An unreachable node does not hold up anything: its host is
//! removed by whoever made it.

use crate::gates::Gates;
use crate::observe::{Known, newcomer};
use crate::operations::Progress;
use crate::{Component, Host, Node};
use straas_schemas::{ComponentId, NodeId};

/// What keeps a node that nobody wants; `None` if its host may go.
pub fn kept_by(known: &Known<'_>, gates: &Gates<'_>, node: &Node) -> Option<String> {
    if known.input.topology.deleting || known.component(&node.component).is_none_or(|c| c.removed) {
        return None;
    }
    if newcomer(node) && node.assignment.is_none() {
        return None;
    }
    if let Some(need) = gates.operations.leave.get(&node.id) {
        match &need.progress {
            Progress::Done => {}
            Progress::Runs => return Some(format!("{} runs first", need.operation.command)),
            Progress::Waits(text) | Progress::Failed(text) | Progress::GivenUp(text) => {
                return Some(format!("{} has to succeed first: {text}", need.operation.command));
            }
        }
    }
    let steps = gates.rosters.steps.get(&(node.component.as_str(), node.role.as_str()))?;
    if steps.may_go.contains(&node.id) {
        return None;
    }
    let text = if steps.held_up.is_empty() { "the others are configured without it first" } else { &steps.held_up };
    Some(text.to_owned())
}

/// The hosts that have to go now.
pub fn hosts(known: &Known<'_>, gates: &Gates<'_>) -> Vec<NodeId> {
    let leave = known.unwanted.iter().filter(|n| n.host != Host::Absent && kept_by(known, gates, n).is_none());
    let replaced = gates.permits.replaced.iter().map(|id| (*id).clone());
    leave.map(|n| n.id.clone()).chain(replaced).collect()
}

/// Nodes that nobody wants and that have no host any more. Of what goes as a whole they stay recorded
/// until all of it is forgotten: the job shows them, and what is left to do follows from them.
pub fn forgotten(known: &Known<'_>) -> Vec<NodeId> {
    let whole = |n: &Node| known.input.topology.deleting || known.component(&n.component).is_some_and(|c| c.removed);
    let gone = known.unwanted.iter().filter(|n| n.host == Host::Absent && !whole(n));
    gone.map(|n| n.id.clone()).collect()
}

/// Components that are to go and of which nothing is left, here or on what they depended on.
pub fn components(known: &Known<'_>, gates: &Gates<'_>) -> Vec<ComponentId> {
    let gone = |c: &&Component| c.removed && known.rid_of_leavers(&c.id) && gates.operations.released(&c.id);
    known.input.components.iter().filter(gone).map(|c| c.id.clone()).collect()
}
