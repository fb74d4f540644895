//! Compares the hosts that exist with those that should be: what a crash, an operator or the
//! provider itself left behind is seen here, and nowhere else.

use super::{TOKEN_LIFE_MS, absent, event};
use crate::app::App;
use crate::clock::now_ms;
use crate::error::Error;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::{HostPhase as Phase, HostStatus};
use straas_schemas::NodeId;
use straas_store::{HostPhase, HostRecord};

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
async fn sweep(app: &App) -> Result<(), Error> {
    let listed_ms = now_ms();
    let mut seen = BTreeSet::new();
    for host in app.hosts.list().await? {
        let node = NodeId(host.id.clone());
        if host.owner == app.config.local.instance && !app.busy.contains(&node) {
            // one that cannot be removed now keeps no other from being looked at
            if let Err(error) = compare(app, &node, &host).await {
                tracing::warn!(host = host.name, error = error.chain(), "cannot bring a host in line; trying again");
            }
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
    let address = Some(host.address.to_string());
    if snapshot.host.address != address {
        // a machine that exists already may get another one; whoever has to know it is told by its configuration
        let moved = HostRecord { address, changed_ms: now_ms(), ..snapshot.host.clone() };
        app.store.set_host(node, &moved).await?;
        event(app, &snapshot, format!("{}: host is at {} now", host.name, host.address)).await;
        app.wake.wake(&snapshot.record.topology);
        return Ok(());
    }
    if snapshot.enrolled_ms.is_none() && snapshot.host.changed_ms + TOKEN_LIFE_MS < now_ms() {
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
