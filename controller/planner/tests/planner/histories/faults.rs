//! What happens between controller and nodes, and what goes wrong there.

use super::{History, Message};
use crate::agent::{Agent, Doing, Task};
use crate::carry::{HostTask, Life};
use straas_planner::Host;
use straas_schemas::command::{CommandOutcome, CommandStanding};
use straas_schemas::{CommandId, NodeId, Outcome, Stage};

impl History {
    /// A message arrives: late, twice, out of order, or not at all.
    pub fn deliver(&mut self) {
        let at = self.dice.below(self.flying.len());
        if at >= self.flying.len() {
            return;
        }
        let message = if self.dice.one_in(6) { self.flying[at].clone() } else { self.flying.swap_remove(at) };
        if self.dice.one_in(8) {
            return;
        }
        match message {
            Message::Offer(id, offer) => {
                let Some(agent) = self.world.agents.get_mut(&id) else { return };
                if agent.generation() < offer.generation {
                    agent.offered(&offer);
                    agent.confirm();
                    let gates: Vec<_> = offer.stages.iter().map(|o| crate::script::gate_word(&o.gate)).collect();
                    let words = (offer.version.clone(), offer.config.clone(), offer.scripts.clone());
                    self.tell(|| format!("{} takes {}: {words:?} {gates:?}", offer.name, offer.generation));
                }
            }
            Message::Order(id, command) => {
                if let Some(agent) = self.world.agents.get_mut(&id) {
                    agent.commands.entry(command.clone()).or_insert(Doing::Queued);
                    self.sent(&command);
                }
            }
            Message::Beat(id, beat) => self.world.receive_heartbeat(&id, *beat),
            Message::Reports(id, incarnation, reports) => {
                if let Some(seq) = self.world.receive_reports(&id, incarnation, &reports) {
                    self.flying.push(Message::Acknowledged(id, incarnation, seq));
                }
            }
            Message::Acknowledged(id, incarnation, seq) => {
                if let Some(agent) = self.world.agents.get_mut(&id).filter(|a| a.incarnation == incarnation) {
                    agent.outbox.retain(|r| r.seq > seq);
                }
            }
        }
    }

    /// The agent has it in its journal.
    pub fn sent(&mut self, id: &CommandId) {
        let queued = |run: &&mut straas_planner::OperationRun| run.standing == CommandStanding::Queued;
        for run in self.world.store.operations.iter_mut().filter(|run| run.id == *id).filter(queued) {
            run.standing = CommandStanding::Running;
        }
    }

    /// A plan is carried out, fresh or stale, to its end or not.
    pub fn apply(&mut self) {
        let at = self.dice.below(self.plans.len());
        if at >= self.plans.len() {
            return;
        }
        let (plan, moment) = self.plans.swap_remove(at);
        let life = if self.dice.one_in(8) { Life(self.dice.below(8)) } else { Life::LONG };
        let dies = life.0 < usize::MAX;
        self.carry_out(&plan, &moment, life);
        if dies {
            self.tell(|| "the controller dies while it carries out a plan".to_owned());
            self.world.tasks.clear();
            self.plans.clear();
        }
    }

    /// Work on a host goes on, an agent enrols, or it is noticed that a host is gone.
    pub fn host(&mut self) {
        if !self.world.tasks.is_empty() && !self.dice.one_in(3) {
            let at = self.dice.below(self.world.tasks.len());
            let task = self.world.tasks.remove(at);
            let fails = self.trouble.no_room || self.dice.one_in(12);
            return self.host_task(&task, fails);
        }
        let Some(id) = self.node() else { return };
        self.see_to(&id);
    }

    pub fn host_task(&mut self, task: &HostTask, fails: bool) {
        match task {
            HostTask::Make(wish) => {
                self.world.make_host(wish, fails);
                let how = if fails { "cannot be made" } else { "is made" };
                self.tell(|| format!("host {} number {} {how}", wish.name, wish.number));
            }
            HostTask::Remove(id, number) if self.world.is_to_go(id, *number) => {
                self.check_host_task(task);
                let there = self.world.machines.contains_key(id);
                self.world.remove_host(id, *number);
                if there && !self.world.machines.contains_key(id) {
                    let name = self.name(id);
                    self.tell(|| format!("host {name} number {number} is removed"));
                }
            }
            HostTask::Remove(..) => {}
        }
    }

    /// What is so is noticed: a host that is gone, one with a new agent, one that belongs to nobody.
    pub fn see_to(&mut self, id: &NodeId) {
        let busy = self.world.tasks.iter().any(|task| task.node() == id);
        let Some(node) = self.world.node(id).cloned() else { return };
        match self.world.machines.get(id) {
            None if node.host == Host::Up && !busy => {
                self.world.host_absent(id);
                self.tell(|| format!("the provider says that host {} is gone", node.name));
            }
            Some(machine) if node.host == Host::Up && !machine.enrolled => {
                self.world.enrol(id);
                self.tell(|| format!("{} enrols", node.name));
            }
            _ => {}
        }
        let orphans: Vec<NodeId> = self.world.machines.keys().cloned().collect();
        for id in orphans {
            if self.world.node(&id).is_none() && !self.world.tasks.iter().any(|task| *task.node() == id) {
                self.world.machines.remove(&id);
                self.world.agents.remove(&id);
            }
        }
    }

    /// An agent goes on with what it does.
    pub fn work(&mut self) {
        let Some(id) = self.node() else { return };
        if self.dice.one_in(6) && self.work_on_command(&id) {
            return;
        }
        if self.world.agents.get(&id).is_some_and(|a| a.running.is_some()) {
            if self.trouble.slow.contains(&id) && !self.dice.one_in(12) {
                return;
            }
            let fails = self.dice.one_in(14);
            self.finish(&id, fails);
        } else if !self.begin(&id) {
            self.look(&id);
        }
    }

    pub fn begin(&mut self, id: &NodeId) -> bool {
        let Some(task) = self.world.begin(id) else { return false };
        if let Some(name) = self.world.agents.get(id).map(|a| a.name.clone()) {
            self.tell(|| format!("{name} begins {task:?}"));
        }
        self.check_begun(id, task);
        true
    }

    pub fn finish(&mut self, id: &NodeId, fails: bool) {
        let stage = self.trouble.failing.get(id).copied();
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let name = agent.name.clone();
        let troubled = agent.running.as_ref().is_some_and(|(task, _)| stage.map(Task::Stage) == Some(*task));
        let task = match &agent.running {
            Some(_) if fails || troubled => agent.finish(Outcome::Failed, None),
            Some(_) => self.world.finish(id),
            None => None,
        };
        if let Some(task) = task {
            let agent = &self.world.agents[id];
            let outcome = match task {
                Task::Stage(stage) => agent.records.get(&stage).and_then(|r| r.outcome),
                Task::Start | Task::Stop => None,
            };
            self.tell(|| format!("{name} ends {task:?}: {outcome:?}"));
            self.check_finished(id, task);
        }
    }

    fn work_on_command(&mut self, id: &NodeId) -> bool {
        let fails = self.trouble.operations || self.dice.one_in(8);
        let Some(agent) = self.world.agents.get_mut(id) else { return false };
        let open = agent.commands.iter().find(|(_, doing)| **doing != Doing::Ended);
        let Some((command, doing)) = open.map(|(command, doing)| (command.clone(), *doing)) else { return false };
        if doing == Doing::Queued {
            agent.commands.insert(command, Doing::Begun);
            return true;
        }
        let outcome = if fails { CommandOutcome::Failed } else { CommandOutcome::Succeeded };
        agent.end_command(&command, outcome);
        let name = agent.name.clone();
        self.command_ended(&name, &command, outcome);
        true
    }

    pub fn command_ended(&mut self, node: &str, command: &CommandId, outcome: CommandOutcome) {
        let key = self.world.store.operations.iter().find(|run| run.id == *command).map(|run| run.key.clone());
        let key = key.unwrap_or_default();
        if outcome == CommandOutcome::Succeeded {
            self.ghost.done.insert(key.clone());
        }
        self.tell(|| format!("{node} has done {key:?}: {outcome:?}"));
    }

    pub fn look(&mut self, id: &NodeId) {
        self.elect(id);
        let lag = self.lags(id);
        self.with(id, |agent| drop(agent.shows.insert("under_replicated".to_owned(), lag.into())));
        self.world.look(id);
    }

    /// Of members that work one leads, until it does not work any more.
    fn elect(&mut self, id: &NodeId) {
        let Some(node) = self.world.store.nodes.iter().find(|n| n.id == *id) else { return };
        let of_it = self.world.store.nodes.iter().filter(|n| n.component == node.component);
        let ids: Vec<NodeId> = of_it.map(|n| n.id.clone()).collect();
        let working: Vec<NodeId> = ids.iter().filter(|id| self.world.works(id)).cloned().collect();
        let leads = |id: &&NodeId| self.world.agents.get(*id).is_some_and(|a| a.leader);
        let leader = working.iter().find(leads).or_else(|| self.dice.pick(&working)).cloned();
        for id in ids {
            let leader = leader.as_ref() == Some(&id);
            self.with(&id, |a| a.leader = leader);
        }
    }

    /// How many partitions of a node's component have not all their copies.
    fn lags(&mut self, id: &NodeId) -> u32 {
        let Some(node) = self.world.store.nodes.iter().find(|n| n.id == *id) else { return 0 };
        let component = node.component.clone();
        let of_it = self.world.store.nodes.iter().filter(|n| n.component == component);
        let up = |id: &NodeId| self.world.agents.get(id).is_none_or(|a| a.active || !a.ever_valid || a.halted);
        if of_it.clone().any(|n| !up(&n.id)) {
            self.ghost.lagging.insert(component.clone());
        }
        u32::from(self.ghost.lagging.contains(&component))
    }

    /// Somebody says something; it is on its way then.
    pub fn talk(&mut self) {
        let Some(id) = self.node().filter(|id| !self.trouble.cut.contains(id)) else { return };
        let offer = self.world.node(&id).and_then(|n| n.assignment.clone());
        let order = self.open_operations().find(|run| run.node == id).map(|run| run.id.clone());
        let Some(agent) = self.world.agents.get_mut(&id) else { return };
        let message = match self.dice.below(7) {
            0..3 => Message::Beat(id, Box::new(agent.heartbeat())),
            3 | 4 if !agent.outbox.is_empty() => Message::Reports(id, agent.incarnation, agent.outbox.clone()),
            3 | 4 => return,
            _ => match (order, offer) {
                (Some(order), _) if self.dice.one_in(2) => Message::Order(id, order),
                (_, Some(offer)) => Message::Offer(id, Box::new(offer)),
                _ => return,
            },
        };
        self.flying.push(message);
    }

    fn with(&mut self, id: &NodeId, what: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.world.agents.get_mut(id) {
            what(agent);
        }
    }

    /// Something goes wrong, or is mended.
    pub fn accident(&mut self) {
        let Some(id) = self.node() else { return };
        let name = self.name(&id);
        let what = match self.dice.below(20) {
            0 | 1 => {
                self.trouble.cut.insert(id);
                format!("{name} is cut off")
            }
            2 | 3 => {
                self.trouble.cut.clear();
                "all links are mended".to_owned()
            }
            4 | 5 => {
                self.with(&id, Agent::crash);
                format!("the agent of {name} is killed")
            }
            6 => {
                self.with(&id, Agent::reboot);
                format!("{name} reboots")
            }
            7 => {
                self.with(&id, |a| a.active = false);
                format!("the service of {name} dies")
            }
            // autonomy starts it again
            8 | 9 => {
                self.with(&id, Agent::restart_service);
                format!("the service of {name} is started again")
            }
            10 => {
                if self.world.machines.remove(&id).is_some() {
                    self.world.agents.remove(&id);
                }
                format!("host {name} is lost")
            }
            11 => {
                self.trouble.no_room = !self.trouble.no_room;
                format!("hosts can be made: {}", !self.trouble.no_room)
            }
            12 => {
                self.trouble.operations = !self.trouble.operations;
                format!("operations fail: {}", self.trouble.operations)
            }
            13 => {
                let stage = Stage::ALL[self.dice.below(4)];
                self.trouble.failing.insert(id, stage);
                format!("{stage} fails on {name}")
            }
            14 => {
                self.trouble.slow.insert(id);
                format!("{name} is slow")
            }
            15 | 16 => {
                self.trouble.failing.clear();
                self.trouble.slow.clear();
                "nodes are well again".to_owned()
            }
            17 => {
                self.with(&id, Agent::drift);
                format!("{name} has drifted")
            }
            18 => self.clock(),
            _ => self.operation_lost(),
        };
        self.tell(|| what);
    }

    fn clock(&mut self) -> String {
        if self.dice.one_in(3) {
            let back = i64::try_from(self.dice.below(20_000)).expect("small");
            self.world.store.now_ms -= back;
            return format!("the clock jumps back {back} ms");
        }
        self.world.store.now_ms += 70_000;
        "the clock jumps by 70 s, or nobody is heard for so long".to_owned()
    }

    /// An operation expires before it began, or nobody knows how it ended.
    fn operation_lost(&mut self) -> String {
        let open: Vec<CommandId> = self.open_operations().map(|run| run.id.clone()).collect();
        let Some(id) = self.dice.pick(&open).cloned() else { return "nothing".to_owned() };
        let now = self.world.store.now_ms;
        let run = self.world.store.operations.iter_mut().find(|run| run.id == id).expect("it is open");
        let begun = |a: &Agent| a.commands.get(&id).is_some_and(|doing| *doing != Doing::Queued);
        let expires = run.standing == CommandStanding::Queued;
        run.standing = if expires { CommandStanding::Expired } else { CommandStanding::Unknown };
        run.ended_ms = Some(now);
        let text = format!("{} is {}", run.key, run.standing.name());
        // an agent does not begin what has expired; what it does not know of any more it never ends
        for agent in self.world.agents.values_mut().filter(|a| !begun(a) || !expires) {
            agent.commands.insert(id.clone(), Doing::Ended);
        }
        text
    }

    /// For a while everything goes well that is not in trouble.
    pub fn calm(&mut self) {
        for _ in 0..=self.dice.below(10) {
            self.world.store.now_ms += 1_000;
            self.turn();
            if self.world.forgotten {
                return;
            }
        }
    }
}
