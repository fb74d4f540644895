//! The good case: an ensemble is made, works, and goes.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use straas_schemas::Stage;
use straas_schemas::job::JobStanding;
use straas_schemas::view::{NodeView, Page, TopologyView};
use straas_store::{PAGE_MAX, PageRequest, SqlStore, Store as _};
use straas_tests::cluster::STEP_MAX;
use straas_tests::workflow::nodes;
use straas_tests::{Cluster, left, say, scene};

/// How many nodes say which mode.
pub fn modes(topology: &TopologyView) -> BTreeMap<String, usize> {
    let mut modes = BTreeMap::new();
    for node in nodes(topology) {
        let mode = node.facts.get("mode").and_then(|mode| mode.as_str()).unwrap_or("none");
        *modes.entry(mode.to_owned()).or_default() += 1;
    }
    modes
}

/// Runs a line of ZooKeeper's own client on one node against another.
pub async fn zk(cluster: &Cluster, on: &str, at: &str, line: &str) -> Result<String> {
    let run = format!("/usr/share/zookeeper/bin/zkCli.sh -server {at}:2181 {line} 2>&1");
    cluster.sh(on, &run).await
}

#[test]
fn created_used_and_deleted() {
    scene("created_used_and_deleted", async |cluster| {
        cluster.start().await?;
        let accepted = cluster.create("good", "3.8.0", 3).await?;
        let topology = cluster.active(&accepted).await?;
        let modes = modes(&topology);
        ensure!(modes == BTreeMap::from([("leader".to_owned(), 1), ("follower".to_owned(), 2)]), "modes: {modes:?}");
        times(cluster, &accepted.job.id.0, &topology).await?;
        written_here_read_there(cluster, &topology).await?;
        deleted(cluster, &topology).await
    });
}

async fn written_here_read_there(cluster: &Cluster, topology: &TopologyView) -> Result<()> {
    let nodes = nodes(topology);
    let address = |i: usize| nodes[i].address.clone().context("a node without an address");
    zk(cluster, &nodes[0].name, &address(0)?, "create /e2e hello-from-node-1").await?;
    let read = zk(cluster, &nodes[2].name, &address(2)?, "get /e2e").await?;
    ensure!(read.lines().any(|line| line == "hello-from-node-1"), "node 3 answers: {read}");
    Ok(())
}

async fn deleted(cluster: &mut Cluster, topology: &TopologyView) -> Result<()> {
    ensure!(cluster.configs()?.branch("good@az1")?.is_some(), "the topology has no branch");
    let accepted = cluster.delete(topology.id.as_str()).await?;
    let job =
        cluster.follow(accepted.job.id.as_str(), STEP_MAX, |job| job.standing.is_final().then(|| job.clone())).await?;
    ensure!(job.standing == JobStanding::Succeeded, "the deletion ended as {:?}", job.standing);
    let took = job.finished_ms.unwrap_or_default() - job.created_ms;
    say(&format!("  DELETE to gone: {:.1} s", took as f64 / 1000.0));

    let hosts = left::hosts(cluster.data());
    ensure!(hosts.is_empty(), "hosts are left: {hosts:?}");
    ensure!(cluster.configs()?.branch("good@az1")?.is_none(), "its branch is left");
    let (status, _) = cluster.api.answer(http::Method::GET, &format!("/topologies/{}", topology.id), None).await?;
    ensure!(status == 404, "the topology answers with {status}");
    let page: Page<NodeView> = cluster.api.get("/nodes").await?;
    ensure!(page.items.is_empty(), "the API shows nodes");
    cluster.stop().await?;
    let store = SqlStore::connect(&format!("sqlite:{}", cluster.data().join("straas.db").display())).await?;
    ensure!(store.node_index().await?.is_empty(), "rows of nodes are left");
    ensure!(store.assignments().await?.is_empty(), "rows of assignments are left");
    let topologies = store
        .topologies(&straas_store::TopologyFilter::default(), &PageRequest { after: None, limit: PAGE_MAX })
        .await?;
    ensure!(topologies.is_empty(), "rows of topologies are left");
    Ok(())
}

/// Says where the time went, beside what apt, Puppet and the ensemble need by themselves.
///
/// The scripts look at the quorum and do not make it, so its time is taken from ZooKeeper's own
/// log: from the end of Puppet's run to the moment in which the server says that it serves.
async fn times(cluster: &Cluster, job: &str, topology: &TopologyView) -> Result<()> {
    let job = cluster.api.job(job).await?;
    let total = job.finished_ms.context("the job has no end")? - job.created_ms;
    let events = cluster.events(topology.id.as_str()).await?;
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (mut scripts, mut critical) = (0, 0);
    for node in nodes(topology) {
        let of_node = || events.iter().filter(|e| e.node.as_ref() == Some(&node.id));
        let host = of_node().find(|e| e.kind == "host").map_or(0, |e| e.at_ms - job.created_ms);
        let stage = |stage| node.stages.get(&stage).with_context(|| format!("{stage} is missing"));
        let took = |of| stage(of).map(|view| i64::try_from(view.duration_ms).unwrap_or(i64::MAX));
        let known = |of| stage(of).map(|view| view.received_ms - job.created_ms);
        let serves = serves_at(cluster, &node.name).await? - job.created_ms;
        let quorum = (serves - known(Stage::Config)?).max(0);
        let before = took(Stage::Install)? + took(Stage::PreConfig)? + took(Stage::Config)?;
        scripts = scripts.max(before + took(Stage::Validate)?);
        critical = critical.max(before + quorum + took(Stage::Validate)?);
        let mut line = format!("  {}: host up at {:.1} s", node.name, seconds(host));
        for of in Stage::ALL {
            line.push_str(&format!("; {of} {:.1} s, known at {:.1} s", seconds(took(of)?), seconds(known(of)?)));
        }
        say(&format!("{line}; serves at {:.1} s", seconds(serves)));
    }
    say(&format!(
        "  POST to ACTIVE: {:.1} s; critical path of the scripts: {:.1} s, with the forming of the quorum {:.1} s; ratio {:.2}",
        seconds(total),
        seconds(scripts),
        seconds(critical),
        seconds(total) / seconds(critical).max(0.001)
    ));
    Ok(())
}

/// When the server last said that it takes part in its ensemble, Unix ms.
async fn serves_at(cluster: &Cluster, node: &str) -> Result<i64> {
    let script = "line=$(grep -h 'Peer state changed: .* - broadcast' /var/log/zookeeper/zookeeper.log | tail -1); \
                  date -d \"$(printf %s \"$line\" | cut -c1-19)\" +%s; printf %s \"$line\" | cut -c21-23";
    let text = cluster.sh(node, script).await?;
    let mut numbers = text.split_whitespace().map(str::parse::<i64>);
    let (seconds, ms) = (numbers.next().context("no time")?, numbers.next().context("no milliseconds")?);
    Ok(seconds? * 1000 + ms?)
}
