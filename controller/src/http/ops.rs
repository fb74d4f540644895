//! The controller itself: alive, ready, numbers.

use crate::app::App;
use crate::error::chain;
use crate::tasks::mirrors;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use straas_repos::{CommitId, UpstreamView};

/// A database that does not answer within this time does not answer.
const PING: Duration = Duration::from_secs(2);

/// `GET /healthz`: the process serves.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: what works and what does not.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let database = match tokio::time::timeout(PING, app.store.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", PING.as_secs())),
    };
    let hosts = app.boot.borrow().is_some();
    let (authority, disk) = (app.authorities.trouble(), app.disk.fault().await);
    let ready = database.is_ok() && authority.is_none() && disk.is_none() && !app.stopping.is_requested();
    let settings = app.settings.view();
    let upstreams: Map<String, Value> =
        mirrors::all(&app).map(|(mirror, view)| (mirror.name().to_owned(), upstream(&view))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready,
        "version": env!("CARGO_PKG_VERSION"),
        "database": database.err().unwrap_or_else(|| "ok".to_owned()),
        "authority": if authority.is_some() { "the one that issues cannot be put in force here: see the log" } else { "ok" },
        "disk": disk.unwrap_or_else(|| "ok".to_owned()),
        "hosts": if hosts { "ok" } else { "image and packages are being made" },
        "isolation": app.hosts.kind(),
        // how many only: whoever may know more asks with a token
        "settings": match settings.faults.len() {
            0 => "ok".to_owned(),
            faults => format!("those of {} are in force; commit {} has {faults} faults: straas config settings",
                settings.commit.as_ref().map_or("the controller's own configuration", CommitId::as_str), settings.head),
        },
        // reads and nodes go on without them, so the controller is ready
        "upstreams": upstreams,
    });
    (status, Json(body)).into_response()
}

/// An upstream git server: whether it answers, what of it is not taken, and how old the mirror is.
fn upstream(view: &UpstreamView) -> Value {
    let says = match (&view.away, view.refused.as_slice()) {
        (Some((since, why)), _) => {
            let since = jiff::Timestamp::try_from(*since).unwrap_or_default();
            format!(
                "does not answer as it should since {since:.0}: {why}; reads go on from the mirror, writes are refused"
            )
        }
        (None, []) => "ok".to_owned(),
        (None, [(name, commit, _), more @ ..]) => {
            format!("{name} is at {commit} there, which is not taken ({} more): see the log", more.len())
        }
    };
    json!({ "upstream": says, "mirror_age_s": view.age.map(|age| age.as_secs()) })
}

/// `GET /metrics`
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    app.metrics.disk(app.disk.fault().await.is_none());
    for (mirror, view) in mirrors::all(&app) {
        app.metrics.mirror(mirror.name(), view.age, view.away.is_none(), view.refused.len());
    }
    (
        [(header::CONTENT_TYPE, kind)],
        app.metrics.text(app.fleet.counts(), app.settings.view().faults.len(), app.store.writes()),
    )
        .into_response()
}
