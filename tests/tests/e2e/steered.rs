//! A user at the wheel of one ensemble: services, changes under way, drift, commands for many nodes.
//!
//! One ensemble carries all the stories; each leaves it as it found it, ACTIVE.

use crate::{batches, drift};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::Value;
use std::collections::BTreeSet;
use straas_drivers::Faults as _;
use straas_drivers::local::LocalHosts;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::{Job, JobStanding};
use straas_schemas::view::{Accepted, Cause, Event, NodeView};
use straas_schemas::{Lifecycle, Stage};
use straas_tests::brakes::CONFIG;
use straas_tests::cluster::STEP_MAX;
use straas_tests::settings::user_file;
use straas_tests::workflow::{component, nodes};
use straas_tests::{Cluster, say, scene, wait};

const BRANCH: &str = "steer@az1";
/// Heartbeats of a node after which nothing more is on its way to it.
const BEATS: u32 = 3;

/// The ensemble.
pub struct It {
    /// Its topology.
    pub topology: String,
    /// Its component.
    pub zk: String,
}

impl It {
    /// Its nodes.
    pub async fn nodes(&self, cluster: &Cluster) -> Result<Vec<NodeView>> {
        Ok(nodes(&cluster.api.topology(&self.topology).await?).into_iter().cloned().collect())
    }

    /// Their names.
    pub async fn names(&self, cluster: &Cluster) -> Result<Vec<String>> {
        Ok(self.nodes(cluster).await?.into_iter().map(|node| node.name).collect())
    }

    /// The node that leads and the others, once one is known to.
    pub async fn leader(&self, cluster: &Cluster) -> Result<(NodeView, Vec<NodeView>)> {
        cluster.settled(&self.topology).await?;
        wait("one node to lead", STEP_MAX, async || {
            let leads = |node: &NodeView| node.facts.get("mode").is_some_and(|mode| mode == "leader");
            let (mut leader, others): (Vec<_>, Vec<_>) = self.nodes(cluster).await.ok()?.into_iter().partition(leads);
            (leader.len() == 1).then(|| (leader.remove(0), others))
        })
        .await
    }

    /// Begins to configure it with another value.
    pub async fn begin(&self, cluster: &Cluster, count: &str) -> Result<Accepted> {
        let commit = cluster.set(BRANCH, &user_file("zookeeper", "3.8.0"), "zoo_cfg", "snapCount", count)?;
        cluster.api.call(Method::PUT, &format!("/components/{}/tree/{commit}", self.zk), None).await
    }
}

/// The value that a node's server is configured with.
pub async fn snap_count(cluster: &Cluster, node: &str) -> Result<String> {
    let line = cluster.sh(node, "grep ^snapCount= /etc/zookeeper/straas/zoo.cfg || true").await?;
    Ok(line.trim().trim_start_matches("snapCount=").to_owned())
}

async fn serves(cluster: &Cluster, node: &str) -> bool {
    cluster.exec(node, &["pidof", "java"]).await.is_ok_and(|ran| ran.code == 0)
}

async fn configured(cluster: &Cluster, names: &[String], count: &str) -> Result<()> {
    for name in names {
        let found = snap_count(cluster, name).await?;
        ensure!(found == count, "{name} has snapCount {found:?}, not {count}");
    }
    Ok(())
}

#[test]
fn users_steer() {
    scene("users_steer", async |cluster| {
        cluster.build_brake(CONFIG)?;
        batches::add(cluster)?;
        // who leads is known after the next look
        cluster.edit_type("zookeeper", |meta| meta["validate_every_s"] = 3.into())?;
        let hosts = cluster.start_inside().await?;
        let topology = cluster.active(&cluster.create("steer", "3.8.0", 3).await?).await?;
        let it = It { topology: topology.id.0.clone(), zk: component(&topology, "zk")?.id.0.clone() };
        let mut last = std::time::Instant::now();
        let mut lap = |what: &str| {
            say(&format!("  {what}: {:.1} s", last.elapsed().as_secs_f32()));
            last = std::time::Instant::now();
        };
        stopped_stays_stopped(cluster, &hosts, &it).await?;
        lap("stop, reboot, change, start");
        all_stop_and_start(cluster, &it).await?;
        lap("everybody stops and starts");
        restarted_in_turn(cluster, &it).await?;
        lap("restart in turn");
        paused_and_resumed(cluster, &it).await?;
        lap("pause and resume");
        cancelled(cluster, &it).await?;
        lap("cancel");
        superseded(cluster, &it).await?;
        lap("supersede");
        batches::in_steps(cluster, &it).await?;
        batches::heard_live(cluster, &it).await?;
        lap("batches");
        drift::reported_then_enforced(cluster, &it).await?;
        lap("drift");
        Ok(())
    });
}

/// Over a reboot of its host, and over a change of configuration; then it starts with the new one.
async fn stopped_stays_stopped(cluster: &Cluster, hosts: &LocalHosts, it: &It) -> Result<()> {
    let (_, others) = it.leader(cluster).await?;
    let node = others.last().context("no follower")?.clone();
    cluster.typed(&["node", "stop", &node.name, "--wait"]).await?;
    ensure!(!serves(cluster, &node.name).await, "it runs although it was stopped");
    let stopped = wait("the node to be known as stopped", STEP_MAX, async || {
        let seen = cluster.api.node(&node.name).await.ok()?;
        (seen.lifecycle == Lifecycle::Stopped && seen.service == ServiceStatus::Inactive).then_some(seen)
    })
    .await?;
    ensure!(stopped.why.text.contains("stopped, as wanted"), "why: {}", stopped.why.text);

    let boot = |node: &NodeView| node.vitals.as_ref().map(|vitals| vitals.boot_id.clone());
    hosts.reboot(node.id.as_str()).await?;
    wait("the rebooted node to be stopped again", STEP_MAX, async || {
        let seen = cluster.api.node(&node.name).await.ok()?;
        let back = boot(&seen).is_some() && boot(&seen) != boot(&stopped);
        (back && seen.service == ServiceStatus::Inactive && seen.why.cause == Cause::Converged).then_some(())
    })
    .await?;
    heard(cluster, std::slice::from_ref(&node.name)).await?;
    ensure!(!serves(cluster, &node.name).await, "the reboot started it");

    // of three servers one is missing: the others are not disturbed for a change, which waits and says so
    let before = snap_count(cluster, &node.name).await?;
    let accepted = it.begin(cluster, "51000").await?;
    wait("the first node to wait for the stopped one", STEP_MAX, async || {
        let held_by = |other: &NodeView| {
            other.why.cause == Cause::AwaitingPermit && other.why.evidence.get("held_by") == Some(&node.name)
        };
        it.nodes(cluster).await.ok()?.iter().any(held_by).then_some(())
    })
    .await?;
    heard(cluster, &it.names(cluster).await?).await?;
    ensure!(!serves(cluster, &node.name).await, "the change started it");
    configured(cluster, &it.names(cluster).await?, &before).await?;

    cluster.typed(&["node", "start", &node.name, "--wait"]).await?;
    let job = cluster.ended(&accepted).await?;
    ensure!(job.standing == JobStanding::Succeeded, "the change ended as {:?}: {}", job.standing, job.detail);
    configured(cluster, &it.names(cluster).await?, "51000").await?;
    it.leader(cluster).await.map(drop)
}

/// Where all are stopped nobody is disturbed: a change goes through at once and starts nothing.
async fn all_stop_and_start(cluster: &Cluster, it: &It) -> Result<()> {
    let names = it.names(cluster).await?;
    cluster.change("stop", Method::DELETE, &format!("/components/{}/services", it.zk), None).await?;
    for name in &names {
        ensure!(!serves(cluster, name).await, "{name} runs although all were stopped");
    }
    let job = cluster.ended(&it.begin(cluster, "51500").await?).await?;
    ensure!(job.standing == JobStanding::Succeeded, "the change ended as {:?}: {}", job.standing, job.detail);
    for name in &names {
        ensure!(!serves(cluster, name).await, "the change started {name}");
    }
    configured(cluster, &names, "51000").await?;
    cluster.change("start", Method::POST, &format!("/components/{}/services", it.zk), None).await?;
    configured(cluster, &names, "51500").await?;
    it.leader(cluster).await.map(drop)
}

/// One after the other, and the leader last.
async fn restarted_in_turn(cluster: &Cluster, it: &It) -> Result<()> {
    let (leader, _) = it.leader(cluster).await?;
    cluster.typed(&["component", "restart", "steer", "zk", "--wait"]).await?;
    let mut turns = Vec::new();
    let events = cluster.events(&it.topology).await?;
    for node in it.nodes(cluster).await? {
        let config = node.stages.get(&Stage::Config).with_context(|| format!("{} has no config", node.name))?;
        let began = config.received_ms - i64::try_from(config.duration_ms)?;
        // the first look after it: a later one may come while the leader restarts, and find no quorum for a moment
        let validated = format!("{}: validate done", node.name);
        let works = |event: &&Event| event.at_ms >= config.received_ms && event.text.starts_with(&validated);
        let works = events.iter().find(works).with_context(|| format!("{} was not seen to work", node.name))?.at_ms;
        turns.push((began, works, node.name.clone()));
    }
    turns.sort();
    for pair in turns.windows(2) {
        ensure!(pair[0].1 <= pair[1].0, "{} began before {} worked: {turns:?}", pair[1].2, pair[0].2);
    }
    ensure!(turns.last().is_some_and(|(.., name)| *name == leader.name), "{} led: {turns:?}", leader.name);
    Ok(())
}

/// Waits until nodes have been heard of some more times.
pub async fn heard(cluster: &Cluster, names: &[String]) -> Result<()> {
    for name in names {
        let mut seen = BTreeSet::new();
        wait("a few heartbeats", STEP_MAX, async || {
            seen.extend(cluster.api.node(name).await.ok()?.seen_ms);
            (seen.len() > BEATS as usize).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Lets one node through and stops there.
async fn first_through(cluster: &Cluster, first: &str, value: &str) -> Result<()> {
    cluster.release_brake(&[first.to_owned()]).await?;
    wait("the first node to be through", STEP_MAX, async || {
        let node = cluster.api.node(first).await.ok()?;
        let there = snap_count(cluster, first).await.ok()? == value;
        (there && node.converged_generation == node.generation && node.service == ServiceStatus::Active).then_some(())
    })
    .await
}

/// Paused by the command line: nobody else begins. Resumed through the API: it goes on.
async fn paused_and_resumed(cluster: &Cluster, it: &It) -> Result<()> {
    it.leader(cluster).await?;
    let names = it.names(cluster).await?;
    let before = snap_count(cluster, &names[0]).await?;
    cluster.pull_brake(&names).await?;
    let accepted = it.begin(cluster, "52000").await?;
    let id = accepted.job.id.as_str();
    let first = cluster.first_to_stand(&names).await?;
    cluster.typed(&["job", "pause", id]).await?;
    let paused = cluster.api.job(id).await?;
    ensure!(paused.standing == JobStanding::Paused, "it is {:?}: {}", paused.standing, paused.detail);
    first_through(cluster, &first, "52000").await?;
    let others: Vec<String> = names.iter().filter(|name| **name != first).cloned().collect();
    heard(cluster, &others).await?;
    for name in &others {
        ensure!(!cluster.stands(name).await, "{name} began although the change is paused");
        let why = cluster.api.node(name).await?.why;
        ensure!(why.cause == Cause::Paused, "{name}: {:?} {}", why.cause, why.text);
    }
    configured(cluster, &others, &before).await?;

    let _: Job = cluster.api.call(Method::POST, &format!("/jobs/{id}/resume"), None).await?;
    cluster.release_brake(&names).await?;
    let job = cluster.ended(&accepted).await?;
    ensure!(job.standing == JobStanding::Succeeded, "it ended as {:?}: {}", job.standing, job.detail);
    let (status, problem) = cluster.api.answer(Method::POST, &format!("/jobs/{id}/pause"), None).await?;
    ensure!(status == 409, "pausing what has ended: {status} {problem}");
    configured(cluster, &names, "52000").await
}

/// Cancelled while the second node is at it: all have what they had before.
async fn cancelled(cluster: &Cluster, it: &It) -> Result<()> {
    it.leader(cluster).await?;
    let names = it.names(cluster).await?;
    let topology = cluster.api.topology(&it.topology).await?;
    let commit = component(&topology, "zk")?.config.clone();
    cluster.pull_brake(&names).await?;
    let accepted = it.begin(cluster, "53000").await?;
    let id = accepted.job.id.as_str();
    let first = cluster.first_to_stand(&names).await?;
    first_through(cluster, &first, "53000").await?;
    let others: Vec<String> = names.iter().filter(|name| **name != first).cloned().collect();
    let second = cluster.first_to_stand(&others).await?;
    let untouched = others.iter().find(|name| **name != second).context("no third")?;
    let ran = cluster.braked_runs(untouched).await?;
    let dry = cluster.typed(&["job", "cancel", id, "--dry-run"]).await?;
    ensure!(dry.contains("53000") && dry.contains("52000"), "the dry run says: {dry}");
    let said = cluster.typed(&["job", "cancel", id]).await?;
    ensure!(said.contains(id), "it says {said:?}");
    cluster.release_brake(&names).await?;
    let job = cluster.ended(&accepted).await?;
    ensure!(job.standing == JobStanding::Cancelled, "it ended as {:?}: {}", job.standing, job.detail);
    configured(cluster, &names, "52000").await?;
    let topology = cluster.settled(&it.topology).await?;
    ensure!(component(&topology, "zk")?.config == commit, "it is wanted otherwise than before");
    ensure!(cluster.braked_runs(untouched).await? == ran, "{untouched} was disturbed");
    Ok(())
}

/// A second change while the first rolls: its place is taken, nobody else sees the first.
async fn superseded(cluster: &Cluster, it: &It) -> Result<()> {
    it.leader(cluster).await?;
    let names = it.names(cluster).await?;
    let mut before = Vec::new();
    for name in &names {
        before.push(cluster.braked_runs(name).await?);
    }
    cluster.pull_brake(&names).await?;
    let one = it.begin(cluster, "54000").await?;
    let first = cluster.first_to_stand(&names).await?;
    let two = it.begin(cluster, "55000").await?;
    let old = cluster.ended(&one).await?;
    ensure!(old.standing == JobStanding::Superseded, "the first ended as {:?}: {}", old.standing, old.detail);
    cluster.release_brake(&names).await?;
    let new = cluster.ended(&two).await?;
    ensure!(new.standing == JobStanding::Succeeded, "the second ended as {:?}: {}", new.standing, new.detail);
    configured(cluster, &names, "55000").await?;
    for (name, before) in names.iter().zip(before) {
        let ran = cluster.braked_runs(name).await? - before;
        let most = if *name == first { 2 } else { 1 };
        ensure!(ran <= most, "{name} was configured {ran} times");
    }
    let (status, problem): (u16, Value) =
        cluster.api.answer(Method::POST, &format!("/jobs/{}/cancel", one.job.id), None).await?;
    ensure!(status == 409, "cancelling what was superseded: {status} {problem}");
    cluster.settled(&it.topology).await.map(drop)
}
