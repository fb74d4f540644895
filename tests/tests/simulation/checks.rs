//! What must hold of everything that really happens, whatever anybody believes.

use crate::agent::Agent;
use crate::books;
use crate::faults::SKEW_MS_MAX;
use crate::history::History;
use crate::network::PATIENCE_MS;
use std::collections::{BTreeMap, BTreeSet};
use straas_controller::parts;
use straas_converge::{CommandFate, CommandPhase, CommandRun, LedgerChange, OUTBOX_MAX, RunOrder, Task};
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{CommandId, ComponentId, JobId, NodeId, Outcome, Stage, TopologyId};
use straas_store::ComponentRecord;

/// A command may begin so long after its deadline: an answer is that long on its way, and the clock of who gave it is
/// that far behind, in ms.
const LATE_MS: i64 = PATIENCE_MS + SKEW_MS_MAX;

/// What really happened, and nobody but us remembers.
#[derive(Default)]
pub struct Ghost {
    /// Types of components.
    pub kinds: BTreeMap<ComponentId, String>,
    /// Nodes whose hosts were taken away while they worked, for another one.
    pub taken: BTreeSet<NodeId>,
    /// Nodes that worked, on any host.
    pub served: BTreeSet<NodeId>,
    /// Hosts that were lost, by nobody's doing.
    pub lost: BTreeSet<u64>,
    /// Components whose data has not all its copies.
    pub lagging: BTreeSet<ComponentId>,
    /// Components that may have something on those that they depend on.
    pub touched: BTreeSet<ComponentId>,
    /// Operations that a node really did.
    pub done: BTreeSet<String>,
    /// How the ends of commands were.
    pub fates: BTreeMap<CommandId, Vec<CommandFate>>,
    /// Requests that were confirmed.
    pub confirmed: BTreeSet<JobId>,
    /// Times that a process of a command was started.
    starts: BTreeMap<CommandId, u32>,
    /// Times that an agent died while one was begun.
    crashes: BTreeMap<CommandId, u32>,
    /// The highest generation that each host has had.
    generations: BTreeMap<u64, u64>,
    /// Reports that each host owes.
    owed: BTreeMap<u64, BTreeMap<u64, Report>>,
}

impl History {
    /// The agents of the topology that one is of.
    pub fn beside<'a>(&'a self, agent: &'a Agent) -> impl Iterator<Item = &'a Agent> {
        self.agents.values().filter(|other| other.topology == agent.topology)
    }

    pub fn component_of(&self, node: &NodeId) -> Option<ComponentId> {
        self.site.database.book().nodes.get(node).map(|record| record.component.clone())
    }

    pub fn meta_of(&self, node: &NodeId) -> Option<&'static ComponentMeta> {
        let component = self.component_of(node)?;
        self.ghost.kinds.get(&component).map(|kind| books::meta(kind))
    }

    /// Whether a topology is going, or gone.
    pub fn is_going(&self, topology: &TopologyId) -> bool {
        self.site.database.topology(topology).is_none_or(|topology| topology.deleting)
    }

    /// The component of a node that is wanted, as it is recorded.
    fn place(&self, id: &NodeId) -> Option<ComponentRecord> {
        let record = self.site.database.book().nodes.get(id).cloned()?;
        let component = self.site.database.component(&record.component).filter(|c| !c.spec.removed)?;
        let group = component.spec.want.groups.iter().find(|g| g.name == record.group)?;
        let wanted = parts::ordinals(group).contains(&record.ordinal) && !self.is_going(&record.topology);
        wanted.then_some(component)
    }

    /// Whether a node is wanted, whatever its host.
    pub fn is_wanted(&self, id: &NodeId) -> bool {
        self.place(id).is_some()
    }

    /// Whether the services of a node are to stand still.
    pub fn is_stopped(&self, id: &NodeId) -> bool {
        self.place(id).is_some_and(|component| component.spec.want.nodes.get(id).is_some_and(|wish| wish.stopped))
    }

    /// Whether a node is to get another host, and nothing else is to stop its service.
    pub fn is_replaced(&self, id: &NodeId) -> bool {
        let Some(component) = self.place(id) else { return false };
        let number = self.site.database.node(id).map_or(0, |node| node.host.number);
        component.spec.want.nodes.get(id).is_some_and(|wish| wish.replacements > number && !wish.stopped)
    }

    /// Nodes of a component that do not work because of us: configured anew, or given another host.
    pub fn down_by_us(&self, component: &ComponentId) -> Vec<String> {
        let nodes: Vec<_> =
            self.site.database.book().nodes.values().filter(|n| n.component == *component).cloned().collect();
        let ours = |id: &NodeId| {
            let agent = self.agents.values().find(|agent| agent.node == *id);
            let well = |a: &Agent| {
                a.truth.ever_valid && !a.truth.halted && a.running.as_ref().is_none_or(|o| o.task != Task::Stop)
            };
            agent.is_some_and(|a| a.truth.disturbed)
                // one that leaves without the host it worked on is configured no more
                || (self.ghost.taken.contains(id)
                    && (self.is_wanted(id) || agent.is_some_and(|a| a.truth.ever_valid))
                    && !agent.is_some_and(well))
        };
        nodes.into_iter().filter(|node| ours(&node.id)).map(|node| node.name).collect()
    }

    /// No more nodes are down by our doing than may be.
    pub fn check_disturbed(&self) {
        for (component, kind) in &self.ghost.kinds {
            let max = books::meta(kind).disruption.max_unavailable as usize;
            let down = self.down_by_us(component);
            assert!(down.len() <= max, "too many are disturbed: {down:?} of {component}, {max} may be");
        }
    }

    /// An agent runs something: what it may, and only of what is durable.
    pub fn check_run(&mut self, host: u64, order: &RunOrder) {
        let agent = &self.agents[&host];
        let name = &agent.machine.name;
        assert!(agent.running.is_none(), "two runs at once: on {name}");
        let has = agent.disk.generation();
        assert_eq!(has, order.generation, "acts on what is not durable: {name}");
        if order.task != Task::Stage(Stage::PreConfig) {
            return;
        }
        let context = &agent.disk.assignment.as_ref().expect("an assignment").context;
        for (dependency, there) in context["dependencies"].as_object().into_iter().flatten() {
            for node in there["nodes"].as_array().into_iter().flatten() {
                let other = self.beside(agent).find(|a| Some(a.machine.name.as_str()) == node["name"].as_str());
                // a host that is away at the moment worked when the gate was opened
                let worked = other.is_none_or(|a| {
                    // who is to stand still is waited for by nobody
                    a.truth.ever_valid || self.ghost.served.contains(&a.node) || self.is_stopped(&a.node)
                });
                assert!(worked, "a dependency does not work yet: {dependency} on {}, and {name} begins", node["name"]);
            }
        }
        if let Some(component) = self.component_of(&agent.node) {
            self.ghost.touched.insert(component);
        }
    }

    /// A command is started: once, or once more after each crash if it may be.
    pub fn check_command(&mut self, host: u64, run: &CommandRun) {
        let id = &run.order.id;
        self.check_own(host, id);
        let journal = self.agents[&host].disk.commands.get(id);
        let deadline =
            self.site.database.command(id).map_or(i64::MAX, |record| record.deadline_ms.saturating_add(LATE_MS));
        assert!(self.now() <= deadline, "a command runs after its time: {id} on {}", self.agents[&host].label);
        let begun = journal.is_some_and(|record| matches!(record.phase, CommandPhase::Begun { .. }));
        assert!(begun, "acts on what is not durable: {id} is begun");
        let starts = self.ghost.starts.entry(id.clone()).or_default();
        *starts += 1;
        let crashes = self.ghost.crashes.get(id).copied().unwrap_or(0);
        let most = if run.order.idempotent { 1 + crashes } else { 1 };
        assert!(*starts <= most, "a command runs twice: {id}");
    }

    /// An agent's program was killed, and has started from its disk.
    pub fn check_crashed(&mut self, host: u64, begun: Vec<CommandId>) {
        for id in begun {
            self.told.count("a command is cut off in the middle");
            *self.ghost.crashes.entry(id).or_default() += 1;
        }
        let agent = &self.agents[&host];
        let name = agent.machine.name.clone();
        let kept = &agent.disk.outbox;
        let lost = self.ghost.owed.get(&host).and_then(|owed| owed.keys().find(|seq| !kept.contains_key(seq)));
        assert!(lost.is_none(), "a report is lost: {lost:?} of {name} in a crash");
        self.check_generation(host);
    }

    /// A host is taken away: because its node is not wanted, a person asked for another one, or the provider lost it.
    /// That nobody hears of it is no reason.
    pub fn check_gone(&self, host: u64) {
        let agent = &self.agents[&host];
        let asked = self.place(&agent.node).map(|component| {
            let wish = component.spec.want.nodes.get(&agent.node);
            wish.is_some_and(|wish| wish.replacements > agent.number)
        });
        let reason = asked.unwrap_or(true) || self.ghost.lost.contains(&host);
        assert!(reason, "replaced without a request: the host of {}", agent.label);
    }

    /// A host is gone, with whatever ran on it: what may run again, does so elsewhere.
    pub fn host_gone(&mut self, agent: Agent) {
        for record in agent.disk.commands.into_values() {
            *self.ghost.crashes.entry(record.id).or_default() += 1;
        }
    }

    /// Generations on a disk only rise.
    pub fn check_generation(&mut self, host: u64) {
        let agent = &self.agents[&host];
        let before = self.ghost.generations.entry(host).or_default();
        let now = agent.disk.generation();
        assert!(now >= *before, "a generation falls: {} from {before} to {now}", agent.machine.name);
        *before = (*before).max(agent.written().generation());
    }

    /// What an agent writes down is true.
    pub fn check_changes(&mut self, host: u64, changes: &[LedgerChange]) {
        let agent = &self.agents[&host];
        let (name, node) = (agent.machine.name.clone(), agent.node.clone());
        let incarnation = agent.incarnation.unwrap_or(0);
        for change in changes {
            match change {
                LedgerChange::Assignment(new) => {
                    let has = agent.written().generation();
                    assert!(new.generation > has, "a generation falls: {name} from {has} to {}", new.generation);
                }
                LedgerChange::Stage(stage, record)
                    if record.outcome == Some(Outcome::Succeeded) && *stage != Stage::Validate =>
                {
                    let done = agent.truth.done.get(stage);
                    assert_eq!(done, Some(&record.digest), "a success that never was: {stage} of {name}");
                }
                LedgerChange::Append(report) => {
                    if let ReportBody::Command(end) = &report.body {
                        self.check_end_of(&end.id, end.outcome);
                    }
                    let key = (node.clone(), incarnation, report.seq);
                    self.site.database.book().said.insert(key, (**report).clone());
                    self.ghost.owed.entry(host).or_default().insert(report.seq, (**report).clone());
                }
                LedgerChange::Forget(seq) => {
                    let owed = self.ghost.owed.entry(host).or_default();
                    let full = owed.len() >= OUTBOX_MAX;
                    owed.remove(seq);
                    assert!(full || self.is_recorded(&node, incarnation, *seq), "a report is lost: {seq} of {name}");
                }
                _ => {}
            }
        }
    }

    /// Whether a report is recorded, or of a node or host that is no more.
    fn is_recorded(&self, node: &NodeId, incarnation: u64, seq: u64) -> bool {
        let stands = self.site.database.node(node).is_some_and(|node| node.incarnation == incarnation);
        !stands || self.site.database.recorded_of(node, incarnation).contains(&seq)
    }

    /// An agent is told that the controller has everything up to a number.
    pub fn check_acknowledged(&self, host: u64, seq: u64) {
        let agent = &self.agents[&host];
        let incarnation = agent.incarnation.unwrap_or(0);
        for of in agent.disk.outbox.range(..=seq).map(|(seq, _)| *seq) {
            let there = self.is_recorded(&agent.node, incarnation, of);
            assert!(there, "a report is lost: {of} of {} is acknowledged and not recorded", agent.machine.name);
        }
    }

    /// What is said of the end of a command is what became of it.
    fn check_end_of(&self, id: &CommandId, outcome: straas_schemas::command::CommandOutcome) {
        use straas_schemas::command::CommandOutcome as End;
        let fates = self.ghost.fates.get(id).map_or(&[][..], Vec::as_slice);
        let starts = self.ghost.starts.get(id).copied().unwrap_or(0);
        let right = match outcome {
            End::Succeeded => fates.contains(&CommandFate::Succeeded),
            End::Failed => fates.contains(&CommandFate::Failed),
            End::Cancelled => true,
            End::Expired => starts == 0,
            End::Unknown => self.ghost.crashes.contains_key(id),
        };
        assert!(right, "an end that never was: {id} was begun {starts} times, ended {fates:?}; said is {outcome:?}");
    }
}
