//! Jobs: the workflow → stage → task DAG, derived from desired and observed; which steps a job has,
//! what each depends on, and how the whole stands.
//!
//! ```text
//! start ─► A/spawn ─► A/verify_spawn ─► A/install ─► A/pre_config ─► A/config ─► A/validate
//!      └─► B/spawn ─► B/verify_spawn ─► B/install ─────────────────► B/pre_config ─► …
//!                                                   A/validate ──────────┘  (B depends on A)
//! ```
//! Nothing of this is stored: asking twice derives it twice.
//!
//! Never here: how a node stands in a stage (`node_steps.rs`).

use crate::desired::Wanted;
use crate::membership;
use crate::node_steps::{on_node, operation, removed};
use crate::operations::Progress as Operation;
use crate::picture::Picture;
use crate::targets::arrived;
use crate::{Component, Host, Node, OpenJob};
use straas_schemas::job::{Job, JobKind, JobStage, JobStanding, NodeStep, Progress, Step};
use straas_schemas::view::RolloutPhase;
use straas_schemas::{ComponentId, NodeId};

/// The stages of a job of this kind, in the order of the work.
const fn stages(kind: JobKind) -> &'static [JobStage] {
    use JobStage::{
        Agent, Cname, Config, Files, Halt, Install, Join, Leave, PreConfig, Prepare, Remove, Spawn, Validate,
        VerifySpawn,
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
        JobKind::Files => &[Files],
        JobKind::Agent => &[Agent],
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
    let host = |n: &Node| n.host.is_up() && n.host_number >= wanted.wish.replacements;
    joined && wanted.recorded.is_some_and(|n| host(n) && arrived(n, wanted) && picture.settled(n))
}

fn component_settled(picture: &Picture<'_>, component: &Component) -> bool {
    let known = picture.known;
    known.fault(component).is_none()
        && known.of_component(&component.id).iter().all(|w| !w.detained && node_settled(picture, w))
        && known.rid_of_leavers(&component.id)
}

/// How a job stands, and what is to be said about it beside what was asked for.
fn standing(picture: &Picture<'_>, open: &OpenJob, steps: &[Step]) -> (JobStanding, String) {
    let known = picture.known;
    let operations = &picture.gates.operations;
    let gone = || known.unwanted.iter().all(|node| node.host == Host::Absent);
    let retrying = steps.iter().any(|step| step.progress == Progress::Retrying);
    let going = if retrying { JobStanding::Failing } else { JobStanding::Running };
    let scope = scope(picture, open);
    match open.kind {
        // what is gone for good succeeds in the same plan that forgets it: there is no later one
        JobKind::Delete if known.input.topology.deleting && gone() && operations.released_all() => {
            return (JobStanding::Succeeded, left_behind(picture, &scope));
        }
        JobKind::Delete => return (going, String::new()),
        _ if known.input.topology.deleting => return (JobStanding::Superseded, String::new()),
        JobKind::Remove => {
            let gone = scope.iter().all(|c| known.rid_of_leavers(&c.id) && operations.released(&c.id));
            return (if gone { JobStanding::Succeeded } else { going }, left_behind(picture, &scope));
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
    if matches!(open.kind, JobKind::Files | JobKind::Agent) {
        // a node that fails at something else has its files, and its agent, all the same
        let placed = steps.iter().all(|step| step.progress == Progress::Done);
        return (if placed { JobStanding::Succeeded } else { going }, String::new());
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

/// What a removal leaves on components that stay, in words.
fn left_behind(picture: &Picture<'_>, scope: &[&Component]) -> String {
    let left: Vec<&str> = scope.iter().flat_map(|c| picture.gates.operations.left_behind(&c.id)).collect();
    if left.is_empty() { String::new() } else { format!("left behind: {}", left.join("; ")) }
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
                // what another topology does is not part of this job: the nodes say for whom they wait
                let own = picture.known.dependencies(component).filter(|d| d.home.is_none());
                after.extend(own.map(|d| step_id(d.component, JobStage::Validate)));
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
            let new = |w: &&Wanted<'_>| w.recorded.is_none_or(|n| added_by(n, open));
            of_component.filter(new).map(|w| on_node(picture, w, stage)).collect()
        }
        _ => of_component.map(|w| on_node(picture, w, stage)).collect(),
    }
}

/// Whether a node was added by this job, or is not known to have been added by another.
fn added_by(node: &Node, open: &OpenJob) -> bool {
    node.assignment.is_none() || membership::joined_by(node) == Some(open.id.as_str())
}

fn removal(picture: &Picture<'_>, only: Option<&ComponentId>) -> Vec<Step> {
    let mut out = Vec::new();
    let components = picture.known.input.components.iter();
    for component in components.filter(|c| only.is_none_or(|id| *id == c.id)) {
        let nodes = picture.known.unwanted.iter().filter(|n| n.component == component.id);
        let nodes = nodes.map(|node| removed(picture, node)).collect();
        out.push(step(component, JobStage::Remove, Vec::new(), nodes));
        let needs = picture.gates.operations.release.get(&component.id).into_iter().flatten();
        let needs: Vec<_> =
            needs.map(|need| operation(&NodeId(String::new()), &need.operation.command, need)).collect();
        if !needs.is_empty() {
            out.push(step(component, JobStage::Release, vec![step_id(component, JobStage::Remove)], needs));
        }
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
