//! What the tests of several controllers share beyond `straas_tests::several`.

use anyhow::Result;
use http::Method;
use serde_json::json;
use std::collections::BTreeMap;
use straas_schemas::view::{Accepted, TopologyView};
use straas_tests::several::Spot;
use straas_tests::{Cluster, left, say};

/// A machine in the middle of the network, in the zone `metal`.
pub struct Metal(pub &'static str);

impl Metal {
    pub const fn spot(&self) -> Spot<'static> {
        Spot { name: self.0, zone: "metal", domain: self.0 }
    }
}

/// A topology of one component `a` of the tests' own, once it works.
pub async fn moody(cluster: &Cluster, name: &str, zone: &str, size: u32) -> Result<TopologyView> {
    let body = json!({ "name": name, "availability_zone": zone,
        "components": [{ "name": "a", "type": "moody", "version": "1.0", "size": size }] });
    let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
    cluster.active(&accepted).await
}

/// Ids of the nodes of its component.
pub fn node_ids(topology: &TopologyView) -> Vec<String> {
    topology.components[0].nodes.iter().map(|node| node.id.to_string()).collect()
}

/// What came of a story; where it failed, with pictures while there is somebody to ask.
pub async fn told<T>(cluster: &Cluster, came: Result<T>) -> Result<T> {
    if came.is_err() {
        say(&cluster.pictures().await);
    }
    came
}

/// What machines wrote down of the commands that began there.
pub async fn noted(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for machine in left::hosts(cluster.data()) {
        let text = cluster.sh(&machine, "cat /var/lib/moody/count.begun 2>/dev/null || true").await?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}

/// On each machine: the process that serves, and how often its agents were told nothing when they asked what to be.
pub async fn services(cluster: &Cluster) -> Result<BTreeMap<String, (String, u32)>> {
    let mut found = BTreeMap::new();
    for machine in left::hosts(cluster.data()) {
        // the oldest: it forks for each request
        let pids = cluster.sh(&machine, "pgrep -o -x mini_httpd || true").await?;
        let polls = "grep -c 'no assignment could be asked for' /var/log/sa.log || true";
        found.insert(machine.clone(), (pids.trim().to_owned(), cluster.sh(&machine, polls).await?.trim().parse()?));
    }
    Ok(found)
}
