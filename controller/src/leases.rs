//! The leases of this controller: background work that one of several controllers should do, and the hosts it works on.
//!
//! Work that begins with something that came here (a request, a report) is done here, at once, whoever else is there: what it
//! writes is decided by compare-and-swap. A [`Chore`] begins with the clock, so all controllers would do it at the same
//! moment; the one that has its lease does. Work on a host does things that no compare-and-swap takes back, so it is
//! done under a lease on that host, and what is recorded of it is fenced.
//!
//! ```text
//!  chore: taken ──kept every 5 s──► held ──15 s without──► anybody's, who then looks at everything first
//! ```
//! Alone over its database a controller has every chore, and says so to nobody.

use crate::app::App;
use crate::clock::Clock;
use crate::error::{Error, chain};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use straas_schemas::NodeId;
use straas_store::{Lease, Store};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// A lease ends so long after it was taken or kept: so long nobody takes up what a controller that died was doing.
const LIFE: Duration = Duration::from_secs(15);
/// It is kept so often: two attempts may fail.
const KEEP: Duration = Duration::from_secs(5);

/// Work that one controller of all does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chore {
    /// Looking at every topology now and then.
    Topologies,
    /// Bringing rollouts over the fleet forward.
    Rollouts,
    /// Ending commands that are overdue.
    Commands,
    /// Bringing the exchange of the certificate authority forward.
    Authority,
}

impl Chore {
    const ALL: [Self; 4] = [Self::Topologies, Self::Rollouts, Self::Commands, Self::Authority];

    const fn name(self) -> &'static str {
        match self {
            Self::Topologies => "chore/topologies",
            Self::Rollouts => "chore/rollouts",
            Self::Commands => "chore/commands",
            Self::Authority => "chore/authority",
        }
    }
}

/// See the module.
pub struct Leases {
    /// This controller: one that is started anew over the same data directory is the same.
    holder: String,
    /// Whether others may be over the same database.
    shared: bool,
    /// With the moment from which on it may be another's, by this controller's own clock.
    held: Mutex<BTreeMap<Chore, (Lease, Instant)>>,
    gained: [Notify; Chore::ALL.len()],
}

impl Leases {
    /// Of the controller over this data directory; ends what it had before it was started anew.
    ///
    /// # Errors
    /// The store.
    pub async fn open(store: &dyn Store, data_dir: &Path) -> Result<Self, Error> {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let place = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let holder = format!("{host}:{}", place.display());
        store.end_leases(&holder).await?;
        Ok(Self::of(holder, store.is_shared()))
    }

    /// Of a controller of this name, whether others may be over the same database or not.
    #[must_use]
    pub fn of(holder: String, shared: bool) -> Self {
        Self { holder, shared, held: Mutex::default(), gained: Default::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Chore, (Lease, Instant)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether other controllers may be over the same database.
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether a chore is this controller's.
    pub fn has(&self, chore: Chore) -> bool {
        !self.shared || self.lock().get(&chore).is_some_and(|(_, until)| Instant::now() < *until)
    }

    /// Ends when a chore has become this controller's: nobody may have done it for a while.
    pub async fn gained(&self, chore: Chore) {
        self.gained[chore as usize].notified().await;
    }

    /// The lease on a node's host, if nobody works on that; `now` in Unix ms.
    ///
    /// # Errors
    /// The store.
    pub async fn host(&self, store: &dyn Store, node: &NodeId, now: i64) -> Result<Option<Lease>, Error> {
        Ok(store.take_lease(&Lease::on_host(node), &self.holder, now, later(now)).await?)
    }
}

fn later(now: i64) -> i64 {
    now.saturating_add_unsigned(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX))
}

/// Keeps a lease until another has taken it, or it could not be kept for as long as it lives.
pub async fn keep(store: &dyn Store, lease: &Lease, clock: &Clock) {
    let mut every = ticks();
    every.tick().await;
    let mut until = Instant::now() + LIFE;
    while Instant::now() < until {
        every.tick().await;
        let asked = Instant::now();
        match store.keep_lease(lease, later(clock())).await {
            Ok(true) => until = asked + LIFE,
            Ok(false) => return,
            Err(error) => {
                tracing::debug!(lease = lease.name, error = chain(&error), "cannot keep a lease; trying again")
            }
        }
    }
}

/// Ends a lease; if that fails, it ends by itself.
pub async fn end(store: &dyn Store, lease: &Lease) {
    if let Err(error) = store.end_lease(lease).await {
        tracing::debug!(lease = lease.name, error = chain(&error), "cannot end a lease");
    }
}

fn ticks() -> tokio::time::Interval {
    let mut every = interval(KEEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// Takes and keeps the chores until the controller stops; then they are anybody's.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    if !app.leases.shared {
        app.metrics.chores(Chore::ALL.len());
        return stopping.requested().await;
    }
    let mut every = ticks();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stopping.requested() => break,
        }
        // a newer version plans, so it has the chores
        if app.bell.is_outdated() {
            give_up(&app).await;
        }
        for chore in Chore::ALL.into_iter().filter(|_| !app.bell.is_outdated()) {
            if let Err(error) = look(&app, chore).await {
                tracing::debug!(
                    chore = chore.name(),
                    error = chain(&error),
                    "cannot take or keep a lease; trying again"
                );
            }
        }
        app.metrics.chores(Chore::ALL.into_iter().filter(|chore| app.leases.has(*chore)).count());
    }
    give_up(&app).await;
}

async fn give_up(app: &App) {
    let held: Vec<_> = std::mem::take(&mut *app.leases.lock()).into_values().collect();
    for (lease, _) in held {
        end(&*app.store, &lease).await;
    }
}

async fn look(app: &App, chore: Chore) -> straas_store::Result<()> {
    let held = app.leases.lock().get(&chore).map(|(lease, _)| lease.clone());
    let (asked, now) = (Instant::now(), app.now_ms());
    if let Some(lease) = held {
        if app.store.keep_lease(&lease, later(now)).await? {
            app.leases.lock().insert(chore, (lease, asked + LIFE));
            return Ok(());
        }
        app.leases.lock().remove(&chore);
        tracing::info!(chore = chore.name(), "another controller does it now");
    }
    if let Some(lease) = app.store.take_lease(chore.name(), &app.leases.holder, now, later(now)).await? {
        tracing::info!(chore = chore.name(), "this controller does it now");
        app.leases.lock().insert(chore, (lease, asked + LIFE));
        app.leases.gained[chore as usize].notify_one();
    }
    Ok(())
}
