//! The faults stop: then everything becomes as it is wanted, in a bounded number of rounds.
//!
//! First as it is, only that what is paused goes on. A change that cannot work has to be turned
//! back by then, or its job stands and says why. Then somebody corrects what cannot work, and in
//! the end nothing is left to do and nothing left over.

use super::History;
use crate::catalog;
use crate::requests::{Options, ordinals};
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Component, Host, NodeWish, PlanInput, node_id};
use straas_schemas::command::CommandOutcome;
use straas_schemas::job::{JobKind, JobStanding};
use straas_schemas::view::{Cause, RolloutPhase, Standing};
use straas_schemas::{ComponentId, JobId, Lifecycle, NodeId, Outcome, Stage};

/// Rounds in which everything must come to rest: some for each node and stage, one after another.
const ROUNDS: u32 = 1_500;
/// Rounds in which nothing happens, after which nothing will: back-off ends in fewer.
const QUIET: u32 = 45;
/// What a round takes, and one after many in which nothing happened.
const ROUND_MS: i64 = 1_000;
const QUIET_MS: i64 = 10_000;

impl History {
    /// A round in which all goes well that is not in trouble. Whether anything happened.
    pub fn turn(&mut self) -> bool {
        let plan = self.planned();
        let moment = self.world.moment();
        let (written, jobs) = (self.world.written, self.world.store.jobs.len());
        self.carry_out(&plan, &moment, crate::carry::Life::LONG);
        let mut busy = self.world.written != written || self.world.store.jobs.len() != jobs;
        busy |= !plan.reverts.is_empty() || !plan.rolled_out.is_empty() || !plan.operations.is_empty();
        busy |= !plan.add_nodes.is_empty() || !plan.forget_nodes.is_empty() || !plan.forget_components.is_empty();
        for task in std::mem::take(&mut self.world.tasks) {
            busy = true;
            let fails = self.trouble.no_room;
            self.host_task(&task, fails);
        }
        self.world.expire();
        let ids: Vec<NodeId> = self.world.store.nodes.iter().map(|n| n.id.clone()).collect();
        for id in &ids {
            self.see_to(id);
            if !self.trouble.cut.contains(id) {
                busy |= self.visit(id);
            }
        }
        self.replicate();
        busy
    }

    fn visit(&mut self, id: &NodeId) -> bool {
        let offer = self.world.node(id).and_then(|n| n.assignment.clone());
        let orders: Vec<_> = self.open_operations().filter(|run| run.node == *id).map(|run| run.id.clone()).collect();
        let Some(agent) = self.world.agents.get_mut(id) else { return false };
        if let Some(offer) = offer.filter(|offer| offer.generation > agent.generation()) {
            agent.offered(&offer);
            let gates: Vec<_> = offer.stages.iter().map(|o| crate::script::gate_word(&o.gate)).collect();
            let words = (offer.version.clone(), offer.config.clone(), offer.scripts.clone());
            self.tell(|| format!("{} takes {}: {words:?} {gates:?}", offer.name, offer.generation));
        }
        let Some(agent) = self.world.agents.get_mut(id) else { return false };
        agent.restart_service();
        agent.confirm();
        let fails = self.trouble.operations;
        let outcome = if fails { CommandOutcome::Failed } else { CommandOutcome::Succeeded };
        let mut ended = Vec::new();
        for order in orders {
            let doing = agent.commands.get(&order).copied();
            if doing != Some(crate::agent::Doing::Ended) {
                agent.end_command(&order, outcome);
                ended.push(order);
            }
        }
        let name = agent.name.clone();
        let mut busy = !ended.is_empty();
        ended.iter().for_each(|order| self.command_ended(&name, order, outcome));
        // runs of different nodes overlap
        let running = self.world.agents.get(id).is_some_and(|a| a.running.is_some());
        if running && !self.trouble.slow.contains(id) && self.dice.one_in(2) {
            self.finish(id, false);
            busy |= self.progresses(id);
        } else if !running {
            self.begin(id);
        }
        self.look(id);
        let Some(agent) = self.world.agents.get_mut(id) else { return busy };
        let (beat, incarnation, reports) = (agent.heartbeat(), agent.incarnation, std::mem::take(&mut agent.outbox));
        self.world.receive_heartbeat(id, beat);
        self.world.receive_reports(id, incarnation, &reports);
        busy
    }

    /// Whether what ended last was news: what fails again and again is none.
    fn progresses(&self, id: &NodeId) -> bool {
        let Some(agent) = self.world.agents.get(id) else { return false };
        let next = agent.next().map_or(Stage::Validate, |(stage, _)| stage);
        agent.records.get(&next).is_none_or(|r| r.outcome == Some(Outcome::Succeeded) || r.attempt < 5)
    }

    /// Data is copied where all that should run does.
    fn replicate(&mut self) {
        let up = |id: &NodeId| self.world.agents.get(id).is_some_and(|a| a.active || a.halted || !a.ever_valid);
        let lagging = |c: &ComponentId| self.world.store.nodes.iter().any(|n| n.component == *c && !up(&n.id));
        let keep: BTreeSet<_> = self.ghost.lagging.iter().filter(|c| lagging(c)).cloned().collect();
        self.ghost.lagging = keep;
    }

    fn faults_stop(&mut self) {
        self.trouble = super::Trouble::default();
        self.flying.clear();
        self.plans.clear();
        // also the clock is right again: what was received before it jumped back counts until then
        let newest = self.world.store.nodes.iter().filter_map(|n| Some(n.heartbeat.as_ref()?.1)).max();
        self.world.store.now_ms = self.world.store.now_ms.max(newest.unwrap_or_default());
        self.tell(|| "nothing goes wrong any more".to_owned());
    }

    /// Rounds until nothing happens; whether everything is as wanted then.
    fn come_to_rest(&mut self) -> bool {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            self.world.store.now_ms += if quiet > 5 { QUIET_MS } else { ROUND_MS };
            let busy = self.turn();
            if self.world.forgotten {
                return true;
            }
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > 2 && self.at_rest() {
                return true;
            }
            if quiet > QUIET {
                return false;
            }
        }
        panic!("something happens for ever: {:#?}", causes(&self.world.store));
    }

    fn at_rest(&self) -> bool {
        self.world.store.jobs.is_empty()
            && causes(&self.world.store).values().all(|cause| *cause == Cause::Converged)
            && self.world.store.components.iter().all(|c| c.rollout.is_none() && !c.removed)
    }

    /// A topology that is made in peace.
    pub fn settle(&mut self) {
        self.faults_stop();
        let rests = self.come_to_rest();
        assert!(rests, "not at rest in peace: {:#?}", self.picture());
    }

    /// How it ends.
    pub fn rest(&mut self) {
        if !self.world.forgotten {
            self.faults_stop();
            let paused: Vec<JobId> = self.world.store.jobs.iter().map(|job| job.id.clone()).collect();
            for job in paused {
                let _ = self.world.pause(&job, false);
            }
            if !self.come_to_rest() {
                self.check_stuck();
                self.correct();
                let rests = self.come_to_rest();
                assert!(rests, "not at rest: {:#?}", self.picture());
            }
        }
        self.check_end();
    }

    /// What does not go on says why, and cannot go on.
    fn check_stuck(&mut self) {
        let view = straas_planner::view(&self.world.store);
        let picture = self.picture();
        for (component, shown) in self.world.store.components.iter().zip(&view.components) {
            let own = component.wishes.values().filter_map(|wish| wish.target.as_ref());
            let hopeless = own.chain([&component.target]).any(catalog::hopeless);
            let here = self.world.store.components.iter().filter(|c| component.depends_on.contains(&c.name));
            let made_of = |c: &Component| {
                let own = c.wishes.values().filter_map(|wish| wish.target.as_ref());
                own.chain([&c.target]).any(catalog::hopeless)
            };
            // while copies are owed nobody is disturbed, nor what they depend on: `check_settled` asks for it
            let owes = |c: &&Component| {
                let known = c.target.known.as_ref().expect("readable");
                c.depends_on.contains(&component.name) && !known.meta.disruption.settled.is_empty()
            };
            let owing = self.world.store.components.iter().filter(owes);
            let waits = here.clone().chain(owing).any(made_of);
            // one that stands still takes from the budget: nobody else may be disturbed
            let off = here.clone().chain([component]);
            let off = off.into_iter().any(|c| c.wishes.values().any(|wish| wish.lifecycle == Lifecycle::Stopped));
            let rests = shown.nodes.iter().all(|n| n.why.cause == Cause::Converged) && component.rollout.is_none();
            assert!(rests || hopeless || waits || off, "{} does not go on: {picture:#?}", component.name);
            let phase = shown.rollout.as_ref().map(|r| r.phase);
            assert!(
                phase != Some(RolloutPhase::Canary) || waits || off,
                "{}: the canary is on trial for ever: {picture:#?}",
                component.name
            );
        }
        for job in straas_planner::plan(&self.world.store).jobs {
            let says = matches!(job.standing, JobStanding::Held | JobStanding::Failing)
                || !causes(&self.world.store).is_empty();
            assert!(says && !job.standing.is_final(), "{} stands {:?}: {picture:#?}", job.id, job.standing);
        }
    }

    /// Somebody corrects what cannot work, and starts what others wait for.
    fn correct(&mut self) {
        let ids: Vec<ComponentId> = self.world.store.components.iter().map(|c| c.id.clone()).collect();
        for id in ids {
            let (job, number) = (self.job(), self.commit());
            let (version, config) = catalog::GOOD;
            let made = self.world.roll_out(&id, (&job, JobKind::Change), Options::default(), |want, own| {
                want.version = version.into();
                want.config = config.into();
                want.scripts = format!("s{number}");
                own.clear();
            });
            if made.is_some() {
                self.tell(|| format!("{job}: {id} is corrected"));
            }
            let job = self.job();
            if self.world.services(&id, None, JobKind::Start, &job).is_some() {
                self.tell(|| format!("{job}: {id} is started"));
            }
        }
    }

    /// How it must be in the end.
    fn check_end(&mut self) {
        let world = &self.world;
        assert!(world.store.jobs.is_empty(), "a job has no end");
        if world.store.topology.deleting {
            assert!(world.forgotten && world.agents.is_empty() && world.machines.is_empty(), "deletion left something");
            return;
        }
        for job in &world.ended {
            let fine =
                [JobStanding::Succeeded, JobStanding::Cancelled, JobStanding::RolledBack, JobStanding::Superseded];
            assert!(fine.contains(&job.standing), "{}: {:?}", job.id, job.standing);
        }
        let plan = straas_planner::plan(&world.store);
        assert!(plan.assignments.is_empty() && plan.granted.is_empty(), "a converged topology plans something");
        let mut wanted = BTreeSet::new();
        for component in &world.store.components {
            for group in &component.groups {
                for ordinal in ordinals(group) {
                    let id = node_id(&world.store.topology.id, &component.id, &group.name, ordinal);
                    self.check_node(component, &id);
                    wanted.insert(id);
                }
            }
        }
        let recorded: BTreeSet<NodeId> = world.store.nodes.iter().map(|n| n.id.clone()).collect();
        assert_eq!(recorded, wanted, "other nodes are recorded than wanted");
        assert_eq!(world.machines.keys().cloned().collect::<BTreeSet<_>>(), wanted, "other hosts run than wanted");
        assert_eq!(straas_planner::view(&world.store).status, self.status(), "the status at rest");
        self.check_members();
    }

    fn status(&self) -> Standing {
        let stopped = |c: &Component| c.wishes.values().any(|w| w.lifecycle == Lifecycle::Stopped);
        if self.world.store.components.iter().any(stopped) {
            straas_planner::view(&self.world.store).status
        } else {
            Standing::Active
        }
    }

    fn check_node(&self, component: &Component, id: &NodeId) {
        let agent = self.world.agents.get(id).unwrap_or_else(|| panic!("a wanted node has no agent: {id}"));
        let usual = NodeWish::default();
        let wish = component.wishes.get(id).unwrap_or(&usual);
        let target = wish.target.as_ref().unwrap_or(&component.target);
        let has = agent.assignment.as_ref().expect("it has an assignment");
        let made_of = (has.version.as_str(), has.config.as_str(), has.scripts.as_str());
        let name = &agent.name;
        assert_eq!(
            made_of,
            (target.version.as_str(), target.config.as_str(), target.scripts.as_str()),
            "{name} is made of something else"
        );
        assert_eq!((has.lifecycle, has.restarts), (wish.lifecycle, wish.restarts), "{name}: services");
        assert!(agent.next().is_none() && !agent.start_owed, "{name} is not done");
        let node = self.world.store.nodes.iter().find(|n| n.id == *id).expect("recorded");
        assert_eq!((&node.host, node.host_number >= wish.replacements), (&Host::Up, true), "{name}: its host");
        if wish.lifecycle == Lifecycle::Stopped {
            assert!(agent.halted && !agent.active, "{name} is not stopped");
        } else {
            assert!(agent.active && agent.ever_valid && !agent.disturbed && !agent.insane, "{name} does not work");
        }
    }

    /// What is shown to whoever looks for the reason.
    fn picture(&self) -> Vec<String> {
        let view = straas_planner::view(&self.world.store);
        let node = |n: straas_schemas::view::NodeView| format!("{}: {:?}: {}", n.name, n.why.cause, n.why.text);
        let mut out: Vec<String> = Vec::new();
        for component in view.components {
            out.push(format!("{} {:?}", component.name, component.rollout.map(|r| (r.phase, r.failed, r.canaries))));
            out.extend(component.nodes.into_iter().map(node));
        }
        let jobs = straas_planner::plan(&self.world.store).jobs;
        out.extend(jobs.into_iter().map(|j| format!("{} {} {:?}: {}", j.id, j.kind.name(), j.standing, j.detail)));
        out
    }
}

fn causes(store: &PlanInput) -> BTreeMap<String, Cause> {
    straas_planner::view(store).components.into_iter().flat_map(|c| c.nodes).map(|n| (n.name, n.why.cause)).collect()
}
