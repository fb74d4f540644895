//! The HTTP face of errors: every refusal is a problem document that says what to do next.
//!
//! What the controller's insides said is logged here, once, with its whole chain; the caller is
//! told only what is his to know.

use crate::error::{Error, chain};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use straas_repos::Disk;
use straas_schemas::Fault;
use straas_schemas::problem::{PROBLEM_JSON, Problem};
use straas_store::StoreError;

/// Seconds after which a refused write may be tried again.
const RETRY_AFTER_S: &str = "2";
/// The same where somebody has to make room first.
const RETRY_AFTER_ROOM_S: &str = "30";

/// A refusal.
#[derive(Debug)]
pub struct ApiError(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    problem: Problem,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        let problem = Problem {
            kind: format!("straas:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        };
        Self(Box::new(Refusal { problem, headers: Vec::new() }))
    }

    /// 401.
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not authenticated", detail)
    }

    /// 403.
    pub fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", format!("there is no {what} {id}"))
    }

    /// 404, in words of one's own.
    pub fn absent(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 412: `If-Match` names what is not there any more; with what is there now, if that has a name.
    pub fn precondition_failed(detail: &str, now: &str) -> Self {
        let refusal = Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Changed meanwhile", detail);
        match HeaderValue::from_str(&format!("\"{now}\"")) {
            Ok(tag) if !now.is_empty() => refusal.with(header::ETAG, tag),
            _ => refusal,
        }
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "Method not allowed",
            "this path has other methods; see the Allow header",
        )
    }

    /// 409.
    pub fn conflict(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 400: the body is not JSON, or a parameter cannot be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable", "The request cannot be read", detail)
    }

    /// 413.
    pub fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            "send less in one request; nothing was changed",
        )
    }

    /// 507: the disk.
    pub fn full(detail: &str) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "full", "No room left", detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_ROOM_S))
    }

    /// 408.
    pub fn timeout(detail: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long", detail)
    }

    /// 500 after a panic, which the panic's own hook has printed.
    pub fn panicked() -> Self {
        let detail = "it met a case it does not know; its log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "An error of the controller", detail)
    }

    /// 422 with every fault.
    pub fn faults(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.message),
            many => format!("{} faults; nothing was changed", many.len()),
        };
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "The body is not valid", detail);
        error.0.problem.errors = faults;
        error
    }

    /// 422 with one fault.
    pub fn invalid(pointer: &str, message: &str) -> Self {
        Self::faults(vec![Fault::at(pointer, message)])
    }

    /// 409 because a field's value is taken.
    pub fn taken(pointer: &str, message: &str) -> Self {
        let mut error = Self::conflict(message);
        error.0.problem.errors = vec![Fault::at(pointer, message)];
        error
    }

    /// 409: a request of the same `Idempotency-Key` is being carried out, for so many ms at least.
    pub fn in_progress(for_ms: i64) -> Self {
        let detail = "a request with this Idempotency-Key is being carried out; ask again later for its answer";
        let seconds = for_ms.max(0).unsigned_abs().div_ceil(1000).max(1);
        Self::new(StatusCode::CONFLICT, "in-progress", "Being carried out", detail)
            .with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 422: an `Idempotency-Key` that another request has.
    pub fn key_reused() -> Self {
        let detail = "this Idempotency-Key was used for a request of another path or body; take a new one";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The key is another request's", detail)
    }

    /// 429, until so much later.
    pub fn too_many_for(detail: &str, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().clamp(1.0, 3600.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 1 and 3600")]
        Self::too_many(detail).with(header::RETRY_AFTER, HeaderValue::from(seconds as u32))
    }

    /// 429.
    pub fn too_many(detail: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many at once", detail)
    }

    /// 429: a tenant's requests of a day have as many names as are remembered.
    pub fn names_full() -> Self {
        let detail = "this tenant's requests of today name themselves too often; leave Idempotency-Key out";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "names-full", "Too many names", detail)
    }

    /// 503.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again later", detail)
    }

    /// 500. `error` is logged, not shown.
    pub fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        tracing::error!(error = chain(error), "{what}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "An error of the controller",
            format!("{what}; its log says more"),
        )
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let Refusal { problem, headers: own } = *self.0;
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        for (name, value) in own {
            headers.insert(name, value);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Conflict { what: "dependency", id } => Self::conflict(&format!(
                "a dependency between topologies is in the way (component {id}): one side of it is being removed, or \
                 has just begun to depend on the other; look at it again"
            )),
            StoreError::Duplicate { .. } | StoreError::Conflict { .. } => Self::conflict(&error.to_string()),
            StoreError::NotFound { what, id } => Self::not_found(what, id),
            StoreError::Unavailable(_) => {
                tracing::warn!(error = chain(&error), "a request failed");
                // the word of a commit can be lost with the connection
                Self::unavailable(
                    "the database is not available. Nothing was changed, unless it went away in the very moment in which \
                     it took this: with the same Idempotency-Key, or after a look, it can be asked again",
                )
            }
            StoreError::Full(_) => {
                tracing::error!(error = chain(&error), "a request failed");
                Self::full("the disk of the database is full; nothing was changed. Ask again when there is room")
            }
            StoreError::Broken { .. } => Self::internal("the database refused", &error),
        }
    }
}

impl From<straas_repos::Error> for ApiError {
    fn from(error: straas_repos::Error) -> Self {
        use straas_repos::Error as E;
        match &error {
            E::NotFound { what, .. } => Self::not_found(what, "in the repository"),
            E::Invalid { faults } => Self::faults(
                faults.iter().map(|f| Fault::at(f.pointer.clone(), format!("{}: {}", f.file, f.message))).collect(),
            ),
            E::Conflict { .. } | E::Apart { .. } => Self::conflict(&error.to_string()),
            E::Away { .. } => Self::unavailable(&error.to_string()),
            _ if let Some(disk) = error.disk() => {
                tracing::error!(error = chain(&error), "the disk takes no write");
                match disk {
                    Disk::Full => Self::full(
                        "the disk of the controller's repositories is full; this was not done. Ask again when there is room",
                    ),
                    Disk::ReadOnly => Self::unavailable(
                        "the disk of the controller's repositories is read-only; this was not done. Ask again when it is repaired",
                    ),
                }
            }
            _ => Self::internal("a repository cannot be read", &error),
        }
    }
}

impl From<crate::ca::CaError> for ApiError {
    fn from(error: crate::ca::CaError) -> Self {
        match &error {
            crate::ca::CaError::Request(_) => Self::invalid("/csr_pem", &error.to_string()),
            crate::ca::CaError::Locked { .. } => Self::unavailable(&error.to_string()),
            _ => Self::internal("a certificate could not be made", &error),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Repos(error) => error.into(),
            Error::Ca(error) => error.into(),
            Error::Stopping => Self::unavailable("the controller is stopping"),
            Error::Hosts(_) | Error::Tls(_) | Error::Kept(_) | Error::Task(_) => {
                Self::internal("a part of the controller failed", &error)
            }
        }
    }
}
