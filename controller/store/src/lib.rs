//! What the controller remembers, as a trait of use-cases.
//!
//! One method is one promise: when it returns `Ok`, its effect is durable and whole; when it
//! returns an error, nothing of it happened. (One exception no database can avoid: `Unavailable`
//! because the connection broke in the very moment of the commit leaves open whether it happened;
//! compare-and-swap and idempotent reports make asking again safe.) Callers never see transactions, SQL or dialects.
//! Texts keep every character but U+0000, which becomes U+FFFD; documents keep all.
//! Every method is given the time it needs; the store has no clock of its own. `conformance.rs`
//! is the meaning of this trait: every implementation passes it.
//!
//! Never here: decisions. The store does not know what a stage or a gate means; it keeps what the
//! planner decided and what agents reported, and refuses what would contradict a compare-and-swap.

mod audit;
mod authority;
mod commands;
mod health;
mod history;
mod identity;
mod input;
mod leases;
mod memory;
mod news;
mod pool;
pub mod records;
mod requests;
mod rollouts;
mod sql;
mod storage;

pub mod conformance;

pub use audit::*;
pub use authority::*;
pub use commands::*;
pub use health::*;
pub use history::*;
pub use identity::*;
pub use leases::*;
pub use memory::MemoryStore;
pub use news::*;
pub use pool::*;
pub use records::*;
pub use requests::*;
pub use rollouts::*;
pub use sql::{CopiedTable, Source, SqlStore, copy_store, reopen_store};
pub use storage::*;

use async_trait::async_trait;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::job::JobStanding;
use straas_schemas::report::Report;
use straas_schemas::view::Event;
use straas_schemas::{Assignment, ComponentId, JobId, NodeId, TopologyId};

/// Most rows of one list answer, whatever the caller asks for.
pub const PAGE_MAX: u32 = 1000;
/// Most heartbeats of one batch: keeps a write transaction under some tens of milliseconds.
pub const HEARTBEAT_BATCH_MAX: usize = 512;
/// Most stage results kept per node beside the newest of each stage; older ones are pruned.
pub const RESULTS_PER_NODE_MAX: u32 = 200;
/// Most events kept per topology; older ones are pruned.
pub const EVENTS_PER_TOPOLOGY_MAX: u32 = 5000;

/// What is told people of a report, if anything.
pub type Tells<'a> = &'a (dyn Fn(&Report) -> Option<NewEvent> + Sync);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A name that must be unique is taken.
    #[error("{what} {name:?} exists already")]
    Duplicate {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The thing to change is not there.
    #[error("no {what} {id:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A compare-and-swap found another value than expected: read again and decide anew.
    #[error("{what} {id:?} was changed by another writer")]
    Conflict {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The database cannot be reached or answers too late; trying again later may help.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk of the database has no room left; once there is some, the same can be tried again.
    #[error("the disk of the database is full")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database holds something this version cannot read, or refused a statement.
    #[error("the database refused: {what}")]
    Broken {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Answer of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Everything the controller keeps in a database.
#[async_trait]
pub trait Store:
    CommandStore
    + IdentityStore
    + AuditStore
    + RequestStore
    + StorageStore
    + HealthStore
    + CmsStore
    + HistoryStore
    + RolloutStore
    + PoolStore
    + NewsStore
    + LeaseStore
    + AuthorityStore
{
    /// A cheap round trip to the tables, for `/readyz`.
    async fn ping(&self) -> Result<()>;
    /// Transactions since it was opened that were to write something; 0 of a store that does not count.
    fn writes(&self) -> u64 {
        0
    }

    // --- topologies -------------------------------------------------------------------------

    /// Records a topology, its components and the job that creates it.
    /// `Duplicate` if the name is taken in its zone by a topology that still exists.
    ///
    /// Here and wherever a component is written: `Conflict` of a `dependency` if it is to depend on
    /// a component of another topology that is gone or going, or if that topology depends on this
    /// one already, over however many others.
    async fn create_topology(
        &self,
        topology: &TopologyRecord,
        components: &[ComponentRecord],
        job: &JobRecord,
    ) -> Result<()>;
    /// One topology.
    async fn topology(&self, id: &TopologyId) -> Result<Option<TopologyRecord>>;
    /// The topology of a name in a zone.
    async fn topology_by_name(&self, name: &str, zone: &str) -> Result<Option<TopologyRecord>>;
    /// Topologies by id, filtered, after `page.after`.
    async fn topologies(&self, filter: &TopologyFilter, page: &PageRequest) -> Result<Vec<TopologyRecord>>;
    /// Marks a topology as to be deleted, supersedes its open jobs, records the job.
    /// Marking one twice is `Ok(false)` and records nothing; `NotFound` if there is none, `Conflict`
    /// of a `dependency` while components of other topologies depend on some of it. With `seen`, `Conflict`
    /// of a `topology` unless its components are these, each at this revision.
    async fn delete_topology(
        &self,
        id: &TopologyId,
        job: &JobRecord,
        seen: Option<&[(ComponentId, u64)]>,
    ) -> Result<bool>;
    /// Removes a topology with everything that belongs to it (components, nodes, assignments,
    /// results, heartbeats, tokens; events and jobs stay) and ends its open jobs as succeeded at
    /// `now_ms`, with `documents` as their last pictures. `NotFound` if there is none (any more),
    /// `Conflict` of a `host` while one of its nodes may have one.
    async fn forget_topology(
        &self,
        id: &TopologyId,
        now_ms: i64,
        documents: &[(JobId, serde_json::Value)],
    ) -> Result<()>;
    /// Replaces a component's spec (nothing else of the record) if its revision is still `expected`
    /// and raises the revision by one. With a job: supersedes the component's open jobs that it
    /// takes the place of ([`straas_schemas::job::JobKind::takes_place_of`]) and records it.
    /// `Conflict` otherwise, and if the topology is being deleted: read again and decide anew.
    /// `Conflict` of a `dependency` also for a component that is to be removed while components of
    /// other topologies depend on it.
    async fn change_component(&self, component: &ComponentRecord, expected: u64, job: Option<&JobRecord>)
    -> Result<()>;
    /// As [`Store::change_component`], and ends the open job `cancelled` as such, at `at_ms`, in the same moment.
    /// `Conflict` also if that job has ended.
    async fn take_back(
        &self,
        component: &ComponentRecord,
        expected: u64,
        cancelled: &JobId,
        at_ms: i64,
        job: Option<&JobRecord>,
    ) -> Result<()>;
    /// Adds a component to a topology and records the job that creates it. `Duplicate` if its name
    /// is taken, `Conflict` if the topology is being deleted, `NotFound` if there is none.
    async fn add_component(&self, component: &ComponentRecord, job: &JobRecord) -> Result<()>;
    /// Removes a component with everything that belongs to it, nodes too; one that is gone already
    /// is no error. `Conflict` of a `host` while one of its nodes may have one.
    async fn forget_component(&self, id: &ComponentId) -> Result<()>;
    /// Puts things into quarantine; what is there already stays as it is.
    async fn quarantine(&self, records: &[QuarantineRecord]) -> Result<()>;
    /// Everything in quarantine, by `what` and `key`.
    async fn quarantined(&self) -> Result<Vec<QuarantineRecord>>;
    /// Takes something out of quarantine; `false` if it was not in it.
    async fn release(&self, what: &str, key: &str) -> Result<bool>;
    /// One component.
    async fn component(&self, id: &ComponentId) -> Result<Option<ComponentRecord>>;
    /// The component of a name in a topology.
    async fn component_by_name(&self, topology: &TopologyId, name: &str) -> Result<Option<ComponentRecord>>;
    /// Components with their topologies and nodes, by id, as of one moment; those that are gone are left out.
    async fn neighbours(&self, ids: &[ComponentId]) -> Result<Vec<Neighbour>>;
    /// Whether `from` is `to`, or components of it depend on `to`, over however many other topologies.
    async fn leads_to(&self, from: &TopologyId, to: &TopologyId) -> Result<bool>;
    /// Everything the planner needs of these topologies, as of one moment, by id; those that are gone are left out.
    async fn snapshots(&self, ids: &[TopologyId]) -> Result<Vec<Snapshot>>;
    /// Everything the planner needs of one topology, as of one moment.
    async fn snapshot(&self, id: &TopologyId) -> Result<Option<Snapshot>> {
        Ok(self.snapshots(std::slice::from_ref(id)).await?.pop())
    }

    // --- nodes ------------------------------------------------------------------------------

    /// Records nodes; those that exist are left as they are. `NotFound` if the component or the
    /// topology of one is gone, and then none of them is recorded.
    async fn add_nodes(&self, nodes: &[NodeRecord]) -> Result<()>;
    /// Removes nodes with everything that belongs to them. Those that are gone already are no error;
    /// those that may have a host (made since it was decided that they go) stay.
    async fn remove_nodes(&self, nodes: &[NodeId]) -> Result<()>;
    /// One node with what is observed of it.
    async fn node(&self, id: &NodeId) -> Result<Option<NodeSnapshot>>;
    /// Ids of all nodes with their topology and incarnation, for caches at start.
    async fn node_index(&self) -> Result<Vec<NodeIndex>>;
    /// Writes what is known of a node's host. One of a higher number is another host, and of one that
    /// is gone ([`HostRecord::is_gone`]) nothing comes back: the node's incarnation rises by one, so that
    /// the agent of the earlier one is in standing no more, and all that was observed of that is cleared.
    /// `Conflict` of a `lease` if the one on this host ([`Lease::on_host`]) is the writer's no more.
    async fn set_host(&self, node: &NodeId, host: &HostRecord, lease: &Lease) -> Result<()>;
    /// Writes an assignment if the newest generation is still `expected` (0 for none), else
    /// `Conflict`; and if so many assignments were written for its topology ([`Snapshot::writes`]), which are one more then.
    /// The assignment's generation must be `expected + 1`. It is history at once, too ([`HistoryStore`]).
    async fn put_assignment(&self, assignment: &Assignment, expected: u64, writes: u64, now_ms: i64) -> Result<()>;
    /// The newest assignment of a node, as the JSON text that was written.
    async fn assignment(&self, node: &NodeId) -> Result<Option<StoredAssignment>>;
    /// Every node that has an address, of one tenant or of all, by id.
    async fn targets(&self, tenant: Option<&str>) -> Result<Vec<Target>>;
    /// All newest assignments, for caches at start.
    async fn assignments(&self) -> Result<Vec<StoredAssignment>>;

    // --- agents -----------------------------------------------------------------------------

    /// Records the hash of a join token for a node; earlier unused tokens of that node end. The same one once more, while it
    /// is unused, lives on until this time: another controller makes the same host.
    async fn add_join_token(&self, hash: &str, node: &NodeId, expires_ms: i64) -> Result<()>;
    /// Spends a join token that expires after `now_ms`: exactly one caller gets `Enrolled`, and the node's incarnation has
    /// risen by one with all that was observed of the earlier one cleared.
    /// `key` names the public key that it is spent on: whoever comes again with the same token and
    /// the same key, because the answer was lost, gets the same answer and changes nothing, as
    /// long as the node has no newer incarnation.
    async fn enrol(&self, hash: &str, key: &str, now_ms: i64) -> Result<EnrolOutcome>;
    /// Records reports of a node's incarnation and returns those that were new; those recorded
    /// before, and those more than [`RESULTS_PER_NODE_MAX`] below the newest, are ignored.
    /// Reports of an incarnation that is not the newest are refused with `Conflict`.
    /// A stage result becomes the newest of its stage unless one of a higher generation or a
    /// higher sequence is there; `Converged` raises `converged_generation`, never lowers it. A `validate`
    /// that succeeded, whenever it is received, says of the incarnation that it `worked`.
    /// A number above `i64::MAX` refuses the whole call with `Broken`: the API checks that before.
    /// What `tells` says of each new one becomes an event in the same transaction: who dies after it has lost neither.
    async fn record_reports(
        &self,
        node: &NodeId,
        incarnation: u64,
        reports: &[Report],
        tells: Tells<'_>,
        now_ms: i64,
    ) -> Result<Vec<Report>>;
    /// Records heartbeats, at most [`HEARTBEAT_BATCH_MAX`]; one of an incarnation that is not the
    /// newest, or received before the recorded one, or of the same run of the agent with a lower
    /// `beat`, is dropped silently, as is one of an unknown node or with an impossible number.
    async fn record_heartbeats(&self, beats: &[(NodeId, i64, Heartbeat)]) -> Result<()>;

    // --- jobs and events --------------------------------------------------------------------

    /// One job.
    async fn job(&self, id: &JobId) -> Result<Option<JobRecord>>;
    /// Jobs, newest first, filtered.
    async fn jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Vec<JobRecord>>;
    /// Ends a job unless it has ended (then `Ok(false)`); `document` is its last picture. `Broken`
    /// for a standing that is not an end.
    async fn finish_job(
        &self,
        id: &JobId,
        standing: JobStanding,
        now_ms: i64,
        document: &serde_json::Value,
    ) -> Result<bool>;
    /// Appends events; returns them as kept, with their sequence numbers. Numbers become visible in
    /// their order: who goes on after the last number seen misses nothing.
    async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Event>>;
    /// Events of a topology after a sequence number, oldest first.
    async fn events(&self, topology: &TopologyId, after: i64, limit: u32) -> Result<Vec<Event>>;
}
