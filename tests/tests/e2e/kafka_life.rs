//! Years of a Kafka cluster in minutes, with a client that produces all the time.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_schemas::view::{Accepted, DryRun, NodeView, TopologyView};
use straas_tests::clients::Writer;
use straas_tests::settings::user_file;
use straas_tests::workflow::{component, servers};
use straas_tests::{Cluster, say, scene};

const BRANCH: &str = "log@az1";
const OLDER: &str = "3.8.1";
const NEWER: &str = "3.9.2";
const PORT: u16 = 9092;
/// The client's own delivery timeout: what lasts longer, it would have given up.
const OUTAGE_MAX_S: f64 = 120.0;

fn body() -> Value {
    json!({
        "name": "log", "availability_zone": "az1",
        "components": [
            { "name": "zk", "type": "zookeeper", "size": 3 },
            { "name": "kf", "type": "kafka", "version": OLDER, "size": 3, "depends_on": "zk" },
        ],
    })
}

/// The brokers, and what was last said of one of them.
fn brokers(topology: &TopologyView) -> Result<Vec<NodeView>> {
    Ok(component(topology, "kf")?.nodes.clone())
}

#[test]
fn kafka_lives() {
    scene("kafka_lives", async |cluster| {
        cluster.start().await?;
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body())).await?;
        let topology = cluster.active(&accepted).await?;
        let id = topology.id.0.clone();
        let kf = component(&topology, "kf")?.id.0.clone();
        let zk_before = generations(&topology, "zk")?;
        let writer = Writer::kafka(cluster, &servers(&topology, "kf", PORT)?, "life", 3).await?;

        configured(cluster, &kf).await?;
        let up = json!({ "count": 1 });
        cluster.change("flexup", Method::POST, &format!("/components/{kf}"), Some(&up)).await?;
        holds_replicas(cluster, &id, "log-kf-4", true).await?;
        replaced(cluster, &id).await?;
        in_racks(cluster, &cluster.settled(&id).await?).await?;
        upgraded(cluster, &kf).await?;
        let back = component(&cluster.settled(&id).await?, "kf")?.clone();
        ensure!(back.version == NEWER, "it has version {}", back.version);
        // an older version is a version change like any other: what was acknowledged stays readable
        let version = json!({ "version": OLDER });
        cluster.change("rollback", Method::PATCH, &format!("/components/{kf}"), Some(&version)).await?;

        let leaver = cluster.api.node("log-kf-4").await?;
        cluster.change("flexdown", Method::DELETE, &format!("/nodes/{}", leaver.id), None).await?;
        ensure!(brokers(&cluster.settled(&id).await?)?.len() == 3, "the broker is still there");

        let summary = writer.finish().await?;
        say(&format!("  the client saw: {summary:?}"));
        summary.nothing_lost()?;
        ensure!(summary.longest_gap_s < OUTAGE_MAX_S, "an outage of {} s", summary.longest_gap_s);
        let topology = cluster.settled(&id).await?;
        ensure!(generations(&topology, "zk")? == zk_before, "what Kafka did reached ZooKeeper's nodes");
        let deleted = cluster.delete(&id).await?;
        cluster.ended(&deleted).await.map(drop)
    });
}

/// Every broker knows the fault domain of its host.
async fn in_racks(cluster: &Cluster, topology: &TopologyView) -> Result<()> {
    for broker in brokers(topology)? {
        let domain = broker.fault_domain.with_context(|| format!("{} is in no fault domain", broker.name))?;
        let set = cluster.sh(&broker.name, "grep ^broker.rack= /etc/kafka/straas/server.properties").await?;
        ensure!(set.trim() == format!("broker.rack={domain}"), "{} has {set}, not {domain}", broker.name);
    }
    Ok(())
}

fn generations(topology: &TopologyView, name: &str) -> Result<Vec<u64>> {
    Ok(component(topology, name)?.nodes.iter().map(|node| node.generation).collect())
}

async fn configured(cluster: &Cluster, kf: &str) -> Result<()> {
    let commit = cluster.set(BRANCH, &user_file("kafka", OLDER), "server_properties", "num.replica.fetchers", "2")?;
    let path = format!("/components/{kf}/tree/{commit}");
    let dry: DryRun = cluster.dry_run(Method::PUT, &path, None).await?;
    ensure!(dry.nodes.len() == 3, "the dry run names {:?}", dry.nodes);
    cluster.change("configure", Method::PUT, &path, None).await.map(drop)
}

/// A broker that is not the controller gets another host; its data come back by replication.
async fn replaced(cluster: &Cluster, topology: &str) -> Result<()> {
    let before = cluster.settled(topology).await?;
    let broker = brokers(&before)?.into_iter().find(|n| n.facts.get("controller") == Some(&json!(false)));
    let broker = broker.context("no broker that is not the controller")?;
    cluster.change("replace", Method::PUT, &format!("/nodes/{}", broker.id), None).await?;
    let after = cluster.api.node(&broker.name).await?;
    ensure!(after.facts.get("broker_id") == broker.facts.get("broker_id"), "another broker id: {:?}", after.facts);
    holds_replicas(cluster, topology, &broker.name, true).await
}

async fn upgraded(cluster: &Cluster, kf: &str) -> Result<()> {
    let version = json!({ "version": NEWER });
    let path = format!("/components/{kf}");
    let dry = cluster.dry_run(Method::PATCH, &path, Some(&version)).await?;
    ensure!(dry.nodes.len() == 4, "the dry run names {:?}", dry.nodes);
    cluster.change("upgrade", Method::PATCH, &path, Some(&version)).await.map(drop)
}

/// Whether a broker has partitions of the test's topic on its disk.
async fn holds_replicas(cluster: &Cluster, topology: &str, node: &str, wanted: bool) -> Result<()> {
    cluster.settled(topology).await?;
    let found = cluster.sh(node, "ls -d /var/lib/kafka/*/life-* /var/lib/kafka/life-* 2>/dev/null | wc -l").await?;
    ensure!((found.trim() != "0") == wanted, "{node} has {} partitions of the topic", found.trim());
    Ok(())
}
