//! The disk of a node is full, then fails: its user is told, nothing that was not written down is
//! done, nothing that was is done twice, and it goes on by itself.
//!
//! One light component; the agent of its first node keeps what it must not forget on a small disk.
//! The component's scripts ask a conductor, so what ran when is known.

use crate::faults_rig::{add_stay, begun, command, configured, let_go, light, ran, restart, serves, stay};
use anyhow::{Context as _, Result, ensure};
use std::time::Instant;
use straas_schemas::command::CommandStanding;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::JobStanding;
use straas_schemas::view::{Cause, TopologyView, Why};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::{Cluster, say, scene, wait};

const NODE: &str = "d-a-1";
const OTHER: &str = "d-a-2";
/// Room for an agent of this component, and little more.
const MIB: u64 = 32;
/// What is said of a node once its disk takes nothing.
async fn told(cluster: &Cluster, word: &str) -> Result<Why> {
    wait(&format!("the node to be told as one whose disk is {word}"), STEP_MAX, async || {
        let why = cluster.api.node(NODE).await.ok()?.why;
        (why.cause == Cause::CannotWrite && why.text.contains(word)).then_some(why)
    })
    .await
}

/// One story: a command is begun, the disk takes no more, and takes again after `mend`.
async fn story(
    cluster: &Cluster,
    conductor: &Conductor,
    topology: &TopologyView,
    (key, word): (&str, &str),
    spoil: impl AsyncFnOnce() -> Result<()>,
    mend: impl AsyncFnOnce() -> Result<()>,
) -> Result<f32> {
    let before = configured(conductor, NODE);
    let first = stay(cluster, NODE, key).await?;
    begun(cluster, &first).await?;
    spoil().await?;
    // its end has to be written down; so has all that is asked for now
    let_go(cluster, NODE, key).await?;
    let why = told(cluster, word).await?;
    let shown = cluster.typed(&["node", "why", NODE]).await?;
    ensure!(shown.contains(word), "straas node why: {shown}");
    say(&format!("  {word}: {}", why.text));
    let later = format!("{key}later");
    let_go(cluster, NODE, &later).await?;
    let second = stay(cluster, NODE, &later).await?;
    let restarted = restart(cluster, topology).await?;
    // others go on: what is asked of them is done, and the service of the node is still there
    let_go(cluster, OTHER, "other").await?;
    let other = stay(cluster, OTHER, "other").await?;
    command(cluster, &other, |view| view.standing == CommandStanding::Succeeded).await?;
    let node = cluster.api.node(NODE).await?;
    ensure!(node.service == ServiceStatus::Active, "its service is told as {:?}", node.service);
    serves(cluster, NODE).await?;
    ensure!(ran(cluster, NODE, &later).await? == 0, "a command ran that is not written down");
    ensure!(configured(conductor, NODE) == before, "it was configured, which is not written down");

    let mended = Instant::now();
    mend().await?;
    let end = command(cluster, &second, |view| view.standing.is_final()).await?;
    let took = mended.elapsed().as_secs_f32();
    ensure!(end.standing == CommandStanding::Succeeded, "asked for meanwhile: {end:?}");
    let end = command(cluster, &first, |view| view.standing.is_final()).await?;
    // a repair ends the agent, and with it what it could not write down
    let expect = if word == "full" { CommandStanding::Succeeded } else { CommandStanding::Unknown };
    ensure!(end.standing == expect, "begun before: {end:?}");
    let job = cluster.ended(&restarted).await?;
    ensure!(job.standing == JobStanding::Succeeded, "the restart: {:?} {}", job.standing, job.detail);
    let times = configured(conductor, NODE) - before;
    ensure!(times == 1, "it was configured {times} times");
    for key in [key, later.as_str()] {
        let times = ran(cluster, NODE, key).await?;
        ensure!(times == 1, "{key} ran {times} times");
    }
    Ok(took)
}

#[test]
fn the_disk_of_a_node_is_full_and_fails() {
    scene("the_disk_of_a_node_is_full_and_fails", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        add_stay(cluster)?;
        let conductor = Conductor::listen(cluster)?;
        let topology = light(cluster, "d", 2).await?;
        let disk = cluster.agent_on_a_disk(NODE, MIB).await?;
        let id = topology.id.as_str();
        cluster.settled(id).await?;

        let spoil = async || cluster.fill_agents_disk(NODE).await;
        let pid = cluster.agent_pid(NODE).await;
        let mend = async || cluster.free_agents_disk(NODE).await;
        let full = story(cluster, &conductor, &topology, ("full", "full"), spoil, mend).await.context("full")?;
        ensure!(cluster.agent_pid(NODE).await == pid, "the agent was started anew, though it only had to wait");
        cluster.settled(id).await?;

        let spoil = async || disk.fails();
        let mend = async || cluster.repair_agents_disk(NODE, &disk).await;
        let failed = story(cluster, &conductor, &topology, ("failed", "read-only"), spoil, mend).await;
        let failed = failed.context("read-only")?;
        cluster.settled(id).await?;

        // started where nothing can be written, it comes as soon as it can
        cluster.fill_agents_disk(NODE).await?;
        cluster.kill_agent(NODE).await?;
        let_go(cluster, NODE, "killed").await?;
        let asked = stay(cluster, NODE, "killed").await?;
        cluster.free_agents_disk(NODE).await?;
        let freed = Instant::now();
        command(cluster, &asked, |view| view.standing == CommandStanding::Succeeded).await?;
        let killed = freed.elapsed().as_secs_f32();
        let lost = cluster.events(id).await?.into_iter().filter(|event| event.kind == "ledger").count();
        ensure!(lost == 0, "a ledger was given up");
        say(&format!(
            "  full and failed once each, killed while full once: 0 lost, 0 twice; goes on {full:.1} s after there is room, \
             {failed:.1} s after the repair, {killed:.1} s where it was killed"
        ));
        Ok(())
    });
}
