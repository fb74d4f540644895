//! Every request has an id: the caller's own if it is a plain one, or a new one. It comes back in
//! the answer and stands in the audit trail and in the log, so that the three can be put together.

use super::audit::RequestId;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use uuid::Uuid;

/// The header, both ways.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over.
const ID_MAX: usize = 64;

/// Names a request.
pub async fn named(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&HEADER).and_then(|value| value.to_str().ok()).filter(|id| is_plain(id));
    let id = given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!("request", id);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// It goes into a log as it is: nothing in it may look like something else there.
fn is_plain(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn ids_are_plain() {
        for (id, plain) in [("a-1_B.2", true), ("", false), ("a b", false), ("a\"b", false), (&"x".repeat(65), false)] {
            assert_eq!(is_plain(id), plain, "{id:?}");
        }
    }
}
