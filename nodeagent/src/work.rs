//! Does the work that takes time: one run, one fetch, and the converger's clock.
//!
//! Never here: a second run beside the first; the converger orders none before it heard the end.

use crate::agent::{Agent, AgentError, Order};
use crate::files;
use crate::stages::{self, Place};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use straas_converge::{Event, RunId, RunOrder, RunResult, Task};
use straas_schemas::{FileRef, Outcome, Stage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Between two tries to write to a ledger that refused.
const STALL_RETRY: Duration = Duration::from_secs(5);

type Running<'a> = Pin<Box<dyn Future<Output = RunResult> + 'a>>;
type Fetching<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Works until `stop` turns true, then ends the running script.
///
/// # Errors
/// [`AgentError::Stalled`].
pub async fn run(
    agent: &Agent,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), AgentError> {
    let mut wake = agent.wake.subscribe();
    let mut running: Option<(RunId, watch::Sender<bool>, Running<'_>)> = None;
    let mut fetching: Option<(u64, Fetching<'_>)> = None;
    loop {
        let at = *wake.borrow_and_update();
        let stalled = agent.is_stalled();
        tokio::select! {
            Some(order) = orders.recv() => match order {
                Order::Run(order) => {
                    agent.progress.replace(None);
                    let (kill, killed) = watch::channel(false);
                    running = Some((order.id, kill, Box::pin(one_run(agent, order, killed))));
                }
                Order::Kill(id) => {
                    if let Some((_, kill, _)) = running.as_ref().filter(|(run, ..)| *run == id) {
                        kill.send_replace(true);
                    }
                }
                Order::Fetch { fetch, scripts, files } => {
                    fetching = Some((fetch, Box::pin(one_fetch(agent, scripts, files))));
                }
            },
            result = running_end(&mut running) => {
                if let Some((run, ..)) = running.take() {
                    agent.progress.replace(None);
                    agent.handle(Event::Finished { run, result: Box::new(result) });
                }
            }
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
            () = tokio::time::sleep(STALL_RETRY), if stalled => {
                agent.work_off();
                if agent.is_lost() {
                    return Err(AgentError::Stalled);
                }
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    if let Some((run, kill, end)) = running {
        tracing::info!(run = run.0, "ends the running script; it will be run again");
        kill.send_replace(true);
        end.await;
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

async fn wake_at(agent: &Agent, at: Option<i64>) {
    match at.and_then(|at| u64::try_from(at).ok()) {
        Some(at) => sleep_until(agent.started() + Duration::from_millis(at)).await,
        None => std::future::pending().await,
    }
}

async fn one_run(agent: &Agent, order: RunOrder, kill: watch::Receiver<bool>) -> RunResult {
    let begin = Instant::now();
    let assignment = agent.look(|converger, _| converger.ledger().assignment.clone());
    let (node, generation, task, attempt) =
        (agent.config.node.as_str(), order.generation, order.task.name(), order.attempt);
    tracing::debug!(node, generation, stage = task, attempt, digest = order.digest.short(), "runs");
    let place = Place {
        state_dir: agent.config.state_dir.clone(),
        scripts: agent.scripts.current().unwrap_or_default(),
        prefix: agent.config.prefix.clone(),
        node: node.to_owned(),
    };
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
        Outcome::Succeeded if order.task == Task::Stage(Stage::Validate) => {
            tracing::debug!(node, generation, stage = task, attempt, ms, "succeeded");
        }
        Outcome::Succeeded => tracing::info!(node, generation, stage = task, attempt, ms, "succeeded"),
        Outcome::Waiting => tracing::info!(node, generation, stage = task, attempt, ms, reason, "not yet"),
        Outcome::Failed => tracing::warn!(node, generation, stage = task, attempt, ms, reason, "failed"),
    }
    result
}

async fn one_fetch(agent: &Agent, scripts: String, files: Vec<FileRef>) -> Result<(), String> {
    let (client, node) = (&agent.client, &agent.config.node);
    agent.scripts.activate(client, node, &scripts).await.map_err(|error| error.to_string())?;
    files::ensure(client, node, &agent.config.prefix, &files).await.map_err(|error| error.to_string())
}
