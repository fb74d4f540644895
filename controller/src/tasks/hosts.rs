//! Makes and removes hosts, as the plan wishes, beside the reconcile loop: making a host can take
//! minutes on some providers, and no topology waits for another's.
//!
//! A node is worked on by one task at a time. Wishes are levels, not orders: one that comes while
//! the node is busy is dropped, since the topology is looked at again when the work has ended, and
//! the plan wishes anew. Only a wish to remove is heard at once: it ends whatever the making of the
//! host waits for. A node that is busy is not forgotten (`apply.rs`), so no host outlives its node.

use crate::app::App;
use crate::clock::now_ms;
use crate::error::Error;
use crate::secrets;
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use straas_drivers::{AgentBoot, Flavor, HostPhase as Phase, HostSpec, HostStatus, Secret};
use straas_schemas::{NodeId, TopologyId};
use straas_store::{HostPhase, HostRecord, NewEvent, NodeSnapshot, StoreError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Hosts that are made or removed at once.
const AT_ONCE: usize = 8;
/// A join token lives so long: enough for a slow provider to boot a host.
const TOKEN_LIFE_MS: i64 = 60 * 60 * 1000;
/// The hosts that exist are compared with those that should so often.
const SWEEP: Duration = Duration::from_secs(15);
/// Work on a host gets so long to end when the controller stops. What is cut off is completed or
/// cleaned up by the next start, as after a crash.
const GRACE: Duration = Duration::from_secs(3);

/// A host that should be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The node it carries.
    pub node: NodeId,
    /// Its host name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its size.
    pub flavor: Flavor,
}

/// Hosts of one topology that should or should not be.
pub struct HostWork {
    /// The topology.
    pub topology: TopologyId,
    /// Should be.
    pub wanted: Vec<Wish>,
    /// Should not be.
    pub unwanted: Vec<NodeId>,
}

/// The nodes whose hosts are being worked on.
pub struct Busy {
    nodes: Mutex<BTreeMap<NodeId, CancellationToken>>,
    slots: Semaphore,
}

impl Default for Busy {
    fn default() -> Self {
        Self { nodes: Mutex::default(), slots: Semaphore::new(AT_ONCE) }
    }
}

impl Busy {
    /// Whether a node's host is being worked on.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).contains_key(node)
    }

    /// Takes a node; `None` if it is taken, and then `unwanted` ends what its work waits for.
    fn begin(&self, node: &NodeId, unwanted: bool) -> Option<CancellationToken> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = nodes.get(node) {
            if unwanted {
                running.cancel();
            }
            return None;
        }
        let token = CancellationToken::new();
        // a removal waits for nothing that a second wish to remove could end
        nodes.insert(node.clone(), if unwanted { CancellationToken::new() } else { token.clone() });
        Some(token)
    }

    fn end(&self, node: &NodeId) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

/// Work on one host.
enum Task {
    Make(Wish),
    Remove,
}

/// Starts what is to be done and is not being done.
pub fn take_up(app: &Arc<App>, work: HostWork) {
    for wish in work.wanted {
        start(app, wish.node.clone(), &work.topology, Task::Make(wish));
    }
    for node in work.unwanted {
        start(app, node, &work.topology, Task::Remove);
    }
}

fn start(app: &Arc<App>, node: NodeId, topology: &TopologyId, task: Task) {
    let Some(unwanted) = app.busy.begin(&node, matches!(task, Task::Remove)) else { return };
    let (app, topology, stopping) = (app.clone(), topology.clone(), app.stopping.clone());
    app.tasks.clone().spawn(async move {
        tokio::select! {
            () = work(&app, &node, &topology, task, &unwanted) => {}
            () = late(stopping) => tracing::warn!(%node, "work on its host is cut off"),
        }
        app.busy.end(&node);
        app.wake.wake(&topology);
    });
}

async fn late(mut stopping: Stop) {
    stopping.requested().await;
    tokio::time::sleep(GRACE).await;
}

async fn work(app: &App, node: &NodeId, topology: &TopologyId, task: Task, unwanted: &CancellationToken) {
    let mut stopping = app.stopping.clone();
    let slot = tokio::select! {
        slot = app.busy.slots.acquire() => slot,
        () = unwanted.cancelled() => return,
        () = stopping.requested() => return,
    };
    let done = match task {
        Task::Make(wish) => make(app, &wish, unwanted).await,
        Task::Remove => remove(app, node).await,
    };
    drop(slot);
    let error = match done {
        Ok(()) | Err(Error::Stopping) => return,
        Err(error) => error,
    };
    tracing::warn!(%node, error = error.chain(), "work on a host failed; it is tried again");
    let failed =
        HostRecord { phase: HostPhase::Failed, address: None, error: Some(error.chain()), changed_ms: now_ms() };
    if let Err(error) = app.store.set_host(node, &failed).await {
        tracing::debug!(%node, %error, "cannot record that");
    }
    app.wake.touch(topology);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(app.config.timing.retry_ms.into())) => {}
        () = unwanted.cancelled() => {}
        () = stopping.requested() => {}
    }
}

async fn find(app: &App, node: &NodeId) -> Result<Option<HostStatus>, Error> {
    Ok(app.hosts.list().await?.into_iter().find(|host| host.id == node.as_str()))
}

async fn make(app: &App, wish: &Wish, unwanted: &CancellationToken) -> Result<(), Error> {
    // the row may be gone, or the host made, since this was wished
    let Some(snapshot) = app.store.node(&wish.node).await? else { return Ok(()) };
    let status = match find(app, &wish.node).await? {
        Some(host) if host.phase == Phase::Running => host,
        found => {
            // the first host waits until image and packages are there
            let mut boot = app.boot.clone();
            let mut stopping = app.stopping.clone();
            let template = tokio::select! {
                template = boot.wait_for(Option::is_some) => template.ok().and_then(|template| template.clone()),
                () = unwanted.cancelled() => return Ok(()),
                () = stopping.requested() => None,
            };
            let token = secrets::new_token();
            if found.is_none() {
                // A host that exists keeps the token it was made with. A new one needs a new one,
                // also where an earlier host had enrolled: its key went with it.
                app.store.add_join_token(&secrets::hash(&token), &wish.node, now_ms() + TOKEN_LIFE_MS).await?;
            }
            let template = template.ok_or(Error::Stopping)?;
            app.hosts.ensure(&spec(app, wish, template, token)).await?
        }
    };
    let address = Some(status.address.to_string());
    if snapshot.host.phase == HostPhase::Up && snapshot.host.address == address {
        return Ok(());
    }
    let up = HostRecord { phase: HostPhase::Up, address, error: None, changed_ms: now_ms() };
    match app.store.set_host(&wish.node, &up).await {
        Err(StoreError::NotFound { .. }) => {
            tracing::info!(node = %wish.node, host = wish.name, "its node was removed meanwhile; removing the host");
            return Ok(app.hosts.destroy(wish.node.as_str()).await?);
        }
        other => other?,
    }
    event(app, &snapshot, format!("{}: host is up at {}", wish.name, status.address)).await;
    Ok(())
}

fn spec(app: &App, wish: &Wish, template: crate::BootTemplate, token: String) -> HostSpec {
    HostSpec {
        id: wish.node.0.clone(),
        name: wish.name.clone(),
        owner: app.config.local.instance.clone(),
        zone: wish.zone.clone(),
        flavor: wish.flavor,
        address: None,
        agent: AgentBoot {
            controllers: template.controllers,
            node: wish.node.0.clone(),
            ca_pem: app.ca.certificate_pem().to_owned(),
            join_token: Secret::new(token),
            // numbers, no secrets: Prometheus scrapes them from another machine
            metrics_listen: "0.0.0.0:9465".into(),
            apt: template.apt,
            settings: BTreeMap::new(),
        },
        userdata: String::new(),
    }
}

async fn remove(app: &App, node: &NodeId) -> Result<(), Error> {
    let snapshot = app.store.node(node).await?;
    app.hosts.destroy(node.as_str()).await?;
    if let Some(snapshot) = snapshot {
        absent(app, &snapshot, format!("{}: host is removed", snapshot.record.name)).await?;
    }
    Ok(())
}

/// Records that a node has no host.
async fn absent(app: &App, node: &NodeSnapshot, text: String) -> Result<(), Error> {
    match app.store.set_host(&node.record.id, &HostRecord { changed_ms: now_ms(), ..HostRecord::default() }).await {
        Ok(()) => event(app, node, text).await,
        // the node went meanwhile, which is where it was going
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn event(app: &App, node: &NodeSnapshot, text: String) {
    let (node, topology) = (node.record.id.clone(), node.record.topology.clone());
    tracing::info!(%node, "{text}");
    app.tell(&[NewEvent { at_ms: now_ms(), topology, node: Some(node), kind: "host", text }]).await;
}

/// Compares the hosts that exist with those that should, until the controller stops.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.clone();
    let mut every = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            _ = every.tick() => if let Err(error) = sweep(&app).await {
                tracing::warn!(error = error.chain(), "cannot compare hosts with nodes; trying again");
            },
            () = stopping.requested() => return,
        }
    }
}

/// Removes hosts of ours that belong to no node, and notices those that went down or are gone.
async fn sweep(app: &App) -> Result<(), Error> {
    let listed_ms = now_ms();
    let mut seen = BTreeSet::new();
    for host in app.hosts.list().await? {
        let node = NodeId(host.id.clone());
        if host.owner == app.config.local.instance && !app.busy.contains(&node) {
            compare(app, &node, &host).await?;
        }
        seen.insert(node);
    }
    for node in app.fleet.nodes() {
        if seen.contains(&node) || app.busy.contains(&node) {
            continue;
        }
        let Some(snapshot) = app.store.node(&node).await? else { continue };
        if snapshot.host.phase == HostPhase::Up && snapshot.host.changed_ms < listed_ms {
            // not silence: the provider itself says that it has no such host
            absent(app, &snapshot, format!("{}: host is gone; making it anew", snapshot.record.name)).await?;
            app.wake.wake(&snapshot.record.topology);
        }
    }
    Ok(())
}

async fn compare(app: &App, node: &NodeId, host: &HostStatus) -> Result<(), Error> {
    let Some(snapshot) = app.store.node(node).await? else {
        tracing::warn!(host = host.name, "no node belongs to this host; removing it");
        return Ok(app.hosts.destroy(&host.id).await?);
    };
    if snapshot.host.phase != HostPhase::Up {
        return Ok(());
    }
    if snapshot.incarnation == 0 && snapshot.host.changed_ms + TOKEN_LIFE_MS < now_ms() {
        app.hosts.destroy(&host.id).await?;
        absent(app, &snapshot, format!("{}: its join token has expired unused; making the host anew", host.name))
            .await?;
        app.wake.wake(&snapshot.record.topology);
    } else if host.phase == Phase::Down {
        let down = HostRecord { phase: HostPhase::Absent, changed_ms: now_ms(), ..snapshot.host.clone() };
        app.store.set_host(node, &down).await?;
        event(app, &snapshot, format!("{}: host is down; starting it", host.name)).await;
        app.wake.wake(&snapshot.record.topology);
    }
    Ok(())
}
