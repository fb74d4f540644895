//! The ledger of a node is cut short, overwritten, emptied and removed, while a command runs: it is
//! seen, told with what to do, set aside, and begun anew without anything being done twice.
//!
//! The first time another node is being disturbed: what disturbs may not run again without a permit,
//! although the node no longer knows that it ever ran.

use crate::faults_rig::{add_stay, begun, command, configured, let_go, light, ran, restart, serves, stay};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use std::time::Instant;
use straas_schemas::command::CommandStanding;
use straas_schemas::job::JobStanding;
use straas_schemas::view::{Accepted, Cause, Event};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::disk::STATE_DIR;
use straas_tests::{Cluster, say, scene, wait};

const NODES: [&str; 2] = ["l-a-1", "l-a-2"];

/// What is done to the ledger's files, in its directory.
const DAMAGES: [(&str, &str); 4] = [
    ("cut short", "truncate -s $(( $(stat -c %s ledger/db) / 2 )) ledger/db"),
    ("overwritten", "dd if=/dev/urandom of=ledger/db bs=4096 count=8 conv=notrunc 2>/dev/null"),
    ("emptied", "truncate -s 0 ledger/db"),
    ("removed", "rm -r ledger ledger.witness"),
];

/// Damages the ledger of a node between an agent that ends as it is and the next one.
async fn damage(cluster: &Cluster, node: &str, how: &str) -> Result<()> {
    let pid = cluster.agent_pid(node).await.with_context(|| format!("no agent runs in {node}"))?;
    cluster.sh(node, &format!("set -e; kill -STOP {pid}; cd {STATE_DIR}; {how}; kill -9 {pid}")).await?;
    wait("another agent", STEP_MAX, async || cluster.agent_pid(node).await.filter(|now| *now != pid)).await.map(drop)
}

/// What a user is told of ledgers.
async fn told(cluster: &Cluster, topology: &str) -> Result<Vec<Event>> {
    Ok(cluster.events(topology).await?.into_iter().filter(|event| event.kind == "ledger").collect())
}

#[test]
fn a_damaged_ledger_is_begun_anew_and_nothing_is_done_twice() {
    scene("a_damaged_ledger_is_begun_anew_and_nothing_is_done_twice", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        add_stay(cluster)?;
        let conductor = Conductor::listen(cluster)?;
        let topology = light(cluster, "l", 2).await?;
        let id = topology.id.as_str();

        // one node holds the permit for as long as its configuration fails
        NODES.iter().for_each(|node| conductor.fail(node, "config", "not now"));
        let restarted = restart(cluster, &topology).await?;
        let disturbed = wait("a node to be disturbed", STEP_MAX, async || {
            NODES.iter().find(|node| conductor.failures(node, "config") > 0).copied()
        });
        let disturbed = disturbed.await?;
        let victim = NODES.into_iter().find(|node| *node != disturbed).context("no other node")?;

        let (mut longest, mut keys) = (0.0_f32, Vec::new());
        for (number, (what, how)) in DAMAGES.into_iter().enumerate() {
            let key = format!("during{}", what.replace(' ', ""));
            let done = format!("before{}", what.replace(' ', ""));
            let_go(cluster, victim, &done).await?;
            let before = stay(cluster, victim, &done).await?;
            command(cluster, &before, |view| view.standing == CommandStanding::Succeeded).await?;
            let during = stay(cluster, victim, &key).await?;
            begun(cluster, &during).await?;
            let disturbances = configured(&conductor, victim);
            damage(cluster, victim, how).await?;
            let damaged = Instant::now();
            let end = command(cluster, &during, |view| view.standing.is_final()).await.context(what)?;
            ensure!(end.standing == CommandStanding::Unknown, "{what}: {end:?}");
            let reason = end.end.map(|end| end.reason).unwrap_or_default();
            wait("a user to be told", STEP_MAX, async || {
                told(cluster, id).await.ok().filter(|told| told.len() > number)
            })
            .await?;
            if number == 0 {
                // it knows nothing, does all that disturbs nobody, and asks
                wait("the node to wait for a permit", STEP_MAX, async || {
                    let why = cluster.api.node(victim).await.ok()?.why;
                    (why.cause == Cause::AwaitingPermit).then_some(())
                })
                .await?;
                ensure!(configured(&conductor, victim) == disturbances, "{what}: it was disturbed without a permit");
                serves(cluster, victim).await?;
                NODES.iter().for_each(|node| conductor.heal(node, "config"));
                let job = cluster.ended(&restarted).await?;
                ensure!(job.standing == JobStanding::Succeeded, "the restart: {:?} {}", job.standing, job.detail);
            }
            cluster.settled(id).await.context(what)?;
            longest = longest.max(damaged.elapsed().as_secs_f32());
            let times = configured(&conductor, victim) - disturbances;
            ensure!(times <= 1, "{what}: it was configured {times} times");
            ensure!(!reason.is_empty(), "{what}: the command has no reason");
            keys.extend([key, done]);
        }
        for key in &keys {
            let times = ran(cluster, victim, key).await?;
            ensure!(times == 1, "{key} ran {times} times");
        }
        let told = told(cluster, id).await?;
        ensure!(told.iter().all(|event| event.text.contains("nothing has to be done")), "{told:#?}");
        say(&format!("  told: {}", told[0].text));
        let aside = cluster.sh(victim, &format!("ls -d {STATE_DIR}/ledger.bad-* | wc -l")).await?;
        ensure!(aside.trim() != "0", "nothing was set aside");

        // all that the agent keeps is gone, also who it is: its host is made anew
        let pid = cluster.agent_pid(victim).await.context("no agent")?;
        cluster.sh(victim, &format!("kill -STOP {pid}; rm -r {STATE_DIR}; kill -9 {pid}")).await?;
        let node = cluster.api.node(victim).await?;
        let replaced: Accepted = cluster.api.call(Method::PUT, &format!("/nodes/{}", node.id), None).await?;
        let job = cluster.ended(&replaced).await?;
        ensure!(job.standing == JobStanding::Succeeded, "the replacement: {:?} {}", job.standing, job.detail);
        cluster.settled(id).await?;
        say(&format!(
            "  {} times damaged and once lost with all else: {} commands, 0 twice, 0 disturbed without a permit; \
             ACTIVE {longest:.1} s later at most",
            DAMAGES.len(),
            keys.len()
        ));
        Ok(())
    });
}
