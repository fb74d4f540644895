//! The request body of the 2017 design, 4.3.2.1: ZooKeeper, and Storm with nimbus and supervisors.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use straas_schemas::Stage;
use straas_schemas::view::Accepted;
use straas_tests::settings::user_file;
use straas_tests::workflow::{Took, component};
use straas_tests::{Cluster, scene};

const BRANCH: &str = "test-1@phx01";
const OLDER: &str = "2.7.1";
const NEWER: &str = "2.8.3";

/// The design's example with the versions of today.
fn body() -> Value {
    json!({
        "name": "test-1", "availability_zone": "phx01",
        "components": [
            {
                "name": "zk", "type": "zookeeper", "version": "3.8.0", "size": 1, "enable_fault_domain": true,
                "min_num_of_fault_domain": 4, "anti_affinity_group": "zk-test-group", "flavor": "tiny",
            },
            {
                "name": "strm", "type": "storm", "version": OLDER, "size": 3, "enable_cname": false, "depends_on": "zk",
                "submodules": [
                    { "role": "nimbus", "name": "nmbus", "size": 1, "enable_cname": true, "flavor": "large" },
                    { "role": "supervisor", "name": "supervsr", "size": 2, "enable_fault_domain": true,
                      "min_num_of_fault_domain": 3 },
                ],
            },
        ],
    })
}

#[test]
fn the_designs_own_example_lives() {
    scene("the_designs_own_example_lives", async |cluster| {
        cluster.start().await?;
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body())).await?;
        let topology = cluster.active(&accepted).await?;
        let (id, storm) = (topology.id.0.clone(), component(&topology, "strm")?.id.0.clone());
        let first = component(&topology, "strm")?.config.clone();

        let took = supervisors_only(cluster, &storm).await?;
        let expected = BTreeSet::from(["test-1-supervsr-1".to_owned(), "test-1-supervsr-2".to_owned()]);
        ensure!(configured(&took) == expected, "config ran on {:?}", took.ran);

        let up = json!({ "count": 1, "role": "supervisor" });
        let took = cluster.change("flexup", Method::POST, &format!("/components/{storm}"), Some(&up)).await?;
        ensure!(configured(&took) == BTreeSet::from(["test-1-supervsr-3".to_owned()]), "it touched {:?}", took.ran);
        let topology = cluster.settled(&id).await?;
        let supervisors = component(&topology, "strm")?.nodes.iter().filter(|node| node.role == "supervisor");
        let domains: BTreeSet<_> = supervisors.map(|node| &node.fault_domain).collect();
        ensure!(domains.len() == 3 && !domains.contains(&None), "three supervisors are in {domains:?}");

        let version = json!({ "version": NEWER });
        cluster.change("upgrade", Method::PATCH, &format!("/components/{storm}"), Some(&version)).await?;
        let topology = cluster.settled(&id).await?;
        for node in &component(&topology, "strm")?.nodes {
            ensure!(node.facts.get("version") == Some(&json!(NEWER)), "{}: {:?}", node.name, node.facts);
        }
        let back = json!({ "version": OLDER, "config": first });
        cluster.change("rollback", Method::PATCH, &format!("/components/{storm}"), Some(&back)).await?;

        let leaver = cluster.api.node("test-1-supervsr-3").await?;
        let took = cluster.change("flexdown", Method::DELETE, &format!("/nodes/{}", leaver.id), None).await?;
        ensure!(took.ran.is_empty(), "the flexdown of a supervisor touched {:?}", took.ran);
        let deleted = cluster.delete(&id).await?;
        cluster.ended(&deleted).await.map(drop)
    });
}

async fn supervisors_only(cluster: &Cluster, storm: &str) -> Result<Took> {
    let file = user_file("storm", OLDER);
    let commit = cluster.set(BRANCH, &file, "supervisor", "supervisor.worker.timeout.secs", "45")?;
    let path = format!("/components/{storm}/tree/{commit}");
    let dry = cluster.dry_run(Method::PUT, &path, None).await?;
    let nodes: Vec<_> = dry.nodes.keys().collect();
    ensure!(nodes == ["test-1-supervsr-1", "test-1-supervsr-2"], "the dry run names {:?}", dry.nodes);
    cluster.change("configure", Method::PUT, &path, None).await
}

fn configured(took: &Took) -> BTreeSet<String> {
    let config = took.ran.iter().filter(|(_, stages)| stages.contains(&Stage::Config));
    config.map(|(node, _)| node.clone()).collect()
}
