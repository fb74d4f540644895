//! A node as it really is: a simple, honest agent and the service on its host.
//!
//! Not the converger: a second opinion on what an agent does with an assignment. It also keeps
//! what no agent and no controller knows: whether the service truly works, and whether it is down
//! because it was re-configured.

use std::collections::BTreeMap;
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus, StageSummary, Vitals};
use straas_schemas::report::{Facts, Report, ReportBody, StageResult};
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, Digest, Gate, Outcome, Stage};

/// Last run of a stage.
#[derive(Clone, Debug)]
pub struct Record {
    pub digest: Digest,
    pub outcome: Option<Outcome>,
    pub produced: Option<Digest>,
    pub attempt: u32,
    pub facts: Facts,
}

/// A host with an agent.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub name: String,
    pub incarnation: u64,
    pub assignment: Option<Assignment>,
    pub records: BTreeMap<Stage, Record>,
    pub running: Option<(Stage, Digest)>,
    pub outbox: Vec<Report>,
    pub seq: u64,
    pub beat: u64,
    pub converged: u64,
    /// What `validate` saw last.
    pub seen: Option<bool>,
    /// The truth: the service works.
    pub active: bool,
    /// The truth: it worked, was re-configured, and was not seen to work since.
    pub disturbed: bool,
    /// The truth: it worked at least once on this host.
    pub ever_valid: bool,
    /// Digests that were asked for while the service was down: nothing to disturb then.
    pub asked_while_down: Vec<Digest>,
    pub leader: bool,
    /// The truth: the peers that its configuration names.
    pub peers: Vec<String>,
}

impl Agent {
    pub fn fresh(name: &str, incarnation: u64) -> Self {
        Self { name: name.to_owned(), incarnation, ..Self::default() }
    }

    pub fn generation(&self) -> u64 {
        self.assignment.as_ref().map_or(0, |a| a.generation)
    }

    /// The three-way rule; a fault here is a fault of the planner.
    pub fn offered(&mut self, offer: &Assignment) {
        assert_eq!(offer.name, self.name);
        let have = self.generation();
        if offer.generation == have {
            assert_eq!(self.assignment.as_ref(), Some(offer), "generation {have} was given out with other content");
        }
        if offer.generation > have {
            self.assignment = Some(offer.clone());
            let wanted = self.next();
            if self.running.is_some() && self.running != wanted {
                self.running = None; // killed
            }
        }
    }

    fn effective(&self, assignment: &Assignment, stage: Stage) -> Option<Digest> {
        let inputs = &assignment.order(stage)?.inputs;
        let digest = |stage| self.records.get(&stage).map(|r: &Record| &r.digest);
        let rendered = self.records.get(&Stage::PreConfig).and_then(|r| r.produced.as_ref());
        Some(effective_digest(stage, inputs, digest(Stage::Install), rendered, digest(Stage::Config)))
    }

    /// The next stage that is due.
    pub fn next(&self) -> Option<(Stage, Digest)> {
        let assignment = self.assignment.as_ref()?;
        Stage::ALL.into_iter().find_map(|stage| {
            let digest = self.effective(assignment, stage)?;
            let done = |r: &Record| r.digest == digest && r.outcome == Some(Outcome::Succeeded);
            (!self.records.get(&stage).is_some_and(done)).then_some((stage, digest))
        })
    }

    fn gate(&self, stage: Stage) -> Option<&Gate> {
        self.assignment.as_ref()?.order(stage).map(|o| &o.gate)
    }

    fn allowed(&self, stage: Stage, digest: &Digest) -> bool {
        match self.gate(stage) {
            Some(Gate::Open) => true,
            Some(Gate::Permit { granted }) => granted.as_ref() == Some(digest),
            Some(Gate::Closed { .. }) | None => false,
        }
    }

    /// Begins the next stage if it may; returns which.
    pub fn begin(&mut self) -> Option<Stage> {
        if self.running.is_some() {
            return None;
        }
        let (stage, digest) = self.next().filter(|(stage, digest)| self.allowed(*stage, digest))?;
        let before = self.records.get(&stage).filter(|r| r.digest == digest && r.outcome != Some(Outcome::Succeeded));
        let attempt = before.map_or(1, |r| r.attempt + 1);
        if stage == Stage::Config {
            self.disturbed |= self.active && !self.asked_while_down.contains(&digest);
            self.active = false;
            let peers = self.assignment.as_ref().and_then(|a| a.context["peers"].as_array());
            let names = peers.into_iter().flatten().filter_map(|p| p["name"].as_str());
            self.peers = names.map(str::to_owned).collect();
            // what was seen before says nothing about what is configured now
            self.records.remove(&Stage::Validate);
        }
        if stage != Stage::Validate {
            let record = Record { digest: digest.clone(), outcome: None, produced: None, attempt, facts: Facts::new() };
            self.records.insert(stage, record);
        }
        self.running = Some((stage, digest));
        Some(stage)
    }

    /// The run ends. `works`: the service works if it was configured well.
    pub fn finish(&mut self, outcome: Outcome, produced: Option<Digest>) -> Option<Stage> {
        let (stage, digest) = self.running.take()?;
        let before = self.records.get(&stage).filter(|r| r.digest == digest);
        let attempt = before.map_or(0, |r| r.attempt) + u32::from(stage == Stage::Validate || before.is_none());
        if stage == Stage::Config && outcome == Outcome::Succeeded {
            self.active = true;
        }
        if stage == Stage::Validate {
            self.saw(outcome == Outcome::Succeeded);
        }
        let facts = self.facts(stage, outcome);
        self.record(stage, digest, attempt.max(1), outcome, produced, facts);
        Some(stage)
    }

    fn facts(&self, stage: Stage, outcome: Outcome) -> Facts {
        let mode = if self.leader { "leader" } else { "follower" };
        if (stage, outcome) == (Stage::Validate, Outcome::Succeeded) {
            Facts::from([("mode".to_owned(), mode.into())])
        } else {
            Facts::new()
        }
    }

    fn saw(&mut self, works: bool) {
        self.seen = Some(works);
        if works {
            self.disturbed = false;
            self.ever_valid = true;
        }
    }

    fn record(
        &mut self,
        stage: Stage,
        digest: Digest,
        attempt: u32,
        outcome: Outcome,
        produced: Option<Digest>,
        facts: Facts,
    ) {
        let failed = outcome != Outcome::Succeeded;
        let result = StageResult {
            generation: self.generation(),
            stage,
            digest: digest.clone(),
            attempt,
            outcome,
            return_value: stage.return_value(!failed).to_owned(),
            exit_code: Some(match outcome {
                Outcome::Succeeded => 0,
                Outcome::Waiting => 75,
                Outcome::Failed => 1,
            }),
            reason: if failed { format!("{stage} said {outcome:?}") } else { String::new() },
            hint: failed.then(|| "look at the log".to_owned()),
            duration_ms: 1_500,
            output_tail: if failed { "E: no such thing".to_owned() } else { "fine".to_owned() },
            output_bytes: 16,
            retry_in_ms: failed.then_some(1_000),
            produced: produced.clone(),
            facts: facts.clone(),
        };
        self.records.insert(stage, Record { digest, outcome: Some(outcome), produced, attempt, facts });
        self.report(ReportBody::Stage(result));
        self.confirm();
    }

    /// Reports that everything is done, once per generation.
    pub fn confirm(&mut self) {
        let generation = self.generation();
        if self.running.is_none() && self.next().is_none() && self.converged < generation {
            self.converged = generation;
            self.report(ReportBody::Converged { generation });
        }
    }

    /// A look at the settled service; reported when it differs from the last one.
    pub fn look(&mut self, works: bool) {
        let Some(record) = self.records.get(&Stage::Validate).cloned() else { return };
        if self.running.is_some() || self.next().is_some_and(|(stage, _)| stage == Stage::Validate) && !works {
            return;
        }
        self.saw(works);
        let outcome = if works { Outcome::Succeeded } else { Outcome::Failed };
        let current = self.assignment.as_ref().and_then(|a| self.effective(a, Stage::Validate));
        if record.outcome != Some(outcome) && current.as_ref() == Some(&record.digest) {
            let facts = self.facts(Stage::Validate, outcome);
            self.record(Stage::Validate, record.digest, record.attempt + 1, outcome, None, facts);
        }
    }

    fn report(&mut self, body: ReportBody) {
        self.seq += 1;
        self.outbox.push(Report { seq: self.seq, at_ms: 0, body });
    }

    /// `kill -9`: what ran is lost, the ledger stays.
    pub fn crash(&mut self) {
        self.running = None;
        self.seen = None;
    }

    pub fn heartbeat(&mut self) -> Heartbeat {
        self.beat += 1;
        let waits = self.next().filter(|(stage, digest)| self.running.is_none() && !self.allowed(*stage, digest));
        let asks = waits.filter(|(stage, _)| matches!(self.gate(*stage), Some(Gate::Permit { .. })));
        let asks = asks.map(|(stage, digest)| Ask { stage, digest });
        let service = match self.seen {
            Some(true) => ServiceStatus::Active,
            Some(false) => ServiceStatus::Inactive,
            None => ServiceStatus::Unknown,
        };
        if let Some(ask) = asks.as_ref().filter(|_| service != ServiceStatus::Active) {
            self.asked_while_down.push(ask.digest.clone());
        }
        let activity = match &self.running {
            Some((stage, _)) => Activity::Running {
                stage: *stage,
                attempt: 1,
                for_ms: 100,
                progress: Some("at it".into()),
                percent: Some(40),
            },
            None => Activity::Idle,
        };
        let summary = |r: &Record| {
            Some(StageSummary { digest: r.digest.clone(), outcome: r.outcome?, attempt: r.attempt, duration_ms: 1 })
        };
        Heartbeat {
            incarnation: self.incarnation,
            beat: self.beat,
            run: "r".into(),
            agent_version: "0.1.0".into(),
            generation: self.generation(),
            converged: self.next().is_none(),
            activity,
            asks,
            service,
            stages: self.records.iter().filter_map(|(stage, r)| Some((*stage, summary(r)?))).collect(),
            facts: self.records.get(&Stage::Validate).map(|r| r.facts.clone()).unwrap_or_default(),
            drift: None,
            ledger_writable: true,
            outbox: 0,
            vitals: Vitals::default(),
        }
    }
}
