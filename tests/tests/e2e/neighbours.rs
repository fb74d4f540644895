//! Two topologies side by side, one of which lives a full life: its components come and go, its
//! Storm takes a topology's jar. The other one, to which a client writes all the time, hears nothing.

use crate::stormjar;
use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use straas_schemas::job::JobStanding;
use straas_schemas::view::{Accepted, TopologyView};
use straas_tests::clients::Writer;
use straas_tests::settings::user_file;
use straas_tests::workflow::{component, nodes, servers};
use straas_tests::{Cluster, left, say, scene};

const CLIENT_PORT: u16 = 2181;
/// On one machine hosts share two cores; a disturbance by a neighbour would be an election or a restart.
const OUTAGE_MAX_S: f64 = 20.0;

/// Storm beside its ZooKeeper, with names that the neighbour uses as well.
fn body() -> Value {
    json!({
        "name": "west", "availability_zone": "az1",
        "components": [
            { "name": "zk", "type": "zookeeper", "size": 1 },
            {
                "name": "strm", "type": "storm", "depends_on": "zk",
                "submodules": [
                    { "role": "nimbus", "name": "nmbus", "size": 1 },
                    { "role": "supervisor", "name": "spv", "size": 1 },
                ],
            },
        ],
    })
}

/// What each node is to be, and what it last did.
fn life(topology: &TopologyView) -> BTreeMap<String, (u64, Vec<i64>)> {
    let one = |node: &&straas_schemas::view::NodeView| {
        (node.name.clone(), (node.generation, node.stages.values().map(|stage| stage.received_ms).collect()))
    };
    nodes(topology).iter().map(one).collect()
}

#[test]
fn neighbours_do_not_hear_each_other() {
    scene("neighbours_do_not_hear_each_other", async |cluster| {
        cluster.start().await?;
        let east = cluster.active(&cluster.create("east", "3.8.0", 3).await?).await?;
        let before = life(&east);
        let writer = Writer::zookeeper(cluster, &servers(&east, "zk", CLIENT_PORT)?, "/neighbours").await?;

        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body())).await?;
        let west = cluster.active(&accepted).await?;
        let storm = component(&west, "strm")?.id.0.clone();
        stormjar::submitted_and_killed(cluster, &storm, "west-nmbus-1").await?;
        everywhere(cluster).await?;
        let zk = component(&west, "zk")?.id.0.clone();
        let commit = cluster.set("west@az1", &user_file("zookeeper", "3.8.0"), "zoo_cfg", "snapCount", "61000")?;
        cluster.change("configure", Method::PUT, &format!("/components/{zk}/tree/{commit}"), None).await?;
        removed(cluster, &west.id.0).await?;
        let deleted = cluster.delete(&west.id.0).await?;
        let job = cluster.ended(&deleted).await?;
        ensure!(job.standing == JobStanding::Succeeded, "the deletion ended as {:?}", job.standing);

        let east = cluster.settled(&east.id.0).await?;
        ensure!(life(&east) == before, "the neighbour was touched: {before:?} {:?}", life(&east));
        ensure!(left::hosts(cluster.data()).len() == 3, "hosts: {:?}", left::hosts(cluster.data()));
        let summary = writer.finish().await?;
        say(&format!("  the neighbour's client saw: {summary:?}"));
        summary.nothing_lost()?;
        ensure!(summary.longest_gap_s < OUTAGE_MAX_S, "an outage of {} s", summary.longest_gap_s);
        Ok(())
    });
}

/// A command on every node of a topology, whatever its component, and of that topology only.
async fn everywhere(cluster: &Cluster) -> Result<()> {
    let all = ["command", "run", "admin-cmd/disk-usage", "--topology", "west", "--concurrency", "2"];
    let said = cluster.typed(&all).await?;
    ensure!(said.contains("3 succeeded") && !said.contains("east-"), "it says {said}");
    Ok(())
}

/// Not while another needs it; then wholly, and nothing else is touched by it.
async fn removed(cluster: &Cluster, topology: &str) -> Result<()> {
    let before = cluster.settled(topology).await?;
    let (zk, storm) = (component(&before, "zk")?.id.clone(), component(&before, "strm")?.clone());
    let (status, problem) = cluster.api.answer(Method::DELETE, &format!("/components/{zk}"), None).await?;
    ensure!(status == 409 && problem.to_string().contains("strm depend on zk"), "{status} {problem}");
    cluster.typed(&["component", "remove", "west", "strm", "--dry-run"]).await?;
    cluster.typed(&["component", "remove", "west", "strm", "--wait"]).await?;

    let hosts = left::hosts(cluster.data());
    let theirs = |id: &String| storm.nodes.iter().any(|node| node.id.as_str() == id);
    ensure!(hosts.len() == 4 && !hosts.iter().any(theirs), "hosts: {hosts:?}");
    let (status, _) = cluster.api.answer(Method::GET, &format!("/components/{}", storm.id), None).await?;
    ensure!(status == 404, "the component answers with {status}");
    let shown = cluster.api.nodes().await?;
    ensure!(!shown.iter().any(|node| node.component == storm.id), "the API shows nodes of it");
    let after = cluster.settled(topology).await?;
    ensure!(after.components.len() == 1, "it has {:?}", after.components);
    let mut expected = life(&before);
    expected.retain(|name, _| !storm.nodes.iter().any(|node| node.name == *name));
    ensure!(life(&after) == expected, "what it depended on was touched: {expected:?} {:?}", life(&after));
    let (status, problem) = cluster.api.answer(Method::DELETE, &format!("/components/{zk}"), None).await?;
    ensure!(status == 409 && problem.to_string().contains("delete the topology"), "{status} {problem}");
    Ok(())
}
