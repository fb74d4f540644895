//! What was begun is finished, whether or not who asked still waits for the answer.
//!
//! A server drops what it does for a request when the connection ends. Between two awaits that leaves
//! a change without its event, its line in the audit trail or its waking of the planner; and a report
//! that is recorded is not news when it is sent again, so nobody would make up for it. Requests that
//! may change something are therefore tasks of their own. Those that only read or wait for something
//! to happen end with their connection: nobody misses them, and they would hold a place.
//!
//! A request that changes something and then waits is both: what it changes is finished and has its line,
//! answered as if nobody waited; the wait comes [`later`] and ends with the connection.
//!
//! Goes around whatever limits how many there are, so that hanging up does not make room for more; only those
//! that wait are counted for as long as their connection lasts, since what they change is done at once.

use super::once;
use super::problem::ApiError;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

type Wait = Pin<Box<dyn Future<Output = Response> + Send>>;

/// On its way from a handler to [`before_waiting`]; taken out there.
#[derive(Clone)]
struct Later(Arc<Mutex<Option<Wait>>>);

/// An answer as of now, in the place of which another one is given if its caller waits for it.
pub fn later<F>(now: impl axum::response::IntoResponse, wait: F) -> Response
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let wait: Wait = Box::pin(async { wait.await.unwrap_or_else(ApiError::into_response) });
    let mut now = now.into_response();
    now.extensions_mut().insert(Later(Arc::new(Mutex::new(Some(wait)))));
    now
}

/// Runs what a request changes to its end, and then waits for as long as its connection lasts.
///
/// # Panics
/// The request did.
pub async fn before_waiting(request: Request, next: Next) -> Response {
    // one that names itself is a task already, and is bound to its claim by it
    let mut response = if once::is_claimed() { next.run(request).await } else { begun(request, next).await };
    let later = response.extensions_mut().remove::<Later>();
    match later.and_then(|Later(wait)| wait.lock().unwrap_or_else(PoisonError::into_inner).take()) {
        Some(wait) => wait.await,
        None => response,
    }
}
