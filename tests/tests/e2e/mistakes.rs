//! Mistakes of people: shown where they are, with what to do next, and corrected while it runs.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_repos::Change;
use straas_schemas::job::{Job, JobStage, JobStanding, NodeStep};
use straas_schemas::view::{Accepted, Cause};
use straas_tests::cluster::STEP_MAX;
use straas_tests::stages::AUTHOR;
use straas_tests::{Cluster, say, scene};

const METADATA: &str = "metadata/zookeeper.json";
const VALIDATE: &str = "cmd/zookeeper/default/validate.sh";

/// The node that fails a stage, once its next try is known.
fn failing(job: &Job, stage: JobStage) -> Option<NodeStep> {
    let step = job.steps.iter().find(|step| step.stage == stage)?;
    let node = step.nodes.iter().find(|node| node.next_retry_ms.is_some() && !node.output_tail.is_empty())?;
    (job.standing == JobStanding::Failing).then(|| node.clone())
}

/// Waits until a job shows a failure, and looks at all that it has to show.
async fn shown(cluster: &Cluster, job: &str, name: &str, stage: JobStage, word: &str) -> Result<()> {
    let node = cluster.follow(job, STEP_MAX, |job| failing(job, stage)).await?;
    ensure!(node.name == name, "the job blames {}", node.name);
    ensure!(node.attempt > 0, "the failure has no attempt");
    ensure!(node.output_tail.contains(word), "the last lines say nothing of {word}: {}", node.output_tail);
    ensure!(!node.detail.is_empty(), "the failure has no reason");
    let why = cluster.api.node(name).await?.why;
    ensure!(why.cause == Cause::Retrying && why.evidence.contains_key("next_retry_ms"), "why says {why:?}");
    say(&format!("  shown: {} {} attempt {}: {}", node.name, stage.name(), node.attempt, node.detail));
    Ok(())
}

#[test]
fn version_without_a_package_is_corrected() {
    scene("version_without_a_package_is_corrected", async |cluster| {
        add_version_without_package(cluster)?;
        cluster.start().await?;
        let accepted = cluster.create("bad", "9.9.9", 1).await?;
        shown(cluster, accepted.job.id.as_str(), "bad-zk-1", JobStage::Install, "9.9.9").await?;

        let component = cluster.api.topology(&accepted.id).await?.components.remove(0).id;
        let corrected = Instant::now();
        let body = json!({ "version": "3.8.0" });
        let change: Accepted =
            cluster.api.call(Method::PATCH, &format!("/components/{component}"), Some(&body)).await?;
        let topology = cluster.active(&change).await?;
        say(&format!("  correction to ACTIVE: {:.1} s", corrected.elapsed().as_secs_f32()));
        ensure!(topology.components[0].version == "3.8.0", "it has version {}", topology.components[0].version);
        // what was to be created is there
        let first = cluster.api.job(accepted.job.id.as_str()).await?;
        ensure!(first.standing.is_final(), "the first job stands as {:?}", first.standing);
        Ok(())
    });
}

/// What a component author does for a new version, but for the package.
fn add_version_without_package(cluster: &Cluster) -> Result<()> {
    let configs = cluster.configs()?;
    let head = configs.head()?;
    let read = |path: &str| configs.read(&head, path)?.with_context(|| format!("the config repo has no {path}"));
    let mut metadata: Value = serde_json::from_slice(&read(METADATA)?)?;
    metadata["versions"]["9.9.9"] = json!({ "packages": [{ "name": "zookeeper", "version": "9.9.9-*" }] });
    let put = |path: &str, content| Change::Put { path: path.to_owned(), content, executable: None };
    let mut changes = vec![put(METADATA, serde_json::to_vec_pretty(&metadata)?)];
    for file in ["default.json", "user.json"] {
        changes.push(put(&format!("app/zookeeper/9.9.9/{file}"), read(&format!("app/zookeeper/3.8.0/{file}"))?));
    }
    configs.commit("master", None, &changes, "zookeeper 9.9.9", AUTHOR)?;
    Ok(())
}

#[test]
fn failing_validate_is_corrected_by_a_script_sync() {
    scene("failing_validate_is_corrected_by_a_script_sync", async |cluster| {
        let scripts = cluster.scripts()?;
        let good = scripts.read(&scripts.head()?, VALIDATE)?.context("there is no validate.sh")?;
        let bad = "#!/bin/bash\necho 'the moon is in the wrong phase'\n\
                   echo '@straas {\"result\":{\"service\":\"inactive\"}}'\n\
                   echo '@straas {\"hint\":\"wait for the next moon\"}'\nexit 3\n";
        scripts.write(VALIDATE, bad.as_bytes(), "ask the moon", AUTHOR)?;
        cluster.start().await?;
        let accepted = cluster.create("moon", "3.8.0", 1).await?;
        shown(cluster, accepted.job.id.as_str(), "moon-zk-1", JobStage::Validate, "wrong phase").await?;
        let hint =
            cluster.follow(accepted.job.id.as_str(), STEP_MAX, |job| failing(job, JobStage::Validate)?.hint).await?;
        ensure!(hint == "wait for the next moon", "the hint is {hint:?}");

        let corrected = Instant::now();
        let commit = scripts.write(VALIDATE, &good, "ask ZooKeeper", AUTHOR)?;
        // a commit reaches nobody before it is asked for
        let body = json!({ "scope": "topologies", "items": [accepted.id], "commit": commit.as_str() });
        let _: Value = cluster.api.call(Method::PUT, "/nodes/scripts", Some(&body)).await?;
        cluster.active(&accepted).await?;
        say(&format!("  corrected script to ACTIVE: {:.1} s", corrected.elapsed().as_secs_f32()));
        Ok(())
    });
}
