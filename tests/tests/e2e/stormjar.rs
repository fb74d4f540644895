//! A topology's jar on its way to a real Storm: by the route of the version before 1.0, which takes
//! the jar itself, and by the guest command, which takes one that is on the node.
//!
//! The jar is Flux, of Storm's own release, with the description of a topology put into it: Flux is
//! a main class that makes a topology of such a description.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use straas_schemas::command::CommandView;
use straas_tests::cluster::STEP_MAX;
use straas_tests::workflow::component;
use straas_tests::{Cluster, wait};

const FLUX: &str = "org.apache.storm.flux.Flux";

/// A spout of Storm's own tests and a bolt that counts.
fn description(name: &str) -> String {
    format!(
        "name: {name}\nconfig:\n  topology.workers: 1\n  topology.component.resources.onheap.memory.mb: 32.0\n\
         spouts:\n  - {{id: words, className: org.apache.storm.testing.TestWordSpout, parallelism: 1}}\n\
         bolts:\n  - {{id: count, className: org.apache.storm.testing.TestWordCounter, parallelism: 1}}\n\
         streams:\n  - {{from: words, to: count, grouping: {{type: FIELDS, args: [word]}}}}\n"
    )
}

/// The jar, made of what the nimbus' host has.
async fn jar(cluster: &Cluster, nimbus: &str, name: &str) -> Result<Vec<u8>> {
    let node = cluster.api.node(nimbus).await?;
    let disk = cluster.data().join("hosts/hosts").join(node.id.as_str()).join("upper");
    let flux = disk.join(format!("usr/lib/storm/{v}/flux/flux-core-{v}.jar", v = node.version));
    let jar = cluster.data().join(format!("{name}.jar"));
    std::fs::copy(&flux, &jar).with_context(|| format!("copy {}", flux.display()))?;
    let text = cluster.data().join("topology.yaml");
    std::fs::write(&text, description(name))?;
    let add = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'a').write(sys.argv[2], 'topology.yaml')";
    let added =
        tokio::process::Command::new("/usr/bin/python3").args(["-c", add]).arg(&jar).arg(&text).output().await?;
    ensure!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    Ok(std::fs::read(&jar)?)
}

/// How the cluster's topologies stand, by name.
async fn standing(cluster: &Cluster, nimbus: &str, name: &str) -> Option<String> {
    let said = cluster.typed(&["command", "run", "storm-cmd/list", "--node", nimbus, "-o", "json"]).await.ok()?;
    let view: CommandView = serde_json::from_str(&said).ok()?;
    let topologies = view.end?.result.get("topologies")?.as_array()?.clone();
    let found = topologies.into_iter().find(|topology| topology["name"] == name);
    Some(found.map_or_else(|| "none".to_owned(), |found| found.to_string()))
}

async fn stands(cluster: &Cluster, nimbus: &str, name: &str, how: &str) -> Result<String> {
    wait(&format!("topology {name} to be {how}"), STEP_MAX, async || {
        standing(cluster, nimbus, name).await.filter(|standing| standing.contains(how))
    })
    .await
}

/// By both ways, until it runs; and away again.
pub async fn submitted_and_killed(cluster: &Cluster, storm: &str, nimbus: &str) -> Result<()> {
    let bytes = jar(cluster, nimbus, "by-route").await?;
    let query = format!("main_class={FLUX}&args=--remote%20--resource%20/topology.yaml");
    let (status, answer) = cluster.api.send(&format!("/straas/stormjar/{storm}?{query}"), bytes).await?;
    ensure!(status == 200 && answer["state"] == "succeeded", "{status} {answer}");
    let running = stands(cluster, nimbus, "by-route", "ACTIVE").await?;
    ensure!(running.contains("by-route"), "{running}");

    let node = cluster.api.node(nimbus).await?;
    let text = description("by-command").replace('\n', "\\n");
    cluster.sh(nimbus, &format!("printf '{text}' > /tmp/by-command.yaml; chmod 644 /tmp/by-command.yaml")).await?;
    let jar = format!("jar=/usr/lib/storm/{v}/flux/flux-core-{v}.jar", v = node.version);
    let (class, args) = (format!("class={FLUX}"), "args=--remote /tmp/by-command.yaml");
    cluster.typed(&["command", "run", "storm-cmd/submit-jar", &jar, &class, args, "--node", nimbus]).await?;
    stands(cluster, nimbus, "by-command", "ACTIVE").await?;
    works(cluster, nimbus, "by-route").await?;
    for name in ["by-route", "by-command"] {
        let named = format!("name={name}");
        cluster.typed(&["command", "run", "storm-cmd/kill", &named, "wait_s=1", "--node", nimbus]).await?;
        stands(cluster, nimbus, name, "none").await?;
    }
    let (status, answer) = cluster.api.send(&format!("/straas/stormjar/{storm}?{query}"), b"no jar".to_vec()).await?;
    ensure!(status == 200 && answer["state"] == "failed", "what is no jar: {status} {answer}");
    let topology = cluster.api.topology(node.topology.as_str()).await?;
    component(&topology, "strm").map(drop)
}

/// Its tuples are acknowledged: a worker of it runs.
async fn works(cluster: &Cluster, nimbus: &str, name: &str) -> Result<()> {
    let named = format!("name={name}");
    let line = ["command", "run", "storm-cmd/show", &named, "--node", nimbus, "-o", "json"];
    wait("tuples to be acknowledged", STEP_MAX * 2, async || {
        let said = cluster.typed(&line).await.ok()?;
        let view: Value = serde_json::from_str(&said).ok()?;
        view["end"]["result"]["components"]["count"]["acked"].as_u64().filter(|acked| *acked > 0)
    })
    .await
    .map(drop)
}
