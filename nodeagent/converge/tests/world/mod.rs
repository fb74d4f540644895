//! The ghost world: one node, its disk, a controller and the network between, all in memory.

mod commands;
mod plan;

use commands::Guests;
use plan::Dice;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use straas_converge::{
    Action, Boot, Converger, Event, Ledger, LedgerChange, Now, OUTBOX_MAX, RunId, RunOrder, RunResult, Task,
};
use straas_schemas::assignment::DriftPolicy;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DriftFound, Report, ReportBody};
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage};

pub struct World {
    pub steps: u64,
    pub talk: bool,
    dice: Dice,
    now: i64,
    // the node
    agent: Converger,
    queue: VecDeque<Action>,
    wake: Option<i64>,
    disk: Ledger,
    boots: u32,
    running: Option<RunOrder>,
    killed: bool,
    /// Runs the converger has given up, whether or not the kill was done yet.
    given_up: BTreeSet<RunId>,
    fetching: Option<(u64, String, BTreeMap<String, String>)>,
    active: Option<String>,
    service: bool,
    /// What each stage really made of the node: its digest and product. Absent: nobody knows.
    done: BTreeMap<Stage, (Digest, Option<Digest>)>,
    /// Successes the agent was told of, or read from its disk.
    confirmed: BTreeMap<Stage, Digest>,
    past: Vec<Event>,
    // the controller
    newest: Assignment,
    older: Vec<Assignment>,
    received: BTreeMap<u64, Report>,
    appended: BTreeMap<u64, Report>,
    dropped: BTreeSet<u64>,
    faults: bool,
    site_lost: bool,
    /// Somebody changed on the host what is configured.
    drifted: bool,
    /// What the newest look told the agent.
    looked: Option<u32>,
    /// The restart that the running service has had: that of the run that started it first, or
    /// that of the newest run that stopped it before.
    bounced: Option<u32>,
    /// The restart that the running `config` is for.
    bouncing: u32,
    /// Restarts whose success is durable.
    restarted: BTreeSet<u32>,
    /// `validate` succeeded since the service was last started or configured.
    settled: bool,
    /// When the last look ended, in this life of the agent.
    look_ended: Option<i64>,
    hosts: BTreeMap<String, String>,
    /// How far this node's clock is from the true time.
    skew: i64,
    guests: Guests,
    /// Runs that were killed, to know that histories have such.
    pub kills: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let newest = plan::assignment(&mut dice, 1, None);
        let (agent, first) =
            Converger::resume(Ledger::default(), boot(1, false, 0), Now { mono_ms: 0, unix_ms: 1_000_000 });
        Self {
            steps: 0,
            talk: false,
            dice,
            now: 0,
            agent,
            queue: first.into(),
            wake: None,
            disk: Ledger::default(),
            boots: 1,
            running: None,
            killed: false,
            given_up: BTreeSet::new(),
            fetching: None,
            active: None,
            service: false,
            done: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            past: Vec::new(),
            newest,
            older: Vec::new(),
            received: BTreeMap::new(),
            appended: BTreeMap::new(),
            dropped: BTreeSet::new(),
            faults: true,
            site_lost: false,
            drifted: false,
            looked: None,
            bounced: None,
            bouncing: 0,
            restarted: BTreeSet::new(),
            settled: false,
            look_ended: None,
            hosts: BTreeMap::new(),
            skew: 1_000_000,
            guests: Guests::default(),
            kills: 0,
        }
    }

    pub fn random_step(&mut self) {
        self.steps += 1;
        match self.dice.below(100) {
            0..40 => self.act(),
            40..54 => self.end_of_run(),
            54..60 => self.end_of_fetch(),
            60..67 => self.offer(),
            67..78 => self.plan(),
            78..83 => self.network(),
            83..92 => self.pass_time(),
            92..95 => self.late(),
            95..97 => self.crash(false),
            97 => self.crash(true),
            98 => {
                self.service = self.service && self.dice.below(2) == 0;
                self.drifted |= self.dice.below(2) == 0;
            }
            _ if self.dice.below(2) == 0 => self.hand(Event::Look),
            _ => self.hand(Event::Tick),
        }
        match self.dice.below(8) {
            0 => self.command(),
            1 => self.end_of_command(),
            _ => {}
        }
    }

    /// No more faults, all gates open: the node must become what the newest assignment says.
    pub fn settle(&mut self) {
        self.faults = false;
        let generation = self.newest.generation + 1;
        let mut newest = self.newest.clone();
        newest.generation = generation;
        for order in &mut newest.stages {
            order.gate = Gate::Open;
        }
        self.replace(newest);
        let mut quiet = 0;
        for _ in 0..2_000 {
            self.steps += 1;
            if !self.queue.is_empty() {
                self.act();
            } else if self.running.is_some() {
                self.end_of_run();
            } else if self.guests.are_running() {
                self.end_of_command();
            } else if self.fetching.is_some() {
                self.end_of_fetch();
            } else if self.agent.ledger().generation() != generation {
                let newest = self.newest.clone();
                self.hand(Event::Offered(Box::new(newest)));
            } else if !self.disk.outbox.is_empty() {
                self.network();
            } else {
                self.pass_time();
                quiet += 1;
                if quiet > 50 {
                    break;
                }
            }
        }
        let running = self.newest.lifecycle == Lifecycle::Running;
        let status = self.agent.status(self.at());
        assert!(status.converged, "not converged in the end: {status:?}\n{:?}", self.agent);
        let told = self.received.values().any(|r| r.body == ReportBody::Converged { generation });
        assert!(told, "the controller was not told of generation {generation}");
        assert_eq!(self.service, running, "the service is not as ordered");
        self.assert_done();
        assert!(self.disk.outbox.is_empty());
        assert_eq!(&self.disk, self.agent.ledger(), "the agent's copy differs from the disk");
        if let Some(drift) = self.newest.drift.filter(|_| running) {
            assert!(!self.drifted || drift.policy == DriftPolicy::Report, "drift is not mended");
            let told = self.received.values().rev().find_map(|r| match &r.body {
                ReportBody::Drift(found) => Some(found.total),
                _ => None,
            });
            assert!(!self.dropped.is_empty() || self.looked.unwrap_or(0) == told.unwrap_or(0), "drift is not told");
        }
        self.commands_settled();
    }

    fn at(&self) -> Now {
        Now { mono_ms: self.now, unix_ms: self.now + self.skew }
    }

    /// Does the next action, checking all that must hold when it is done.
    fn act(&mut self) {
        let Some(action) = self.queue.pop_front() else { return };
        if self.talk {
            eprintln!("{:>7} do {action:?}", self.now);
        }
        match action {
            Action::Persist(changes) => {
                changes.iter().for_each(|change| self.persist(change));
                self.journal_holds();
            }
            Action::Fetch { fetch, scripts, hosts, .. } => {
                assert_eq!(self.disk.assignment.as_ref().map(|a| &a.scripts), Some(&scripts), "fetches unpersisted");
                self.fetching = Some((fetch, scripts, hosts));
            }
            Action::Run(order) => self.run(order),
            Action::Begin(run) => self.begin(*run),
            Action::Kill { run } if self.guests.kill(run) => {}
            Action::Kill { run } => {
                if self.running.as_ref().is_some_and(|order| order.id == run) {
                    self.killed = true;
                    self.kills += 1;
                    // the moment at which an old result does most harm
                    if self.faults && self.dice.below(3) == 0 {
                        self.late();
                    }
                }
            }
            Action::WakeAt(at) => self.wake = Some(at),
            Action::Send | Action::Beat => {}
        }
    }

    fn persist(&mut self, change: &LedgerChange) {
        match change {
            LedgerChange::Assignment(new) => {
                assert!(new.generation > self.disk.generation(), "a lower or equal generation");
                assert_eq!((&new.node, new.protocol), (&plan::node(), straas_schemas::PROTOCOL));
            }
            LedgerChange::Append(report) => {
                assert!(self.appended.insert(report.seq, (**report).clone()).is_none(), "seq {} twice", report.seq);
                assert!(self.disk.outbox.len() < OUTBOX_MAX, "the outbox is not bounded");
                if let ReportBody::Converged { generation } = report.body {
                    assert_eq!(self.disk.generation(), generation);
                    self.assert_done();
                }
                if let ReportBody::Command(end) = &report.body {
                    self.guests.check_end(end);
                }
            }
            LedgerChange::Stage(Stage::Config, record) if record.outcome == Some(Outcome::Succeeded) => {
                // by what really happened, not by what the record says of it
                self.restarted.extend(self.bounced);
            }
            LedgerChange::Forget(seq) if !self.received.contains_key(seq) => {
                assert!(self.disk.outbox.len() >= OUTBOX_MAX, "report {seq} is forgotten, nobody has it");
                let newest = ReportBody::Converged { generation: self.disk.generation() };
                assert_ne!(self.disk.outbox[seq].body, newest, "the newest Converged is dropped");
                self.dropped.insert(*seq);
            }
            LedgerChange::ForgetCommand(id) => self.check_forgotten(id),
            _ => {}
        }
        self.disk.apply(change);
        for seq in self.appended.keys() {
            let kept = self.disk.outbox.contains_key(seq) || matches!(change, LedgerChange::Append(_));
            assert!(kept || self.received.contains_key(seq) || self.dropped.contains(seq), "report {seq} is lost");
        }
        let known = &self.received;
        self.appended.retain(|seq, _| !known.contains_key(seq));
    }

    fn run(&mut self, order: RunOrder) {
        assert!(self.running.is_none(), "two runs at once: {:?} and {order:?}", self.running);
        let assignment = self.disk.assignment.clone().expect("acts on an assignment that is not durable");
        assert_eq!(order.generation, assignment.generation, "acts on an assignment that is not durable");
        if let Task::Stage(stage) = order.task {
            assert_eq!(self.active.as_ref(), Some(&assignment.scripts), "the scripts are not there");
            let stage_order = assignment.order(stage).expect("an ordered stage");
            match &stage_order.gate {
                Gate::Open => {}
                Gate::Closed { .. } => panic!("{stage} runs through a closed gate"),
                // what was stopped by order cannot be disturbed
                Gate::Permit { .. } if !self.service => {}
                Gate::Permit { granted } => assert_eq!(granted.as_ref(), Some(&order.digest), "no permit for this"),
            }
            assert_eq!(self.hosts, assignment.hosts, "names do not resolve as they should");
            assert!(assignment.lifecycle == Lifecycle::Running || stage < Stage::Config, "{stage} of a stopped node");
            assert!(!order.settled || self.settled, "it has to settle first");
            let pause = self.look_ended.map_or(i64::MAX, |ended| self.now - ended);
            assert!(!order.settled || pause >= 500, "looks {pause} ms after a look");
            assert_eq!(order.digest, self.effective(&assignment, stage), "{stage} runs at another digest");
            for earlier in assignment.stages.iter().map(|o| o.stage).filter(|s| *s < stage && stage != Stage::Validate)
            {
                let digest = self.effective(&assignment, earlier);
                assert_eq!(self.done.get(&earlier).map(|d| &d.0), Some(&digest), "{stage} runs before {earlier}");
            }
            if stage == Stage::Validate {
                assert!(self.done.contains_key(&Stage::Config), "validate runs on what nobody configured");
            } else {
                assert_ne!(self.confirmed.get(&stage), Some(&order.digest), "{stage} runs again, nothing changed");
                // from now on nobody knows what the node is, until the run ends well
                self.done.remove(&stage);
                self.confirmed.remove(&stage);
            }
            if stage == Stage::Config {
                self.settled = false;
                if order.restart {
                    assert!(!self.restarted.contains(&assignment.restarts), "restarted twice");
                    self.service = false;
                }
                self.bouncing = assignment.restarts;
                self.bounced.get_or_insert(assignment.restarts);
            }
        } else if order.task == Task::Drift {
            assert!(assignment.drift.is_some() && assignment.lifecycle == Lifecycle::Running);
            self.assert_done();
        } else {
            self.settled = false;
            assert!(self.active.is_some(), "no scripts to start or stop with");
            assert_eq!(order.task == Task::Stop, assignment.lifecycle == Lifecycle::Stopped, "against the lifecycle");
        }
        self.killed = false;
        self.running = Some(order);
    }

    /// The effective digest, from what really is on the node.
    fn effective(&self, assignment: &Assignment, stage: Stage) -> Digest {
        let done = |stage| self.done.get(&stage);
        let rendered = done(Stage::PreConfig).and_then(|d| d.1.as_ref());
        let inputs = &assignment.order(stage).unwrap().inputs;
        let (installed, configured) = (done(Stage::Install).map(|d| &d.0), done(Stage::Config).map(|d| &d.0));
        effective_digest(stage, inputs, installed, rendered, configured)
    }

    fn assert_done(&self) {
        let assignment = self.disk.assignment.as_ref().unwrap();
        for order in &assignment.stages {
            if assignment.lifecycle == Lifecycle::Stopped && order.stage >= Stage::Config {
                continue;
            }
            if order.stage == Stage::Config {
                assert_eq!(self.bounced, Some(assignment.restarts), "the restart was not done");
            }
            let digest = self.effective(assignment, order.stage);
            assert_eq!(self.done.get(&order.stage).map(|d| &d.0), Some(&digest), "{} is not done", order.stage);
        }
        // the other way round it may have died since; what `settle` asserts is that it comes back
        assert!(assignment.lifecycle == Lifecycle::Running || !self.service, "it is to be stopped, and runs");
    }

    fn end_of_run(&mut self) {
        let Some(order) = self.running.take() else { return };
        let killed = std::mem::take(&mut self.killed);
        let luck = if self.faults { self.dice.below(10) } else { 0 };
        let mut outcome = match luck {
            _ if killed && self.dice.below(2) == 0 => Outcome::Failed,
            0..7 => Outcome::Succeeded,
            7 => Outcome::Waiting,
            _ => Outcome::Failed,
        };
        let (mut output, mut lost, mut drift) = (None, None, None);
        let mut up = None;
        match order.task {
            Task::Start if outcome == Outcome::Succeeded => self.service = true,
            Task::Stop if outcome == Outcome::Succeeded => self.service = false,
            Task::Stage(Stage::Validate) => {
                if outcome == Outcome::Succeeded && !self.service {
                    outcome = Outcome::Failed;
                }
                self.settled |= outcome == Outcome::Succeeded && !self.given_up.contains(&order.id);
                self.look_ended = Some(self.now).filter(|_| !self.given_up.contains(&order.id)).or(self.look_ended);
                up = Some(if outcome == Outcome::Succeeded { ServiceStatus::Active } else { ServiceStatus::Inactive });
            }
            Task::Drift => {
                let found = DriftFound {
                    resources: self.drifted.then(|| "File[/etc/x]".to_owned()).into_iter().collect(),
                    total: self.drifted.into(),
                    looked_ms: 0,
                };
                if outcome == Outcome::Succeeded && !self.given_up.contains(&order.id) {
                    self.looked = Some(found.total);
                    let policy = self.agent.ledger().assignment.as_ref().and_then(|a| Some(a.drift?.policy));
                    if found.total > 0 && policy == Some(DriftPolicy::Enforce) {
                        self.confirmed.remove(&Stage::Config);
                    }
                }
                drift = Some(found);
            }
            Task::Stage(stage) => {
                if stage == Stage::PreConfig {
                    // what is rendered depends on less than all inputs: sometimes nothing changes
                    let product = if self.dice.below(4) == 0 { Digest::of(&["x"]) } else { order.digest.clone() };
                    output = Some(Digest::of(&["site.pp", product.as_str()]));
                }
                if stage == Stage::Config {
                    // somebody removes site.pp: config finds that out, now and until it is rendered
                    self.site_lost |= self.faults && self.dice.below(12) == 0;
                    if self.site_lost {
                        (outcome, lost) = (Outcome::Failed, Some(Stage::PreConfig));
                        if !self.given_up.contains(&order.id) {
                            self.confirmed.remove(&Stage::PreConfig);
                        }
                    }
                }
                self.site_lost &= stage != Stage::PreConfig;
                if stage == Stage::Config && lost.is_none() {
                    // who fails may have started it before
                    self.service |= match outcome {
                        Outcome::Succeeded => true,
                        Outcome::Waiting => false,
                        Outcome::Failed => self.dice.below(2) == 0,
                    };
                    if outcome == Outcome::Succeeded {
                        self.drifted = false;
                        if order.restart {
                            self.bounced = Some(self.bouncing);
                        }
                    }
                }
            }
            _ => {}
        }
        if let (Task::Stage(stage), Outcome::Succeeded) = (order.task, outcome) {
            // the agent does not count what it gave up, so it may not build on it
            if !self.given_up.contains(&order.id) {
                self.done.insert(stage, (order.digest.clone(), output.clone()));
                self.confirmed.insert(stage, order.digest.clone());
            }
        }
        let result = RunResult { drift, ..plan::result(outcome, output, up, lost) };
        let event = Event::Finished { run: order.id, result: Box::new(result) };
        self.past.push(event.clone());
        self.hand(event);
    }

    fn end_of_fetch(&mut self) {
        let Some((fetch, scripts, hosts)) = self.fetching.take() else { return };
        let event = if self.faults && self.dice.below(3) == 0 {
            Event::FetchFailed { fetch, reason: "no link".into() }
        } else {
            self.active = Some(scripts);
            self.hosts = hosts;
            Event::Activated { fetch }
        };
        self.past.push(event.clone());
        self.hand(event);
    }

    /// Anything that was said before is said again.
    fn late(&mut self) {
        if !self.past.is_empty() {
            let event = self.past[self.dice.below(self.past.len() as u64) as usize].clone();
            // results and fetches of a process that died cannot reach its successor
            let stale = match &event {
                Event::Finished { run, .. } => self.running.as_ref().is_none_or(|order| order.id != *run),
                Event::Ended { run, .. } => !self.guests.is_running(*run),
                _ => false,
            };
            if stale {
                self.hand(event);
            }
        }
    }

    fn offer(&mut self) {
        let mut offered = self.newest.clone();
        match self.dice.below(12) {
            0 if !self.older.is_empty() => {
                offered = self.older[self.dice.below(self.older.len() as u64) as usize].clone();
            }
            1 => offered.version.push('!'),
            2 => offered.node = "another".into(),
            3 => offered.protocol += 1,
            _ => {}
        }
        // equal number, other content: only wrong if the agent has the number already
        let wrong = offered.version.ends_with('!') && offered.generation > self.agent.ledger().generation();
        if !wrong {
            self.hand(Event::Offered(Box::new(offered)));
        }
    }

    fn plan(&mut self) {
        let asks = self.agent.status(self.at()).asks;
        let mut next = plan::change(&mut self.dice, &self.newest, asks);
        next.generation = self.newest.generation + 1;
        // often in the middle of a run, and of what is running
        if let Some(Task::Stage(stage)) = self.running.as_ref().map(|order| order.task)
            && self.dice.below(3) == 0
        {
            plan::change_stage(&mut self.dice, &mut next, stage);
        }
        self.replace(next);
        if self.dice.below(2) == 0 {
            self.hand(Event::Offered(Box::new(self.newest.clone())));
        }
    }

    fn replace(&mut self, next: Assignment) {
        self.older.push(std::mem::replace(&mut self.newest, next));
        if self.older.len() > 5 {
            self.older.remove(0);
        }
    }

    /// Sends what is durable; each way may lose it, or bring an old acknowledgement.
    fn network(&mut self) {
        if self.faults && self.dice.below(3) == 0 {
            return;
        }
        for report in self.disk.outbox.values().take(64) {
            let before = self.received.insert(report.seq, report.clone());
            assert!(before.is_none_or(|before| before == *report), "seq {} means two things", report.seq);
        }
        let Some(mut seq) = self.received.keys().next_back().copied() else { return };
        if self.faults {
            match self.dice.below(4) {
                0 => return,
                1 => seq = self.dice.below(seq + 1),
                _ => {}
            }
        }
        self.hand(Event::Acknowledged { seq });
    }

    fn pass_time(&mut self) {
        self.now += match self.dice.below(3) {
            0 => 50,
            1 => 1_000,
            _ => self.wake.map_or(20_000, |wake| (wake - self.now).max(0)),
        };
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            self.hand(Event::Tick);
        }
    }

    /// Everything volatile is gone; what the executor ran is killed before the next one starts.
    fn crash(&mut self, reboot: bool) {
        self.queue.clear();
        self.wake = None;
        self.fetching = None;
        self.look_ended = None;
        if let Some(order) = self.running.take()
            && let Task::Stage(stage) = order.task
            && stage != Stage::Validate
        {
            self.done.remove(&stage);
        }
        self.guests.crash(&self.disk, self.now);
        self.settled &= !reboot;
        if self.disk.succeeded(Stage::Validate).is_some() && !reboot {
            // that it was started since is not durable; what it was before is taken up
            self.settled = true;
        }
        if reboot {
            self.boots += 1;
            self.service = false;
            // the clock may be set meanwhile
            self.skew += match self.dice.below(4) {
                0 => 3_600_000,
                1 => -3_600_000,
                _ => 0,
            };
        }
        // what the agent was told but had not written is known to nobody
        let disk = &self.disk;
        let on_disk = |stage: &Stage, digest: &Digest| disk.succeeded(*stage).is_some_and(|r| r.digest == *digest);
        self.confirmed.retain(|stage, digest| on_disk(stage, digest));
        self.done.retain(|stage, (digest, _)| *stage == Stage::Validate || on_disk(stage, digest));
        self.now += 10;
        let (agent, first) =
            Converger::resume(self.disk.clone(), boot(self.boots, self.active.is_some(), self.now), self.at());
        self.agent = agent;
        self.queue = first.into();
    }

    fn hand(&mut self, event: Event) {
        if self.talk {
            eprintln!("{:>7} event {event:?}", self.now);
        }
        let actions = self.agent.step(self.at(), event);
        for action in &actions {
            if let Action::Begin(run) = action {
                self.check_in_time(run);
            }
            if let Action::Kill { run } = action {
                self.given_up.insert(*run);
                if let Some(order) = self.running.as_ref().filter(|order| order.id == *run)
                    && let Task::Stage(stage) = order.task
                {
                    self.confirmed.remove(&stage);
                }
            }
        }
        self.queue.extend(actions);
        // most of the time the executor is done before the next event
        if self.dice.below(4) > 0 {
            while !self.queue.is_empty() {
                self.steps += 1;
                self.act();
            }
        }
    }
}

fn boot(boots: u32, scripts: bool, up_ms: i64) -> Boot {
    Boot { node: plan::node(), boot_id: format!("boot-{boots}"), scripts, ledger_lost: None, up_ms }
}
