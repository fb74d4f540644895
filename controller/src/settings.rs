//! The service's settings in force, from the config repo, for whoever needs one.
//!
//! Held in memory and swapped as a whole: reading one costs nothing, and nobody sees a half of a commit.
//! A look compares with the newest commit of `master`; one that is broken leaves the last good settings in
//! force (`repos/service.rs`). A write over HTTP looks at once, the task of this module now and then: for
//! what was pushed, or written by another controller. Never keeps a copy of a value.

use crate::app::App;
use crate::apt;
use crate::error::Error;
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use straas_repos::{ConfigRepo, ServiceView};
use straas_schemas::FileRef;
use straas_schemas::settings::{PackageSettings, ServiceSettings, TimingSettings};
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
    /// It cannot be read, or what nodes are to fetch cannot be kept.
    pub fn open(configs: &ConfigRepo, data_dir: &Path) -> Result<Self, Error> {
        let view = kept(configs, data_dir)?;
        Ok(Self::of(view))
    }

    /// These, as long as nothing else is put in force.
    #[must_use]
    pub fn of(view: ServiceView) -> Self {
        Self { now: ArcSwap::from_pointee(view), turn: tokio::sync::Mutex::default() }
    }

    /// Where they are from, and what is wrong with the newest commit.
    pub fn view(&self) -> Arc<ServiceView> {
        self.now.load_full()
    }

    /// What counts everywhere.
    pub fn common(&self) -> ServiceSettings {
        self.now.load().service.of(None).settings.clone()
    }

    /// The intervals of the nodes of a zone.
    pub fn timing(&self, zone: &str) -> TimingSettings {
        self.now.load().service.of(Some(zone)).settings.timing
    }

    /// The files that the nodes of a zone have for what is set.
    pub fn files(&self, zone: &str) -> Vec<FileRef> {
        let now = self.now.load();
        apt::file(&now.service.of(Some(zone)).settings.packages).map(|(file, _)| file).into_iter().collect()
    }

    /// The shortest silence, in ms, after which a node of any zone is suspect.
    pub fn suspect_after_ms_min(&self) -> u32 {
        let now = self.now.load();
        now.service.scopes().map(|(_, scope)| scope.settings.timing.suspect_after_ms).min().unwrap_or_default()
    }
}

/// The newest good settings; what nodes are told to fetch for them is here.
fn kept(configs: &ConfigRepo, data_dir: &Path) -> Result<ServiceView, Error> {
    let view = configs.service_view()?;
    for (_, scope) in view.service.scopes() {
        apt::keep(data_dir, &scope.settings.packages).map_err(Error::Kept)?;
    }
    Ok(view)
}

/// Puts the newest good settings in force. Topologies are looked at if their nodes may get others.
///
/// # Errors
/// The repository or the store cannot be read, or what nodes are to fetch cannot be kept.
pub async fn look(app: &App) -> Result<(), Error> {
    let turn = app.settings.turn.lock().await;
    let (before, configs, data_dir) = (app.settings.view(), app.configs.clone(), app.config.data_dir.clone());
    let view = tokio::task::spawn_blocking(move || kept(&configs, &data_dir)).await??;
    if view.head == before.head {
        return Ok(());
    }
    let changed = view.service != before.service;
    let other = !of_nodes(&view).eq(of_nodes(&before));
    if changed && let Some(commit) = &view.commit {
        tracing::info!(%commit, "other settings of the service are in force");
    }
    let level = view.service.of(None).settings.log.level;
    app.settings.now.store(Arc::new(view));
    crate::log::from(level);
    drop(turn);
    if other { app.wake_all().await } else { Ok(()) }
}

/// What nodes are told of settings.
fn of_nodes(view: &ServiceView) -> impl Iterator<Item = (Option<&str>, TimingSettings, &PackageSettings)> {
    view.service.scopes().map(|(zone, scope)| (zone, scope.settings.timing, &scope.settings.packages))
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
