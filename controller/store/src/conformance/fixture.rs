//! Small worlds for the cases: a topology with one component and some nodes, and what agents send.

use crate::{
    ComponentRecord, ComponentSpec, EnrolOutcome, GroupSpec, HostRecord, JobFilter, JobRecord, Lease, NewEvent,
    NodeRecord, NodeSnapshot, PageRequest, Store, StoreError, TopologyRecord, Want,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use straas_schemas::assignment::{Autonomy, Timing};
use straas_schemas::heartbeat::{Activity, Heartbeat, ServiceStatus, Vitals};
use straas_schemas::job::JobKind;
use straas_schemas::report::{Report, ReportBody, StageResult};
use straas_schemas::{Assignment, Digest, JobId, Lifecycle, NodeId, Outcome, Stage};

/// A topology with one component, named after a case.
pub struct World {
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// The topology.
    pub topology: TopologyRecord,
    /// Its component.
    pub component: ComponentRecord,
    /// The nodes, by id.
    pub nodes: Vec<NodeRecord>,
}

/// A topology that is not recorded yet.
pub(super) fn topology(name: &str) -> TopologyRecord {
    TopologyRecord {
        id: format!("t-{name}").into(),
        tenant: format!("tenant-{name}"),
        name: name.to_owned(),
        zone: "az1".to_owned(),
        branch: format!("{name}@az1"),
        config_commit: "0123456789abcdef".to_owned(),
        deleting: false,
        created_ms: 1_000,
    }
}

/// A component that is not recorded yet.
pub(super) fn component(of: &TopologyRecord, name: &str, position: u32) -> ComponentRecord {
    let group = GroupSpec {
        name: "zk".to_owned(),
        role: "zookeeper".to_owned(),
        size: 3,
        without: vec![2],
        flavor: "small".to_owned(),
        fault_domains_min: 0,
        anti_affinity_group: None,
        cname: false,
    };
    let spec = ComponentSpec {
        kind: "zookeeper".to_owned(),
        depends_on: vec!["other".to_owned()],
        foreign: Vec::new(),
        want: Want {
            version: "3.8.0".to_owned(),
            config: "c".repeat(40),
            scripts: "5".repeat(40),
            groups: vec![group],
            nodes: BTreeMap::new(),
            files: Vec::new(),
            agent: None,
        },
        rollout: None,
        removed: false,
    };
    ComponentRecord {
        id: format!("c-{}-{name}", of.name).into(),
        topology: of.id.clone(),
        name: name.to_owned(),
        position,
        spec,
        revision: 1,
    }
}

/// An open job that is not recorded yet.
pub(super) fn job(of: &TopologyRecord, number: u32, kind: JobKind) -> JobRecord {
    JobRecord {
        id: format!("j-{}-{number:03}", of.name).into(),
        kind,
        component: None,
        topology: of.id.clone(),
        topology_name: of.name.clone(),
        tenant: of.tenant.clone(),
        detail: format!("{} of {}", kind.name(), of.name),
        created_ms: 1_000 + i64::from(number),
        undo: None,
        ended: None,
    }
}

/// A node that is not recorded yet.
pub(super) fn node(of: &ComponentRecord, ordinal: u32) -> NodeRecord {
    NodeRecord {
        id: format!("n-{}-{ordinal:05}", of.id).into(),
        topology: of.topology.clone(),
        component: of.id.clone(),
        group: "zk".to_owned(),
        role: "zookeeper".to_owned(),
        name: format!("host-zk-{ordinal}"),
        ordinal,
    }
}

/// An assignment.
pub(super) fn assignment(node: &NodeId, generation: u64, text: &str) -> Assignment {
    Assignment {
        protocol: straas_schemas::PROTOCOL,
        node: node.clone(),
        generation,
        lifecycle: Lifecycle::Running,
        name: "host-zk-1".to_owned(),
        role: "zookeeper".to_owned(),
        version: "3.8.0".to_owned(),
        scripts: "abc".to_owned(),
        config: "c0".to_owned(),
        restarts: 0,
        hosts: BTreeMap::new(),
        agent: None,
        drift: None,
        files: vec![],
        packages: vec![],
        context: serde_json::json!({ "text": text }),
        stages: vec![],
        timing: Timing {
            heartbeat_ms: 1,
            validate_every_ms: 1,
            retry_ms: 1,
            retry_max_ms: 1,
            waiting_ms: 1,
            validate_wait_ms: 1,
        },
        autonomy: Autonomy { restart_service: true },
    }
}

/// A heartbeat as a node in good health sends it.
#[must_use]
pub fn heartbeat(incarnation: u64, run: &str, beat: u64) -> Heartbeat {
    Heartbeat {
        incarnation,
        beat,
        run: run.to_owned(),
        agent_version: "0.1.0".to_owned(),
        agent: None,
        generation: 1,
        converged: true,
        activity: Activity::Idle,
        asks: None,
        service: ServiceStatus::Active,
        stages: [(
            Stage::Install,
            straas_schemas::heartbeat::StageSummary {
                digest: Digest::of(&["x"]),
                outcome: Outcome::Succeeded,
                attempt: 1,
                duration_ms: 5,
            },
        )]
        .into(),
        facts: [("mode".to_owned(), "leader".into())].into(),
        drift: None,
        looked_ago_ms: None,
        ledger_writable: true,
        ledger_fault: None,
        outbox: 0,
        vitals: Vitals { boot_id: "b".to_owned(), cpu_percent: 12.5, load: [0.5, 0.25, 0.125], ..Vitals::default() },
    }
}

/// Nothing is told of any report.
pub fn silent(_: &Report) -> Option<NewEvent> {
    None
}

/// The report of a stage that ended.
#[must_use]
pub fn stage_report(seq: u64, generation: u64, stage: Stage, reason: &str) -> Report {
    let result = StageResult {
        generation,
        stage,
        digest: Digest::of(&[reason]),
        attempt: 1,
        failures: Some(1),
        outcome: Outcome::Failed,
        return_value: stage.return_value(false).to_owned(),
        exit_code: Some(1),
        reason: reason.to_owned(),
        hint: None,
        duration_ms: 10,
        output_tail: "last words".to_owned(),
        output_bytes: 10,
        retry_in_ms: Some(1000),
        produced: None,
        facts: [("f".to_owned(), serde_json::json!({"a": [1, 2]}))].into(),
    };
    report(seq, ReportBody::Stage(result))
}

/// Any report.
pub(super) fn report(seq: u64, body: ReportBody) -> Report {
    Report { seq, at_ms: 77, body }
}

/// Whether a call was refused because of a name that is taken.
pub(super) fn is_duplicate<T>(answer: &crate::Result<T>) -> bool {
    matches!(answer, Err(StoreError::Duplicate { .. }))
}

/// Whether a call was refused because of another writer.
pub(super) fn is_conflict<T>(answer: &crate::Result<T>) -> bool {
    matches!(answer, Err(StoreError::Conflict { .. }))
}

/// Whether a call was refused because its thing is missing.
pub(super) fn is_missing<T>(answer: &crate::Result<T>) -> bool {
    matches!(answer, Err(StoreError::NotFound { .. }))
}

/// Whether a call was refused as nonsense.
pub(super) fn is_broken<T>(answer: &crate::Result<T>) -> bool {
    matches!(answer, Err(StoreError::Broken { .. }))
}

impl World {
    /// Records a topology with a component `zk`, its job 1, and so many nodes.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn new(store: Arc<dyn Store>, name: &str, size: u32) -> Self {
        let topology = topology(name);
        let component = component(&topology, "zk", 0);
        store
            .create_topology(&topology, std::slice::from_ref(&component), &job(&topology, 1, JobKind::Create))
            .await
            .unwrap();
        let nodes: Vec<_> = (1..=size).map(|ordinal| node(&component, ordinal)).collect();
        store.add_nodes(&nodes).await.unwrap();
        Self { store, topology, component, nodes }
    }

    /// Id of the node at `at`.
    #[must_use]
    pub fn id(&self, at: usize) -> &NodeId {
        &self.nodes[at].id
    }

    /// The node at `at` as recorded.
    pub(super) async fn seen(&self, at: usize) -> NodeSnapshot {
        self.store.node(self.id(at)).await.unwrap().unwrap()
    }

    /// Writes what is known of the host of the node at `at`, as whoever works on it does.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn host(&self, at: usize, host: &HostRecord) {
        let lease = self.store.take_lease(&Lease::on_host(self.id(at)), "the test", 0, 1).await.unwrap().expect("free");
        self.store.set_host(self.id(at), host, &lease).await.unwrap();
        self.store.end_lease(&lease).await.unwrap();
    }

    /// Enrols the node at `at`; returns its incarnation.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn enrol(&self, at: usize, now_ms: i64) -> u64 {
        let hash = format!("hash-{}-{now_ms}", self.id(at));
        self.store.add_join_token(&hash, self.id(at), now_ms + 1).await.unwrap();
        match self.store.enrol(&hash, "key", now_ms).await.unwrap() {
            EnrolOutcome::Enrolled { incarnation, node } if node == *self.id(at) => incarnation,
            other => panic!("{other:?}"),
        }
    }

    /// A job of this topology, or of its component if it is of a kind that has one, that is not
    /// recorded yet.
    pub(super) fn job(&self, number: u32, kind: JobKind) -> JobRecord {
        let component = (!matches!(kind, JobKind::Create | JobKind::Delete)).then(|| self.component.id.clone());
        JobRecord { component, ..job(&self.topology, number, kind) }
    }

    /// Ids of its jobs, newest first.
    pub(super) async fn job_ids(&self, open_only: bool) -> Vec<JobId> {
        let filter = JobFilter { topology: Some(self.topology.id.clone()), open_only, ..JobFilter::default() };
        let jobs = self.store.jobs(&filter, &PageRequest::default()).await.unwrap();
        jobs.into_iter().map(|job| job.id).collect()
    }
}
