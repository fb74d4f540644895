//! The live stream of a command: its output as it comes and how it stands.
//!
//! The id of an event is an offset into the output, so that a reader who comes again goes on where
//! he was. Pieces are read from the store when the reader takes them: one who is slow costs a few
//! pieces of memory, not the whole output.

use super::super::auth::Caller;
use super::super::events::{Answer, Out, after, stream};
use super::super::extract::Path;
use super::super::problem::ApiError;
use super::reading::{LOOK_EVERY, is_over, own};
use super::view;
use crate::app::App;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event as Sse;
use serde_json::json;
use std::sync::Arc;
use straas_schemas::CommandId;
use straas_schemas::command::CommandView;

/// Most bytes of one event.
const PIECE_MAX: usize = 16 * 1024;

/// `GET /v1.0/commands/{id}/events`
pub async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Answer, ApiError> {
    let id = own(&app, &caller, &id).await?.id;
    let offset = after(&headers).max(0).unsigned_abs();
    Ok(stream(&app.clone(), |out| follow(app, id, offset, out)))
}

async fn follow(app: Arc<App>, id: CommandId, mut offset: u64, out: Out) {
    let mut changed = app.commands.listen(id.as_str());
    let mut shown: Option<CommandView> = None;
    loop {
        match turn(&app, &id, &mut offset, &mut shown, &out).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let text = json!({ "status": error.status().as_u16() }).to_string();
                let _ = out.send(Ok(Sse::default().event("error").data(text))).await;
                return;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = out.closed() => return,
        }
    }
}

/// Sends what is new; `false` when the stream is at its end.
async fn turn(
    app: &App,
    id: &CommandId,
    offset: &mut u64,
    shown: &mut Option<CommandView>,
    out: &Out,
) -> Result<bool, ApiError> {
    // how it stands first: the output that came before its end is then sure to be sent before it
    let record = app.store.command(id).await?.ok_or_else(|| ApiError::not_found("command", id.as_str()))?;
    let ended = is_over(&record, app.now_ms());
    loop {
        let bytes = app.store.output(id, *offset, PIECE_MAX).await?;
        let piece = whole(&bytes, ended);
        if piece.is_empty() {
            break;
        }
        let data = json!({ "offset": *offset, "text": String::from_utf8_lossy(piece) }).to_string();
        *offset += piece.len() as u64;
        let sse = Sse::default().id(offset.to_string()).event("output").data(data);
        if out.send(Ok(sse)).await.is_err() {
            return Ok(false);
        }
    }
    if record.standing.is_final() && !ended {
        // the rest of the output is on its way
        return Ok(true);
    }
    let picture = view(record, String::new());
    if shown.as_ref() != Some(&picture) {
        let data = serde_json::to_string(&picture).unwrap_or_default();
        if out.send(Ok(Sse::default().id(offset.to_string()).event("state").data(data))).await.is_err() {
            return Ok(false);
        }
        *shown = Some(picture);
    }
    Ok(!ended)
}

/// As much as ends with a whole character: the rest of it may come with the next piece.
fn whole(bytes: &[u8], ended: bool) -> &[u8] {
    // a character has at most four bytes
    let tail = bytes.len().saturating_sub(3);
    let starts = (tail..bytes.len()).rev().find(|at| bytes[*at] & 0xc0 != 0x80);
    let Some(at) = starts else { return bytes };
    let wanted = match bytes[at] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let cut = at + wanted > bytes.len() && (!ended || at > 0 && bytes.len() == PIECE_MAX);
    if cut { &bytes[..at] } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_not_cut() {
        let check =
            |text: &[u8], ended, expect: usize| assert_eq!(whole(text, ended).len(), expect, "{text:?} {ended}");
        check(b"", false, 0);
        check(b"abc", false, 3);
        check("aé".as_bytes(), false, 3);
        check(b"a\xc3", false, 1);
        check(b"a\xc3", true, 2);
        check(b"a\xe2\x82", false, 1);
        check(b"a\xf0\x9f\x98", false, 1);
        check("a😀".as_bytes(), false, 5);
        check(b"\x80\x80\x80\x80", false, 4);
        check(b"a\xff", false, 2);
    }
}
