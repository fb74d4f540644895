//! What users ask for in stories, and rounds in which the world goes on by itself.

use super::Teller;
use crate::catalog;
use crate::requests::Options;
use straas_planner::{Host, Plan};
use straas_schemas::command::CommandOutcome;
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, JobId, NodeId};

/// Rounds after which a story that does not come to rest has gone on for ever.
const ROUNDS: u32 = 80;
/// Rounds without anything new after which there will be nothing new: longer than any look takes.
const QUIET: u32 = 8;

impl Teller {
    /// A request, if the words are one.
    pub fn asks(&mut self, words: &[&str]) -> bool {
        match words {
            ["cluster", name, kind, sizes, rest @ ..] => {
                let sizes: Vec<u32> = sizes.split(',').map(|n| n.parse().expect("sizes")).collect();
                let after = rest.strip_prefix(&["after"]).unwrap_or_default();
                self.world.store.components.push(catalog::component(name, kind, &sizes, after));
            }
            ["configure", name, config, rest @ ..] => {
                self.rolls(name, JobKind::Configure, rest, |t, _| t.config = (*config).to_owned());
            }
            ["upgrade", name, version, rest @ ..] => {
                self.rolls(name, JobKind::Upgrade, rest, |t, _| t.version = (*version).to_owned());
            }
            ["sync", name, scripts] => self.rolls(name, JobKind::Sync, &[], |t, _| t.scripts = (*scripts).to_owned()),
            ["sync", name, scripts, "on", nodes @ ..] => {
                let ids = self.nodes(nodes);
                let all = |id: NodeId| (id, (*scripts).to_owned());
                self.rolls(name, JobKind::Sync, &[], |_, own| own.extend(ids.into_iter().map(all)));
            }
            ["services", verb, name, nodes @ ..] => {
                let kind = match *verb {
                    "stop" => JobKind::Stop,
                    "start" => JobKind::Start,
                    _ => JobKind::Restart,
                };
                let (id, job) = (component(name), self.next_job());
                let only = nodes.first().map(|node| self.world.id(&format!("t-{node}")));
                let done = self.world.services(&id, only.as_ref(), kind, &job);
                self.answer(done);
            }
            ["flexup", name, count] => {
                let job = self.next_job();
                let done = self.world.flexup(&component(name), 0, count.parse().expect("a count"), &job);
                self.answer(done);
            }
            ["flexdown", name, nodes @ ..] => {
                let (ids, job) = (self.nodes(nodes), self.next_job());
                let done = self.world.flexdown(&component(name), &ids, &job);
                self.answer(done);
            }
            ["replace", node] => {
                let (id, job) = (self.world.id(&format!("t-{node}")), self.next_job());
                let done = self.world.replace(&id, &job);
                self.answer(done);
            }
            ["remove", name] => {
                let job = self.next_job();
                let done = self.world.remove(&component(name), &job);
                self.answer(done);
            }
            ["pause", job] => {
                let done = self.world.pause(&(*job).into(), true);
                self.answer(done);
            }
            ["resume", job] => {
                let done = self.world.pause(&(*job).into(), false);
                self.answer(done);
            }
            _ => return false,
        }
        true
    }

    fn rolls(
        &mut self,
        name: &str,
        kind: JobKind,
        rest: &[&str],
        change: impl FnOnce(&mut straas_planner::Target, &mut std::collections::BTreeMap<NodeId, String>),
    ) {
        let job = self.next_job();
        let canary = rest.contains(&"at-once").then_some(false);
        let done = self.world.roll_out(&component(name), (&job, kind), Options { canary, max_failures: None }, change);
        self.answer(done);
    }

    fn answer(&mut self, done: Option<()>) {
        if done.is_none() {
            self.say("refused");
        }
    }

    fn next_job(&mut self) -> JobId {
        self.jobs += 1;
        format!("job-{}", self.jobs).into()
    }

    /// Rounds until nothing is new.
    pub fn goes_on(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS {
            quiet = if self.round() { 0 } else { quiet + 1 };
            if quiet == QUIET {
                return;
            }
        }
        self.say("… and so on");
    }

    /// The controller plans and carries out, agents do all they may and say so. Whether anything
    /// was new.
    pub fn round(&mut self) -> bool {
        let before = self.out.len();
        self.world.store.now_ms += 1_000;
        let plan = self.world.plan();
        for line in self.lines(&plan) {
            self.say(&line);
        }
        self.hosts(&plan);
        for id in self.nodes(&["*"]) {
            if !self.cut.contains(&id) {
                self.take(&id);
                self.operations(&id);
            }
            if !self.slow.contains(&id) {
                while self.stage(&id) {}
            }
            let settled = self.world.meta_of(&id).map(|meta| meta.disruption.settled.clone()).unwrap_or_default();
            let Some(agent) = self.world.agents.get_mut(&id) else { continue };
            for (fact, value) in settled {
                agent.shows.entry(fact).or_insert(value);
            }
            self.world.look(&id);
            let Some(agent) = self.world.agents.get_mut(&id) else { continue };
            agent.confirm();
            let beat = agent.heartbeat();
            if !self.cut.contains(&id) {
                self.world.receive_heartbeat(&id, beat);
                self.report(&id);
            }
        }
        self.out.len() != before
    }

    fn hosts(&mut self, plan: &Plan) {
        for id in &plan.no_hosts {
            let number = self.world.node(id).map_or(0, |n| n.host_number);
            self.world.remove_host(id, number);
        }
        for wish in &plan.hosts {
            self.world.make_host(wish, self.homeless.contains(&wish.node));
            let up = self.world.node(&wish.node).is_some_and(|n| n.host == Host::Up);
            let enrolled = self.world.machines.get(&wish.node).is_some_and(|m| m.enrolled);
            if up && !enrolled && !self.stuck.contains(&wish.node) {
                self.world.enrol(&wish.node);
            }
        }
    }

    /// A node does the operations that it was asked for.
    fn operations(&mut self, id: &NodeId) {
        let open = self.world.store.operations.iter().filter(|run| run.node == *id && !run.standing.is_final());
        let open: Vec<_> = open.filter(|run| !self.undone.contains(&run.key)).cloned().collect();
        for run in open {
            let fails = self.failing.contains(&run.key);
            let outcome = if fails { CommandOutcome::Failed } else { CommandOutcome::Succeeded };
            let Some(agent) = self.world.agents.get_mut(id) else { continue };
            agent.end_command(&run.id, outcome);
            let text = format!("{}: {} {}", agent.name, run.key, if fails { "failed" } else { "is done" });
            self.say(&text);
        }
    }
}

fn component(name: &str) -> ComponentId {
    format!("c-{name}").into()
}
