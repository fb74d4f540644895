//! Readable histories: what comes in, what has to come out.
//!
//! One table, one `check`. An expectation lists the actions of a step in short; `persist` without
//! its content, because what is persisted is checked by the ghost world.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "world/plan.rs"]
#[allow(dead_code)]
mod plan;

use straas_converge::{Action, Boot, Converger, Event, Ledger, LedgerChange, Now, RunId, Task};
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage};

/// What comes in.
#[allow(clippy::large_enum_variant)]
enum In {
    Offer(Assignment),
    Fetched,
    FetchFails,
    /// The present run ends so.
    Ends(Outcome),
    /// A run that is long over ends again.
    Late,
    After(i64),
    Ack(u64),
    /// `kill -9` after everything was done, and a start; in a new boot or not.
    Crash(bool),
}
use In::{Ack, After, Crash, Ends, FetchFails, Fetched, Late, Offer};

struct Agent {
    converger: Converger,
    disk: Ledger,
    now: i64,
    run: Option<RunId>,
    first: Option<RunId>,
    fetch: u64,
}

fn boot(id: &str, scripts: bool) -> Boot {
    Boot { node: plan::node(), boot_id: id.into(), scripts, ledger_lost: None }
}

impl Agent {
    fn at(&self) -> Now {
        Now { mono_ms: self.now, unix_ms: 0 }
    }

    fn take(&mut self, input: In) -> String {
        let finished = |run, outcome| {
            let up = if outcome == Outcome::Succeeded { ServiceStatus::Active } else { ServiceStatus::Inactive };
            Event::Finished { run, result: Box::new(plan::result(outcome, Some(Digest::of(&["pp"])), Some(up), None)) }
        };
        let event = match input {
            Offer(assignment) => Event::Offered(Box::new(assignment)),
            Fetched => Event::Activated { fetch: self.fetch },
            FetchFails => Event::FetchFailed { fetch: self.fetch, reason: "cut".into() },
            Ends(outcome) => finished(self.run.unwrap(), outcome),
            Late => finished(self.first.unwrap(), Outcome::Succeeded),
            After(ms) => {
                self.now += ms;
                Event::Tick
            }
            Ack(seq) => Event::Acknowledged { seq },
            Crash(reboot) => {
                let id = if reboot { "boot-2" } else { "boot-1" };
                let (converger, first) = Converger::resume(self.disk.clone(), boot(id, true), self.at());
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
                                ReportBody::Stage(result) => format!("report:{}:{:?}", result.stage, result.outcome),
                                ReportBody::Converged { generation } => format!("converged:{generation}"),
                                ReportBody::Refused { offered, .. } => format!("refused:{offered}"),
                                ReportBody::LedgerLost { .. } => "lost".into(),
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
                        Task::Stage(_) => format!("run:{}#{}", order.task.name(), order.attempt),
                        Task::Start | Task::Stop => format!("run:{}", order.task.name()),
                    });
                }
                Action::Kill { .. } => words.push("kill".into()),
                Action::WakeAt(at) => words.push(format!("wake+{}", at - self.now)),
                Action::Send | Action::Beat => {}
            }
        }
        words.join(" ")
    }
}

fn check(name: &str, script: Vec<(In, &str)>) -> Agent {
    let (converger, first) =
        Converger::resume(Ledger::default(), boot("boot-1", false), Now { mono_ms: 0, unix_ms: 0 });
    let mut agent = Agent { converger, disk: Ledger::default(), now: 0, run: None, first: None, fetch: 0 };
    agent.done(first);
    for (step, (input, expect)) in script.into_iter().enumerate() {
        assert_eq!(agent.take(input), expect, "{name}, step {step}");
    }
    agent
}

fn wanted(generation: u64, change: impl FnOnce(&mut Assignment)) -> Assignment {
    let mut assignment = plan::assignment(&mut plan::Dice::new(7), generation, None);
    for order in &mut assignment.stages {
        order.gate = Gate::Open;
        order.inputs = Digest::of(&["inputs", order.stage.name()]);
    }
    change(&mut assignment);
    assignment
}

const OK: Outcome = Outcome::Succeeded;

/// From nothing to converged at generation 1.
fn created() -> Vec<(In, &'static str)> {
    vec![
        (Offer(wanted(1, |_| ())), "persist fetch:commit-0"),
        (Fetched, "persist run:install#1"),
        (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
        (Ends(OK), "report:pre_config:Succeeded persist persist run:config#1"),
        (Ends(OK), "report:config:Succeeded persist run:validate#1"),
        (Ends(OK), "report:validate:Succeeded persist converged:1 persist wake+5000"),
    ]
}

fn after(then: Vec<(In, &'static str)>) -> Vec<(In, &'static str)> {
    created().into_iter().chain(then).collect()
}

#[test]
fn creation_and_monitoring() {
    let mut agent = check(
        "a settled node looks, and says nothing while nothing changes",
        after(vec![
            (Ack(5), "persist wake+5000"),
            (After(5_000), "run:validate#1"),
            (Ends(OK), "wake+5000"),
            (Offer(wanted(1, |_| ())), "wake+5000"),
        ]),
    );
    assert!(agent.disk.outbox.is_empty());
    let now = agent.at();
    let status = agent.converger.status(now);
    assert_eq!((status.converged, status.service, status.activity), (true, ServiceStatus::Active, Activity::Idle));
}

#[test]
fn generations() {
    check(
        "three-way rule",
        after(vec![
            (Offer(wanted(0, |_| ())), "refused:0 persist wake+5000"),
            (Offer(wanted(0, |_| ())), "wake+5000"),
            (Offer(wanted(1, |a| a.version = "2".into())), "refused:1 persist wake+5000"),
            (Offer(wanted(9, |a| a.node = "other".into())), "refused:9 persist wake+5000"),
            (Offer(wanted(9, |a| a.protocol = 99)), "refused:9 persist wake+5000"),
            (Offer(wanted(9, |a| a.stages.swap(0, 1))), "refused:9 persist wake+5000"),
            (Offer(wanted(2, |_| ())), "persist converged:2 persist wake+5000"),
        ]),
    );
}

#[test]
fn failing_waiting_superseding() {
    let install = |n: &'static str| move |a: &mut Assignment| a.stages[0].inputs = Digest::of(&[n]);
    check(
        "back-off, then at once on a new digest; a late result moves nothing",
        vec![
            (Offer(wanted(1, |_| ())), "persist fetch:commit-0"),
            (FetchFails, "wake+200"),
            (After(200), "fetch:commit-0"),
            (Fetched, "persist run:install#1"),
            (Ends(Outcome::Failed), "report:install:Failed persist wake+200"),
            (After(200), "persist run:install#2"),
            (Ends(Outcome::Failed), "report:install:Failed persist wake+400"),
            (After(400), "persist run:install#3"),
            (Ends(Outcome::Waiting), "report:install:Waiting persist wake+300"),
            (After(300), "persist run:install#4"),
            (Offer(wanted(2, install("two"))), "persist kill"),
            (Late, ""),
            (Ends(OK), "persist run:install#1"),
            (Late, ""),
            (
                Offer(wanted(3, |a| {
                    install("two")(a);
                    a.stages[3].inputs = Digest::of(&["v"])
                })),
                "persist",
            ),
            (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
        ],
    );
}

#[test]
fn what_was_validated_before_says_nothing_of_what_is_configured_now() {
    check(
        "a change that began and was taken back is validated anew",
        after(vec![
            (Offer(wanted(2, |a| a.stages[2].inputs = Digest::of(&["n"]))), "persist persist run:config#1"),
            (Offer(wanted(3, |_| ())), "persist kill"),
            (Ends(Outcome::Failed), "persist run:config#1"),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
            (Ends(OK), "report:validate:Succeeded persist converged:3 persist wake+5000"),
        ]),
    );
}

#[test]
fn gates() {
    let closed = Gate::Closed { why: "zk is not there".into() };
    let agent = check(
        "a closed gate holds, and the settled service is still looked at",
        after(vec![
            (
                Offer(wanted(2, |a| {
                    a.stages[1].inputs = Digest::of(&["new"]);
                    a.stages[2].gate = closed
                })),
                "persist persist run:pre_config#1",
            ),
            (Ends(OK), "report:pre_config:Succeeded persist converged:2 persist wake+5000"),
        ]),
    );
    drop(agent);
    let changed = |gate: Gate| {
        move |a: &mut Assignment| {
            a.stages[2].inputs = Digest::of(&["new"]);
            a.stages[2].gate = gate;
        }
    };
    let mut agent = check(
        "without a permit it asks",
        after(vec![
            (Offer(wanted(2, changed(Gate::Permit { granted: None }))), "persist wake+5000"),
            (After(5_000), "run:validate#1"),
        ]),
    );
    let now = agent.at();
    let digest = agent.converger.status(now).asks.unwrap().digest;
    assert_eq!(agent.take(Ends(OK)), "wake+5000");
    let wrong = Gate::Permit { granted: Some(Digest::of(&["else"])) };
    assert_eq!(agent.take(Offer(wanted(3, changed(wrong)))), "persist wake+5000");
    let right = Gate::Permit { granted: Some(digest) };
    assert_eq!(agent.take(Offer(wanted(4, changed(right)))), "persist persist run:config#1");
}

#[test]
fn crashes_reboots_and_restarts() {
    check(
        "killed in the middle of config: config again",
        after(vec![
            (Offer(wanted(2, |a| a.stages[2].inputs = Digest::of(&["n"]))), "persist persist run:config#1"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, "persist run:config#2"),
        ]),
    );
    check(
        "a reboot starts the service from the ledger alone",
        after(vec![
            (Crash(true), "persist run:start"),
            (Ends(OK), "persist fetch:commit-0"),
            (Fetched, "run:validate#1"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    check(
        "a service that died is started again, and what validate says is reported when it changes",
        after(vec![
            (After(5_000), "run:validate#1"),
            (Ends(Outcome::Failed), "report:validate:Failed persist run:start"),
            (Ends(OK), "run:validate#2"),
            (Ends(Outcome::Failed), "report:validate:Failed persist wake+400"),
            (After(400), "run:start"),
            (Ends(OK), "run:validate#3"),
            (Ends(OK), "report:validate:Succeeded persist wake+5000"),
        ]),
    );
}

#[test]
fn stopping() {
    let stopped = |a: &mut Assignment| a.lifecycle = Lifecycle::Stopped;
    check(
        "stopped stays stopped over a reboot, and starts again when ordered",
        after(vec![
            (Offer(wanted(2, stopped)), "persist run:stop"),
            (Ends(OK), "persist converged:2 persist"),
            (After(60_000), ""),
            (Crash(true), "persist fetch:commit-0"),
            (Fetched, "run:stop"),
            (Ends(OK), "persist"),
            (Offer(wanted(3, |_| ())), "persist persist run:start"),
            (Ends(OK), "persist run:validate#2"),
            (Ends(OK), "report:validate:Succeeded persist converged:3 persist wake+5000"),
        ]),
    );
}

#[test]
fn the_stage_order_is_the_order_of_work() {
    assert!(Stage::ALL.is_sorted());
}
