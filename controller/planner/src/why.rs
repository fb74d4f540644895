//! Why a node is where it is: the one cause that blocks it, with the evidence.
//!
//! The causes are tried in the order in which they block: without a host nothing else matters,
//! without an agent no stage does.

use crate::desired::{self, Wanted};
use crate::gates::Block;
use crate::observe::{Silence, unstopped};
use crate::operations::Progress;
use crate::permits::Grant;
use crate::picture::Picture;
use crate::targets::{Choice, aim, arrived};
use crate::{Component, Host, NewNode, Node, departures};
use std::collections::BTreeMap;
use straas_schemas::heartbeat::Activity;
use straas_schemas::view::{Cause, HostFailure, RolloutPhase, Why};
use straas_schemas::{Gate, Outcome, Stage};

fn why(cause: Cause, text: impl Into<String>, evidence: &[(&str, String)]) -> Why {
    let evidence = evidence.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Why { cause, text: text.into(), evidence }
}

/// Why a node that is to be removed is still there.
pub fn deleting(picture: &Picture<'_>, node: &Node) -> Why {
    if let Some(text) = departures::kept_by(picture.known, &picture.gates, node) {
        return why(Cause::AwaitingOperation, format!("{} leaves: {text}", node.name), &[]);
    }
    if let Host::Failed(failure) = &node.host {
        let text = format!("the host of {} could not be removed; it is tried again", node.name);
        return why(Cause::Deleting, text, &tried(failure));
    }
    let host = if node.host == Host::Absent { "is gone" } else { "is being removed" };
    why(Cause::Deleting, format!("{} {host}", node.name), &[])
}

/// Of a node that nobody knows.
pub fn unknown() -> Why {
    why(Cause::AwaitingAgent, "nothing is known of it", &[])
}

/// Why a wanted node is where it is.
pub fn wanted<'a>(picture: &Picture<'a>, wanted: &Wanted<'a>) -> Why {
    let (node, component) = (&wanted.node, wanted.component);
    let Some(observed) = wanted.recorded else {
        return sizeless(node, component).unwrap_or_else(|| spawning(&node.name));
    };
    if observed.host == Host::Absent
        && let Some(cause) = sizeless(node, component)
    {
        return cause;
    }
    host(observed)
        .or_else(|| silent(picture, observed))
        .or_else(|| unwritable(observed))
        .or_else(|| unreadable(picture, node, component))
        .or_else(|| refused(picture, observed))
        .or_else(|| another_host(picture, observed))
        .unwrap_or_else(|| stage(picture, wanted, observed))
}

fn spawning(name: &str) -> Why {
    why(Cause::Spawning, format!("the host {name} is being made"), &[])
}

fn sizeless(node: &NewNode, component: &Component) -> Option<Why> {
    let problem = desired::flavor(component, &node.group).err()?;
    let text = format!("the host {} cannot be made: {problem}", node.name);
    Some(why(Cause::SpawnFailed, text, &[("error", problem)]))
}

fn unreadable<'a>(picture: &Picture<'a>, node: &NewNode, component: &'a Component) -> Option<Why> {
    let lost = || picture.known.lost(component).map(|f| format!("nothing is known of {}, which it depends on", f.name));
    let problem = desired::nature(component, &component.target, &node.role).err().or_else(lost)?;
    Some(why(Cause::AwaitingAgent, format!("it keeps what it has: {problem}"), &[("error", problem)]))
}

fn tried(failure: &HostFailure) -> [(&'static str, String); 3] {
    let next = failure.next_retry_ms.map(|ms| ms.to_string()).unwrap_or_default();
    [("error", failure.reason.clone()), ("attempt", failure.attempt.to_string()), ("next_retry_ms", next)]
}

fn host(node: &Node) -> Option<Why> {
    match &node.host {
        Host::Absent => Some(spawning(&node.name)),
        Host::Failed(failure) => Some(why(
            Cause::SpawnFailed,
            format!("the host {} could not be made; it is tried again", node.name),
            &tried(failure),
        )),
        Host::Up if !node.enrolled => {
            let address = node.address.clone().unwrap_or_default();
            Some(why(
                Cause::AwaitingEnrolment,
                "the host runs; its agent has not enrolled yet",
                &[("address", address)],
            ))
        }
        Host::Up => None,
    }
}

fn silent(picture: &Picture<'_>, node: &Node) -> Option<Why> {
    let (_, at) = node.heartbeat.as_ref()?;
    let quiet = picture.known.input.now_ms.saturating_sub(*at);
    (picture.known.silence(node) == Silence::Unreachable).then(|| {
        let text = format!("no heartbeat for {} s; it goes on by itself and reports when it is back", quiet / 1000);
        why(Cause::Unreachable, text, &[("last_heartbeat_ms", at.to_string())])
    })
}

/// Its agent is heard and can do nothing that has to outlast a crash.
fn unwritable(node: &Node) -> Option<Why> {
    let (beat, _) = node.heartbeat.as_ref().filter(|(beat, _)| !beat.ledger_writable)?;
    let fault = beat.ledger_fault.as_deref().unwrap_or("its ledger takes no write");
    let text = format!("it begins nothing new, and goes on with what it does: {fault}");
    Some(why(Cause::CannotWrite, text, &[("error", fault.to_owned())]))
}

fn refused(picture: &Picture<'_>, node: &Node) -> Option<Why> {
    let (generation, reason) = node.refused.as_ref()?;
    let current = picture.generation(&node.id)?;
    // a newer agent may have taken it since
    (*generation == current && node.converged_generation < current)
        .then(|| why(Cause::Refused, format!("the agent refused generation {generation}: {reason}"), &[]))
}

/// A replacement that waits for others, or is under way.
fn another_host(picture: &Picture<'_>, node: &Node) -> Option<Why> {
    let permits = &picture.gates.permits;
    if permits.replaced.contains(&node.id) {
        return Some(why(Cause::Spawning, format!("the host of {} is replaced by another", node.name), &[]));
    }
    if permits.halted.contains(&node.id) {
        let text = format!("its service is stopped, then the host of {} is replaced by another", node.name);
        return Some(unstoppable(node).unwrap_or_else(|| why(Cause::Spawning, text, &[])));
    }
    let others = permits.waiting.get(&node.id)?;
    let text = format!("its host is replaced when the others allow it; it waits for {}", brief(others));
    Some(why(Cause::AwaitingPermit, text, &[("held_by", others.join(", "))]))
}

fn stage(picture: &Picture<'_>, wanted: &Wanted<'_>, node: &Node) -> Why {
    if let Some(cause) = let_through(picture, wanted, node) {
        return cause;
    }
    if picture.settled(node) {
        // it holds everything and asks all the same: to put right what somebody changed on its host
        if picture.gates.permits.grants.contains_key(&node.id)
            && let Some(cause) = gated(picture, node, wanted.component, Stage::Config)
        {
            return cause;
        }
        let what = if wanted.stopped() { "its service is stopped, as wanted" } else { "its service works" };
        let text = format!("it holds generation {} and {what}", node.converged_generation);
        return match joining(picture, node) {
            Some(cause) => cause,
            None => why(Cause::Converged, text, &[]),
        };
    }
    if let Some(cause) = unstoppable(node) {
        return cause;
    }
    let current = picture.current(node);
    if let Some(stage) = current {
        if let Some(cause) = retrying(picture, node, stage) {
            return cause;
        }
        if let Some(cause) = gated(picture, node, wanted.component, stage) {
            return cause;
        }
    }
    working(picture, node, current)
}

fn unstoppable(node: &Node) -> Option<Why> {
    let failed = unstopped(node)?;
    let next = failed.next_ms.to_string();
    let evidence =
        [("attempt", failed.attempt.to_string()), ("reason", failed.reason.to_owned()), ("next_retry_ms", next)];
    Some(why(Cause::Retrying, format!("its service cannot be stopped: {}", failed.reason), &evidence))
}

fn retrying(picture: &Picture<'_>, node: &Node, stage: Stage) -> Option<Why> {
    let (result, at) = picture.result(node, stage)?;
    let next = result.retry_in_ms.map(|ms| at.saturating_add_unsigned(ms).to_string()).unwrap_or_default();
    let evidence = [
        ("stage", stage.to_string()),
        ("attempt", result.attempt.to_string()),
        ("reason", result.reason.clone()),
        ("hint", result.hint.clone().unwrap_or_default()),
        ("output", result.output_tail.clone()),
        ("next_retry_ms", next),
    ];
    match result.outcome {
        Outcome::Failed => Some(why(Cause::Retrying, format!("{stage} failed: {}", result.reason), &evidence)),
        Outcome::Waiting => {
            Some(why(Cause::Working, format!("{stage} is not there yet: {}", result.reason), &evidence))
        }
        Outcome::Succeeded => None,
    }
}

/// Why a node does not have a change yet that others have.
fn let_through(picture: &Picture<'_>, wanted: &Wanted<'_>, node: &Node) -> Option<Why> {
    let wave = picture.gates.targets.wave(wanted.component)?;
    if arrived(node, wanted) || picture.gates.targets.choice(wanted) == Choice::Use(aim(wanted)) {
        return None;
    }
    let job = ("job", wave.rollout.job.to_string());
    match wave.phase {
        RolloutPhase::Paused => Some(why(Cause::Paused, "the change is paused by a user", &[job])),
        RolloutPhase::Held => {
            let failing = wave.failures();
            let text = format!("the change is held, because nodes fail with it: {}", brief(&failing));
            Some(why(Cause::Held, text, &[job, ("failing", failing.join("; "))]))
        }
        RolloutPhase::Canary => {
            let names: Vec<String> = wave.canaries.iter().map(|n| n.name.clone()).collect();
            let text = format!("{} go first with the change and have to work", brief(&names));
            Some(why(Cause::AwaitingCanary, text, &[job, ("canaries", names.join(", "))]))
        }
        RolloutPhase::Rolling | RolloutPhase::Reverting => None,
    }
}

/// The operation that follows once a node has joined.
fn joining(picture: &Picture<'_>, node: &Node) -> Option<Why> {
    let need = picture.gates.operations.join.get(&node.id)?;
    let text = match &need.progress {
        Progress::Done => return None,
        Progress::Runs => format!("it works; {} runs for it", need.operation.command),
        Progress::Waits(text) | Progress::Failed(text) | Progress::GivenUp(text) => {
            format!("it works; {} waits: {text}", need.operation.command)
        }
    };
    Some(why(Cause::AwaitingOperation, text, &[("command", need.operation.command.clone())]))
}

fn gated(picture: &Picture<'_>, node: &Node, component: &Component, stage: Stage) -> Option<Why> {
    let order = picture.gates.assignments.get(&node.id)?.order(stage)?;
    match &order.gate {
        Gate::Open => None,
        Gate::Closed { why: text } => match picture.gates.blocks.get(&node.id).cloned() {
            Some(Block::Addresses(names)) => {
                let text = format!("{stage} waits for the address of {}", brief(&names));
                Some(why(Cause::AwaitingPeers, text, &[("without_address", names.join(", "))]))
            }
            Some(Block::Dependency { component, node, done, total }) => Some(why(
                Cause::AwaitingDependency,
                format!("{stage} waits for component {component}: {done} of {total} nodes work"),
                &[("component", component), ("node", node)],
            )),
            Some(Block::Operation { command, standing }) => Some(why(
                Cause::AwaitingOperation,
                format!("{stage} waits for {command} on a component it depends on: {standing}"),
                &[("command", command)],
            )),
            Some(Block::Membership(turn)) => {
                Some(why(Cause::AwaitingMembership, format!("{stage} waits for its turn to join: {turn}"), &[]))
            }
            None => Some(why(Cause::AwaitingAgent, text.clone(), &[])),
        },
        Gate::Permit { .. } => match picture.gates.permits.grants.get(&node.id)? {
            Grant::Given(..) | Grant::Free(_) => None,
            Grant::Unsettled(nodes) => {
                let text = format!("{stage} waits for a permit until others have settled: {}", brief(nodes));
                Some(why(Cause::AwaitingPermit, text, &[("unsettled", nodes.join(", "))]))
            }
            Grant::Barred => Some(why(Cause::Paused, format!("{stage} waits: the change is paused or held"), &[])),
            Grant::Waits(holders) => {
                let text = match holders.as_slice() {
                    [] => format!("{stage} waits for a permit; {} allows none", component.kind),
                    holders => {
                        format!("{stage} waits for a permit to disturb the service; {} must work first", brief(holders))
                    }
                };
                Some(why(Cause::AwaitingPermit, text, &[("held_by", holders.join(", "))]))
            }
            Grant::Last(first) => {
                let text = format!("{stage} waits for a permit: by its facts it goes last, after {}", brief(first));
                Some(why(Cause::AwaitingPermit, text, &[("after", first.join(", "))]))
            }
        },
    }
}

/// The first names of a list that may be long.
fn brief(names: &[String]) -> String {
    match names {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        names => names.join(", "),
    }
}

fn working(picture: &Picture<'_>, node: &Node, current: Option<Stage>) -> Why {
    let generation = picture.generation(&node.id).unwrap_or(0);
    let Some((beat, _)) = &node.heartbeat else {
        return why(Cause::AwaitingAgent, "the agent has enrolled and has not sent a heartbeat yet", &[]);
    };
    if beat.generation < generation {
        let text = format!("the agent has generation {} and was not yet seen to take up {generation}", beat.generation);
        return why(Cause::AwaitingAgent, text, &[]);
    }
    let mut evidence = BTreeMap::new();
    let text = match &beat.activity {
        Activity::Running { stage, attempt, progress, percent, .. } => {
            evidence.insert("stage".to_owned(), stage.to_string());
            evidence.insert("attempt".to_owned(), attempt.to_string());
            if let Some(percent) = percent {
                evidence.insert("percent".to_owned(), percent.to_string());
            }
            progress.as_ref().map_or_else(|| format!("{stage} is running"), |text| format!("{stage}: {text}"))
        }
        Activity::Fetching { what } => format!("fetching {what}"),
        Activity::Retrying { stage, reason, .. } => format!("{stage} will run again: {reason}"),
        Activity::Gated { stage, why } => format!("{stage}: {why}"),
        Activity::Idle => {
            current.map_or_else(|| "about to confirm its generation".to_owned(), |s| format!("about to run {s}"))
        }
    };
    Why { cause: Cause::Working, text, evidence }
}
