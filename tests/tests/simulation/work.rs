//! What is done on hosts: the agent's actions one by one, and what runs of scripts come to in this world.
//!
//! Never here: what must hold of it (`checks.rs`).

use crate::agent::{Agent, cannot_work};
use crate::history::History;
use crate::mutants::Mutant;
use serde_json::Map;
use straas_converge::{Action, CommandFate, CommandResult, CommandRun, Event, RunId, RunOrder, RunResult, Task};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::metadata::Membership;
use straas_schemas::report::{DriftFound, Facts};
use straas_schemas::{CommandId, Digest, Gate, NodeId, Outcome, Stage};

impl History {
    /// Gives an event to an agent, which mostly does at once what follows.
    pub fn hand(&mut self, host: u64, event: Event) {
        let now = self.now();
        let Some(agent) = self.agents.get_mut(&host) else { return };
        agent.hand(event, now);
        if self.peace || !self.dice.one_in(4) {
            self.drain(host);
        }
    }

    /// Does all that is to be done.
    pub fn drain(&mut self, host: u64) {
        while self.act(host) {}
    }

    /// Does the next thing that is to be done.
    pub fn act(&mut self, host: u64) -> bool {
        let Some(action) = self.agents.get_mut(&host).and_then(|agent| agent.queue.pop_front()) else { return false };
        match action {
            Action::Persist(changes) => {
                self.check_changes(host, &changes);
                self.with(host, |agent| agent.persist(&changes));
                self.check_generation(host);
            }
            Action::Fetch { fetch, scripts, .. } => self.with(host, |agent| agent.fetching = Some((fetch, scripts))),
            Action::Run(order) => self.begin(host, order),
            Action::Begin(run) => self.begin_command(host, *run),
            Action::Kill { run } => self.with(host, |agent| {
                agent.killed |= agent.running.as_ref().is_some_and(|order| order.id == run);
            }),
            Action::Send => self.with(host, |agent| agent.send = true),
            Action::Beat => self.with(host, |agent| agent.beat = true),
            Action::WakeAt(at) => self.with(host, |agent| agent.wake = Some(at)),
        }
        true
    }

    pub fn with(&mut self, host: u64, what: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.agents.get_mut(&host) {
            what(agent);
        }
    }

    /// A run begins.
    fn begin(&mut self, host: u64, order: RunOrder) {
        self.check_run(host, &order);
        let replaced = self.agents.get(&host).is_some_and(|agent| self.is_replaced(&agent.node));
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let Some(assignment) = agent.disk.assignment.clone() else { return };
        let (name, task, node) = (agent.label.clone(), order.task, agent.node.clone());
        let worked = agent.truth.active && agent.truth.ever_valid;
        let permit = |stage| matches!(assignment.order(stage).map(|o| &o.gate), Some(Gate::Permit { .. }));
        if let Task::Stage(stage) = task {
            if stage == Stage::Config || (stage == Stage::Install && permit(stage)) {
                // one that never worked has no service yet that another run could disturb; one that was not
                // seen to work since the last is disturbed by that, or was down when it asked for it
                let works = worked && agent.truth.proven;
                agent.truth.disturbed |= works && !agent.truth.asked_while_down.contains(&order.digest);
            }
            if stage != Stage::Validate {
                agent.truth.done.remove(&stage);
            }
            if stage == Stage::Config {
                agent.truth.peers = crate::story::peers(&assignment).into_iter().map(str::to_owned).collect();
                agent.truth.insane = cannot_work(&assignment);
                (agent.truth.active, agent.truth.halted, agent.truth.proven) = (false, false, false);
            }
        }
        if task == Task::Stop {
            agent.truth.active = false;
            if worked && replaced {
                self.ghost.taken.insert(node);
            }
        }
        let late =
            self.site.mutant == Some(Mutant::LateEnd) && agent.given_up.take().is_some_and(|run| run != order.id);
        let id = order.id;
        agent.running = Some(order);
        agent.killed = false;
        self.tell(|| format!("{name} begins {}", task.name()));
        if matches!(task, Task::Stop | Task::Stage(Stage::Install | Stage::Config)) {
            self.check_disturbed();
        }
        if task == Task::Stage(Stage::Config) {
            self.check_members(host);
        }
        if late {
            let output = (task == Task::Stage(Stage::PreConfig)).then(|| Digest::of(&["of another run"]));
            let result = result(Outcome::Succeeded, output, None);
            self.with(host, |agent| agent.running = None);
            self.hand(host, Event::Finished { run: id, result: Box::new(result) });
        }
    }

    /// The run under way ends; `fails`: whatever it is.
    pub fn finish(&mut self, host: u64, fails: bool) {
        let Some(agent) = self.agents.get(&host) else { return };
        let Some(order) = agent.running.clone() else { return };
        let Some(assignment) = agent.disk.assignment.clone() else { return };
        let (id, name) = (agent.node.clone(), agent.label.clone());
        let killed = agent.killed && (self.peace || !self.dice.one_in(3));
        let works = self.works(host);
        if order.task == Task::Stage(Stage::Validate) {
            self.elect(&id);
        }
        let lags = self.lags(&id);
        let alone = self.stands_alone(&id);
        let stepwise = self.meta_of(&id).is_some_and(|m| m.membership == Membership::Stepwise);
        let trouble = self.trouble.failing.get(&id).is_some_and(|stage| order.task == Task::Stage(*stage));
        let bad_script = |stage: Stage| assignment.scripts.contains(&format!("{stage}:bad"));
        let bad_package = assignment.packages.iter().any(|p| p.version.contains("bad"));
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let truth = &mut agent.truth;
        let fate = match order.task {
            _ if killed || fails || trouble => Outcome::Failed,
            Task::Stage(Stage::Install) if bad_package => Outcome::Failed,
            Task::Stage(stage) if bad_script(stage) => Outcome::Failed,
            Task::Stage(Stage::Validate) if works => Outcome::Succeeded,
            Task::Stage(Stage::Validate) if truth.active && !truth.insane => Outcome::Waiting,
            Task::Stage(Stage::Validate) => Outcome::Failed,
            _ => Outcome::Succeeded,
        };
        let mut said = result(fate, None, None);
        let given_up = agent.given_up == Some(order.id);
        match order.task {
            Task::Stage(Stage::Validate) => {
                // a script that fails at something else says nothing of the service
                let seen = if works { ServiceStatus::Active } else { ServiceStatus::Inactive };
                said.service = Some(seen).filter(|_| !works || fate == Outcome::Succeeded);
                if fate == Outcome::Succeeded {
                    let mode = if truth.leader { "leader" } else { "follower" };
                    said.facts.insert("mode".to_owned(), mode.into());
                    said.facts.insert("under_replicated".to_owned(), lags.into());
                    (truth.disturbed, truth.ever_valid, truth.proven) = (false, true, true);
                    self.ghost.taken.remove(&id);
                    self.ghost.served.insert(id.clone());
                }
            }
            Task::Stage(stage) if fate == Outcome::Succeeded => {
                if stage == Stage::PreConfig {
                    let mut context = assignment.context.clone();
                    if alone {
                        // who else there is, is no part of its configuration
                        context.as_object_mut().expect("an object").remove("peers");
                    }
                    said.output = Some(Digest::sha256(context.to_string().as_bytes()));
                }
                truth.active |= stage == Stage::Config;
                // of two members neither can do without the other: a new host that is configured has done all
                // it can, and the other one is told of it although it does not work
                if stage == Stage::Config && stepwise && truth.peers.len() <= 2 {
                    self.ghost.taken.remove(&id);
                }
                if !given_up {
                    truth.done.insert(stage, order.digest.clone());
                }
            }
            Task::Start if fate == Outcome::Succeeded => (truth.active, truth.halted) = (true, false),
            Task::Stop if fate == Outcome::Succeeded => (truth.halted, truth.disturbed) = (true, false),
            Task::Drift => said.drift = Some(DriftFound { resources: Vec::new(), total: 0, looked_ms: 0 }),
            _ => {}
        }
        agent.running = None;
        agent.killed = false;
        self.tell(|| format!("{name} ends {}: {fate:?}", order.task.name()));
        self.hand(host, Event::Finished { run: order.id, result: Box::new(said) });
    }

    /// A fetch ends.
    pub fn fetched(&mut self, host: u64, fails: bool) {
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let Some((fetch, scripts)) = agent.fetching.take() else { return };
        let event = if fails {
            Event::FetchFailed { fetch, reason: "no link".into() }
        } else {
            agent.scripts = Some(scripts);
            Event::Activated { fetch }
        };
        self.hand(host, event);
    }

    fn begin_command(&mut self, host: u64, run: CommandRun) {
        self.check_command(host, &run);
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let (name, id) = (agent.label.clone(), run.order.id.clone());
        agent.commands.insert(run.id, run);
        self.tell(|| format!("{name} begins the command {id}"));
    }

    /// A command ends.
    pub fn finish_command(&mut self, host: u64, run: RunId, fails: bool) {
        let Some(command) = self.agents.get_mut(&host).and_then(|agent| agent.commands.remove(&run)) else { return };
        let (id, fate) = (command.order.id, if fails { CommandFate::Failed } else { CommandFate::Succeeded });
        self.ghost.fates.entry(id.clone()).or_default().push(fate);
        if let Some(key) = self.operation(&id).filter(|_| !fails) {
            self.tell(|| format!("{key} is done"));
            self.ghost.done.insert(key);
        }
        let result = CommandResult {
            fate,
            exit_code: Some(i32::from(fails)),
            reason: if fails { "it said no".into() } else { String::new() },
            hint: None,
            duration_ms: 5,
            result: Map::new(),
            output_bytes: 0,
        };
        self.hand(host, Event::Ended { run, command: id, result: Box::new(result) });
    }

    /// What an operation is for.
    fn operation(&self, id: &CommandId) -> Option<String> {
        self.site.database.command(id)?.operation.map(|(key, _)| key)
    }

    /// Whether a service really works: it runs, its configuration is sane, and a majority of the
    /// peers that it names runs, if it needs any.
    pub fn works(&self, host: u64) -> bool {
        let Some(agent) = self.agents.get(&host).filter(|a| a.truth.active && !a.truth.insane) else { return false };
        // a member that is alone by its own configuration takes part in nothing
        let stepwise = self.meta_of(&agent.node).is_some_and(|m| m.membership == Membership::Stepwise);
        let alone = |a: &Agent| stepwise && a.machine.name != agent.machine.name && a.truth.peers.len() == 1;
        let takes_part = |a: &Agent| a.truth.active && !a.truth.insane && !alone(a);
        let up = |name: &&String| self.beside(agent).any(|a| a.machine.name == **name && takes_part(a));
        let peers = &agent.truth.peers;
        self.stands_alone(&agent.node) || peers.is_empty() || peers.iter().filter(up).count() * 2 > peers.len()
    }

    /// Whether it needs no majority of those it knows: of types that copy their data themselves.
    pub fn stands_alone(&self, node: &NodeId) -> bool {
        self.meta_of(node).is_some_and(|m| !m.disruption.settled.is_empty())
    }

    /// Of members that work one leads, until it does not work any more.
    fn elect(&mut self, node: &NodeId) {
        let component = self.component_of(node);
        let of_it = |agent: &&Agent| self.component_of(&agent.node) == component;
        let working: Vec<u64> = self.agents.values().filter(of_it).map(|a| a.machine.serial).collect();
        let working: Vec<u64> = working.into_iter().filter(|host| self.works(*host)).collect();
        let leads = |host: &&u64| self.agents.get(host).is_some_and(|a| a.truth.leader);
        let leader = working.iter().find(leads).or_else(|| working.first()).copied();
        let all: Vec<u64> = self.agents.values().filter(of_it).map(|a| a.machine.serial).collect();
        for host in all {
            self.with(host, |agent| agent.truth.leader = leader == Some(host));
        }
    }

    /// How many partitions of a node's component have not all their copies.
    fn lags(&mut self, node: &NodeId) -> u32 {
        let Some(component) = self.component_of(node) else { return 0 };
        let up = |a: &Agent| a.truth.active || !a.truth.ever_valid || a.truth.halted;
        let all = |agent: &Agent| self.component_of(&agent.node).as_ref() != Some(&component) || up(agent);
        if !self.agents.values().all(all) {
            self.ghost.lagging.insert(component.clone());
        } else if self.peace || self.dice.one_in(3) {
            self.ghost.lagging.remove(&component);
        }
        u32::from(self.ghost.lagging.contains(&component))
    }
}

fn result(outcome: Outcome, output: Option<Digest>, service: Option<ServiceStatus>) -> RunResult {
    let failed = outcome != Outcome::Succeeded;
    RunResult {
        outcome,
        exit_code: Some(match outcome {
            Outcome::Succeeded => 0,
            Outcome::Waiting => 75,
            Outcome::Failed => 1,
        }),
        reason: if failed { format!("it said {outcome:?}") } else { String::new() },
        hint: None,
        duration_ms: 1_500,
        output_tail: if failed { "E: no such thing".into() } else { "fine".into() },
        output_bytes: 16,
        facts: Facts::new(),
        service,
        output,
        lost: None,
        drift: None,
    }
}
