//! The service's settings in force, from the config repo, for whoever needs one.
//!
//! Held in memory and swapped as a whole: reading one costs nothing, and nobody sees a half of a commit.
//! A look compares with the newest commit of `master`; one that is broken leaves the last good settings in
//! force (`repos/service.rs`). A write over HTTP looks at once, the task of this module now and then: for
//! what was pushed, or written by another controller. Never keeps a copy of a value.

use crate::app::{App, blocking};
use crate::error::Error;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use straas_repos::{ConfigRepo, ServiceView};
use straas_schemas::settings::{ServiceSettings, TimingSettings};
use tokio::time::sleep;

/// Between two looks for what came past the API: one reads one ref.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The settings in force.
pub struct Settings {
    now: ArcSwap<ServiceView>,
    /// Of two looks the later one is not overtaken.
    turn: tokio::sync::Mutex<()>,
}

impl Settings {
    /// As the repository has them.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(configs: &ConfigRepo) -> straas_repos::Result<Self> {
        Ok(Self { now: ArcSwap::from_pointee(configs.service_view()?), turn: tokio::sync::Mutex::default() })
    }

    /// Where they are from, and what is wrong with the newest commit.
    pub fn view(&self) -> Arc<ServiceView> {
        self.now.load_full()
    }

    /// What counts everywhere.
    pub fn common(&self) -> ServiceSettings {
        self.now.load().service.of(None).settings
    }

    /// The intervals of the nodes of a zone.
    pub fn timing(&self, zone: &str) -> TimingSettings {
        self.now.load().service.of(Some(zone)).settings.timing
    }

    /// The shortest silence, in ms, after which a node of any zone is suspect.
    pub fn suspect_after_ms_min(&self) -> u32 {
        let now = self.now.load();
        now.service.scopes().map(|(_, scope)| scope.settings.timing.suspect_after_ms).min().unwrap_or_default()
    }
}

/// Puts the newest good settings in force. Topologies are looked at if they may get other intervals.
///
/// # Errors
/// The repository or the store cannot be read.
pub async fn look(app: &App) -> Result<(), Error> {
    let turn = app.settings.turn.lock().await;
    let (before, configs) = (app.settings.view(), app.configs.clone());
    let view = blocking(move || configs.service_view()).await?;
    if view.head == before.head {
        return Ok(());
    }
    let changed = view.service != before.service;
    let other = !timings(&view).eq(timings(&before));
    if changed && let Some(commit) = &view.commit {
        tracing::info!(%commit, "other settings of the service are in force");
    }
    let level = view.service.of(None).settings.log.level;
    app.settings.now.store(Arc::new(view));
    crate::log::from(level);
    drop(turn);
    if other { app.wake_all().await } else { Ok(()) }
}

fn timings(view: &ServiceView) -> impl Iterator<Item = (Option<&str>, TimingSettings)> {
    view.service.scopes().map(|(zone, scope)| (zone, scope.settings.timing))
}

/// Looks until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stopping.requested() => return,
        }
        if let Err(error) = look(&app).await {
            tracing::warn!(error = error.chain(), "cannot look for other settings of the service; trying again");
        }
    }
}
