//! The controller's agent API over real mutual TLS, small enough to force faults in.

use crate::repo::Repo;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::server::WebPkiClientVerifier;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use straas_agent::trust::fingerprints;
use straas_schemas::command::{COMMAND_PIECE_BYTES_MAX, CommandEnd, CommandOrder, CommandOutputAnswer};
use straas_schemas::enrol::{Certificate, ComeBackRequest, EnrolRequest, RenewRequest};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::{Report, ReportAnswer, ReportBody, ReportRequest};
use straas_schemas::{Assignment, CommandId, Digest, NodeId};
use tokio::sync::watch;

pub const TOKEN: &str = "token-1";

/// The node of a test, which has a thread of its own: an agent that starts ends what another one of its node has left
/// running, and tests go on side by side.
pub fn node_id() -> NodeId {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    thread_local! {
        static NUMBER: u32 = COUNT.fetch_add(1, Ordering::Relaxed);
    }
    NodeId(format!("node-{}-{}", std::process::id(), NUMBER.with(|number| *number)))
}

pub struct Controller {
    pub url: String,
    pub ca_pem: String,
    pub shared: Rc<Shared>,
    accept: tokio::task::JoinHandle<()>,
}

pub struct Shared {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub repo: Repo,
    pub assignment: watch::Sender<Option<Assignment>>,
    pub reports: RefCell<BTreeMap<u64, Report>>,
    pub beats: RefCell<Vec<Heartbeat>>,
    pub files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Guest commands that are offered until the agent has them or they have ended.
    pub orders: RefCell<Vec<CommandOrder>>,
    pub cancel: RefCell<Vec<CommandId>>,
    /// What came of each command's output.
    pub outputs: RefCell<BTreeMap<String, Vec<u8>>>,
    pub commanded: watch::Sender<u32>,
    pub faults: RefCell<Faults>,
    pub changed: tokio::sync::Notify,
    /// Whom polls said that they trust, newest last, without repetitions.
    pub trusted: RefCell<Vec<Vec<Digest>>>,
    /// Certificates that polls came with, in the order of their first.
    pub certificates: RefCell<Vec<Vec<u8>>>,
    /// Requests by the last part of their path, `401`s by name.
    pub seen: RefCell<BTreeMap<String, u32>>,
}

#[derive(Default)]
pub struct Faults {
    pub wrong_pack_sum: u32,
    pub lost_acks: u32,
    pub forbidden: bool,
    pub renew: bool,
    /// What is answered to every poll that has not heard of it.
    pub look: u64,
    /// How long certificates live; a day by default.
    pub life: Option<time::Duration>,
    pub token_used: bool,
    /// Offers every command with every answer.
    pub offers_again: bool,
    /// Pieces of output that are lost with their answer.
    pub lost_pieces: u32,
    /// Whom every agent is told to trust that does not say that it does, PEM.
    pub trust: Option<String>,
}

impl Controller {
    pub async fn start(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca_pem = issuer.pem();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["straas-controller".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let shared = Rc::new(Shared {
            issuer,
            repo: Repo::new(&dir.join("origin.git")),
            assignment: watch::Sender::new(None),
            reports: RefCell::default(),
            beats: RefCell::default(),
            files: RefCell::default(),
            orders: RefCell::default(),
            cancel: RefCell::default(),
            outputs: RefCell::default(),
            commanded: watch::Sender::new(0),
            faults: RefCell::default(),
            changed: tokio::sync::Notify::new(),
            trusted: RefCell::default(),
            certificates: RefCell::default(),
            seen: RefCell::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let of_task = Rc::clone(&shared);
        let accept = tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, acceptor) = (Rc::clone(&of_task), acceptor.clone());
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let known = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
                    let service = hyper::service::service_fn(|request| {
                        let shared = Rc::clone(&shared);
                        let known = known.clone();
                        async move { Ok::<_, Infallible>(shared.answer(request, known).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, ca_pem, shared, accept }
    }

    pub fn converged(&self, generation: u64) -> bool {
        self.shared.reports.borrow().values().any(|r| r.body == ReportBody::Converged { generation })
    }

    pub fn seen(&self, what: &str) -> u32 {
        self.shared.seen.borrow().get(what).copied().unwrap_or(0)
    }

    /// Waits until something holds that the agent brings about.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                self.shared.changed.notified().await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.is_err() {
            panic!(
                "{what}: not within 60 s\n{:#?}\n{:#?}",
                self.shared.reports.borrow(),
                self.shared.beats.borrow().last()
            );
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, known: Option<Vec<u8>>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches("/agent/v1/").split('/').collect();
        let name = if parts.len() > 2 { parts[2] } else { parts[0] };
        *self.seen.borrow_mut().entry(name.to_owned()).or_default() += 1;
        let response =
            if !["enrol", "come-back"].contains(&parts[0]) && (known.is_none() || self.faults.borrow().forbidden) {
                status(StatusCode::FORBIDDEN)
            } else {
                match (head.method, name) {
                    (Method::POST, "enrol") => self.enrol(&body),
                    (Method::POST, "renew") => {
                        let request: RenewRequest = serde_json::from_slice(&body).unwrap();
                        self.faults.borrow_mut().renew = false;
                        json(StatusCode::OK, &self.sign(&request.csr_pem))
                    }
                    (Method::POST, "come-back") => {
                        let request: ComeBackRequest = serde_json::from_slice(&body).unwrap();
                        assert!(known.is_none() && request.certificate_pem.contains("BEGIN CERTIFICATE"));
                        json(StatusCode::OK, &self.sign(&request.csr_pem))
                    }
                    (Method::POST, "poll") => {
                        self.came_with(known);
                        self.poll(&body).await
                    }
                    (Method::POST, "reports") => self.report(&body),
                    (Method::POST, "heartbeat") => {
                        self.beats.borrow_mut().push(serde_json::from_slice(&body).unwrap());
                        status(StatusCode::NO_CONTENT)
                    }
                    (Method::POST, "commands") => self.output(parts[3], head.uri.query(), &body),
                    (Method::GET, "packs") => self.pack(parts[3], head.uri.query()),
                    (Method::GET, "files") => match self.files.borrow().get(parts[3]) {
                        Some(bytes) => Response::new(Full::new(bytes.clone().into())),
                        None => status(StatusCode::NOT_FOUND),
                    },
                    _ => status(StatusCode::NOT_FOUND),
                }
            };
        self.changed.notify_waiters();
        self.changed.notify_one();
        response
    }

    fn enrol(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request: EnrolRequest = serde_json::from_slice(body).unwrap();
        if request.token != TOKEN || std::mem::replace(&mut self.faults.borrow_mut().token_used, true) {
            return status(StatusCode::UNAUTHORIZED);
        }
        json(StatusCode::CREATED, &self.sign(&request.csr_pem))
    }

    fn sign(&self, csr_pem: &str) -> Certificate {
        let csr = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let life = self.faults.borrow().life.unwrap_or(time::Duration::days(1));
        params.not_after = time::OffsetDateTime::now_utc() + life;
        let not_after_ms = params.not_after.unix_timestamp() * 1000;
        let certificate = params.signed_by(&csr.public_key, &self.issuer).unwrap();
        Certificate {
            node: node_id(),
            incarnation: 1,
            certificate_pem: certificate.pem(),
            ca_pem: self.issuer.pem(),
            not_after_ms,
        }
    }

    /// Notes the certificate of a poll.
    fn came_with(&self, certificate: Option<Vec<u8>>) {
        let mut certificates = self.certificates.borrow_mut();
        let new = certificate.filter(|certificate| !certificates.contains(certificate));
        certificates.extend(new);
    }

    async fn poll(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request: PollRequest = serde_json::from_slice(body).unwrap();
        let said = request.trusts.clone().unwrap_or_default();
        if self.trusted.borrow().last() != Some(&said) {
            self.trusted.borrow_mut().push(said.clone());
        }
        let other = |pem: &String| fingerprints(pem).map_or(true, |wanted| wanted != said);
        let trust_pem = self.faults.borrow().trust.clone().filter(other);
        let mut news = self.assignment.subscribe();
        let mut commanded = self.commanded.subscribe();
        let fresh = |a: &Option<Assignment>| {
            a.as_ref().is_some_and(|a| a.generation != request.generation || Some(a.content_digest()) != request.digest)
        };
        let held = async {
            loop {
                let _ = commanded.borrow_and_update();
                let (commands, cancel) = self.commands_for(&request);
                let look = self.faults.borrow().look > request.look;
                if look
                    || trust_pem.is_some()
                    || fresh(&news.borrow_and_update())
                    || !commands.is_empty()
                    || !cancel.is_empty()
                {
                    return (commands, cancel);
                }
                tokio::select! { _ = news.changed() => {} _ = commanded.changed() => {} }
            }
        };
        let held = tokio::time::timeout(std::time::Duration::from_millis(request.wait_ms.into()), held).await;
        let (commands, cancel) = held.unwrap_or_default();
        let assignment = self.assignment.borrow().clone().filter(|a| fresh(&Some(a.clone())));
        let (look, renew) = (self.faults.borrow().look, self.faults.borrow().renew);
        json(StatusCode::OK, &PollAnswer { assignment, commands, cancel, look, renew, trust_pem })
    }

    fn commands_for(&self, request: &PollRequest) -> (Vec<CommandOrder>, Vec<CommandId>) {
        let again = self.faults.borrow().offers_again;
        let wanted =
            |order: &&CommandOrder| again || (!request.commands.contains(&order.id) && self.end(&order.id).is_none());
        let orders = self.orders.borrow().iter().filter(wanted).cloned().collect();
        let cancel = self.cancel.borrow().iter().filter(|id| request.commands.contains(id)).cloned().collect();
        (orders, cancel)
    }

    /// How a command ended, as reported.
    pub fn end(&self, id: &CommandId) -> Option<CommandEnd> {
        self.reports.borrow().values().find_map(|report| match &report.body {
            ReportBody::Command(end) if end.id == *id => Some(end.clone()),
            _ => None,
        })
    }

    fn output(&self, id: &str, query: Option<&str>, body: &[u8]) -> Response<Full<Bytes>> {
        assert!(body.len() <= COMMAND_PIECE_BYTES_MAX);
        let offset: usize = query.and_then(|q| q.strip_prefix("offset=")).unwrap().parse().unwrap();
        let mut faults = self.faults.borrow_mut();
        if faults.lost_pieces > 0 {
            faults.lost_pieces -= 1;
            return status(StatusCode::BAD_GATEWAY);
        }
        let mut outputs = self.outputs.borrow_mut();
        let output = outputs.entry(id.to_owned()).or_default();
        if offset == output.len() {
            output.extend_from_slice(body);
        }
        json(StatusCode::OK, &CommandOutputAnswer { next: output.len() as u64 })
    }

    fn report(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request: ReportRequest = serde_json::from_slice(body).unwrap();
        let acknowledged = request.reports.iter().map(|report| report.seq).max().unwrap();
        for report in request.reports {
            let before = self.reports.borrow_mut().insert(report.seq, report.clone());
            assert!(before.is_none_or(|before| before == report), "one number for two reports");
        }
        let mut faults = self.faults.borrow_mut();
        if faults.lost_acks > 0 {
            faults.lost_acks -= 1;
            return status(StatusCode::BAD_GATEWAY);
        }
        json(StatusCode::OK, &ReportAnswer { acknowledged })
    }

    fn pack(&self, want: &str, query: Option<&str>) -> Response<Full<Bytes>> {
        let bytes = self.repo.pack(want, query.and_then(|q| q.strip_prefix("have=")));
        let mut sum = Digest::sha256(&bytes);
        let mut faults = self.faults.borrow_mut();
        if faults.wrong_pack_sum > 0 {
            faults.wrong_pack_sum -= 1;
            sum = Digest::sha256(b"something else");
        }
        Response::builder().header("x-straas-sha256", sum.as_str()).body(Full::new(bytes.into())).unwrap()
    }
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(serde_json::to_vec(value).unwrap().into()));
    *response.status_mut() = status;
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
