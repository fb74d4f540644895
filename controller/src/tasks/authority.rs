//! Keeps the authorities in force as they are recorded, and brings their exchange forward.
//!
//! Every controller looks for what another one recorded, and writes down what agents showed it. One of them, by its lease, goes on to the next phase when `authority/rotation.rs` says so; by
//! compare-and-swap, so that two who think that they are the one do it once, and whoever dies in between leaves the one
//! phase or the other.
//!
//! Never here: which phase is next.

use crate::app::App;
use crate::authority::rotation::{self, Looked};
use crate::error::Error;
use crate::leases::Chore;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::authority::RotationPhase;
use straas_store::{AuthorityRecord, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two looks: each is one small read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at all agents, where none of them said anything new here: they may have done so elsewhere.
const ALL_EVERY: Duration = Duration::from_secs(5);
/// While an exchange is under way, what agents say is written anew so often: what one said to this controller may have been
/// overwritten by what it had said to another one before, which wrote it later.
const ANEW_EVERY: Duration = Duration::from_secs(30);
/// A phase lasts so long at least where there are several controllers: each has looked many times meanwhile, or has no
/// database, and says so to whoever asks whether it is ready.
const SETTLE_MS: i64 = 15_000;

/// Runs until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    let mut every = interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut failed, mut all, mut anew) = (None, None, Instant::now());
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stopping.requested() => return,
        }
        let ended = match look(&app, &mut all, &mut anew).await {
            Ok(()) => None,
            Err(error) => Some(error.chain()),
        };
        // once, not every second
        if ended != failed {
            if let Some(error) = &ended {
                tracing::warn!(error, "cannot look after the certificate authority; trying again");
            }
            failed = ended;
        }
    }
}

/// `all`: when all agents were looked at last; `anew`: when what they say began to be written anew.
async fn look(app: &App, all: &mut Option<Instant>, anew: &mut Instant) -> Result<(), Error> {
    app.authorities.refresh(&*app.store).await?;
    let Some(record) = app.authorities.now().record.clone() else { return Ok(()) };
    app.authorities.settle().await?;
    if record.phase != RotationPhase::Settled && anew.elapsed() >= ANEW_EVERY {
        app.authorities.sights.forget();
        *anew = Instant::now();
    }
    let heard = app.authorities.sights.write(&*app.store).await?;
    if !app.leases.has(Chore::Authority) {
        return Ok(());
    }
    if let Some(resealed) = app.authorities.resealed(&record) {
        return change(app, &resealed).await;
    }
    if record.phase == RotationPhase::Settled {
        return Ok(());
    }
    if !heard && all.is_some_and(|all| all.elapsed() < ALL_EVERY) {
        return Ok(());
    }
    *all = Some(Instant::now());
    let agents = app.store.agent_certificates().await?;
    let settle_ms = if app.leases.is_shared() { SETTLE_MS } else { 0 };
    match rotation::next(&record, &Looked { agents: &agents, now_ms: app.now_ms(), settle_ms }) {
        Some(next) => {
            *all = None;
            change(app, &next).await
        }
        None => Ok(()),
    }
}

/// Writes the record over the one that was seen. Whoever was faster has it looked at anew.
async fn change(app: &App, next: &AuthorityRecord) -> Result<(), Error> {
    match app.store.change_authorities(next).await {
        Ok(()) | Err(StoreError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    app.authorities.refresh(&*app.store).await?;
    Ok(())
}
