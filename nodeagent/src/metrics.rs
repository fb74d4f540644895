//! `GET /metrics` for Prometheus, on an address of its own.
//!
//! Values are read when they are asked for; nothing is counted in the background.
//!
//! Never here: anything but numbers. Facts and output can hold what is not for everybody.

use crate::agent::Agent;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use straas_schemas::Outcome;
use straas_schemas::heartbeat::ServiceStatus;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Scrapes at once; the endpoint is for one or two collectors.
const CONNECTIONS_MAX: usize = 8;
/// Time to send a request's head.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Longest life of a connection.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

type Float = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    name: String,
}

/// Binds the address and serves it in the background.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(agent: &Rc<Agent>) -> std::io::Result<()> {
    let listener = TcpListener::bind(&agent.config.metrics_listen).await?;
    let agent = Rc::clone(agent);
    tokio::task::spawn_local(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // out of file descriptors, most likely
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let agent = Rc::clone(&agent);
            tokio::task::spawn_local(async move {
                let service = hyper::service::service_fn(|request| {
                    let response = answer(&agent, &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIME)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
                drop(place);
            });
        }
    });
    Ok(())
}

fn answer(agent: &Agent, request: &Request<hyper::body::Incoming>) -> Response<Full<bytes::Bytes>> {
    let mut text = String::new();
    let status = match request.uri().path() {
        "/metrics" if encode(&mut text, &registry(agent)).is_ok() => StatusCode::OK,
        "/metrics" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn registry(agent: &Agent) -> Registry {
    let mut registry = Registry::with_prefix("straas");
    let status = agent.look(|converger, now| converger.status(now));
    let vitals = agent.sampler.borrow_mut().sample(agent.started().elapsed(), agent.client.failed());
    let mut gauge = |name: &str, help: &str, value: f64| {
        let gauge = Float::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    #[allow(clippy::cast_precision_loss)] // a gauge is a float
    let number = |value: u64| value as f64;
    let flag = |on: bool| f64::from(u8::from(on));
    gauge("agent_generation", "Generation of the assignment in the ledger", number(status.generation));
    gauge("agent_converged", "Whether every stage of it is done", flag(status.converged));
    gauge("agent_outbox_reports", "Reports not yet acknowledged", f64::from(status.outbox));
    let open = agent.look(|converger, _| converger.open_commands().len());
    gauge("agent_open_commands", "Guest commands that have not ended", number(open as u64));
    gauge("agent_ledger_writable", "Whether the ledger takes writes", flag(agent.is_writable()));
    gauge("agent_resident_bytes", "Resident memory of the agent", number(vitals.agent.resident));
    gauge("agent_cpu_milliseconds", "Processor time of the agent since its start", number(vitals.agent.cpu_ms));
    gauge("agent_failed_requests", "Requests to controllers that failed", number(vitals.agent.failed_requests));
    gauge(
        "service_active",
        "Whether validate last found the service working",
        flag(status.service == ServiceStatus::Active),
    );
    gauge("host_uptime_seconds", "Since the host booted", number(vitals.uptime_s));
    gauge("host_cpu_percent", "Use of all processors", vitals.cpu_percent.into());
    gauge("host_load1", "Load average over a minute", vitals.load[0]);
    gauge("host_memory_bytes", "Memory", number(vitals.memory_total));
    gauge("host_memory_available_bytes", "Memory available", number(vitals.memory_available));
    let family = |values: Vec<(String, f64)>| {
        let family = Family::<Labels, Float>::default();
        for (name, value) in values {
            family.get_or_create(&Labels { name }).set(value);
        }
        family
    };
    let stages = &status.stages;
    let seconds = stages.iter().map(|(stage, s)| (stage.name().to_owned(), number(s.duration_ms) / 1e3)).collect();
    registry.register("stage_seconds", "How long a stage's last run took", family(seconds));
    let ok = stages.iter().map(|(stage, s)| (stage.name().to_owned(), flag(s.outcome == Outcome::Succeeded))).collect();
    registry.register("stage_succeeded", "Whether a stage's last run succeeded", family(ok));
    let available = vitals.disks.iter().map(|(mount, disk)| (mount.clone(), number(disk.available))).collect();
    registry.register("host_disk_available_bytes", "Free bytes by mount point", family(available));
    let total = vitals.disks.iter().map(|(mount, disk)| (mount.clone(), number(disk.total))).collect();
    registry.register("host_disk_bytes", "Bytes by mount point", family(total));
    let received = vitals.networks.iter().map(|(name, n)| (name.clone(), number(n.received))).collect();
    registry.register("host_network_received_bytes", "Bytes received by interface", family(received));
    let sent = vitals.networks.iter().map(|(name, n)| (name.clone(), number(n.sent))).collect();
    registry.register("host_network_sent_bytes", "Bytes sent by interface", family(sent));
    registry
}
