//! The database as all controllers see it: the real one in memory, behind a door at which they can die.
//!
//! Every call stops twice: before anything happened, and after it happened and before that is known. A
//! controller that is dropped at either has died there; a database that is away at either says so.
//!
//! Never here: what is watched and what must hold (`database.rs`).

use crate::database::Database;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobStanding;
use straas_schemas::report::Report;
use straas_schemas::rollout::FleetRolloutKind;
use straas_schemas::view::Event;
use straas_schemas::{Assignment, CommandId, ComponentId, Digest, HostId, JobId, NodeId, TopologyId};
use straas_store::*;

macro_rules! through {
    ($which:ident { $($own:item)* } $($name:ident($($arg:ident: $of:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl $which for Database {
            $($own)*
            $(async fn $name(&self, $($arg: $of),*) -> Result<$out> {
                self.asked(self.inner.$name($($arg),*)).await
            })*
        }
    };
}

through!(Store {
    async fn create_topology(
        &self,
        topology: &TopologyRecord,
        components: &[ComponentRecord],
        job: &JobRecord,
    ) -> Result<()> {
        self.asked(self.made(components, self.inner.create_topology(topology, components, job))).await
    }
    async fn delete_topology(
        &self,
        id: &TopologyId,
        job: &JobRecord,
        seen: Option<&[(ComponentId, u64)]>,
    ) -> Result<bool> {
        self.asked(self.inner.delete_topology(id, job, seen)).await
    }
    async fn forget_topology(&self, id: &TopologyId, now_ms: i64, documents: &[(JobId, Value)]) -> Result<()> {
        self.asked(self.inner.forget_topology(id, now_ms, documents)).await
    }
    async fn change_component(
        &self,
        component: &ComponentRecord,
        expected: u64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        self.asked(self.changed(component, expected, |expected| self.inner.change_component(component, expected, job))).await
    }
    async fn take_back(
        &self,
        component: &ComponentRecord,
        expected: u64,
        cancelled: &JobId,
        at_ms: i64,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        let back = |expected| self.inner.take_back(component, expected, cancelled, at_ms, job);
        self.asked(self.changed(component, expected, back)).await
    }
    async fn add_component(&self, component: &ComponentRecord, job: &JobRecord) -> Result<()> {
        let one = std::slice::from_ref(component);
        self.asked(self.made(one, self.inner.add_component(component, job))).await
    }
    async fn forget_component(&self, id: &ComponentId) -> Result<()> {
        self.asked(self.forgotten(id)).await
    }
    async fn add_nodes(&self, nodes: &[NodeRecord]) -> Result<()> {
        self.asked(self.recorded(nodes)).await
    }
    async fn remove_nodes(&self, nodes: &[NodeId]) -> Result<()> {
        self.asked(self.removed(nodes)).await
    }
    async fn set_host(&self, node: &NodeId, host: &HostRecord, lease: &Lease) -> Result<()> {
        self.asked(self.inner.set_host(node, host, lease)).await
    }
    async fn put_assignment(&self, assignment: &Assignment, expected: u64, writes: u64, now_ms: i64) -> Result<()> {
        self.asked(self.assigned(assignment, expected, writes, now_ms)).await
    }
    async fn node_index(&self) -> Result<Vec<NodeIndex>> {
        self.asked(self.indexed()).await
    }
    async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Event>> {
        events.iter().for_each(|event| self.check_event(event));
        self.asked(self.inner.add_events(events)).await
    }
    async fn enrol(&self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome> {
        self.asked(self.inner.enrol(hash, key, now_ms)).await
    }
    async fn record_reports(
        &self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        tells: Tells<'_>,
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        self.asked(self.reported(node, incarnation, reports, tells, now_ms)).await
    }
}
    ping() -> ();
    topology(id: &TopologyId) -> Option<TopologyRecord>;
    topology_by_name(name: &str, zone: &str) -> Option<TopologyRecord>;
    topologies(filter: &TopologyFilter, page: &PageRequest) -> Vec<TopologyRecord>;
    quarantine(records: &[QuarantineRecord]) -> ();
    quarantined() -> Vec<QuarantineRecord>;
    release(what: &str, key: &str) -> bool;
    component(id: &ComponentId) -> Option<ComponentRecord>;
    component_by_name(topology: &TopologyId, name: &str) -> Option<ComponentRecord>;
    neighbours(ids: &[ComponentId]) -> Vec<Neighbour>;
    leads_to(from: &TopologyId, to: &TopologyId) -> bool;
    snapshots(ids: &[TopologyId]) -> Vec<Snapshot>;
    node(id: &NodeId) -> Option<NodeSnapshot>;
    assignment(node: &NodeId) -> Option<StoredAssignment>;
    targets(tenant: Option<&str>) -> Vec<Target>;
    assignments() -> Vec<StoredAssignment>;
    add_join_token(hash: &str, node: &NodeId, expires_ms: i64) -> ();
    record_heartbeats(beats: &[(NodeId, i64, Heartbeat)]) -> ();
    job(id: &JobId) -> Option<JobRecord>;
    jobs(filter: &JobFilter, page: &PageRequest) -> Vec<JobRecord>;
    finish_job(id: &JobId, standing: JobStanding, now_ms: i64, document: &Value) -> bool;
    events(topology: &TopologyId, after: i64, limit: u32) -> Vec<Event>;
);
through!(CommandStore {
    async fn queue_commands(&self, commands: &[CommandRecord], batch: Option<&BatchRecord>) -> Result<Queued> {
        self.asked(self.inner.queue_commands(commands, batch)).await
    }
    async fn start_commands(&self, named: &[(NodeId, CommandId)], now_ms: i64) -> Result<Vec<CommandRecord>> {
        self.asked(self.inner.start_commands(named, now_ms)).await
    }
}
    command(id: &CommandId) -> Option<CommandRecord>;
    commands(filter: &CommandFilter, page: &PageRequest) -> Vec<CommandRecord>;
    waiting_commands(node: &NodeId) -> Vec<CommandRecord>;
    cancel_command(id: &CommandId, now_ms: i64) -> Cancelled;
    append_output(node: &NodeId, id: &CommandId, offset: u64, bytes: &[u8]) -> u64;
    output(id: &CommandId, offset: u64, limit: usize) -> Vec<u8>;
    settle_commands(now_ms: i64, grace_ms: i64) -> Vec<CommandRecord>;
    next_deadline() -> Option<i64>;
    prune_commands(nodes: &[NodeId]) -> ();
    batch(id: &str) -> Option<BatchRecord>;
    open_batches() -> Vec<String>;
    advance_batch(id: &str, now_ms: i64) -> Vec<CommandRecord>;
    command_changes(after: (i64, &str), limit: u32) -> Vec<CommandChange>;
    last_command_change() -> i64;
);
through!(IdentityStore {}
    add_tenant(tenant: &TenantRecord) -> ();
    tenant(id: &str) -> Option<TenantRecord>;
    tenants(page: &PageRequest) -> Vec<TenantRecord>;
    remove_tenant(id: &str) -> bool;
    add_user(user: &UserRecord) -> ();
    user(name: &str) -> Option<UserRecord>;
    users(tenant: Option<&str>, page: &PageRequest) -> Vec<UserRecord>;
    set_password(name: &str, hash: Option<&str>, seen: Option<u64>) -> bool;
    remove_user(name: &str, seen: Option<u64>) -> bool;
    set_membership(user: &str, membership: &Membership, seen: Option<u64>) -> ();
    end_membership(user: &str, tenant: &str, seen: Option<u64>) -> bool;
    add_token(token: &TokenRecord) -> ();
    token(hash: &str, now_ms: i64) -> Option<TokenRecord>;
    token_by_id(id: &str, now_ms: i64) -> Option<TokenRecord>;
    tokens(of: TokensOf<'_>, user: Option<&str>, now_ms: i64, page: &PageRequest) -> Vec<TokenRecord>;
    remove_token(id: &str, of: TokensOf<'_>) -> bool;
);
through!(AuditStore {}
    audit_begin(begin: &AuditBegin) -> i64;
    audit_end(seq: i64, end: &AuditEnd) -> ();
    audit(filter: &AuditFilter, page: &PageRequest) -> Vec<AuditRecord>;
);
through!(RequestStore {
    fn claimed(&self, claim: &RequestClaim, made: &Value) -> Arc<dyn Store> {
        self.inner.claimed(claim, made)
    }
}
    begin_request(request: &RequestKey, claim: &str, now_ms: i64, until_ms: i64) -> Begun;
    renew_request(claim: &RequestClaim, until_ms: i64) -> bool;
    end_request(claim: &RequestClaim, answer: Option<&str>) -> ();
);
through!(StorageStore {}
    put_file(file: &StoredFileRecord, bytes_max: u64, expected: &Expected) -> bool;
    remove_file(tenant: &str, storage: &str, region: &str, path: &str, expected: &Expected) -> bool;
    file(tenant: &str, storage: &str, region: &str, path: &str) -> Option<StoredFileRecord>;
    files(filter: &StoredFileFilter, page: &PageRequest) -> Vec<StoredFileRecord>;
    stored_bytes(tenant: &str) -> u64;
    hashes_needed() -> BTreeSet<String>;
);
through!(HealthStore {}
    put_health(found: &[HealthRecord]) -> ();
    health(topologies: &[TopologyId]) -> Vec<HealthRecord>;
);
through!(CmsStore {}
    create_cms(model: &CmsRecord) -> ();
    sync_cms(model: &CmsRecord, seen: Option<&CmsRecord>) -> ();
    cms(topology: &TopologyId) -> Option<CmsRecord>;
    remove_cms(topology: &TopologyId, seen: Option<&CmsRecord>) -> bool;
);
through!(HistoryStore {}
    told_at(node: &NodeId, at_ms: i64) -> Option<Told>;
    reported_until(node: &NodeId, at_ms: i64, limit: u32) -> Vec<Reported>;
);
through!(RolloutStore {}
    add_rollout(rollout: &RolloutRecord) -> ();
    open_rollout_of(kind: FleetRolloutKind, components: &[ComponentId]) -> Option<String>;
    rollout(id: &str) -> Option<RolloutRecord>;
    rollout_revision(id: &str) -> Option<u64>;
    rollouts(filter: &RolloutFilter, page: &PageRequest) -> Vec<RolloutSummary>;
    change_rollout(rollout: &RolloutRecord, changed: &[usize], expected: u64) -> ();
);
through!(PoolStore {}
    announce_host(host: &PoolHost, token: &PoolToken) -> ();
    add_pool_token(token: &PoolToken) -> ();
    pool_tokens(now_ms: i64, page: &PageRequest) -> Vec<PoolToken>;
    pool_token(id: &str) -> Option<PoolToken>;
    remove_pool_token(id: &str) -> ();
    join_pool(joining: &Joining) -> JoinOutcome;
    pool_host(id: &HostId) -> Option<PoolHost>;
    pool_hosts(filter: &PoolFilter, page: &PageRequest) -> Vec<PoolHost>;
    pool_hosts_of(node: &NodeId) -> Vec<PoolHost>;
    change_pool_host(host: &PoolHost) -> ();
    remove_pool_host(id: &HostId, revision: u64) -> ();
    pool_seen(seen: &[(HostId, i64)]) -> ();
    pool_changes(after: u64) -> Vec<(HostId, u64)>;
);
through!(LeaseStore {}
    take_lease(name: &str, holder: &str, now_ms: i64, until_ms: i64) -> Option<Lease>;
    keep_lease(lease: &Lease, until_ms: i64) -> bool;
    end_lease(lease: &Lease) -> ();
    end_leases(holder: &str) -> ();
);

through!(AuthorityStore {}
    authorities() -> Option<AuthorityRecord>;
    change_authorities(record: &AuthorityRecord) -> ();
    note_issued(agent: &AgentId, incarnation: u64, key: &Digest, issuer: &Digest) -> ();
    note_shown(shown: &[CertificateShown]) -> ();
    agent_certificates() -> Vec<AgentCertificate>;
    agent_certificate(agent: &AgentId) -> Option<AgentCertificate>;
);

through!(NewsStore {
    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
    fn level(&self) -> i64 {
        self.inner.level()
    }
}
    present(id: &str, version: &str, now_ms: i64) -> Vec<Beside>;
    leave(id: &str) -> ();
    say(id: &str, words: &[Word], now_ms: i64) -> ();
    last_news() -> u64;
    news(id: &str, after: u64) -> Heard;
    listen() -> ();
);
