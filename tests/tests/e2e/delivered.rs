//! Files of the storage on real nodes: given, kept over a reboot, given to who comes later, taken.

use anyhow::ensure;
use straas_tests::cluster::STEP_MAX;
use straas_tests::{Cluster, scene, wait};

const TARGET: &str = "/opt/jars/count.jar";

/// What a node has there.
async fn content(cluster: &Cluster, node: &str) -> Option<String> {
    let ran = cluster.exec(node, &["cat", TARGET]).await.ok()?;
    (ran.code == 0).then_some(ran.stdout)
}

#[test]
fn files_reach_nodes_and_go_again() {
    scene("files_reach_nodes_and_go_again", async |cluster| {
        cluster.start().await?;
        let accepted = cluster.create("files", "3.8.0", 1).await?;
        cluster.active(&accepted).await?;
        let file = cluster.data().join("count.jar");
        std::fs::write(&file, "first")?;
        let file = file.display().to_string();
        cluster.typed(&["storage", "put", &file, "jars/count.jar", "--region", "az1"]).await?;
        let give = ["storage", "give", "jars/count.jar", TARGET, "--topology", "files", "--wait"];
        cluster.typed(&give).await?;
        ensure!(content(cluster, "files-zk-1").await.as_deref() == Some("first"), "it has something else");

        // a name that has other content reaches nobody by itself, but whoever is asked for
        std::fs::write(&file, "second")?;
        cluster.typed(&["storage", "put", &file, "jars/count.jar", "--region", "az1"]).await?;
        cluster.typed(&["component", "flexup", "files", "zk", "--count", "2", "--wait"]).await?;
        for node in ["files-zk-1", "files-zk-2", "files-zk-3"] {
            ensure!(content(cluster, node).await.as_deref() == Some("first"), "{node} has something else");
        }
        let give_one =
            ["storage", "give", "jars/count.jar", TARGET, "--node", "files-zk-2", "--mode", "0600", "--wait"];
        cluster.typed(&give_one).await?;
        ensure!(content(cluster, "files-zk-2").await.as_deref() == Some("second"), "it has something else");
        ensure!(cluster.sh("files-zk-2", &format!("stat -c %a {TARGET}")).await?.trim() == "600", "other bits");
        ensure!(content(cluster, "files-zk-3").await.as_deref() == Some("first"), "files-zk-3 has something else");

        // what somebody changed by hand is his; all else goes
        cluster.sh("files-zk-3", &format!("echo mine > {TARGET}")).await?;
        cluster.kill_agent("files-zk-1").await?;
        cluster.typed(&["storage", "take", TARGET, "--topology", "files", "--wait"]).await?;
        for node in ["files-zk-1", "files-zk-2"] {
            wait("the file to be gone", STEP_MAX, async || content(cluster, node).await.is_none().then_some(()))
                .await?;
        }
        ensure!(content(cluster, "files-zk-3").await.as_deref() == Some("mine\n"), "his file is gone");
        Ok(())
    });
}
