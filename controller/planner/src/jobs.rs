//! Jobs: the workflow → stage → task DAG of the 2017 design, derived from desired and observed.
//!
//! ```text
//! start ─► A/spawn ─► A/verify_spawn ─► A/install ─► A/pre_config ─► A/config ─► A/validate
//!      └─► B/spawn ─► B/verify_spawn ─► B/install ─────────────────► B/pre_config ─► …
//!                                                   A/validate ──────────┘  (B depends on A)
//! ```
//! Nothing of this is stored: asking twice derives it twice.

use crate::desired::Wanted;
use crate::picture::Picture;
use crate::{Component, Host, NewNode, Node, OpenJob, why};
use straas_schemas::heartbeat::Activity;
use straas_schemas::job::{Job, JobKind, JobStage, JobStanding, NodeStep, Progress, Step};
use straas_schemas::view::Cause;
use straas_schemas::{Outcome, Stage};

/// The stages of a component that is created, in order.
const CREATE: [JobStage; 6] = [
    JobStage::Spawn,
    JobStage::VerifySpawn,
    JobStage::Install,
    JobStage::PreConfig,
    JobStage::Config,
    JobStage::Validate,
];
/// The stages of a component that is changed.
const CHANGE: [JobStage; 4] = [JobStage::Install, JobStage::PreConfig, JobStage::Config, JobStage::Validate];

/// Every open job as it stands.
pub fn jobs(picture: &Picture<'_>) -> Vec<Job> {
    picture.known.input.jobs.iter().map(|open| job(picture, open)).collect()
}

fn job(picture: &Picture<'_>, open: &OpenJob) -> Job {
    let input = picture.known.input;
    let steps = match open.kind {
        JobKind::Create | JobKind::Change if input.topology.deleting => Vec::new(),
        JobKind::Create => build(picture, &CREATE, true),
        JobKind::Change => build(picture, &CHANGE, false),
        JobKind::Delete => removal(picture),
    };
    let standing = standing(picture, open.kind, &steps);
    Job {
        id: open.id.clone(),
        kind: open.kind,
        topology: input.topology.id.clone(),
        topology_name: input.topology.name.clone(),
        tenant: input.topology.tenant.clone(),
        standing,
        detail: open.detail.clone(),
        created_ms: open.created_ms,
        finished_ms: standing.is_final().then_some(input.now_ms),
        steps,
    }
}

fn standing(picture: &Picture<'_>, kind: JobKind, steps: &[Step]) -> JobStanding {
    let known = picture.known;
    let settled = || {
        let node = |w: &Wanted<'_>| known.recorded.get(&w.node.id).is_some_and(|node| picture.settled(node));
        known.desired.iter().all(node) && known.input.components.iter().all(|c| known.fault(c).is_none())
    };
    let gone = known.unwanted.iter().all(|node| node.host == Host::Absent);
    let complete = steps.iter().all(|step| step.progress == Progress::Done);
    match (kind, known.input.topology.deleting) {
        (JobKind::Create | JobKind::Change, true) => JobStanding::Superseded,
        // what is gone for good succeeds in the same plan that forgets it: there is no later one
        (JobKind::Delete, deleting) if deleting && gone => JobStanding::Succeeded,
        (JobKind::Create | JobKind::Change, false) if complete && gone && settled() => JobStanding::Succeeded,
        _ if steps.iter().any(|step| step.progress == Progress::Retrying) => JobStanding::Failing,
        _ => JobStanding::Running,
    }
}

fn step_id(component: &Component, stage: JobStage) -> String {
    format!("{}/{}", component.name, stage.name())
}

fn build(picture: &Picture<'_>, stages: &[JobStage], with_start: bool) -> Vec<Step> {
    let mut out = Vec::new();
    if with_start {
        out.push(whole(JobStage::Start, Vec::new(), Progress::Done));
    }
    for component in &picture.known.input.components {
        let mut before = if with_start { vec![JobStage::Start.name().to_owned()] } else { Vec::new() };
        for stage in stages {
            let mut after = std::mem::replace(&mut before, vec![step_id(component, *stage)]);
            if *stage == JobStage::PreConfig {
                after.extend(picture.known.dependencies(component).map(|d| step_id(d, JobStage::Validate)));
            }
            let nodes = picture.known.of_component(&component.id).map(|n| on_node(picture, n, *stage)).collect();
            out.push(step(component, *stage, after, nodes));
        }
    }
    out
}

fn removal(picture: &Picture<'_>) -> Vec<Step> {
    let mut out = Vec::new();
    for component in &picture.known.input.components {
        let nodes = picture.known.unwanted.iter().filter(|n| n.component == component.id);
        let nodes = nodes
            .map(|node| NodeStep {
                progress: if node.host == Host::Absent { Progress::Done } else { Progress::Running },
                detail: why::deleting(node).text,
                ..blank(&node.id, &node.name)
            })
            .collect();
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

fn blank(node: &straas_schemas::NodeId, name: &str) -> NodeStep {
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

fn on_node(picture: &Picture<'_>, planned: &NewNode, stage: JobStage) -> NodeStep {
    let out = blank(&planned.id, &planned.name);
    let node = picture.known.recorded.get(&planned.id).copied();
    let set = |progress, detail: &str| NodeStep { progress, detail: detail.to_owned(), ..out.clone() };
    match stage {
        JobStage::Spawn => match node.map(|n| &n.host) {
            Some(Host::Up) => set(Progress::Done, ""),
            Some(Host::Failed(error)) => set(Progress::Retrying, error),
            Some(Host::Absent) | None => match picture.why_of(&planned.id).filter(|w| w.cause == Cause::SpawnFailed) {
                Some(why) => set(Progress::Waiting, &why.text),
                None => set(Progress::Running, "the host is being made"),
            },
        },
        JobStage::VerifySpawn => match node {
            Some(n) if n.incarnation > 0 => set(Progress::Done, ""),
            Some(n) if n.host.is_up() => set(Progress::Waiting, "the agent has not enrolled yet"),
            _ => set(Progress::Pending, ""),
        },
        JobStage::Install => in_stage(picture, node, Stage::Install, out),
        JobStage::PreConfig => in_stage(picture, node, Stage::PreConfig, out),
        JobStage::Config => in_stage(picture, node, Stage::Config, out),
        JobStage::Validate => in_stage(picture, node, Stage::Validate, out),
        JobStage::Start | JobStage::Remove | JobStage::Finish => out,
    }
}

fn in_stage(picture: &Picture<'_>, node: Option<&Node>, stage: Stage, mut out: NodeStep) -> NodeStep {
    let Some(node) = node.filter(|n| n.incarnation > 0) else { return out };
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
        Cause::AwaitingPeers | Cause::AwaitingDependency | Cause::AwaitingPermit | Cause::Unreachable | Cause::Refused
    )
}
