//! Does the work that takes time: one run, one fetch, guest commands, and the converger's clock.
//!
//! Never here: a second run of a stage beside the first, or more commands than may run at once; the
//! converger orders none before it heard of an end.

use crate::agent::{Agent, AgentError, Order, Orders};
use crate::stages::{self, Place};
use crate::{commands, delivered, hosts};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use straas_converge::{Event, RunId, RunOrder, RunResult, Task};
use straas_schemas::{FileRef, Outcome, Stage};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Between two tries of a disk that took nothing.
pub(crate) const STALL_RETRY: Duration = Duration::from_secs(5);

type Running<'a> = Pin<Box<dyn Future<Output = RunResult> + 'a>>;
type Fetching<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Works until `stop` turns true, then ends the running script.
///
/// # Errors
/// What was durable in the ledger is gone.
pub async fn run(agent: &Rc<Agent>, mut orders: Orders, mut stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    let mut wake = agent.wake.subscribe();
    let mut stalls = agent.stalled.subscribe();
    let mut running: Option<(RunId, watch::Sender<bool>, Running<'_>)> = None;
    let mut fetching: Option<(u64, Fetching<'_>)> = None;
    let mut commands = JoinSet::new();
    let mut kills: BTreeMap<RunId, watch::Sender<bool>> = BTreeMap::new();
    loop {
        let at = *wake.borrow_and_update();
        let stalled = *stalls.borrow_and_update();
        tokio::select! {
            Some(order) = orders.recv() => match order {
                Order::Run(order) => {
                    agent.progress.replace(None);
                    let (kill, killed) = watch::channel(false);
                    running = Some((order.id, kill, Box::pin(one_run(agent, order, killed))));
                }
                Order::Begin(run) => {
                    let (kill, killed) = watch::channel(false);
                    kills.insert(run.id, kill);
                    let agent = Rc::clone(agent);
                    commands.spawn_local(async move {
                        let result = commands::run(&agent, &run, killed).await;
                        (run.id, run.order.id, result)
                    });
                }
                Order::Kill(id) => {
                    if let Some(kill) = kills.get(&id) {
                        kill.send_replace(true);
                    }
                    if let Some((_, kill, _)) = running.as_ref().filter(|(run, ..)| *run == id) {
                        kill.send_replace(true);
                    }
                }
                Order::Fetch { fetch, scripts, files, hosts } => {
                    fetching = Some((fetch, Box::pin(one_fetch(agent, scripts, files, hosts))));
                }
            },
            result = running_end(&mut running) => {
                if let Some((run, ..)) = running.take() {
                    agent.progress.replace(None);
                    agent.handle(Event::Finished { run, result: Box::new(result) });
                }
            }
            Some(ended) = commands.join_next() => match ended {
                Ok((run, command, result)) => {
                    kills.remove(&run);
                    agent.handle(Event::Ended { run, command, result: Box::new(result) });
                }
                Err(error) => tracing::error!(%error, "a guest command broke the agent; it will be reported as unknown"),
            },
            result = fetching_end(&mut fetching) => {
                if let Some((fetch, _)) = fetching.take() {
                    agent.handle(match result {
                        Ok(()) => Event::Activated { fetch },
                        Err(reason) => {
                            tracing::warn!(reason, "scripts or files are not in place; tried again later");
                            Event::FetchFailed { fetch, reason }
                        }
                    });
                }
            }
            () = wake_at(agent, at) => {
                agent.wake.send_replace(None);
                agent.handle(Event::Tick);
            }
            _ = wake.changed() => {}
            _ = stalls.changed() => {}
            () = tokio::time::sleep(STALL_RETRY), if stalled => {
                if let Some(error) = agent.gone() {
                    return Err(error.into());
                }
                agent.work_off();
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    for kill in kills.values() {
        kill.send_replace(true);
    }
    if let Some((run, kill, end)) = running {
        tracing::info!(run = run.0, "ends the running script; it will be run again");
        kill.send_replace(true);
        end.await;
    }
    if !commands.is_empty() {
        tracing::warn!(count = commands.len(), "ends guest commands in the middle");
        while commands.join_next().await.is_some() {}
    }
    Ok(())
}

async fn running_end(running: &mut Option<(RunId, watch::Sender<bool>, Running<'_>)>) -> RunResult {
    match running {
        Some((_, _, end)) => end.await,
        None => std::future::pending().await,
    }
}

async fn fetching_end(fetching: &mut Option<(u64, Fetching<'_>)>) -> Result<(), String> {
    match fetching {
        Some((_, end)) => end.await,
        None => std::future::pending().await,
    }
}

/// Ends when a tick is wanted, in `mono_ms`; never without one.
pub async fn wake_at(agent: &Agent, at: Option<i64>) {
    match at.and_then(|at| u64::try_from(at).ok()) {
        Some(at) => sleep_until(agent.started() + Duration::from_millis(at)).await,
        None => std::future::pending().await,
    }
}

/// Where scripts run now.
pub(crate) fn place(agent: &Agent) -> Place {
    Place {
        state_dir: agent.config.state_dir.clone(),
        scripts: agent.scripts.current().unwrap_or_default(),
        prefix: agent.config.prefix.clone(),
        node: agent.config.node.to_string(),
    }
}

async fn one_run(agent: &Agent, order: RunOrder, kill: watch::Receiver<bool>) -> RunResult {
    let begin = Instant::now();
    let assignment = agent.look(|converger, _| converger.ledger().assignment.clone());
    let (node, generation, task, attempt) =
        (agent.config.node.as_str(), order.generation, order.task.name(), order.attempt);
    tracing::debug!(node, generation, stage = task, attempt, digest = order.digest.short(), "runs");
    let place = place(agent);
    let progress = |said: &crate::messages::Said| {
        if let Some(text) = &said.progress {
            tracing::debug!(node, generation, stage = task, text, "progress");
            agent.progress.replace(Some((text.clone(), said.percent)));
            agent.beat.notify_one();
        }
    };
    // there is an assignment, or nothing would have been ordered
    let Some(assignment) = assignment else { return std::future::pending().await };
    let result = stages::run(&place, &order, &assignment, kill, &progress).await;
    let (outcome, reason) = (result.outcome, result.reason.as_str());
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        // a settled node looks every few seconds
        Outcome::Succeeded if matches!(order.task, Task::Stage(Stage::Validate) | Task::Drift) => {
            tracing::debug!(node, generation, stage = task, attempt, ms, "succeeded");
        }
        Outcome::Succeeded => tracing::info!(node, generation, stage = task, attempt, ms, "succeeded"),
        Outcome::Waiting => tracing::info!(node, generation, stage = task, attempt, ms, reason, "not yet"),
        Outcome::Failed => tracing::warn!(node, generation, stage = task, attempt, ms, reason, "failed"),
    }
    result
}

/// Puts scripts, files and names of hosts in their places.
///
/// # Errors
/// Why they are not there.
pub async fn one_fetch(
    agent: &Agent,
    scripts: String,
    files: Vec<FileRef>,
    names: BTreeMap<String, String>,
) -> Result<(), String> {
    let (client, node) = (&agent.client, &agent.config.node);
    hosts::ensure(Path::new(hosts::PATH), &agent.config.prefix, &names).map_err(|error| error.to_string())?;
    agent.scripts.activate(client, node, &scripts).await.map_err(|error| error.to_string())?;
    let placed = delivered::ensure(client, node, &agent.config.state_dir, &agent.config.prefix, &files).await;
    placed.map_err(|error| error.to_string())
}
