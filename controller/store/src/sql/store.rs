//! The trait, method by method, handed to the file of its noun.

use super::{SqlStore, agents, events, jobs, neighbours, nodes, quarantine, snapshots, topologies};
use crate::{
    ComponentRecord, EnrolOutcome, HostRecord, JobFilter, JobRecord, Lease, Neighbour, NewEvent, NodeIndex, NodeRecord,
    NodeSnapshot, PageRequest, QuarantineRecord, Result, Snapshot, Store, StoredAssignment, Target, Tells,
    TopologyFilter, TopologyRecord,
};
use async_trait::async_trait;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobStanding;
use straas_schemas::report::Report;
use straas_schemas::view::Event;
use straas_schemas::{Assignment, ComponentId, JobId, NodeId, TopologyId};

statements! {
    PING = "select value from counter where name = 'event'";
}

#[async_trait]
impl Store for SqlStore {
    fn writes(&self) -> u64 {
        self.written.load(std::sync::atomic::Ordering::Relaxed)
    }
    async fn ping(&self) -> Result<()> {
        let there = asking!(self, "asking whether the database is there", |pool, on| sqlx::query_scalar(on(&PING))
            .fetch_one(pool));
        there.map(|_: i64| ())
    }

    async fn create_topology(
        &self,
        topology: &TopologyRecord,
        components: &[ComponentRecord],
        job: &JobRecord,
    ) -> Result<()> {
        topologies::create(self, topology, components, job).await
    }
    async fn topology(&self, id: &TopologyId) -> Result<Option<TopologyRecord>> {
        topologies::get(self, id).await
    }
    async fn topology_by_name(&self, name: &str, zone: &str) -> Result<Option<TopologyRecord>> {
        topologies::get_by_name(self, name, zone).await
    }
    async fn topologies(&self, filter: &TopologyFilter, page: &PageRequest) -> Result<Vec<TopologyRecord>> {
        topologies::list(self, filter, page).await
    }
    async fn delete_topology(
        &self,
        id: &TopologyId,
        job: &JobRecord,
        seen: Option<&[(ComponentId, u64)]>,
    ) -> Result<bool> {
        topologies::delete(self, id, job, seen).await
    }
    async fn forget_topology(
        &self,
        id: &TopologyId,
        now_ms: i64,
        documents: &[(JobId, serde_json::Value)],
    ) -> Result<()> {
        topologies::forget(self, id, now_ms, documents).await
    }
    async fn change_component(
        &self,
        component: &ComponentRecord,
        expected: u64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        topologies::change(self, component, expected, None, job).await
    }
    async fn take_back(
        &self,
        component: &ComponentRecord,
        expected: u64,
        cancelled: &JobId,
        at_ms: i64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        topologies::change(self, component, expected, Some((cancelled, at_ms)), job).await
    }
    async fn add_component(&self, component: &ComponentRecord, job: &JobRecord) -> Result<()> {
        topologies::add_component(self, component, job).await
    }
    async fn forget_component(&self, id: &ComponentId) -> Result<()> {
        topologies::forget_component(self, id).await
    }
    async fn quarantine(&self, records: &[QuarantineRecord]) -> Result<()> {
        quarantine::add(self, records).await
    }
    async fn quarantined(&self) -> Result<Vec<QuarantineRecord>> {
        quarantine::list(self).await
    }
    async fn release(&self, what: &str, key: &str) -> Result<bool> {
        quarantine::release(self, what, key).await
    }
    async fn component(&self, id: &ComponentId) -> Result<Option<ComponentRecord>> {
        topologies::component(self, id).await
    }
    async fn component_by_name(&self, topology: &TopologyId, name: &str) -> Result<Option<ComponentRecord>> {
        neighbours::by_name(self, topology, name).await
    }
    async fn neighbours(&self, ids: &[ComponentId]) -> Result<Vec<Neighbour>> {
        neighbours::get(self, ids).await
    }
    async fn leads_to(&self, from: &TopologyId, to: &TopologyId) -> Result<bool> {
        neighbours::leads_to(self, from, to).await
    }
    async fn snapshots(&self, ids: &[TopologyId]) -> Result<Vec<Snapshot>> {
        snapshots::get(self, ids).await
    }

    async fn add_nodes(&self, nodes: &[NodeRecord]) -> Result<()> {
        nodes::add(self, nodes).await
    }
    async fn remove_nodes(&self, nodes: &[NodeId]) -> Result<()> {
        nodes::remove(self, nodes).await
    }
    async fn node(&self, id: &NodeId) -> Result<Option<NodeSnapshot>> {
        nodes::get(self, id).await
    }
    async fn node_index(&self) -> Result<Vec<NodeIndex>> {
        nodes::index(self).await
    }
    async fn set_host(&self, node: &NodeId, host: &HostRecord, lease: &Lease) -> Result<()> {
        nodes::set_host(self, node, host, lease).await
    }
    async fn put_assignment(&self, assignment: &Assignment, expected: u64, writes: u64, now_ms: i64) -> Result<()> {
        nodes::put_assignment(self, assignment, expected, writes, now_ms).await
    }
    async fn assignment(&self, node: &NodeId) -> Result<Option<StoredAssignment>> {
        nodes::assignment(self, node).await
    }
    async fn assignments(&self) -> Result<Vec<StoredAssignment>> {
        nodes::assignments(self).await
    }
    async fn targets(&self, tenant: Option<&str>) -> Result<Vec<Target>> {
        nodes::targets(self, tenant).await
    }

    async fn add_join_token(&self, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()> {
        agents::add_join_token(self, hash, node, expires_ms).await
    }
    async fn enrol(&self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome> {
        agents::enrol(self, hash, key, now_ms).await
    }
    async fn record_reports(
        &self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        tells: Tells<'_>,
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        agents::record_reports(self, node, incarnation, reports, tells, now_ms).await
    }
    async fn record_heartbeats(&self, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()> {
        agents::record_heartbeats(self, beats).await
    }

    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        jobs::get(self, id).await
    }
    async fn jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Vec<JobRecord>> {
        jobs::list(self, filter, page).await
    }
    async fn finish_job(
        &self,
        id: &JobId,
        standing: JobStanding,
        now_ms: i64,
        document: &serde_json::Value,
    ) -> Result<bool> {
        jobs::finish(self, id, standing, now_ms, document).await
    }
    async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Event>> {
        events::add(self, events).await
    }
    async fn events(&self, topology: &TopologyId, after: i64, limit: u32) -> Result<Vec<Event>> {
        events::list(self, topology, after, limit).await
    }
}
