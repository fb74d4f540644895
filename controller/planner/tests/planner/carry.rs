//! The controller around the planner: carries out plans in the order of `controller/src/apply.rs`
//! and works on hosts as `controller/src/tasks/hosts.rs` does, with all the room for accidents that
//! these leave: plans that are stale, controllers that die in the middle, hosts that are made late.

use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Component, Host, HostWish, Node, OperationRun, Plan, Revert, Reverted, plan};
use straas_schemas::command::CommandStanding;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::JobKind;
use straas_schemas::view::HostFailure;
use straas_schemas::{Assignment, ComponentId, JobId, Lifecycle, NodeId};

/// What undoes the numbers that a job changed.
#[derive(Clone, Debug)]
pub enum Undo {
    Joined(String, Vec<u32>),
    Left(String, Vec<u32>),
    Stopped(BTreeMap<NodeId, bool>),
}

/// Work on the host of a node.
#[derive(Clone, Debug)]
pub enum HostTask {
    Make(HostWish),
    Remove(NodeId, u32),
}

impl HostTask {
    pub fn node(&self) -> &NodeId {
        match self {
            Self::Make(wish) => &wish.node,
            Self::Remove(node, _) => node,
        }
    }
}

/// What a plan was made of, as far as carrying it out asks.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub generations: BTreeMap<NodeId, u64>,
    numbers: BTreeMap<NodeId, u32>,
    rollouts: BTreeMap<ComponentId, (JobId, bool)>,
    deleting: bool,
    /// Nodes of components that go, without hosts.
    gone: BTreeSet<NodeId>,
}

/// Effects until the controller dies.
pub struct Life(pub usize);

impl Life {
    pub const LONG: Self = Self(usize::MAX);

    /// One more effect, if it lives.
    fn goes_on(&mut self) -> bool {
        let lives = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        lives
    }
}

impl World {
    pub fn moment(&self) -> Moment {
        let nodes = &self.store.nodes;
        let rollout = |c: &Component| {
            let rollout = c.rollout.as_ref()?;
            Some((c.id.clone(), (rollout.job.clone(), rollout.reverted.is_some())))
        };
        let removed = |n: &Node| self.store.components.iter().any(|c| c.removed && c.id == n.component);
        Moment {
            generations: nodes.iter().map(|n| (n.id.clone(), generation(n))).collect(),
            numbers: nodes.iter().map(|n| (n.id.clone(), n.host_number)).collect(),
            rollouts: self.store.components.iter().filter_map(rollout).collect(),
            deleting: self.store.topology.deleting,
            gone: nodes.iter().filter(|n| n.host == Host::Absent && removed(n)).map(|n| n.id.clone()).collect(),
        }
    }

    /// Plans what is recorded now and carries it out, but for work on hosts.
    pub fn plan(&mut self) -> Plan {
        let plan = plan(&self.store);
        let moment = self.moment();
        self.carry_out(&plan, &moment, Life::LONG);
        self.tasks.clear();
        plan
    }

    fn generations(&self) -> BTreeMap<NodeId, u64> {
        self.store.nodes.iter().map(|n| (n.id.clone(), generation(n))).collect()
    }

    /// Carries out a plan as the controller does: compare-and-swap for each node, and for what rests
    /// on other nodes, of the topology as a whole.
    pub fn carry_out(&mut self, plan: &Plan, moment: &Moment, mut life: Life) {
        let goes = |id: &NodeId| moment.deleting || plan.forget_nodes.contains(id) || moment.gone.contains(id);
        let busy: Vec<NodeId> = self.tasks.iter().map(HostTask::node).filter(|id| goes(id)).cloned().collect();
        if plan.forget_topology && busy.is_empty() {
            return self.forget_topology(plan);
        }
        let unchanged = self.generations() == moment.generations;
        for new in &plan.add_nodes {
            if !life.goes_on() {
                return;
            }
            let component = self.store.components.iter().any(|c| c.id == new.component);
            if component && self.node(&new.id).is_none() && !self.forgotten {
                self.store.nodes.push(recorded(new));
            }
        }
        for new in &plan.assignments {
            // what rests on other nodes may be written only while these are what they were
            let barred = !unchanged && plan.granted.contains(&new.node);
            if !life.goes_on() || barred || !self.assign(new) {
                return;
            }
        }
        if !life.goes_on() {
            return;
        }
        self.take_up(plan, moment, unchanged, &busy);
        if plan.forget_topology || !life.goes_on() {
            return;
        }
        self.queue(plan);
        for revert in &plan.reverts {
            if !life.goes_on() {
                return;
            }
            self.quarantine.extend(revert.quarantine.iter().cloned());
            if !life.goes_on() {
                return;
            }
            self.turn_back_failed(revert);
        }
        for id in plan.forget_nodes.iter().filter(|id| !busy.contains(id)) {
            if !life.goes_on() {
                return;
            }
            self.forget_node(id);
        }
        if !busy.is_empty() {
            return;
        }
        for job in plan.jobs.iter().filter(|job| job.standing.is_final()) {
            if !life.goes_on() {
                return;
            }
            if self.store.jobs.iter().any(|open| open.id == job.id) {
                self.store.jobs.retain(|open| open.id != job.id);
                self.ended.push(job.clone());
            }
        }
        if life.goes_on() {
            self.end_rollouts(plan, moment);
        }
        for id in plan.forget_components.iter().filter(|_| life.goes_on()) {
            let nodes: Vec<_> = self.store.nodes.iter().filter(|n| n.component == *id).map(|n| n.id.clone()).collect();
            nodes.iter().for_each(|node| self.forget_node(node));
            if !self.store.nodes.iter().any(|n| n.component == *id) {
                self.store.components.retain(|c| c.id != *id);
            }
        }
    }

    /// A node is forgotten unless it has a host; what it was to do nobody will hear of.
    fn forget_node(&mut self, id: &NodeId) {
        if self.node(id).is_some_and(|n| n.host != Host::Absent) {
            return;
        }
        assert!(!self.machines.contains_key(id), "a node is forgotten while its host runs: {id}");
        self.store.nodes.retain(|n| n.id != *id);
        let now = self.store.now_ms;
        for run in self.store.operations.iter_mut().filter(|run| run.node == *id && !run.standing.is_final()) {
            (run.standing, run.ended_ms) = (CommandStanding::Unknown, Some(now));
        }
    }

    fn forget_topology(&mut self, plan: &Plan) {
        assert!(self.store.topology.deleting, "a topology that nobody deleted was forgotten");
        assert!(self.machines.is_empty(), "a topology is forgotten with hosts: {:?}", self.machines.keys());
        self.forgotten = true;
        self.store.nodes.clear();
        self.ended.append(&mut plan.jobs.clone());
        self.store.jobs.clear();
    }

    /// Whether it was written: its generation is one above what the node has.
    fn assign(&mut self, new: &Assignment) -> bool {
        let Some(node) = self.node(&new.node) else { return true };
        assert!(new.generation > 0);
        if new.generation != generation(node) + 1 {
            return false;
        }
        // over the wire and back, as every assignment goes
        let text = serde_json::to_string(new).expect("json");
        node.assignment = Some(serde_json::from_str(&text).expect("json"));
        self.written += 1;
        true
    }

    fn queue(&mut self, plan: &Plan) {
        for wish in &plan.operations {
            let known = self.store.operations.iter().any(|run| run.id == wish.id);
            if known || self.node(&wish.node).is_none() {
                continue;
            }
            self.store.operations.push(OperationRun {
                id: wish.id.clone(),
                key: wish.key.clone(),
                attempt: wish.attempt,
                node: wish.node.clone(),
                standing: CommandStanding::Queued,
                reason: String::new(),
                ended_ms: None,
            });
        }
    }

    fn turn_back_failed(&mut self, revert: &Revert) {
        let Some(at) = self.store.components.iter().position(|c| c.id == revert.component) else { return };
        let rollout = self.store.components[at].rollout.as_ref();
        if rollout.is_some_and(|r| r.job == revert.job && r.reverted.is_none()) && !self.store.topology.deleting {
            self.turn_back(at, &revert.reason, false);
        }
    }

    /// What was before a rollout is wanted again.
    pub fn turn_back(&mut self, at: usize, reason: &str, by_user: bool) {
        let own = self.own_before.remove(&self.store.components[at].id).unwrap_or_default();
        let component = &mut self.store.components[at];
        let Some(rollout) = component.rollout.as_mut() else { return };
        std::mem::swap(&mut rollout.before, &mut component.target);
        rollout.canary = false;
        rollout.paused = false;
        rollout.reverted = Some(Reverted { reason: reason.to_owned(), by_user });
        component.wishes.values_mut().for_each(|wish| wish.target = None);
        let base = component.target.clone();
        for (id, scripts) in own {
            let target = crate::catalog::with_scripts(&component.kind, &base, &scripts);
            component.wishes.entry(id).or_default().target = Some(target);
        }
        crate::requests::forget_usual(component);
    }

    fn end_rollouts(&mut self, plan: &Plan, moment: &Moment) {
        for id in &plan.rolled_out {
            let Some(planned) = moment.rollouts.get(id) else { continue };
            for component in self.store.components.iter_mut().filter(|c| c.id == *id) {
                component.rollout.take_if(|r| (&r.job, r.reverted.is_some()) == (&planned.0, planned.1));
            }
        }
    }

    fn take_up(&mut self, plan: &Plan, moment: &Moment, unchanged: bool, busy: &[NodeId]) {
        let missing = |w: &&HostWish| {
            let node = self.store.nodes.iter().find(|n| n.id == w.node);
            node.is_none_or(|n| n.host != Host::Up || n.host_number < w.number)
        };
        let wanted: Vec<HostTask> = plan.hosts.iter().filter(missing).cloned().map(HostTask::Make).collect();
        let replaced = |id: &&NodeId| unchanged || !plan.granted.contains(id);
        let unwanted = plan.no_hosts.iter().filter(replaced).chain(busy);
        let unwanted = unwanted.map(|id| HostTask::Remove(id.clone(), moment.numbers.get(id).copied().unwrap_or(0)));
        for task in wanted.into_iter().chain(unwanted.collect::<Vec<_>>()) {
            match self.tasks.iter().position(|t| t.node() == task.node()) {
                None => self.tasks.push(task),
                // it ends whatever the making of the host waits for
                Some(at) if matches!((&self.tasks[at], &task), (HostTask::Make(_), HostTask::Remove(..))) => {
                    self.tasks.remove(at);
                }
                Some(_) => {}
            }
        }
    }

    /// A wish to make a host is carried out, as far as it still makes sense.
    pub fn make_host(&mut self, wish: &HostWish, fails: bool) {
        let Some(node) = self.node(&wish.node) else { return };
        if node.host_number > wish.number {
            return;
        }
        if node.host_number < wish.number {
            let known = node.incarnation > 0;
            (node.host, node.address, node.host_number) = (Host::Absent, None, wish.number);
            self.remove_machine(&wish.node);
            if known {
                self.next_incarnation(&wish.node);
            }
        }
        if fails {
            let (now, retry) = (self.store.now_ms, i64::from(self.store.settings.retry_ms));
            let node = self.node(&wish.node).expect("it is there");
            let attempt = if let Host::Failed(before) = &node.host { before.attempt + 1 } else { 1 };
            let next_retry_ms = Some(now + retry * i64::from(attempt));
            let failure = HostFailure { reason: "no room".into(), attempt, failed_ms: now, next_retry_ms };
            (node.host, node.address) = (Host::Failed(failure), None);
            return;
        }
        let made = self.node(&wish.node).is_some_and(|n| n.host == Host::Up);
        if !made || !self.machines.contains_key(&wish.node) {
            self.host_up(&wish.node);
            self.machines.entry(wish.node.clone()).or_default().number = wish.number;
        }
    }

    /// Whether the host that a removal meant is still to go: it may have waited long.
    pub fn is_to_go(&self, id: &NodeId, number: u32) -> bool {
        let Some(node) = self.store.nodes.iter().find(|n| n.id == *id) else { return true };
        let plan = plan(&self.store);
        node.host_number <= number && (plan.no_hosts.contains(id) || plan.forget_nodes.contains(id))
    }

    /// The host of a node goes, if it is still to go.
    pub fn remove_host(&mut self, id: &NodeId, number: u32) {
        if !self.is_to_go(id, number) {
            return;
        }
        // one that nobody hears of, or that says that it is down, is replaced at once: that is no disturbance
        let heard = |n: &Node| {
            let beat = n
                .heartbeat
                .as_ref()
                .filter(|(_, at)| self.store.now_ms - at < i64::from(self.store.settings.unreachable_after_ms));
            beat.is_some_and(|(beat, _)| beat.service == ServiceStatus::Active)
        };
        let seems_well = self.store.nodes.iter().find(|n| n.id == *id).is_some_and(heard);
        if self.is_wanted(id) && seems_well && self.agents.get(id).is_some_and(|a| a.active && self.works(id)) {
            self.taken.insert(id.clone());
        }
        self.remove_machine(id);
        self.host_absent(id);
    }

    /// Whether a node is wanted, whatever its host.
    pub fn is_wanted(&self, id: &NodeId) -> bool {
        self.place(id).is_some()
    }

    /// Whether a node is to get another host, and nothing else is to stop its service.
    pub fn is_replaced(&self, id: &NodeId) -> bool {
        let by_us = |(node, component): (&Node, &Component)| {
            let wish = component.wishes.get(id);
            wish.is_some_and(|w| w.replacements > node.host_number && w.lifecycle == Lifecycle::Running)
        };
        self.place(id).is_some_and(by_us)
    }

    fn place(&self, id: &NodeId) -> Option<(&Node, &Component)> {
        let node = self.store.nodes.iter().find(|n| n.id == *id)?;
        let component = self.store.components.iter().find(|c| c.id == node.component && !c.removed)?;
        let group = component.groups.iter().find(|g| g.name == node.group)?;
        let wanted = crate::requests::ordinals(group).contains(&node.ordinal) && !self.store.topology.deleting;
        wanted.then_some((node, component))
    }

    fn remove_machine(&mut self, id: &NodeId) {
        self.machines.remove(id);
        self.agents.remove(id);
    }

    /// A request's job takes the place of those that it supersedes.
    pub fn begin_job(&mut self, kind: JobKind, component: Option<&ComponentId>, id: &JobId) {
        let same = |open: &straas_planner::OpenJob| component.is_none() || open.component.as_ref() == component;
        self.store.jobs.retain(|open| !(same(open) && kind.takes_place_of(open.kind)));
        self.store.jobs.push(straas_planner::OpenJob {
            id: id.clone(),
            kind,
            component: component.cloned(),
            detail: kind.name().to_owned(),
            created_ms: self.store.now_ms,
        });
    }
}

fn generation(node: &Node) -> u64 {
    node.assignment.as_ref().map_or(0, |a| a.generation)
}

/// A node as it is recorded first.
pub fn recorded(new: &straas_planner::NewNode) -> Node {
    Node {
        id: new.id.clone(),
        component: new.component.clone(),
        group: new.group.clone(),
        role: new.role.clone(),
        name: new.name.clone(),
        ordinal: new.ordinal,
        host: Host::Absent,
        host_changed_ms: 0,
        address: None,
        fault_domain: None,
        host_number: 0,
        incarnation: 0,
        enrolled: false,
        assignment: None,
        converged_generation: 0,
        worked: false,
        stages: BTreeMap::new(),
        refused: None,
        heartbeat: None,
    }
}
