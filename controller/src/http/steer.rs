//! Jobs under way: paused, resumed, cancelled.
//!
//! Only what reaches nodes in waves can be paused. Cancelling puts back what was wanted before,
//! where nothing is lost by it: a rollout is turned back wave by wave and its job goes on until
//! that holds; nodes that joined leave again; nodes that were to leave stay, unless they have been
//! drained already. What cannot be taken back says why.

use super::auth::Caller;
use super::change::{Decided, Situation, Then, Wanted, decide, forecast, look, write};
use super::extract::{Path, Query};
use super::jobs::{current, own};
use super::once::Made;
use super::problem::ApiError;
use super::topologies::{Mutation, view};
use crate::app::App;
use crate::wanted;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::job::JobKind;
use straas_store::{ComponentSpec, HostPhase, JobRecord, Undo};

/// A job is steered so often while others change its component.
const TRIES_MAX: u32 = 16;

type Parts = (State<Arc<App>>, Extension<Caller>, Path<String>, Query<Mutation>);

/// `POST /v1.0/jobs/{id}/pause`
pub async fn pause(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, |_, spec, about| set_paused(spec, about, true)).await
}

/// `POST /v1.0/jobs/{id}/resume`
pub async fn resume(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, |_, spec, about| set_paused(spec, about, false)).await
}

/// `POST /v1.0/jobs/{id}/cancel`
pub async fn cancel(parts: Parts) -> Result<Response, ApiError> {
    steer(parts, |situation, spec, about| take_back(situation, spec, &about.job)).await
}

/// What is steered.
struct About {
    job: JobRecord,
    /// How many nodes have failed it so far.
    failed: u32,
}

type Steering = fn(&Situation, &mut ComponentSpec, &About) -> Result<Option<Wanted>, ApiError>;

/// Answers with the job as it is after it.
async fn steer(parts: Parts, turn: Steering) -> Result<Response, ApiError> {
    let (State(app), Extension(caller), Path(id), Query(query)) = parts;
    for _ in 0..TRIES_MAX {
        let job = own(&app, &caller, &id).await?;
        if let Some(end) = &job.ended {
            return Err(ApiError::conflict(&format!("the job has ended: {}", end.standing.name().replace('_', " "))));
        }
        let Some(component) = job.component.clone().filter(|_| job.kind != JobKind::Create) else {
            return Err(ApiError::conflict(why_not(job.kind)));
        };
        let situation = look(&app, &caller, &component, query.dry_run).await?;
        let about = About { failed: failed(&app, &job).await?, job };
        let edit = move |situation: &Situation, spec: &mut ComponentSpec| turn(situation, spec, &about);
        let Decided { situation, change } = decide(situation, Arc::new(edit)).await?;
        if query.dry_run {
            let forecast = forecast(&app, situation.snapshot, change.into_iter().collect()).await?;
            return Ok(Json(forecast).into_response());
        }
        let done = match change {
            None => true,
            Some((component, wanted)) => {
                let made = Made::Turn { job: id.as_str().into() };
                write(&app, &situation.component.spec, &component, &wanted.then, &made).await?
            }
        };
        if done {
            let job = own(&app, &caller, &id).await?;
            return Ok(Json(current(&app, &job).await?).into_response());
        }
    }
    Err(ApiError::conflict(&format!("the component of job {id} was changed by others again and again; try again")))
}

fn why_not(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Create => "what is being created is taken back by deleting it",
        JobKind::Delete => "a deletion has begun to destroy hosts and cannot be taken back",
        JobKind::Replace => "the old host is given up already; replace the node again if the new one is no good",
        JobKind::Remove => "a removal has begun to destroy hosts and cannot be taken back",
        JobKind::Agent => "a rollout brings it; cancel that (POST /straas/v1.0/rollouts/{id}/cancel)",
        JobKind::Restart => "a restart ends by itself within the limits of its scripts",
        _ => "the whole topology is changed by it",
    }
}

/// How many nodes have failed what a job rolls out.
async fn failed(app: &App, job: &JobRecord) -> Result<u32, ApiError> {
    let topology = view(app, &job.topology).await?;
    let rollouts = topology.into_iter().flat_map(|topology| topology.components).filter_map(|c| c.rollout);
    let failed = rollouts.filter(|rollout| rollout.job == job.id).map(|rollout| rollout.failed.len()).next();
    Ok(failed.and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
}

fn set_paused(spec: &mut ComponentSpec, about: &About, paused: bool) -> Result<Option<Wanted>, ApiError> {
    let Some(rollout) = spec.rollout.as_mut().filter(|rollout| rollout.job == about.job.id) else {
        let why = "only a change that reaches nodes in waves can be paused, and only while it does; cancel it instead";
        return Err(ApiError::conflict(why));
    };
    if let Some(reverted) = &rollout.reverted {
        return Err(ApiError::conflict(&format!("it is being turned back: {}", reverted.reason)));
    }
    let before = (rollout.paused, rollout.max_failures);
    rollout.paused = paused;
    if !paused {
        // whoever goes on although nodes failed wants to hear of the next one that does
        rollout.max_failures = rollout.max_failures.max(about.failed + 1);
    }
    let changed = before != (rollout.paused, rollout.max_failures);
    Ok(changed.then(|| Wanted { then: Then::Go, notes: Vec::new(), effective: None }))
}

fn take_back(situation: &Situation, spec: &mut ComponentSpec, job: &JobRecord) -> Result<Option<Wanted>, ApiError> {
    let name = &situation.component.name;
    let rolls = spec.rollout.as_ref().filter(|rollout| rollout.job == job.id);
    let reverted = rolls.and_then(|rollout| rollout.reverted.as_ref());
    if reverted.is_some() {
        return Ok(None);
    }
    if rolls.is_none() && job.undo.is_none() {
        let over = "every node has what it changed; roll back instead (PUT …/tree/{ref}, PATCH the version)";
        let why = if matches!(job.kind, JobKind::Replace | JobKind::Remove | JobKind::Restart | JobKind::Agent) {
            why_not(job.kind)
        } else {
            over
        };
        return Err(ApiError::conflict(why));
    }
    let waves = rolls.is_some();
    let left = undo(situation, spec, job)?;
    if waves {
        wanted::turn_back(spec, "cancelled by a user", true);
        // its job goes on until what was before holds again
        return Ok(Some(Wanted { then: Then::Go, notes: Vec::new(), effective: None }));
    }
    let detail = format!("take back: {}", job.detail);
    let next = left.map(|kind| Box::new(situation.record(kind, format!("{name}: {detail}"))));
    Ok(Some(Wanted { then: Then::TakeBack(job.id.clone(), next), notes: Vec::new(), effective: None }))
}

/// Puts the numbers back; the kind of the work that is left to do.
fn undo(situation: &Situation, spec: &mut ComponentSpec, job: &JobRecord) -> Result<Option<JobKind>, ApiError> {
    let gone = |group: &str| ApiError::conflict(&format!("there is no group {group} any more"));
    match &job.undo {
        None => Ok(None),
        Some(Undo::Joined { group, ordinals }) => {
            let group = spec.want.groups.iter_mut().find(|g| g.name == *group).ok_or_else(|| gone(group))?;
            wanted::leave(group, ordinals);
            Ok(Some(JobKind::Flexdown))
        }
        Some(Undo::Left { group, ordinals }) => {
            for ordinal in ordinals {
                stays(situation, group, *ordinal)?;
            }
            let group = spec.want.groups.iter_mut().find(|g| g.name == *group).ok_or_else(|| gone(group))?;
            wanted::come_back(group, ordinals);
            Ok(Some(JobKind::Flexup))
        }
        Some(Undo::Files { target_path, before }) => {
            let there =
                |of: &Option<NodeId>| of.as_ref().is_none_or(|id| situation.nodes().any(|n| n.record.id == *id));
            let before: Vec<_> = before.iter().filter(|(of, _)| there(of)).cloned().collect();
            wanted::put_back(&mut spec.want, target_path, &before);
            Ok(Some(JobKind::Files))
        }
        Some(Undo::Stopped { nodes }) => {
            let kind = if nodes.values().any(|stopped| *stopped) { JobKind::Stop } else { JobKind::Start };
            for (id, stopped) in nodes.iter().filter(|(id, _)| situation.nodes().any(|n| n.record.id == **id)) {
                wanted::of_node(&mut spec.want, id).stopped = *stopped;
            }
            wanted::forget_usual(&mut spec.want.nodes);
            Ok(Some(kind))
        }
    }
}

/// Whether a node that was to leave can stay: nothing of its leaving has begun.
fn stays(situation: &Situation, group: &str, ordinal: u32) -> Result<(), ApiError> {
    let refuse = |why: String| Err(ApiError::conflict(&format!("{why}; add a node instead")));
    let node = situation.nodes().find(|node| node.record.group == group && node.record.ordinal == ordinal);
    let Some(node) = node.filter(|node| node.host.phase == HostPhase::Up) else {
        return refuse(format!("node {ordinal} of {group} has lost its host already"));
    };
    let name = &node.record.name;
    let begun = situation.snapshot.operations.iter().any(|operation| {
        operation.operation.as_ref().is_some_and(|(key, _)| key.starts_with("leave ") && key.ends_with(name.as_str()))
    });
    if begun {
        return refuse(format!("{name} is being drained or has been"));
    }
    Ok(())
}
