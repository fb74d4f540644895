//! What was begun is finished, whether or not who asked still waits for the answer.
//!
//! A server drops what it does for a request when the connection ends. Between two awaits that leaves
//! a change without its event, its line in the audit trail or its waking of the planner; and a report
//! that is recorded is not news when it is sent again, so nobody would make up for it. Requests that
//! may change something are therefore tasks of their own. Those that only read or wait for something
//! to happen end with their connection: nobody misses them, and they would hold a place.
//!
//! Goes around whatever limits how many there are, so that hanging up does not make room for more.

use super::problem::ApiError;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

/// Runs a request to its end.
///
/// # Panics
/// The request did.
pub async fn begun(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request).in_current_span()).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // the runtime ends, and the connection with it
            Err(_) => ApiError::panicked().into_response(),
        },
    }
}
