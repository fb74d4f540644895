//! The audit trail: every request that may change something leaves a line before anything is done
//! for it, and another one when it is answered.
//!
//! What changed is told by whoever changes it, with [`changed`], from wherever that is: a request's
//! notes travel with its task. Bodies are not kept, since passwords and secrets come in them.
//! Requests that are refused for want of a token or a right, and dry runs, change nothing and leave
//! nothing.

use super::auth::Caller;
use super::extract::Query;
use super::lists::{Listed, cut};
use super::problem::ApiError;
use crate::app::App;
use crate::error::chain;
use crate::port::Source;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::sync::Arc;
use straas_schemas::TopologyId;
use straas_schemas::audit::{AuditChange, AuditView};
use straas_schemas::view::Page;
use straas_store::{AuditBegin, AuditEnd, AuditFilter, AuditRecord};

/// Longest path that is kept whole.
const PATH_MAX: usize = 2000;
/// Most changes of one request that are kept.
const CHANGES_MAX: usize = 100;
/// A change that is longer is kept as what it is about only.
const CHANGE_BYTES_MAX: usize = 64 << 10;

/// The id of a request, for who looks for it in the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

#[derive(Default)]
struct Notes {
    topology: Option<TopologyId>,
    changes: Vec<AuditChange>,
}

tokio::task_local! {
    static NOTES: RefCell<Notes>;
}

/// The request is about a topology.
pub fn about(topology: &TopologyId) {
    let _ = NOTES.try_with(|notes| notes.borrow_mut().topology = Some(topology.clone()));
}

/// The request changed something: what, and of two objects only the fields that differ.
pub fn changed(what: impl Into<String>, before: Value, after: Value) {
    let _ = NOTES.try_with(|notes| {
        let changes = &mut notes.borrow_mut().changes;
        if changes.len() < CHANGES_MAX {
            changes.push(change(what.into(), before, after));
        }
    });
}

fn change(what: String, before: Value, after: Value) -> AuditChange {
    let (before, after) = differing(before, after);
    let long = before.to_string().len() + after.to_string().len() > CHANGE_BYTES_MAX;
    if long {
        AuditChange { what, before: Value::Null, after: "(too long to be kept)".into() }
    } else {
        AuditChange { what, before, after }
    }
}

/// Two values without what is the same in both.
fn differing(before: Value, after: Value) -> (Value, Value) {
    let (Value::Object(before), Value::Object(mut after)) = (&before, after.clone()) else { return (before, after) };
    let mut old = Map::new();
    for (key, was) in before {
        match after.remove(key) {
            Some(is) if is == *was => {}
            Some(is) => {
                let (was, is) = differing(was.clone(), is);
                old.insert(key.clone(), was);
                after.insert(key.clone(), is);
            }
            None => drop(old.insert(key.clone(), was.clone())),
        }
    }
    (old.into(), after.into())
}

/// Writes the lines of a request.
///
/// # Errors
/// 503 if the first line cannot be written: then nothing is done.
pub async fn record(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let begin =
        (!matches!(*request.method(), Method::GET | Method::HEAD)).then(|| begin(&request, app.now_ms())).flatten();
    let Some(begin) = begin else { return Ok(next.run(request).await) };
    let seq = app.store.audit_begin(&begin).await?;
    let (response, notes) = NOTES
        .scope(RefCell::default(), async {
            let response = next.run(request).await;
            (response, NOTES.with(RefCell::take))
        })
        .await;
    let end = AuditEnd {
        at_ms: app.now_ms(),
        status: response.status().as_u16(),
        topology: notes.topology,
        changes: json!(notes.changes),
    };
    // it is done, and the answer is due: the line that it began stays without its end
    if let Err(error) = app.store.audit_end(seq, &end).await {
        tracing::error!(seq, error = chain(&error), "how a request ended cannot be recorded");
    }
    Ok(response)
}

fn begin(request: &Request, at_ms: i64) -> Option<AuditBegin> {
    let caller = request.extensions().get::<Caller>()?;
    let uri = request.uri();
    if is_dry_run(uri) {
        return None;
    }
    let original = request.extensions().get::<axum::extract::OriginalUri>().map_or(uri, |uri| &uri.0);
    let path = original.path_and_query().map_or("", |path| path.as_str());
    Some(AuditBegin {
        at_ms,
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        caller: caller.name.clone(),
        tenant: caller.tenant.clone(),
        token: caller.token.id.clone(),
        source: request.extensions().get::<Source>().map(|source| source.0.ip().to_string()).unwrap_or_default(),
        method: request.method().to_string(),
        path: path.chars().take(PATH_MAX).collect(),
    })
}

/// Whether a request only asks what would be done.
pub fn is_dry_run(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "dry_run=true"))
}

/// Query of the audit trail.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    #[serde(flatten)]
    listed: Listed,
    /// Of this caller.
    caller: Option<String>,
    /// About this topology (id), which may be gone.
    topology: Option<TopologyId>,
    /// Of this method.
    method: Option<String>,
    /// Answered with this status.
    status: Option<u16>,
    /// Begun at this time or later, Unix ms.
    since_ms: Option<i64>,
    /// Begun before this time, Unix ms.
    until_ms: Option<i64>,
}

/// `GET /v1.0/audit`: newest first.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    let page = query.listed.page();
    if page.after.as_ref().is_some_and(|after| after.parse::<i64>().is_err()) {
        return Err(ApiError::invalid("/marker", "is the `next` of an earlier answer"));
    }
    let filter = AuditFilter {
        tenant: query.listed.tenant(&caller)?,
        caller: query.caller,
        topology: query.topology,
        method: query.method,
        status: query.status,
        since_ms: query.since_ms,
        until_ms: query.until_ms,
    };
    let mut found: Vec<AuditView> = app.store.audit(&filter, &page).await?.into_iter().map(view).collect();
    let next = cut(&mut found, &page, |line| line.id.clone());
    Ok(Json(Page { items: found, next }))
}

fn view(record: AuditRecord) -> AuditView {
    let AuditRecord { seq, begin, end } = record;
    let changes = end.as_ref().and_then(|end| serde_json::from_value(end.changes.clone()).ok()).unwrap_or_default();
    AuditView {
        id: seq.to_string(),
        at_ms: begin.at_ms,
        request_id: begin.request_id,
        caller: begin.caller,
        tenant: begin.tenant,
        token: begin.token,
        source: begin.source,
        method: begin.method,
        path: begin.path,
        topology: end.as_ref().and_then(|end| end.topology.clone()),
        status: end.as_ref().map(|end| end.status),
        ended_ms: end.as_ref().map(|end| end.at_ms),
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_kept() {
        let check = |before: Value, after: Value, expect: (Value, Value)| assert_eq!(differing(before, after), expect);
        check(
            json!({ "a": 1, "b": 2 }),
            json!({ "a": 1, "b": 3, "c": 4 }),
            (json!({ "b": 2 }), json!({ "b": 3, "c": 4 })),
        );
        check(
            json!({ "a": { "x": 1, "y": 2 } }),
            json!({ "a": { "x": 1, "y": 3 } }),
            (json!({ "a": { "y": 2 } }), json!({ "a": { "y": 3 } })),
        );
        check(json!({ "a": 1 }), json!({}), (json!({ "a": 1 }), json!({})));
        check(json!(null), json!({ "a": 1 }), (json!(null), json!({ "a": 1 })));
        check(json!([1]), json!([2]), (json!([1]), json!([2])));
        let long = "x".repeat(CHANGE_BYTES_MAX);
        assert_eq!(change("it".into(), json!(null), json!(long)).after, json!("(too long to be kept)"));
    }
}
