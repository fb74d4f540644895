//! The store in memory, for simulations and tests: the same promises, nothing durable.
//!
//! Maps behind one mutex that is never held across an await. Each method looks at everything that
//! could refuse it before it changes anything, so an error leaves no trace. The code is written on
//! its own, not shared with `sql/`: that two different implementations pass one conformance suite
//! is what the suite is worth.

use crate::input::{TOKENS_PER_NODE_MAX, batch, broken, check_generation, check_reports, clean, supersedes};
use crate::{
    ComponentRecord, EVENTS_PER_TOPOLOGY_MAX, EnrolOutcome, HostRecord, JobEnd, JobFilter, JobRecord, NewEvent,
    NodeIndex, NodeRecord, NodeSnapshot, PAGE_MAX, PageRequest, RESULTS_PER_NODE_MAX, Result, Snapshot, Store,
    StoreError, StoredAssignment, TopologyRecord, superseded_by,
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobStanding;
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::view::Event;
use straas_schemas::{Assignment, ComponentId, JobId, NodeId, Stage, TopologyId};

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    topologies: BTreeMap<TopologyId, TopologyRecord>,
    components: BTreeMap<ComponentId, ComponentRecord>,
    nodes: BTreeMap<NodeId, Node>,
    tokens: BTreeMap<String, Token>,
    jobs: BTreeMap<JobId, JobRecord>,
    events: BTreeMap<TopologyId, BTreeMap<i64, Event>>,
    event_seq: i64,
}

#[derive(Debug)]
struct Node {
    seen: NodeSnapshot,
    assignment: Option<StoredAssignment>,
    /// Sequence numbers of the reports kept.
    reports: BTreeSet<i64>,
    /// Generation and sequence of each stage's newest result.
    stage_keys: BTreeMap<Stage, (u64, u64)>,
    refused_seq: u64,
}

#[derive(Debug, Clone)]
struct Token {
    node: NodeId,
    /// Counts the tokens of the node.
    number: i64,
    expires_ms: i64,
    /// The public key it was spent on, and the incarnation that made.
    used: Option<(String, u64)>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere does not make the maps wrong: every change is made after all checks.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(what: &'static str, id: impl ToString) -> StoreError {
    StoreError::NotFound { what, id: id.to_string() }
}

fn conflict(what: &'static str, id: impl ToString) -> StoreError {
    StoreError::Conflict { what, id: id.to_string() }
}

fn duplicate(what: &'static str, name: impl ToString) -> StoreError {
    StoreError::Duplicate { what, name: name.to_string() }
}

fn most(limit: u32) -> usize {
    limit.min(PAGE_MAX) as usize
}

impl Tables {
    fn node(&mut self, id: &NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(id).ok_or_else(|| missing("node", id))
    }

    fn remove_nodes(&mut self, gone: impl Fn(&NodeRecord) -> bool) {
        self.nodes.retain(|_, node| !gone(&node.seen.record));
        let nodes = &self.nodes;
        self.tokens.retain(|_, token| nodes.contains_key(&token.node));
    }

    fn check_job(&self, job: &JobRecord) -> Result<()> {
        if self.jobs.contains_key(&job.id) { Err(duplicate("job", &job.id)) } else { Ok(()) }
    }

    /// Ends the open jobs that `job` takes the place of and records it.
    fn begin(&mut self, topology: &TopologyId, job: &JobRecord) {
        for open in self.jobs.values_mut().filter(|open| open.topology == *topology && open.ended.is_none()) {
            if superseded_by(job.kind, open.kind) {
                open.ended = Some(JobEnd { standing: JobStanding::Superseded, at_ms: job.created_ms, document: None });
            }
        }
        let job = JobRecord { detail: clean(&job.detail).into_owned(), ..job.clone() };
        self.jobs.insert(job.id.clone(), job);
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn create_topology(
        &self,
        topology: &TopologyRecord,
        components: &[ComponentRecord],
        job: &JobRecord,
    ) -> Result<()> {
        let mut tables = self.tables();
        let taken = |other: &TopologyRecord| {
            other.id == topology.id || (&other.name, &other.zone) == (&topology.name, &topology.zone)
        };
        if tables.topologies.values().any(taken) {
            return Err(duplicate("topology", format!("{}@{}", topology.name, topology.zone)));
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for component in components {
            if component.topology != topology.id && !tables.topologies.contains_key(&component.topology) {
                return Err(missing("topology", &component.topology));
            }
            let known = tables.components.contains_key(&component.id) || !ids.insert(&component.id);
            if known || !names.insert((&component.topology, &component.name)) {
                return Err(duplicate("component", &component.name));
            }
        }
        tables.check_job(job)?;
        tables.topologies.insert(topology.id.clone(), topology.clone());
        for component in components {
            tables.components.insert(component.id.clone(), component.clone());
        }
        tables.begin(&topology.id, job);
        Ok(())
    }

    async fn topology(&self, id: &TopologyId) -> Result<Option<TopologyRecord>> {
        Ok(self.tables().topologies.get(id).cloned())
    }

    async fn topology_by_name(&self, name: &str, zone: &str) -> Result<Option<TopologyRecord>> {
        Ok(self.tables().topologies.values().find(|topology| topology.name == name && topology.zone == zone).cloned())
    }

    async fn topologies(&self, tenant: Option<&str>, page: &PageRequest) -> Result<Vec<TopologyRecord>> {
        let wanted = |topology: &&TopologyRecord| {
            page.after.as_ref().is_none_or(|after| topology.id.0 > *after)
                && tenant.is_none_or(|tenant| topology.tenant == tenant)
        };
        Ok(self.tables().topologies.values().filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn delete_topology(&self, id: &TopologyId, job: &JobRecord) -> Result<bool> {
        let mut tables = self.tables();
        let topology = tables.topologies.get(id).ok_or_else(|| missing("topology", id))?;
        if topology.deleting {
            return Ok(false);
        }
        tables.check_job(job)?;
        if let Some(topology) = tables.topologies.get_mut(id) {
            topology.deleting = true;
        }
        tables.begin(id, job);
        Ok(true)
    }

    async fn forget_topology(&self, id: &TopologyId, now_ms: i64, documents: &[(JobId, Value)]) -> Result<()> {
        let mut tables = self.tables();
        tables.topologies.remove(id).ok_or_else(|| missing("topology", id))?;
        tables.components.retain(|_, component| component.topology != *id);
        tables.remove_nodes(|node| node.topology == *id);
        for job in tables.jobs.values_mut().filter(|job| job.topology == *id && job.ended.is_none()) {
            let document = documents.iter().rfind(|(of, _)| *of == job.id).map(|(_, document)| document.clone());
            job.ended = Some(JobEnd { standing: JobStanding::Succeeded, at_ms: now_ms, document });
        }
        Ok(())
    }

    async fn change_component(&self, component: &ComponentRecord, expected: u64, job: &JobRecord) -> Result<()> {
        let mut tables = self.tables();
        let topology =
            tables.topologies.get(&component.topology).ok_or_else(|| missing("topology", &component.topology))?;
        if topology.deleting {
            return Err(conflict("component", &component.id));
        }
        let recorded = tables.components.get(&component.id).filter(|recorded| recorded.topology == component.topology);
        if recorded.ok_or_else(|| missing("component", &component.id))?.revision != expected {
            return Err(conflict("component", &component.id));
        }
        tables.check_job(job)?;
        if let Some(recorded) = tables.components.get_mut(&component.id) {
            recorded.spec = component.spec.clone();
            recorded.revision += 1;
        }
        tables.begin(&component.topology, job);
        Ok(())
    }

    async fn component(&self, id: &ComponentId) -> Result<Option<ComponentRecord>> {
        Ok(self.tables().components.get(id).cloned())
    }

    async fn snapshot(&self, id: &TopologyId) -> Result<Option<Snapshot>> {
        let tables = self.tables();
        let Some(topology) = tables.topologies.get(id).cloned() else { return Ok(None) };
        let mut components: Vec<_> =
            tables.components.values().filter(|component| component.topology == *id).cloned().collect();
        components.sort_by_key(|component| component.position);
        let nodes =
            tables.nodes.values().map(|node| &node.seen).filter(|node| node.record.topology == *id).cloned().collect();
        let jobs = tables.jobs.values().filter(|job| job.topology == *id && job.ended.is_none()).cloned().collect();
        Ok(Some(Snapshot { topology, components, nodes, jobs }))
    }

    async fn add_nodes(&self, nodes: &[NodeRecord]) -> Result<()> {
        let mut tables = self.tables();
        let known = |node: &&NodeRecord| {
            tables.nodes.contains_key(&node.id)
                || (tables.components.contains_key(&node.component) && tables.topologies.contains_key(&node.topology))
        };
        if let Some(orphan) = nodes.iter().find(|node| !known(node)) {
            return Err(missing("component", &orphan.component));
        }
        for record in nodes {
            let seen = NodeSnapshot {
                record: record.clone(),
                host: HostRecord::default(),
                incarnation: 0,
                enrolled_ms: None,
                assigned: None,
                converged_generation: 0,
                stages: BTreeMap::new(),
                refused: None,
                heartbeat: None,
            };
            let node =
                Node { seen, assignment: None, reports: BTreeSet::new(), stage_keys: BTreeMap::new(), refused_seq: 0 };
            tables.nodes.entry(record.id.clone()).or_insert(node);
        }
        Ok(())
    }

    async fn remove_nodes(&self, nodes: &[NodeId]) -> Result<()> {
        let gone: BTreeSet<_> = nodes.iter().collect();
        self.tables().remove_nodes(|node| gone.contains(&node.id));
        Ok(())
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeSnapshot>> {
        Ok(self.tables().nodes.get(id).map(|node| node.seen.clone()))
    }

    async fn node_index(&self) -> Result<Vec<NodeIndex>> {
        let index = |node: &Node| NodeIndex {
            id: node.seen.record.id.clone(),
            topology: node.seen.record.topology.clone(),
            incarnation: node.seen.incarnation,
        };
        Ok(self.tables().nodes.values().map(index).collect())
    }

    async fn set_host(&self, node: &NodeId, host: &HostRecord) -> Result<()> {
        let clean = |text: &Option<String>| text.as_deref().map(|text| clean(text).into_owned());
        let host = HostRecord { address: clean(&host.address), error: clean(&host.error), ..*host };
        self.tables().node(node)?.seen.host = host;
        Ok(())
    }

    async fn put_assignment(&self, assignment: &Assignment, expected: u64, _now_ms: i64) -> Result<()> {
        check_generation(assignment.generation, expected)?;
        let document = serde_json::to_string(assignment).map_err(|cause| broken("writing an assignment", cause))?;
        let mut tables = self.tables();
        let node = tables.node(&assignment.node)?;
        if node.seen.assigned.as_ref().map_or(0, |assigned| assigned.0) != expected {
            return Err(conflict("assignment", &assignment.node));
        }
        let (generation, digest) = (assignment.generation, assignment.content_digest());
        node.seen.assigned = Some((generation, digest.clone()));
        node.assignment = Some(StoredAssignment { node: assignment.node.clone(), generation, digest, document });
        Ok(())
    }

    async fn assignment(&self, node: &NodeId) -> Result<Option<StoredAssignment>> {
        Ok(self.tables().nodes.get(node).and_then(|node| node.assignment.clone()))
    }

    async fn assignments(&self) -> Result<Vec<StoredAssignment>> {
        Ok(self.tables().nodes.values().filter_map(|node| node.assignment.clone()).collect())
    }

    async fn add_join_token(&self, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()> {
        let mut tables = self.tables();
        tables.node(node)?;
        if tables.tokens.contains_key(hash) {
            return Err(duplicate("join token of node", node));
        }
        let mut number = 1;
        for earlier in tables.tokens.values_mut().filter(|token| token.node == *node) {
            number = number.max(earlier.number + 1);
            if earlier.used.is_none() {
                earlier.expires_ms = 0;
            }
        }
        tables.tokens.retain(|_, token| token.node != *node || token.number > number - TOKENS_PER_NODE_MAX);
        tables.tokens.insert(hash.to_owned(), Token { node: node.clone(), number, expires_ms, used: None });
        Ok(())
    }

    async fn enrol(&self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome> {
        let mut tables = self.tables();
        let Some(token) = tables.tokens.get(hash).cloned() else { return Ok(EnrolOutcome::Unknown) };
        if let Some((used_key, incarnation)) = &token.used {
            let current = tables.node(&token.node)?.seen.incarnation;
            let again = used_key == key && *incarnation == current;
            let enrolled = EnrolOutcome::Enrolled { node: token.node, incarnation: current };
            return Ok(if again { enrolled } else { EnrolOutcome::Used });
        }
        if token.expires_ms <= now_ms {
            return Ok(EnrolOutcome::Expired);
        }
        let id = token.node;
        let node = tables.node(&id)?;
        node.reports.clear();
        node.stage_keys.clear();
        node.refused_seq = 0;
        let seen = &mut node.seen;
        seen.incarnation += 1;
        seen.enrolled_ms = Some(now_ms);
        seen.converged_generation = 0;
        seen.stages.clear();
        seen.refused = None;
        seen.heartbeat = None;
        let incarnation = seen.incarnation;
        if let Some(token) = tables.tokens.get_mut(hash) {
            token.used = Some((key.to_owned(), incarnation));
        }
        Ok(EnrolOutcome::Enrolled { incarnation, node: id })
    }

    async fn record_reports(
        &self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        check_reports(reports)?;
        let mut tables = self.tables();
        let node = tables.node(node)?;
        if node.seen.incarnation != incarnation {
            return Err(conflict("node", &node.seen.record.id));
        }
        let newest = |reports: &BTreeSet<i64>| reports.last().copied().unwrap_or(0);
        let pruned = newest(&node.reports) - i64::from(RESULTS_PER_NODE_MAX);
        let mut fresh = Vec::new();
        for report in reports {
            let seq = report.seq.cast_signed();
            if seq <= pruned || !node.reports.insert(seq) {
                continue;
            }
            match &report.body {
                ReportBody::Stage(result) => {
                    let key = (result.generation, report.seq);
                    let old = node.stage_keys.get(&result.stage).copied().unwrap_or_default();
                    if key.0 >= old.0 && key.1 >= old.1 {
                        node.stage_keys.insert(result.stage, key);
                        node.seen.stages.insert(result.stage, (result.clone(), now_ms));
                    }
                }
                ReportBody::Converged { generation } => {
                    node.seen.converged_generation = node.seen.converged_generation.max(*generation);
                }
                ReportBody::Refused { offered, reason, .. } if report.seq >= node.refused_seq => {
                    node.refused_seq = report.seq;
                    node.seen.refused = Some((*offered, clean(reason).into_owned()));
                }
                ReportBody::Refused { .. } | ReportBody::LedgerLost { .. } => {}
            }
            fresh.push(report.clone());
        }
        let pruned = newest(&node.reports) - i64::from(RESULTS_PER_NODE_MAX);
        node.reports = node.reports.split_off(&(pruned + 1));
        Ok(fresh)
    }

    async fn record_heartbeats(&self, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()> {
        let batch = batch(beats)?;
        let mut tables = self.tables();
        for (id, received_ms, beat) in batch {
            let Some(node) = tables.nodes.get_mut(id).filter(|node| node.seen.incarnation == beat.incarnation) else {
                continue;
            };
            let recorded = node.seen.heartbeat.as_ref();
            if recorded.is_none_or(|(old, old_ms)| supersedes(beat, *received_ms, old, *old_ms)) {
                node.seen.heartbeat = Some((beat.clone(), *received_ms));
            }
        }
        Ok(())
    }

    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        Ok(self.tables().jobs.get(id).cloned())
    }

    async fn jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Vec<JobRecord>> {
        let wanted = |job: &&JobRecord| {
            page.after.as_ref().is_none_or(|before| job.id.0 < *before)
                && filter.tenant.as_ref().is_none_or(|tenant| job.tenant == *tenant)
                && filter.topology.as_ref().is_none_or(|topology| job.topology == *topology)
                && !(filter.open_only && job.ended.is_some())
        };
        Ok(self.tables().jobs.values().rev().filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn finish_job(&self, id: &JobId, standing: JobStanding, now_ms: i64, document: &Value) -> Result<bool> {
        if !standing.is_final() {
            return Err(broken(format!("ending job {id}"), format!("{:?} is not an end", standing.name())));
        }
        let mut tables = self.tables();
        let job = tables.jobs.get_mut(id).ok_or_else(|| missing("job", id))?;
        let open = job.ended.is_none();
        if open {
            job.ended = Some(JobEnd { standing, at_ms: now_ms, document: Some(document.clone()) });
        }
        Ok(open)
    }

    async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Event>> {
        let mut tables = self.tables();
        let mut written = Vec::with_capacity(events.len());
        for event in events {
            tables.event_seq += 1;
            let (topology, node) = (event.topology.clone(), event.node.clone());
            let text = clean(&event.text).into_owned();
            let event =
                Event { seq: tables.event_seq, at_ms: event.at_ms, topology, node, kind: event.kind.to_owned(), text };
            let kept = tables.events.entry(event.topology.clone()).or_default();
            kept.insert(event.seq, event.clone());
            if kept.len() > EVENTS_PER_TOPOLOGY_MAX as usize {
                kept.pop_first();
            }
            written.push(event);
        }
        Ok(written)
    }

    async fn events(&self, topology: &TopologyId, after: i64, limit: u32) -> Result<Vec<Event>> {
        let tables = self.tables();
        let kept = tables.events.get(topology).into_iter().flatten();
        Ok(kept.filter(|(seq, _)| **seq > after).take(most(limit)).map(|(_, event)| event.clone()).collect())
    }
}
