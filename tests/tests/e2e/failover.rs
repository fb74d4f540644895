//! The database fails over, again and again: nothing that was acknowledged is lost, and no node notices.

use crate::several_rig::{Metal, moody, node_ids, noted, services, told};
use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_schemas::view::Accepted;
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::conductor::Conductor;
use straas_tests::several::load::Load;
use straas_tests::several::{Known, Layout, Several, Zoned, ready};
use straas_tests::{Cluster, say, scene, wait};

const LAYOUT: Layout = Layout { controllers: 2, members: 3, zoned: Zoned::Nothing };
/// A fail-over takes some seconds, in which nobody is to be called silent.
const TIMING: &str = "heartbeat_ms = 1000\nsuspect_after_ms = 20000\nunreachable_after_ms = 60000\nretry_ms = 1000";

/// What happens to the primary.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    SwitchOver,
}

#[test]
fn the_database_fails_over() {
    scene("the_database_fails_over", async |cluster| {
        story(cluster, &[Fault::Kill, Fault::SwitchOver, Fault::Kill]).await
    });
}

#[test]
#[ignore = "five minutes: twelve fail-overs"]
fn the_database_fails_over_and_over() {
    let faults = [Fault::Kill, Fault::SwitchOver, Fault::Kill].repeat(4);
    scene("the_database_fails_over_and_over", async |cluster| story(cluster, &faults).await);
}

async fn story(cluster: &mut Cluster, faults: &[Fault]) -> Result<()> {
    TIMING.clone_into(&mut cluster.timing);
    Conductor::prepare(cluster, &[])?;
    let mut several = Several::start(cluster, LAYOUT, &["mini-httpd=1.30-*"]).await?;
    let conductor = Conductor::listen(cluster)?;
    for (name, known) in
        [("metal-1", Known::List), ("metal-2", Known::List), ("metal-3", Known::Balancer), ("metal-4", Known::Balancer)]
    {
        several.machine(cluster, &Metal(name).spot(), known).await?;
    }
    let topology = moody(cluster, "k", "metal", 3).await?;
    let (component, nodes) = (topology.components[0].id.clone(), node_ids(&topology));
    let load = Load::default();
    let work = async |several: &mut Several| {
        // nothing is asked for: no node is to notice
        let (before, runs, generations) = (services(cluster).await?, stages(&conductor), generations(cluster).await?);
        for fault in faults {
            hit(several, &load, *fault, async || Ok(())).await?;
        }
        let after = services(cluster).await?;
        ensure!(before == after, "a service was stopped, or a poll was not answered: {before:?}, then {after:?}");
        ensure!(runs == stages(&conductor), "a stage ran again");
        ensure!(generations == self::generations(cluster).await?, "a node got another assignment");
        // in the middle of a change
        let path = format!("/components/{component}");
        let begun = conductor.runs().len();
        let asked: Accepted = cluster.api.call(Method::POST, &path, Some(&json!({ "count": 1 }))).await?;
        wait("a script of the change", ACTIVE_MAX, async || (conductor.runs().len() > begun).then_some(())).await?;
        hit(several, &load, Fault::Kill, async || cluster.active(&asked).await.map(drop)).await?;
        load.stop();
        Ok::<_, anyhow::Error>(())
    };
    let came = async {
        tokio::try_join!(work(&mut several), load.write(&cluster.api, "w", &nodes), load.read(&cluster.api, "/nodes"))
    };
    told(cluster, came.await).await?;
    several.controllers_run()?;
    several.others_run()?;
    ensure!(load.refused.get() > 0, "no write came at a bad time: {}", load.told());
    say(&format!("  users at the load balancer: {}", load.told()));
    say(&format!("  {} acknowledged writes, 0 lost", load.kept(&cluster.api).await?));
    say(&format!("  {}", load.ran(&cluster.api, async || noted(cluster).await).await?));
    Ok(())
}

/// A fault, `meanwhile`, and all members back; says how long nobody could write.
async fn hit(several: &mut Several, load: &Load, fault: Fault, meanwhile: impl AsyncFn() -> Result<()>) -> Result<()> {
    let _ = load.gap();
    let begun = Instant::now();
    let before = match fault {
        Fault::Kill => several.database.kill_primary(&several.net)?,
        Fault::SwitchOver => several.database.switch_over(&several.net)?,
    };
    if matches!(fault, Fault::Kill) {
        let says =
            wait("a controller to say that it has no database", STEP_MAX, async || said(&several.all[0].api).await);
        let says = says.await?;
        ensure!(says["ready"] == false && says["database"] != "ok", "{says}");
    }
    let after = several.database.another(&several.net, before).await?;
    let elected = begun.elapsed();
    for one in &several.all {
        wait("a controller to have its database again", STEP_MAX, async || ready(&one.api).await.then_some(())).await?;
    }
    let back = begun.elapsed();
    meanwhile().await?;
    if matches!(fault, Fault::Kill) {
        several.database.start_again(&several.net, before)?;
    }
    several.database.settled(&several.net).await?;
    several.controllers_run()?;
    say(&format!(
        "  {fault:?} of primary {before}: {after} is the primary after {:.1} s, all controllers ready after {:.1} s, no \
         write for {:.1} s",
        elected.as_secs_f32(),
        back.as_secs_f32(),
        load.gap().as_secs_f32()
    ));
    Ok(())
}

/// What a controller says of itself when it is not ready.
async fn said(api: &straas_tests::Api) -> Option<Value> {
    use http_body_util::BodyExt as _;
    let response = api.request(Method::GET, "/readyz", None).await.ok()?;
    if response.status() != 503 {
        return None;
    }
    serde_json::from_slice(&response.into_body().collect().await.ok()?.to_bytes()).ok()
}

/// How often a stage that changes something ran.
fn stages(conductor: &Conductor) -> usize {
    let changes = |point: &str| ["install", "pre_config", "config", "start", "stop"].contains(&point);
    conductor.runs().iter().filter(|run| changes(&run.point)).count()
}

async fn generations(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    let mut found: Vec<_> =
        cluster.api.nodes().await?.into_iter().map(|node| (node.name, node.converged_generation)).collect();
    found.sort();
    Ok(found)
}
