//! A small language for stories: one command per line, and what the planner makes of it below.
//!
//! ```text
//! component NAME KIND SIZE [after OTHER] [max N]   part of the request
//! create | change TEXT | delete                    a job, and the wish it stands for
//! version COMPONENT V | option COMPONENT K V       another desired state
//! scripts COMMIT STAGE...                          a commit that changes the scripts of these stages
//! plan                                             plan, carry out, print what changed
//! up NODE... | enrol NODE... | gone NODE...        hosts and agents
//! take NODE... | run NODE... | step NODE...        the agent polls, runs all it may, runs one stage
//! beat NODE... | report NODE...                    the agent says how it is, what happened
//! leader NODE | kill NODE                          the truth about a service
//! forget NODE                                      the agent lost its ledger; the service is as it was
//! wait SECONDS                                     time
//! settle                                           everything works until nothing changes
//! why | job | view | unread COMPONENT TEXT         print; make the metadata unreadable
//!
//! cluster NAME KIND SIZE,... [after OTHER]         part of the request, of the types of `catalog.rs`
//! configure | upgrade | sync COMPONENT WHAT        a rollout; `at-once` without a canary
//! sync COMPONENT SCRIPTS on NODE...                scripts of these nodes alone
//! services stop|start|restart COMPONENT [NODE]
//! flexup COMPONENT N | flexdown COMPONENT NODE...
//! replace NODE | remove COMPONENT | pause JOB | resume JOB
//! round [N] | go | works                           the world goes on by itself; until nothing is new; untold
//! cut | slow | stuck | homeless NODE..., heal      in rounds: unheard, runs nothing, never enrols, gets no host
//! mute NODE | cure NODE                            whatever it is configured with, it does not work; it does
//! late NODE                                        "not yet" counts as a failure from now on
//! fails | undone VERB C/NODE, shows NODE FACT N    of operations; what `validate` finds out
//! ```
//! `*` stands for every node.

mod asks;

use crate::agent::Task;
use crate::fixture;
use crate::world::World;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use straas_planner::{OpenJob, Plan};
use straas_schemas::assignment::Assignment;
use straas_schemas::job::{Job, JobKind, Step};
use straas_schemas::{Gate, NodeId, Stage};

/// Runs of a stage that are told.
const TOLD: u32 = 3;

/// Tells a story and returns it with the planner's part in it.
pub fn tell(story: &str) -> String {
    let mut teller = Teller::new();
    for line in story.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let comment = line.starts_with('#');
        writeln!(teller.out, "{}{line}", if comment { "" } else { "> " }).expect("a string");
        if !comment {
            teller.command(&line.split_whitespace().collect::<Vec<_>>());
        }
    }
    teller.out
}

struct Teller {
    world: World,
    jobs: u32,
    out: String,
    /// Nodes that are not heard of in rounds.
    cut: BTreeSet<NodeId>,
    /// Nodes that run nothing in rounds.
    slow: BTreeSet<NodeId>,
    /// Nodes whose new hosts do not enrol.
    stuck: BTreeSet<NodeId>,
    /// Nodes for which no host can be made.
    homeless: BTreeSet<NodeId>,
    /// Keys of operations that fail, and of those that do not end.
    failing: BTreeSet<String>,
    undone: BTreeSet<String>,
}

impl Teller {
    fn new() -> Self {
        Self {
            world: World::new(fixture::input(Vec::new())),
            jobs: 0,
            out: String::new(),
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            stuck: BTreeSet::new(),
            homeless: BTreeSet::new(),
            failing: BTreeSet::new(),
            undone: BTreeSet::new(),
        }
    }

    fn command(&mut self, words: &[&str]) {
        if self.asks(words) {
            return;
        }
        match words {
            ["component", name, kind, size, rest @ ..] => {
                let after = match rest {
                    ["after", other, ..] => vec![*other],
                    _ => vec![],
                };
                let max = rest.iter().skip_while(|w| **w != "max").nth(1).map_or(1, |n| n.parse().expect("max N"));
                let size = size.parse().expect("a size");
                self.world.store.components.push(fixture::component(name, kind, size, &after, max));
            }
            ["create"] => self.job(JobKind::Create, "create t"),
            ["change", text @ ..] => self.job(JobKind::Change, &text.join(" ")),
            ["delete"] => {
                self.world.store.topology.deleting = true;
                self.job(JobKind::Delete, "delete t");
            }
            ["version", component, version] => self.component(component).target.version = (*version).to_owned(),
            ["option", component, key, value] => {
                let known = self.component(component).target.known.as_mut().expect("readable");
                for section in known.config.values_mut() {
                    section.insert((*key).to_owned(), json!(value));
                }
            }
            ["scripts", commit, stages @ ..] => {
                for component in &mut self.world.store.components {
                    component.target.scripts = format!("commit-{commit}");
                    let known = component.target.known.as_mut().expect("readable");
                    for script in known.scripts.values_mut() {
                        let new = fixture::scripts(commit);
                        script.extend(new.into_iter().filter(|(stage, _)| stages.contains(&stage.name())));
                    }
                }
            }
            ["unread", component, text @ ..] => self.component(component).target.known = Err(text.join(" ")),
            ["plan"] => {
                let plan = self.world.plan();
                self.print_plan(&plan);
            }
            ["wait", seconds] => self.world.store.now_ms += 1000 * seconds.parse::<i64>().expect("seconds"),
            ["settle"] => self.settle(),
            ["go"] => self.goes_on(),
            ["works"] => {
                let told = self.out.clone();
                self.goes_on();
                self.out = told;
            }
            ["homeless", names @ ..] => self.homeless.extend(self.nodes(names)),
            ["round"] => _ = self.round(),
            ["round", times] => (0..times.parse::<u32>().expect("a number")).for_each(|_| _ = self.round()),
            ["cut", names @ ..] => self.cut.extend(self.nodes(names)),
            ["slow", names @ ..] => self.slow.extend(self.nodes(names)),
            ["stuck", names @ ..] => self.stuck.extend(self.nodes(names)),
            ["heal"] => {
                let nodes = [&mut self.cut, &mut self.slow, &mut self.stuck, &mut self.homeless];
                nodes.into_iter().for_each(BTreeSet::clear);
                [&mut self.failing, &mut self.undone].into_iter().for_each(BTreeSet::clear);
            }
            ["fails", key @ ..] => drop(self.failing.insert(key.join(" "))),
            ["undone", key @ ..] => drop(self.undone.insert(key.join(" "))),
            ["shows", node, fact, value] => {
                let id = self.world.id(&format!("t-{node}"));
                let value = json!(value.parse::<u32>().expect("a number"));
                self.world.agents.get_mut(&id).expect("an agent").shows.insert((*fact).to_owned(), value);
            }
            ["why"] => self.why(),
            ["job"] => self.print_jobs(),
            ["view"] => {
                let view = straas_planner::view(&self.world.store);
                let components = view.components.iter().map(|c| format!("{} {:?}", c.name, c.status));
                let text = components.collect::<Vec<_>>().join(", ");
                self.say(&format!("{:?}: {text}", view.status));
            }
            [verb, names @ ..] => {
                for id in self.nodes(names) {
                    self.on_node(verb, &id);
                }
            }
            [] => {}
        }
    }

    fn component(&mut self, name: &str) -> &mut straas_planner::Component {
        self.world.store.components.iter_mut().find(|c| c.name == name).expect("a component")
    }

    fn job(&mut self, kind: JobKind, detail: &str) {
        self.jobs += 1;
        let created_ms = self.world.store.now_ms;
        let id = format!("job-{}", self.jobs).into();
        self.world.store.jobs.push(OpenJob { id, kind, component: None, detail: detail.to_owned(), created_ms });
    }

    fn nodes(&self, names: &[&str]) -> Vec<NodeId> {
        if names == ["*"] {
            return self.world.store.nodes.iter().map(|n| n.id.clone()).collect();
        }
        names.iter().map(|name| self.world.id(&format!("t-{name}"))).collect()
    }

    fn on_node(&mut self, verb: &str, id: &NodeId) {
        match verb {
            "up" => self.world.host_up(id),
            "gone" => self.world.host_gone(id),
            "enrol" => self.world.enrol(id),
            "take" => self.take(id),
            "run" => while self.stage(id) {},
            "step" => {
                self.stage(id);
            }
            "beat" => self.beat(id),
            "report" => self.report(id),
            "leader" => self.world.agents.get_mut(id).expect("an agent").leader = true,
            "kill" => {
                self.world.agents.get_mut(id).expect("an agent").active = false;
                self.look(id);
            }
            "look" => self.look(id),
            "forget" => {
                let agent = self.world.agents.get_mut(id).expect("an agent");
                agent.records.clear();
                (agent.assignment, agent.running, agent.seen) = (None, None, None);
                agent.starts += 1;
            }
            "cure" => self.world.agents.get_mut(id).expect("an agent").insane = false,
            "mute" => self.world.agents.get_mut(id).expect("an agent").insane = true,
            "late" => self.world.agents.get_mut(id).expect("an agent").late = true,
            other => panic!("no command {other:?}"),
        }
    }

    fn look(&mut self, id: &NodeId) {
        self.world.look(id);
    }

    fn take(&mut self, id: &NodeId) {
        let offer = self.world.node(id).and_then(|n| n.assignment.clone());
        if let (Some(offer), Some(agent)) = (offer, self.world.agents.get_mut(id)) {
            agent.offered(&offer);
            agent.confirm();
        }
    }

    /// One stage; whether it did anything and may go on.
    fn stage(&mut self, id: &NodeId) -> bool {
        self.world.begin(id);
        let done = self.world.finish(id);
        let Some(agent) = self.world.agents.get(id) else { return false };
        let Some(Task::Stage(stage)) = done else {
            let text = done.map(|task| format!("{}: its service {task:?}s", agent.name).to_lowercase());
            text.iter().for_each(|text| self.say(text));
            return done.is_some();
        };
        let (outcome, attempt) = (agent.records[&stage].outcome, agent.records[&stage].attempt);
        let word = outcome.map_or("?".to_owned(), |o| format!("{o:?}").to_lowercase());
        // what fails again and again is told three times
        if attempt <= TOLD {
            let text = format!("{}: {stage} {word}", agent.name);
            self.say(&text);
        }
        outcome == Some(straas_schemas::Outcome::Succeeded)
    }

    fn beat(&mut self, id: &NodeId) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let beat = agent.heartbeat();
        if let Some(ask) = &beat.asks {
            let text = format!("{}: asks for a permit for {}", agent.name, ask.stage);
            self.say(&text);
        }
        self.world.receive_heartbeat(id, beat);
    }

    fn report(&mut self, id: &NodeId) {
        let Some(agent) = self.world.agents.get(id) else { return };
        let (incarnation, reports) = (agent.incarnation, agent.outbox.clone());
        if let Some(acknowledged) = self.world.receive_reports(id, incarnation, &reports)
            && let Some(agent) = self.world.agents.get_mut(id)
        {
            agent.outbox.retain(|r| r.seq > acknowledged);
        }
    }

    fn settle(&mut self) {
        let before = self.world.written;
        let out = std::mem::take(&mut self.out);
        for _ in 0..60 {
            let plan = self.world.plan();
            for node in self.world.store.nodes.clone() {
                let wanted = plan.hosts.iter().any(|h| h.node == node.id);
                if plan.no_hosts.contains(&node.id) {
                    self.world.host_gone(&node.id);
                } else if wanted && !node.host.is_up() {
                    self.world.host_up(&node.id);
                    self.world.enrol(&node.id);
                }
                self.take(&node.id);
                for _ in 0..4 {
                    self.stage(&node.id);
                }
            }
            for id in self.nodes(&["*"]) {
                if self.world.agents.contains_key(&id) {
                    self.look(&id);
                }
                self.beat(&id);
                self.report(&id);
            }
        }
        self.out = out;
        self.say(&format!("{} assignments were written", self.world.written - before));
        let plan = self.world.plan();
        self.print_plan(&plan);
    }

    fn say(&mut self, text: &str) {
        writeln!(self.out, "    {text}").expect("a string");
    }

    fn name(&self, id: &NodeId) -> String {
        let node = self.world.store.nodes.iter().find(|n| n.id == *id);
        node.map_or_else(|| "(gone)".to_owned(), |n| n.name.clone())
    }

    fn print_plan(&mut self, plan: &Plan) {
        let mut lines = self.lines(plan);
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
        lines.iter().for_each(|line| self.say(line));
    }

    /// What a plan changes.
    fn lines(&self, plan: &Plan) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(plan.add_nodes.iter().map(|n| format!("+ node {}", n.name)));
        lines.extend(plan.forget_nodes.iter().map(|id| format!("- node {}", self.name(id))));
        let missing = |id: &NodeId| {
            self.world.store.nodes.iter().any(|n| n.id == *id && !n.host.is_up()) && !self.homeless.contains(id)
        };
        lines.extend(plan.hosts.iter().filter(|h| missing(&h.node)).map(|h| format!("+ host {}", h.name)));
        lines.extend(plan.no_hosts.iter().map(|id| format!("- host {}", self.name(id))));
        let mut assigned: Vec<_> = plan.assignments.iter().map(assigned).collect();
        assigned.sort();
        lines.extend(assigned);
        lines.extend(
            plan.operations.iter().map(|o| format!("{} is to do: {}, try {}", self.name(&o.node), o.key, o.attempt)),
        );
        lines
            .extend(plan.reverts.iter().map(|r| format!("{} is turned back: {}; {:?}", r.job, r.reason, r.quarantine)));
        lines.extend(plan.rolled_out.iter().map(|id| format!("{id} is rolled out")));
        lines.extend(plan.jobs.iter().filter(|j| j.standing.is_final()).map(|j| format!("{} {:?}", j.id, j.standing)));
        lines.extend(plan.forget_components.iter().map(|id| format!("- component {id}")));
        if plan.forget_topology {
            lines.push("- topology".to_owned());
        }
        lines
    }

    fn why(&mut self) {
        let view = straas_planner::view(&self.world.store);
        for node in view.components.iter().flat_map(|c| &c.nodes) {
            let evidence: Vec<String> = node.why.evidence.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
            self.say(&format!("{}: {:?}: {} {}", node.name, node.why.cause, node.why.text, evidence.join(" ")));
        }
    }

    fn print_jobs(&mut self) {
        for job in straas_planner::plan(&self.world.store).jobs {
            self.print_job(&job);
        }
    }

    fn print_job(&mut self, job: &Job) {
        self.say(&format!("{} {} {:?}", job.id, job.kind.name(), job.standing));
        for step in &job.steps {
            self.print_step(step);
        }
    }

    fn print_step(&mut self, step: &Step) {
        let waiting = step.waiting_for.as_ref().map(|w| format!("; waits: {w}")).unwrap_or_default();
        let after = step.after.join(", ");
        self.say(&format!(
            "  {:<16} {}/{} {:?} after [{after}]{waiting}",
            step.id, step.done, step.total, step.progress
        ));
        for node in step.nodes.iter().filter(|n| n.attempt > 0 && n.progress != straas_schemas::job::Progress::Done) {
            let retry = node.next_retry_ms.map(|at| format!(", next run at {at}")).unwrap_or_default();
            let (percent, output) = (node.percent, &node.output_tail);
            let text = format!("{}: {:?}, run {}: {}{retry}", node.name, node.progress, node.attempt, node.detail);
            self.say(&format!("      {text}{}", percent.map(|p| format!(", {p} %")).unwrap_or_default()));
            if !output.is_empty() {
                self.say(&format!("        {output} (hint: {})", node.hint.clone().unwrap_or_default()));
            }
        }
    }
}

/// A gate in words.
pub fn gate_word(gate: &Gate) -> String {
    match gate {
        Gate::Open => "open".to_owned(),
        Gate::Closed { why } => format!("closed ({why})"),
        Gate::Permit { granted: None } => "needs a permit".to_owned(),
        Gate::Permit { granted: Some(_) } => "PERMITTED".to_owned(),
    }
}

fn assigned(a: &Assignment) -> String {
    let gate = |stage| a.order(stage).map_or("none".to_owned(), |o| gate_word(&o.gate));
    format!("{} gets {}: pre_config {}, config {}", a.name, a.generation, gate(Stage::PreConfig), gate(Stage::Config))
}
