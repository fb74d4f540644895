//! A node as it really is: a simple, honest agent and the service on its host.
//!
//! Not the converger: a second opinion on what an agent does with an assignment. It also keeps
//! what no agent and no controller knows: whether the service truly works, and whether it is down
//! because it was re-configured.

use std::collections::BTreeMap;
use straas_schemas::assignment::DriftPolicy;
use straas_schemas::command::{CommandEnd, CommandOutcome};
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus, StageSummary, Vitals};
use straas_schemas::report::{Facts, Report, ReportBody, StageResult};
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, CommandId, Digest, Gate, Lifecycle, Outcome, Stage};

/// What an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Stage(Stage),
    Start,
    Stop,
}

/// How far a guest command is, by the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Queued,
    Begun,
    Ended,
}

/// Last run of a stage.
#[derive(Clone, Debug)]
pub struct Record {
    pub digest: Digest,
    pub outcome: Option<Outcome>,
    pub produced: Option<Digest>,
    pub attempt: u32,
    pub failures: u32,
    pub facts: Facts,
    /// What it configured was found changed on the host.
    pub drifted: bool,
}

/// A host with an agent.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    pub name: String,
    pub incarnation: u64,
    pub assignment: Option<Assignment>,
    pub records: BTreeMap<Stage, Record>,
    pub running: Option<(Task, Digest)>,
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
    /// The truth: what it is configured with cannot work.
    pub insane: bool,
    /// What it waits for should have been there long ago.
    pub late: bool,
    /// The service was stopped by order.
    pub halted: bool,
    /// The service is to be started before anything else.
    pub start_owed: bool,
    /// Starts of the agent.
    pub starts: u32,
    pub commands: BTreeMap<CommandId, Doing>,
    /// What `validate` finds out beside the mode.
    pub shows: Facts,
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
            let was_stopped = self.assignment.is_some() && !self.to_run();
            self.assignment = Some(offer.clone());
            let configured = self.records.contains_key(&Stage::Config);
            self.start_owed = self.to_run() && (self.start_owed || ((self.halted || was_stopped) && configured));
            if !self.still_wanted() {
                self.running = None; // killed
            }
        }
    }

    /// Whether the services should run.
    pub fn to_run(&self) -> bool {
        self.assignment.as_ref().is_some_and(|a| a.lifecycle == Lifecycle::Running)
    }

    fn still_wanted(&self) -> bool {
        match &self.running {
            None => true,
            Some((Task::Start, _)) => self.to_run(),
            Some((Task::Stop, _)) => !self.to_run(),
            Some((Task::Stage(stage), digest)) => self.next().as_ref() == Some(&(*stage, digest.clone())),
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
        let stages = if self.to_run() { &Stage::ALL[..] } else { &Stage::ALL[..2] };
        let enforced = assignment.drift.is_some_and(|drift| drift.policy == DriftPolicy::Enforce);
        stages.iter().copied().find_map(|stage| {
            let digest = self.effective(assignment, stage)?;
            let done =
                |r: &Record| r.digest == digest && r.outcome == Some(Outcome::Succeeded) && !(r.drifted && enforced);
            (!self.records.get(&stage).is_some_and(done)).then_some((stage, digest))
        })
    }

    fn gate(&self, stage: Stage) -> Option<&Gate> {
        self.assignment.as_ref()?.order(stage).map(|o| &o.gate)
    }

    fn allowed(&self, stage: Stage, digest: &Digest) -> bool {
        match self.gate(stage) {
            Some(Gate::Open) => true,
            Some(Gate::Permit { granted }) => granted.as_ref() == Some(digest) || self.halted,
            Some(Gate::Closed { .. }) | None => false,
        }
    }

    /// Begins what comes next if it may; returns what.
    pub fn begin(&mut self) -> Option<Task> {
        if self.running.is_some() || self.assignment.is_none() {
            return None;
        }
        let may = self.next().is_some_and(|(stage, digest)| stage <= Stage::Config && self.allowed(stage, &digest));
        if self.to_run() && self.start_owed && !(self.halted && may) {
            self.halted = false;
            return self.run(Task::Start);
        }
        self.nothing_to_stop();
        if !self.to_run() && !self.halted {
            self.active = false;
            if let Some(record) = self.records.get_mut(&Stage::Validate) {
                record.outcome = None;
            }
            return self.run(Task::Stop);
        }
        self.begin_stage().map(Task::Stage)
    }

    fn run(&mut self, task: Task) -> Option<Task> {
        self.running = Some((task, Digest(String::new())));
        Some(task)
    }

    /// What was never configured is stopped already.
    fn nothing_to_stop(&mut self) {
        if self.assignment.is_some() && !self.to_run() && !self.records.contains_key(&Stage::Config) {
            self.halted = true;
            self.seen = Some(false);
        }
    }

    /// Whether installing another version disturbs the running one, as its gate says.
    pub fn install_disturbs(&self) -> bool {
        matches!(self.gate(Stage::Install), Some(Gate::Permit { .. }))
    }

    fn begin_stage(&mut self) -> Option<Stage> {
        let (stage, digest) = self.next().filter(|(stage, digest)| self.allowed(*stage, digest))?;
        let before = self.records.get(&stage).filter(|r| r.digest == digest && r.outcome != Some(Outcome::Succeeded));
        let (attempt, failures) = before.map_or((1, 0), |r| (r.attempt + 1, r.failures));
        if stage == Stage::Config || (stage == Stage::Install && self.install_disturbs()) {
            // one that never worked has no service yet that another run could disturb
            self.disturbed |= self.active && self.ever_valid && !self.asked_while_down.contains(&digest);
        }
        if stage == Stage::Config {
            (self.active, self.halted, self.start_owed) = (false, false, false);
            let peers = self.assignment.as_ref().and_then(|a| a.context["peers"].as_array());
            let names = peers.into_iter().flatten().filter_map(|p| p["name"].as_str());
            self.peers = names.map(str::to_owned).collect();
            self.insane = self.assignment.as_ref().is_some_and(cannot_work);
            // what was seen before says nothing about what is configured now
            self.records.remove(&Stage::Validate);
        }
        if stage != Stage::Validate {
            let (digest, facts) = (digest.clone(), Facts::new());
            let record = Record { digest, outcome: None, produced: None, attempt, failures, facts, drifted: false };
            self.records.insert(stage, record);
        }
        self.running = Some((Task::Stage(stage), digest));
        Some(stage)
    }

    /// The run ends. `works`: the service works if it was configured well.
    pub fn finish(&mut self, outcome: Outcome, produced: Option<Digest>) -> Option<Task> {
        let (task, digest) = self.running.take()?;
        let Task::Stage(stage) = task else {
            self.finish_service(task, outcome == Outcome::Succeeded);
            return Some(task);
        };
        let before = self.records.get(&stage).filter(|r| r.digest == digest);
        let attempt = before.map_or(0, |r| r.attempt) + u32::from(stage == Stage::Validate || before.is_none());
        if stage == Stage::Config && outcome == Outcome::Succeeded {
            self.active = true;
        }
        if stage == Stage::Config && outcome == Outcome::Failed {
            self.seen = None;
        }
        if stage == Stage::Validate {
            self.saw(outcome == Outcome::Succeeded);
        }
        let facts = self.facts(stage, outcome);
        self.record(stage, digest, attempt.max(1), outcome, produced, facts);
        Some(task)
    }

    fn finish_service(&mut self, task: Task, succeeded: bool) {
        if task == Task::Start {
            (self.start_owed, self.halted, self.active) = (false, false, succeeded);
        } else if succeeded {
            (self.halted, self.disturbed, self.seen) = (true, false, Some(false));
        }
        self.confirm();
    }

    fn facts(&self, stage: Stage, outcome: Outcome) -> Facts {
        let mode = if self.leader { "leader" } else { "follower" };
        if (stage, outcome) == (Stage::Validate, Outcome::Succeeded) {
            let mut facts = self.shows.clone();
            facts.insert("mode".to_owned(), mode.into());
            facts
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
        let before = self.records.get(&stage).filter(|r| r.digest == digest).map_or(0, |r| r.failures);
        let failures = match outcome {
            Outcome::Succeeded => 0,
            Outcome::Waiting => before + u32::from(self.late),
            Outcome::Failed => before + 1,
        };
        let result = StageResult {
            generation: self.generation(),
            stage,
            digest: digest.clone(),
            attempt,
            failures: Some(failures),
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
        let record = Record { digest, outcome: Some(outcome), produced, attempt, failures, facts, drifted: false };
        self.records.insert(stage, record);
        self.report(ReportBody::Stage(result));
        self.confirm();
    }

    /// Reports that everything is done, once per generation.
    pub fn confirm(&mut self) {
        let generation = self.generation();
        self.nothing_to_stop();
        let idle = self.running.is_none() && self.next().is_none() && !self.start_owed;
        if idle && (self.to_run() || self.halted) && self.converged < generation {
            self.converged = generation;
            self.report(ReportBody::Converged { generation });
        }
    }

    /// A look at the settled service; reported when it differs from the last one.
    pub fn look(&mut self, works: bool) {
        let Some(record) = self.records.get(&Stage::Validate).cloned() else { return };
        let rests = self.running.is_some() || !self.to_run() || self.start_owed || record.outcome.is_none();
        if rests || self.next().is_some_and(|(stage, _)| stage == Stage::Validate) && !works {
            return;
        }
        self.saw(works);
        let outcome = if works { Outcome::Succeeded } else { Outcome::Failed };
        let current = self.assignment.as_ref().and_then(|a| self.effective(a, Stage::Validate));
        if record.outcome != Some(outcome) && current.as_ref() == Some(&record.digest) {
            let facts = self.facts(Stage::Validate, outcome);
            self.record(Stage::Validate, record.digest, record.attempt + 1, outcome, None, facts);
        } else if works {
            // what it found is not worth a report: the heartbeat has it
            let facts = self.facts(Stage::Validate, outcome);
            self.records.entry(Stage::Validate).and_modify(|r| r.facts = facts);
        }
    }

    /// A look for drift found some.
    pub fn drift(&mut self) {
        let settled = self.running.is_none() && self.next().is_none() && self.to_run() && !self.start_owed;
        if let Some(record) = self.records.get_mut(&Stage::Config).filter(|_| settled) {
            record.drifted = true;
        }
    }

    /// A guest command ends.
    pub fn end_command(&mut self, id: &CommandId, outcome: CommandOutcome) {
        self.commands.insert(id.clone(), Doing::Ended);
        let failed = outcome != CommandOutcome::Succeeded;
        self.report(ReportBody::Command(CommandEnd {
            id: id.clone(),
            outcome,
            exit_code: Some(i32::from(failed)),
            reason: if failed { "it said no".to_owned() } else { String::new() },
            hint: None,
            duration_ms: 5,
            result: serde_json::Map::new(),
            output_bytes: 0,
        }));
    }

    fn report(&mut self, body: ReportBody) {
        self.seq += 1;
        self.outbox.push(Report { seq: self.seq, at_ms: 0, body });
    }

    /// Autonomy: the service is started again if it was configured well and nobody ordered it to stop.
    pub fn restart_service(&mut self) {
        let configured = self.records.get(&Stage::Config).is_some_and(|r| r.outcome == Some(Outcome::Succeeded));
        self.active |= configured && self.running.is_none() && !self.halted;
    }

    /// `kill -9`: what ran is lost, the ledger stays.
    pub fn crash(&mut self) {
        self.running = None;
        self.seen = None;
        self.starts += 1;
        // an operation is idempotent: it runs again
        self.commands.values_mut().filter(|doing| **doing == Doing::Begun).for_each(|doing| *doing = Doing::Queued);
    }

    /// The host goes down and comes up again: its service too, unless it was stopped by order.
    pub fn reboot(&mut self) {
        self.crash();
        self.active = false;
        self.start_owed |= self.to_run() && !self.halted && self.records.contains_key(&Stage::Config);
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
            Some((task, _)) => Activity::Running {
                stage: if let Task::Stage(stage) = task { *stage } else { Stage::Validate },
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
            run: format!("r{}", self.starts),
            agent_version: "0.1.0".into(),
            agent: None,
            generation: self.generation(),
            converged: self.next().is_none() && !self.start_owed,
            activity,
            asks,
            service,
            stages: self.records.iter().filter_map(|(stage, r)| Some((*stage, summary(r)?))).collect(),
            facts: self.records.get(&Stage::Validate).map(|r| r.facts.clone()).unwrap_or_default(),
            drift: None,
            looked_ago_ms: None,
            ledger_writable: true,
            ledger_fault: None,
            outbox: 0,
            vitals: Vitals::default(),
        }
    }
}

/// Whether what an assignment makes of a node cannot work.
pub fn cannot_work(assignment: &Assignment) -> bool {
    let config = assignment.context["config"].to_string();
    config.contains("broken") || assignment.packages.iter().any(|p| p.version.contains("mute"))
}
