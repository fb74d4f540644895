//! An agent whose stages succeed at once: enrols, polls, reports, heartbeats, ends commands.
//!
//! What it tells is what an honest agent would tell; what it runs is nothing. It keeps its reports until they are
//! acknowledged and never begins a command twice, so what the controller makes of it can be believed.

use crate::link::{Link, tls};
use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use straas_agent::backoff::Backoff;
use straas_schemas::command::{CommandEnd, CommandOutcome};
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus, Vitals};
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::{Facts, Report, ReportBody, ReportRequest, StageResult};
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, CommandId, Digest, Gate, Outcome, Stage};
use tokio::sync::Notify;
use tokio::time::{interval_at, sleep};

/// A poll is held so long.
const HELD_MS: u32 = 55_000;

/// What is known of all agents together.
#[derive(Default)]
pub struct Tally {
    pub polls: AtomicU64,
    pub heartbeats: AtomicU64,
    pub reports: AtomicU64,
    pub commands: AtomicU64,
    pub failures: AtomicU64,
    /// A command that came twice although it was known: must stay zero.
    pub again: AtomicU64,
}

/// What the one who plays knows of an agent.
pub struct Seen {
    pub node: String,
    /// The newest generation, and when it came.
    pub told: Mutex<(u64, Instant)>,
    pub settled: AtomicBool,
    /// A poll was answered, or is held, since this was last cleared.
    pub polled: AtomicBool,
    /// Cuts its connections.
    pub cut: Notify,
}

pub struct Agent {
    pub seen: Arc<Seen>,
    tally: Arc<Tally>,
    incarnation: u64,
    other: Link,
    seq: u64,
    beat: u64,
    outbox: VecDeque<Report>,
    assignment: Option<Assignment>,
    done: BTreeMap<Stage, (Digest, Option<Digest>)>,
    converged: u64,
    known: BTreeSet<CommandId>,
    backoff: Backoff,
}

impl Agent {
    /// Enrols with a join token.
    pub async fn enrol(to: SocketAddr, roots: &Arc<RootCertStore>, token: &str, tally: Arc<Tally>) -> Result<Self> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = json!({ "protocol": 1, "token": token, "csr_pem": csr, "hostname": "h", "agent_version": "0.1.0" });
        let mut link = Link::new(to, tls(roots, None)?);
        let (status, body) = link.post("/agent/v1/enrol", body.to_string().into_bytes()).await?;
        ensure!(status == StatusCode::CREATED, "enrolling: {status} {}", String::from_utf8_lossy(&body));
        let given: Value = serde_json::from_slice(&body)?;
        let text = |name: &str| given[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let own = tls(roots, Some((&text("certificate_pem")?, &key.serialize_pem())))?;
        let seen = Seen {
            node: text("node")?,
            told: Mutex::new((0, Instant::now())),
            settled: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            cut: Notify::new(),
        };
        Ok(Self {
            seen: Arc::new(seen),
            tally,
            incarnation: given["incarnation"].as_u64().context("no incarnation")?,
            other: Link::new(to, own),
            seq: 0,
            beat: 0,
            outbox: VecDeque::new(),
            assignment: None,
            done: BTreeMap::new(),
            converged: 0,
            known: BTreeSet::new(),
            backoff: Backoff::default(),
        })
    }

    fn path(&self, what: &str) -> String {
        format!("/agent/v1/nodes/{}/{what}", self.seen.node)
    }

    /// Lives until it is dropped, with a heartbeat every so often, which goes on beside a poll that is held.
    pub async fn live(mut self, every: Duration) {
        let mut poll = Link::new(self.other.to(), self.tls());
        let first = tokio::time::Instant::now() + every.mul_f64(rand::random_range(0.0..1.0));
        let mut beats = interval_at(first, every);
        let seen = self.seen.clone();
        loop {
            let body = serde_json::to_vec(&self.poll_body()).unwrap_or_default();
            let path = self.path("poll");
            let answer = {
                let polling = poll.post(&path, body);
                tokio::pin!(polling);
                loop {
                    tokio::select! {
                        answer = &mut polling => break Some(answer),
                        _ = beats.tick() => self.heartbeat().await,
                        () = seen.cut.notified() => break None,
                    }
                }
            };
            let Some(answer) = answer else {
                poll.cut();
                self.other.cut();
                continue;
            };
            let done = match answer {
                Ok((StatusCode::OK, body)) => self.answered(&body).await,
                Ok((status, _)) => Err(anyhow::anyhow!("{status}")),
                Err(error) => Err(error),
            };
            if done.is_ok() {
                self.backoff.reset();
                self.seen.polled.store(true, Ordering::Relaxed);
                self.tally.polls.fetch_add(1, Ordering::Relaxed);
            } else {
                self.tally.failures.fetch_add(1, Ordering::Relaxed);
                // waits for: a controller that did not answer, as agents do
                sleep(self.backoff.failed()).await;
            }
        }
    }

    fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.other.tls()
    }

    fn poll_body(&self) -> PollRequest {
        // the first poll after a failure is answered at once: whoever waits for this agent sees it
        let again = self.backoff.failures() > 0 || !self.seen.polled.load(Ordering::Relaxed);
        PollRequest {
            protocol: 1,
            incarnation: self.incarnation,
            generation: self.assignment.as_ref().map_or(0, |a| a.generation),
            digest: self.assignment.as_ref().map(Assignment::content_digest),
            commands: Vec::new(),
            look: u64::MAX,
            trusts: None,
            wait_ms: if again { 0 } else { HELD_MS },
        }
    }

    async fn answered(&mut self, body: &[u8]) -> Result<()> {
        let answer: PollAnswer = serde_json::from_slice(body)?;
        let ends: Vec<ReportBody> = answer.commands.into_iter().filter_map(|order| self.end(order.id)).collect();
        ends.into_iter().for_each(|end| self.report(end));
        let mut news = false;
        if let Some(assignment) = answer.assignment {
            *self.seen.told.lock().unwrap_or_else(PoisonError::into_inner) = (assignment.generation, Instant::now());
            self.assignment = Some(assignment);
            self.work();
            news = true;
        }
        self.send().await?;
        if news {
            self.heartbeat().await;
        }
        Ok(())
    }

    fn end(&mut self, id: CommandId) -> Option<ReportBody> {
        if !self.known.insert(id.clone()) {
            self.tally.again.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.tally.commands.fetch_add(1, Ordering::Relaxed);
        Some(ReportBody::Command(CommandEnd {
            id,
            outcome: CommandOutcome::Succeeded,
            exit_code: Some(0),
            reason: String::new(),
            hint: None,
            duration_ms: 1,
            result: serde_json::Map::new(),
            output_bytes: 0,
        }))
    }

    fn next(&self) -> Option<(Stage, Digest, Gate)> {
        let assignment = self.assignment.as_ref()?;
        let digest = |stage| self.done.get(&stage).map(|(digest, _)| digest);
        let rendered = self.done.get(&Stage::PreConfig).and_then(|(_, produced)| produced.as_ref());
        assignment.stages.iter().find_map(|order| {
            let (install, config) = (digest(Stage::Install), digest(Stage::Config));
            let wanted = effective_digest(order.stage, &order.inputs, install, rendered, config);
            (digest(order.stage) != Some(&wanted)).then(|| (order.stage, wanted, order.gate.clone()))
        })
    }

    /// Does what may be done.
    fn work(&mut self) {
        let generation = self.assignment.as_ref().map_or(0, |a| a.generation);
        while let Some((stage, digest, gate)) = self.next() {
            let permitted = matches!(&gate, Gate::Permit { granted: Some(granted) } if *granted == digest);
            if gate != Gate::Open && !permitted {
                return self.seen.settled.store(false, Ordering::Relaxed);
            }
            let produced = (stage == Stage::PreConfig).then(|| Digest::sha256(b"site.pp"));
            self.report(ReportBody::Stage(StageResult {
                generation,
                stage,
                digest: digest.clone(),
                attempt: 1,
                failures: Some(0),
                outcome: Outcome::Succeeded,
                return_value: stage.return_value(true).into(),
                exit_code: Some(0),
                reason: String::new(),
                hint: None,
                duration_ms: 1,
                output_tail: String::new(),
                output_bytes: 0,
                retry_in_ms: None,
                produced: produced.clone(),
                facts: facts(),
            }));
            self.done.insert(stage, (digest, produced));
        }
        if self.converged < generation {
            self.converged = generation;
            self.report(ReportBody::Converged { generation });
        }
        self.seen.settled.store(true, Ordering::Relaxed);
    }

    fn report(&mut self, body: ReportBody) {
        self.seq += 1;
        self.outbox.push_back(Report { seq: self.seq, at_ms: 0, body });
    }

    /// Sends what is not acknowledged.
    async fn send(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            let reports: Vec<Report> = self.outbox.iter().take(50).cloned().collect();
            let request = ReportRequest { incarnation: self.incarnation, reports };
            let answer =
                post(&mut self.other, &format!("/agent/v1/nodes/{}/reports", self.seen.node), &request).await?;
            ensure!(answer.0 == StatusCode::OK, "reports: {}", answer.0);
            let answer: Value = serde_json::from_slice(&answer.1)?;
            let acknowledged = answer["acknowledged"].as_u64().context("not acknowledged")?;
            let before = self.outbox.len();
            self.outbox.retain(|report| report.seq > acknowledged);
            self.tally.reports.fetch_add((before - self.outbox.len()) as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn heartbeat(&mut self) {
        let beat = self.beat();
        let path = self.path("heartbeat");
        let sent = post(&mut self.other, &path, &beat).await;
        let good = sent.is_ok_and(|(status, _)| status == StatusCode::NO_CONTENT);
        let count = if good { &self.tally.heartbeats } else { &self.tally.failures };
        count.fetch_add(1, Ordering::Relaxed);
        if good && !self.outbox.is_empty() {
            // what could not be sent when it came
            drop(self.send().await);
        }
    }

    fn beat(&mut self) -> Heartbeat {
        self.beat += 1;
        let next = self.next();
        let asks = next.as_ref().filter(|(.., gate)| matches!(gate, Gate::Permit { .. }));
        let asks = asks.map(|(stage, digest, _)| Ask { stage: *stage, digest: digest.clone() });
        let active = next.is_none() || self.converged > 0;
        let service = if active { ServiceStatus::Active } else { ServiceStatus::Unknown };
        let generation = self.assignment.as_ref().map_or(0, |a| a.generation);
        Heartbeat { asks, service, ..heartbeat(self.incarnation, self.beat, generation, next.is_none()) }
    }

    /// Its connection, and its heartbeat as it would send it: for whoever sends as fast as it goes.
    pub fn parts(&self) -> (Arc<rustls::ClientConfig>, String, u64) {
        (self.tls(), self.path("heartbeat"), self.incarnation)
    }
}

fn facts() -> Facts {
    [("mode".to_owned(), json!("follower")), ("connections".to_owned(), json!(1))].into()
}

async fn post(link: &mut Link, path: &str, body: &impl Serialize) -> Result<(StatusCode, bytes::Bytes)> {
    link.post(path, serde_json::to_vec(body)?).await
}

/// A heartbeat as a real agent sends it, with metrics.
pub fn heartbeat(incarnation: u64, beat: u64, generation: u64, converged: bool) -> Heartbeat {
    let vitals = Vitals {
        boot_id: "0123456789abcdef0123456789abcdef".into(),
        uptime_s: beat * 10,
        cpus: 4,
        ..Vitals::default()
    };
    Heartbeat {
        incarnation,
        beat,
        run: "r".into(),
        agent_version: "0.1.0".into(),
        agent: None,
        generation,
        converged,
        activity: Activity::Idle,
        asks: None,
        service: ServiceStatus::Active,
        stages: BTreeMap::new(),
        facts: facts(),
        drift: None,
        looked_ago_ms: None,
        ledger_writable: true,
        ledger_fault: None,
        outbox: 0,
        vitals,
    }
}
