//! What this controller tells those beside it, and hears of them.
//!
//! ```text
//!  a change here ──► said: words, gathered while the last are being written ──► the store ──► bell of the others
//!  another's bell, or a second ──► heard: the nodes, topologies, rollouts that it named are read anew
//! ```
//! A word carries nothing and is not needed: whatever is not heard is found by the next look at everything. Alone over its
//! database a controller says nothing, so it costs nothing.
//!
//! Never here: a decision, or what a word is about.

use crate::app::App;
use crate::error::{Error, chain};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use straas_store::{Beside, WORDS_MAX, Word};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

/// So often it is looked for what others said, whether a bell rang or not.
const LOOK: Duration = Duration::from_secs(1);
/// So often a controller says that it is there. Until another has seen that, it is not told of anything.
const PRESENCE: Duration = Duration::from_secs(5);

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// See the module.
pub struct Bell {
    /// This run of this controller.
    id: String,
    said: Mutex<BTreeSet<Word>>,
    ring: AtomicBool,
    spoken: Notify,
    /// Other controllers that are there.
    others: AtomicU32,
    /// Whether one of them is of a newer version.
    outdated: AtomicBool,
    heard: watch::Sender<()>,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            said: Mutex::default(),
            ring: AtomicBool::new(false),
            spoken: Notify::new(),
            others: AtomicU32::new(0),
            outdated: AtomicBool::new(false),
            heard: watch::Sender::new(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    fn is_alone(&self) -> bool {
        self.others.load(Ordering::Relaxed) == 0
    }

    /// Whether a newer version is there: it plans then. Two versions that may plan otherwise would undo each other's
    /// work for as long as both are there.
    pub fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// There is news of this; whoever is beside this controller should read it anew.
    pub fn say(&self, word: Word) {
        if !self.is_alone() && lock(&self.said).insert(word) {
            self.spoken.notify_one();
        }
    }

    /// There is news that others find by themselves: they should look now.
    pub fn ring(&self) {
        if !self.is_alone() && !self.ring.swap(true, Ordering::Relaxed) {
            self.spoken.notify_one();
        }
    }

    /// When to look for what others did.
    pub fn looks(&self) -> Looks {
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Looks { every, rung: self.heard.subscribe() }
    }

    /// What is to be said now.
    fn take(&self) -> Vec<Word> {
        let mut said = lock(&self.said);
        let rest = match said.iter().nth(WORDS_MAX).cloned() {
            Some(from) => said.split_off(&from),
            None => BTreeSet::new(),
        };
        if !rest.is_empty() {
            self.spoken.notify_one();
        }
        std::mem::replace(&mut *said, rest).into_iter().collect()
    }
}

/// The times to look for what other controllers did: when one of them rang, and every second.
pub struct Looks {
    every: Interval,
    rung: watch::Receiver<()>,
}

impl Looks {
    /// Ends when it is time. May be broken off.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.every.tick() => {}
            _ = self.rung.changed() => {}
        }
    }
}

/// Speaks and listens until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    if !app.store.is_shared() {
        return stopping.requested().await;
    }
    tokio::select! {
        () = present(&app) => {}
        () = speak(&app) => {}
        () = hear(&app) => {}
        () = wait_for_bells(&app) => {}
        () = stopping.requested() => {}
    }
    if let Err(error) = app.store.leave(&app.bell.id).await {
        tracing::debug!(error = chain(&error), "cannot say that this controller goes");
    }
}

/// Says that this controller is there, and finds out whether others are: before it begins to plan, which may be a newer
/// one's business.
pub async fn enter(app: &App) {
    if !app.store.is_shared() {
        return;
    }
    match app.store.present(&app.bell.id, VERSION, app.now_ms()).await {
        Ok(others) => seen(app, &others),
        Err(error) => tracing::debug!(error = chain(&error), "cannot say that this controller is there"),
    }
}

async fn present(app: &App) {
    let mut every = interval(PRESENCE);
    loop {
        every.tick().await;
        enter(app).await;
    }
}

fn seen(app: &App, beside: &[Beside]) {
    let bell = &app.bell;
    let others = u32::try_from(beside.len()).unwrap_or(u32::MAX);
    app.metrics.beside(others);
    if bell.others.swap(others, Ordering::Relaxed) != others {
        let versions: Vec<_> = beside.iter().map(|other| other.version.as_str()).collect();
        tracing::info!(others, ?versions, "controllers beside this one");
    }
    let newer = beside.iter().find(|other| is_newer((other.level, &other.version), (app.store.level(), VERSION)));
    if bell.outdated.swap(newer.is_some(), Ordering::Relaxed) == newer.is_some() {
        return;
    }
    match newer {
        Some(other) => {
            tracing::info!(version = other.version, mine = VERSION, "a newer version is there; it plans from now on")
        }
        None => tracing::info!("no newer version is there any more; this controller plans again"),
    }
}

/// Of two versions with their levels, whether the first is newer.
fn is_newer(other: (i64, &str), mine: (i64, &str)) -> bool {
    (other.0, numbers(other.1)) > (mine.0, numbers(mine.1))
}

/// A version by its numbers, as 0.10.1 is newer than 0.9.2; what is none counts as zero.
fn numbers(version: &str) -> [u64; 3] {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

async fn speak(app: &App) {
    loop {
        app.bell.spoken.notified().await;
        app.bell.ring.store(false, Ordering::Relaxed);
        let words = app.bell.take();
        if let Err(error) = app.store.say(&app.bell.id, &words, app.now_ms()).await {
            // they find it when they look at everything
            tracing::debug!(error = chain(&error), words = words.len(), "cannot tell other controllers");
        }
    }
}

async fn wait_for_bells(app: &App) {
    loop {
        match app.store.listen().await {
            Ok(()) => {
                app.bell.heard.send_replace(());
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "no bell can be heard; looking every second");
                sleep(LOOK).await;
            }
        }
    }
}

async fn hear(app: &App) {
    let mut looks = app.bell.looks();
    let begun = Instant::now();
    let mut last = None;
    // until others have seen that this one is there, they may have said nothing
    let mut unheard = true;
    loop {
        looks.next().await;
        let everything = unheard && begun.elapsed() > 2 * PRESENCE;
        unheard &= !everything;
        if let Err(error) = once(app, &mut last, everything).await {
            tracing::debug!(error = error.chain(), "cannot hear what other controllers said; trying again");
        }
    }
}

async fn once(app: &App, last: &mut Option<u64>, everything: bool) -> Result<(), Error> {
    let after = match *last {
        Some(after) => after,
        None => *last.insert(app.store.last_news().await?),
    };
    let heard = app.store.news(&app.bell.id, after).await?;
    if heard.missed || everything {
        tracing::debug!(missed = heard.missed, "looking at everything");
        app.load().await?;
        app.wake.hear_rollouts();
    }
    for word in heard.words {
        match word {
            Word::Node(node) => drop(app.sync_node(&node).await?),
            Word::Topology(topology) => app.wake.hear(&topology),
            Word::Rollouts => app.wake.hear_rollouts(),
            Word::Look(topology) if app.bell.is_outdated() => tracing::debug!(%topology, "a newer version looks at it"),
            Word::Look(topology) => app.wake.wake(&topology),
        }
    }
    *last = Some(heard.last);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_newer_by_what_it_knows_of_tables_then_by_its_numbers() {
        let check = |other, mine, expect| assert_eq!(is_newer(other, mine), expect, "{other:?} than {mine:?}");
        check((21, "0.1.0"), (20, "0.1.0"), true);
        check((20, ""), (21, "0.1.0"), false);
        check((21, "0.10.0"), (21, "0.9.7"), true);
        check((21, "0.9.7"), (21, "0.10.0"), false);
        check((21, "1.0.0"), (21, "1.0.0"), false);
        check((21, "1.0.1-rc1"), (21, "1.0.0"), true);
    }
}
