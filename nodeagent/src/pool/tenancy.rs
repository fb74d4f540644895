//! A node on this host, from when it is given to when nothing of it is left: one step after the other, each written down
//! before it is taken.
//!
//! The node's agent is a process that ends when its standard input does: so it never outlives this one, however that
//! ends, and is never started beside another one (its own lock sees to that).

use super::record::{Phase, Record, Tenancy};
use super::{Pool, Told, clean};
use crate::agent::AgentError;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::ledger;
use crate::stages::write_private;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use straas_schemas::NodeId;
use straas_schemas::pool::HostWish;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// A node's agent gets so long to end in order: longer than a script gets to end by itself.
const ENDING: Duration = Duration::from_secs(25);
/// An agent that ran so long did not fail at its start.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Does what is wanted until `stop` turns true; then ends the node's agent.
///
/// # Errors
/// The disk does not take what has to be written down.
pub async fn run(pool: &Pool, mut stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    while !*stop.borrow() {
        let record = pool.record();
        match record.tenancy.as_ref().filter(|tenancy| tenancy.phase == Phase::Serving) {
            // it hears of the stop itself: the agent gets its time to end in order
            Some(tenancy) => serve(pool, &record, tenancy, stop.clone()).await?,
            None => tokio::select! {
                done = step(pool, &record) => done?,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            },
        }
    }
    Ok(())
}

/// One step on, of those that may be broken off and begun anew.
async fn step(pool: &Pool, record: &Record) -> Result<(), AgentError> {
    match &record.tenancy {
        None => wait(pool, record).await,
        Some(tenancy) if tenancy.phase != Phase::Cleaning => {
            leave(pool, tenancy).await;
            let (phase, released) = (Phase::Cleaning, Some(tenancy.node.clone()));
            tracing::info!(node = %tenancy.node, "nothing of the node runs here any more");
            pool.note(Record { tenancy: Some(Tenancy { phase, ..tenancy.clone() }), released })
        }
        Some(tenancy) => {
            clean_up(pool, tenancy).await;
            pool.dirty.replace(None);
            tracing::info!(node = %tenancy.node, "the host is clean");
            pool.note(Record { tenancy: None, ..record.clone() })
        }
    }
}

/// Waits for a node; says of one that it has not that it has it not.
async fn wait(pool: &Pool, record: &Record) -> Result<(), AgentError> {
    let mut told = pool.told.subscribe();
    loop {
        let now = told.borrow_and_update().clone();
        if let Some(Told { wish, allotment }) = now {
            if wish.release.is_some() && wish.release != record.released {
                return pool.note(Record { released: wish.release, tenancy: None });
            }
            let given = allotment.filter(|allotment| wish.node.as_ref() == Some(&allotment.node));
            if let Some(given) = given {
                let (node, name, metrics_listen) = (given.node, given.name, given.metrics_listen);
                tracing::info!(%node, name, "the host is to have this node");
                // what an earlier node of this id may have left was cleaned up, or it would be here still
                take_up(pool, &node, &metrics_listen, &given.join_token)?;
                let tenancy = Some(Tenancy { node, name, metrics_listen, phase: Phase::Serving });
                return pool.note(Record { tenancy, ..record.clone() });
            }
        }
        // the sender lives as long as the pool
        let _ = told.changed().await;
    }
}

/// Makes the directory of a node's agent, with its configuration and its token.
fn take_up(pool: &Pool, node: &NodeId, metrics_listen: &str, join_token: &str) -> Result<(), AgentError> {
    let dir = pool.node_dir(node);
    let failed = |what: String| AgentError::Io { what, source: std::io::Error::other("see there") };
    ledger::make_dir(&dir)
        .map_err(|source| AgentError::Io { what: format!("{} cannot be made", dir.display()), source })?;
    write_private(&dir.join("join-token"), join_token.as_bytes()).map_err(failed)?;
    // whom this host trusts now: the file it was set up with may be of an authority that is retired
    let ca_file = dir.join("ca.pem");
    write_private(&ca_file, pool.client.trusted_pem().as_bytes()).map_err(failed)?;
    let config = Config {
        node: node.clone(),
        controllers: pool.config.controllers.clone(),
        ca_file,
        join_token_file: dir.join("join-token"),
        prefix: String::new(),
        metrics_listen: metrics_listen.to_owned(),
        log: pool.config.log.clone(),
        log_format: pool.config.log_format,
        heartbeat_ms: crate::config::HEARTBEAT_MS,
        poll_wait_ms: pool.config.poll_wait_ms,
        build_trial_s: crate::config::BUILD_TRIAL_S,
        state_dir: dir.clone(),
    };
    let text = toml::to_string(&config).map_err(|error| failed(format!("the node's configuration: {error}")))?;
    write_private(&dir.join("agent.toml"), text.as_bytes()).map_err(failed)
}

/// Runs the node's agent until the node is taken away, or until `stop`.
async fn serve(
    pool: &Pool,
    record: &Record,
    tenancy: &Tenancy,
    mut stop: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let mut told = pool.told.subscribe();
    let mut backoff = Backoff::default();
    loop {
        let begin = Instant::now();
        let (mut child, lifeline) = match start(&pool.node_dir(&tenancy.node)) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(%error, node = %tenancy.node, "the node's agent cannot be started; trying again");
                if until_taken(pool, tenancy, &mut told, &mut stop, sleep(backoff.failed())).await? {
                    break;
                }
                continue;
            }
        };
        let stopping = tokio::select! {
            taken = until_taken(pool, tenancy, &mut told, &mut stop, std::future::pending::<()>()) => Some(taken?),
            ended = child.wait() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!(node = %tenancy.node, how, "the node's agent has ended; starting it again");
                None
            }
        };
        if stopping.is_some() {
            drop(lifeline);
            end(child, &tenancy.node).await;
            break;
        }
        if begin.elapsed() > RAN_WELL {
            backoff.reset();
        }
        if until_taken(pool, tenancy, &mut told, &mut stop, sleep(backoff.failed())).await? {
            break;
        }
    }
    if *stop.borrow() {
        return Ok(());
    }
    tracing::info!(node = %tenancy.node, "the node is taken away; its agent has ended");
    pool.note(Record { tenancy: Some(Tenancy { phase: Phase::Leaving, ..tenancy.clone() }), ..record.clone() })
}

/// Waits until the node is taken away or `stop` turns true (`true`), or `pause` is over (`false`); a new token that comes
/// meanwhile is put in its place.
async fn until_taken(
    pool: &Pool,
    tenancy: &Tenancy,
    told: &mut watch::Receiver<Option<Told>>,
    stop: &mut watch::Receiver<bool>,
    pause: impl Future<Output = ()>,
) -> Result<bool, AgentError> {
    let mut pause = std::pin::pin!(pause);
    loop {
        let now = told.borrow_and_update().clone();
        if let Some(Told { wish: HostWish { node, .. }, allotment }) = now {
            if node.as_ref() != Some(&tenancy.node) {
                return Ok(true);
            }
            if let Some(given) = allotment.filter(|given| given.node == tenancy.node) {
                let file = pool.node_dir(&tenancy.node).join("join-token");
                // its agent tries a token that it finds
                if std::fs::read_to_string(&file).ok().as_deref() != Some(given.join_token.as_str()) {
                    take_up(pool, &tenancy.node, &tenancy.metrics_listen, &given.join_token)?;
                }
            }
        }
        tokio::select! {
            _ = told.changed() => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(true),
            () = &mut pause => return Ok(false),
        }
    }
}

/// This program; it may have been replaced by a package since it was started.
fn program() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let text = own.to_string_lossy().into_owned();
    Ok(text.strip_suffix(" (deleted)").map_or(own, PathBuf::from))
}

/// Starts a node's agent; it lives as long as what comes with it. That is kept apart, since waiting for a child closes its
/// standard input.
fn start(dir: &Path) -> std::io::Result<(Child, Option<ChildStdin>)> {
    let mut child = Command::new(program()?)
        .arg("--config")
        .arg(dir.join("agent.toml"))
        .arg("--until-stdin-ends")
        // whether this host is ready is this process' word
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .kill_on_drop(false)
        .spawn()?;
    let lifeline = child.stdin.take();
    Ok((child, lifeline))
}

/// Waits for a node's agent that was asked to end; ends it by force if that takes too long.
async fn end(mut child: Child, node: &NodeId) {
    if timeout(ENDING, child.wait()).await.is_err() {
        tracing::warn!(%node, "the node's agent does not end; it is killed");
        // it has ended if it cannot be killed
        let _ = child.kill().await;
    }
}

/// Stops the node's service, which is tried until it succeeds.
async fn leave(pool: &Pool, tenancy: &Tenancy) {
    let mut backoff = Backoff::default();
    while let Err(reason) = clean::stop(&pool.node_dir(&tenancy.node), &tenancy.node, backoff.failures() + 1).await {
        tracing::error!(node = %tenancy.node, reason, "the node's service does not stop; trying again");
        sleep(backoff.failed()).await;
    }
}

/// Removes what the node left, which is tried until it succeeds or somebody says that he did it.
async fn clean_up(pool: &Pool, tenancy: &Tenancy) {
    let dir = pool.node_dir(&tenancy.node);
    let mut backoff = Backoff::default();
    let mut told = pool.told.subscribe();
    loop {
        let cleaned = told.borrow_and_update().as_ref().is_some_and(|told| told.wish.cleaned);
        let attempt = backoff.failures() + 1;
        let done = if cleaned {
            tracing::info!(node = %tenancy.node, "somebody has cleaned the host by hand");
            clean::forget(&dir)
        } else {
            clean::remove(&dir, &tenancy.node, &pool.client, attempt).await
        };
        let Err(reason) = done else { return };
        tracing::error!(node = %tenancy.node, reason, "the host is not clean; trying again");
        if pool.dirty.replace(Some(reason.clone())) != Some(reason) {
            pool.changed.notify_one();
        }
        tokio::select! {
            () = sleep(backoff.failed()) => {}
            _ = told.changed() => {}
        }
    }
}
