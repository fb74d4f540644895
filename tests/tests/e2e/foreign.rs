//! A Kafka that depends on the ZooKeeper of another topology: kept while it is needed, and left in
//! peace while Kafka's data is not as safe as it should be.

use crate::steered::{heard, snap_count};
use anyhow::{Result, ensure};
use http::Method;
use serde_json::json;
use straas_schemas::job::JobStanding;
use straas_schemas::view::{Accepted, Cause};
use straas_tests::cluster::STEP_MAX;
use straas_tests::settings::user_file;
use straas_tests::workflow::component;
use straas_tests::{Cluster, scene, wait};

#[test]
fn kafka_on_a_neighbours_zookeeper() {
    scene("kafka_on_a_neighbours_zookeeper", async |cluster| {
        // what brokers say of themselves is what is waited for here
        cluster.edit_type("kafka", |meta| meta["validate_every_s"] = 3.into())?;
        cluster.start().await?;
        let shared = cluster.active(&cluster.create("shared", "3.8.0", 1).await?).await?;
        let zk = component(&shared, "zk")?.id.0.clone();
        let kf = json!({ "name": "kf", "type": "kafka", "size": 2, "depends_on": "shared/zk" });
        let body = json!({ "name": "logs", "availability_zone": "az1", "components": [kf] });
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
        let logs = cluster.active(&accepted).await?;
        ensure!(component(&logs, "kf")?.depends_on == ["shared/zk"], "{:?}", component(&logs, "kf")?.depends_on);
        let topic = ["topic=safe", "partitions=2", "replication=2"];
        let create = ["command", "run", "kafka-cmd/create-topic", "--node", "logs-kf-1"];
        cluster.typed(&[&create[..], &topic].concat()).await?;

        for path in [format!("/topologies/{}", shared.id), format!("/components/{zk}")] {
            let (status, problem) = cluster.api.answer(Method::DELETE, &path, None).await?;
            ensure!(status == 409 && problem.to_string().contains("kf of topology logs"), "{status} {problem}");
        }
        left_in_peace(cluster, &zk).await?;

        let deleted = cluster.delete(&logs.id.0).await?;
        ensure!(cluster.ended(&deleted).await?.standing == JobStanding::Succeeded, "logs is not deleted");
        let deleted = cluster.delete(&shared.id.0).await?;
        ensure!(cluster.ended(&deleted).await?.standing == JobStanding::Succeeded, "shared is not deleted");
        Ok(())
    });
}

/// A broker is down, so the other has all that is left of some partitions: ZooKeeper waits.
async fn left_in_peace(cluster: &Cluster, zk: &str) -> Result<()> {
    let (server, down, alive) = ("shared-zk-1", "logs-kf-1", "logs-kf-2");
    let before = snap_count(cluster, server).await?;
    cluster.typed(&["node", "stop", down, "--wait"]).await?;
    wait("the other broker to miss replicas", STEP_MAX, async || {
        let node = cluster.api.node(alive).await.ok()?;
        node.facts.get("under_replicated")?.as_u64().filter(|count| *count > 0)
    })
    .await?;
    let commit = cluster.set("shared@az1", &user_file("zookeeper", "3.8.0"), "zoo_cfg", "snapCount", "71000")?;
    let path = format!("/components/{zk}/tree/{commit}");
    let accepted: Accepted = cluster.api.call(Method::PUT, &path, None).await?;
    wait("ZooKeeper to wait for Kafka", STEP_MAX, async || {
        let why = cluster.api.node(server).await.ok()?.why;
        let says = format!("{} {:?}", why.text, why.evidence);
        (why.cause == Cause::AwaitingPermit && says.contains(alive) && says.contains("under_replicated")).then_some(())
    })
    .await?;
    heard(cluster, &[server.to_owned(), alive.to_owned()]).await?;
    ensure!(snap_count(cluster, server).await? == before, "it was configured all the same");
    cluster.typed(&["node", "start", down, "--wait"]).await?;
    let job = cluster.ended(&accepted).await?;
    ensure!(job.standing == JobStanding::Succeeded, "the change ended as {:?}: {}", job.standing, job.detail);
    ensure!(snap_count(cluster, server).await? == "71000", "it is not configured");
    cluster.typed(&["command", "run", "kafka-cmd/list-topics", "--node", alive]).await.map(drop)
}
