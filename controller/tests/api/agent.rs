//! An agent as the controller meets it: its own key, real TLS, one connection per request.

use crate::rig::{PATIENCE, Rig};
use crate::wire::{Answer, request, send, whole};
use http::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use straas_schemas::assignment::GENERATION_LEAP;
use straas_schemas::build::{BuildStatus, RefusedBuild};
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus, Vitals};
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::{Facts, Report, ReportBody, ReportRequest, StageResult};
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, Digest, Gate, Outcome, Stage};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub struct Agent {
    pub node: String,
    pub incarnation: u64,
    pub certificate_pem: String,
    pub key_pem: String,
    agents: SocketAddr,
    tls: Arc<ClientConfig>,
    pub seq: u64,
    beat: u64,
    assignment: Option<Assignment>,
    done: BTreeMap<Stage, (Digest, Option<Digest>)>,
    converged: u64,
    /// The controller was put back from a backup.
    tells_again: bool,
    /// The stage that fails, if one does.
    pub fails: Option<Stage>,
    /// What its service shows.
    pub facts: Facts,
    /// It says that its service goes on while it waits for a permit.
    pub serves_on: bool,
    /// Its build; none of an agent that knows nothing of builds.
    pub build: Option<BuildStatus>,
    /// The build that it refuses.
    pub refuses: Option<Digest>,
    /// The digest that failed last, and how often in a row.
    failed: (Option<Digest>, u32),
    /// What it enrolled with.
    pub token: String,
    /// Whom it says that it trusts; none of an agent that knows nothing of that.
    pub trusts: Option<Vec<Digest>>,
}

/// A key and a request to sign it, with whatever else `params` ask for.
pub fn csr(params: CertificateParams) -> (KeyPair, String) {
    let key = KeyPair::generate().expect("a key");
    let csr = params.serialize_request(&key).expect("a request").pem().expect("pem");
    (key, csr)
}

/// TLS towards a controller whose authority this is, with a certificate and its key or without.
pub fn tls(ca: &str, own: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.expect("pem")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    Arc::new(match own {
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("pem");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("pem");
            builder.with_client_auth_cert(vec![certificate], key).expect("a certificate")
        }
        None => builder.with_no_client_auth(),
    })
}

pub async fn connect(agents: SocketAddr, tls: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(agents).await?;
    let name = ServerName::try_from("straas-controller").expect("a name");
    TlsConnector::from(tls.clone()).connect(name, tcp).await
}

/// A request to the agents' port; an error is one of the connection.
pub async fn ask(
    agents: SocketAddr,
    tls: &Arc<ClientConfig>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> std::io::Result<Answer> {
    let stream = connect(agents, tls).await?;
    let response = send(stream, request(method, path, &[], body)).await.map_err(std::io::Error::other)?;
    Ok(whole(response).await)
}

pub fn enrolment(token: &str, csr: &str) -> Vec<u8> {
    json!({ "protocol": 1, "token": token, "csr_pem": csr, "hostname": "h", "agent_version": "0.1.0" })
        .to_string()
        .into_bytes()
}

impl Agent {
    /// Enrols with a token; the refusal if there is one.
    pub async fn enrol(rig: &Rig, token: &str) -> Result<Self, Answer> {
        let (key, csr) = csr(CertificateParams::default());
        let answer = ask(rig.agents, &tls(&rig.ca(), None), Method::POST, "/agent/v1/enrol", enrolment(token, &csr))
            .await
            .expect("an answer");
        if answer.status != 201 {
            return Err(answer);
        }
        let given = answer.json();
        let text = |name: &str| given[name].as_str().expect("a text").to_owned();
        let (certificate_pem, key_pem) = (text("certificate_pem"), key.serialize_pem());
        Ok(Self {
            node: text("node"),
            incarnation: given["incarnation"].as_u64().expect("a number"),
            tls: tls(&rig.ca(), Some((&certificate_pem, &key_pem))),
            certificate_pem,
            key_pem,
            agents: rig.agents,
            seq: 0,
            beat: 0,
            assignment: None,
            done: BTreeMap::new(),
            converged: 0,
            tells_again: false,
            fails: None,
            facts: Facts::new(),
            serves_on: false,
            build: Some(BuildStatus::default()),
            refuses: None,
            failed: (None, 0),
            token: token.to_owned(),
            trusts: None,
        })
    }

    /// Checks controllers against these authorities from now on, and shows this certificate of its own.
    pub fn uses(&mut self, ca: &str, certificate_pem: &str, key_pem: &str) {
        certificate_pem.clone_into(&mut self.certificate_pem);
        key_pem.clone_into(&mut self.key_pem);
        self.tls = tls(ca, Some((certificate_pem, key_pem)));
    }

    /// Asks for something that the handshake is to refuse.
    pub async fn is_refused(&self) -> bool {
        let body = serde_json::to_vec(&self.poll_body(0)).expect("json");
        ask(self.agents, &self.tls, Method::POST, &self.path("poll"), body).await.is_err()
    }

    /// The controller was started again at other ports.
    pub fn follow(&mut self, rig: &Rig) {
        self.agents = rig.agents;
    }

    pub fn path(&self, what: &str) -> String {
        format!("/agent/v1/nodes/{}/{what}", self.node)
    }

    /// A connection that nothing was asked on.
    pub async fn connection(&self) -> TlsStream<TcpStream> {
        connect(self.agents, &self.tls).await.expect("a connection")
    }

    pub async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let asked = tokio::time::timeout(PATIENCE, ask(self.agents, &self.tls, method, path, body));
        asked.await.expect("in time").expect("an answer")
    }

    pub async fn post(&self, what: &str, body: &impl Serialize) -> Answer {
        self.ask(Method::POST, &self.path(what), serde_json::to_vec(body).expect("json")).await
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        connect(self.agents, &self.tls).await.expect("connected")
    }

    pub fn poll_body(&self, wait_ms: u32) -> PollRequest {
        PollRequest {
            protocol: 1,
            incarnation: self.incarnation,
            generation: self.assignment.as_ref().map_or(0, |a| a.generation),
            digest: self.assignment.as_ref().map(Assignment::content_digest),
            commands: Vec::new(),
            look: 0,
            trusts: self.trusts.clone(),
            wait_ms,
        }
    }

    /// Polls and keeps what is offered; whether there was something.
    pub async fn poll(&mut self, wait_ms: u32) -> bool {
        let answer = self.post("poll", &self.poll_body(wait_ms)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.take(&answer)
    }

    fn take(&mut self, answer: &Answer) -> bool {
        let answer: PollAnswer = serde_json::from_slice(&answer.body).expect("a poll answer");
        let news = answer.assignment.is_some();
        let generation = |assignment: &Option<Assignment>| assignment.as_ref().map_or(0, |a| a.generation);
        let had = generation(&self.assignment);
        self.tells_again |= had > 0 && generation(&answer.assignment) >= had + GENERATION_LEAP / 2;
        self.assignment = answer.assignment.or(self.assignment.take());
        news
    }

    pub fn assignment(&self) -> &Assignment {
        self.assignment.as_ref().expect("an assignment")
    }

    fn next(&self) -> Option<(Stage, Digest, &Gate)> {
        let assignment = self.assignment.as_ref()?;
        let digest = |stage| self.done.get(&stage).map(|(digest, _)| digest);
        let rendered = self.done.get(&Stage::PreConfig).and_then(|(_, produced)| produced.as_ref());
        assignment.stages.iter().find_map(|order| {
            let wanted =
                effective_digest(order.stage, &order.inputs, digest(Stage::Install), rendered, digest(Stage::Config));
            (digest(order.stage) != Some(&wanted)).then_some((order.stage, wanted, &order.gate))
        })
    }

    /// The stages that it ran last, with what they were run for and what came of it.
    pub fn ran(&self) -> BTreeMap<Stage, (Digest, Option<Digest>)> {
        self.done.clone()
    }

    /// Does what may be done, each stage with success, and reports it; whether all is done.
    pub async fn work(&mut self) -> bool {
        if std::mem::take(&mut self.tells_again) {
            for (stage, (digest, _)) in self.ran() {
                let result = self.result(stage, digest, Outcome::Succeeded);
                self.report(ReportBody::Stage(result)).await;
            }
        }
        while let Some((stage, digest, gate)) = self.next() {
            let permitted = matches!(gate, Gate::Permit { granted: Some(granted) } if *granted == digest);
            if *gate != Gate::Open && !permitted {
                return false;
            }
            if self.fails == Some(stage) {
                let attempt = if self.failed.0.as_ref() == Some(&digest) { self.failed.1 + 1 } else { 1 };
                self.failed = (Some(digest.clone()), attempt);
                let result =
                    StageResult { attempt, failures: Some(attempt), ..self.result(stage, digest, Outcome::Failed) };
                self.report(ReportBody::Stage(result)).await;
                // as a ledger has it: what failed last is run again, also where it had succeeded once
                if stage == Stage::Validate {
                    self.done.remove(&stage);
                }
                return false;
            }
            let result = self.result(stage, digest.clone(), Outcome::Succeeded);
            let produced = result.produced.clone();
            self.report(ReportBody::Stage(result)).await;
            self.done.insert(stage, (digest, produced));
        }
        let generation = self.assignment().generation;
        if self.converged < generation {
            self.converged = generation;
            self.report(ReportBody::Converged { generation }).await;
        }
        true
    }

    /// The result of a run of a stage.
    pub fn result(&self, stage: Stage, digest: Digest, outcome: Outcome) -> StageResult {
        let good = outcome == Outcome::Succeeded;
        StageResult {
            generation: self.assignment.as_ref().map_or(1, |a| a.generation),
            stage,
            digest,
            attempt: 1,
            failures: Some(u32::from(outcome == Outcome::Failed)),
            outcome,
            return_value: stage.return_value(good).into(),
            exit_code: Some(i32::from(!good)),
            reason: if good { String::new() } else { "it failed".into() },
            hint: None,
            duration_ms: 1200,
            output_tail: if good { String::new() } else { "E: last line".into() },
            output_bytes: 0,
            retry_in_ms: (!good).then_some(60_000),
            produced: (stage == Stage::PreConfig).then(|| Digest::sha256(b"site.pp")),
            facts: self.facts.clone(),
        }
    }

    /// The stage that waits for a permit.
    fn asks(&self) -> Option<Ask> {
        let (stage, digest, gate) = self.next()?;
        matches!(gate, Gate::Permit { .. }).then_some(Ask { stage, digest })
    }

    /// The next stage's digest.
    pub fn wants(&self) -> Option<(Stage, Digest)> {
        self.next().map(|(stage, digest, _)| (stage, digest))
    }

    /// Sends one report and has it acknowledged.
    pub async fn report(&mut self, body: ReportBody) {
        self.seq += 1;
        let report = Report { seq: self.seq, at_ms: 0, body };
        let answer =
            self.post("reports", &ReportRequest { incarnation: self.incarnation, reports: vec![report] }).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "acknowledged": self.seq })));
    }

    /// Is the build that is assigned from now on, or refuses it.
    fn be_replaced(&mut self) {
        let (Some(build), Some(assignment)) = (&mut self.build, &self.assignment) else { return };
        let wanted = assignment.agent.as_ref().map(|build| build.sha256.clone());
        build.refused.take_if(|refused| refused.sha256 != wanted);
        if wanted.is_some() && wanted == self.refuses {
            build.refused = Some(RefusedBuild { sha256: wanted, reason: "no good".into() });
        } else {
            build.sha256 = wanted;
        }
    }

    pub fn heartbeat_body(&mut self) -> Heartbeat {
        self.beat += 1;
        self.be_replaced();
        let settled = self.next().is_none();
        Heartbeat {
            incarnation: self.incarnation,
            beat: self.beat,
            run: "r".into(),
            agent_version: "0.1.0".into(),
            agent: self.build.clone(),
            generation: self.assignment.as_ref().map_or(0, |a| a.generation),
            converged: settled,
            activity: Activity::Idle,
            asks: self.asks(),
            service: if settled || (self.serves_on && self.converged > 0) {
                ServiceStatus::Active
            } else {
                ServiceStatus::Unknown
            },
            stages: BTreeMap::new(),
            facts: self.facts.clone(),
            drift: None,
            looked_ago_ms: None,
            ledger_writable: true,
            ledger_fault: None,
            outbox: 0,
            vitals: Vitals::default(),
        }
    }

    pub async fn heartbeat(&mut self) {
        let body = self.heartbeat_body();
        let answer = self.post("heartbeat", &body).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// One round of an honest agent's life.
    pub async fn round(&mut self) -> bool {
        self.poll(0).await;
        let done = self.assignment.is_some() && self.work().await;
        self.heartbeat().await;
        done
    }
}

impl Agent {
    /// A round, unless the node is another host's by now or gone.
    pub async fn try_round(&mut self) {
        let answer = self.post("poll", &self.poll_body(0)).await;
        if answer.status != 200 {
            return;
        }
        self.take(&answer);
        if self.assignment.is_some() {
            self.work().await;
        }
        // standing may be lost at any moment
        let beat = self.heartbeat_body();
        drop(self.post("heartbeat", &beat).await);
    }
}

/// Lets agents live until the topology's status is this.
pub async fn live(rig: &Rig, agents: &mut [Agent], topology: &str, status: &str) -> Value {
    let begun = std::time::Instant::now();
    loop {
        for agent in agents.iter_mut() {
            agent.round().await;
        }
        let view = rig.get(&format!("{}/{topology}", crate::rig::TOPOLOGIES)).await;
        if view["status"] == status {
            return view;
        }
        assert!(begun.elapsed() < PATIENCE, "still {view:#}");
    }
}
