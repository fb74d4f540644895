//! The faults stop: then everything becomes as it is wanted, in a bounded number of rounds.
//!
//! First as it is, only that what is paused goes on. A change that cannot work has to be turned back
//! by then, or its job stands and says why. Then somebody corrects what cannot work, and in the end
//! nothing is left to do and nothing left over.

use crate::catalog;
use crate::controller::Controller;
use crate::history::History;
use crate::turns::at_once;
use straas_controller::parts;
use straas_converge::Event;
use straas_planner::PlanInput;
use straas_schemas::Lifecycle;
use straas_schemas::view::Cause;

/// Rounds in which everything must come to rest: some for each node and stage, one after another.
const ROUNDS: u32 = 1_200;
/// Rounds in which nothing happens, after which nothing will: back-off and deadlines end in fewer.
const QUIET: u32 = 45;
/// What a round takes, in ms: at first, after some in which nothing happened, and after many.
const ROUND_MS: [i64; 3] = [1_000, 10_000, 40_000];
/// So often hosts and nodes are compared, in ms.
const SWEEP_MS: i64 = 15_000;
/// Heartbeats go so often, in ms.
const BEAT_MS: i64 = 5_000;

impl History {
    /// A round in which all goes well that is not in trouble. Whether anything happened.
    pub fn turn(&mut self, ms: i64) -> bool {
        self.peace = true;
        self.set_pauses(false);
        let last = self.now();
        self.pass(ms);
        let now = self.now();
        let writes = self.site.database.book().writes;
        let sweep = self.sweep_at <= now;
        if sweep {
            self.sweep_at = now + SWEEP_MS;
        }
        self.run_controllers();
        for at in 0..self.controllers.len() {
            self.controllers[at].time_passed();
            if !self.controllers[at].up {
                continue;
            }
            if sweep {
                // looking at everything is the chore of one
                let chore = (0..at).all(|other| !self.controllers[other].up || !self.has_database(other));
                self.controllers[at].sweep(chore);
            }
            self.controllers[at].commands();
            self.controllers[at].beats();
            self.run_controllers();
            let woken = self.controllers[at].woken();
            for home in 0..self.homes.len() {
                let topology = &self.homes[home].id;
                if woken.contains(topology) || self.controllers[at].is_due(topology) {
                    self.look(at, home);
                }
            }
        }
        self.run_controllers();
        let cuts = &self.site.cuts;
        let waits = |controller: &Controller| controller.waiting.iter().any(|(_, due)| !cuts.has(&due.zone));
        let mut busy = self.controllers.iter().any(|controller| !cuts.has(controller.zone) && waits(controller));
        let hosts: Vec<u64> = self.agents.keys().copied().collect();
        for host in &hosts {
            busy |= self.visit(*host, now / BEAT_MS != last / BEAT_MS);
        }
        // first what is asked, then what is answered
        for _ in 0..2 {
            for flying in std::mem::take(&mut self.flying) {
                let turn = usize::try_from(self.now().unsigned_abs() / 1_000).expect("small");
                if let Some(to) = self.door_of(flying.1.host(), turn) {
                    self.arrives(flying, to);
                }
            }
            self.run_controllers();
        }
        self.set_pauses(false);
        busy || self.site.database.book().writes != writes
    }

    /// An agent gets on with all it has to do, and says what it has to say.
    fn visit(&mut self, host: u64, beat: bool) -> bool {
        self.drain(host);
        let Some(agent) = self.agents.get(&host) else { return false };
        let (now, node) = (self.now(), agent.node.clone());
        let open = !self.site.cuts.has(&agent.machine.zone);
        let busy = open && (agent.incarnation.is_none() || !agent.commands.is_empty());
        if agent.fetching.is_some() {
            self.fetched(host, self.is_cut(host));
        }
        let commands: Vec<_> = self.agents[&host].commands.keys().copied().collect();
        for run in commands {
            let fails = self.trouble.operations;
            self.finish_command(host, run, fails);
        }
        if !self.trouble.slow.contains(&node) {
            self.finish(host, false);
        }
        if self.agents[&host].wake.is_some_and(|at| at <= now) {
            self.with(host, |agent| agent.wake = None);
            self.hand(host, Event::Tick);
        }
        self.drain(host);
        if self.is_cut(host) {
            return busy;
        }
        let agent = &self.agents[&host];
        let (enrolled, due) = (agent.incarnation.is_some(), agent.beat || beat);
        let generation = agent.written().generation();
        let news = self.controllers.iter().any(|controller| {
            controller
                .engine
                .fleet
                .get(&node)
                .is_some_and(|slot| slot.offer.is_some_and(|offer| offer.generation > generation) || slot.look > 0)
        });
        let waiting = self.site.database.has_waiting(&node);
        if !enrolled || news || waiting {
            self.talk(host, 0);
        }
        if enrolled {
            self.talk(host, 1);
        }
        if enrolled && due {
            self.talk(host, 2);
        }
        busy
    }

    /// A topology that is made in peace.
    pub fn settle(&mut self) {
        let rests = self.come_to_rest();
        assert!(rests, "not at rest in peace: {:#?}", self.picture());
    }

    /// How it ends.
    pub fn rest(&mut self) {
        self.faults_stop();
        self.turn(ROUND_MS[0]);
        self.go_on_with_all();
        self.others_go_on();
        if !self.come_to_rest() {
            (0..self.homes.len()).for_each(|home| self.check_stuck(home));
            self.correct();
            let rests = self.come_to_rest();
            assert!(rests, "not at rest: {:#?}", self.picture());
        }
        self.check_end();
    }

    /// One zone stays cut off at first: whatever is blocked there holds up nobody elsewhere.
    fn others_go_on(&mut self) {
        let zone = self.some_zone();
        let apart = |other: &str| other != zone;
        let both = self.homes.iter().any(|home| apart(home.zone)) && self.homes.iter().any(|home| !apart(home.zone));
        if !both || !self.controllers.iter().any(|controller| apart(controller.zone)) || self.dice.one_in(2) {
            return;
        }
        self.cut_off(zone);
        self.told.count("a topology goes on while another one is cut off");
        self.tell(|| format!("but that {zone} is cut off still"));
        if !self.come_to_rest() {
            let homes: Vec<usize> = self.open_homes().collect();
            homes.into_iter().for_each(|home| self.check_stuck(home));
        }
        self.site.cuts.mend();
        self.tell(|| format!("{zone} is cut off no more"));
    }

    /// The topologies whose zones are not cut off.
    fn open_homes(&self) -> impl Iterator<Item = usize> {
        (0..self.homes.len()).filter(|home| !self.site.cuts.has(self.homes[*home].zone))
    }

    fn come_to_rest(&mut self) -> bool {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            let ms = if quiet > 15 { ROUND_MS[2] } else { ROUND_MS[usize::from(quiet > 5)] };
            let busy = self.turn(ms);
            quiet = if busy { 0 } else { quiet + 1 };
            if self.controllers.iter().all(|controller| controller.tasks.is_empty())
                && self.open_homes().all(|home| self.is_forgotten(home) || (quiet > 2 && self.at_rest(home)))
            {
                return true;
            }
            if quiet > QUIET {
                return false;
            }
        }
        panic!("not at rest, something happens for ever: {:#?}", self.picture());
    }

    fn is_forgotten(&self, home: usize) -> bool {
        let id = &self.homes[home].id;
        self.site.database.topology(id).is_none() && self.agents.values().all(|agent| agent.topology != *id)
    }

    /// What would be planned now.
    pub fn input(&self, home: usize) -> Option<PlanInput> {
        let up = (0..self.controllers.len()).find(|at| self.controllers[*at].up && self.has_database(*at))?;
        at_once(parts::take(&self.controllers[up].engine, &self.homes[home].id)).expect("it can be read")
    }

    fn at_rest(&self, home: usize) -> bool {
        let Some(input) = self.input(home) else { return false };
        // what died or was lost since anybody looked is found out in the end
        let agents = self.agents.values().filter(|agent| agent.topology == self.homes[home].id);
        let truths: Vec<_> = agents.map(|agent| &agent.truth).collect();
        input.jobs.is_empty()
            && input.nodes.len() == truths.len()
            && truths.into_iter().all(|truth| (truth.active && !truth.disturbed) || truth.halted)
            && input.components.iter().all(|c| c.rollout.is_none() && !c.removed)
            && straas_planner::view(&input)
                .components
                .iter()
                .flat_map(|c| &c.nodes)
                .all(|node| node.why.cause == Cause::Converged)
    }

    /// What does not go on says why, and cannot go on.
    fn check_stuck(&self, home: usize) {
        let Some(input) = self.input(home) else { return };
        let view = straas_planner::view(&input);
        for (component, shown) in input.components.iter().zip(&view.components) {
            let own = |c: &straas_planner::Component| {
                let own = c.wishes.values().filter_map(|wish| wish.target.as_ref());
                own.chain([&c.target]).any(catalog::hopeless)
            };
            let here = || input.components.iter().filter(|c| component.depends_on.contains(&c.name));
            // while copies are owed nobody is disturbed, nor what they depend on
            let owes = |c: &&straas_planner::Component| {
                let known = c.target.known.as_ref().expect("readable");
                c.depends_on.contains(&component.name) && !known.meta.disruption.settled.is_empty()
            };
            let waits = here().chain(input.components.iter().filter(owes)).any(own);
            // one that stands still takes from the budget: nobody else may be disturbed
            let off = here().chain([component]).any(|c| c.wishes.values().any(|w| w.lifecycle == Lifecycle::Stopped));
            let rests = shown.nodes.iter().all(|n| n.why.cause == Cause::Converged) && component.rollout.is_none();
            let excused = rests || own(component) || waits || off;
            assert!(excused, "not at rest: {} does not go on: {:#?}", component.name, self.picture());
        }
    }

    /// What is shown to whoever looks for the reason.
    pub fn picture(&self) -> Vec<String> {
        (0..self.homes.len()).flat_map(|home| self.picture_of(home)).collect()
    }

    fn picture_of(&self, home: usize) -> Vec<String> {
        let name = self.label(home);
        let Some(input) = self.input(home) else { return vec![format!("{name}: nobody is up, or it is no more")] };
        let view = straas_planner::view(&input);
        let mut out: Vec<String> = vec![name];
        for component in view.components {
            out.push(format!("{} {:?}", component.name, component.rollout.map(|r| (r.phase, r.failed, r.canaries))));
            let node = |n: straas_schemas::view::NodeView| format!("{}: {:?}: {}", n.name, n.why.cause, n.why.text);
            out.extend(component.nodes.into_iter().map(node));
        }
        let jobs = straas_planner::plan(&input).jobs;
        out.extend(jobs.into_iter().map(|j| format!("{} {} {:?}: {}", j.id, j.kind.name(), j.standing, j.detail)));
        out
    }
}
