//! Why a node is where it is: the one cause that blocks it, with the evidence.
//!
//! The causes are tried in the order in which they block: without a host nothing else matters,
//! without an agent no stage does.

use crate::desired;
use crate::gates::Block;
use crate::observe::Silence;
use crate::permits::Grant;
use crate::picture::Picture;
use crate::{Component, Host, NewNode, Node};
use std::collections::BTreeMap;
use straas_schemas::heartbeat::Activity;
use straas_schemas::view::{Cause, Why};
use straas_schemas::{Gate, Outcome, Stage};

fn why(cause: Cause, text: impl Into<String>, evidence: &[(&str, String)]) -> Why {
    let evidence = evidence.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Why { cause, text: text.into(), evidence }
}

/// Why a node that is to be removed is still there.
pub fn deleting(node: &Node) -> Why {
    let host = if node.host == Host::Absent { "is gone" } else { "is being removed" };
    why(Cause::Deleting, format!("{} {host}", node.name), &[])
}

/// Of a node that nobody knows.
pub fn unknown() -> Why {
    why(Cause::AwaitingAgent, "nothing is known of it", &[])
}

/// Why a wanted node is where it is.
pub fn wanted(picture: &Picture<'_>, node: &NewNode, component: &Component) -> Why {
    let Some(observed) = picture.known.recorded.get(&node.id).copied() else {
        return sizeless(node, component).unwrap_or_else(|| spawning(&node.name));
    };
    if observed.host == Host::Absent
        && let Some(cause) = sizeless(node, component)
    {
        return cause;
    }
    host(observed)
        .or_else(|| silent(picture, observed))
        .or_else(|| unreadable(node, component))
        .or_else(|| refused(picture, observed))
        .unwrap_or_else(|| stage(picture, node, observed, component))
}

fn spawning(name: &str) -> Why {
    why(Cause::Spawning, format!("the host {name} is being made"), &[])
}

fn sizeless(node: &NewNode, component: &Component) -> Option<Why> {
    let problem = desired::flavor(component, &node.group).err()?;
    let text = format!("the host {} cannot be made: {problem}", node.name);
    Some(why(Cause::SpawnFailed, text, &[("error", problem)]))
}

fn unreadable(node: &NewNode, component: &Component) -> Option<Why> {
    let problem = desired::nature(component, &node.role).err()?;
    Some(why(Cause::AwaitingAgent, format!("it keeps what it has: {problem}"), &[("error", problem)]))
}

fn host(node: &Node) -> Option<Why> {
    match &node.host {
        Host::Absent => Some(spawning(&node.name)),
        Host::Failed(error) => Some(why(
            Cause::SpawnFailed,
            format!("the host {} could not be made; it is tried again", node.name),
            &[("error", error.clone())],
        )),
        Host::Up if node.incarnation == 0 => {
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

fn refused(picture: &Picture<'_>, node: &Node) -> Option<Why> {
    let (generation, reason) = node.refused.as_ref()?;
    let current = picture.generation(&node.id)?;
    // a newer agent may have taken it since
    (*generation == current && node.converged_generation < current)
        .then(|| why(Cause::Refused, format!("the agent refused generation {generation}: {reason}"), &[]))
}

fn stage(picture: &Picture<'_>, planned: &NewNode, node: &Node, component: &Component) -> Why {
    if picture.settled(node) {
        let text = format!("it holds generation {} and its service works", node.converged_generation);
        return why(Cause::Converged, text, &[]);
    }
    let current = picture.current(node);
    if let Some(stage) = current {
        if let Some(cause) = retrying(picture, node, stage) {
            return cause;
        }
        if let Some(cause) = gated(picture, planned, node, component, stage) {
            return cause;
        }
    }
    working(picture, node, current)
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

fn gated(picture: &Picture<'_>, planned: &NewNode, node: &Node, component: &Component, stage: Stage) -> Option<Why> {
    let order = picture.gates.assignments.get(&node.id)?.order(stage)?;
    match &order.gate {
        Gate::Open => None,
        Gate::Closed { why: text } => match picture.gates.block(picture.known, component, planned) {
            Some(Block::Addresses(names)) => {
                let text = format!("{stage} waits for the address of {}", brief(&names));
                Some(why(Cause::AwaitingPeers, text, &[("without_address", names.join(", "))]))
            }
            Some(Block::Dependency { component, node, done, total }) => Some(why(
                Cause::AwaitingDependency,
                format!("{stage} waits for component {component}: {done} of {total} nodes work"),
                &[("component", component), ("node", node)],
            )),
            None => Some(why(Cause::AwaitingAgent, text.clone(), &[])),
        },
        Gate::Permit { .. } => match picture.gates.grants.get(&node.id)? {
            Grant::Given(_) | Grant::Free => None,
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
