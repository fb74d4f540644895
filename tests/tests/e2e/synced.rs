//! What fails on the first node is turned back and kept from everybody: scripts, and a version.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use straas_repos::Change;
use straas_schemas::Stage;
use straas_schemas::job::{Job, JobKind, JobStanding};
use straas_schemas::view::{NodeView, Page};
use straas_tests::cluster::STEP_MAX;
use straas_tests::stages::AUTHOR;
use straas_tests::workflow::{component, nodes};
use straas_tests::{Cluster, say, scene, wait};

const VALIDATE: &str = "cmd/zookeeper/default/validate.sh";
const CONFIG: &str = "cmd/default/runpuppet.sh";
const PRE_CONFIG: &str = "pre_config/zookeeper";
const METADATA: &str = "metadata/zookeeper.json";
/// Its package is there and installs; its server does not start.
const BROKEN: &str = "3.8.1";
/// Exit codes of the command line: the request is not valid; the job did not succeed.
const REFUSED: i32 = 4;
const UNSUCCESSFUL: i32 = 7;

/// Adds a version whose server is started with a flag that no JVM knows.
fn add_broken_version(cluster: &Cluster) -> Result<()> {
    let configs = cluster.configs()?;
    let head = configs.head()?;
    let read = |path: &str| configs.read(&head, path)?.with_context(|| format!("the config repo has no {path}"));
    let mut meta: Value = serde_json::from_slice(&read(METADATA)?)?;
    meta["versions"][BROKEN] = json!({ "packages": [{ "name": "zookeeper", "version": "3.8.0-*" }] });
    let mut defaults: Value = serde_json::from_slice(&read("app/zookeeper/3.8.0/default.json")?)?;
    let sections = defaults["content"].as_array_mut().context("no sections")?;
    let options = sections.iter_mut().filter_map(|section| section["options"].as_array_mut()).flatten();
    let flags = options.filter(|option| option["key"] == "extra_flags").collect::<Vec<_>>();
    flags.into_iter().for_each(|option| option["value"] = "-XX:+NoJvmKnowsThis".into());
    let put = |path: String, content: Vec<u8>| Change::Put { path, content, executable: None };
    let changes = [
        put(METADATA.to_owned(), serde_json::to_vec_pretty(&meta)?),
        put(format!("app/zookeeper/{BROKEN}/default.json"), serde_json::to_vec_pretty(&defaults)?),
        put(format!("app/zookeeper/{BROKEN}/user.json"), read("app/zookeeper/3.8.0/user.json")?),
    ];
    configs.commit("master", None, &changes, "a version that does not start", AUTHOR)?;
    Ok(())
}

/// When each stage of each node was last heard of, and what each node is to be.
struct Seen {
    stages: BTreeMap<(String, Stage), i64>,
    generations: BTreeMap<String, u64>,
}

async fn seen(cluster: &Cluster, topology: &str) -> Result<Seen> {
    let topology = cluster.settled(topology).await?;
    let nodes = nodes(&topology);
    let stages = |node: &&NodeView| node.stages.iter().map(|(s, v)| ((node.name.clone(), *s), v.received_ms)).collect();
    let stages = nodes.iter().map(stages).fold(BTreeMap::new(), |mut all, of: BTreeMap<_, _>| {
        all.extend(of);
        all
    });
    Ok(Seen { stages, generations: nodes.iter().map(|node| (node.name.clone(), node.generation)).collect() })
}

impl Seen {
    /// What ran since.
    async fn ran(&self, cluster: &Cluster, topology: &str) -> Result<BTreeSet<(String, Stage)>> {
        let now = seen(cluster, topology).await?;
        Ok(now.stages.into_iter().filter(|(key, at)| self.stages.get(key) != Some(at)).map(|(key, _)| key).collect())
    }

    /// Fails unless nothing reached any node but these.
    async fn untouched_but(&self, cluster: &Cluster, topology: &str, touched: &str) -> Result<()> {
        let ran: BTreeSet<String> = self.ran(cluster, topology).await?.into_iter().map(|(node, _)| node).collect();
        ensure!(ran.iter().all(|node| node == touched), "it ran on {ran:?}, {touched} went first");
        let now = seen(cluster, topology).await?.generations;
        let raised = self.generations.iter().filter(|(node, generation)| now.get(*node) != Some(*generation));
        let raised: Vec<&String> = raised.map(|(node, _)| node).collect();
        ensure!(raised.iter().all(|node| *node == touched), "it reached {raised:?}");
        Ok(())
    }
}

/// The newest job of a kind.
async fn newest(cluster: &Cluster, kind: JobKind) -> Result<Job> {
    let page: Page<Job> = cluster.api.get("/jobs").await?;
    let job = page.items.into_iter().filter(|job| job.kind == kind).max_by_key(|job| job.created_ms);
    let job = job.with_context(|| format!("there is no {} job", kind.name()))?;
    cluster.api.job(job.id.as_str()).await
}

/// Commits a script in which a piece stands in place of another.
fn rewrite(cluster: &Cluster, path: &str, from: &str, to: &str) -> Result<String> {
    let scripts = cluster.scripts()?;
    let content = scripts.read(&scripts.head()?, path)?.with_context(|| format!("the script repo has no {path}"))?;
    let text = String::from_utf8(content)?;
    ensure!(text.contains(from), "{path} has no {from:?}");
    let commit = scripts.write(path, text.replacen(from, to, 1).as_bytes(), "e2e", AUTHOR)?;
    Ok(commit.as_str().to_owned())
}

#[test]
fn what_fails_first_is_turned_back() {
    scene("what_fails_first_is_turned_back", async |cluster| {
        add_broken_version(cluster)?;
        cluster.start().await?;
        let topology = cluster.active(&cluster.create("sync", "3.8.0", 3).await?).await?;
        let id = topology.id.0.clone();
        let mut last = std::time::Instant::now();
        let mut lap = |what: &str| {
            say(&format!("  {what}: {:.1} s", last.elapsed().as_secs_f32()));
            last = std::time::Instant::now();
        };
        only_what_changed(cluster, &id).await?;
        lap("a script that changes no result");
        bad_commit(cluster, &id).await?;
        lap("a script that fails");
        corrected_before_it_is_turned_back(cluster, &id).await?;
        lap("a correction while the first node fails");
        one_node_then_all(cluster, &id).await?;
        lap("one node, then the topology");
        bad_version(cluster, &id).await?;
        lap("a version that does not start");
        Ok(())
    });
}

/// `pre_config` is another one and renders the same: nothing else runs.
async fn only_what_changed(cluster: &Cluster, id: &str) -> Result<()> {
    let before = seen(cluster, id).await?;
    let commit = rewrite(cluster, PRE_CONFIG, "import os\n", "import os  # the same, said otherwise\n")?;
    let sync = ["script", "sync", "--component", "sync/zk", "--commit", &commit];
    let dry = cluster.typed(&[&sync[..], &["--dry-run"]].concat()).await?;
    ensure!(dry.matches("pre_config").count() >= 3 && !dry.contains("validate"), "the dry run says {dry}");
    cluster.typed(&[&sync[..], &["--wait"]].concat()).await?;
    let ran = before.ran(cluster, id).await?;
    let stages: BTreeSet<Stage> = ran.iter().map(|(_, stage)| *stage).collect();
    ensure!(ran.len() == 3 && stages == BTreeSet::from([Stage::PreConfig]), "it ran {ran:?}");
    Ok(())
}

/// Turned back, in quarantine, refused with the reason, let through again.
async fn bad_commit(cluster: &Cluster, id: &str) -> Result<()> {
    let before = seen(cluster, id).await?;
    let good = rewrite(cluster, VALIDATE, "set -euo pipefail\n", "set -euo pipefail\n# as it was\n")?;
    let bad = rewrite(cluster, VALIDATE, "# as it was\n", "echo 'the moon is in the wrong phase'; exit 1\n")?;
    let sync = ["script", "sync", "--component", "sync/zk", "--wait"];
    let ran = cluster.tried(&sync).await?;
    ensure!(ran.code == UNSUCCESSFUL, "it ended with {}: {}", ran.code, ran.stderr);
    ensure!(ran.stderr.contains("turned back: "), "it says {}", ran.stderr);
    let job = newest(cluster, JobKind::Sync).await?;
    ensure!(job.standing == JobStanding::RolledBack, "the job is {:?}", job.standing);
    ensure!(job.detail.contains("wrong phase"), "the job says {}", job.detail);
    let first = went_first(&job)?;
    before.untouched_but(cluster, id, &first).await?;

    let listed = cluster.typed(&["quarantine", "list"]).await?;
    ensure!(listed.contains(&bad) && listed.contains("wrong phase"), "quarantine: {listed}");
    for again in [&["--commit", bad.as_str()][..], &[]] {
        let ran = cluster.tried(&[&["script", "sync", "--topology", "sync"], again].concat()).await?;
        ensure!(ran.code == REFUSED, "it ended with {}: {}{}", ran.code, ran.stdout, ran.stderr);
        for word in ["quarantine", "wrong phase", "/straas/v1.0/quarantine/scripts/"] {
            ensure!(ran.stderr.contains(word), "nothing of {word:?} in {}", ran.stderr);
        }
    }
    cluster.typed(&["quarantine", "release", &bad[..12]]).await?;
    let dry = cluster.typed(&["script", "sync", "--topology", "sync", "--commit", &bad, "--dry-run"]).await?;
    ensure!(dry.contains("validate"), "released, the dry run says {dry}");
    cluster.typed(&["script", "sync", "--topology", "sync", "--commit", &good, "--wait"]).await?;
    // what comes next is not built upon it
    rewrite(cluster, VALIDATE, "echo 'the moon is in the wrong phase'; exit 1\n", "# as it was\n").map(drop)
}

/// The node that a job says went first.
fn went_first(job: &Job) -> Result<String> {
    let (before, _) = job.detail.split_once(" went first").with_context(|| format!("the job says {}", job.detail))?;
    Ok(before.rsplit(' ').next().unwrap_or_default().to_owned())
}

/// The first node fails with one commit when the next one comes: that takes its place at once.
async fn corrected_before_it_is_turned_back(cluster: &Cluster, id: &str) -> Result<()> {
    let before = seen(cluster, id).await?;
    let sync = ["script", "sync", "--component", "sync/zk"];
    rewrite(cluster, CONFIG, "set -euo pipefail\n", "set -euo pipefail\necho 'no puppets today'; exit 1\n")?;
    cluster.typed(&sync).await?;
    let job = newest(cluster, JobKind::Sync).await?;
    let failing = wait("the first node to fail", STEP_MAX, async || {
        let topology = cluster.api.topology(id).await.ok()?;
        let failing = nodes(&topology).into_iter().find(|node| node.why.text.contains("no puppets today"));
        failing.map(|node| node.name.clone())
    })
    .await?;
    rewrite(cluster, CONFIG, "echo 'no puppets today'; exit 1\n", "")?;
    cluster.typed(&[&sync[..], &["--wait"]].concat()).await?;
    let job = cluster.api.job(job.id.as_str()).await?;
    // the third failure may have come first
    let over = matches!(job.standing, JobStanding::Superseded | JobStanding::RolledBack);
    ensure!(over, "the first job is {:?}: {}", job.standing, job.detail);
    // all have the newer commit, in which nothing else is new
    let ran: BTreeSet<String> = before.ran(cluster, id).await?.into_iter().map(|(node, _)| node).collect();
    ensure!(ran.iter().all(|node| *node == failing), "it ran on {ran:?}, {failing} went first");
    Ok(())
}

/// A node of its own way, until all go it.
async fn one_node_then_all(cluster: &Cluster, id: &str) -> Result<()> {
    let before = seen(cluster, id).await?;
    let fact = "straas_facts \"${facts[@]}\"\n";
    let commit = rewrite(cluster, VALIDATE, fact, &format!("facts+=(\"way=new\")\n{fact}"))?;
    let one = "sync-zk-2";
    cluster.typed(&["script", "sync", "--node", one, "--commit", &commit, "--wait"]).await?;
    let ran = before.ran(cluster, id).await?;
    ensure!(ran == BTreeSet::from([(one.to_owned(), Stage::Validate)]), "it ran {ran:?}");
    let ways = async || -> Result<BTreeSet<String>> {
        let topology = cluster.settled(id).await?;
        let new = |node: &&&NodeView| node.facts.get("way").is_some_and(|way| way == "new");
        Ok(nodes(&topology).iter().filter(new).map(|node| node.name.clone()).collect())
    };
    ensure!(ways().await? == BTreeSet::from([one.to_owned()]), "the new way is gone by {:?}", ways().await?);

    let before = seen(cluster, id).await?;
    cluster.typed(&["script", "sync", "--topology", "sync", "--commit", &commit, "--wait"]).await?;
    let ran = before.ran(cluster, id).await?;
    let rest = ["sync-zk-1", "sync-zk-3"].map(|name| (name.to_owned(), Stage::Validate));
    ensure!(ran == BTreeSet::from(rest), "it ran {ran:?}");
    ensure!(ways().await?.len() == 3, "the new way is gone by {:?}", ways().await?);
    let ran = cluster.typed(&["script", "sync", "--topology", "sync", "--commit", &commit]).await?;
    ensure!(ran.contains("nothing to do"), "synced twice it says {ran}");
    Ok(())
}

/// The first node does not come up with it: turned back there, and nobody else hears of it.
async fn bad_version(cluster: &Cluster, id: &str) -> Result<()> {
    let before = seen(cluster, id).await?;
    let ran = cluster.tried(&["component", "upgrade", "sync", "zk", BROKEN, "--wait"]).await?;
    ensure!(ran.code == UNSUCCESSFUL, "it ended with {}: {}", ran.code, ran.stderr);
    let job = newest(cluster, JobKind::Upgrade).await?;
    ensure!(job.standing == JobStanding::RolledBack, "the job is {:?}: {}", job.standing, job.detail);
    let first = went_first(&job)?;
    before.untouched_but(cluster, id, &first).await?;
    let topology = cluster.settled(id).await?;
    ensure!(component(&topology, "zk")?.version == "3.8.0", "it is wanted as {}", component(&topology, "zk")?.version);
    let back = cluster.api.node(&first).await?;
    ensure!(back.version == "3.8.0" && back.facts.contains_key("mode"), "{first}: {back:?}");

    let key = format!("zookeeper@{BROKEN}");
    let listed = cluster.typed(&["quarantine", "list"]).await?;
    ensure!(listed.contains(&key), "quarantine: {listed}");
    let again = cluster.tried(&["component", "upgrade", "sync", "zk", BROKEN]).await?;
    ensure!(again.code == REFUSED && again.stderr.contains("quarantine"), "again: {} {}", again.code, again.stderr);
    cluster.typed(&["quarantine", "release", &key]).await?;
    cluster.typed(&["component", "upgrade", "sync", "zk", BROKEN, "--dry-run"]).await.map(drop)
}
