//! What looking at topologies, carrying out plans and answering agents share: the store, the caches, the way to wake.
//!
//! It needs no runtime and no port: its clock, its repositories, its database and its provider of
//! hosts are given to it, so it can be told a whole history in one thread. The daemon around it,
//! with its users and its tasks, is [`crate::app::App`].
//!
//! Never here: decisions.

use crate::app::BootTemplate;
use crate::apply::health::Said;
use crate::apply::held::Held;
use crate::authority::Authorities;
use crate::bell::Bell;
use crate::books::Books;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::error::{Error, chain};
use crate::fleet::{Fleet, Offer};
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::tasks::beats::Beats;
use crate::tasks::hosts::Busy;
use crate::wake::Wake;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::Hosts;
use straas_schemas::{Assignment, FileRef, NodeId};
use straas_store::{
    NewEvent, PAGE_MAX, PageRequest, RolloutFilter, Store, StoredAssignment, TopologyFilter, TopologyRecord,
};
use tokio::runtime::Handle;

/// What everything that decides nothing and writes everything down needs.
pub struct Engine {
    /// The time.
    pub clock: Clock,
    /// The database.
    pub store: Arc<dyn Store>,
    /// What the repositories say.
    pub books: Arc<dyn Books>,
    /// The certificate authorities.
    pub authorities: Arc<Authorities>,
    /// The provider of hosts.
    pub hosts: Arc<dyn Hosts>,
    /// The owner that this service's hosts are marked with.
    pub instance: String,
    /// While this file is there, hosts that belong to no node are left alone.
    pub restored: PathBuf,
    /// Work that one of several controllers does.
    pub leases: Leases,
    /// What a new host's agent is told, but for its token.
    pub boot: tokio::sync::watch::Receiver<Option<BootTemplate>>,
    /// What agents may be told.
    pub fleet: Fleet,
    /// What waits to be done about guest commands.
    pub commands: Commands,
    /// Which topologies have to be looked at.
    pub wake: Wake,
    /// What is told the controllers beside this one.
    pub bell: Arc<Bell>,
    /// Heartbeats to be written.
    pub beats: Beats,
    /// What the built-in health check said last.
    pub health: Said,
    /// Which jobs are held, as they were planned last.
    pub held: Held,
    /// Files every host should have.
    pub files: Vec<FileRef>,
    /// What of the service changes while it runs.
    pub settings: Settings,
    /// Numbers for `/metrics`.
    pub metrics: Metrics,
    /// Hosts that are being made or removed by this controller.
    pub busy: Busy,
    /// The controller is going down: long answers end.
    pub stopping: Stop,
}

impl Engine {
    /// Unix time in ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Fills the caches from the store and marks every topology to be looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self) -> Result<(), Error> {
        self.sync_fleet().await?;
        self.store.assignments().await?.iter().for_each(|stored| self.offer(stored));
        self.wake_all().await
    }

    /// Makes the fleet's slots those of the store: other controllers add, remove and enrol nodes too.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sync_fleet(&self) -> Result<(), Error> {
        // before the index is read: a node that is recorded meanwhile must not be taken for a removed one
        let mut gone = self.fleet.nodes();
        for node in self.store.node_index().await? {
            gone.remove(&node.id);
            self.fleet.add(node.id.clone(), node.topology, node.incarnation);
            self.fleet.enrolled(&node.id, node.incarnation);
        }
        gone.iter().for_each(|node| self.fleet.remove(node));
        Ok(())
    }

    /// Takes one node anew from the store; `false` if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sync_node(&self, node: &NodeId) -> Result<bool, Error> {
        let Some(snapshot) = self.store.node(node).await? else {
            self.fleet.remove(node);
            return Ok(false);
        };
        self.fleet.add(node.clone(), snapshot.record.topology, snapshot.incarnation);
        self.fleet.enrolled(node, snapshot.incarnation);
        self.sync_assignment(node).await?;
        // removed meanwhile? Whoever removes does so from the store first and from here after that.
        if self.store.node(node).await?.is_none() {
            self.fleet.remove(node);
            return Ok(false);
        }
        Ok(true)
    }

    /// Offers a node its newest assignment in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sync_assignment(&self, node: &NodeId) -> Result<(), Error> {
        self.store.assignment(node).await?.iter().for_each(|stored| self.offer(stored));
        Ok(())
    }

    /// Takes an offer of this generation back if the store has no assignment of it (any more). What is offered was stored
    /// before, so this is a database that was put back, or one that lost a write when it failed over. What the agent makes
    /// of a lower generation it says itself.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn doubt_offer(&self, node: &NodeId, generation: u64) -> Result<(), Error> {
        let stored = self.store.assignment(node).await?;
        let known = stored.as_ref().map_or(0, |stored| stored.generation);
        if known < generation {
            tracing::error!(%node, generation, known, "the database has forgotten an assignment: it was put back, or lost a \
                write; going on from what it knows");
            self.fleet.take_back(node, generation, stored.as_ref().and_then(|stored| self.read(stored)));
        }
        Ok(())
    }

    fn offer(&self, stored: &StoredAssignment) {
        if let Some(offer) = self.read(stored) {
            self.fleet.offer(&stored.node, offer);
        }
    }

    fn read(&self, stored: &StoredAssignment) -> Option<Offer> {
        match serde_json::from_str::<Assignment>(&stored.document) {
            Ok(assignment) => Some(self.prepared(assignment)),
            Err(error) => {
                let node = &stored.node;
                tracing::error!(%node, %error, "a stored assignment cannot be read; it is planned anew");
                None
            }
        }
    }

    /// A node is gone from the store: its agent is told nothing more, wherever it asks.
    pub fn forget_node(&self, node: &NodeId) {
        self.fleet.remove(node);
        self.wake.node(node);
    }

    /// An assignment as it is offered.
    pub fn prepared(&self, assignment: Assignment) -> Offer {
        let open = self.books.open(&assignment);
        Offer::new(assignment, open)
    }

    /// Tells people what happened. Losing an event loses nothing else, so nothing fails for it.
    pub async fn tell(&self, events: &[NewEvent]) {
        if let Err(error) = self.store.add_events(events).await {
            tracing::warn!(error = chain(&error), events = events.len(), "cannot record what happened");
        }
    }

    /// Marks every topology to be looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn wake_all(&self) -> Result<(), Error> {
        self.wake.wake_in_turn(self.topologies(None).await?.into_iter().map(|topology| topology.id));
        Ok(())
    }

    /// The ids of all rollouts that have not ended, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open_rollouts(&self) -> Result<Vec<String>, Error> {
        let filter = RolloutFilter { tenant: None, open_only: true };
        let mut page = PageRequest { after: None, limit: PAGE_MAX };
        let mut all = Vec::new();
        loop {
            let found = self.store.rollouts(&filter, &page).await?;
            let full = found.len() == PAGE_MAX as usize;
            all.extend(found.into_iter().map(|found| found.rollout.id));
            page.after = all.last().cloned();
            if !full {
                all.reverse();
                return Ok(all);
            }
        }
    }

    /// Every topology of a tenant, or of all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn topologies(&self, tenant: Option<&str>) -> Result<Vec<TopologyRecord>, Error> {
        let mut page = PageRequest { after: None, limit: PAGE_MAX };
        let mut all = Vec::new();
        loop {
            let found = self.store.topologies(&TopologyFilter::of(tenant), &page).await?;
            page.after = found.last().map(|last| last.id.to_string());
            let full = found.len() == PAGE_MAX as usize;
            all.extend(found);
            if !full {
                return Ok(all);
            }
        }
    }
}

/// What comes of a work if it ends within a time; without a runtime there is no time to wait for, and it is done.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match Handle::try_current() {
        Ok(_) => tokio::time::timeout(limit, work).await.ok(),
        Err(_) => Some(work.await),
    }
}

/// Runs blocking work (git) off the runtime's threads; without a runtime nobody else waits, and it is done here.
///
/// # Errors
/// The work's own, or that it did not end.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> straas_repos::Result<T> + Send + 'static,
) -> Result<T, Error> {
    match Handle::try_current() {
        Ok(runtime) => Ok(runtime.spawn_blocking(work).await??),
        Err(_) => Ok(work()?),
    }
}
