//! The store in memory, for simulations and tests: the same promises, nothing durable.
//!
//! Maps behind one mutex that is never held across an await. Each method looks at everything that
//! could refuse it before it changes anything, so an error leaves no trace. The code is written on
//! its own, not shared with `sql/`: that two different implementations pass one conformance suite
//! is what the suite is worth.

mod agents;
mod audit;
mod authority;
mod commands;
mod health;
mod history;
mod identity;
mod leases;
mod neighbours;
mod news;
mod pool;
mod requests;
mod rollouts;
mod storage;
mod topologies;

use crate::input::{broken, check_generation, clean};
use crate::{
    ASSIGNMENTS_PER_NODE_MAX, ComponentRecord, EnrolOutcome, HostPhase, HostRecord, JobEnd, JobFilter, JobRecord,
    Lease, Neighbour, NewEvent, NodeIndex, NodeRecord, NodeSnapshot, PAGE_MAX, PageRequest, QuarantineRecord, Reported,
    RequestClaim, Result, Snapshot, Store, StoreError, StoredAssignment, Target, Tells, Told, TopologyFilter,
    TopologyRecord,
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobStanding;
use straas_schemas::report::Report;
use straas_schemas::view::Event;
use straas_schemas::{Assignment, ComponentId, JobId, NodeId, Stage, TopologyId};

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    all: Arc<Mutex<Tables>>,
    /// The request that is carried out through it, and what that makes.
    bound: Option<(RequestClaim, Value)>,
}

#[derive(Debug, Default)]
struct Tables {
    topologies: BTreeMap<TopologyId, TopologyRecord>,
    /// Assignments written for each.
    writes: BTreeMap<TopologyId, u64>,
    components: BTreeMap<ComponentId, ComponentRecord>,
    nodes: BTreeMap<NodeId, Node>,
    tokens: BTreeMap<String, Token>,
    jobs: BTreeMap<JobId, JobRecord>,
    events: BTreeMap<TopologyId, BTreeMap<i64, Event>>,
    event_seq: i64,
    quarantine: BTreeMap<(String, String), QuarantineRecord>,
    guest: commands::Guest,
    people: identity::People,
    audit: Vec<crate::AuditRecord>,
    requests: requests::Requests,
    files: BTreeMap<storage::Name, crate::StoredFileRecord>,
    health: BTreeMap<(NodeId, bool), crate::HealthRecord>,
    cms: BTreeMap<TopologyId, crate::CmsRecord>,
    rollouts: BTreeMap<String, crate::RolloutRecord>,
    pool: pool::Pool,
    news: news::News,
    leases: leases::Leases,
    authority: authority::Authority,
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
    /// What it was told, oldest first.
    told: Vec<Told>,
    /// What it reported, by incarnation and sequence.
    reported: BTreeMap<(u64, i64), Reported>,
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
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, for a request if it is for one.
    fn write<T>(&self, work: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        self.tables().work_for(self.bound.as_ref(), work)
    }
}

fn index(node: &Node) -> NodeIndex {
    NodeIndex {
        id: node.seen.record.id.clone(),
        topology: node.seen.record.topology.clone(),
        incarnation: node.seen.incarnation,
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

    /// Refuses while a node may have a host.
    fn no_host(&self, of: impl Fn(&NodeRecord) -> bool) -> Result<()> {
        let host = |node: &&Node| of(&node.seen.record) && node.seen.host.phase != HostPhase::Absent;
        let found = self.nodes.values().find(host);
        found.map_or(Ok(()), |node| Err(conflict("host", &node.seen.record.id)))
    }

    /// Those that may have a host stay.
    fn remove_nodes(&mut self, gone: impl Fn(&NodeRecord) -> bool) {
        self.nodes.retain(|_, node| !gone(&node.seen.record) || node.seen.host.phase != HostPhase::Absent);
        let nodes = &self.nodes;
        self.tokens.retain(|_, token| nodes.contains_key(&token.node));
        self.health.retain(|(node, _), _| nodes.contains_key(node));
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
        self.write(|tables| tables.create_topology(topology, components, job))
    }

    async fn topology(&self, id: &TopologyId) -> Result<Option<TopologyRecord>> {
        Ok(self.tables().topologies.get(id).cloned())
    }

    async fn topology_by_name(&self, name: &str, zone: &str) -> Result<Option<TopologyRecord>> {
        Ok(self.tables().topologies.values().find(|topology| topology.name == name && topology.zone == zone).cloned())
    }

    async fn topologies(&self, filter: &TopologyFilter, page: &PageRequest) -> Result<Vec<TopologyRecord>> {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let wanted = |topology: &&TopologyRecord| {
            page.after.as_ref().is_none_or(|after| topology.id.0 > *after)
                && is(&filter.tenant, &topology.tenant)
                && is(&filter.name, &topology.name)
                && is(&filter.zone, &topology.zone)
        };
        Ok(self.tables().topologies.values().filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn delete_topology(
        &self,
        id: &TopologyId,
        job: &JobRecord,
        seen: Option<&[(ComponentId, u64)]>,
    ) -> Result<bool> {
        self.write(|tables| tables.delete_topology(id, job, seen))
    }

    async fn forget_topology(&self, id: &TopologyId, now_ms: i64, documents: &[(JobId, Value)]) -> Result<()> {
        self.write(|tables| tables.forget_topology(id, now_ms, documents))
    }

    async fn change_component(
        &self,
        component: &ComponentRecord,
        expected: u64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        self.write(|tables| tables.change(component, expected, None, job))
    }

    async fn take_back(
        &self,
        component: &ComponentRecord,
        expected: u64,
        cancelled: &JobId,
        at_ms: i64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        self.write(|tables| tables.change(component, expected, Some((cancelled, at_ms)), job))
    }

    async fn add_component(&self, component: &ComponentRecord, job: &JobRecord) -> Result<()> {
        self.write(|tables| tables.add_component(component, job))
    }

    async fn forget_component(&self, id: &ComponentId) -> Result<()> {
        self.write(|tables| tables.forget_component(id))
    }

    async fn quarantine(&self, records: &[QuarantineRecord]) -> Result<()> {
        self.write(|tables| tables.quarantine(records))
    }

    async fn quarantined(&self) -> Result<Vec<QuarantineRecord>> {
        Ok(self.tables().quarantine.values().cloned().collect())
    }

    async fn release(&self, what: &str, key: &str) -> Result<bool> {
        let name = (clean(what).into_owned(), clean(key).into_owned());
        self.write(|tables| Ok(tables.quarantine.remove(&name).is_some()))
    }

    async fn component(&self, id: &ComponentId) -> Result<Option<ComponentRecord>> {
        Ok(self.tables().components.get(id).cloned())
    }

    async fn component_by_name(&self, topology: &TopologyId, name: &str) -> Result<Option<ComponentRecord>> {
        let tables = self.tables();
        Ok(tables.components.values().find(|c| c.topology == *topology && c.name == name).cloned())
    }

    async fn neighbours(&self, ids: &[ComponentId]) -> Result<Vec<Neighbour>> {
        let tables = self.tables();
        let ids: BTreeSet<_> = ids.iter().collect();
        Ok(ids.into_iter().filter_map(|id| tables.neighbour(id)).collect())
    }

    async fn leads_to(&self, from: &TopologyId, to: &TopologyId) -> Result<bool> {
        Ok(self.tables().leads_to(from, to))
    }

    async fn snapshots(&self, ids: &[TopologyId]) -> Result<Vec<Snapshot>> {
        let tables = self.tables();
        let ids: BTreeSet<_> = ids.iter().collect();
        Ok(ids.into_iter().filter_map(|id| tables.snapshot(id)).collect())
    }

    async fn add_nodes(&self, nodes: &[NodeRecord]) -> Result<()> {
        self.write(|tables| tables.add_nodes(nodes))
    }

    async fn remove_nodes(&self, nodes: &[NodeId]) -> Result<()> {
        let gone: BTreeSet<_> = nodes.iter().collect();
        self.write(|tables| {
            tables.remove_nodes(|node| gone.contains(&node.id));
            Ok(())
        })
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeSnapshot>> {
        Ok(self.tables().nodes.get(id).map(|node| node.seen.clone()))
    }

    async fn node_index(&self) -> Result<Vec<NodeIndex>> {
        Ok(self.tables().nodes.values().map(index).collect())
    }

    async fn set_host(&self, node: &NodeId, host: &HostRecord, lease: &Lease) -> Result<()> {
        self.write(|tables| {
            tables.fence(lease)?;
            tables.set_host(node, host)
        })
    }

    async fn put_assignment(&self, assignment: &Assignment, expected: u64, writes: u64, now_ms: i64) -> Result<()> {
        check_generation(assignment.generation, expected)?;
        let document = serde_json::to_string(assignment).map_err(|cause| broken("writing an assignment", cause))?;
        let mut tables = self.tables();
        let node = tables.node(&assignment.node)?;
        if node.seen.assigned.as_ref().map_or(0, |assigned| assigned.0) != expected {
            return Err(conflict("assignment", &assignment.node));
        }
        let topology = node.seen.record.topology.clone();
        let written = tables.writes.entry(topology).or_default();
        if *written != writes {
            return Err(conflict("plan", &assignment.node));
        }
        *written += 1;
        let node = tables.node(&assignment.node)?;
        let (generation, digest) = (assignment.generation, assignment.content_digest());
        node.seen.assigned = Some((generation, digest.clone()));
        let stored = StoredAssignment { node: assignment.node.clone(), generation, digest, document };
        node.assignment = Some(stored.clone());
        node.told.push(Told { assignment: stored, written_ms: now_ms });
        let many = node.told.len().saturating_sub(ASSIGNMENTS_PER_NODE_MAX as usize);
        node.told.drain(..many);
        Ok(())
    }

    async fn assignment(&self, node: &NodeId) -> Result<Option<StoredAssignment>> {
        Ok(self.tables().nodes.get(node).and_then(|node| node.assignment.clone()))
    }

    async fn assignments(&self) -> Result<Vec<StoredAssignment>> {
        Ok(self.tables().nodes.values().filter_map(|node| node.assignment.clone()).collect())
    }

    async fn targets(&self, tenant: Option<&str>) -> Result<Vec<Target>> {
        let tables = self.tables();
        let target = |node: &Node| {
            let record = &node.seen.record;
            let topology = tables.topologies.get(&record.topology)?;
            Some(Target {
                node: record.id.clone(),
                name: record.name.clone(),
                role: record.role.clone(),
                address: node.seen.host.address.clone()?,
                component: tables.components.get(&record.component)?.name.clone(),
                topology: topology.name.clone(),
                zone: topology.zone.clone(),
                tenant: topology.tenant.clone(),
            })
        };
        let found = tables.nodes.values().filter_map(target);
        Ok(found.filter(|found| tenant.is_none_or(|tenant| tenant == found.tenant)).collect())
    }

    async fn add_join_token(&self, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()> {
        self.write(|tables| tables.add_join_token(hash, node, expires_ms))
    }

    async fn enrol(&self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome> {
        self.write(|tables| tables.enrol(hash, key, now_ms))
    }

    async fn record_reports(
        &self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        tells: Tells<'_>,
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        self.write(|tables| {
            let fresh = tables.record_reports(node, incarnation, reports, now_ms)?;
            let events: Vec<_> = fresh.iter().filter_map(tells).collect();
            tables.add_events(&events);
            Ok(fresh)
        })
    }

    async fn record_heartbeats(&self, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()> {
        self.write(|tables| tables.record_heartbeats(beats))
    }

    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        Ok(self.tables().jobs.get(id).cloned())
    }

    async fn jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Vec<JobRecord>> {
        let wanted = |job: &&JobRecord| {
            page.after.as_ref().is_none_or(|before| job.id.0 < *before)
                && filter.tenant.as_ref().is_none_or(|tenant| job.tenant == *tenant)
                && filter.topology.as_ref().is_none_or(|topology| job.topology == *topology)
                && filter.component.as_ref().is_none_or(|component| job.component.as_ref() == Some(component))
                && filter.kind.is_none_or(|kind| job.kind == kind)
                && filter.ended.is_none_or(|standing| job.ended.as_ref().is_some_and(|end| end.standing == standing))
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
        Ok(self.tables().add_events(events))
    }

    async fn events(&self, topology: &TopologyId, after: i64, limit: u32) -> Result<Vec<Event>> {
        let tables = self.tables();
        let kept = tables.events.get(topology).into_iter().flatten();
        Ok(kept.filter(|(seq, _)| **seq > after).take(most(limit)).map(|(_, event)| event.clone()).collect())
    }
}
