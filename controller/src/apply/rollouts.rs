//! Rollouts that the planner turns back or calls done.
//!
//! Quarantine comes first: a controller that dies in between leaves a version that nobody gets and
//! a rollout that the next look turns back, never the other way round. Both are written by
//! compare-and-swap for the very rollout that was planned; a later one is none of this plan's.

use crate::engine::Engine;
use crate::error::Error;
use crate::wanted;
use straas_planner::{Plan, PlanInput, Quarantined, Revert};
use straas_schemas::ComponentId;
use straas_store::{ComponentSpec, QuarantineRecord, StoreError};

/// Turns rollouts back whose canaries failed.
///
/// # Errors
/// The store's.
pub async fn turn_back(app: &Engine, input: &PlanInput, plan: &Plan) -> Result<(), Error> {
    for revert in &plan.reverts {
        let records: Vec<_> = revert.quarantine.iter().map(|what| record(input, revert, what, app.now_ms())).collect();
        app.store.quarantine(&records).await?;
        let turned = change(app, &revert.component, |spec| {
            spec.rollout.as_ref().is_some_and(|rollout| rollout.job == revert.job)
                && wanted::turn_back(spec, &revert.reason, false)
        });
        if turned.await? {
            super::event(app, input, &format!("job {} is turned back: {}", revert.job, revert.reason)).await;
            for record in records {
                super::event(app, input, &format!("{} {} is in quarantine", record.what, record.key)).await;
            }
        }
    }
    Ok(())
}

/// Ends rollouts of which nothing is left to do.
///
/// # Errors
/// The store's.
pub async fn end(app: &Engine, input: &PlanInput, plan: &Plan) -> Result<(), Error> {
    for id in &plan.rolled_out {
        let planned = input.components.iter().find(|component| component.id == *id);
        let Some(planned) = planned.and_then(|component| component.rollout.as_ref()) else { continue };
        change(app, id, |spec| {
            let same = |rollout: &straas_store::RolloutSpec| {
                rollout.job == planned.job && rollout.reverted.is_some() == planned.reverted.is_some()
            };
            spec.rollout.take_if(|rollout| same(rollout)).is_some()
        })
        .await?;
    }
    Ok(())
}

/// Changes a component as it is now, unless `edit` finds nothing to change; whether it was changed.
/// Whoever comes in between has the topology looked at again.
async fn change(app: &Engine, id: &ComponentId, edit: impl FnOnce(&mut ComponentSpec) -> bool) -> Result<bool, Error> {
    let Some(mut component) = app.store.component(id).await? else { return Ok(false) };
    if !edit(&mut component.spec) {
        return Ok(false);
    }
    let changed = match app.store.change_component(&component, component.revision, None).await {
        Ok(()) => true,
        Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    app.wake.wake(&component.topology);
    Ok(changed)
}

fn record(input: &PlanInput, revert: &Revert, what: &Quarantined, at_ms: i64) -> QuarantineRecord {
    let (what, key) = match what {
        Quarantined::Version { kind, version } => ("version", format!("{kind}@{version}")),
        Quarantined::Scripts(commit) => ("scripts", commit.clone()),
    };
    QuarantineRecord {
        what: what.to_owned(),
        key,
        reason: revert.reason.clone(),
        topology: input.topology.id.clone(),
        at_ms,
    }
}
