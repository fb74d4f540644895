//! Brings rollouts over the fleet forward: looks, asks `rollout.rs` what is next, writes the record, then the components.
//!
//! One of the controllers does it, which saves the others the work; were two to do it, as when one stood still and does not
//! know it, nothing would be done twice, and each may die at any moment: the record is written by
//! compare-and-swap before a component is touched, and a component is changed by compare-and-swap on what it was
//! before the record was read once more. So whoever decided on an earlier record changes nothing (`Act::Fence`).
//!
//! Never here: what is next, nor what becomes of a component that was begun; that is its own rollout, planned like any.

mod looking;

use crate::app::App;
use crate::error::Error;
use crate::goods::{Goods, has};
use crate::http::jobs::new_job;
use crate::leases::Chore;
use crate::rollout::{self, Act, Looked};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::rollout::{FleetMemberPhase as Phase, FleetRolloutStanding as Standing};
use straas_schemas::{ComponentId, JobId, TopologyId};
use straas_store::{JobRecord, NewEvent, QuarantineRecord, RolloutMember, RolloutRecord, StoreError};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

/// Every rollout is looked at as a whole so often, for what another controller did, or was missed.
const SWEEP: Duration = Duration::from_secs(15);
/// What happens within this time is looked at together: members come to their end one shortly after the other.
const TOGETHER: Duration = Duration::from_millis(100);
/// Wait before looking again after the store or a repo failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// A rollout comes forward so many steps in one look; more are made in the next.
const STEPS_MAX: u32 = 64;

/// What a look leaves.
#[derive(Default)]
struct Left {
    /// Topologies of which something may bring a rollout forward.
    watched: BTreeSet<TopologyId>,
    /// When time alone does, Unix ms.
    again_ms: Option<i64>,
    /// A rollout was not brought to rest.
    busy: bool,
}

/// Runs until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut touched = app.wake.listen();
    let mut stopping = app.stopping.clone();
    let mut watched = BTreeSet::new();
    let mut sweep = Instant::now();
    let mut timer = sweep;
    loop {
        let only = tokio::select! {
            () = sleep_until(timer.min(sweep)) => None,
            () = app.wake.rollouts() => None,
            () = app.leases.gained(Chore::Rollouts) => None,
            heard = touched.recv() => match heard {
                Ok(topology) if !watched.contains(&topology) => continue,
                Ok(topology) => {
                    sleep(TOGETHER).await;
                    together(topology, &mut touched)
                }
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
            () = stopping.requested() => return,
        };
        let whole = only.is_none();
        if !app.leases.has(Chore::Rollouts) {
            sweep = Instant::now() + SWEEP;
            timer = sweep;
            continue;
        }
        match look(&app, only.as_ref()).await {
            Ok(left) => {
                let wait = left
                    .again_ms
                    .map(|at| Duration::from_millis(at.saturating_sub(app.now_ms()).max(1).unsigned_abs()));
                let now = Instant::now();
                if whole {
                    sweep = now + SWEEP;
                }
                timer = now + if left.busy { TOGETHER } else { wait.unwrap_or(SWEEP).min(SWEEP) };
                watched = left.watched;
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot bring rollouts forward; trying again");
                timer = Instant::now() + AFTER_ERROR;
                sweep = timer;
            }
        }
    }
}

/// The topologies that were touched until now; none if there is no telling.
fn together(
    first: TopologyId,
    touched: &mut tokio::sync::broadcast::Receiver<TopologyId>,
) -> Option<BTreeSet<TopologyId>> {
    let mut all = BTreeSet::from([first]);
    loop {
        match touched.try_recv() {
            Ok(topology) => drop(all.insert(topology)),
            Err(TryRecvError::Lagged(_)) => return None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return Some(all),
        }
    }
}

/// Looks at every open rollout, as a whole or as far as some topologies are concerned.
async fn look(app: &App, only: Option<&BTreeSet<TopologyId>>) -> Result<Left, Error> {
    let mut left = Left::default();
    for id in app.open_rollouts().await? {
        bring_forward(app, &id, only.cloned(), &mut left).await?;
    }
    Ok(left)
}

async fn bring_forward(
    app: &App,
    id: &str,
    mut only: Option<BTreeSet<TopologyId>>,
    left: &mut Left,
) -> Result<(), Error> {
    let mut fenced = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        let Some(record) = app.store.rollout(id).await? else { return Ok(()) };
        let looked = looking::look(app, &record, only.as_ref(), &fenced).await?;
        quarantine(app, &record, &looked).await?;
        let step = rollout::next(&record, &looked);
        if step.record != record {
            // whom it begins now, and if it turns back all of them, has to be looked at next
            only = match step.record.standing == record.standing {
                true => only.map(|only| with_new(only, &record, &step.record)),
                false => None,
            };
            write(app, &record, step.record).await?;
            continue;
        }
        if step.acts.is_empty() {
            let watched = record.members.iter().filter(|member| rollout::looks_at(&record, member));
            left.watched.extend(watched.map(|member| member.topology.clone()));
            let soonest = [left.again_ms, step.look_again_ms].into_iter().flatten().min();
            left.again_ms = soonest;
            return Ok(());
        }
        for (at, act) in step.acts {
            if app.stopping.is_requested() {
                return Ok(());
            }
            let Some(member) = record.members.get(at) else { continue };
            if change(app, &record, member, act).await? && act == Act::Fence {
                fenced.insert(member.component.clone());
            }
        }
    }
    left.busy = true;
    Ok(())
}

/// Puts a build that a node found to be no good into quarantine, before anything follows from that: a controller that
/// dies in between leaves a build that nobody gets. Of scripts it is done where their canaries are judged.
async fn quarantine(app: &App, record: &RolloutRecord, looked: &Looked) -> Result<(), Error> {
    if looked.quarantined.is_some() || record.build.is_none() {
        return Ok(());
    }
    let refused = looked.seen.iter().find_map(|(component, seen)| Some((component, seen.refused.as_ref()?)));
    let Some((component, reason)) = refused else { return Ok(()) };
    let Some(member) = record.members.iter().find(|member| member.component == *component) else { return Ok(()) };
    let bad = QuarantineRecord {
        what: record.kind.name().to_owned(),
        key: record.wanted.clone(),
        reason: reason.clone(),
        topology: member.topology.clone(),
        at_ms: app.now_ms(),
    };
    app.store.quarantine(&[bad]).await?;
    tracing::warn!(rollout = record.id, build = record.wanted, reason, "build is in quarantine");
    Ok(())
}

/// The topologies looked at, and those of members that begin.
fn with_new(mut only: BTreeSet<TopologyId>, was: &RolloutRecord, is: &RolloutRecord) -> BTreeSet<TopologyId> {
    let begins =
        was.members.iter().zip(&is.members).filter(|(was, is)| was.phase != is.phase && is.phase == Phase::Begun);
    only.extend(begins.map(|(_, member)| member.topology.clone()));
    only
}

/// Writes the record, with jobs named for those that begin. Whoever was faster has it looked at anew.
async fn write(app: &App, was: &RolloutRecord, mut is: RolloutRecord) -> Result<(), Error> {
    for member in is.members.iter_mut().filter(|member| member.phase == Phase::Begun && member.job.is_none()) {
        member.job = Some(JobId(Uuid::now_v7().to_string()));
    }
    let both = was.members.iter().zip(&is.members).enumerate();
    let changed: Vec<usize> = both.filter(|(_, (was, is))| was != is).map(|(at, _)| at).collect();
    match app.store.change_rollout(&is, &changed, was.revision).await {
        Ok(()) => {
            if (was.standing, was.batch) != (is.standing, is.batch) {
                let (batch, of) = (is.batch + 1, is.batches.len());
                let reason = is.reason.as_deref().unwrap_or_default();
                tracing::info!(rollout = is.id, batch, of, reason, "rollout is {}", is.standing.name());
            }
            Ok(())
        }
        Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Changes a member's component, unless the rollout went on meanwhile or it is so already; whether it was changed.
async fn change(app: &App, record: &RolloutRecord, member: &RolloutMember, act: Act) -> Result<bool, Error> {
    let Some(mut component) = app.store.component(&member.component).await? else { return Ok(false) };
    let Some(topology) = app.store.topology(&component.topology).await? else { return Ok(false) };
    // After the component, and that is the point: whoever has written a later record raises the component's revision
    // then, so either that is seen here or the write below fails.
    if app.store.rollout_revision(&record.id).await? != Some(record.revision) {
        return Ok(false);
    }
    let (expected, name) = (component.revision, component.name.clone());
    let goods = Goods::of(record);
    let job = |id: JobId, detail: String| JobRecord {
        id,
        ..new_job(app.now_ms(), goods.job(), &topology, Some(&member.component), format!("{name}: {detail}"))
    };
    let spec = &mut component.spec;
    let job = match (act, &member.job) {
        (Act::Begin, Some(id)) => {
            let ready = has(record.kind, &spec.want) == member.before;
            if !ready || !goods.bring(spec, id) {
                return Ok(false);
            }
            Some(job(id.clone(), format!("{} (rollout {})", goods.detail(goods.name()), record.id)))
        }
        (Act::TurnBack, _) => {
            let id = JobId(Uuid::now_v7().to_string());
            let still = has(record.kind, &spec.want) == goods.name();
            if !still || !goods.put_back(spec, &id, member) {
                return Ok(false);
            }
            let back = if record.standing == Standing::Cancelling { "cancelled" } else { "turned back" };
            Some(job(id, format!("{} (rollout {} is {back})", goods.detail(&member.before), record.id)))
        }
        (Act::Fence, _) => None,
        (Act::Begin, None) => return Ok(false),
    };
    match app.store.change_component(&component, expected, job.as_ref()).await {
        Ok(()) => {
            if let Some(job) = job {
                tracing::info!(component = %name, job = %job.id, "{}", job.detail);
                tell(app, &member.component, job).await;
            }
            app.wake.wake(&component.topology);
            Ok(true)
        }
        // somebody was faster: it is looked at anew
        Err(StoreError::Conflict { .. } | StoreError::NotFound { .. } | StoreError::Duplicate { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn tell(app: &App, component: &ComponentId, job: JobRecord) {
    let text = format!("job {} of component {component} begins: {}", job.id, job.detail);
    app.tell(&[NewEvent { at_ms: app.now_ms(), topology: job.topology, node: None, kind: "job", text }]).await;
}
