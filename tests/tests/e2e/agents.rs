//! Agents replaced on real hosts, batch by batch, under clients that write: good builds, bad builds, kills, a reboot, a
//! file that is damaged, and the packaged agent again at the end.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use straas_drivers::Faults as _;
use straas_schemas::Digest;
use straas_schemas::build::PACKAGED;
use straas_schemas::rollout::{FleetMemberPhase as Phase, FleetRollout, FleetRolloutStanding as Standing};
use straas_schemas::view::{NodeView, Page, QuarantineView, TopologyView};
use straas_tests::artifacts::artifacts;
use straas_tests::clients::Writer;
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::workflow::{nodes, servers};
use straas_tests::{Cluster, say, scene, wait};

const CLIENT_PORT: u16 = 2181;

/// Topologies in the order in which they were made, which is that of their turns.
const TOWNS: [&str; 3] = ["first", "second", "third"];

/// A build: the agent with some bytes more, and some texts in it replaced by others of the same length.
fn build(tag: &str, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut program = std::fs::read(&artifacts()?.agent)?;
    for (from, to) in texts {
        ensure!(from.len() == to.len(), "{from} and {to} differ in length");
        let places: Vec<usize> =
            program.windows(from.len()).enumerate().filter(|(_, w)| *w == from.as_bytes()).map(|(at, _)| at).collect();
        ensure!(!places.is_empty(), "the agent has no text {from}");
        for at in places {
            program[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    program.extend_from_slice(tag.as_bytes());
    Ok(program)
}

/// Stores a build and begins its rollout.
async fn begin(cluster: &Cluster, tag: &str, program: &[u8]) -> Result<(Digest, String)> {
    let file: PathBuf = cluster.data().join(format!("agent-{tag}"));
    std::fs::write(&file, program)?;
    let (file, name) = (file.display().to_string(), format!("agents/{tag}"));
    cluster.typed(&["storage", "put", &file, &name, "--region", "az1"]).await?;
    let order = ["rollout", "start", "--agent", &name, "--region", "az1", "--output", "json"];
    let begun: FleetRollout = serde_json::from_str(&cluster.typed(&order).await?)?;
    let sum = Digest::sha256(program);
    ensure!(begun.build.as_deref() == Some(sum.as_str()) && begun.total == 3, "it is {begun:?}");
    Ok((sum, begun.id))
}

async fn ended(cluster: &Cluster, id: &str, standing: Standing) -> Result<FleetRollout> {
    let rollout: FleetRollout = wait("the rollout to end", ACTIVE_MAX, async || {
        let rollout: FleetRollout = cluster.api.get(&format!("/rollouts/{id}")).await.ok()?;
        rollout.standing.is_final().then_some(rollout)
    })
    .await?;
    ensure!(rollout.standing == standing, "it ended otherwise: {rollout:#?}");
    Ok(rollout)
}

fn phases(rollout: &FleetRollout) -> Vec<Phase> {
    rollout.members.iter().map(|member| member.phase).collect()
}

struct World {
    topologies: Vec<TopologyView>,
}

impl World {
    async fn nodes(&self, cluster: &Cluster) -> Result<Vec<NodeView>> {
        let mut all = Vec::new();
        for topology in &self.topologies {
            all.extend(nodes(&cluster.settled(&topology.id.0).await?).into_iter().cloned());
        }
        Ok(all)
    }

    /// Process ids of the servers and of the agents, by node.
    async fn processes(&self, cluster: &Cluster) -> Result<BTreeMap<String, (String, Option<u32>)>> {
        let mut out = BTreeMap::new();
        for node in self.nodes(cluster).await? {
            let server = cluster.sh(&node.name, "pidof java").await?.trim().to_owned();
            out.insert(node.name.clone(), (server, cluster.agent_pid(&node.name).await));
        }
        Ok(out)
    }

    /// Fails unless every node says that it runs this, and does.
    async fn run(&self, cluster: &Cluster, wanted: Option<&Digest>) -> Result<()> {
        for node in self.nodes(cluster).await? {
            let said = node.agent.as_ref().with_context(|| format!("{} says nothing of its build", node.name))?;
            ensure!(said.runs(wanted), "{} says {said:?}", node.name);
            let exe = exe(cluster, &node.name).await?;
            let expect = wanted.map_or("/usr/sbin/".to_owned(), |build| format!("/builds/{build}/"));
            ensure!(exe.contains(&expect), "the agent of {} is {exe}", node.name);
        }
        Ok(())
    }
}

/// The program that the agent of a node is.
async fn exe(cluster: &Cluster, node: &str) -> Result<String> {
    let pid = cluster.agent_pid(node).await.with_context(|| format!("no agent runs in {node}"))?;
    cluster.sh(node, &format!("readlink /proc/{pid}/exe")).await
}

#[test]
fn agents_are_replaced_and_found_again() {
    scene("agents_are_replaced_and_found_again", async |cluster| {
        let hosts = cluster.start_inside().await?;
        let mut asked = Vec::new();
        for (name, size) in TOWNS.into_iter().zip([1, 3, 1]) {
            asked.push(cluster.create(name, "3.8.0", size).await?);
        }
        let mut topologies = Vec::new();
        for accepted in &asked {
            topologies.push(cluster.active(accepted).await?);
        }
        let writer = Writer::zookeeper(cluster, &servers(&topologies[1], "zk", CLIENT_PORT)?, "/agents").await?;
        let world = World { topologies };
        world.run(cluster, None).await?;
        let before = world.processes(cluster).await?;

        // a good one: the same processes, agents and servers alike
        let (good, rollout) = begin(cluster, "good", &build("good", &[])?).await?;
        let end = ended(cluster, &rollout, Standing::Succeeded).await?;
        let took = end.ended_ms.unwrap_or(0) - end.created_ms;
        say(&format!("  a good build on 5 nodes of 3 topologies, batch by batch: {:.1} s", took as f64 / 1000.0));
        world.run(cluster, Some(&good)).await?;
        ensure!(world.processes(cluster).await? == before, "other processes: {:?}", world.processes(cluster).await?);

        // one that ends at once: the node goes back by itself, the rollout with it, and nobody else ever has it
        let generations = |nodes: &[NodeView]| nodes.iter().map(|n| (n.name.clone(), n.generation)).collect::<Vec<_>>();
        let untouched = generations(&world.nodes(cluster).await?[1..]);
        let (ends, rollout) = begin(cluster, "ends", &build("ends", &[("--config", "--c0nfig")])?).await?;
        let end = ended(cluster, &rollout, Standing::TurnedBack).await?;
        ensure!(phases(&end) == [Phase::Failed, Phase::Waiting, Phase::Waiting], "{end:#?}");
        let reason = end.reason.clone().unwrap_or_default();
        ensure!(reason.contains("first-zk-1") && reason.contains("started 3 times"), "it says {reason}");
        let took = end.ended_ms.unwrap_or(0) - end.created_ms;
        say(&format!("  one that ends at once is turned back after {:.1} s: {reason}", took as f64 / 1000.0));
        world.run(cluster, Some(&good)).await?;
        ensure!(generations(&world.nodes(cluster).await?[1..]) == untouched, "others were told of it");
        let quarantine: Page<QuarantineView> = cluster.api.get("/quarantine?what=agents").await?;
        ensure!(quarantine.items.iter().any(|bad| bad.key == ends.as_str()), "it is not in quarantine");

        // one that nobody answers to; its agent is killed while it is on trial, as often as it takes
        let deaf = build("deaf", &[("/agent/v1/nodes/", "/agent/v0/nodes/")])?;
        let (deaf, rollout) = begin(cluster, "deaf", &deaf).await?;
        for _ in 0..3 {
            wait("the build to be on trial", STEP_MAX, async || {
                exe(cluster, "first-zk-1").await.ok().filter(|exe| exe.contains(deaf.as_str()))
            })
            .await?;
            cluster.kill_agent("first-zk-1").await?;
        }
        let end = ended(cluster, &rollout, Standing::TurnedBack).await?;
        ensure!(phases(&end) == [Phase::Failed, Phase::Waiting, Phase::Waiting], "{end:#?}");
        world.run(cluster, Some(&good)).await?;

        // a host that boots comes to the build that it ran, also if the file of that is damaged by then
        let node = world.nodes(cluster).await?.remove(0);
        let boot = |node: &NodeView| node.vitals.as_ref().map(|vitals| vitals.boot_id.clone());
        hosts.reboot(node.id.as_str()).await?;
        wait("the rebooted node to be heard", STEP_MAX, async || {
            let seen: NodeView = cluster.api.get(&format!("/nodes/{}", node.id)).await.ok()?;
            (boot(&seen) != boot(&node)).then_some(())
        })
        .await?;
        world.run(cluster, Some(&good)).await?;
        let file = format!("/var/lib/straas/agent/builds/{good}/straas-agent");
        cluster
            .sh(&node.name, &format!("cp {file} {file}.new && printf x >> {file}.new && mv {file}.new {file}"))
            .await?;
        cluster.kill_agent(&node.name).await?;
        wait("the build to be there again", STEP_MAX, async || {
            let sum = cluster.sh(&node.name, &format!("sha256sum {file}")).await.ok()?;
            let runs = exe(cluster, &node.name).await.ok()?.contains(good.as_str());
            (sum.starts_with(good.as_str()) && runs).then_some(())
        })
        .await?;

        // and the packaged one
        let order = ["rollout", "start", "--packaged-agent", "--batches", "100", "--output", "json"];
        let begun: FleetRollout = serde_json::from_str(&cluster.typed(&order).await?)?;
        ensure!(begun.build.as_deref() == Some(PACKAGED), "it is {begun:?}");
        ended(cluster, &begun.id, Standing::Succeeded).await?;
        world.run(cluster, None).await?;

        let after = world.processes(cluster).await?;
        let same = |(name, now): (&String, &(String, Option<u32>))| name == "first-zk-1" || before[name] == *now;
        ensure!(after.iter().all(same), "other processes: {before:?} became {after:?}");
        let summary = writer.finish().await?;
        say(&format!(
            "  a client's writes: {} acknowledged, longest gap {:.2} s",
            summary.acknowledged, summary.longest_gap_s
        ));
        summary.nothing_lost()
    });
}
