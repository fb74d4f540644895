//! Jobs: the workflow → stage → task DAG of the 2017 design, derived from desired and observed.
//!
//! ```text
//! start ─► A/spawn ─► A/verify_spawn ─► A/install ─► A/pre_config ─► A/config ─► A/validate
//!      └─► B/spawn ─► B/verify_spawn ─► B/install ─────────────────► B/pre_config ─► …
//!                                                   A/validate ──────────┘  (B depends on A)
//! ```
//! Nothing of this is stored: asking twice derives it twice.

use crate::desired::Wanted;
use crate::operations::{Need, Progress as Operation};
use crate::picture::Picture;
use crate::targets::{self, arrived};
use crate::{Component, Host, NewNode, Node, OpenJob, why};
use crate::{departures, membership};
use straas_schemas::heartbeat::Activity;
use straas_schemas::job::{Job, JobKind, JobStage, JobStanding, NodeStep, Progress, Step};
use straas_schemas::view::{Cause, RolloutPhase};
use straas_schemas::{ComponentId, NodeId, Outcome, Stage};

/// The stages of a job of this kind, in the order of the work.
const fn stages(kind: JobKind) -> &'static [JobStage] {
    use JobStage::{
        Cname, Config, Halt, Install, Join, Leave, PreConfig, Prepare, Remove, Spawn, Validate, VerifySpawn,
    };
    match kind {
        JobKind::Create => &[Spawn, VerifySpawn, Install, Cname, Prepare, PreConfig, Config, Validate],
        JobKind::Flexup => &[Spawn, VerifySpawn, Install, PreConfig, Config, Validate, Join],
        JobKind::Flexdown => &[Leave, Remove, PreConfig, Config, Validate],
        JobKind::Replace => &[Spawn, VerifySpawn, Install, Cname, PreConfig, Config, Validate],
        JobKind::Change => &[Leave, Remove, Spawn, VerifySpawn, Install, PreConfig, Config, Validate, Join],
        JobKind::Upgrade | JobKind::Configure | JobKind::Rollback | JobKind::Sync => {
            &[Install, PreConfig, Config, Validate]
        }
        JobKind::Start | JobKind::Restart => &[Config, Validate],
        JobKind::Stop => &[Halt],
        JobKind::Remove | JobKind::Delete => &[Remove],
    }
}

/// Every open job as it stands.
pub fn jobs(picture: &Picture<'_>) -> Vec<Job> {
    picture.known.input.jobs.iter().map(|open| job(picture, open)).collect()
}

/// Components whose change every node has, and whose job knows it.
pub fn rolled_out(picture: &Picture<'_>, jobs: &[Job]) -> Vec<ComponentId> {
    let over = |component: &&Component| {
        let Some(rollout) = &component.rollout else { return false };
        let told = jobs.iter().all(|job| job.id != rollout.job || job.standing.is_final());
        told && component_settled(picture, component)
    };
    picture.known.input.components.iter().filter(over).map(|c| c.id.clone()).collect()
}

fn job(picture: &Picture<'_>, open: &OpenJob) -> Job {
    let input = picture.known.input;
    let steps = match open.kind {
        JobKind::Delete => removal(picture, None),
        _ if input.topology.deleting => Vec::new(),
        JobKind::Remove => removal(picture, open.component.as_ref()),
        kind => build(picture, open, stages(kind)),
    };
    let (standing, more) = standing(picture, open, &steps);
    let detail = if more.is_empty() { open.detail.clone() } else { format!("{}; {more}", open.detail) };
    Job {
        id: open.id.clone(),
        kind: open.kind,
        component: open.component.clone(),
        topology: input.topology.id.clone(),
        topology_name: input.topology.name.clone(),
        tenant: input.topology.tenant.clone(),
        standing,
        detail,
        created_ms: open.created_ms,
        finished_ms: standing.is_final().then_some(input.now_ms),
        steps,
    }
}

/// The components that a job is about.
fn scope<'a>(picture: &Picture<'a>, open: &OpenJob) -> Vec<&'a Component> {
    let components = picture.known.input.components.iter();
    components.filter(|c| open.component.as_ref().is_none_or(|id| *id == c.id)).collect()
}

/// Whether a node has what it gets in the end, and is as it should be with it.
fn node_settled(picture: &Picture<'_>, wanted: &Wanted<'_>) -> bool {
    let joined = picture.gates.operations.join.get(&wanted.node.id).is_none_or(|n| n.progress == Operation::Done);
    let recorded = picture.known.recorded.get(&wanted.node.id);
    let host = |n: &Node| n.host.is_up() && n.host_number >= wanted.wish.replacements;
    joined && recorded.is_some_and(|n| host(n) && arrived(n, wanted) && picture.settled(n))
}

fn component_settled(picture: &Picture<'_>, component: &Component) -> bool {
    let known = picture.known;
    known.fault(component).is_none()
        && known.of_component(&component.id).iter().all(|w| node_settled(picture, w))
        && known.rid_of_leavers(&component.id)
}

/// How a job stands, and what is to be said about it beside what was asked for.
fn standing(picture: &Picture<'_>, open: &OpenJob, steps: &[Step]) -> (JobStanding, String) {
    let known = picture.known;
    let gone = || known.unwanted.iter().all(|node| node.host == Host::Absent);
    let retrying = steps.iter().any(|step| step.progress == Progress::Retrying);
    let going = if retrying { JobStanding::Failing } else { JobStanding::Running };
    let scope = scope(picture, open);
    match open.kind {
        // what is gone for good succeeds in the same plan that forgets it: there is no later one
        JobKind::Delete if known.input.topology.deleting && gone() => return (JobStanding::Succeeded, String::new()),
        JobKind::Delete => return (going, String::new()),
        _ if known.input.topology.deleting => return (JobStanding::Superseded, String::new()),
        JobKind::Remove => {
            let gone = scope.iter().all(|c| known.rid_of_leavers(&c.id));
            return (if gone { JobStanding::Succeeded } else { going }, String::new());
        }
        // what it was about was removed
        _ if scope.is_empty() || scope.iter().all(|c| c.removed) => return (JobStanding::Superseded, String::new()),
        _ => {}
    }
    let settled = scope.iter().filter(|c| !c.removed).all(|c| component_settled(picture, c));
    let wave = scope.iter().find_map(|c| picture.gates.targets.wave(c).filter(|w| w.rollout.job == open.id));
    if let Some(reverted) = wave.and_then(|w| w.rollout.reverted.as_ref()) {
        let back = if reverted.by_user { JobStanding::Cancelled } else { JobStanding::RolledBack };
        let text = if reverted.by_user { "taken back: " } else { "turned back: " };
        return (if settled { back } else { going }, format!("{text}{}", reverted.reason));
    }
    match wave {
        _ if settled => (JobStanding::Succeeded, String::new()),
        Some(wave) if wave.phase == RolloutPhase::Paused => (JobStanding::Paused, "paused by a user".to_owned()),
        Some(wave) if wave.phase == RolloutPhase::Held => {
            let failing = wave.failures();
            (JobStanding::Held, format!("held because nodes fail with it: {}", failing.join("; ")))
        }
        _ => (going, String::new()),
    }
}

fn step_id(component: &Component, stage: JobStage) -> String {
    format!("{}/{}", component.name, stage.name())
}

fn build(picture: &Picture<'_>, open: &OpenJob, stages: &[JobStage]) -> Vec<Step> {
    let with_start = open.kind == JobKind::Create;
    let mut out = Vec::new();
    if with_start {
        out.push(whole(JobStage::Start, Vec::new(), Progress::Done));
    }
    for component in scope(picture, open).into_iter().filter(|c| !c.removed) {
        let mut before = if with_start { vec![JobStage::Start.name().to_owned()] } else { Vec::new() };
        for stage in stages.iter().copied() {
            let nodes = nodes(picture, open, component, stage);
            // where nobody comes, leaves or moves there is no such step
            let always = with_start || matches!(stage, JobStage::Install | JobStage::PreConfig | JobStage::Config);
            let always = always && !matches!(stage, JobStage::Cname | JobStage::Prepare);
            if nodes.is_empty() && !always {
                continue;
            }
            let mut after = std::mem::replace(&mut before, vec![step_id(component, stage)]);
            let waits = matches!(stage, JobStage::Prepare)
                || (stage == JobStage::PreConfig && !out.iter().any(|s| s.id == step_id(component, JobStage::Prepare)));
            if waits {
                after.extend(picture.known.dependencies(component).map(|d| step_id(d, JobStage::Validate)));
            }
            out.push(step(component, stage, after, nodes));
        }
    }
    if open.component.is_some() {
        // what the other components do is not part of this job
        let own: Vec<String> = out.iter().map(|s| s.id.clone()).collect();
        out.iter_mut().for_each(|s| s.after.retain(|id| own.contains(id)));
    }
    out
}

/// The nodes that a stage of a job is about, and how each stands.
fn nodes(picture: &Picture<'_>, open: &OpenJob, component: &Component, stage: JobStage) -> Vec<NodeStep> {
    let known = picture.known;
    let of_component = known.of_component(&component.id).iter().copied();
    let operations = &picture.gates.operations;
    match stage {
        JobStage::Leave => {
            let leavers = known.leavers(&component.id);
            leavers.filter_map(|n| Some(operation(&n.id, &n.name, operations.leave.get(&n.id)?))).collect()
        }
        JobStage::Remove => known.leavers(&component.id).map(|n| removed(picture, n)).collect(),
        JobStage::Join => of_component
            .filter_map(|w| Some(operation(&w.node.id, &w.node.name, operations.join.get(&w.node.id)?)))
            .collect(),
        JobStage::Prepare => {
            let needs = operations.prepare.get(&component.id).into_iter().flatten();
            needs.map(|need| operation(&NodeId(String::new()), &need.operation.command, need)).collect()
        }
        JobStage::Cname => of_component.filter(|w| w.group.cname).map(|w| on_node(picture, w, stage)).collect(),
        JobStage::Spawn | JobStage::VerifySpawn if open.kind == JobKind::Replace => {
            of_component.filter(|w| w.wish.replacements > 0).map(|w| on_node(picture, w, stage)).collect()
        }
        JobStage::Spawn | JobStage::VerifySpawn if open.kind != JobKind::Create => {
            let new = |w: &&Wanted<'_>| known.recorded.get(&w.node.id).is_none_or(|n| added_by(n, open));
            of_component.filter(new).map(|w| on_node(picture, w, stage)).collect()
        }
        _ => of_component.map(|w| on_node(picture, w, stage)).collect(),
    }
}

/// Whether a node was added by this job, or is not known to have been added by another.
fn added_by(node: &Node, open: &OpenJob) -> bool {
    node.assignment.is_none() || membership::joined_by(node) == Some(open.id.as_str())
}

fn operation(id: &NodeId, name: &str, need: &Need<'_>) -> NodeStep {
    let (progress, detail) = match &need.progress {
        Operation::Done => (Progress::Done, String::new()),
        Operation::Waits(text) => (Progress::Waiting, text.clone()),
        Operation::Runs => (Progress::Running, format!("{} runs", need.operation.command)),
        Operation::Failed(text) => (Progress::Retrying, text.clone()),
    };
    NodeStep { progress, detail, ..blank(id, name) }
}

fn removed(picture: &Picture<'_>, node: &Node) -> NodeStep {
    let progress = match departures::kept_by(picture.known, &picture.gates, node) {
        _ if node.host == Host::Absent => Progress::Done,
        Some(_) => Progress::Waiting,
        None => Progress::Running,
    };
    NodeStep { progress, detail: why::deleting(picture, node).text, ..blank(&node.id, &node.name) }
}

fn removal(picture: &Picture<'_>, only: Option<&ComponentId>) -> Vec<Step> {
    let mut out = Vec::new();
    let components = picture.known.input.components.iter();
    for component in components.filter(|c| only.is_none_or(|id| *id == c.id)) {
        let nodes = picture.known.unwanted.iter().filter(|n| n.component == component.id);
        let nodes = nodes.map(|node| removed(picture, node)).collect();
        out.push(step(component, JobStage::Remove, Vec::new(), nodes));
    }
    let gone = out.iter().all(|s| s.progress == Progress::Done);
    let after = out.iter().map(|s| s.id.clone()).collect();
    out.push(whole(JobStage::Finish, after, if gone { Progress::Done } else { Progress::Pending }));
    out
}

fn whole(stage: JobStage, after: Vec<String>, progress: Progress) -> Step {
    Step {
        id: stage.name().to_owned(),
        component: None,
        component_name: String::new(),
        stage,
        after,
        done: u32::from(progress == Progress::Done),
        total: 1,
        progress,
        waiting_for: None,
        nodes: Vec::new(),
    }
}

#[allow(clippy::cast_possible_truncation)] // a component has at most some thousand nodes
fn step(component: &Component, stage: JobStage, after: Vec<String>, nodes: Vec<NodeStep>) -> Step {
    let count = |progress: Progress| nodes.iter().filter(|n| n.progress == progress).count();
    let any = |progress: Progress| count(progress) > 0;
    let progress = if count(Progress::Done) == nodes.len() {
        Progress::Done
    } else if any(Progress::Retrying) {
        Progress::Retrying
    } else if any(Progress::Running) {
        Progress::Running
    } else if any(Progress::Waiting) {
        Progress::Waiting
    } else if any(Progress::Done) {
        Progress::Running
    } else {
        Progress::Pending
    };
    let waiting_for = nodes.iter().find(|n| n.progress == Progress::Waiting).map(|n| n.detail.clone());
    Step {
        id: step_id(component, stage),
        component: Some(component.id.clone()),
        component_name: component.name.clone(),
        stage,
        after,
        done: count(Progress::Done) as u32,
        total: nodes.len() as u32,
        progress,
        waiting_for,
        nodes,
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

fn on_node(picture: &Picture<'_>, wanted: &Wanted<'_>, stage: JobStage) -> NodeStep {
    let planned: &NewNode = &wanted.node;
    let out = blank(&planned.id, &planned.name);
    let node = picture.known.recorded.get(&planned.id).copied();
    let set = |progress, detail: &str| NodeStep { progress, detail: detail.to_owned(), ..out.clone() };
    let why = || picture.why_of(&planned.id).map_or_else(String::new, |why| why.text.clone());
    match stage {
        JobStage::Spawn => match node.map(|n| &n.host) {
            Some(Host::Up) if node.is_some_and(|n| n.host_number < wanted.wish.replacements) => {
                set(Progress::Waiting, &why())
            }
            Some(Host::Up) => set(Progress::Done, ""),
            Some(Host::Failed(error)) => set(Progress::Retrying, error),
            Some(Host::Absent) | None => match picture.why_of(&planned.id).filter(|w| w.cause == Cause::SpawnFailed) {
                Some(why) => set(Progress::Waiting, &why.text),
                None => set(Progress::Running, "the host is being made"),
            },
        },
        JobStage::VerifySpawn => match node {
            Some(n) if n.host_number < wanted.wish.replacements => set(Progress::Pending, ""),
            Some(n) if n.host.is_up() && n.heartbeat.is_some() => set(Progress::Done, ""),
            Some(n) if n.incarnation > wanted.wish.replacements.into() => set(Progress::Done, ""),
            Some(n) if n.host.is_up() => set(Progress::Waiting, "the agent has not enrolled yet"),
            _ => set(Progress::Pending, ""),
        },
        JobStage::Cname => match node.and_then(|n| Some((n, n.assignment.as_ref()?))) {
            Some((n, _)) if picture.settled(n) => set(Progress::Done, ""),
            Some((n, a)) if !a.hosts.is_empty() && heard_of(n) >= a.generation => set(Progress::Done, ""),
            Some((n, _)) if n.incarnation > 0 => set(Progress::Running, "the alias is on its way to the host"),
            _ => set(Progress::Pending, ""),
        },
        JobStage::Halt => match node {
            Some(n) if picture.settled(n) => set(Progress::Done, ""),
            Some(_) if !wanted.stopped() => set(Progress::Done, "is not to be stopped"),
            _ => set(Progress::Running, &why()),
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
        | JobStage::Finish => out,
    }
}

/// The newest generation that a node's agent is known to have.
fn heard_of(node: &Node) -> u64 {
    node.heartbeat.as_ref().map_or(0, |(beat, _)| beat.generation).max(node.converged_generation)
}

fn in_stage(
    picture: &Picture<'_>,
    wanted: &Wanted<'_>,
    node: Option<&Node>,
    stage: Stage,
    mut out: NodeStep,
) -> NodeStep {
    let Some(node) = node.filter(|n| n.incarnation > 0) else { return out };
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
            | Cause::Refused
    )
}
