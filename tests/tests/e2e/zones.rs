//! A zone is cut off, with a controller and the database's primary in it: what is there goes on, what is elsewhere
//! waits where it has to, and afterwards everything fits together.
//!
//! ```text
//!   one zone:  controller, the database's primary, the machine whose node of span holds a permit, home-1, home-2
//!   two zones: controller, a standby, another machine of span each
//!   in the middle: git, the load balancer; metal-4 and home-3, free
//! ```
//! The machines are put into their zones once it is known which is which.

use crate::several_rig::{moody, node_ids, noted, told};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use straas_schemas::pool::HostView;
use straas_schemas::view::{Accepted, Liveness, NodeView, Page};
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::conductor::{Conductor, Run};
use straas_tests::several::load::Load;
use straas_tests::several::net::at;
use straas_tests::several::{FIRST, Known, Layout, Several, Spot, Zoned};
use straas_tests::{Cluster, say, scene, wait};

const LAYOUT: Layout = Layout { controllers: 3, members: 3, zoned: Zoned::WithDatabase };
const TIMING: &str = "heartbeat_ms = 1000\nsuspect_after_ms = 8000\nunreachable_after_ms = 20000\nretry_ms = 1000";

#[test]
fn a_zone_is_cut_off_and_comes_back() {
    scene("a_zone_is_cut_off_and_comes_back", async |cluster| story(cluster, Duration::from_secs(75)).await);
}

#[test]
#[ignore = "seven minutes: a zone is cut off for five"]
fn a_zone_is_cut_off_for_long_and_comes_back() {
    scene("a_zone_is_cut_off_for_long_and_comes_back", async |cluster| story(cluster, Duration::from_secs(300)).await);
}

/// Machines: name, zone of the pool, fault domain.
const MACHINES: [(&str, &str, &str); 7] = [
    ("metal-1", "metal", "rack-1"),
    ("metal-2", "metal", "rack-2"),
    ("metal-3", "metal", "rack-3"),
    ("metal-4", "metal", "rack-4"),
    ("home-1", "home", "shelf"),
    ("home-2", "home", "shelf"),
    ("home-3", "home", "shelf"),
];

async fn story(cluster: &mut Cluster, cut: Duration) -> Result<()> {
    TIMING.clone_into(&mut cluster.timing);
    let often = looks_often(cluster.data())?;
    Conductor::prepare(cluster, &[&often])?;
    let mut several = Several::start(cluster, LAYOUT, &["mini-httpd=1.30-*"]).await?;
    let conductor = Conductor::listen(cluster)?;
    let machine = async |range: std::ops::Range<usize>| {
        for (name, zone, domain) in &MACHINES[range] {
            several.machine(cluster, &Spot { name, zone, domain }, Known::List).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    machine(0..3).await?;
    machine(4..6).await?;
    let (span, home) = (moody(cluster, "span", "metal", 3).await?, moody(cluster, "home", "home", 2).await?);
    // free machines, for nobody
    machine(3..4).await?;
    machine(6..7).await?;

    // a restart of all, whose first node holds the permit and does not get on
    let names: Vec<String> = span.components[0].nodes.iter().map(|node| node.name.clone()).collect();
    names.iter().for_each(|name| conductor.fail(name, "config", "held by the test"));
    let restart: Accepted =
        cluster.api.call(Method::PUT, &format!("/components/{}/services", span.components[0].id), None).await?;
    let victim = wait("a node to hold the permit", ACTIVE_MAX, async || {
        names.iter().find(|name| conductor.failures(name, "config") > 0).cloned()
    })
    .await?;
    names.iter().filter(|name| **name != victim).for_each(|name| conductor.heal(name, "config"));
    let carriers = carriers(cluster).await?;
    let victim_on = carriers.get(&victim).context("the victim has no machine")?.clone();
    let zone: u8 = 1;
    for name in [&victim_on, "home-1", "home-2"] {
        several.plug(name, zone).await?;
    }
    let others = carriers.iter().filter(|(node, _)| names.contains(node) && **node != victim);
    for ((_, machine), zone) in others.zip(zone + 1..) {
        several.plug(machine, zone).await?;
    }
    let server = FIRST + zone - 1;
    several.database.led_by(&several.net, server).await?;
    let before = cluster.api.nodes().await?;

    let elsewhere: Vec<String> = before
        .iter()
        .filter(|node| names.contains(&node.name) && node.name != victim)
        .map(|n| n.id.to_string())
        .collect();
    let silent: Vec<String> = [node_ids(&home), vec![id_of(&before, &victim)?]].concat();
    let load = Load::default();
    let work = async |several: &mut Several| {
        let begun = Instant::now();
        several.net.cut(zone)?;
        conductor.heal(&victim, "config");
        let leads = several.database.another(&several.net, server).await?;
        say(&format!("  {leads} leads the database instead of {server} after {:.1} s", begun.elapsed().as_secs_f32()));
        let due = command(cluster, &silent[0], "after-the-cut", 3600).await?;
        let late = command(cluster, &silent[0], "too-late", 5).await?;
        goes_on(cluster, several, zone, &victim_on).await?;
        wait("the nodes of the zone to be unreachable", STEP_MAX, async || {
            let nodes = cluster.api.nodes().await.ok()?;
            let lost = |id: &String| nodes.iter().any(|n| n.id.as_str() == id && n.liveness == Liveness::Unreachable);
            silent.iter().all(lost).then_some(())
        })
        .await?;
        ended(cluster, &late, "expired").await?;
        // waits for: nothing; how long a zone is cut off is the test
        tokio::time::sleep(cut.saturating_sub(begun.elapsed())).await;
        let others = disturbed(&conductor.runs(), &names, &victim, begun);
        ensure!(others.is_empty(), "{victim} holds the permit, and others were disturbed: {others:?}");
        let now = crate::zones::carriers(cluster).await?;
        ensure!(now == carriers, "a node was moved: {carriers:?}, then {now:?}");
        let lasted = begun.elapsed().as_secs_f32();
        several.net.heal(zone)?;
        let healed = Instant::now();
        wait("the nodes of the zone to be heard", STEP_MAX, async || {
            let nodes = cluster.api.nodes().await.ok()?;
            let heard = |id: &String| nodes.iter().any(|n| n.id.as_str() == id && n.liveness == Liveness::Reachable);
            silent.iter().all(heard).then_some(())
        })
        .await?;
        let heard = healed.elapsed().as_secs_f32();
        several.database.settled(&several.net).await?;
        let joined = healed.elapsed().as_secs_f32();
        ended(cluster, &due, "succeeded").await?;
        cluster.active(&restart).await?;
        say(&format!(
            "  after {lasted:.0} s the cut ends: all nodes heard after {heard:.1} s, its member of the database follows after \
             {joined:.1} s, the restart that was held done after {:.1} s",
            healed.elapsed().as_secs_f32()
        ));
        load.stop();
        Ok::<_, anyhow::Error>(())
    };
    let came = async {
        tokio::try_join!(
            work(&mut several),
            load.write(&cluster.api, "w", &elsewhere),
            load.read(&cluster.api, "/nodes")
        )
    };
    told(cluster, came.await).await?;
    several.controllers_run()?;
    several.others_run()?;
    in_order(cluster, &restart, &id_of(&before, &victim)?, &victim).await?;
    for node in cluster.api.nodes().await? {
        let was = before.iter().find(|was| was.id == node.id).context("a node is another one")?;
        ensure!(node.address == was.address, "{} is on another host", node.name);
    }
    let ran = load.ran(&cluster.api, async || noted(cluster).await).await?;
    let noted = noted(cluster).await?;
    let times = |word: &str| noted.iter().filter(|line| *line == word).count();
    ensure!((times("after-the-cut"), times("too-late")) == (1, 0), "commands of the cut ran wrongly: {noted:?}");
    say(&format!("  users at the load balancer: {}", load.told()));
    say(&format!("  {} acknowledged writes, 0 lost", load.kept(&cluster.api).await?));
    say(&format!("  {ran}"));
    Ok(())
}

/// The component of the tests, looked at every five seconds instead of every hour; a folder to lay over.
fn looks_often(dir: &Path) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("components/moody/metadata/moody.json");
    let mut meta: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    meta["validate_every_s"] = json!(5);
    let folder = dir.join("often");
    std::fs::create_dir_all(folder.join("metadata"))?;
    std::fs::write(folder.join("metadata/moody.json"), serde_json::to_vec_pretty(&meta)?)?;
    Ok(folder.to_string_lossy().into_owned())
}

/// In the zone that is cut off: services that die are started again, the node that holds a permit finishes, and the
/// controller there says what it lacks and answers agents.
async fn goes_on(cluster: &Cluster, several: &Several, zone: u8, victim_on: &str) -> Result<()> {
    let begun = Instant::now();
    // the oldest: it forks for each request
    let pid = "pgrep -o -x mini_httpd";
    let before = cluster.sh("home-1", pid).await?;
    cluster.sh("home-1", &format!("kill -9 {}", before.trim())).await?;
    wait("a killed service to be started again", STEP_MAX, async || {
        cluster.sh("home-1", pid).await.ok().filter(|now| now.trim() != before.trim())
    })
    .await?;
    say(&format!("  a service that was killed there runs again after {:.1} s", begun.elapsed().as_secs_f32()));
    wait("the node that holds the permit to finish", STEP_MAX, async || cluster.sh(victim_on, pid).await.ok()).await?;
    let server = FIRST + zone - 1;
    let ask =
        |path: &str| several.net.run(server, &["curl", "-s", "-m", "5", &format!("http://{}{path}", at(server, 8080))]);
    let says = wait("the controller there to say that it has no database", STEP_MAX, async || {
        let says: Value = serde_json::from_str(&ask("/readyz").ok()?).ok()?;
        (says["ready"] == false).then_some(says)
    });
    let says = says.await?;
    ensure!(says["database"] != "ok", "{says}");
    wait("the controller there to answer polls of its zone", STEP_MAX, async || {
        let text = ask("/metrics").ok()?;
        let polling = text.lines().find_map(|line| line.strip_prefix("straas_controller_nodes_polling "))?;
        polling.trim().parse::<u32>().ok().filter(|polling| *polling > 0)
    })
    .await?;
    Ok(())
}

/// The machine of each node, by their names; none is on its way.
async fn carriers(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let page: Page<HostView> = cluster.api.get("/hosts").await?;
    Ok(page.items.into_iter().filter_map(|host| Some((host.node?.name, host.name))).collect())
}

fn id_of(nodes: &[NodeView], name: &str) -> Result<String> {
    let found = nodes.iter().find(|node| node.name == name);
    Ok(found.with_context(|| format!("no node {name}"))?.id.to_string())
}

/// Scripts that disturbed any of these nodes but one since then, each with its second.
fn disturbed(runs: &[Run], names: &[String], but: &str, since: Instant) -> Vec<String> {
    // to start what runs disturbs nobody
    let disturbs = |run: &&Run| ["config", "stop"].contains(&run.point.as_str());
    let later = runs.iter().filter(|run| run.begun >= since && names.contains(&run.node) && run.node != but);
    later.filter(disturbs).map(|run| format!("{} {} {:?}", run.node, run.point, run.begun - since)).collect()
}

/// Asks for a command that is not to run twice; its id.
async fn command(cluster: &Cluster, node: &str, key: &str, deadline_s: u32) -> Result<String> {
    let body = json!({ "command": "moody-cmd/count", "args": { "key": key }, "deadline_s": deadline_s });
    let path = format!("/nodes/{node}/commands");
    // the database may be moving just now
    let asked = wait("a command to be taken", STEP_MAX, async || {
        let answer: Value = cluster.api.call(Method::POST, &path, Some(&body)).await.ok()?;
        answer["id"].as_str().map(str::to_owned)
    });
    asked.await
}

async fn ended(cluster: &Cluster, id: &str, how: &str) -> Result<()> {
    wait(&format!("a command to have {how}"), STEP_MAX, async || {
        let view: Value = cluster.api.get(&format!("/commands/{id}")).await.ok()?;
        (view["state"] == how).then_some(())
    })
    .await
}

/// What the node had to report from the time of the cut was recorded in the order in which it happened.
async fn in_order(cluster: &Cluster, restart: &Accepted, id: &str, name: &str) -> Result<()> {
    let job = cluster.api.job(restart.job.id.as_str()).await?;
    let events = cluster.events(job.topology.as_str()).await?;
    let own = events.iter().filter(|event| event.node.as_ref().is_some_and(|node| node.as_str() == id));
    let texts: Vec<&str> = own.map(|event| event.text.as_str()).collect();
    let last = |part: &str| {
        texts.iter().rposition(|text| text.contains(part)).with_context(|| format!("no {part}: {texts:#?}"))
    };
    let failed = last(&format!("{name}: config failed"))?;
    let (config, holds) = (last(&format!("{name}: config done"))?, last(&format!("{name}: holds generation"))?);
    ensure!(failed < config && config < holds, "out of order: {texts:#?}");
    Ok(())
}
