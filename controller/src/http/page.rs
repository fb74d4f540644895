//! The page of the API's document: `/straas/docs`, served from this binary.
//!
//! It reads `openapi.json` and shows it; nothing is fetched from elsewhere. What it may do is said to the
//! browser as narrowly as it can be: its own script and style, requests to this controller, nothing else. So
//! even a mistake in it that let a text become markup would run nothing. Files are in `page/`.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

/// What a browser lets the page do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The page's routes.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |kind: &'static str, text: &'static str| get(move || std::future::ready(served(kind, text)));
    Router::new()
        .route("/straas/docs", file("text/html; charset=utf-8", include_str!("page/docs.html")))
        .route("/straas/docs.css", file("text/css; charset=utf-8", include_str!("page/docs.css")))
        .route("/straas/docs.js", file("text/javascript; charset=utf-8", include_str!("page/docs.js")))
}

fn served(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
