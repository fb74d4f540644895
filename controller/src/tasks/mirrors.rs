//! Looks now and then what others pushed to the upstream of a repository, and puts it in force as a write
//! over the API would be.
//!
//! A commit on a topology's branch wakes that one: it may be planned with a commit that was not here
//! yet, which another controller wrote. So does one of either `master` wake all. An upstream that is away
//! is looked at more often, since writes wait for it.

use crate::app::{App, blocking};
use crate::error::Error;
use crate::settings;
use std::sync::Arc;
use std::time::Duration;
use straas_repos::{ConfigRepo, ScriptRepo, Taken, UpstreamView};
use tokio::time::sleep;

/// Between two looks for an upstream that is away, if the setting is not shorter.
const AWAY: Duration = Duration::from_secs(2);

/// Of more branches that moved at once, not each is looked up.
const WOKEN_MAX: usize = 100;

/// Which repository.
#[derive(Clone)]
pub enum Mirror {
    /// The config repo.
    Config(ConfigRepo),
    /// The script repo.
    Scripts(ScriptRepo),
}

impl Mirror {
    /// Its name in the controller's configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Scripts(_) => "scripts",
        }
    }

    fn poll(&self) -> straas_repos::Result<Taken> {
        match self {
            Self::Config(configs) => configs.poll(),
            Self::Scripts(scripts) => scripts.poll(),
        }
    }

    /// How its upstream is, if it has one.
    pub fn view(&self) -> Option<UpstreamView> {
        match self {
            Self::Config(configs) => configs.upstream(),
            Self::Scripts(scripts) => scripts.upstream(),
        }
    }
}

/// The repositories that have an upstream.
pub fn all(app: &App) -> impl Iterator<Item = (Mirror, UpstreamView)> {
    let both = [Mirror::Config(app.configs.clone()), Mirror::Scripts(app.scripts.clone())];
    both.into_iter().filter_map(|mirror| mirror.view().map(|view| (mirror, view)))
}

/// Looks until the controller stops.
pub async fn run(app: Arc<App>, mirror: Mirror) {
    let mut stopping = app.stopping.clone();
    let every = app.config.git.poll();
    let mut wait = every;
    // a look that failed is told once; whoever asks how upstream is hears of it all the time
    let mut failing = false;
    loop {
        tokio::select! {
            () = sleep(wait) => {}
            () = stopping.requested() => return,
        }
        match look(&app, &mirror).await {
            Ok(()) => (wait, failing) = (every, false),
            Err(error) => {
                wait = every.min(AWAY);
                if !failing {
                    tracing::warn!(
                        repo = mirror.name(),
                        error = error.chain(),
                        "cannot look at upstream; trying again"
                    );
                }
                failing = true;
            }
        }
    }
}

async fn look(app: &App, mirror: &Mirror) -> Result<(), Error> {
    let at = mirror.clone();
    let taken = blocking(move || at.poll()).await?;
    let branches: Vec<(&str, &str)> = taken.branches().filter_map(|branch| branch.split_once('@')).collect();
    if taken.master() || branches.len() > WOKEN_MAX {
        if matches!(mirror, Mirror::Config(_)) {
            settings::look(app).await?;
        }
        // metadata and service settings are read from master by everything that plans
        return app.wake_all().await;
    }
    for (name, zone) in branches {
        if let Some(topology) = app.store.topology_by_name(name, zone).await? {
            app.wake.wake(&topology.id);
        }
    }
    Ok(())
}
