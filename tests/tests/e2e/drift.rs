//! Somebody edits a file by hand: told with the resource's name, and put right if that is the policy.

use crate::steered::It;
use anyhow::{Result, ensure};
use serde_json::json;
use straas_schemas::report::DriftFound;
use straas_schemas::view::Cause;
use straas_tests::cluster::STEP_MAX;
use straas_tests::{Cluster, wait};

/// The edited file, and what Puppet calls it.
const FILE: &str = "/etc/zookeeper/straas/zoo.cfg";
const RESOURCE: &str = "File[/etc/zookeeper/straas/zoo.cfg]";

/// How often is looked and what follows, for every ensemble, as an operator says it.
fn policy(cluster: &Cluster, every_s: u32, policy: &str) -> Result<()> {
    cluster.edit_type("zookeeper", |meta| meta["drift"] = json!({ "every_s": every_s, "policy": policy }))
}

/// The newest look at a node that satisfies.
async fn found(cluster: &Cluster, node: &str, what: &str, is: impl Fn(&DriftFound) -> bool) -> Result<DriftFound> {
    wait(what, STEP_MAX, async || cluster.api.node(node).await.ok()?.drift.filter(|drift| is(drift))).await
}

/// Reported and left alone; then, under another policy, put right once the budget allows it.
pub async fn reported_then_enforced(cluster: &Cluster, it: &It) -> Result<()> {
    let (_, others) = it.leader(cluster).await?;
    let (node, other) = (&others[0].name, &others[1].name);
    policy(cluster, 8, "report")?;
    // it uses up the budget: of three, no other may be disturbed
    cluster.typed(&["node", "stop", other, "--wait"]).await?;
    found(cluster, node, "a look that finds nothing", |drift| drift.total == 0).await?;
    let before = cluster.braked_runs(node).await?;
    cluster.sh(node, &format!("echo '# e2e edit' >> {FILE}")).await?;
    let first = found(cluster, node, "the edit to be found", |drift| drift.total == 1).await?;
    ensure!(first.resources == [RESOURCE], "it names {:?}", first.resources);
    let shown = cluster.typed(&["node", "show", node]).await?;
    ensure!(shown.contains(RESOURCE), "the command line shows {shown}");
    let events = cluster.events(&it.topology).await?;
    ensure!(events.iter().any(|e| e.kind == "drift" && e.text.contains(node)), "there is no event of it");
    found(cluster, node, "another look", |drift| drift.looked_ms > first.looked_ms && drift.total == 1).await?;
    cluster.sh(node, &format!("grep -q '# e2e edit' {FILE}")).await?;
    ensure!(cluster.braked_runs(node).await? == before, "config ran although it is only to be reported");

    policy(cluster, 8, "enforce")?;
    wait("the node to ask for a permit", STEP_MAX, async || {
        let why = cluster.api.node(node).await.ok()?.why;
        (why.cause == Cause::AwaitingPermit && why.evidence.values().any(|by| by.contains(other.as_str())))
            .then_some(())
    })
    .await?;
    cluster.sh(node, &format!("grep -q '# e2e edit' {FILE}")).await?;
    cluster.typed(&["node", "start", other, "--wait"]).await?;
    wait("the edit to be undone", STEP_MAX, async || {
        let ran = cluster.exec(node, &["grep", "-q", "# e2e edit", FILE]).await.ok()?;
        (ran.code == 1).then_some(())
    })
    .await?;
    found(cluster, node, "a look that finds nothing", |drift| drift.total == 0).await?;
    ensure!(cluster.braked_runs(node).await? == before + 1, "config ran not once");
    cluster.settled(&it.topology).await.map(drop)
}
