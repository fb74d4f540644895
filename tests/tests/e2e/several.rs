//! Several controllers: one is killed in the middle of everything, they are exchanged one by one, and nobody has to care.

use crate::several_rig::{Metal, moody, node_ids, noted, told};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use straas_schemas::view::Accepted;
use straas_tests::artifacts::Artifacts;
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::conductor::Conductor;
use straas_tests::several::load::Load;
use straas_tests::several::{Known, Layout, Several, Zoned};
use straas_tests::{Cluster, say, scene, wait};

const LAYOUT: Layout = Layout { controllers: 2, members: 1, zoned: Zoned::Nothing };

/// Names an older `straas-controller`: all begin as that one, and are exchanged for this build in the end.
const OLDER: &str = "STRAAS_OLDER_CONTROLLER";

/// Each of the two dies in the middle of a flexup and of a flexdown.
const KILLS: usize = 6;

#[test]
fn a_controller_is_killed_and_the_other_goes_on() {
    scene("a_controller_is_killed_and_the_other_goes_on", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        let newest = cluster.artifacts().clone();
        if let Some(older) = std::env::var_os(OLDER) {
            cluster.use_artifacts(Artifacts { controller: older.into(), ..newest });
        }
        let mut several = Several::start(cluster, LAYOUT, &["mini-httpd=1.30-*"]).await?;
        let conductor = Conductor::listen(cluster)?;
        for (name, known) in [
            ("metal-1", Known::List),
            ("metal-2", Known::List),
            ("metal-3", Known::Balancer),
            ("metal-4", Known::Balancer),
        ] {
            several.machine(cluster, &Metal(name).spot(), known).await?;
        }
        let topology = moody(cluster, "k", "metal", 3).await?;
        let (component, nodes) = (topology.components[0].id.clone(), node_ids(&topology));
        heard_from_both(&several, &nodes).await?;

        // each time a change is asked for by the load balancer, and a controller dies in its middle
        let load = Load::default();
        let work = async |several: &mut Several| {
            let path = format!("/components/{component}");
            let (up, down) = ((Method::POST, json!({ "count": 1 })), (Method::PATCH, json!({ "size": 3 })));
            for round in 0..KILLS {
                let (method, body) = if round % 2 == 0 { up.clone() } else { down.clone() };
                let before = conductor.runs().len();
                let asked: Accepted = cluster.api.call(method, &path, Some(&body)).await?;
                wait("a script of the change to begin", ACTIVE_MAX, async || {
                    (conductor.runs().len() > before).then_some(())
                })
                .await?;
                let (killed, begun) = (Instant::now(), conductor.runs().len());
                several.kill(round % 2)?;
                wait("the next script", ACTIVE_MAX, async || (conductor.runs().len() > begun).then_some(())).await?;
                let next = killed.elapsed().as_secs_f32();
                cluster.active(&asked).await?;
                say(&format!(
                    "  kill -9 of controller {}: the next script after {next:.2} s, the change done after {:.2} s",
                    round % 2,
                    killed.elapsed().as_secs_f32()
                ));
                several.revive(round % 2).await?;
            }
            exchanged(cluster, &conductor, several, component.as_str(), &load).await?;
            load.stop();
            Ok::<_, anyhow::Error>(())
        };
        let came = async {
            tokio::try_join!(
                work(&mut several),
                load.write(&cluster.api, "w", &nodes),
                load.read(&cluster.api, "/nodes")
            )
        };
        told(cluster, came.await).await?;
        several.controllers_run()?;
        several.others_run()?;
        say(&format!("  users at the load balancer: {}", load.told()));
        say(&format!("  {} acknowledged writes, 0 lost", load.kept(&cluster.api).await?));
        say(&format!("  {}", load.ran(&cluster.api, async || noted(cluster).await).await?));
        ensure!(load.refused.get() == 0, "nobody has to be refused: {}", load.told());
        Ok(())
    });
}

/// Each controller is exchanged while a change is under way that takes longer than that.
async fn exchanged(
    cluster: &Cluster,
    conductor: &Conductor,
    several: &mut Several,
    component: &str,
    load: &Load,
) -> Result<()> {
    let bad = || load.refused.get() + load.broken.get();
    let (before, begun) = (bad(), conductor.runs().len());
    let body = json!({ "count": 1 });
    let asked: Accepted = cluster.api.call(Method::POST, &format!("/components/{component}"), Some(&body)).await?;
    wait("a script of the change to begin", ACTIVE_MAX, async || (conductor.runs().len() > begun).then_some(()))
        .await?;
    let mut away = Vec::new();
    for index in 0..several.all.len() {
        away.push(format!("{:.1} s", several.exchange(index).await?.as_secs_f32()));
    }
    cluster.active(&asked).await?;
    say(&format!(
        "  exchanged one by one, each away for {}; refused or broken off meanwhile: {}",
        away.join(" and "),
        bad() - before
    ));
    Ok(())
}

/// What is asked of each controller reaches every node, wherever its agent polls.
async fn heard_from_both(several: &Several, nodes: &[String]) -> Result<()> {
    let mut slowest = Duration::ZERO;
    for (index, one) in several.all.iter().enumerate() {
        for node in nodes {
            let begun = Instant::now();
            let body = json!({ "command": "moody-cmd/count", "args": { "key": format!("both-{index}") } });
            let path = format!("/nodes/{node}/commands");
            let asked: serde_json::Value = one.api.call(Method::POST, &path, Some(&body)).await?;
            let path = format!("/commands/{}", asked["id"].as_str().context("an id")?);
            wait("a command that was asked of one controller", STEP_MAX, async || {
                let view: serde_json::Value = one.api.get(&path).await.ok()?;
                (view["state"] == "succeeded").then_some(())
            })
            .await?;
            slowest = slowest.max(begun.elapsed());
        }
    }
    let mut polling = Vec::new();
    for one in &several.all {
        let text = metrics(&one.api).await?;
        let line = text.lines().find(|line| line.starts_with("straas_controller_nodes_polling ")).unwrap_or_default();
        polling.push(line.rsplit(' ').next().unwrap_or_default().to_owned());
    }
    say(&format!(
        "  commands asked of each of {} controllers reached all {} nodes (polling at them: {}), slowest {:.2} s",
        several.all.len(),
        nodes.len(),
        polling.join(" and "),
        slowest.as_secs_f32()
    ));
    Ok(())
}

async fn metrics(api: &straas_tests::Api) -> Result<String> {
    use http_body_util::BodyExt as _;
    let response = api.request(Method::GET, "/metrics", None).await?;
    Ok(String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned())
}
