//! Controller, agents and hosts are killed at random moments while workflows and commands run.
//!
//! Two stories go on side by side, one change after the other: of a light component, and of a
//! ZooKeeper ensemble that a client writes to all the time. The scripts of both say when they begin
//! and end. At the end all that was asked for holds, no command ran twice, nobody was disturbed out
//! of turn, and nothing that was acknowledged is lost. `SEED` chooses the moments, `KILLED_SECONDS`
//! how many.

use crate::killed_stories::{Story, disturbed_out_of_turn, told};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use straas_drivers::Faults as _;
use straas_schemas::command::{CommandStanding, CommandView};
use straas_schemas::job::JobStanding;
use straas_schemas::view::Accepted;
use straas_store::COMMANDS_PER_NODE_MAX;
use straas_tests::clients::Writer;
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::workflow::servers;
use straas_tests::{Cluster, say, scene, wait};

/// How long things are killed, if nobody says: some twenty kills.
const SECONDS: u64 = 60;
/// Longest wait for a script to begin, before something is killed anyway.
const CALM: Duration = Duration::from_secs(3);
const ZOOKEEPER_PORT: u16 = 2181;
/// Nodes that keep their hosts, so that what commands left there can be counted.
const COUNTING: [&str; 2] = ["k-a-1", "k-a-3"];

/// Repeatable, and good enough to choose moments.
pub struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or(0)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn killed_at_random_moments() {
    scene("killed_at_random_moments", async |cluster| {
        let seed = number("SEED").unwrap_or_else(|| std::process::id().into());
        let seconds = number("KILLED_SECONDS").unwrap_or(SECONDS);
        say(&format!("  SEED={seed} KILLED_SECONDS={seconds}"));
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Conductor::prepare(cluster, &["watched"])?;
        cluster.start().await?;
        let conductor = Conductor::listen(cluster)?;
        let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": 3 });
        let zk = json!({ "name": "zk", "type": "zookeeper", "size": 3 });
        let body = json!({ "name": "k", "availability_zone": "az1", "components": [a, zk] });
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
        let topology = cluster.active(&accepted).await?;
        let writer = Writer::zookeeper(cluster, &servers(&topology, "zk", ZOOKEEPER_PORT)?, "/killed").await?;
        let served = Instant::now();

        let mut stories = [Story::of("a", &accepted.id), Story::of("zk", &accepted.id)];
        let mut commands: Vec<(String, String)> = Vec::new();
        let mut kills = Kills::default();
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            for story in &mut stories {
                story.go_on(cluster, &conductor).await?;
            }
            if let Some(command) = count(cluster, &mut random, &commands).await? {
                commands.push(command);
            }
            kills.one(cluster, &conductor, &mut random).await?;
        }
        say(&format!("  killed: {kills:?}; {} commands asked for", commands.len()));
        let calm = Instant::now();
        for story in &mut stories {
            story.end(cluster).await?;
        }
        cluster.settled(&accepted.id).await?;
        say(&format!("  calm to ACTIVE: {:.1} s", calm.elapsed().as_secs_f64()));
        for story in &stories {
            story.holds(cluster).await?;
        }
        at_most_once(cluster, &commands).await?;
        let replaced = stories.iter().flat_map(|story| &story.replaced).cloned().collect::<Vec<_>>();
        let wrong = disturbed_out_of_turn(&conductor.runs(), served, &replaced);
        if !wrong.is_empty() {
            say(&conductor
                .runs()
                .iter()
                .map(|run| format!("{} {}\n", run.point, told(run, served)))
                .collect::<String>());
        }
        ensure!(wrong.is_empty(), "disturbed at once: {}", wrong.join("; "));
        let summary = writer.finish().await?;
        say(&format!("  the client saw: {summary:?}"));
        ensure!(summary.acknowledged > 0 && summary.lost_count == 0, "lost: {summary:?}");
        let jobs: Value = cluster.api.get("/jobs").await?;
        let open = |job: &&Value| !["succeeded", "superseded"].contains(&job["state"].as_str().unwrap_or_default());
        let open: Vec<&Value> = jobs["items"].as_array().into_iter().flatten().filter(open).collect();
        ensure!(open.is_empty(), "jobs that did not succeed: {open:?}");
        Ok(())
    });
}

/// What was killed.
#[derive(Debug, Default)]
struct Kills {
    controllers: u32,
    agents: u32,
    hosts: u32,
}

impl Kills {
    /// Kills something, often right when a script has begun.
    async fn one(&mut self, cluster: &mut Cluster, conductor: &Conductor, random: &mut Random) -> Result<()> {
        let before = conductor.runs().len();
        let begun = wait("a script to begin", CALM, async || conductor.runs().get(before).map(|run| run.node.clone()));
        let begun = begun.await.ok();
        let moment = Duration::from_millis(random.below(700) as u64);
        // waits for: nothing; kills at random moments are the test
        tokio::time::sleep(moment).await;
        let nodes = cluster.api.nodes().await?;
        let at_random = nodes.get(random.below(nodes.len().max(1))).context("there are no nodes")?;
        match random.below(10) {
            0 | 1 => {
                cluster.kill()?;
                cluster.start().await?;
                self.controllers += 1;
            }
            2 => {
                cluster.kill()?;
                let hosts = cluster.hosts().await?;
                let host = at_random.id.as_str();
                // a host that is just being made or removed has no power to lose
                if hosts.crash(host).await.is_ok() {
                    conductor.gone(&at_random.name);
                    self.hosts += 1;
                }
                if let Err(why) = hosts.boot(host).await {
                    say(&format!("  {} is left to the controller to be booted: {why}", at_random.name));
                }
                drop(hosts);
                cluster.start().await?;
            }
            _ => {
                let name = begun.filter(|_| random.below(4) > 0).unwrap_or_else(|| at_random.name.clone());
                // its host may be on its way out
                if let Some(pid) = cluster.agent_pid(&name).await
                    && cluster.sh(&name, &format!("kill -9 {pid}")).await.is_ok()
                {
                    self.agents += 1;
                }
            }
        }
        Ok(())
    }
}

/// Asks for a command that must not run twice; its id and its word. No more of a node than are remembered when they have
/// ended: how each ended is looked at when all is over.
async fn count(cluster: &Cluster, random: &mut Random, asked: &[(String, String)]) -> Result<Option<(String, String)>> {
    let name = COUNTING[random.below(COUNTING.len())];
    let of_node = asked.iter().filter(|(_, key)| key.starts_with(name)).count();
    if of_node >= COMMANDS_PER_NODE_MAX as usize {
        return Ok(None);
    }
    let number = asked.len();
    let node = cluster.api.node(name).await?;
    let key = format!("{name}-{number}");
    let body = json!({ "command": "moody-cmd/count", "args": { "key": key } });
    let path = format!("/nodes/{}/commands", node.id);
    let (status, answer) = cluster.api.answer(Method::POST, &path, Some(&body)).await?;
    ensure!(status < 500, "{path}: {status} {answer}");
    Ok(answer["id"].as_str().map(|id| (id.to_owned(), key)))
}

/// Every command has ended, and what its node wrote down agrees with how.
async fn at_most_once(cluster: &Cluster, commands: &[(String, String)]) -> Result<()> {
    let mut ended: Vec<(CommandView, &String)> = Vec::new();
    for (id, key) in commands {
        let view = wait("a command to end", STEP_MAX, async || {
            let view: CommandView = cluster.api.get(&format!("/commands/{id}")).await.ok()?;
            view.standing.is_final().then_some(view)
        });
        ended.push((view.await?, key));
    }
    let mut noted = Vec::new();
    for name in COUNTING {
        for file in ["begun", "done"] {
            let text = cluster.sh(name, &format!("cat /var/lib/moody/count.{file} 2>/dev/null || true")).await?;
            noted.extend(text.lines().map(|line| (file, line.to_owned())));
        }
    }
    let (mut succeeded, mut unknown) = (0, 0);
    for (view, key) in ended {
        let times = |file: &str| noted.iter().filter(|(of, line)| *of == file && line == key.as_str()).count();
        let (begun, done) = (times("begun"), times("done"));
        ensure!(begun <= 1 && done <= 1, "{key} ran {begun} times: {view:?}");
        match view.standing {
            CommandStanding::Succeeded => succeeded += 1,
            CommandStanding::Unknown => unknown += 1,
            other => ensure!(begun == 0 || other == CommandStanding::Failed, "{key} began and is {other:?}"),
        }
        ensure!(view.standing != CommandStanding::Succeeded || done == 1, "{key} succeeded and left no trace");
    }
    say(&format!("  of {} commands {succeeded} succeeded, {unknown} are unknown, none ran twice", commands.len()));
    Ok(())
}

/// A job that a story waits for has ended well.
pub fn ended_well(job: &straas_schemas::job::Job) -> Result<()> {
    ensure!(job.standing == JobStanding::Succeeded, "{} ended as {:?}: {}", job.kind.name(), job.standing, job.detail);
    Ok(())
}
