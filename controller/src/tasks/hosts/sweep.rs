//! Compares the hosts that exist with those that should be: what a crash, an operator or the
//! provider itself left behind is seen here, and nowhere else.

use super::{TOKEN_LIFE_MS, absent, event, find, leases};
use crate::app::App;
use crate::engine::Engine;
use crate::error::Error;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::{HostPhase as Phase, HostStatus};
use straas_schemas::NodeId;
use straas_store::{HostPhase, HostRecord, Lease, NodeSnapshot};

/// The hosts that exist are compared with those that should so often.
const SWEEP: Duration = Duration::from_secs(15);

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
///
/// # Errors
/// The provider does not answer, or the store cannot be read or written.
pub async fn sweep(app: &Engine) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for host in app.hosts.list().await? {
        let node = NodeId(host.id.clone());
        if host.owner == app.instance && !app.busy.contains(&node) {
            // one that cannot be removed now keeps no other from being looked at
            if let Err(error) = bring_in_line(app, &node, &host).await {
                tracing::warn!(host = host.name, error = error.chain(), "cannot bring a host in line; trying again");
            }
        }
        seen.insert(node);
    }
    for node in app.fleet.nodes() {
        if seen.contains(&node) || app.busy.contains(&node) {
            continue;
        }
        if app.store.node(&node).await?.is_some_and(|snapshot| snapshot.host.phase == HostPhase::Up) {
            let Some(lease) = app.leases.host(&*app.store, &node, app.now_ms()).await? else { continue };
            let missed = missed(&lease, app, &node).await;
            leases::end(&*app.store, &lease).await;
            missed?;
        }
    }
    Ok(())
}

/// Records that a host is gone which the provider did not list. Until the lease was had another controller may have made it,
/// or another one in its place: so all is asked anew.
async fn missed(lease: &Lease, app: &Engine, node: &NodeId) -> Result<(), Error> {
    let Some(snapshot) = app.store.node(node).await?.filter(|snapshot| snapshot.host.phase == HostPhase::Up) else {
        return Ok(());
    };
    if find(app, node).await?.is_some() {
        return Ok(());
    }
    // not silence: the provider itself says that it has no such host
    let text = format!("{}: host is gone; making it anew", snapshot.record.name);
    absent(lease, app, &snapshot, text).await?;
    app.wake.wake(&snapshot.record.topology);
    Ok(())
}

/// Whether what is recorded of a host is no more what the provider says.
fn differs(recorded: Option<&NodeSnapshot>, host: &HostStatus, now_ms: i64) -> bool {
    let Some(node) = recorded else { return true };
    let expired = node.enrolled_ms.is_none() && node.host.changed_ms + TOKEN_LIFE_MS < now_ms;
    let moved = node.host.address.as_ref().is_none_or(|address| *address != host.address.to_string());
    node.host.phase == HostPhase::Up && (moved || expired || host.phase == Phase::Down)
}

async fn bring_in_line(app: &Engine, node: &NodeId, host: &HostStatus) -> Result<(), Error> {
    if !differs(app.store.node(node).await?.as_ref(), host, app.now_ms()) {
        return Ok(());
    }
    // none: another controller works on it
    let Some(lease) = app.leases.host(&*app.store, node, app.now_ms()).await? else { return Ok(()) };
    let compared = compare(&lease, app, node).await;
    leases::end(&*app.store, &lease).await;
    compared
}

async fn compare(lease: &Lease, app: &Engine, node: &NodeId) -> Result<(), Error> {
    // as it is now: until the lease was had another one may have taken its place
    let Some(host) = find(app, node).await? else { return Ok(()) };
    let Some(snapshot) = app.store.node(node).await? else {
        let restored = &app.restored;
        if restored.exists() {
            let file = restored.display();
            tracing::warn!(host = host.name, %file, "no node belongs to this host; it stays, see the file");
            return Ok(());
        }
        tracing::warn!(host = host.name, "no node belongs to this host; removing it");
        return Ok(app.hosts.destroy(&host.id).await?);
    };
    if snapshot.host.phase != HostPhase::Up {
        return Ok(());
    }
    let address = Some(host.address.to_string());
    if snapshot.host.address != address {
        // a machine that exists already may get another one; whoever has to know it is told by its configuration
        let moved = HostRecord { address, changed_ms: app.now_ms(), ..snapshot.host.clone() };
        app.store.set_host(node, &moved, lease).await?;
        event(app, &snapshot, format!("{}: host is at {} now", host.name, host.address)).await;
        app.wake.wake(&snapshot.record.topology);
        return Ok(());
    }
    if snapshot.enrolled_ms.is_none() && snapshot.host.changed_ms + TOKEN_LIFE_MS < app.now_ms() {
        app.hosts.destroy(&host.id).await?;
        absent(
            lease,
            app,
            &snapshot,
            format!("{}: its join token has expired unused; making the host anew", host.name),
        )
        .await?;
        app.wake.wake(&snapshot.record.topology);
    } else if host.phase == Phase::Down {
        let down = HostRecord { phase: HostPhase::Absent, changed_ms: app.now_ms(), ..snapshot.host.clone() };
        app.store.set_host(node, &down, lease).await?;
        event(app, &snapshot, format!("{}: host is down; starting it", host.name)).await;
        app.wake.wake(&snapshot.record.topology);
    }
    Ok(())
}
