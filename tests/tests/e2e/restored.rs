//! The controller's disk is lost, and it is put back from a backup: services never notice, what was wanted at the time of the
//! backup is wanted again, and what was made since is left alone until somebody says otherwise.

use crate::ensemble::zk;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use std::path::{Path, PathBuf};
use std::time::Instant;
use straas_schemas::view::NodeView;
use straas_tests::artifacts::artifacts;
use straas_tests::cluster::STEP_MAX;
use straas_tests::workflow::nodes;
use straas_tests::{Cluster, say, scene, wait};

/// Runs a verb of the controller's program on the configuration in a folder.
async fn verb(at: &Path, words: &[&str]) -> Result<String> {
    let config = at.join("controller.toml");
    let mut command = tokio::process::Command::new(&artifacts()?.controller);
    command.arg(words[0]).arg("--config").arg(config).args(&words[1..]);
    let ran = command.output().await?;
    let (said, wrong) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ensure!(ran.status.success(), "{words:?}: {said}{wrong}");
    Ok(said.into_owned())
}

async fn java(cluster: &Cluster, node: &NodeView) -> Result<String> {
    Ok(cluster.sh(&node.name, "pidof java").await?.trim().to_owned())
}

/// Everything of a data directory but the hosts on this machine.
fn lose(data: &Path, aside: &Path) -> Result<()> {
    std::fs::create_dir(aside)?;
    for entry in std::fs::read_dir(data)? {
        let name = entry?.file_name();
        if name != "hosts" {
            std::fs::rename(data.join(&name), aside.join(&name))?;
        }
    }
    Ok(())
}

#[test]
fn the_controllers_disk_is_lost_and_put_back() {
    scene("the_controllers_disk_is_lost_and_put_back", async |cluster| {
        cluster.start().await?;
        let accepted = cluster.create("kept", "3.8.0", 1).await?;
        let topology = cluster.active(&accepted).await?;
        let node = nodes(&topology)[0];
        let address = node.address.clone().context("no address")?;
        zk(cluster, &node.name, &address, "create /before kept").await?;
        let backup: PathBuf = cluster.data().with_extension("backup");
        let begun = Instant::now();
        let said = verb(cluster.data(), &["backup", "--to", &backup.display().to_string()]).await?;
        say(&format!("  backup beside the running controller: {:.1} s", begun.elapsed().as_secs_f32()));
        say(said.trim_end());

        // what comes after it: another topology, and a restart
        let later = cluster.active(&cluster.create("later", "3.8.0", 1).await?).await?;
        let stranger = nodes(&later)[0];
        cluster.change("restart", Method::PUT, &format!("/nodes/{}/services", node.id), None).await?;
        let pids = (java(cluster, node).await?, java(cluster, stranger).await?);
        let generation = cluster.api.node(&node.name).await?.generation;
        cluster.kill()?;
        let aside = cluster.data().with_extension("lost");
        lose(cluster.data(), &aside)?;

        let begun = Instant::now();
        verb(&aside, &["restore", "--from", &backup.display().to_string()]).await?;
        say(&format!("  restore: {:.1} s", begun.elapsed().as_secs_f32()));
        cluster.start().await?;
        let now = wait("the node to take a higher generation", STEP_MAX, async || {
            let now = cluster.api.node(&node.name).await.ok()?;
            (now.generation > generation && now.converged_generation == now.generation).then_some(now)
        })
        .await?;
        say(&format!("  generation {generation} before, {} after", now.generation));
        wait("the topology to be ACTIVE", STEP_MAX, async || {
            let topology = cluster.api.topology(topology.id.as_str()).await.ok()?;
            (topology.status == straas_schemas::view::Standing::Active).then_some(())
        })
        .await?;
        let read = zk(cluster, &node.name, &address, "get /before").await?;
        ensure!(read.lines().any(|line| line == "kept"), "what was written before is not there: {read}");
        // it knows nothing of the other one, and leaves it alone
        ensure!(cluster.api.node(&stranger.name).await.is_err(), "how does it know?");
        wait("the hosts to be compared", STEP_MAX, async || {
            let log = std::fs::read_to_string(cluster.data().join("controller.log")).ok()?;
            log.contains("it stays, see the file").then_some(())
        })
        .await?;
        ensure!(java(cluster, stranger).await? == pids.1, "the service of {} was disturbed", stranger.name);
        // until somebody says that it is nobody's
        std::fs::remove_file(cluster.data().join("restored"))?;
        wait("the host of nobody to go", STEP_MAX, async || {
            cluster.exec(&stranger.name, &["true"]).await.is_err().then_some(())
        })
        .await?;
        std::fs::remove_dir_all(&aside)?;
        std::fs::remove_dir_all(&backup)?;
        Ok(())
    });
}
