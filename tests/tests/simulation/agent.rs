//! A host as it really is: the agent's state machine (the real one), its ledger, and the service.
//!
//! The ledger survives a crash up to its last `Persist`; what runs, what is to be done and what is
//! in memory does not. What the agent does not know stands here too: whether the service works, and
//! whether it is down by our doing.
//!
//! Never here: what a run comes to (`work.rs`), messages (`network.rs`).

use crate::ground::Machine;
use crate::mutants::Mutant;
use std::collections::{BTreeMap, VecDeque};
use straas_converge::{Action, Boot, CommandPhase, CommandRun, Converger, Event, Ledger, Now, RunId, RunOrder};
use straas_schemas::heartbeat::{Heartbeat, ServiceStatus, Vitals};
use straas_schemas::poll::PollRequest;
use straas_schemas::report::{Report, ReportRequest};
use straas_schemas::{Assignment, Digest, NodeId, Stage, TopologyId};

/// A service, and what it was made of.
#[derive(Debug, Default)]
pub struct Truth {
    /// It runs.
    pub active: bool,
    /// It worked, was disturbed by us, and was not seen to work since.
    pub disturbed: bool,
    /// It worked at least once on this host.
    pub ever_valid: bool,
    /// It was seen to work since it was last configured.
    pub proven: bool,
    /// It was stopped by order.
    pub halted: bool,
    pub leader: bool,
    /// What it is configured with cannot work.
    pub insane: bool,
    /// The peers that its configuration names.
    pub peers: Vec<String>,
    /// Digests that were asked for while the service was down: nothing to disturb then.
    pub asked_while_down: Vec<Digest>,
    /// What each stage really made of the host.
    pub done: BTreeMap<Stage, Digest>,
}

/// A host with its agent.
pub struct Agent {
    pub node: NodeId,
    pub topology: TopologyId,
    /// What it is called in a story.
    pub label: String,
    pub machine: Machine,
    /// Which replacement of the node's host this is.
    pub number: u32,
    /// Under which incarnation it enrolled.
    pub incarnation: Option<u64>,
    pub truth: Truth,
    /// What is on the disk for certain.
    pub disk: Ledger,
    /// What the program wrote, if it does not wait for the disk.
    written: Option<Ledger>,
    pub converger: Option<Converger>,
    pub queue: VecDeque<Action>,
    pub running: Option<RunOrder>,
    pub killed: bool,
    /// A run that was given up.
    pub given_up: Option<RunId>,
    pub commands: BTreeMap<RunId, CommandRun>,
    pub fetching: Option<(u64, String)>,
    /// The commit of the scripts that are active.
    pub scripts: Option<String>,
    pub wake: Option<i64>,
    /// There are new reports, and a heartbeat is due.
    pub send: bool,
    pub beat: bool,
    /// The newest wish for a look that was heard.
    look: u64,
    boots: u32,
    starts: u32,
    beats: u64,
    /// What its clock says beyond the true time, in ms.
    pub skew: i64,
}

impl Agent {
    pub fn new(
        node: NodeId,
        (topology, label): (TopologyId, String),
        machine: Machine,
        number: u32,
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            node,
            topology,
            label,
            machine,
            number,
            incarnation: None,
            truth: Truth::default(),
            disk: Ledger::default(),
            written: (mutant == Some(Mutant::NoSync)).then(Ledger::default),
            converger: None,
            queue: VecDeque::new(),
            running: None,
            killed: false,
            given_up: None,
            commands: BTreeMap::new(),
            fetching: None,
            scripts: None,
            wake: None,
            send: false,
            beat: false,
            look: 0,
            boots: 1,
            starts: 0,
            beats: 0,
            skew: 0,
        }
    }

    pub const fn at(&self, now: i64) -> Now {
        Now { mono_ms: now, unix_ms: now + self.skew }
    }

    /// The program starts: it has nothing but its disk.
    pub fn start(&mut self, now: i64) {
        self.starts += 1;
        self.written = self.written.as_ref().map(|_| self.disk.clone());
        let boot = Boot {
            node: self.node.clone(),
            boot_id: format!("boot-{}", self.boots),
            scripts: self.scripts.is_some(),
            ledger_lost: None,
            up_ms: now,
        };
        let (converger, first) = Converger::resume(self.disk.clone(), boot, self.at(now));
        (self.converger, self.queue) = (Some(converger), first.into());
    }

    /// `kill -9`; with `reboot` the whole host. What ran is lost.
    pub fn crash(&mut self, reboot: bool, now: i64, mutant: Option<Mutant>) {
        if let Some(order) = self.running.take()
            && let straas_converge::Task::Stage(stage) = order.task
        {
            self.truth.done.remove(&stage);
        }
        (self.killed, self.given_up, self.fetching, self.wake, self.look) = (false, None, None, None, 0);
        self.queue.clear();
        self.commands.clear();
        if reboot {
            self.boots += 1;
            self.truth.active = false;
        }
        match mutant {
            Some(Mutant::OutboxForgotten) => self.disk.outbox.clear(),
            Some(Mutant::CommandAgain) => {
                for record in self.disk.commands.values_mut() {
                    if let CommandPhase::Begun { order, .. } = &record.phase {
                        record.phase = CommandPhase::Queued(order.clone());
                    }
                }
            }
            _ => {}
        }
        if self.incarnation.is_some() {
            self.start(now);
        }
    }

    /// Makes changes durable.
    pub fn persist(&mut self, changes: &[straas_converge::LedgerChange]) {
        let Some(written) = &mut self.written else {
            return changes.iter().for_each(|change| self.disk.apply(change));
        };
        changes.iter().for_each(|change| written.apply(change));
        // who does not wait has now and then something on the disk nevertheless
        if written.head.last_seq.is_multiple_of(3) {
            self.disk = written.clone();
        }
    }

    /// What the program thinks is on the disk.
    pub fn written(&self) -> &Ledger {
        self.written.as_ref().unwrap_or(&self.disk)
    }

    /// Gives an event to the state machine.
    pub fn hand(&mut self, event: Event, now: i64) {
        let at = self.at(now);
        let Some(converger) = &mut self.converger else { return };
        let actions = converger.step(at, event);
        for action in &actions {
            if let Action::Kill { run } = action {
                self.given_up = Some(*run);
            }
        }
        self.queue.extend(actions);
    }

    /// Takes an assignment although an agent would not.
    pub fn take_anyway(&mut self, assignment: &Assignment, now: i64) {
        self.disk.assignment = Some(assignment.clone());
        self.running = None;
        self.start(now);
    }

    pub fn poll(&self) -> Option<PollRequest> {
        let converger = self.converger.as_ref()?;
        Some(PollRequest {
            protocol: straas_schemas::PROTOCOL,
            incarnation: self.incarnation?,
            generation: converger.ledger().generation(),
            digest: converger.content_digest().cloned(),
            commands: converger.open_commands(),
            look: self.look,
            trusts: None,
            wait_ms: 0,
        })
    }

    /// Whether the wish for a look is new.
    pub fn is_wished(&mut self, look: u64) -> bool {
        let wished = look > self.look;
        self.look = self.look.max(look);
        wished
    }

    /// What waits in the outbox, if it may be known to others.
    pub fn reports(&self) -> Option<ReportRequest> {
        let durable = self.queue.iter().all(|action| !matches!(action, Action::Persist(_)));
        let reports: Vec<Report> = self.converger.as_ref()?.ledger().outbox.values().take(64).cloned().collect();
        let request = ReportRequest { incarnation: self.incarnation?, reports };
        (durable && !request.reports.is_empty()).then_some(request)
    }

    pub fn heartbeat(&mut self, now: i64) -> Option<Heartbeat> {
        let at = self.at(now);
        let incarnation = self.incarnation?;
        let status = self.converger.as_mut()?.status(at);
        self.beats += 1;
        if let Some(ask) = status.asks.as_ref().filter(|_| status.service != ServiceStatus::Active) {
            self.truth.asked_while_down.push(ask.digest.clone());
        }
        Some(Heartbeat {
            incarnation,
            beat: self.beats,
            run: format!("r{}", self.starts),
            agent_version: "0.1.0".into(),
            agent: None,
            generation: status.generation,
            converged: status.converged,
            activity: status.activity,
            asks: status.asks,
            service: status.service,
            stages: status.stages,
            facts: status.facts,
            looked_ago_ms: status.looked_ago_ms,
            drift: status.drift,
            ledger_writable: true,
            ledger_fault: None,
            outbox: status.outbox,
            vitals: Vitals::default(),
        })
    }
}

/// Whether what an assignment makes of a node cannot work.
pub fn cannot_work(assignment: &Assignment) -> bool {
    let config = assignment.context["config"].to_string();
    config.contains("broken") || assignment.packages.iter().any(|p| p.version.contains("mute"))
}
