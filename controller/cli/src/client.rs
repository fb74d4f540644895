//! Talks to the controller's API.

use crate::again::Again;
use crate::content::{Content, Upload};
use crate::context::Context;
use crate::error::CliError;
use crate::routes::{self, Route, encoded};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use straas_schemas::problem::Problem;
use straas_schemas::view::Page;

/// A controller that cannot be connected to within this time is away.
const CONNECT: Duration = Duration::from_secs(5);
/// A controller that has not begun to answer within this time is stuck.
const ANSWER: Duration = Duration::from_secs(60);
/// An upload may take so long, with what is done about it: the controller waits five minutes for that.
const UPLOAD: Duration = Duration::from_secs(1800);

/// The root of the API.
const API: &str = "/straas/v1.0";

/// A request.
pub struct Ask<'a> {
    method: Method,
    path: String,
    query: Vec<(&'a str, String)>,
    if_match: Option<String>,
    again: Again,
    body: Result<Option<Vec<u8>>, CliError>,
}

impl<'a> Ask<'a> {
    /// A request of a route, with the variable parts of its path.
    pub fn new(route: Route, parts: &[&str]) -> Self {
        // whoever logs in is nobody yet, of whom a key could be
        let again = Again::of(&route.method(), route != routes::LOG_IN);
        let (method, path) = (route.method(), route.at(parts));
        Self { method, path, query: Vec::new(), if_match: None, again, body: Ok(None) }
    }

    /// With a value in its query.
    pub fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).map(Some).map_err(|e| CliError::Local(e.to_string()));
        self
    }

    /// Only if what is changed is still at this commit.
    pub fn if_at(self, commit: &str) -> Self {
        self.if_seen(Some(commit))
    }

    /// Only if what is changed is still as its ETag says, with or without its quotes; whatever it is without one.
    pub fn if_seen(mut self, etag: Option<&str>) -> Self {
        self.if_match = etag.map(quoted);
        self
    }
}

/// A client of one controller.
pub struct Client {
    http: HttpClient<HttpConnector, Content>,
    context: Context,
    token: Option<String>,
}

impl Client {
    /// A client for what the command line names.
    pub fn new(global: &crate::Global) -> Result<Self, CliError> {
        Self::with(Context::load(global))
    }

    /// A client for a context.
    pub fn with(context: Context) -> Result<Self, CliError> {
        let token = match &context.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(
                    text.map_err(|e| CliError::Local(format!("cannot read the token file {}: {e}", path.display())))?
                        .trim()
                        .to_owned(),
                )
            }
            None => None,
        };
        if context.endpoint.starts_with("https:") {
            let text = format!(
                "{}: this version speaks plain http to the controller, which listens on its own machine only",
                context.endpoint
            );
            return Err(CliError::Local(text));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        Ok(Self { http: HttpClient::builder(TokioExecutor::new()).build(connector), context, token })
    }

    /// Where the controller is.
    pub fn endpoint(&self) -> &str {
        &self.context.endpoint
    }

    /// What the controller says of itself, which needs no token; also when it is not ready.
    pub async fn about(&self) -> Result<serde_json::Value, CliError> {
        let response = self.ask(Method::GET, "/readyz", &[], None).await?;
        let bytes = self.read(response).await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| CliError::Local(format!("{} is not a StraaS controller", self.context.endpoint)))
    }

    /// A stream of events, after the event of this number.
    pub async fn events(&self, route: Route, id: &str, after: i64) -> Result<Response<Incoming>, CliError> {
        let after = after.to_string();
        let path = format!("{API}{}", route.at(&[id]));
        self.successful(self.ask(Method::GET, &path, &[("last-event-id", &after)], None).await?).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, CliError> {
        let kind = body.is_some().then_some("application/json");
        self.send(method, path, headers, kind, Content::Document(body.unwrap_or_default().into()), ANSWER).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        kind: Option<&str>,
        content: Content,
        limit: Duration,
    ) -> Result<Response<Incoming>, CliError> {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.context.endpoint.trim_end_matches('/')));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            let mut token = HeaderValue::from_str(token)
                .map_err(|_| CliError::Local("the token file holds more than a token".into()))?;
            token.set_sensitive(true);
            request = request.header("x-auth-token", token);
        }
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let request = request.body(content);
        let request = request.map_err(|e| CliError::Local(format!("{} is not a URL: {e}", self.context.endpoint)))?;
        let late = || self.away(format!("no answer within {} s", limit.as_secs()));
        let answered = tokio::time::timeout(limit, self.http.request(request)).await.map_err(|_| late())?;
        answered.map_err(|e| self.unreachable(&e, !e.is_connect()))
    }

    async fn successful(&self, response: Response<Incoming>) -> Result<Response<Incoming>, CliError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.read(response).await?;
        Err(CliError::Problem(serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or("error").into(),
            status: status.as_u16(),
            detail: String::from_utf8_lossy(&bytes).chars().take(300).collect(),
            errors: Vec::new(),
        })))
    }

    fn unreachable(&self, error: &dyn std::error::Error, lost: bool) -> CliError {
        let mut reason = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            reason = cause.to_string();
            next = cause.source();
        }
        CliError::Unreachable { endpoint: self.context.endpoint.clone(), reason, lost }
    }

    fn away(&self, reason: String) -> CliError {
        CliError::Unreachable { endpoint: self.context.endpoint.clone(), reason, lost: false }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, CliError> {
        Ok(response.into_body().collect().await.map_err(|e| self.unreachable(&e, true))?.to_bytes())
    }

    /// Sends what was asked for and decodes the answer.
    pub async fn call<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, CliError> {
        let bytes = self.bytes(ask).await?;
        decoded(&bytes)
    }

    async fn bytes(&self, mut ask: Ask<'_>) -> Result<Bytes, CliError> {
        loop {
            let answered = async { self.read(self.answer(&ask).await?).await };
            let error = match answered.await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let Some(wait) = ask.again.after(&error) else { return Err(error) };
            tokio::time::sleep(wait).await;
        }
    }

    async fn answer(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, CliError> {
        let mut path = format!("{API}{}", ask.path);
        for (n, (name, value)) in ask.query.iter().enumerate() {
            path.push(if n == 0 { '?' } else { '&' });
            path.push_str(&format!("{name}={}", encoded(value)));
        }
        let expect = ask.if_match.iter().map(|value| ("if-match", value.as_str()));
        let headers: Vec<(&str, &str)> = expect.chain(ask.again.key().map(|key| ("idempotency-key", key))).collect();
        let body = ask.body.as_ref().map_err(|error| CliError::Local(error.text()))?;
        self.successful(self.ask(ask.method.clone(), &path, &headers, body.clone()).await?).await
    }

    /// Sends a file to a path of the API before 1.0, with its hash, and decodes the answer.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        if_match: Option<&str>,
        upload: Upload,
    ) -> Result<T, CliError> {
        let mut path = format!("{path}?sha256={}", upload.sha256);
        for (name, value) in query {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
        let kind = Some("application/octet-stream");
        let expect = if_match.map(quoted);
        let headers: Vec<_> = expect.iter().map(|etag| ("if-match", etag.as_str())).collect();
        let sent = self.send(Method::POST, &path, &headers, kind, upload.content, UPLOAD).await?;
        let bytes = self.read(self.successful(sent).await?).await?;
        decoded(&bytes)
    }

    /// The ETag of what is there.
    pub async fn etag(&self, ask: Ask<'_>) -> Result<String, CliError> {
        let response = self.answer(&ask).await?;
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).map(str::to_owned);
        etag.ok_or_else(|| CliError::Local("the controller gave no ETag for it".into()))
    }

    /// Writes what is answered to a file, checked against the hash that comes with it; its size.
    pub async fn download(&self, ask: Ask<'_>, to: &Path) -> Result<u64, CliError> {
        let cannot = |error: std::io::Error| CliError::Local(format!("cannot write {}: {error}", to.display()));
        let response = self.answer(&ask).await?;
        let expect = response.headers().get("x-straas-sha256").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(cannot)?;
        let (mut hash, mut size, mut body) = (Sha256::new(), 0, response.into_body());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(&error, true))?;
            if let Some(piece) = frame.data_ref() {
                hash.update(piece);
                size += piece.len() as u64;
                file.write_all(piece).map_err(cannot)?;
            }
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if expect.is_some_and(|expect| expect != found) {
            return Err(CliError::Local("what came is not what is stored: its SHA-256 differs; try again".into()));
        }
        file.persist(to).map_err(|error| cannot(error.error))?;
        Ok(size)
    }

    /// Asks for something without more to say.
    pub async fn get<T: DeserializeOwned>(&self, route: Route, parts: &[&str]) -> Result<T, CliError> {
        self.call(Ask::new(route, parts)).await
    }

    /// One page of a list.
    pub async fn page<T: DeserializeOwned>(
        &self,
        route: Route,
        parts: &[&str],
        query: &[(&str, String)],
        marker: Option<String>,
    ) -> Result<Page<T>, CliError> {
        let mut ask = Ask::new(route, parts);
        for (name, value) in query.iter().cloned().chain(marker.map(|marker| ("marker", marker))) {
            ask = ask.with(name, value);
        }
        self.call(ask).await
    }

    /// Every item of a list that comes in pages.
    pub async fn all<T: DeserializeOwned>(
        &self,
        route: Route,
        parts: &[&str],
        query: &[(&str, String)],
    ) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut marker = None;
        loop {
            let mut page: Page<T> = self.page(route, parts, query, marker).await?;
            items.append(&mut page.items);
            marker = page.next;
            if marker.is_none() {
                return Ok(items);
            }
        }
    }

    /// Whether an error says that there is no such thing.
    pub fn is_missing(error: &CliError) -> bool {
        matches!(error, CliError::Problem(problem) if problem.status == StatusCode::NOT_FOUND.as_u16())
    }
}

/// An ETag as it stands in a header.
fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim().trim_matches('"'))
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    // an answer without a body says nothing
    let text = if bytes.is_empty() { &b"null"[..] } else { bytes };
    serde_json::from_slice(text)
        .map_err(|e| CliError::Local(format!("the controller's answer cannot be read: {e}; is it of another version?")))
}
