//! The certificate authority is exchanged under real agents at work: users write, read and have commands run all the while,
//! a node loses its power in the middle, and nobody notices anything.

use crate::several_rig::{moody, node_ids, noted, services};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use straas_drivers::Faults as _;
use straas_schemas::authority::{AuthorityView, RotationPhase};
use straas_schemas::view::TopologyView;
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::several::load::Load;
use straas_tests::{Cluster, say, scene, wait};

/// Polls are held for 25 s, and each of three phases takes one or two of them.
const EXCHANGED_MAX: Duration = Duration::from_secs(300);
/// Stages that a change would have run again. `validate` runs by the clock, and after a reboot.
const STAGES: [&str; 3] = ["install", "pre_config", "config"];

async fn authority(cluster: &Cluster) -> Result<AuthorityView> {
    cluster.api.get("/authority").await
}

/// Certificates of authorities that a node's agent trusts, as it has them on its disk.
async fn trusted(cluster: &Cluster, node: &str) -> Result<usize> {
    let file = "/var/lib/straas/agent/tls/trust.json";
    let lines = cluster.sh(node, &format!("grep -o 'BEGIN CERTIFICATE' {file} 2>/dev/null | wc -l")).await?;
    lines.trim().parse().context("a number")
}

/// How often each stage ran.
fn ran(conductor: &Conductor) -> BTreeMap<&'static str, usize> {
    let runs = conductor.runs();
    STAGES.into_iter().map(|stage| (stage, runs.iter().filter(|run| run.point == stage).count())).collect()
}

/// Goes on until the exchange is over; how long each phase took, and when the node that is in the way is told to go.
async fn exchanged(cluster: &Cluster, mut seen: impl AsyncFnMut(&AuthorityView) -> Result<()>) -> Result<String> {
    let (begun, mut since) = (Instant::now(), Instant::now());
    let mut phase = RotationPhase::Spreading;
    let mut took = Vec::new();
    while phase != RotationPhase::Settled {
        let view = wait("the exchange to go on", EXCHANGED_MAX, async || {
            let view = authority(cluster).await.ok()?;
            (view.phase != phase || view.ready > 0).then_some(view)
        })
        .await?;
        if view.phase != phase {
            took.push(format!("{} {:.1} s", phase.name(), since.elapsed().as_secs_f32()));
            (phase, since) = (view.phase, Instant::now());
        }
        seen(&view).await?;
        ensure!(begun.elapsed() < EXCHANGED_MAX, "it does not come to its end: {view:#?}");
        // waits for: the next poll of an agent, which shows in the next look only
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    took.push(format!("in all {:.1} s", begun.elapsed().as_secs_f32()));
    Ok(took.join(", "))
}

#[test]
fn the_certificate_authority_is_exchanged() {
    scene("the_certificate_authority_is_exchanged", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        let hosts = cluster.start_inside().await?;
        let conductor = Conductor::listen(cluster)?;
        let ring: TopologyView = moody(cluster, "ring", "az1", 3).await?;
        let ids = node_ids(&ring);
        let names: Vec<String> = ring.components[0].nodes.iter().map(|node| node.name.clone()).collect();
        let old = std::fs::read_to_string(cluster.data().join("ca/ca.pem"))?;
        let (before, wanted) = (ran(&conductor), generations(cluster, &names).await?);
        let served = services(cluster).await?;
        let foreseen = cluster.typed(&["ca", "rotate", "--dry-run"]).await?;
        ensure!(foreseen.contains("spreading") && foreseen.contains("0 of 3"), "{foreseen}");
        ensure!(authority(cluster).await?.phase == RotationPhase::Settled, "a dry run changed something");

        let load = Load::default();
        let story = async {
            let begun = cluster.typed(&["ca", "rotate"]).await?;
            ensure!(begun.contains("StraaS fleet CA 2"), "{begun}");
            let mut rebooted = false;
            let took = exchanged(cluster, async |view| {
                // one has its certificate of the new authority, and another one loses its power
                if view.phase == RotationPhase::Renewing && view.ready > 0 && !rebooted {
                    rebooted = true;
                    let victim = view.missing.first().map_or(ids[0].clone(), |one| one.id.clone());
                    hosts.reboot(&victim).await?;
                }
                Ok(())
            })
            .await;
            load.stop();
            ensure!(rebooted, "no node was rebooted");
            took
        };
        let (took, written, read) =
            tokio::join!(story, load.write(&cluster.api, "rotated", &ids), load.read(&cluster.api, "/topologies"));
        let took = took?;
        written?;
        read?;
        let kept = load.kept(&cluster.api).await?;
        let commands = load.ran(&cluster.api, async || noted(cluster).await).await?;
        say(&format!("  exchanged: {took}"));
        say(&format!("  meanwhile {}; {kept} writes kept; {commands}", load.told()));
        ensure!(load.refused.get() == 0 && load.broken.get() == 0, "requests failed");

        let end = authority(cluster).await?;
        ensure!(end.issuer.name == "StraaS fleet CA 2" && end.agents == 3 && end.ready == 3, "{end:#?}");
        let now = std::fs::read_to_string(cluster.data().join("ca/ca.pem"))?;
        ensure!(now != old && end.certificates_pem.trim() == now.trim(), "the old one is still in the folder");
        for name in &names {
            ensure!(trusted(cluster, name).await? == 1, "{name} trusts more than the new one");
        }
        cluster.settled(ring.id.as_str()).await?;
        ensure!(ran(&conductor) == before, "a stage ran: {before:?}, then {:?}", ran(&conductor));
        ensure!(generations(cluster, &names).await? == wanted, "an assignment was made anew");
        let still = services(cluster).await?;
        let other = served.iter().filter(|(host, of)| still.get(*host).is_none_or(|now| now.0 != of.0)).count();
        ensure!(other <= 1, "services other than the rebooted one's were disturbed: {served:?}, then {still:?}");
        // who comes now knows the new one alone
        let late = moody(cluster, "late", "az1", 1).await?;
        ensure!(late.components[0].nodes.len() == 1, "{late:?}");
        Ok(())
    });
}

/// The generation that each node is to hold.
async fn generations(cluster: &Cluster, names: &[String]) -> Result<BTreeMap<String, u64>> {
    let mut out = BTreeMap::new();
    for name in names {
        let node = wait("the node", STEP_MAX, async || cluster.api.node(name).await.ok()).await?;
        out.insert(name.clone(), node.generation);
    }
    Ok(out)
}
