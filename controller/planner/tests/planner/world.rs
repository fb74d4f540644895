//! The world around the planner: what is recorded (a store that does as the real one), and what
//! really is (hosts and agents). It checks the invariants that speak of what really happens.

use crate::agent::Agent;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Host, Node, Plan, PlanInput, plan};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::Job;
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{Assignment, Digest, NodeId, Outcome, Stage};

/// Everything.
pub struct World {
    /// What is recorded.
    pub store: PlanInput,
    /// What really is, by node.
    pub agents: BTreeMap<NodeId, Agent>,
    /// Jobs that have ended.
    pub ended: Vec<Job>,
    /// The topology was forgotten.
    pub forgotten: bool,
    /// Assignments written so far.
    pub written: u64,
    addresses: u32,
    seen: BTreeMap<NodeId, (u64, BTreeSet<u64>)>,
    stage_keys: BTreeMap<(NodeId, Stage), (u64, u64)>,
}

impl World {
    pub fn new(store: PlanInput) -> Self {
        Self {
            store,
            agents: BTreeMap::new(),
            ended: Vec::new(),
            forgotten: false,
            written: 0,
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

    /// Plans what is recorded now and carries it out.
    pub fn plan(&mut self) -> Plan {
        let plan = plan(&self.store);
        let generations = self.generations();
        self.carry_out(&plan, &generations);
        plan
    }

    pub fn generations(&self) -> BTreeMap<NodeId, u64> {
        let of = |n: &Node| n.assignment.as_ref().map_or(0, |a| a.generation);
        self.store.nodes.iter().map(|n| (n.id.clone(), of(n))).collect()
    }

    /// Carries out a plan that was made when the generations were `seen`, as the controller does:
    /// compare-and-swap for each node, and for permits of the topology as a whole.
    pub fn carry_out(&mut self, plan: &Plan, seen: &BTreeMap<NodeId, u64>) {
        if plan.forget_topology {
            assert!(self.store.topology.deleting, "a topology that nobody deleted was forgotten");
            assert!(self.store.nodes.iter().all(|n| n.host == Host::Absent), "forgotten with hosts");
            self.forgotten = true;
            self.store.nodes.clear();
            self.ended.append(&mut plan.jobs.clone());
            self.store.jobs.clear();
            return;
        }
        let unchanged = self.generations() == *seen;
        for new in &plan.add_nodes {
            if self.node(&new.id).is_none() && !self.store.topology.deleting {
                self.store.nodes.push(Node {
                    id: new.id.clone(),
                    component: new.component.clone(),
                    group: new.group.clone(),
                    role: new.role.clone(),
                    name: new.name.clone(),
                    ordinal: new.ordinal,
                    host: Host::Absent,
                    address: None,
                    host_number: 0,
                    incarnation: 0,
                    assignment: None,
                    converged_generation: 0,
                    stages: BTreeMap::new(),
                    refused: None,
                    heartbeat: None,
                });
            }
        }
        for new in &plan.assignments {
            if unchanged || !plan.granted.contains(&new.node) {
                self.assign(new);
            }
        }
        for id in &plan.forget_nodes {
            self.store.nodes.retain(|n| n.id != *id || n.host != Host::Absent);
        }
        for job in plan.jobs.iter().filter(|job| job.standing.is_final()) {
            if self.store.jobs.iter().any(|open| open.id == job.id) {
                self.store.jobs.retain(|open| open.id != job.id);
                self.ended.push(job.clone());
            }
        }
    }

    fn assign(&mut self, new: &Assignment) {
        let Some(node) = self.node(&new.node) else { return };
        let have = node.assignment.as_ref().map_or(0, |a| a.generation);
        assert!(new.generation > 0);
        if new.generation == have + 1 {
            // over the wire and back, as every assignment goes
            let text = serde_json::to_string(new).expect("json");
            node.assignment = Some(serde_json::from_str(&text).expect("json"));
            self.written += 1;
        }
    }

    /// The provider makes the host.
    pub fn host_up(&mut self, id: &NodeId) {
        self.addresses += 1;
        let address = format!("10.0.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        let Some(node) = self.node(id) else { return };
        node.host = Host::Up;
        node.address = Some(address);
    }

    /// The provider removes the host, or it is gone.
    pub fn host_gone(&mut self, id: &NodeId) {
        self.agents.remove(id);
        let Some(node) = self.node(id) else { return };
        node.host = Host::Absent;
        node.address = None;
    }

    /// The agent on a new host enrols; what was observed of an earlier one is cleared.
    pub fn enrol(&mut self, id: &NodeId) {
        let Some(node) = self.node(id) else { return };
        node.incarnation += 1;
        node.converged_generation = 0;
        node.stages.clear();
        node.refused = None;
        node.heartbeat = None;
        let agent = Agent::fresh(&node.name, node.incarnation);
        self.stage_keys.retain(|(of, _), _| of != id);
        self.agents.insert(id.clone(), agent);
    }

    pub fn receive_heartbeat(&mut self, id: &NodeId, beat: Heartbeat) {
        let now = self.store.now_ms;
        let Some(node) = self.node(id) else { return };
        let newer = node.heartbeat.as_ref().is_none_or(|(old, _)| beat.beat > old.beat);
        if beat.incarnation == node.incarnation && newer {
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
                ReportBody::Command(_) | ReportBody::Drift(_) | ReportBody::LedgerLost { .. } => {}
            }
        }
        reports.last().map(|r| r.seq)
    }

    /// The agent begins what it may, and the world checks that it really may.
    pub fn begin(&mut self, id: &NodeId) -> Option<Stage> {
        let agent = self.agents.get_mut(id)?;
        let stage = agent.begin()?;
        if stage == Stage::PreConfig {
            self.check_dependencies(id);
        }
        if stage == Stage::Config {
            self.check_disturbed();
        }
        Some(stage)
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
            let of = |id: &NodeId| self.store.nodes.iter().any(|n| n.id == *id && n.component == component.id);
            let disturbed: Vec<_> =
                self.agents.iter().filter(|(id, a)| a.disturbed && of(id)).map(|(_, a)| a.name.as_str()).collect();
            assert!(disturbed.len() <= max, "{}: {disturbed:?} are disturbed at once, {max} may be", component.name);
        }
    }

    /// What the run under way comes to, in this world.
    pub fn finish(&mut self, id: &NodeId) -> Option<Stage> {
        let (stage, _) = self.agents.get(id)?.running.clone()?;
        let works = self.works(id);
        let agent = self.agents.get_mut(id)?;
        let assignment = agent.assignment.as_ref()?;
        let bad_package = assignment.packages.iter().any(|p| p.version.contains("bad"));
        let rendered = Digest::sha256(assignment.context.to_string().as_bytes());
        let (outcome, produced) = match stage {
            Stage::Install if bad_package => (Outcome::Failed, None),
            Stage::Install => (Outcome::Succeeded, None),
            Stage::PreConfig => (Outcome::Succeeded, Some(rendered)),
            Stage::Config => (Outcome::Succeeded, None),
            Stage::Validate if works => (Outcome::Succeeded, None),
            Stage::Validate if agent.active => (Outcome::Waiting, None),
            Stage::Validate => (Outcome::Failed, None),
        };
        agent.finish(outcome, produced)
    }

    /// Whether a node's service really works: it runs, its configuration is sane, and a majority
    /// of the peers that it names runs.
    pub fn works(&self, id: &NodeId) -> bool {
        let Some(agent) = self.agents.get(id).filter(|a| a.active && sane(a)) else { return false };
        let up = |name: &&String| self.agents.values().any(|a| a.name == **name && a.active && sane(a));
        agent.peers.iter().filter(up).count() * 2 > agent.peers.len()
    }
}

fn sane(agent: &Agent) -> bool {
    let config = agent.assignment.as_ref().map(|a| a.context["config"].to_string());
    !config.is_some_and(|text| text.contains("broken"))
}
