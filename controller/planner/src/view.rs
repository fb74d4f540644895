//! The topology as people see it.

use crate::desired::Wanted;
use crate::observe::Silence;
use crate::picture::Picture;
use crate::targets::{Wave, arrived};
use crate::{Component, Host, Node, why};
use std::collections::BTreeMap;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::{Job, JobKind, JobStanding};
use straas_schemas::view::{
    Cause, ComponentView, Liveness, NodeView, RolloutView, StageView, Standing, TopologyView, Why,
};
use straas_schemas::{Lifecycle, Outcome, Stage, TopologyId};

/// The picture of a topology.
pub fn topology(picture: &Picture<'_>, jobs: &[Job]) -> TopologyView {
    let input = picture.known.input;
    let creating = jobs.iter().any(|j| j.kind == JobKind::Create && !j.standing.is_final());
    let components: Vec<_> = input.components.iter().map(|c| component(picture, c, creating)).collect();
    let failing = jobs.iter().any(|j| j.standing == JobStanding::Failing);
    let status = if input.topology.deleting {
        Standing::Deleting
    } else if components.iter().any(|c| c.status == Standing::Degraded) || failing {
        Standing::Degraded
    } else if creating {
        Standing::Creating
    } else if components.iter().all(|c| c.status == Standing::Active) {
        Standing::Active
    } else {
        Standing::Changing
    };
    TopologyView {
        id: input.topology.id.clone(),
        name: input.topology.name.clone(),
        availability_zone: input.topology.zone.clone(),
        tenant: input.topology.tenant.clone(),
        status,
        branch: input.topology.branch.clone(),
        created_ms: input.topology.created_ms,
        components,
        job: jobs.last().map(|j| j.id.clone()),
    }
}

fn component(picture: &Picture<'_>, component: &Component, creating: bool) -> ComponentView {
    let deleting = picture.known.input.topology.deleting;
    let mut nodes: Vec<NodeView> =
        picture.known.desired.iter().filter(|w| w.component.id == component.id).map(|w| wanted(picture, w)).collect();
    for gone in picture.known.unwanted.iter().filter(|n| n.component == component.id) {
        nodes.push(observed(picture, gone, component, why::deleting(picture, gone)));
    }
    let bad = |n: &NodeView| {
        let causes = [Cause::Retrying, Cause::Unreachable, Cause::CannotWrite, Cause::Refused, Cause::SpawnFailed];
        causes.contains(&n.why.cause)
            || (n.converged_generation > 0 && n.service == ServiceStatus::Inactive && n.lifecycle == Lifecycle::Running)
    };
    let status = if deleting || component.removed {
        Standing::Deleting
    } else if picture.known.fault(component).is_some() || nodes.iter().any(bad) {
        Standing::Degraded
    } else if nodes.iter().all(|n| n.why.cause == Cause::Converged) {
        Standing::Active
    } else if creating {
        Standing::Creating
    } else {
        Standing::Changing
    };
    ComponentView {
        id: component.id.clone(),
        name: component.name.clone(),
        kind: component.kind.clone(),
        version: component.target.version.clone(),
        config: component.target.config.clone(),
        scripts: component.target.scripts.clone(),
        agent: component.agent.clone(),
        rollout: picture.gates.targets.wave(component).map(|wave| rollout(picture, component, wave)),
        status,
        depends_on: component.depends_on.iter().chain(component.foreign.iter().map(|f| &f.name)).cloned().collect(),
        nodes,
    }
}

fn wanted(picture: &Picture<'_>, wanted: &Wanted<'_>) -> NodeView {
    let cause = picture.why(wanted);
    if let Some(node) = wanted.recorded {
        return observed(picture, node, wanted.component, cause);
    }
    let node = &wanted.node;
    NodeView {
        id: node.id.clone(),
        name: node.name.clone(),
        component_name: wanted.component.name.clone(),
        role: node.role.clone(),
        ordinal: node.ordinal,
        why: cause,
        ..blank(&picture.known.input.topology.id, wanted.component)
    }
}

fn blank(topology: &TopologyId, component: &Component) -> NodeView {
    NodeView {
        id: String::new().into(),
        name: String::new(),
        topology: topology.clone(),
        component: component.id.clone(),
        component_name: component.name.clone(),
        role: String::new(),
        ordinal: 0,
        address: None,
        fault_domain: None,
        host_failure: None,
        version: component.target.version.clone(),
        agent_version: None,
        agent: None,
        liveness: Liveness::Unknown,
        lifecycle: Lifecycle::Running,
        drift: None,
        service: ServiceStatus::Unknown,
        health: None,
        files: Vec::new(),
        generation: 0,
        converged_generation: 0,
        stages: BTreeMap::new(),
        facts: BTreeMap::new(),
        why: Why { cause: Cause::Spawning, text: String::new(), evidence: BTreeMap::new() },
        vitals: None,
        seen_ms: None,
    }
}

fn observed(picture: &Picture<'_>, node: &Node, component: &Component, why: Why) -> NodeView {
    let beat = node.heartbeat.as_ref().map(|(beat, _)| beat);
    let (service, facts) = crate::observe::service(node);
    let everybodys = &picture.known.input.files;
    NodeView {
        id: node.id.clone(),
        name: node.name.clone(),
        role: node.role.clone(),
        ordinal: node.ordinal,
        address: node.address.clone(),
        fault_domain: node.fault_domain.clone(),
        host_failure: match &node.host {
            Host::Failed(failure) => Some(failure.clone()),
            Host::Absent | Host::Up => None,
        },
        version: node.assignment.as_ref().map_or_else(|| component.target.version.clone(), |a| a.version.clone()),
        lifecycle: node.assignment.as_ref().map_or(Lifecycle::Running, |a| a.lifecycle),
        files: node.assignment.iter().flat_map(|a| &a.files).filter(|f| !everybodys.contains(f)).cloned().collect(),
        drift: beat.and_then(|b| b.drift.clone()),
        agent_version: beat.map(|b| b.agent_version.clone()),
        agent: beat.and_then(|b| b.agent.clone()),
        liveness: match picture.known.silence(node) {
            Silence::Unheard => Liveness::Unknown,
            Silence::None => Liveness::Reachable,
            Silence::Suspect => Liveness::Suspect,
            Silence::Unreachable => Liveness::Unreachable,
        },
        service,
        generation: picture.generation(&node.id).or(node.assignment.as_ref().map(|a| a.generation)).unwrap_or(0),
        converged_generation: node.converged_generation,
        stages: stages(node),
        facts: facts.cloned().unwrap_or_default(),
        why,
        vitals: beat.map(|b| b.vitals.clone()),
        seen_ms: node.heartbeat.as_ref().map(|(_, at)| *at),
        ..blank(&picture.known.input.topology.id, component)
    }
}

#[allow(clippy::cast_possible_truncation)] // a component has at most some thousand nodes
fn rollout(picture: &Picture<'_>, component: &Component, wave: &Wave<'_>) -> RolloutView {
    let of_component = picture.known.of_component(&component.id);
    let done = |w: &&&Wanted<'_>| w.recorded.is_some_and(|n| arrived(n, w) && picture.settled(n));
    let failing = wave.failures();
    let reverted = wave.rollout.reverted.as_ref().map(|r| r.reason.clone());
    RolloutView {
        job: wave.rollout.job.clone(),
        phase: wave.phase,
        canaries: wave.canaries.iter().map(|n| n.name.clone()).collect(),
        done: of_component.iter().filter(done).count() as u32,
        failed: wave.failing.iter().map(|f| f.node.name.clone()).collect(),
        total: of_component.len() as u32,
        reason: reverted.or_else(|| (!failing.is_empty()).then(|| failing.join("; "))),
    }
}

fn stages(node: &Node) -> BTreeMap<Stage, StageView> {
    let one = |(stage, (result, at)): (&Stage, &(straas_schemas::report::StageResult, i64))| {
        let unwell = result.outcome != Outcome::Succeeded;
        let view = StageView {
            outcome: result.outcome,
            attempt: result.attempt,
            duration_ms: result.duration_ms,
            received_ms: *at,
            return_value: result.return_value.clone(),
            reason: result.reason.clone(),
            output_tail: if unwell { result.output_tail.clone() } else { String::new() },
            hint: result.hint.clone(),
            next_retry_ms: result.retry_in_ms.map(|ms| at.saturating_add_unsigned(ms)),
        };
        (*stage, view)
    };
    node.stages.iter().map(one).collect()
}
