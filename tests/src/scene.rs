//! One test on a cluster of its own: from an empty directory to an empty machine.
//!
//! Tests of one binary take turns, because they measure time and this machine may have two cores.
//! Whatever happens in a test, a panic too, the pictures are taken and everything is removed; what
//! then is left of hosts, networks and processes fails the test even if all else was well.

use crate::artifacts::artifacts;
use crate::cluster::Cluster;
use anyhow::Result;
use futures_util::FutureExt as _;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Says something that is seen although the test passes.
pub fn say(text: &str) {
    // not print!, which the test harness keeps to itself
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Plays a test; skips it, with the reason, where hosts cannot be made.
///
/// # Panics
/// The test failed, or left something behind.
pub fn scene(name: &str, body: impl AsyncFnOnce(&mut Cluster) -> Result<()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !nix::unistd::geteuid().is_root() {
        return say(&format!("SKIPPED {name}: hosts on this machine are made by root; run the tests with sudo"));
    }
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let failure = match runtime {
        Ok(runtime) => runtime.block_on(play(body)).err(),
        Err(error) => Some(format!("no runtime: {error}")),
    };
    let took = begun.elapsed().as_secs_f32();
    match failure {
        None => say(&format!("{name}: passed in {took:.1} s")),
        Some(failure) => {
            say(&format!("{name}: FAILED in {took:.1} s: {failure}"));
            panic!("{name}: {failure}");
        }
    }
}

async fn play(body: impl AsyncFnOnce(&mut Cluster) -> Result<()>) -> Result<(), String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    let mut cluster = Cluster::new(artifacts().map_err(text)?).map_err(text)?;
    let outcome = AssertUnwindSafe(body(&mut cluster)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|panic| Err(anyhow::anyhow!("panic: {}", words(&*panic)))).map_err(text);
    if outcome.is_err() {
        say(&cluster.pictures().await);
    }
    let removed = cluster.end().await.map_err(text);
    match (outcome, removed) {
        (Err(failure), Err(left)) => Err(format!("{failure}; moreover: {left}")),
        (outcome, removed) => outcome.and(removed),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
