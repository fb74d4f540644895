//! The loop that makes what is what should be: look, plan, carry out, for every topology that
//! something happened to. While a controller of a newer version is there, that one does it for all.

use crate::app::App;
use crate::error::Error;
use crate::leases::Chore;
use crate::tasks::hosts;
use crate::{apply, snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use straas_planner::plan;
use straas_schemas::{Digest, TopologyId};
use tokio::time::{Instant, sleep_until};

/// Every topology is looked at so often even if nothing happened: heals a wake-up that was missed.
const SWEEP: Duration = Duration::from_secs(60);
/// Wait before looking again after the store or a repo failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// What each topology was seen to show to others that have to do with it. Whoever finds something
/// else there wakes them; that a controller begins with nothing wakes them once for nothing.
type Shown = BTreeMap<TopologyId, BTreeMap<TopologyId, Digest>>;

/// Runs until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut timers: BTreeMap<TopologyId, Instant> = BTreeMap::new();
    let mut shown = Shown::new();
    let mut sweep = Instant::now() + SWEEP;
    let mut stopping = app.stopping.clone();
    loop {
        let next = timers.values().min().copied().map_or(sweep, |timer| timer.min(sweep));
        let dirty = tokio::select! {
            dirty = app.wake.take() => dirty,
            // what was to be looked at at a certain time was known to whoever had the chore before
            () = app.leases.gained(Chore::Topologies) => {
                sweep = Instant::now();
                continue;
            }
            () = sleep_until(next) => {
                if Instant::now() >= sweep {
                    sweep = Instant::now() + SWEEP;
                    if let Err(error) = sweep_all(&app).await {
                        tracing::warn!(error = error.chain(), "cannot list topologies and nodes; trying again");
                    }
                }
                timers.extract_if(.., |_, timer| *timer <= Instant::now()).map(|(id, _)| id).collect()
            }
            () = stopping.requested() => return,
        };
        if app.bell.is_outdated() {
            timers.clear();
            dirty.into_iter().for_each(|id| app.wake.hand_over(id));
            continue;
        }
        for id in dirty {
            if stopping.is_requested() {
                return;
            }
            timers.remove(&id);
            match look(&app, &id, &mut shown).await {
                Ok(Some(wait)) => drop(timers.insert(id.clone(), Instant::now() + wait)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(topology = %id, error = error.chain(), "cannot bring the topology forward; trying again");
                    timers.insert(id.clone(), Instant::now() + AFTER_ERROR);
                }
            }
            app.wake.touch(&id);
        }
    }
}

/// What agents are told is read anew by every controller; one of them looks at the topologies.
async fn sweep_all(app: &App) -> Result<(), Error> {
    app.sync_fleet().await?;
    if !app.leases.has(Chore::Topologies) {
        return Ok(());
    }
    app.wake_all().await
}

async fn look(app: &Arc<App>, id: &TopologyId, shown: &mut Shown) -> Result<Option<Duration>, Error> {
    let Some(input) = snapshot::take(app, id).await? else {
        show(app, id, BTreeMap::new(), shown);
        app.held.forget(id);
        return Ok(None);
    };
    let begun = std::time::Instant::now();
    let plan = plan(&input);
    app.metrics.planned(begun.elapsed());
    show(app, id, plan.shown.clone(), shown);
    apply::carry_out(app, &input, &plan, |work| hosts::take_up(app, work)).await?;
    let wait = plan.look_again_ms.map(|at| at.saturating_sub(app.now_ms()).max(1));
    Ok(wait.map(|ms| Duration::from_millis(ms.unsigned_abs())))
}

/// Has the topologies looked at for which something of this one changed.
fn show(app: &App, id: &TopologyId, now: BTreeMap<TopologyId, Digest>, shown: &mut Shown) {
    let before = shown.remove(id).unwrap_or_default();
    for other in now.keys().chain(before.keys()) {
        if now.get(other) != before.get(other) {
            app.wake.wake(other);
        }
    }
    if !now.is_empty() {
        shown.insert(id.clone(), now);
    }
}
