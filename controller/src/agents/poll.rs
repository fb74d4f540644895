//! The long poll: answers as soon as there is a newer assignment than the one the node has.
//!
//! Something else than newer (a lower generation after a database was put back, the same generation
//! with other content) is what the agent refuses and reports. It is told so at the end of its wait:
//! at once would be a loop of refusals as fast as the link.

use super::OwnNode;
use crate::app::App;
use crate::clock::now_ms;
use crate::fleet::Slot;
use crate::http::extract::Json;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::{BufMut as _, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::poll::{POLL_WAIT_MS_MAX, PollRequest};

/// `POST /agent/v1/nodes/{id}/poll`
pub async fn poll(
    State(app): State<Arc<App>>,
    OwnNode(identity): OwnNode,
    Json(request): Json<PollRequest>,
) -> Result<Response, ApiError> {
    let gone = || ApiError::unauthorized("there is no such node any more");
    let mut slot = app.fleet.watch(&identity.node).ok_or_else(gone)?;
    let mut stopping = app.stopping.clone();
    let newer = |slot: &Slot| slot.offer.as_ref().is_some_and(|offer| offer.generation > request.generation);
    let news = |slot: &Slot| slot.incarnation != identity.incarnation || newer(slot);
    let wait = Duration::from_millis(u64::from(request.wait_ms.min(POLL_WAIT_MS_MAX)));
    let slot = tokio::select! {
        // a slot that is dropped belongs to a node that is gone
        biased;
        changed = slot.wait_for(news) => changed.map_err(|_| gone())?.clone(),
        () = pause(wait) => app.fleet.get(&identity.node).ok_or_else(gone)?,
        () = stopping.requested() => return Ok(answer(None, false)),
    };
    if slot.incarnation != identity.incarnation {
        return Err(ApiError::unauthorized("the node enrolled again on another host"));
    }
    let renew = identity.renew_at_ms <= now_ms();
    let offer = if has(&request, &slot) { None } else { slot.offer.map(|offer| offer.document) };
    Ok(answer(offer.as_deref(), renew))
}

/// The runtime's shortest sleep is a millisecond, which is long for who asked not to wait.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

fn has(request: &PollRequest, slot: &Slot) -> bool {
    slot.offer.as_ref().is_none_or(|o| o.generation == request.generation && Some(&o.digest) == request.digest.as_ref())
}

/// A `PollAnswer`, put together from bytes that were made once per assignment.
fn answer(document: Option<&[u8]>, renew: bool) -> Response {
    let document = document.unwrap_or(b"null");
    let mut body = BytesMut::with_capacity(document.len() + 40);
    body.put_slice(b"{\"assignment\":");
    body.put_slice(document);
    body.put_slice(if renew { b",\"renew\":true}" } else { b",\"renew\":false}" });
    ([(header::CONTENT_TYPE, "application/json")], body.freeze()).into_response()
}
