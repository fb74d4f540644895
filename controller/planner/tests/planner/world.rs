//! The world around the planner: what is recorded (a store that does as the real one), and what
//! really is (hosts and agents). It checks the invariants that speak of what really happens.

use crate::agent::{Agent, Task};
use crate::carry::{HostTask, Undo};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Host, Node, PlanInput, Quarantined};
use straas_schemas::command::CommandStanding;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::Job;
use straas_schemas::metadata::{ComponentMeta, Membership};
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{ComponentId, Digest, JobId, NodeId, Outcome, Stage};

/// A host as it really is.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Which replacement it was made as.
    pub number: u32,
    /// Its agent has enrolled once: the join token is spent.
    pub enrolled: bool,
}

/// Everything.
pub struct World {
    /// What is recorded.
    pub store: PlanInput,
    /// What really is, by node.
    pub agents: BTreeMap<NodeId, Agent>,
    /// Hosts that really are, with agents or without.
    pub machines: BTreeMap<NodeId, Machine>,
    /// Work on hosts that goes on in the background.
    pub tasks: Vec<HostTask>,
    /// What undoes open jobs.
    pub undo: BTreeMap<JobId, Undo>,
    /// Scripts of single nodes before the rollout of their component.
    pub own_before: BTreeMap<ComponentId, BTreeMap<NodeId, String>>,
    /// What nobody should get any more.
    pub quarantine: BTreeSet<Quarantined>,
    /// Jobs that have ended.
    pub ended: Vec<Job>,
    /// The topology was forgotten.
    pub forgotten: bool,
    /// Assignments written so far.
    pub written: u64,
    /// Nodes whose hosts were taken away while they worked, for another one.
    pub taken: BTreeSet<NodeId>,
    /// Nodes that were known to have worked, on any host.
    pub served: BTreeSet<NodeId>,
    addresses: u32,
    seen: BTreeMap<NodeId, (u64, BTreeSet<u64>)>,
    stage_keys: BTreeMap<(NodeId, Stage), (u64, u64)>,
}

impl World {
    pub fn new(store: PlanInput) -> Self {
        Self {
            store,
            agents: BTreeMap::new(),
            machines: BTreeMap::new(),
            tasks: Vec::new(),
            undo: BTreeMap::new(),
            own_before: BTreeMap::new(),
            quarantine: BTreeSet::new(),
            ended: Vec::new(),
            forgotten: false,
            written: 0,
            taken: BTreeSet::new(),
            served: BTreeSet::new(),
            addresses: 0,
            seen: BTreeMap::new(),
            stage_keys: BTreeMap::new(),
        }
    }

    pub fn id(&self, name: &str) -> NodeId {
        let node = self.store.nodes.iter().find(|n| n.name == name);
        node.unwrap_or_else(|| panic!("no node {name}")).id.clone()
    }

    pub fn node(&mut self, id: &NodeId) -> Option<&mut Node> {
        self.store.nodes.iter_mut().find(|n| n.id == *id)
    }

    /// The provider makes the host.
    pub fn host_up(&mut self, id: &NodeId) {
        self.addresses += 1;
        let address = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        let Some(node) = self.node(id) else { return };
        node.host = Host::Up;
        node.address = Some(address);
        let number = node.host_number;
        self.machines.entry(id.clone()).or_insert(Machine { number, ..Machine::default() });
    }

    /// The host is gone, and the provider says so.
    pub fn host_gone(&mut self, id: &NodeId) {
        self.machines.remove(id);
        self.agents.remove(id);
        self.host_absent(id);
    }

    /// It is noticed that the host is gone.
    pub fn host_absent(&mut self, id: &NodeId) {
        let now = self.store.now_ms;
        let Some(node) = self.node(id) else { return };
        node.host = Host::Absent;
        node.host_changed_ms = now;
        node.address = None;
        if node.enrolled {
            self.next_incarnation(id);
        }
    }

    /// What was observed of an earlier host is cleared.
    pub fn next_incarnation(&mut self, id: &NodeId) {
        let Some(node) = self.node(id) else { return };
        node.incarnation += 1;
        node.enrolled = false;
        node.converged_generation = 0;
        node.worked = false;
        node.stages.clear();
        node.refused = None;
        node.heartbeat = None;
        self.stage_keys.retain(|(of, _), _| of != id);
        self.seen.remove(id);
    }

    /// The agent on a new host enrols.
    pub fn enrol(&mut self, id: &NodeId) {
        self.next_incarnation(id);
        let Some(node) = self.node(id) else { return };
        node.enrolled = true;
        let agent = Agent::fresh(&node.name, node.incarnation);
        // what the earlier one had begun, nobody will hear of
        let lost = |run: &&mut straas_planner::OperationRun| run.node == *id && !run.standing.is_final();
        let now = self.store.now_ms;
        for run in self.store.operations.iter_mut().filter(lost).filter(|_| agent.incarnation > 1) {
            (run.standing, run.ended_ms) = (CommandStanding::Unknown, Some(now));
        }
        self.machines.entry(id.clone()).or_default().enrolled = true;
        self.agents.insert(id.clone(), agent);
    }

    /// What nobody begins is over at its deadline: on a host that is gone nobody does.
    pub fn expire(&mut self) {
        let (now, agents) = (self.store.now_ms, &self.agents);
        let open = self.store.operations.iter_mut().filter(|run| !run.standing.is_final());
        for run in open.filter(|run| !agents.contains_key(&run.node)) {
            (run.standing, run.ended_ms) = (CommandStanding::Expired, Some(now));
        }
    }

    pub fn receive_heartbeat(&mut self, id: &NodeId, beat: Heartbeat) {
        let now = self.store.now_ms;
        let Some(node) = self.node(id) else { return };
        let newer = |(old, at): &(Heartbeat, i64)| now >= *at && !(old.run == beat.run && beat.beat < old.beat);
        if beat.incarnation == node.incarnation && node.heartbeat.as_ref().is_none_or(newer) {
            node.heartbeat = Some((beat, now));
        }
    }

    /// Records reports as the store does; returns the acknowledgement.
    pub fn receive_reports(&mut self, id: &NodeId, incarnation: u64, reports: &[Report]) -> Option<u64> {
        let now = self.store.now_ms;
        let node = self.store.nodes.iter_mut().find(|n| n.id == *id)?;
        if node.incarnation != incarnation {
            return None;
        }
        let (of, seen) = self.seen.entry(id.clone()).or_default();
        if *of != incarnation {
            (*of, *seen) = (incarnation, BTreeSet::new());
        }
        for report in reports {
            if !seen.insert(report.seq) {
                continue;
            }
            match &report.body {
                ReportBody::Stage(result) => {
                    if result.shows_work() {
                        node.worked = true;
                        self.served.insert(id.clone());
                    }
                    let key = (result.generation, report.seq);
                    let old = self.stage_keys.entry((id.clone(), result.stage)).or_default();
                    if key.0 >= old.0 && key.1 >= old.1 {
                        *old = key;
                        node.stages.insert(result.stage, (result.clone(), now));
                    }
                }
                ReportBody::Converged { generation } => {
                    node.converged_generation = node.converged_generation.max(*generation);
                }
                ReportBody::Refused { offered, reason, .. } => node.refused = Some((*offered, reason.clone())),
                ReportBody::Command(end) => {
                    for run in self.store.operations.iter_mut().filter(|run| run.id == end.id) {
                        run.standing = end.outcome.into();
                        run.reason.clone_from(&end.reason);
                        run.ended_ms = Some(now);
                    }
                }
                ReportBody::Drift(_) | ReportBody::LedgerLost { .. } => {}
            }
        }
        reports.last().map(|r| r.seq)
    }

    /// The agent begins what it may, and the world checks that it really may.
    pub fn begin(&mut self, id: &NodeId) -> Option<Task> {
        let agent = self.agents.get_mut(id)?;
        let worked = agent.active && agent.ever_valid;
        let task = agent.begin()?;
        if task == Task::Stop && worked && self.is_replaced(id) {
            self.taken.insert(id.clone());
        }
        match task {
            Task::Stop => self.check_disturbed(),
            Task::Stage(Stage::PreConfig) => self.check_dependencies(id),
            Task::Stage(Stage::Config | Stage::Install) => self.check_disturbed(),
            _ => {}
        }
        Some(task)
    }

    fn check_dependencies(&self, id: &NodeId) {
        let agent = &self.agents[id];
        let assignment = agent.assignment.as_ref().expect("it runs");
        let unknown = |nodes: &Value| nodes.as_array().into_iter().flatten().any(|n| n["address"].is_null());
        let context = &assignment.context;
        assert!(context["node"]["address"].is_string(), "{}: pre_config without an address of its own", agent.name);
        assert!(!unknown(&context["peers"]), "{}: pre_config without the addresses of its peers", agent.name);
        let dependencies = context["dependencies"].as_object().expect("an object");
        for (name, dependency) in dependencies {
            for node in dependency["nodes"].as_array().expect("an array") {
                let other = self.agents.values().find(|a| Some(a.name.as_str()) == node["name"].as_str());
                // a host that is away at the moment worked when the gate was opened
                let worked = other.is_none_or(|a| a.ever_valid || a.incarnation > 1);
                assert!(worked, "{}: pre_config before {name} worked on {}", agent.name, node["name"]);
            }
        }
    }

    fn check_disturbed(&self) {
        for component in &self.store.components {
            let Ok(knowledge) = &component.target.known else { continue };
            let max = knowledge.meta.disruption.max_unavailable as usize;
            let disturbed = self.down_by_us(&component.id);
            assert!(disturbed.len() <= max, "{}: {disturbed:?} are disturbed at once, {max} may be", component.name);
        }
    }

    /// Nodes of a component that do not work because of us: configured anew, or given another host.
    pub fn down_by_us(&self, component: &ComponentId) -> Vec<String> {
        let ours = |node: &&Node| {
            let agent = self.agents.get(&node.id);
            agent.is_some_and(|a| a.disturbed)
                // one that leaves without the host it worked on is configured no more: whoever waited for it
                // did so for ever
                || (self.taken.contains(&node.id)
                    && (self.is_wanted(&node.id) || agent.is_some_and(|a| a.ever_valid))
                    && !agent.is_some_and(|a| {
                        a.ever_valid && !a.halted && a.running.as_ref().is_none_or(|(t, _)| *t != Task::Stop)
                    }))
        };
        let nodes = self.store.nodes.iter().filter(|n| n.component == *component).filter(ours);
        nodes.map(|n| n.name.clone()).collect()
    }

    /// An agent looks at its service.
    pub fn look(&mut self, id: &NodeId) {
        let works = self.works(id);
        let Some(agent) = self.agents.get_mut(id) else { return };
        agent.look(works);
        if works && agent.seen == Some(true) && agent.running.is_none() && agent.to_run() {
            self.is_back(id);
        }
    }

    /// A node whose host was taken away works again: that its new host is lost, too, is not our doing.
    fn is_back(&mut self, id: &NodeId) {
        self.taken.remove(id);
    }

    /// What the run under way comes to, in this world.
    pub fn finish(&mut self, id: &NodeId) -> Option<Task> {
        let (task, _) = self.agents.get(id)?.running.clone()?;
        let works = self.works(id);
        let alone = self.stands_alone(id);
        if task == Task::Stage(Stage::Validate) && works {
            self.is_back(id);
        }
        let agent = self.agents.get_mut(id)?;
        let assignment = agent.assignment.as_ref()?;
        let bad_package = assignment.packages.iter().any(|p| p.version.contains("bad"));
        let bad_script = |stage: Stage| assignment.scripts.contains(&format!("{stage}:bad"));
        let mut context = assignment.context.clone();
        if alone {
            // who else there is, is no part of its configuration
            context.as_object_mut().expect("an object").remove("peers");
        }
        let rendered = Digest::sha256(context.to_string().as_bytes());
        let (outcome, produced) = match task {
            Task::Stage(Stage::Install) if bad_package => (Outcome::Failed, None),
            Task::Stage(stage) if bad_script(stage) => (Outcome::Failed, None),
            Task::Stage(Stage::PreConfig) => (Outcome::Succeeded, Some(rendered)),
            Task::Stage(Stage::Validate) if works => (Outcome::Succeeded, None),
            Task::Stage(Stage::Validate) if agent.active && !agent.insane => (Outcome::Waiting, None),
            Task::Stage(Stage::Validate) => (Outcome::Failed, None),
            Task::Stage(Stage::Install | Stage::Config) | Task::Start | Task::Stop => (Outcome::Succeeded, None),
        };
        agent.finish(outcome, produced)
    }

    /// Whether a node's service really works: it runs, its configuration is sane, and a majority
    /// of the peers that it names runs, if it needs any.
    pub fn works(&self, id: &NodeId) -> bool {
        let Some(agent) = self.agents.get(id).filter(|a| a.active && !a.insane) else { return false };
        // a member that is alone by its own configuration takes part in nothing
        let stepwise = self.meta_of(id).is_some_and(|m| m.membership == Membership::Stepwise);
        let alone = |a: &Agent| stepwise && a.name != agent.name && a.peers.len() == 1;
        let takes_part = |a: &Agent| a.active && !a.insane && !alone(a);
        let up = |name: &&String| self.agents.values().any(|a| a.name == **name && takes_part(a));
        self.stands_alone(id) || agent.peers.is_empty() || agent.peers.iter().filter(up).count() * 2 > agent.peers.len()
    }

    /// Whether it needs no majority of those it knows: of types that copy their data themselves.
    fn stands_alone(&self, id: &NodeId) -> bool {
        self.meta_of(id).is_some_and(|m| !m.disruption.settled.is_empty())
    }

    /// The metadata of a node's component.
    pub fn meta_of(&self, id: &NodeId) -> Option<&ComponentMeta> {
        let node = self.store.nodes.iter().find(|n| n.id == *id)?;
        let component = self.store.components.iter().find(|c| c.id == node.component)?;
        component.target.known.as_ref().ok().map(|known| &known.meta)
    }
}
