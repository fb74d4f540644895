//! Makes and removes hosts, as the plan wishes, beside the reconcile loop: making a host can take
//! minutes on some providers, and no topology waits for another's.
//!
//! A node is worked on by one task at a time. Wishes are levels, not orders: one that comes while
//! the node is busy is dropped, since the topology is looked at again when the work has ended, and
//! the plan wishes anew. Only a wish to remove is heard at once: it ends whatever the making of the
//! host waits for. A node that is busy is not forgotten (`apply.rs`), so no host outlives its node.
//! Of several controllers one works on a host, under a lease; what is recorded of that is fenced by it.

mod busy;
mod sweep;

pub use busy::Busy;
pub use sweep::{run, sweep};

use crate::app::App;
use crate::engine::Engine;
use crate::error::Error;
use crate::leases;
use crate::secrets;
use crate::snapshot;
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::{AgentBoot, Flavor, HostPhase as Phase, HostSpec, HostStatus, Secret};
use straas_schemas::settings::TimingSettings;
use straas_schemas::{NodeId, TopologyId};
use straas_store::{HostPhase, HostRecord, Lease, NewEvent, NodeSnapshot, StoreError};
use tokio_util::sync::CancellationToken;

/// Where agents show their metrics.
pub const METRICS_PORT: u16 = 9465;
/// A join token lives so long: enough for a slow provider to boot a host.
const TOKEN_LIFE_MS: i64 = 60 * 60 * 1000;
/// Work on a host gets so long to end when the controller stops. What is cut off is completed or
/// cleaned up by the next start, as after a crash.
const GRACE: Duration = Duration::from_secs(3);
/// While a host is made, it is looked so often whether another controller was told that it is not wanted any more.
const STILL: Duration = Duration::from_secs(5);

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
    /// Which replacement it is; an earlier host of the node goes first.
    pub number: u32,
    /// Hosts with the same word fail apart, as far as the provider can.
    pub spread: Option<String>,
}

/// A host that should not be.
#[derive(Clone, Debug)]
pub struct Unwanted {
    /// The node it carries.
    pub node: NodeId,
    /// Which replacement it is: a later one is not meant.
    pub number: u32,
}

/// Hosts of one topology that should or should not be.
pub struct HostWork {
    /// The topology.
    pub topology: TopologyId,
    /// Its zone.
    pub zone: String,
    /// Should be.
    pub wanted: Vec<Wish>,
    /// Should not be.
    pub unwanted: Vec<Unwanted>,
}

/// Work on one host.
#[derive(Clone, Debug)]
pub enum Task {
    /// It is to be.
    Make(Wish),
    /// It is not to be, nor an earlier one than this number.
    Remove(u32),
}

/// Work on one host that is to begin; its node is busy until [`over`].
pub struct Due {
    /// The node it carries.
    pub node: NodeId,
    /// The node's topology.
    pub topology: TopologyId,
    /// Its zone.
    pub zone: String,
    /// What is to be done.
    pub task: Task,
    /// Nobody wants it any more: whatever it waits for ends.
    pub unwanted: CancellationToken,
}

/// What is to be done and is not being done.
pub fn due(app: &Engine, work: HostWork) -> Vec<Due> {
    let HostWork { topology, zone, wanted, unwanted } = work;
    let wanted = wanted.into_iter().map(|wish| (wish.node.clone(), Task::Make(wish)));
    let unwanted = unwanted.into_iter().map(|unwanted| (unwanted.node, Task::Remove(unwanted.number)));
    let begin = |(node, task): (NodeId, Task)| {
        let unwanted = app.busy.begin(&node, matches!(task, Task::Remove(_)))?;
        Some(Due { node, topology: topology.clone(), zone: zone.clone(), task, unwanted })
    };
    wanted.chain(unwanted).filter_map(begin).collect()
}

/// Work on a host has ended: its node is busy no more, and what is to be done next is looked for.
pub fn over(app: &Engine, due: &Due) {
    app.busy.end(&due.node);
    app.wake.wake(&due.topology);
}

/// Starts what is to be done and is not being done.
pub fn take_up(app: &Arc<App>, work: HostWork) {
    for due in due(app, work) {
        let app = app.clone();
        app.tasks.clone().spawn(async move {
            tokio::select! {
                () = work_on(&app, &due) => {}
                () = late(app.stopping.clone()) => tracing::warn!(node = %due.node, "work on its host is cut off"),
            }
            over(&app, &due);
        });
    }
}

async fn late(mut stopping: Stop) {
    stopping.requested().await;
    tokio::time::sleep(GRACE).await;
}

async fn work_on(app: &Engine, due: &Due) {
    let mut stopping = app.stopping.clone();
    let lease = tokio::select! {
        lease = lease(app, &due.node) => lease,
        () = due.unwanted.cancelled() => return,
        () = stopping.requested() => return,
    };
    let wait = tokio::select! {
        wait = in_a_slot(&lease, app, due) => wait,
        () = leases::keep(&*app.store, &lease, &app.clock) => {
            return tracing::warn!(node = %due.node, "its lease is lost: another controller works on its host");
        }
        never = until_unwanted(app, due) => match never {},
    };
    leases::end(&*app.store, &lease).await;
    let Some(wait) = wait else { return };
    app.wake.touch(&due.topology);
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = due.unwanted.cancelled() => {}
        () = stopping.requested() => {}
    }
}

async fn in_a_slot(lease: &Lease, app: &Engine, due: &Due) -> Option<Duration> {
    let mut stopping = app.stopping.clone();
    let _slot = tokio::select! {
        slot = app.busy.slots.acquire() => slot,
        () = due.unwanted.cancelled() => return None,
        () = stopping.requested() => return None,
    };
    attempt(lease, app, due).await
}

/// Tries it once, under the lease on the host. If it fails, that is recorded, and how long to wait before the next try is
/// given.
pub async fn attempt(lease: &Lease, app: &Engine, due: &Due) -> Option<Duration> {
    let Due { node, topology, zone, task, unwanted } = due;
    let timing = app.settings.timing(zone);
    let done = match task {
        Task::Make(wish) => make(lease, app, wish, unwanted).await,
        Task::Remove(number) => remove(lease, app, topology, node, *number).await,
    };
    let error = match done {
        Ok(()) | Err(Error::Stopping) => return None,
        Err(error) => error,
    };
    tracing::warn!(%node, error = error.chain(), "work on a host failed; it is tried again");
    let wait = failed(lease, app, node, &timing, error.chain()).await.unwrap_or_else(|error| {
        tracing::debug!(%node, error = error.chain(), "cannot record that");
        Duration::from_millis(timing.retry_ms.into())
    });
    Some(wait)
}

/// The lease on a node's host, as soon as no other controller works on it.
async fn lease(app: &Engine, node: &NodeId) -> Lease {
    let mut looks = app.bell.looks();
    loop {
        match app.leases.host(&*app.store, node, app.now_ms()).await {
            Ok(Some(lease)) => return lease,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%node, error = error.chain(), "cannot take the lease on its host; trying again")
            }
        }
        looks.next().await;
    }
}

/// Ends what the making of a host waits for when it is not wanted any more, as a controller beside this one may have been
/// told.
async fn until_unwanted(app: &Engine, due: &Due) -> std::convert::Infallible {
    let Due { node, topology, unwanted, task, .. } = due;
    while matches!(task, Task::Make(_)) && app.store.is_shared() && !unwanted.is_cancelled() {
        // waits for: what another controller was told is seen in the store alone
        tokio::time::sleep(STILL).await;
        match snapshot::planned(app, topology).await {
            Ok(Some(plan)) if !plan.no_hosts.contains(node) && !plan.forget_nodes.contains(node) => {}
            Ok(_) => unwanted.cancel(),
            Err(error) => tracing::debug!(%node, error = error.chain(), "cannot see whether its host is still wanted"),
        }
    }
    std::future::pending().await
}

/// Records why there is no host, or still one; how long to wait before the next try.
async fn failed(
    lease: &Lease,
    app: &Engine,
    node: &NodeId,
    timing: &TimingSettings,
    error: String,
) -> Result<Duration, Error> {
    let Some(snapshot) = app.store.node(node).await? else { return Ok(Duration::ZERO) };
    let attempt = snapshot.host.attempt.saturating_add(1);
    let (wait, now) = (pause(timing, attempt), app.now_ms());
    let failed = HostRecord {
        phase: HostPhase::Failed,
        error: Some(error),
        attempt,
        next_ms: Some(now.saturating_add_unsigned(wait.into())),
        changed_ms: now,
        // one that is there and cannot be started or removed has the number and address it had
        ..snapshot.host
    };
    app.store.set_host(node, &failed, lease).await?;
    Ok(Duration::from_millis(wait.into()))
}

/// Wait after so many failures in a row, in ms: as nodes wait after a stage that failed.
fn pause(timing: &TimingSettings, failures: u32) -> u32 {
    let doubled = timing.retry_ms.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(timing.retry_max_ms.max(timing.retry_ms))
}

async fn find(app: &Engine, node: &NodeId) -> Result<Option<HostStatus>, Error> {
    Ok(app.hosts.list().await?.into_iter().find(|host| host.id == node.as_str()))
}

async fn make(lease: &Lease, app: &Engine, wish: &Wish, unwanted: &CancellationToken) -> Result<(), Error> {
    // the row may be gone, or the host made, since this was wished
    let Some(snapshot) = app.store.node(&wish.node).await? else { return Ok(()) };
    if snapshot.host.number > wish.number {
        return Ok(());
    }
    if snapshot.host.number < wish.number {
        // Whatever the node has is of an earlier one, also where a crash left it unrecorded. From
        // here on what is found is the new one: it is not destroyed again by whoever comes next.
        app.hosts.destroy(wish.node.as_str()).await?;
        let gone = HostRecord { number: wish.number, changed_ms: app.now_ms(), ..HostRecord::default() };
        app.store.set_host(&wish.node, &gone, lease).await?;
    }
    let status = match find(app, &wish.node).await? {
        Some(host) if host.phase == Phase::Running => host,
        found => {
            if found.is_none() && snapshot.host.address.is_some() {
                // it is gone altogether: before the next one is there, nothing of it counts any more
                let gone = HostRecord { number: wish.number, changed_ms: app.now_ms(), ..HostRecord::default() };
                app.store.set_host(&wish.node, &gone, lease).await?;
            }
            let mut spec = spec(app, wish);
            if app.hosts.needs_boot(&wish.zone) {
                // the first host waits until image and packages are there
                let mut boot = app.boot.clone();
                let mut stopping = app.stopping.clone();
                let template = tokio::select! {
                    template = boot.wait_for(Option::is_some) => template.ok().and_then(|template| template.clone()),
                    () = unwanted.cancelled() => return Ok(()),
                    () = stopping.requested() => None,
                };
                let template = template.ok_or(Error::Stopping)?;
                (spec.agent.controllers, spec.agent.apt) = (template.controllers, template.apt);
                // the incarnation of now: the one before may have ended just now
                let Some(now) = app.store.node(&wish.node).await? else { return Ok(()) };
                let token = app.authorities.now().issuer.join_token(&wish.node, now.incarnation);
                if found.is_none() {
                    // A host that exists keeps the token it was made with. A new one needs a new one,
                    // also where an earlier host had enrolled: its key went with it.
                    app.store.add_join_token(&secrets::hash(&token), &wish.node, app.now_ms() + TOKEN_LIFE_MS).await?;
                }
                spec.agent.join_token = Secret::new(token);
            }
            app.hosts.ensure(&spec).await?
        }
    };
    let address = Some(status.address.to_string());
    let fault_domain = status.fault_domain;
    let known = &snapshot.host;
    let same = known.number == wish.number && known.address == address && known.fault_domain == fault_domain;
    if snapshot.host.phase == HostPhase::Up && same {
        return Ok(());
    }
    let number = wish.number;
    let changed_ms = app.now_ms();
    let up = HostRecord { phase: HostPhase::Up, address, fault_domain, number, changed_ms, ..HostRecord::default() };
    match app.store.set_host(&wish.node, &up, lease).await {
        Err(StoreError::NotFound { .. }) => {
            tracing::info!(node = %wish.node, host = wish.name, "its node was removed meanwhile; removing the host");
            return Ok(app.hosts.destroy(wish.node.as_str()).await?);
        }
        other => other?,
    }
    event(app, &snapshot, format!("{}: host is up at {}", wish.name, status.address)).await;
    Ok(())
}

/// The host of a wish, but for what a host that is made here is told for its first boot.
fn spec(app: &Engine, wish: &Wish) -> HostSpec {
    HostSpec {
        id: wish.node.0.clone(),
        name: wish.name.clone(),
        owner: app.instance.clone(),
        zone: wish.zone.clone(),
        flavor: wish.flavor,
        spread: wish.spread.clone(),
        address: None,
        agent: AgentBoot {
            controllers: Vec::new(),
            node: Some(wish.node.0.clone()),
            ca_pem: app.authorities.now().bundle_pem(),
            join_token: Secret::new(String::new()),
            // numbers, no secrets: Prometheus scrapes them from another machine
            metrics_listen: format!("0.0.0.0:{METRICS_PORT}"),
            apt: None,
            settings: BTreeMap::new(),
        },
        userdata: String::new(),
    }
}

async fn remove(lease: &Lease, app: &Engine, topology: &TopologyId, node: &NodeId, number: u32) -> Result<(), Error> {
    let snapshot = app.store.node(node).await?;
    if snapshot.as_ref().is_some_and(|snapshot| snapshot.host.number > number) {
        tracing::debug!(%node, number, "that host was replaced already");
        return Ok(());
    }
    // it may have waited long, and what is removed does not come back: the node may be wanted again
    let plan = snapshot::planned(app, topology).await?;
    if snapshot.is_some() && plan.is_some_and(|plan| !plan.no_hosts.contains(node) && !plan.forget_nodes.contains(node))
    {
        tracing::info!(%node, number, "its host is not to go any more");
        return Ok(());
    }
    app.hosts.destroy(node.as_str()).await?;
    if let Some(snapshot) = snapshot {
        absent(lease, app, &snapshot, format!("{}: host is removed", snapshot.record.name)).await?;
    }
    Ok(())
}

/// Records that a node has no host.
async fn absent(lease: &Lease, app: &Engine, node: &NodeSnapshot, text: String) -> Result<(), Error> {
    let gone = HostRecord { number: node.host.number, changed_ms: app.now_ms(), ..HostRecord::default() };
    match app.store.set_host(&node.record.id, &gone, lease).await {
        Ok(()) => event(app, node, text).await,
        // the node went meanwhile, which is where it was going
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn event(app: &Engine, node: &NodeSnapshot, text: String) {
    let (node, topology) = (node.record.id.clone(), node.record.topology.clone());
    tracing::info!(%node, "{text}");
    app.tell(&[NewEvent { at_ms: app.now_ms(), topology, node: Some(node), kind: "host", text }]).await;
}
