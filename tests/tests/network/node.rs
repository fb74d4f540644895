//! A node: the real agent, with its ledger, its scripts and all that it says, and scripts that run on paper.
//!
//! Never here: processes. What a run comes to is thrown by the machine's dice.

use crate::ground::{Ground, Machine};
use crate::wire;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use straas_agent::agent::{Agent, Order, Orders, open, talk};
use straas_agent::config::Config;
use straas_agent::work;
use straas_agent::world::{Clock, World};
use straas_converge::{CommandFate, CommandResult, CommandRun, Event, RunId, RunOrder, RunResult, Task};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DriftFound, ReportBody};
use straas_schemas::{Digest, Outcome, Stage};
use tokio::sync::watch;

/// A run of a stage fails once in so many.
const FAILS: usize = 12;

/// What outlives a kill of an agent.
#[derive(Clone)]
pub struct Node {
    pub machine: Machine,
    pub dir: PathBuf,
    pub ground: Arc<Ground>,
}

/// Something that takes time has ended.
enum End {
    Run(RunOrder, RunResult),
    Command(CommandRun, CommandResult),
}

type Busy = FuturesUnordered<LocalBoxFuture<'static, End>>;
type Fetching<'a> = Option<(u64, LocalBoxFuture<'a, Result<(), String>>)>;

impl Node {
    /// Puts in place what a first boot does.
    pub fn boot(&self) {
        let boot = &self.machine.spec.agent;
        std::fs::create_dir_all(&self.dir).unwrap();
        std::fs::write(self.dir.join("ca.pem"), &boot.ca_pem).unwrap();
        std::fs::write(self.dir.join("join-token"), boot.join_token.expose()).unwrap();
    }

    fn config(&self) -> Config {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let (boot, id) = (&self.machine.spec.agent, &self.machine.spec.id);
        let text = format!(
            "controllers = {:?}\nnode = {id:?}\nstate_dir = {:?}\nca_file = {:?}\njoin_token_file = {:?}\nprefix = {:?}\n",
            boot.controllers,
            at("state"),
            at("ca.pem"),
            at("join-token"),
            at("prefix")
        );
        Config::parse(&text).unwrap()
    }

    /// Runs until it is killed.
    pub async fn run(self) -> turmoil::Result {
        let (unix, up) = (self.ground.clone(), self.ground.clone());
        let made = self.machine.made_ms;
        let clock = Clock { unix_ms: Rc::new(move || unix.now_ms()), up_ms: Rc::new(move || up.now_ms() - made) };
        let world = World { dialer: wire::dialer(), clock };
        let opened = open(self.config(), world).await.map_err(|error| format!("{}: {error}", self.machine.name()))?;
        let Some((agent, orders)) = opened else { return Err("a build on trial".into()) };
        tokio::select! {
            () = talk(&agent) => {}
            () = self.work(&agent, orders) => {}
        }
        Ok(())
    }

    /// Does on paper what `straas_agent::work` does with processes; scripts are really fetched.
    async fn work(&self, agent: &Rc<Agent>, mut orders: Orders) {
        let mut wake = agent.wake.subscribe();
        let mut busy = Busy::new();
        let mut kills: BTreeMap<RunId, watch::Sender<bool>> = BTreeMap::new();
        let mut fetching: Fetching<'_> = None;
        loop {
            self.look(agent);
            let at = *wake.borrow_and_update();
            tokio::select! {
                Some(order) = orders.recv() => match order {
                    Order::Run(order) => {
                        let (kill, killed) = watch::channel(false);
                        kills.insert(order.id, kill);
                        busy.push(self.begin(agent, order, killed));
                    }
                    Order::Begin(run) => {
                        let (kill, killed) = watch::channel(false);
                        kills.insert(run.id, kill);
                        busy.push(self.begin_command(*run, killed));
                    }
                    Order::Kill(id) => drop(kills.get(&id).map(|kill| kill.send_replace(true))),
                    Order::Fetch { fetch, scripts, files, hosts } => {
                        fetching = Some((fetch, Box::pin(work::one_fetch(agent, scripts, files, hosts))));
                    }
                },
                Some(end) = busy.next() => match end {
                    End::Run(order, result) => {
                        kills.remove(&order.id);
                        self.ended(&order, &result);
                        agent.handle(Event::Finished { run: order.id, result: Box::new(result) });
                    }
                    End::Command(run, result) => {
                        kills.remove(&run.id);
                        self.command_ended(&run, result.fate);
                        agent.handle(Event::Ended { run: run.id, command: run.order.id, result: Box::new(result) });
                    }
                },
                (fetch, result) = fetched(&mut fetching) => {
                    fetching = None;
                    agent.handle(match result {
                        Ok(()) => {
                            self.ground.count("a pack is fetched");
                            Event::Activated { fetch }
                        }
                        Err(reason) => {
                            self.ground.tell(&format!("{} gets no scripts: {reason}", self.machine.name()));
                            Event::FetchFailed { fetch, reason }
                        }
                    });
                }
                () = work::wake_at(agent, at) => {
                    agent.wake.send_replace(None);
                    agent.handle(Event::Tick);
                }
                _ = wake.changed() => {}
            }
        }
    }

    /// No older assignment comes after a newer one; what is written down is remembered.
    fn look(&self, agent: &Agent) {
        let (has, results) = agent.look(|converger, _| {
            let ledger = converger.ledger();
            let stages = ledger.outbox.values().filter(|report| matches!(report.body, ReportBody::Stage(_)));
            (ledger.generation(), stages.map(|report| report.seq).collect::<Vec<_>>())
        });
        let mut older = None;
        self.ground.with(&self.machine, |machine| {
            older = (has < machine.generation).then_some(machine.generation);
            machine.generation = machine.generation.max(has);
            machine.results.extend(results);
        });
        if let Some(newer) = older {
            self.ground.fault(format!("{} had generation {newer} and now has {has}", self.machine.name()));
        }
    }

    fn thrown<T>(&self, throw: impl FnOnce(&mut crate::dice::Dice) -> T) -> T {
        let mut facts = self.ground.facts();
        match facts.machines.get_mut(&self.machine.spec.id) {
            Some(machine) => throw(&mut machine.dice),
            None => throw(&mut self.machine.dice.clone()),
        }
    }

    fn begin(&self, agent: &Agent, order: RunOrder, killed: watch::Receiver<bool>) -> LocalBoxFuture<'static, End> {
        self.ground.tell(&format!(
            "{} begins {} of generation {}",
            self.machine.name(),
            order.task.name(),
            order.generation
        ));
        if matches!(order.task, Task::Stage(Stage::Config) | Task::Stop) {
            // one that was down by itself may have been permitted because it was
            self.ground.with(&self.machine, |machine| {
                machine.disturbed |= machine.works && !machine.failed;
                (machine.works, machine.failed) = (false, false);
            });
            self.ground.check_disturbed();
        }
        let (ms, fails) = self.thrown(|dice| (200 + dice.below(4_000), dice.one_in(FAILS)));
        let context = agent.look(|converger, _| converger.ledger().assignment.as_ref().map(|a| a.context.to_string()));
        Box::pin(async move {
            let whole = slept(ms, killed).await;
            let result = result(&order, whole && !fails, context.as_deref().unwrap_or_default());
            End::Run(order, result)
        })
    }

    fn ended(&self, order: &RunOrder, result: &RunResult) {
        let good = result.outcome == Outcome::Succeeded;
        if !good {
            self.ground.count("a stage fails");
        }
        if order.task == Task::Stage(Stage::Validate) {
            self.ground.with(&self.machine, |machine| {
                machine.disturbed &= !good;
                machine.works = good;
                machine.failed |= !good;
            });
        }
    }

    fn begin_command(&self, run: CommandRun, killed: watch::Receiver<bool>) -> LocalBoxFuture<'static, End> {
        self.ground.tell(&format!("{} begins the command {}", self.machine.name(), run.order.id));
        let runs = {
            let mut facts = self.ground.facts();
            let fates = facts.commands.entry(run.order.id.clone()).or_default();
            fates.push(None);
            fates.len()
        };
        if let Some(wish) = run.order.args.get("key").and_then(|key| key.as_str()) {
            let first = self.ground.facts().wishes.entry(wish.to_owned()).or_insert(run.order.id.clone()).clone();
            if first != run.order.id {
                self.ground.fault(format!("what was asked for once is run as {first} and as {}", run.order.id));
            }
        }
        if runs > 1 && !run.order.idempotent {
            self.ground.fault(format!("the command {} is run more than once", run.order.id));
        }
        let (ms, fails) = self.thrown(|dice| (100 + dice.below(3_000), dice.one_in(6)));
        Box::pin(async move {
            let fate = match slept(ms, killed).await {
                false => CommandFate::Killed,
                true if fails => CommandFate::Failed,
                true => CommandFate::Succeeded,
            };
            let result = CommandResult {
                fate,
                exit_code: Some(i32::from(fate != CommandFate::Succeeded)),
                reason: String::new(),
                hint: None,
                duration_ms: ms as u64,
                result: serde_json::Map::new(),
                output_bytes: 0,
            };
            End::Command(run, result)
        })
    }

    fn command_ended(&self, run: &CommandRun, fate: CommandFate) {
        if let Some(last) = self.ground.facts().commands.get_mut(&run.order.id).and_then(|fates| fates.last_mut()) {
            *last = Some(fate);
        }
    }
}

/// Whether it was left alone for so long.
async fn slept(ms: usize, mut killed: watch::Receiver<bool>) -> bool {
    tokio::select! {
        // waits for: nothing; it is how long the script takes
        () = tokio::time::sleep(Duration::from_millis(ms as u64)) => true,
        _ = killed.wait_for(|killed| *killed) => false,
    }
}

async fn fetched(fetching: &mut Fetching<'_>) -> (u64, Result<(), String>) {
    match fetching {
        Some((fetch, end)) => (*fetch, end.await),
        None => std::future::pending().await,
    }
}

fn result(order: &RunOrder, good: bool, context: &str) -> RunResult {
    let stage = |stage| order.task == Task::Stage(stage);
    let mut facts = straas_schemas::report::Facts::new();
    if good && stage(Stage::Validate) {
        facts.insert("settled".to_owned(), json!(true));
    }
    RunResult {
        outcome: if good { Outcome::Succeeded } else { Outcome::Failed },
        exit_code: Some(i32::from(!good)),
        reason: if good { String::new() } else { "the dice say so".into() },
        hint: None,
        duration_ms: 1_000,
        output_tail: String::new(),
        output_bytes: 0,
        facts,
        service: (good && stage(Stage::Validate)).then_some(ServiceStatus::Active),
        output: (good && stage(Stage::PreConfig)).then(|| Digest::sha256(context.as_bytes())),
        lost: None,
        drift: (order.task == Task::Drift).then(|| DriftFound { resources: Vec::new(), total: 0, looked_ms: 0 }),
    }
}
