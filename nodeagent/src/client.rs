//! The agent's side of the agent API: HTTP/1.1 over mutual TLS.
//!
//! Several controller URLs are used in rotation: the next one after a failure, so that a fail-over
//! needs no decision. A connection lives at most [`CONNECTION_LIFE`], so that it cannot stick to a
//! controller that is no longer the right one; with it ends the choice of the controller, so that
//! one that is back gets its share of the fleet again. Polls have a choice of their own: a controller without its database
//! answers them from memory and refuses the rest, and is left as soon as another one takes what it refuses. The server is verified against the pinned CA and
//! the fixed name [`SERVER_NAME`], whatever host the URL names.
//!
//! Never here: retries and waiting (their callers know how urgent it is), and logging of bodies.

use crate::world::Dialer;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::assignment::ASSIGNMENT_BYTES_MAX;
use straas_schemas::command::{COMMAND_ARGS_BYTES_MAX, COMMANDS_WAITING_MAX};
use straas_schemas::problem::Problem;
use tokio::time::Instant;

/// The DNS name in every controller's certificate.
pub const SERVER_NAME: &str = "straas-controller";
/// Longest life of a connection and of a resolved address.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// Time for one ordinary request, handshake included.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Longest silence in the middle of a download.
const DOWNLOAD_SILENCE: Duration = Duration::from_secs(60);
/// Largest JSON answer: an assignment, all commands that may wait for a node, and their frame.
const JSON_BYTES_MAX: usize = ASSIGNMENT_BYTES_MAX + COMMANDS_WAITING_MAX * (COMMAND_ARGS_BYTES_MAX + 1024) + 64 * 1024;
/// Largest error body read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The keys, certificates or addresses cannot be used.
    #[error("TLS set-up: {0}")]
    Setup(String),
    /// No answer: the network, the handshake, a broken connection.
    #[error("{url}: no answer: {reason}")]
    Transport {
        /// The controller.
        url: String,
        /// The whole chain of causes.
        reason: String,
        /// The handshake was refused because of who we are.
        auth: bool,
    },
    /// No answer in time.
    #[error("{url}: no answer within {seconds} s")]
    Timeout {
        /// The controller.
        url: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// The controller said no.
    #[error("{url} answered {status}: {detail}")]
    Status {
        /// The controller.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// An answer that cannot be understood.
    #[error("{url}: the answer cannot be used: {reason}")]
    Answer {
        /// The controller.
        url: String,
        /// Why.
        reason: String,
    },
}

impl ClientError {
    /// Whether the handshake was refused because of our certificate.
    #[must_use]
    pub const fn is_certificate(&self) -> bool {
        matches!(self, Self::Transport { auth: true, .. })
    }

    /// Whether the controller does not accept who we are.
    #[must_use]
    pub const fn is_auth(&self) -> bool {
        matches!(self, Self::Status { status: 401 | 403, .. } | Self::Transport { auth: true, .. })
    }
}

/// The kind of all bodies but output.
const JSON: &str = "application/json";

type Http = HyperClient<HttpsConnector<Dialer>, Full<Bytes>>;

/// What the client proves itself with.
pub struct Credentials {
    /// Certificate chain, PEM.
    pub certificate_pem: String,
    /// Private key, PEM.
    pub key_pem: String,
}

/// Talks to the controllers.
pub struct Client {
    dialer: Dialer,
    urls: Vec<String>,
    at: Cell<usize>,
    /// Where polls go.
    polls: Cell<usize>,
    /// Something else failed where polls go.
    doubted: Cell<bool>,
    failed: Cell<u64>,
    tls: RefCell<rustls::ClientConfig>,
    ca_pem: RefCell<String>,
    http: RefCell<(Http, Instant)>,
}

impl Client {
    /// A client for these controllers; without credentials it can only enrol.
    ///
    /// # Errors
    /// When the CA or the credentials cannot be used.
    pub fn new(
        dialer: Dialer,
        urls: Vec<String>,
        ca_pem: String,
        own: Option<&Credentials>,
    ) -> Result<Self, ClientError> {
        let tls = tls_config(&ca_pem, own)?;
        let http = RefCell::new((connect(&dialer, &tls)?, Instant::now()));
        let first = any(&urls);
        let (at, polls, doubted) = (Cell::new(first), Cell::new(first), Cell::new(false));
        let (tls, ca_pem) = (RefCell::new(tls), RefCell::new(ca_pem));
        Ok(Self { dialer, urls, at, polls, doubted, failed: Cell::new(0), tls, ca_pem, http })
    }

    /// The certificates that controllers are checked against, PEM.
    #[must_use]
    pub fn trusted_pem(&self) -> String {
        self.ca_pem.borrow().clone()
    }

    /// Checks controllers against other certificates from the next request on, over new connections.
    ///
    /// # Errors
    /// When they, or the credentials, cannot be used; then the old ones stay.
    pub fn set_trusted(&self, ca_pem: String, own: Option<&Credentials>) -> Result<(), ClientError> {
        let tls = tls_config(&ca_pem, own)?;
        self.renew_connections(tls)?;
        self.ca_pem.replace(ca_pem);
        Ok(())
    }

    /// Gives up all connections: what was refused on one may not be on a new one.
    pub fn reconnect(&self) {
        let tls = self.tls.borrow().clone();
        // as it could be made before
        let _ = self.renew_connections(tls);
    }

    fn renew_connections(&self, tls: rustls::ClientConfig) -> Result<(), ClientError> {
        *self.http.borrow_mut() = (connect(&self.dialer, &tls)?, Instant::now());
        *self.tls.borrow_mut() = tls;
        Ok(())
    }

    /// Uses other credentials from the next request on, over new connections.
    ///
    /// # Errors
    /// When they cannot be used; then the old ones stay.
    pub fn set_credentials(&self, own: &Credentials) -> Result<(), ClientError> {
        let tls = tls_config(&self.ca_pem.borrow(), Some(own))?;
        self.renew_connections(tls)
    }

    /// Requests that failed since the start.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    /// Sends JSON, gets JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, ClientError> {
        let (url, bytes) = self.post_bytes(&self.at, path, json(body)?, JSON, time).await?;
        self.read(&self.at, url, &bytes)
    }

    /// As [`Client::post`], for what a controller can answer from memory.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, ClientError> {
        let (url, bytes) = self.post_bytes(&self.polls, path, json(body)?, JSON, time).await?;
        self.read(&self.polls, url, &bytes)
    }

    /// Sends bytes as they are, gets JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post_raw<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, ClientError> {
        let (url, bytes) = self.post_bytes(&self.at, path, body, "application/octet-stream", REQUEST_TIME).await?;
        self.read(&self.at, url, &bytes)
    }

    fn read<T: DeserializeOwned>(&self, at: &Cell<usize>, url: String, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes)
            .map_err(|error| self.count(at, ClientError::Answer { url, reason: error.to_string() }))
    }

    /// Sends JSON, wants no answer but success.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post_only(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        self.post_bytes(&self.at, path, json(body)?, JSON, REQUEST_TIME).await.map(|_| ())
    }

    async fn post_bytes(
        &self,
        at: &Cell<usize>,
        path: &str,
        body: Bytes,
        kind: &'static str,
        time: Duration,
    ) -> Result<(String, Bytes), ClientError> {
        let url = self.url(at);
        let answer = async {
            let response = self.send(&url, Method::POST, path, body, kind).await?;
            let body = Limited::new(response.into_body(), JSON_BYTES_MAX).collect().await;
            let body = body.map_err(|error| ClientError::Answer { url: url.clone(), reason: error.to_string() })?;
            Ok(body.to_bytes())
        };
        let bytes = self.timed(at, &url, time, answer).await?;
        Ok((url, bytes))
    }

    /// Fetches bytes into `sink`, at most `most` of them; gives the answer's `x-straas-sha256`.
    ///
    /// # Errors
    /// See [`ClientError`]; too many bytes, or a sink that does not take them, are [`ClientError::Answer`].
    pub async fn download(&self, path: &str, most: u64, sink: &mut dyn Write) -> Result<Option<String>, ClientError> {
        let (at, url) = (&self.at, self.url(&self.at));
        let response =
            self.timed(at, &url, REQUEST_TIME, self.send(&url, Method::GET, path, Bytes::new(), JSON)).await?;
        let sum = response.headers().get("x-straas-sha256").and_then(|sum| sum.to_str().ok()).map(str::to_owned);
        let wrong = |reason: String| self.count(at, ClientError::Answer { url: url.clone(), reason });
        let mut body = response.into_body();
        let mut bytes = 0;
        loop {
            let next = async { Ok(body.frame().await) };
            let Some(frame) = self.timed(at, &url, DOWNLOAD_SILENCE, next).await? else { return Ok(sum) };
            let frame = frame.map_err(|error| wrong(format!("broken off after {bytes} bytes: {error}")))?;
            if let Ok(data) = frame.into_data() {
                bytes += data.len() as u64;
                if bytes > most {
                    return Err(wrong(format!("more than the {most} bytes that are allowed")));
                }
                sink.write_all(&data).map_err(|error| wrong(format!("cannot be kept: {error}")))?;
            }
        }
    }

    async fn send(
        &self,
        url: &str,
        method: Method,
        path: &str,
        body: Bytes,
        kind: &'static str,
    ) -> Result<http::Response<hyper::body::Incoming>, ClientError> {
        let uri: Uri =
            format!("{url}{path}").parse().map_err(|error| ClientError::Setup(format!("{url}{path}: {error}")))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", kind)
            .header("user-agent", concat!("straas-agent/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        let http = self.http()?;
        let response = http.request(request).await.map_err(|error| {
            let reason = chain(&error);
            ClientError::Transport { url: url.into(), auth: is_auth_alert(&reason), reason }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), PROBLEM_BYTES_MAX).collect().await;
        let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let detail = match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => format!("{}: {}", problem.title, problem.detail),
            Err(_) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        };
        Err(ClientError::Status { url: url.into(), status: status.as_u16(), detail })
    }

    async fn timed<T>(
        &self,
        at: &Cell<usize>,
        url: &str,
        time: Duration,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let result = tokio::time::timeout(time, work)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout { url: url.into(), seconds: time.as_secs() }));
        if result.is_ok() && !std::ptr::eq(at, &self.polls) {
            self.worked(url);
        }
        result.map_err(|error| self.count(at, error))
    }

    /// Something else than a poll succeeded there: polls follow if it fails where they go.
    fn worked(&self, url: &str) {
        if self.doubted.get()
            && let Some(better) = self.urls.iter().position(|known| known == url)
        {
            self.polls.set(better);
            self.doubted.set(false);
        }
    }

    /// Counts a failure of what goes to `at`; turns away from the controller if it may be the cause.
    fn count(&self, at: &Cell<usize>, error: ClientError) -> ClientError {
        self.failed.set(self.failed.get() + 1);
        let failed = match &error {
            ClientError::Status { url, status, .. } => {
                StatusCode::from_u16(*status).is_ok_and(|status| status.is_server_error()).then_some(url)
            }
            ClientError::Setup(_) => None,
            ClientError::Transport { url, .. } | ClientError::Timeout { url, .. } | ClientError::Answer { url, .. } => {
                Some(url)
            }
        };
        let Some(failed) = failed else { return error };
        // several requests fail with one controller at once: only the first of them turns away from it
        if *failed == self.url(at) {
            at.set((at.get() + 1) % self.urls.len());
            // behind the only address may be a load balancer, which chooses once per connection
            if self.urls.len() == 1
                && let Ok(http) = connect(&self.dialer, &self.tls.borrow())
            {
                *self.http.borrow_mut() = (http, Instant::now());
            }
        }
        if *failed == self.url(&self.polls) {
            self.doubted.set(true);
        }
        error
    }

    fn url(&self, at: &Cell<usize>) -> String {
        self.urls.get(at.get()).cloned().unwrap_or_default()
    }

    fn http(&self) -> Result<Http, ClientError> {
        let mut http = self.http.borrow_mut();
        if http.1.elapsed() > CONNECTION_LIFE {
            *http = (connect(&self.dialer, &self.tls.borrow())?, Instant::now());
            self.at.set(any(&self.urls));
            self.polls.set(self.at.get());
        }
        Ok(http.0.clone())
    }
}

/// Any of them: agents of one fleet must not all be with the first.
fn any(urls: &[String]) -> usize {
    rand::random_range(0..urls.len().max(1))
}

fn json(body: &impl Serialize) -> Result<Bytes, ClientError> {
    let bytes = serde_json::to_vec(body);
    bytes.map(Into::into).map_err(|error| ClientError::Setup(format!("a body cannot be written: {error}")))
}

fn connect(dialer: &Dialer, tls: &rustls::ClientConfig) -> Result<Http, ClientError> {
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| ClientError::Setup(error.to_string()))?;
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_http1()
        .wrap_connector(dialer.clone());
    Ok(HyperClient::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(60))
        // the poll's, and one each for what a guest command sends at its end: its output and its report
        .pool_max_idle_per_host(3)
        .pool_timer(TokioTimer::new())
        .build(https))
}

fn tls_config(ca_pem: &str, own: Option<&Credentials>) -> Result<rustls::ClientConfig, ClientError> {
    let setup = |what: &str, error: &dyn std::fmt::Display| ClientError::Setup(format!("{what}: {error}"));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| setup("the CA file", &error))?;
        roots.add(certificate).map_err(|error| setup("the CA file", &error))?;
    }
    if roots.is_empty() {
        return Err(ClientError::Setup("the CA file holds no certificate".into()));
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup("protocol versions", &error))?
        .with_root_certificates(roots);
    let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(own.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| setup("the node's certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).map_err(|error| setup("the node's key", &error))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| setup("the node's certificate", &error))
}

/// With TLS 1.3 a refused client certificate shows only as an alert on the first read.
fn is_auth_alert(reason: &str) -> bool {
    [
        "CertificateRequired",
        "CertificateExpired",
        "CertificateRevoked",
        "CertificateUnknown",
        "BadCertificate",
        "AccessDenied",
        "UnknownCA",
    ]
    .iter()
    .any(|alert| reason.contains(&format!("received fatal alert: {alert}")))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client of so many controllers that is with the first, and their URLs.
    fn client(controllers: usize) -> (Client, Vec<String>) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = rcgen::CertificateParams::new([]).expect("parameters").self_signed(&key).expect("a certificate").pem();
        let urls: Vec<_> = (0..controllers).map(|number| format!("https://c{number}")).collect();
        let client = Client::new(Dialer::tcp(), urls.clone(), ca, None).expect("a client");
        client.at.set(0);
        client.polls.set(0);
        (client, urls)
    }

    #[test]
    fn polls_stay_where_they_are_answered_until_another_controller_takes_what_that_one_refuses() {
        let (client, urls) = client(3);
        let refused = |at: usize| {
            client.count(&client.at, ClientError::Status { url: urls[at].clone(), status: 503, detail: String::new() });
        };
        // the first has no database, the second is dead: polls stay with the first
        refused(0);
        refused(1);
        assert_eq!((client.url(&client.polls), client.url(&client.at)), (urls[0].clone(), urls[2].clone()));
        client.worked(&urls[2]);
        assert_eq!(client.url(&client.polls), urls[2]);
        // one that takes everything is not left for another that does, too
        client.worked(&urls[0]);
        assert_eq!(client.url(&client.polls), urls[2]);
        client.count(&client.polls, ClientError::Timeout { url: urls[2].clone(), seconds: 1 });
        assert_eq!(client.url(&client.polls), urls[0]);
    }

    #[test]
    fn requests_that_fail_together_turn_away_from_a_controller_once() {
        let check = |controllers: usize, failures: &[(usize, u16)], expect: usize| {
            let (client, urls) = client(controllers);
            for (at, status) in failures {
                client.count(
                    &client.at,
                    ClientError::Status { url: urls[*at].clone(), status: *status, detail: String::new() },
                );
            }
            assert_eq!(client.url(&client.at), urls[expect], "{failures:?}");
        };
        check(2, &[(0, 503)], 1);
        check(2, &[(0, 503), (0, 503), (0, 503)], 1);
        check(3, &[(0, 503), (0, 503), (1, 502), (0, 503)], 2);
        check(2, &[(0, 503), (1, 503)], 0);
        // what the controller means is meant by all of them
        check(2, &[(0, 401), (0, 409)], 0);
        check(1, &[(0, 503), (0, 503)], 0);
    }
}
