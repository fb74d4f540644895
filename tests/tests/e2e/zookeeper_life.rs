//! Years of a ZooKeeper ensemble in minutes, with a client that writes all the time.

use crate::ensemble::modes;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;
use straas_schemas::Stage;
use straas_tests::clients::Writer;
use straas_tests::cluster::STEP_MAX;
use straas_tests::settings::user_file;
use straas_tests::workflow::{Took, component, nodes, servers};
use straas_tests::{Cluster, say, scene, wait};

const BRANCH: &str = "life@az1";
const CLIENT_PORT: u16 = 2181;
/// A client's session outlives an election; kazoo goes on within it. Longer, and it would notice.
const OUTAGE_MAX_S: f64 = 60.0;

#[test]
fn zookeeper_lives() {
    scene("zookeeper_lives", async |cluster| {
        cluster.start().await?;
        let accepted = cluster.create("life", "3.8.0", 3).await?;
        let topology = cluster.active(&accepted).await?;
        let (id, zk) = (topology.id.0.clone(), component(&topology, "zk")?.id.0.clone());
        let first = component(&topology, "zk")?.config.clone();
        let writer = Writer::zookeeper(cluster, &servers(&topology, "zk", CLIENT_PORT)?, "/life").await?;

        let changed = configured(cluster, &zk).await?;
        everybody(&changed, 3)?;
        comment_changes_nothing(cluster, &zk).await?;

        let two = json!({ "count": 2 });
        cluster.change("flexup", Method::POST, &format!("/components/{zk}"), Some(&two)).await?;
        let topology = cluster.settled(&id).await?;
        ensure!(nodes(&topology).len() == 5, "there are {} nodes", nodes(&topology).len());
        // facts are looked at again at an interval: until then the last restarted is not known to lead
        wait("one of the five to lead", STEP_MAX, async || {
            let topology = cluster.api.topology(&id).await.ok()?;
            (modes(&topology).get("leader") == Some(&1)).then_some(())
        })
        .await?;

        replaced(cluster, &id).await?;
        cluster.change("restart", Method::PUT, &format!("/components/{zk}/services"), None).await?;
        let back = cluster.change("rollback", Method::PUT, &format!("/components/{zk}/tree/{first}"), None).await?;
        everybody(&back, 5)?;

        let size = json!({ "size": 3 });
        cluster.change("flexdown", Method::PATCH, &format!("/components/{zk}"), Some(&size)).await?;
        let topology = cluster.settled(&id).await?;
        ensure!(nodes(&topology).len() == 3, "there are {} nodes", nodes(&topology).len());

        let summary = writer.finish().await?;
        say(&format!("  the client saw: {summary:?}"));
        summary.nothing_lost()?;
        ensure!(summary.longest_gap_s < OUTAGE_MAX_S, "an outage of {} s", summary.longest_gap_s);
        let deleted = cluster.delete(&id).await?;
        cluster.ended(&deleted).await.map(drop)
    });
}

async fn configured(cluster: &Cluster, zk: &str) -> Result<Took> {
    let commit = cluster.set(BRANCH, &user_file("zookeeper", "3.8.0"), "zoo_cfg", "snapCount", "50000")?;
    let path = format!("/components/{zk}/tree/{commit}");
    let dry = cluster.dry_run(Method::PUT, &path, None).await?;
    ensure!(dry.nodes.len() == 3, "the dry run names {:?}", dry.nodes);
    ensure!(dry.changes.iter().any(|c| c.contains("snapCount") && c.contains("50000")), "changes: {:?}", dry.changes);
    cluster.change("configure", Method::PUT, &path, None).await
}

async fn comment_changes_nothing(cluster: &Cluster, zk: &str) -> Result<()> {
    let commit = cluster.comment(BRANCH, &user_file("zookeeper", "3.8.0"), "zoo_cfg", "snapCount", "said better")?;
    let path = format!("/components/{zk}/tree/{commit}");
    let dry = cluster.dry_run(Method::PUT, &path, None).await?;
    ensure!(dry.nodes.is_empty(), "a comment would run {:?}", dry.nodes);
    let took = cluster.change("configure (a comment)", Method::PUT, &path, None).await?;
    ensure!(took.ran.is_empty(), "a comment ran {:?}", took.ran);
    Ok(())
}

/// Replaces a follower: the same place, another host, and what the ensemble knows is on it again.
async fn replaced(cluster: &Cluster, topology: &str) -> Result<()> {
    let before = cluster.settled(topology).await?;
    let follower = nodes(&before).into_iter().find(|n| n.facts.get("mode") == Some(&json!("follower")));
    let follower = follower.context("no follower")?.clone();
    let mark = "/etc/made-by-the-first-host";
    cluster.sh(&follower.name, &format!("touch {mark}")).await?;
    cluster.change("replace", Method::PUT, &format!("/nodes/{}", follower.id), None).await?;
    cluster.settled(topology).await?;
    let after = cluster.api.node(&follower.name).await?;
    ensure!(after.id == follower.id && after.ordinal == follower.ordinal, "it is another place: {after:?}");
    ensure!(cluster.exec(&follower.name, &["test", "-e", mark]).await?.code != 0, "it is still the old host");
    let there = cluster.sh(&follower.name, "ls /var/lib/zookeeper/data/version-2 | wc -l").await?;
    ensure!(there.trim() != "0", "nothing was replicated to it");
    Ok(())
}

/// Fails unless exactly so many nodes ran `config`.
fn everybody(took: &Took, count: usize) -> Result<()> {
    let configured: BTreeSet<_> = took.ran.iter().filter(|(_, stages)| stages.contains(&Stage::Config)).collect();
    ensure!(configured.len() == count, "{}: config ran on {configured:?}", took.name);
    Ok(())
}
