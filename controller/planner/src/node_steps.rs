//! How one node stands in a stage of a job.
//!
//! In each stage a node is done, at work, trying again, waiting for something outside of it, or not
//! there yet. What it waits for, it says in the words of `why.rs`.
//!
//! Never here: which nodes and stages a job has (`jobs.rs`).

use crate::desired::Wanted;
use crate::operations::{Need, Progress as Operation};
use crate::picture::Picture;
use crate::{Host, NewNode, Node, departures, observe, targets, why};
use straas_schemas::heartbeat::Activity;
use straas_schemas::job::{JobStage, NodeStep, Progress};
use straas_schemas::view::{Cause, HostFailure};
use straas_schemas::{NodeId, Outcome, Stage};

/// How a wanted node stands in a stage.
pub fn on_node(picture: &Picture<'_>, wanted: &Wanted<'_>, stage: JobStage) -> NodeStep {
    let planned: &NewNode = &wanted.node;
    let out = blank(&planned.id, &planned.name);
    let node = wanted.recorded;
    let set = |progress, detail: &str| NodeStep { progress, detail: detail.to_owned(), ..out.clone() };
    let why = || picture.why_of(&planned.id).map_or_else(String::new, |why| why.text.clone());
    match stage {
        JobStage::Spawn => match node.map(|n| &n.host) {
            Some(Host::Up) if node.is_some_and(|n| n.host_number < wanted.wish.replacements) => {
                set(Progress::Waiting, &why())
            }
            Some(Host::Up) => set(Progress::Done, ""),
            Some(Host::Failed(failure)) => failed(out.clone(), failure),
            Some(Host::Absent) | None => match picture.why_of(&planned.id).filter(|w| w.cause == Cause::SpawnFailed) {
                Some(why) => set(Progress::Waiting, &why.text),
                None => set(Progress::Running, "the host is being made"),
            },
        },
        JobStage::VerifySpawn => match node {
            Some(n) if n.host_number < wanted.wish.replacements => set(Progress::Pending, ""),
            Some(n) if n.host.is_up() && n.enrolled => set(Progress::Done, ""),
            Some(n) if n.host.is_up() => set(Progress::Waiting, "the agent has not enrolled yet"),
            _ => set(Progress::Pending, ""),
        },
        JobStage::Cname => match node.and_then(|n| Some((n, n.assignment.as_ref()?))) {
            Some((n, _)) if picture.settled(n) => set(Progress::Done, ""),
            Some((n, a)) if !a.hosts.is_empty() && heard_of(n) >= a.generation => set(Progress::Done, ""),
            Some((n, _)) if n.enrolled => set(Progress::Running, "the alias is on its way to the host"),
            _ => set(Progress::Pending, ""),
        },
        JobStage::Halt => match node {
            Some(n) if picture.settled(n) => set(Progress::Done, ""),
            Some(_) if !wanted.stopped() => set(Progress::Done, "is not to be stopped"),
            Some(n) => match observe::unstopped(n) {
                Some(failed) => NodeStep {
                    attempt: failed.attempt,
                    next_retry_ms: Some(failed.next_ms),
                    ..set(Progress::Retrying, failed.reason)
                },
                None => set(Progress::Running, &why()),
            },
            None => set(Progress::Running, &why()),
        },
        JobStage::Files => match node {
            Some(n) if picture.settled(n) => set(Progress::Done, ""),
            Some(n) if n.incarnation > 0 => files(picture, n, out),
            // a host that is yet to come gets them before anything else
            _ => set(Progress::Done, "has no host yet"),
        },
        JobStage::Agent => match node {
            Some(n) if n.host.is_up() && n.incarnation > 0 => agent(picture, wanted, n, out),
            // a host that is yet to come gets it as soon as its agent has an assignment
            _ => set(Progress::Done, "has no host yet"),
        },
        JobStage::Install => in_stage(picture, wanted, node, Stage::Install, out),
        JobStage::PreConfig => in_stage(picture, wanted, node, Stage::PreConfig, out),
        JobStage::Config => in_stage(picture, wanted, node, Stage::Config, out),
        JobStage::Validate => in_stage(picture, wanted, node, Stage::Validate, out),
        JobStage::Prepare
        | JobStage::Join
        | JobStage::Leave
        | JobStage::Start
        | JobStage::Remove
        | JobStage::Release
        | JobStage::Finish => out,
    }
}

/// The newest generation that a node's agent is known to have.
fn heard_of(node: &Node) -> u64 {
    node.heartbeat.as_ref().map_or(0, |(beat, _)| beat.generation).max(node.converged_generation)
}

/// How a node stands in fetching files: an agent does nothing else before they are in place.
fn files(picture: &Picture<'_>, node: &Node, out: NodeStep) -> NodeStep {
    let wanted = picture.generation(&node.id);
    let beat = node.heartbeat.as_ref().map(|(beat, _)| beat).filter(|beat| Some(beat.generation) >= wanted);
    let (progress, detail) = match beat.map(|beat| &beat.activity) {
        Some(Activity::Idle | Activity::Retrying { .. } | Activity::Gated { .. }) => (Progress::Done, String::new()),
        Some(Activity::Fetching { what }) => (Progress::Running, what.clone()),
        _ if node.stages.values().any(|(result, _)| Some(result.generation) >= wanted) => {
            (Progress::Done, String::new())
        }
        Some(Activity::Running { .. }) => (Progress::Running, String::new()),
        None if !picture.known.reachable(node) => {
            let why = picture.why_of(&node.id).map_or_else(String::new, |why| why.text.clone());
            (Progress::Waiting, why)
        }
        None => (Progress::Running, "on its way".to_owned()),
    };
    NodeStep { progress, detail, ..out }
}

/// How a node stands in being given another build of its agent. What it says of itself counts, and nothing else.
fn agent(picture: &Picture<'_>, wanted: &Wanted<'_>, node: &Node, out: NodeStep) -> NodeStep {
    let build = wanted.component.agent.as_ref().map(|build| &build.sha256);
    let said = node.heartbeat.as_ref().filter(|(beat, _)| beat.incarnation == node.incarnation);
    let said = said.map(|(beat, _)| beat.agent.as_ref());
    if let Some(reason) = said.flatten().and_then(|said| said.refuses(build)) {
        return NodeStep { progress: Progress::Retrying, detail: reason.to_owned(), ..out };
    }
    let (progress, detail) = match said {
        Some(Some(said)) if said.runs(build) => (Progress::Done, String::new()),
        _ if !picture.known.reachable(node) => {
            let why = picture.why_of(&node.id).map_or_else(String::new, |why| why.text.clone());
            (Progress::Waiting, why)
        }
        Some(None) => (Progress::Waiting, "its agent is of a package that cannot be replaced by a build".to_owned()),
        Some(Some(said)) if said.trial && said.sha256.as_ref() == build => {
            (Progress::Running, "is on trial: it has not reached a controller yet".to_owned())
        }
        Some(Some(said)) => (Progress::Running, said.coming.clone().unwrap_or_else(|| "on its way".to_owned())),
        None => (Progress::Running, "on its way".to_owned()),
    };
    NodeStep { progress, detail, ..out }
}

fn in_stage(
    picture: &Picture<'_>,
    wanted: &Wanted<'_>,
    node: Option<&Node>,
    stage: Stage,
    mut out: NodeStep,
) -> NodeStep {
    let Some(node) = node.filter(|n| n.enrolled) else { return out };
    if node.host_number < wanted.wish.replacements {
        return out;
    }
    let after_this = picture.gates.assignments.get(&node.id);
    if !after_this.is_some_and(|a| targets::is_of(a, targets::target(wanted.component, targets::aim(wanted)))) {
        // what it has is not yet what the job brings
        let text = picture.why_of(&node.id).map_or_else(String::new, |why| why.text.clone());
        return NodeStep { progress: Progress::Waiting, detail: text, ..out };
    }
    let why = picture.why_of(&node.id);
    let result = picture.result(node, stage);
    if let Some((result, _)) = result {
        out.attempt = result.attempt;
        out.duration_ms = Some(result.duration_ms);
    }
    if picture.done(node, stage) {
        out.progress = Progress::Done;
        return out;
    }
    if picture.current(node) != Some(stage) {
        return out;
    }
    if let Some((result, at)) = result.filter(|(r, _)| r.outcome != Outcome::Succeeded) {
        out.progress = if result.outcome == Outcome::Failed { Progress::Retrying } else { Progress::Waiting };
        out.detail = result.reason.clone();
        out.output_tail = result.output_tail.clone();
        out.hint = result.hint.clone();
        out.next_retry_ms = result.retry_in_ms.map(|ms| at.saturating_add_unsigned(ms));
    } else if let Some(why) = why.filter(|why| waits(why.cause)) {
        out.progress = Progress::Waiting;
        out.detail = why.text.clone();
    } else {
        out.progress = Progress::Running;
    }
    let beat = node.heartbeat.as_ref().map(|(beat, _)| &beat.activity);
    if let Some(Activity::Running { stage: running, attempt, progress, percent, .. }) = beat
        && *running == stage
        && out.progress != Progress::Waiting
    {
        // a new run has begun since the newest result
        if *attempt > out.attempt {
            out.progress = if out.attempt > 0 { out.progress } else { Progress::Running };
            out.attempt = *attempt;
        }
        if let Some(text) = progress.as_ref().filter(|_| out.progress == Progress::Running) {
            out.detail = text.clone();
        }
        out.percent = *percent;
    }
    out
}

/// Whether a cause lies outside of the node: it could go on, but may not or cannot be heard.
fn waits(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::AwaitingPeers
            | Cause::AwaitingDependency
            | Cause::AwaitingPermit
            | Cause::AwaitingCanary
            | Cause::AwaitingMembership
            | Cause::AwaitingOperation
            | Cause::Paused
            | Cause::Held
            | Cause::Unreachable
            | Cause::CannotWrite
            | Cause::Refused
    )
}

/// How an operation for a node stands.
pub fn operation(id: &NodeId, name: &str, need: &Need<'_>) -> NodeStep {
    let (progress, detail) = match &need.progress {
        Operation::Done => (Progress::Done, String::new()),
        Operation::Waits(text) => (Progress::Waiting, text.clone()),
        Operation::Runs => (Progress::Running, format!("{} runs", need.operation.command)),
        Operation::Failed(text) => (Progress::Retrying, text.clone()),
        Operation::GivenUp(text) => (Progress::Done, format!("given up: {text}")),
    };
    NodeStep { progress, detail, attempt: need.attempt, next_retry_ms: need.due_ms, ..blank(id, name) }
}

/// How the removal of a node's host stands.
pub fn removed(picture: &Picture<'_>, node: &Node) -> NodeStep {
    let text = why::deleting(picture, node).text;
    let step = blank(&node.id, &node.name);
    let (progress, detail) = match (&node.host, departures::kept_by(picture.known, &picture.gates, node)) {
        (Host::Absent, _) => (Progress::Done, text),
        (_, Some(_)) => (Progress::Waiting, text),
        (Host::Failed(failure), None) => return failed(step, failure),
        (Host::Up, None) => (Progress::Running, text),
    };
    NodeStep { progress, detail, ..step }
}

/// A host that could not be made or removed, and is tried again.
fn failed(step: NodeStep, failure: &HostFailure) -> NodeStep {
    NodeStep {
        progress: Progress::Retrying,
        detail: failure.reason.clone(),
        attempt: failure.attempt,
        next_retry_ms: failure.next_retry_ms,
        ..step
    }
}

fn blank(node: &NodeId, name: &str) -> NodeStep {
    NodeStep {
        node: node.clone(),
        name: name.to_owned(),
        progress: Progress::Pending,
        attempt: 0,
        duration_ms: None,
        detail: String::new(),
        percent: None,
        output_tail: String::new(),
        hint: None,
        next_retry_ms: None,
    }
}
