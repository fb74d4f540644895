//! A package that only the operator's own apt repository has: nodes get it once the settings name that, signed
//! with the key that they name.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_schemas::Stage;
use straas_schemas::view::{Accepted, Cause, NodeView};
use straas_tests::cluster::{ACTIVE_MAX, STEP_MAX};
use straas_tests::repository::Repository;
use straas_tests::{Cluster, scene, wait};

const PACKAGE: &str = "straas-courier";
const FILE: &str = "/etc/apt/sources.list.d/straas-packages.sources";
const NODE: &str = "post-courier-1";

/// A component of files alone that needs the package, laid over the repositories.
async fn overlay(cluster: &mut Cluster) -> Result<()> {
    let dir = cluster.data().join("overlay");
    cluster.typed(&["component", "new", "courier", "--dir", &dir.display().to_string()]).await?;
    let path = dir.join("metadata/courier.json");
    let mut metadata: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    metadata["versions"]["1.0"]["packages"] = json!([{ "name": PACKAGE, "version": "1.0-1" }]);
    std::fs::write(&path, metadata.to_string())?;
    cluster.settings.push_str(&format!("[seed]\noverlays = [{dir:?}]\n"));
    Ok(())
}

/// Writes the settings of all zones, as an operator does it.
async fn set(cluster: &Cluster, url: &str, key: &str) -> Result<()> {
    let option = |key: &str, value: &str| json!({ "key": key, "value": value, "type": "string" });
    let options = [("apt_url", url), ("apt_suite", "stable"), ("apt_components", "main"), ("apt_key", key)];
    let options: Vec<Value> = options.map(|(key, value)| option(key, value)).to_vec();
    let file = json!({ "type": "ini", "content": [{ "section": "packages", "options": options }] });
    let path = cluster.data().join("agent.json");
    std::fs::write(&path, file.to_string())?;
    let put = ["config", "put", "master", "service/agent.json", &path.display().to_string(), "-m", "packages"];
    cluster.typed(&put).await.map(drop)
}

/// The node, once `install` failed with these words.
async fn failed(cluster: &Cluster, words: &str) -> Result<()> {
    wait("install to fail", ACTIVE_MAX, async || {
        let why = cluster.api.node(NODE).await.ok()?.why;
        let told = format!("{} {:?}", why.text, why.evidence);
        (why.cause == Cause::Retrying && told.contains(words)).then_some(())
    })
    .await
}

async fn there(cluster: &Cluster, path: &str) -> Result<bool> {
    Ok(cluster.exec(NODE, &["test", "-e", path]).await?.code == 0)
}

/// The runs of its stages but for `validate`, which looks now and then.
fn runs(node: &NodeView) -> Vec<(Stage, i64)> {
    let each = node.stages.iter().filter(|(stage, _)| **stage != Stage::Validate);
    each.map(|(stage, seen)| (*stage, seen.received_ms)).collect()
}

#[test]
fn a_repository_of_the_settings_gives_what_no_mirror_has() {
    scene("a_repository_of_the_settings_gives_what_no_mirror_has", async |cluster| {
        overlay(cluster).await?;
        let hosts = cluster.start_inside().await?;
        let dir = cluster.data().join("repository");
        std::fs::create_dir_all(&dir)?;
        let repository = Repository::serve(&dir, &hosts, PACKAGE, "1.0-1")?;
        let courier = json!({ "name": "courier", "type": "courier", "size": 1 });
        let body = json!({ "name": "post", "availability_zone": "az1", "components": [courier] });
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
        failed(cluster, PACKAGE).await?;
        ensure!(!there(cluster, FILE).await?, "apt is not as the host has it");

        // a repository that another key signed is none
        set(cluster, &repository.url, &repository.other_key).await?;
        wait("the file to be there", STEP_MAX, async || there(cluster, FILE).await.ok()?.then_some(())).await?;
        let update = cluster.exec(NODE, &["apt-get", "update"]).await?;
        ensure!(format!("{}{}", update.stdout, update.stderr).contains("NO_PUBKEY"), "{update:?}");

        set(cluster, &repository.url, &repository.key).await?;
        cluster.active(&accepted).await?;
        let version = cluster.sh(NODE, &format!("dpkg-query -W -f '${{Version}}' {PACKAGE}")).await?;
        ensure!(version == "1.0-1" && there(cluster, "/usr/share/straas-courier").await?, "it has {version}");

        // without the setting nothing runs, and apt is as the host has it
        let before = cluster.api.node(NODE).await?;
        set(cluster, "", "").await?;
        let after = wait("the node to confirm", STEP_MAX, async || {
            let node = cluster.api.node(NODE).await.ok()?;
            (node.converged_generation > before.converged_generation && node.why.cause == Cause::Converged)
                .then_some(node)
        });
        let after = after.await.context("without the setting")?;
        ensure!(!there(cluster, FILE).await?, "the file is still there");
        ensure!(runs(&after) == runs(&before), "{:?} after {:?}", runs(&after), runs(&before));
        Ok(())
    });
}
