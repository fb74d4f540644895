//! One history: what happens, one thing after another, as the dice say.
//!
//! Each step draws from dice of its own, so that a failure can be told without the steps that it
//! does not need (`story.rs`).

use crate::agent::Agent;
use crate::books::Shelf;
use crate::checks::Ghost;
use crate::controller::{Controller, Done, Site};
use crate::database::Database;
use crate::dice::Dice;
use crate::ground::{Ground, Machine};
use crate::homes::Home;
use crate::mutants::Mutant;
use crate::network::{Flying, Message};
use crate::story::Told;
use crate::zones::{Cuts, ZONES};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use straas_converge::{CommandPhase, Event};
use straas_schemas::{CommandId, NodeId, Stage};
use straas_store::NodeRecord;

/// The zero of all clocks, Unix ms.
const BEGIN_MS: i64 = 1_000_000_000;
/// Steps that one thing a controller does may take, to see that it does not go on for ever.
const STEPS_MAX: u32 = 10_000;

/// What goes wrong for a while.
#[derive(Default)]
pub struct Trouble {
    /// Nodes without a link.
    pub cut: BTreeSet<NodeId>,
    /// Operations fail.
    pub operations: bool,
    /// A stage fails on a node.
    pub failing: BTreeMap<NodeId, Stage>,
    /// Whatever a node runs does not end.
    pub slow: BTreeSet<NodeId>,
}

pub struct History {
    pub dice: Dice,
    pub site: Site,
    pub homes: Vec<Home>,
    pub controllers: Vec<Controller>,
    /// By the serial numbers of their hosts.
    pub agents: BTreeMap<u64, Agent>,
    pub flying: Vec<Flying>,
    pub trouble: Trouble,
    pub ghost: Ghost,
    /// Nothing goes wrong.
    pub peace: bool,
    /// When hosts and nodes are compared next, in peace.
    pub sweep_at: i64,
    pub jobs: u32,
    pub commits: u32,
    pub told: Told,
}

impl Site {
    pub fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
}

impl History {
    pub fn new(seed: u64, mutant: Option<Mutant>, tell: bool) -> Self {
        let mut dice = Dice::of(seed, u64::MAX);
        let cuts = Cuts::default();
        let site = Site {
            database: Arc::new(Database::new(&cuts, mutant)),
            ground: Ground::new(&cuts, mutant),
            cuts,
            shelf: Arc::new(Shelf::default()),
            now: Arc::new(AtomicI64::new(BEGIN_MS)),
            mutant,
        };
        site.ground.soil().enters = dice.one_in(2);
        let homes = Home::some(&mut dice);
        let controllers =
            (0..=dice.below(3)).map(|_| Controller::new(&site, ZONES[dice.below(ZONES.len())], 0)).collect();
        let mut this = Self {
            dice,
            site,
            homes,
            controllers,
            agents: BTreeMap::new(),
            flying: Vec::new(),
            trouble: Trouble::default(),
            ghost: Ghost::default(),
            peace: true,
            sweep_at: 0,
            jobs: 0,
            commits: 0,
            told: Told::new(tell),
        };
        match this.homes.len() {
            2 => this.told.count("two topologies"),
            3 => this.told.count("three topologies"),
            _ => {}
        }
        (0..this.homes.len()).for_each(|home| this.create(home));
        this
    }

    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        let at = self.site.now() - BEGIN_MS;
        self.told.tell(|| format!("{:>6}.{:03} {}", at / 1000, at.rem_euclid(1000), text()));
    }

    /// A topology in a word.
    pub fn label(&self, home: usize) -> String {
        format!("{}@{}", self.homes[home].name, self.homes[home].zone)
    }

    pub fn now(&self) -> i64 {
        self.site.now()
    }

    pub fn pass(&self, ms: i64) {
        self.site.now.fetch_add(ms, Ordering::Relaxed);
    }

    /// Whether everybody who asks the database or the provider gives others a turn.
    pub fn set_pauses(&self, pauses: bool) {
        self.site.database.book().pauses = pauses;
        self.site.ground.soil().pauses = pauses;
    }

    pub fn name(&self, id: &NodeId) -> String {
        let record = self.site.database.book().nodes.get(id).cloned();
        let home = |record: &NodeRecord| self.homes.iter().position(|home| home.id == record.topology);
        let label = record.and_then(|record| Some(self.told_as(home(&record)?, &record.name)));
        label.unwrap_or_else(|| format!("({id})"))
    }

    /// Some host.
    pub fn host(&mut self) -> Option<u64> {
        let hosts: Vec<u64> = self.agents.keys().copied().collect();
        self.dice.pick(&hosts).copied()
    }

    /// One thing happens.
    pub fn step(&mut self) {
        self.peace = false;
        self.set_pauses(true);
        let ms = i64::try_from(self.dice.below(400)).expect("small");
        self.pass(ms);
        match self.dice.below(100) {
            0..22 => {
                let (at, twice) = (self.dice.below(self.flying.len()), self.dice.one_in(6));
                if self.dice.one_in(8) && at < self.flying.len() {
                    self.flying.swap_remove(at);
                } else {
                    let to = self.dice.below(self.controllers.len());
                    self.deliver(at, twice, to);
                }
            }
            22..48 => self.some_controller_goes_on(),
            48..58 => self.some_controller_begins(),
            58..74 => self.work(),
            74..88 => {
                if let Some(host) = self.host().filter(|host| !self.is_cut(*host)) {
                    let what = self.dice.below(3);
                    self.talk(host, what);
                }
            }
            88..92 => self.accident(),
            92..96 => self.calm(),
            _ => self.wish(),
        }
    }

    /// One thing that a controller does goes on for some steps.
    fn some_controller_goes_on(&mut self) {
        let at = self.dice.below(self.controllers.len());
        let tasks = self.controllers[at].tasks.len();
        if tasks == 0 {
            return;
        }
        let task = self.dice.below(tasks);
        for _ in 0..=self.dice.below(6) {
            if self.controllers[at].tasks.len() != tasks {
                break;
            }
            self.go_on(at, task);
        }
    }

    /// A step of a controller, and what comes of it.
    fn go_on(&mut self, at: usize, task: usize) {
        let done = self.controllers[at].go_on(task);
        match done {
            Done::Answer(host, answer) => {
                let now = self.now();
                self.flying.push(Flying(now, Message::Answer(host, at, answer)));
            }
            Done::Told(job, text) => {
                self.ghost.confirmed.insert(job.clone());
                self.tell(|| format!("{job}: {text}"));
            }
            _ => {}
        }
        self.hosts_changed();
    }

    /// Hosts that were made get an agent, and those that were removed take theirs along.
    pub fn hosts_changed(&mut self) {
        let machines = {
            let soil = self.site.ground.soil();
            let same = soil.machines.len() == self.agents.len()
                && soil.machines.values().all(|machine| self.agents.contains_key(&machine.serial));
            if same {
                return;
            }
            soil.machines.clone()
        };
        let gone: Vec<u64> =
            self.agents.keys().filter(|host| machines.values().all(|m| m.serial != **host)).copied().collect();
        for host in gone {
            let node = self.agents[&host].node.clone();
            let truth = &self.agents[&host].truth;
            let worked = truth.active && truth.ever_valid;
            self.check_gone(host);
            if worked && self.is_wanted(&node) && self.seems_well(&node) && !self.lost(host) {
                self.ghost.taken.insert(node.clone());
            }
            let agent = self.agents.remove(&host);
            self.host_gone(agent.expect("it is there"));
            let name = self.name(&node);
            self.tell(|| format!("the host of {name} is gone"));
        }
        for (node, machine) in machines {
            if !self.agents.contains_key(&machine.serial) {
                let agent = self.enters(node.into(), machine);
                let name = agent.label.clone();
                self.tell(|| format!("{name} has a host"));
                self.agents.insert(agent.machine.serial, agent);
            }
        }
    }

    /// A host begins.
    fn enters(&self, node: NodeId, machine: Machine) -> Agent {
        let of = self.site.database.book().nodes.get(&node).map(|record| record.topology.clone());
        let at = self.homes.iter().position(|home| of.as_ref() == Some(&home.id));
        let at = at.unwrap_or_else(|| panic!("a host for nobody: {}", machine.name));
        let (home, label) = (&self.homes[at], self.told_as(at, &machine.name));
        assert_eq!(machine.zone, home.zone, "a host in another zone: {}", machine.name);
        let number = self.site.database.node(&node).map_or(0, |node| node.host.number);
        Agent::new(node, (home.id.clone(), label), machine, number, self.site.mutant)
    }

    /// Whether a node works by what is known of it.
    fn seems_well(&self, node: &NodeId) -> bool {
        use straas_schemas::heartbeat::ServiceStatus;
        let timing = self.controllers[0].engine.settings.timing("az1");
        let heard = self.site.database.node(node).and_then(|node| node.heartbeat);
        heard.is_some_and(|(beat, at)| {
            self.now() - at < i64::from(timing.unreachable_after_ms) && beat.service == ServiceStatus::Active
        })
    }

    fn lost(&self, host: u64) -> bool {
        self.ghost.lost.contains(&host)
    }

    fn some_controller_begins(&mut self) {
        let at = self.dice.below(self.controllers.len());
        self.controllers[at].time_passed();
        if !self.controllers[at].up || self.controllers[at].tasks.len() > 12 {
            return;
        }
        match self.dice.below(8) {
            0..5 => {
                let home = self.dice.below(self.homes.len());
                self.look(at, home);
            }
            5 => self.controllers[at].beats(),
            6 => self.controllers[at].commands(),
            _ => self.controllers[at].sweep(true),
        }
    }

    pub fn look(&mut self, at: usize, home: usize) {
        let topology = self.homes[home].id.clone();
        self.controllers[at].look(&topology);
    }

    /// Something goes on on a host.
    fn work(&mut self) {
        let Some(host) = self.host() else { return };
        let (now, peace) = (self.now(), self.peace);
        let agent = &self.agents[&host];
        let slow = self.trouble.slow.contains(&agent.node) && !self.dice.one_in(12);
        let command = agent.commands.keys().next().copied();
        if !agent.queue.is_empty() {
            for _ in 0..=self.dice.below(4) {
                self.act(host);
            }
        } else if let Some(run) = command.filter(|_| self.dice.one_in(2)) {
            let fails = self.trouble.operations || self.dice.one_in(8);
            self.finish_command(host, run, fails);
        } else if agent.fetching.is_some() {
            let fails = self.is_cut(host) || self.dice.one_in(8);
            self.fetched(host, fails);
        } else if agent.running.is_some() && !slow {
            let fails = !peace && self.dice.one_in(14);
            self.finish(host, fails);
        } else if agent.wake.is_some_and(|at| at <= now) {
            self.with(host, |agent| agent.wake = None);
            self.hand(host, Event::Tick);
        } else {
            let what = self.dice.below(3);
            if !self.is_cut(host) {
                self.talk(host, what);
            }
        }
    }

    /// An agent is killed, or its host reboots.
    pub fn crash(&mut self, host: u64, reboot: bool) {
        let (now, mutant) = (self.now(), self.site.mutant);
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let begun = |record: &&straas_converge::CommandRecord| matches!(record.phase, CommandPhase::Begun { .. });
        let begun: Vec<CommandId> = agent.disk.commands.values().filter(begun).map(|r| r.id.clone()).collect();
        if !agent.queue.is_empty() || agent.running.is_some() || !agent.commands.is_empty() {
            self.told.count("an agent dies in the middle");
        }
        agent.crash(reboot, now, mutant);
        self.check_crashed(host, begun);
    }

    /// All that controllers do comes to its end.
    pub fn run_controllers(&mut self) {
        for at in 0..self.controllers.len() {
            let mut steps = 0;
            while !self.controllers[at].tasks.is_empty() {
                self.go_on(at, 0);
                steps += 1;
                assert!(steps < STEPS_MAX, "a controller goes on for ever");
            }
        }
    }
}
