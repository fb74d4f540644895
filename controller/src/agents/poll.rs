//! The long poll: answers as soon as there is a newer assignment than the one the node has, or a
//! guest command that it does not have, or one of its commands is to be ended, or its service is to
//! be looked at.
//!
//! Something else than newer (a lower generation after a database was put back, the same generation
//! with other content) is what the agent refuses and reports. It is told so at the end of its wait:
//! at once would be a loop of refusals as fast as the link.
//!
//! A command that a poll names is known to be in the node's journal. To an agent without an
//! assignment none is offered: it has no scripts, and if its ledger was lost, the controller has to
//! hear of that first.

use super::{OwnNode, check_trusts, is_due, note_shown};
use crate::app::App;
use crate::engine::{Engine, within};
use crate::fleet::{Said, Slot};
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use crate::tls::Identity;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::NodeId;
use straas_schemas::command::COMMANDS_WAITING_MAX;
use straas_schemas::poll::{POLL_WAIT_MS_MAX, PollRequest};
use straas_store::AgentId;

/// A poll that begins takes the node's commands anew from the store if that was last done so long
/// ago: another controller may have queued some.
const SYNC_MS: i64 = 1_000;
/// A database that does not answer within this time is done without: what waits for the node's commands is the answer
/// that it may be told at once.
const SYNC_MAX: Duration = Duration::from_secs(2);
/// Most commands that one poll names: all that may wait, and operations beside them.
const NAMED_MAX: usize = COMMANDS_WAITING_MAX * 4;

/// `POST /agent/v1/nodes/{id}/poll`
pub async fn poll(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Json(request): Json<PollRequest>,
) -> Result<Response, ApiError> {
    let trusts = request.trusts.as_deref();
    check_trusts(trusts)?;
    note_shown(&app, AgentId::Node(identity.id.clone()), &identity, trusts);
    let body = answered(&app, &identity, &request).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Waits as long as is asked for, and gives a `PollAnswer` as JSON.
///
/// # Errors
/// What is wrong with the request, or the node's incarnation is in standing no more.
pub async fn answered(app: &Engine, identity: &Identity<NodeId>, request: &PollRequest) -> Result<Bytes, ApiError> {
    let gone = || ApiError::unauthorized("there is no such node any more");
    if request.commands.len() > NAMED_MAX {
        return Err(ApiError::invalid("/commands", &format!("at most {NAMED_MAX} commands")));
    }
    let node = &identity.id;
    named(app, node, request, app.fleet.get(node).ok_or_else(gone)?).await;
    let mut watch = app.fleet.watch(node).ok_or_else(gone)?;
    let mut stopping = app.stopping.clone();
    let newer = |slot: &Slot| slot.offer.as_ref().is_some_and(|offer| offer.generation > request.generation);
    let wait = Duration::from_millis(u64::from(request.wait_ms.min(POLL_WAIT_MS_MAX)));
    let mut over = std::pin::pin!(pause(wait));
    let mut last = false;
    let (slot, said, trust) = loop {
        let slot = watch.borrow_and_update().clone();
        let said = say(&slot, request, app.now_ms());
        let look = request.generation > 0 && slot.look > request.look;
        // whom to trust is told at once to who begins to ask, and to others when their wait is over: all at once would be a
        // new connection of every agent in one moment
        let trust = app.authorities.now().tells(request.trusts.as_deref());
        let news = look || newer(&slot) || !said.is_empty() || trust.is_some();
        if last || news || slot.incarnation != identity.incarnation {
            break (slot, said, trust);
        }
        let again = slot.orders.again_ms(&request.commands, app.now_ms()).filter(|_| request.generation > 0);
        tokio::select! {
            // a slot that is dropped belongs to a node that is gone
            biased;
            changed = watch.changed() => changed.map_err(|_| gone())?,
            () = &mut over => last = true,
            () = later(again.map(|at_ms| at_ms - app.now_ms())) => {}
            () = stopping.requested() => return Ok(answer(None, &Said::default(), 0, (false, None))),
        }
    };
    if slot.incarnation != identity.incarnation {
        return Err(ApiError::unauthorized("the node enrolled again on another host"));
    }
    if !said.is_empty() {
        app.fleet.told(node, &said.ids(), app.now_ms());
    }
    let renew = is_due(&app.authorities.now(), identity, app.now_ms());
    let look = if slot.look > request.look { slot.look } else { 0 };
    let offer = if has(request, &slot) { None } else { slot.offer.map(|offer| offer.document) };
    Ok(answer(offer.as_deref(), &said, look, (renew, trust.as_deref())))
}

fn say(slot: &Slot, request: &PollRequest, now_ms: i64) -> Said {
    if request.generation > 0 { slot.orders.say(&request.commands, now_ms) } else { Said::default() }
}

/// Notes what the agent says it has, and looks into the store for what is new.
async fn named(app: &Engine, node: &NodeId, request: &PollRequest, slot: Slot) {
    let orders = &slot.orders;
    let new: Vec<_> = request.commands.iter().filter(|id| !orders.runs(id)).collect();
    if app.now_ms().saturating_sub(orders.synced_ms()) > SYNC_MS {
        // without the database agents are answered from memory
        match within(SYNC_MAX, app.sync_orders(node)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%node, error = error.chain(), "cannot read its commands"),
            None => tracing::debug!(%node, seconds = SYNC_MAX.as_secs(), "its commands could not be read in time"),
        }
    }
    if !new.is_empty() {
        app.commands.add(|todo| todo.started.extend(new.into_iter().map(|id| (node.clone(), id.clone()))));
    }
}

/// The runtime's shortest sleep is a millisecond, which is long for who asked not to wait.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

async fn later(in_ms: Option<i64>) {
    match in_ms {
        Some(in_ms) => tokio::time::sleep(Duration::from_millis(in_ms.max(1).unsigned_abs())).await,
        None => std::future::pending().await,
    }
}

fn has(request: &PollRequest, slot: &Slot) -> bool {
    slot.offer.as_ref().is_none_or(|o| o.generation == request.generation && Some(&o.digest) == request.digest.as_ref())
}

/// A `PollAnswer`, put together from bytes that were made once per assignment.
fn answer(document: Option<&[u8]>, said: &Said, look: u64, (renew, trust): (bool, Option<&str>)) -> Bytes {
    let document = document.unwrap_or(b"null");
    let mut body = BytesMut::with_capacity(document.len() + 40);
    body.put_slice(b"{\"assignment\":");
    body.put_slice(document);
    if !said.is_empty() {
        // structs of strings, numbers and JSON values always serialise
        body.put_slice(b",\"commands\":");
        body.put_slice(&serde_json::to_vec(&said.commands).unwrap_or_default());
        body.put_slice(b",\"cancel\":");
        body.put_slice(&serde_json::to_vec(&said.cancel).unwrap_or_default());
    }
    if look > 0 {
        body.put_slice(format!(",\"look\":{look}").as_bytes());
    }
    if let Some(pem) = trust {
        body.put_slice(b",\"trust_pem\":");
        body.put_slice(&serde_json::to_vec(pem).unwrap_or_default());
    }
    body.put_slice(if renew { b",\"renew\":true}" } else { b",\"renew\":false}" });
    body.freeze()
}
