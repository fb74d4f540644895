//! What tests of faults on real hosts share: a light component, a command that stays until it is let
//! go and must not run twice, and what ran.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_repos::Change;
use straas_schemas::command::CommandView;
use straas_schemas::view::{Accepted, TopologyView};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::stages::AUTHOR;
use straas_tests::{Cluster, wait};

/// Where commands leave that they ran: not where the agent keeps what it must not forget.
pub const DIR: &str = "/var/tmp/straas-e2e-faults";

/// A topology of one light component `a`, whose scripts ask a conductor.
pub async fn light(cluster: &Cluster, name: &str, size: u32) -> Result<TopologyView> {
    let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": size });
    let body = json!({ "name": name, "availability_zone": "az1", "components": [a] });
    let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
    cluster.active(&accepted).await
}

/// Asks for a restart of the component.
pub async fn restart(cluster: &Cluster, topology: &TopologyView) -> Result<Accepted> {
    let path = format!("/components/{}/services", topology.components[0].id);
    cluster.api.call(Method::PUT, &path, None).await
}

/// Adds a command that counts its runs and stays until it is let go; not idempotent. After the first
/// start, before the topology.
pub fn add_stay(cluster: &Cluster) -> Result<()> {
    let script = format!(
        "#!/bin/bash\n# counts its runs and stays until it is let go\nmkdir -p {DIR}\necho \"$STRAAS_ARG_KEY\" >> {DIR}/runs\n\
         echo begun\nwhile [ ! -e \"{DIR}/$STRAAS_ARG_KEY\" ]; do sleep 0.1; done\n"
    );
    let key = json!({ "type": "string", "pattern": "^[a-z]{1,20}$", "description": "What it is about" });
    let meta = json!({
        "description": "Stays until it is let go.", "timeout_s": 300, "idempotent": false,
        "arguments": { "type": "object", "properties": { "key": key }, "required": ["key"], "additionalProperties": false },
    });
    let put = |path: &str, content: Vec<u8>, executable| Change::Put { path: path.to_owned(), content, executable };
    let changes = [
        put("guestcmds/moody-cmd/stay", script.into_bytes(), Some(true)),
        put("guestcmds/moody-cmd/stay.json", serde_json::to_vec_pretty(&meta)?, None),
    ];
    cluster.scripts()?.commit(None, &changes, "a command that stays", AUTHOR)?;
    Ok(())
}

/// Asks for that command; its id.
pub async fn stay(cluster: &Cluster, node: &str, key: &str) -> Result<String> {
    let body = json!({ "command": "moody-cmd/stay", "args": { "key": key } });
    let id = &cluster.api.node(node).await?.id;
    let answer: Value = cluster.api.call(Method::POST, &format!("/nodes/{id}/commands"), Some(&body)).await?;
    Ok(answer["id"].as_str().context("the answer has no id")?.to_owned())
}

/// Lets it end, before it begins or after.
pub async fn let_go(cluster: &Cluster, node: &str, key: &str) -> Result<()> {
    cluster.sh(node, &format!("mkdir -p {DIR}; touch {DIR}/{key}")).await.map(drop)
}

/// Waits until a command is seen so.
pub async fn command(cluster: &Cluster, id: &str, seen: impl Fn(&CommandView) -> bool) -> Result<CommandView> {
    let mut last = None;
    let found = wait("a command to be seen so", STEP_MAX, async || {
        last = cluster.api.get::<CommandView>(&format!("/commands/{id}")).await.ok();
        last.clone().filter(&seen)
    });
    let found = found.await;
    found.with_context(|| format!("last seen: {last:?}"))
}

/// Waits until it has begun.
pub async fn begun(cluster: &Cluster, id: &str) -> Result<()> {
    command(cluster, id, |view| view.output.contains("begun")).await.map(drop)
}

/// How often the command ran for this word.
pub async fn ran(cluster: &Cluster, node: &str, key: &str) -> Result<usize> {
    let text = cluster.sh(node, &format!("grep -cx {key} {DIR}/runs 2>/dev/null || true")).await?;
    Ok(text.trim().parse().unwrap_or(0))
}

/// How often a node was configured, which disturbs its service.
pub fn configured(conductor: &Conductor, node: &str) -> usize {
    conductor.runs().iter().filter(|run| run.node == node && run.point == "config").count()
}

/// The service of a node is there, once.
pub async fn serves(cluster: &Cluster, node: &str) -> Result<()> {
    let count = cluster.sh(node, "pgrep -c mini_httpd || true").await?;
    ensure!(count.trim() == "1", "of the service of {node} run {}", count.trim());
    Ok(())
}
