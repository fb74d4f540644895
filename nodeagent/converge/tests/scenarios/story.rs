//! One node whose executor does all it is told at once: what it is told, in words.

use crate::plan;
use std::collections::BTreeMap;
use straas_converge::{
    Action, Boot, CommandFate, CommandResult, Converger, Event, Ledger, LedgerChange, Now, RunId, RunResult, Task,
};
use straas_schemas::command::CommandOrder;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DriftFound, ReportBody};
use straas_schemas::{Assignment, CommandId, Digest, Gate, Outcome};

/// What comes in.
#[allow(clippy::large_enum_variant)]
pub enum In {
    Offer(Assignment),
    Fetched,
    FetchFails,
    /// The present run ends so.
    Ends(Outcome),
    /// A run that is long over ends again.
    Late,
    /// The controller wishes for a look.
    Wish,
    After(i64),
    Ack(u64),
    /// The present look for drift finds so many.
    Looked(u32),
    /// Commands are offered.
    Command(Vec<CommandOrder>),
    /// Commands are to be ended.
    Cancel(Vec<&'static str>),
    /// A command ends.
    Done(&'static str, CommandFate),
    /// The node's clock is set by so much.
    Clock(i64),
    /// `kill -9` after everything was done, and a start; in a new boot or not.
    Crash(bool),
}
pub use In::{Ack, After, Cancel, Clock, Command, Crash, Done, Ends, FetchFails, Fetched, Late, Looked, Offer, Wish};

pub struct Agent {
    pub converger: Converger,
    pub disk: Ledger,
    now: i64,
    clock: i64,
    begun: BTreeMap<CommandId, RunId>,
    run: Option<RunId>,
    first: Option<RunId>,
    fetch: u64,
}

fn boot(id: &str, scripts: bool, up_ms: i64) -> Boot {
    Boot { node: plan::node(), boot_id: id.into(), scripts, ledger_lost: None, up_ms }
}

impl Agent {
    pub fn at(&self) -> Now {
        Now { mono_ms: self.now, unix_ms: self.now + self.clock }
    }

    pub fn take(&mut self, input: In) -> String {
        let finished = |run, outcome| {
            let up = if outcome == Outcome::Succeeded { ServiceStatus::Active } else { ServiceStatus::Inactive };
            Event::Finished { run, result: Box::new(plan::result(outcome, Some(Digest::of(&["pp"])), Some(up), None)) }
        };
        let event = match input {
            Offer(assignment) => Event::Offered(Box::new(assignment)),
            Fetched => Event::Activated { fetch: self.fetch },
            FetchFails => Event::FetchFailed { fetch: self.fetch, reason: "cut".into() },
            Ends(outcome) => finished(self.run.unwrap(), outcome),
            Wish => Event::Look,
            Late => finished(self.first.unwrap(), Outcome::Succeeded),
            Looked(total) => {
                let drift = Some(DriftFound { resources: Vec::new(), total, looked_ms: 0 });
                let result = RunResult { drift, ..plan::result(Outcome::Succeeded, None, None, None) };
                Event::Finished { run: self.run.unwrap(), result: Box::new(result) }
            }
            Command(orders) => Event::Commanded { orders, cancel: Vec::new() },
            Cancel(ids) => {
                Event::Commanded { orders: Vec::new(), cancel: ids.into_iter().map(CommandId::from).collect() }
            }
            Done(id, fate) => {
                let result = CommandResult {
                    fate,
                    exit_code: None,
                    reason: String::new(),
                    hint: None,
                    duration_ms: 1,
                    result: serde_json::Map::new(),
                    output_bytes: 0,
                };
                let command = CommandId::from(id);
                Event::Ended { run: self.begun[&command], command, result: Box::new(result) }
            }
            Clock(ms) => {
                self.clock += ms;
                return String::new();
            }
            After(ms) => {
                self.now += ms;
                Event::Tick
            }
            Ack(seq) => Event::Acknowledged { seq },
            Crash(reboot) => {
                let id = if reboot { "boot-2" } else { "boot-1" };
                let (converger, first) = Converger::resume(self.disk.clone(), boot(id, true, self.now), self.at());
                self.converger = converger;
                return self.done(first);
            }
        };
        let actions = self.converger.step(self.at(), event);
        self.done(actions)
    }

    fn done(&mut self, actions: Vec<Action>) -> String {
        let mut words = Vec::new();
        for action in actions {
            match action {
                Action::Persist(changes) => {
                    for change in &changes {
                        self.disk.apply(change);
                        if let LedgerChange::Append(report) = change {
                            words.push(match &report.body {
                                ReportBody::Stage(result) => {
                                    // one failure is what "Failed" says
                                    let said = u32::from(result.outcome == Outcome::Failed);
                                    let failures = result.failures.filter(|count| *count > said);
                                    let times = failures.map(|count| format!("*{count}")).unwrap_or_default();
                                    format!("report:{}:{:?}{times}", result.stage, result.outcome)
                                }
                                ReportBody::Converged { generation } => format!("converged:{generation}"),
                                ReportBody::Refused { offered, .. } => format!("refused:{offered}"),
                                ReportBody::LedgerLost { .. } => "lost".into(),
                                ReportBody::Command(end) => format!("command:{}:{:?}", end.id, end.outcome),
                                ReportBody::Drift(found) => format!("drift:{}", found.total),
                            });
                        }
                    }
                    words.push("persist".into());
                }
                Action::Fetch { fetch, scripts, .. } => {
                    self.fetch = fetch;
                    words.push(format!("fetch:{scripts}"));
                }
                Action::Run(order) => {
                    self.run = Some(order.id);
                    self.first = self.first.or(self.run);
                    words.push(match order.task {
                        Task::Stage(_) if order.restart => format!("restart:{}#{}", order.task.name(), order.attempt),
                        Task::Stage(_) if order.settled => "look".into(),
                        Task::Stage(_) => format!("run:{}#{}", order.task.name(), order.attempt),
                        Task::Start | Task::Stop | Task::Drift => format!("run:{}", order.task.name()),
                    });
                }
                Action::Begin(run) => {
                    words.push(format!("begin:{}", run.order.id));
                    self.begun.insert(run.order.id.clone(), run.id);
                }
                Action::Kill { .. } => words.push("kill".into()),
                Action::WakeAt(at) => words.push(format!("wake+{}", at - self.now)),
                Action::Send | Action::Beat => {}
            }
        }
        words.join(" ")
    }
}

pub fn check(name: &str, script: Vec<(In, &str)>) -> Agent {
    let (converger, first) =
        Converger::resume(Ledger::default(), boot("boot-1", false, 0), Now { mono_ms: 0, unix_ms: 0 });
    let mut agent = Agent {
        converger,
        disk: Ledger::default(),
        now: 0,
        clock: 0,
        begun: BTreeMap::new(),
        run: None,
        first: None,
        fetch: 0,
    };
    agent.done(first);
    for (step, (input, expect)) in script.into_iter().enumerate() {
        assert_eq!(agent.take(input), expect, "{name}, step {step}");
    }
    agent
}

pub fn wanted(generation: u64, change: impl FnOnce(&mut Assignment)) -> Assignment {
    let mut assignment = plan::assignment(&mut plan::Dice::new(7), generation, None);
    for order in &mut assignment.stages {
        order.gate = Gate::Open;
        order.inputs = Digest::of(&["inputs", order.stage.name()]);
    }
    change(&mut assignment);
    assignment
}

pub const OK: Outcome = Outcome::Succeeded;

/// From nothing to converged at generation 1.
pub fn created() -> Vec<(In, &'static str)> {
    vec![
        (Offer(wanted(1, |_| ())), "persist fetch:commit-0"),
        (Fetched, "persist run:install#1"),
        (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
        (Ends(OK), "report:pre_config:Succeeded persist persist run:config#1"),
        (Ends(OK), "report:config:Succeeded persist run:validate#1"),
        (Ends(OK), "report:validate:Succeeded persist converged:1 persist wake+5000"),
    ]
}

pub fn after(then: Vec<(In, &'static str)>) -> Vec<(In, &'static str)> {
    created().into_iter().chain(then).collect()
}
