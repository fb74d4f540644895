//! Live streams (server-sent events) with history.
//!
//! A wake-up carries nothing: the stream re-reads what is new from the store, so that a slow
//! reader, a missed wake-up or a reconnect (`Last-Event-ID`) loses nothing.

use super::auth::Caller;
use super::extract::Path;
use super::problem::ApiError;
use super::{jobs, topologies};
use crate::app::App;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive, Sse as Stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::TopologyId;
use straas_schemas::job::Job;
use straas_store::JobRecord;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Events read from the store at once.
const READ_MAX: u32 = 500;
/// A comment is sent so often on a quiet stream, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pictures of a job are sent at most so often.
const JOB_EVERY: Duration = Duration::from_millis(200);
/// Looks again at least so often, should a wake-up have been on another controller.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A stream.
pub type Answer = Stream<axum::response::sse::KeepAliveStream<ReceiverStream<Result<Sse, Infallible>>>>;

/// `GET /v1.0/topologies/{id}/events`
pub async fn of_topology(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let topology = topologies::own(&app, &caller, &id).await?.id;
    Ok(stream(&app.clone(), |out| follow(app, topology, None, after(&headers), out)))
}

/// `GET /v1.0/jobs/{id}/events`: events of its topology, and `job` events with its picture
/// whenever that changes; ends when the job has ended.
pub async fn of_job(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let job = jobs::own(&app, &caller, &id).await?;
    Ok(stream(&app.clone(), |out| follow(app, job.topology.clone(), Some(job), after(&headers), out)))
}

/// The id of the last event that the reader has.
pub fn after(headers: &HeaderMap) -> i64 {
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Where a stream's events go.
pub type Out = mpsc::Sender<Result<Sse, Infallible>>;

/// A stream of what `work` sends, until it ends, the reader goes or the controller stops.
pub fn stream<F: Future<Output = ()> + Send + 'static>(app: &App, work: impl FnOnce(Out) -> F) -> Answer {
    let (out, events) = mpsc::channel(64);
    let (work, mut stopping) = (work(out), app.stopping.clone());
    app.tasks.spawn(async move {
        // also while a slow reader keeps it from sending
        tokio::select! {
            () = work => {}
            () = stopping.requested() => {}
        }
    });
    let events: ReceiverStream<_> = events.into();
    Stream::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

async fn follow(app: Arc<App>, topology: TopologyId, job: Option<JobRecord>, mut after: i64, out: Out) {
    let mut touched = app.wake.listen();
    let mut shown: Option<Job> = None;
    loop {
        match turn(&app, &topology, job.as_ref(), &mut after, &mut shown, &out).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let text = serde_json::json!({ "status": error.status().as_u16() }).to_string();
                let _ = out.send(Ok(Sse::default().event("error").data(text))).await;
                return;
            }
        }
        tokio::select! {
            () = heard(&mut touched, &topology) => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = out.closed() => return,
        }
        if job.is_some() {
            tokio::time::sleep(JOB_EVERY).await;
        }
    }
}

async fn heard(touched: &mut broadcast::Receiver<TopologyId>, topology: &TopologyId) {
    loop {
        match touched.recv().await {
            Ok(id) if id != *topology => {}
            // ours, or so many that ours may have been among them
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Sends what is new; `false` when the stream is at its end.
async fn turn(
    app: &App,
    topology: &TopologyId,
    job: Option<&JobRecord>,
    after: &mut i64,
    shown: &mut Option<Job>,
    out: &Out,
) -> Result<bool, ApiError> {
    // the job first: events that led to its end are then sure to be sent before it
    let picture = match job {
        Some(record) => {
            let record = app.store.job(&record.id).await?.unwrap_or_else(|| record.clone());
            Some(jobs::current(app, &record).await?)
        }
        None => None,
    };
    // of a topology that is gone nothing more is to come
    let over = job.is_none() && app.store.topology(topology).await?.is_none();
    let ended = picture.as_ref().and_then(|picture| picture.finished_ms);
    loop {
        let events = app.store.events(topology, *after, READ_MAX).await?;
        let full = events.len() == READ_MAX as usize;
        for event in events {
            *after = event.seq;
            if !job.is_none_or(|job| during(job, ended, event.at_ms)) {
                continue;
            }
            let sse = Sse::default().id(event.seq.to_string()).event("event").data(json(&event));
            if out.send(Ok(sse)).await.is_err() {
                return Ok(false);
            }
        }
        if !full {
            break;
        }
    }
    let Some(picture) = picture else { return Ok(!over) };
    let ended = picture.standing.is_final();
    if shown.as_ref() != Some(&picture) {
        if out.send(Ok(Sse::default().event("job").data(json(&picture)))).await.is_err() {
            return Ok(false);
        }
        *shown = Some(picture);
    }
    Ok(!ended)
}

/// Whether something happened while a job was open: its topology has a life before and after it.
fn during(job: &JobRecord, ended_ms: Option<i64>, at_ms: i64) -> bool {
    job.created_ms <= at_ms && ended_ms.is_none_or(|end| at_ms <= end)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
