//! What every part of the controller shares: the store, the repos, the caches, the way to wake.

use crate::agents::Guesses;
use crate::apply::health::Said;
use crate::apply::held::Held;
use crate::bell::Bell;
use crate::ca::Ca;
use crate::commands::Commands;
use crate::config::Config;
use crate::error::{Error, chain};
use crate::fleet::{Fleet, Offer};
use crate::http::limits::Limits;
use crate::identity::Identity;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::pool::desk::Desk;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::storage::Storages;
use crate::tasks::beats::Beats;
use crate::tasks::hosts::Busy;
use crate::unsealed;
use crate::wake::Wake;
use std::sync::Arc;
use straas_drivers::Hosts;
use straas_repos::{ConfigRepo, Packs, ScriptRepo};
use straas_schemas::{Assignment, FileRef, NodeId};
use straas_store::{
    NewEvent, PAGE_MAX, PageRequest, RolloutFilter, Store, StoredAssignment, TopologyFilter, TopologyRecord,
};
use tokio_util::task::TaskTracker;

/// The controller's parts.
pub struct App {
    /// Its configuration.
    pub config: Config,
    /// The database.
    pub store: Arc<dyn Store>,
    /// The config repo.
    pub configs: ConfigRepo,
    /// The script repo.
    pub scripts: ScriptRepo,
    /// Packs of the script repo.
    pub packs: Packs,
    /// The certificate authority.
    pub ca: Ca,
    /// The provider of hosts.
    pub hosts: Arc<dyn Hosts>,
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
    /// Who came with join tokens that are no good.
    pub guesses: Guesses,
    /// Work that one of several controllers does.
    pub leases: Leases,
    /// Heartbeats to be written.
    pub beats: Beats,
    /// What the built-in health check said last.
    pub health: Said,
    /// Hosts of the pool that wait for news.
    pub pool: Arc<Desk>,
    /// Which jobs are held, as they were planned last.
    pub held: Held,
    /// Files every host should have.
    pub files: Vec<FileRef>,
    /// Files that tenants keep.
    pub storage: Arc<Storages>,
    /// Where users and their tokens are known.
    pub identity: Arc<dyn Identity>,
    /// Hash of the administrator's token.
    pub admin_token: String,
    /// What of the service changes while it runs.
    pub settings: Settings,
    /// How much is asked for.
    pub limits: Limits,
    /// Numbers for `/metrics`.
    pub metrics: Metrics,
    /// Hosts that are being made or removed by this controller.
    pub busy: Busy,
    /// Tasks beside the main ones: streams to users, work on hosts.
    pub tasks: TaskTracker,
    /// The controller is going down: long answers end.
    pub stopping: Stop,
}

/// What a new host's agent is told, but for its token.
#[derive(Clone, Debug)]
pub struct BootTemplate {
    /// URLs of the controllers.
    pub controllers: Vec<String>,
    /// Where packages come from.
    pub apt: Option<straas_drivers::AptSource>,
}

impl App {
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

    fn offer(&self, stored: &StoredAssignment) {
        let node = &stored.node;
        match serde_json::from_str::<Assignment>(&stored.document) {
            Ok(assignment) => self.fleet.offer(node, self.prepared(assignment)),
            Err(error) => tracing::error!(%node, %error, "a stored assignment cannot be read; it is planned anew"),
        }
    }

    /// A node is gone from the store: its agent is told nothing more, wherever it asks.
    pub fn forget_node(&self, node: &NodeId) {
        self.fleet.remove(node);
        self.wake.node(node);
    }

    /// An assignment as it is offered.
    pub fn prepared(&self, assignment: Assignment) -> Offer {
        let open = self.configs.vault().map(|vault| unsealed::for_node(vault, &assignment));
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
        self.topologies(None).await?.iter().for_each(|topology| self.wake.wake(&topology.id));
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

/// Runs blocking work (git) off the runtime's threads.
///
/// # Errors
/// The work's own, or that it did not end.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> straas_repos::Result<T> + Send + 'static,
) -> Result<T, Error> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
