//! How each node is, in the words of a health check: what is built in of one.
//!
//! Somebody's own health check may know better, since it can ask the service from outside; its word
//! and this one are kept side by side (`schemas/src/health.rs`).
//!
//! Never here: what is done about it.

use crate::observe::{self, Known, serves};
use crate::{Node, NodeWish};
use std::collections::BTreeMap;
use straas_schemas::health::HealthStatus;
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::{Lifecycle, NodeId};

/// How every recorded node is.
pub fn health(known: &Known<'_>) -> BTreeMap<NodeId, HealthStatus> {
    let of = |node: &Node| {
        let wish = known.wanted.get(&node.id).map(|wanted| wanted.wish);
        (node.id.clone(), wish.map_or(HealthStatus::Skipped, |wish| status(known, node, wish)))
    };
    known.input.nodes.iter().map(of).collect()
}

fn status(known: &Known<'_>, node: &Node, wish: &NodeWish) -> HealthStatus {
    let made = node.host.is_up() && node.host_number >= wish.replacements && node.heartbeat.is_some();
    if !made || wish.lifecycle == Lifecycle::Stopped {
        return HealthStatus::Skipped;
    }
    if !known.reachable(node) {
        return HealthStatus::Unreachable;
    }
    let activity = node.heartbeat.as_ref().map(|(beat, _)| &beat.activity);
    // while a stage runs that disturbs the service, that it does not work says nothing
    let changing = matches!(activity, Some(Activity::Running { .. } | Activity::Fetching { .. }));
    match observe::service(node).0 {
        ServiceStatus::Active => HealthStatus::Active,
        ServiceStatus::Inactive if serves(node) && !changing => HealthStatus::Inactive,
        ServiceStatus::Inactive | ServiceStatus::Unknown => HealthStatus::Skipped,
    }
}
