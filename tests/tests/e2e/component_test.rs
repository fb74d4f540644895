//! What the author of a component does: its whole life, for our own and for one made of files alone,
//! and the same with a script that is broken.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use straas_tests::artifacts::{Artifacts, artifacts};
use straas_tests::left::left;
use straas_tests::{Cluster, say, scene};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// What happens in a life, in this order.
const PHASES: [&str; 8] = ["create", "config change", "flexup", "replace", "upgrade", "flexdown", "restart", "delete"];

/// How a run of `straas component test` ended.
struct Lived {
    code: i32,
    report: Value,
    told: String,
}

fn overlay() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("components/nats")
}

/// The programs in a folder of their own: `straas` takes the agent's package that is beside it, and
/// only that of this build is sure to be of this build.
fn programs(dir: &Path) -> Result<PathBuf> {
    let Artifacts { controller, agent, cli, agent_deb } = artifacts()?;
    std::fs::create_dir_all(dir)?;
    for program in [controller, agent, agent_deb] {
        symlink(program, dir.join(program.file_name().context("a name")?))?;
    }
    let straas = dir.join("straas");
    // a link would lead it back to where it was built
    std::fs::copy(cli, &straas)?;
    Ok(straas)
}

/// Runs it on a controller of its own, of which nothing may be left.
async fn live(cluster: &Cluster, kind: &str, dir: Option<&Path>, more: &[&str]) -> Result<Lived> {
    let bin = cluster.data().join("bin");
    let mut command = Command::new(programs(&bin)?);
    command.args(["component", "test", kind, "-o", "json"]).args(more);
    if let Some(dir) = dir {
        command.arg("--dir").arg(dir);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start straas component test")?;
    let mut lines = BufReader::new(child.stderr.take().context("no output")?).lines();
    let mut told = String::new();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("---") {
            say(&format!("  {line}"));
        }
        told.push_str(&line);
        told.push('\n');
    }
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text).with_context(|| format!("no report: {text}{told}"))?;
    Ok(Lived { code: output.status.code().unwrap_or(-1), report, told })
}

/// What is left of the controller that a run told of.
fn remains(told: &str) -> Result<Vec<String>> {
    let line = told.lines().find(|line| line.starts_with("--- a controller of its own is at"));
    let (at, log) = line.and_then(|line| line.split_once(", its log in ")).context("it names no controller")?;
    let port = at.rsplit(':').next().context("no port")?;
    let dir = Path::new(log).parent().context("no directory")?;
    let mut found = left(&format!("dev-{port}"), dir);
    found.extend(dir.exists().then(|| format!("directory {}", dir.display())));
    Ok(found)
}

/// A component lives, from its oldest version to its newest where it has two.
fn lives(name: &str, kind: &str, dir: Option<&Path>, versions: usize) {
    scene(name, async |cluster| {
        let Lived { code, report, told } = live(cluster, kind, dir, &[]).await?;
        ensure!(code == 0 && report["succeeded"] == true, "it ended with {code}: {told}");
        let phases = report["phases"].as_array().context("no phases")?;
        for (phase, name) in phases.iter().zip(PHASES) {
            ensure!(phase["phase"] == name, "{name} is missing: {report:#}");
            let skipped = name == "upgrade" && versions == 1;
            ensure!(phase["ended"] == if skipped { "skipped" } else { "succeeded" }, "{name}: {report:#}");
            let (took, what) = (phase["took_ms"].as_u64().context("no time")?, phase["what"].as_str().unwrap_or(""));
            say(&format!("  {name:<14} {:>5.1} s  {what}", took as f64 / 1000.0));
        }
        ensure!(phases.len() == PHASES.len(), "{report:#}");
        ensure!((report["from"] != report["to"]) == (versions > 1), "{report:#}");
        let remains = remains(&told)?;
        ensure!(remains.is_empty(), "it left {remains:?}");
        Ok(())
    });
}

#[test]
fn a_component_of_files_alone_lives_its_whole_life() {
    lives("a_component_of_files_alone_lives_its_whole_life", "nats", Some(&overlay()), 1);
}

#[test]
fn zookeeper_lives_its_whole_life() {
    lives("zookeeper_lives_its_whole_life", "zookeeper", None, 1);
}

#[test]
fn kafka_lives_its_whole_life() {
    lives("kafka_lives_its_whole_life", "kafka", None, 2);
}

#[test]
fn storm_lives_its_whole_life() {
    lives("storm_lives_its_whole_life", "storm", None, 2);
}

#[test]
fn a_component_with_a_broken_script_is_given_up_with_the_reason() {
    scene("a_component_with_a_broken_script_is_given_up_with_the_reason", async |cluster| {
        let copy = cluster.data().with_extension("overlay");
        let copied = Command::new("cp").arg("-a").arg(overlay()).arg(&copy).status().await?;
        ensure!(copied.success(), "cannot copy the component");
        let script = "#!/bin/bash\necho looking for the moon\n\
                      echo '@straas {\"hint\":\"wait for the next moon\"}'\nexit 3\n";
        std::fs::write(copy.join("cmd/nats/default/validate.sh"), script)?;
        let lived = live(cluster, "nats", Some(&copy), &["--patience", "5"]).await;
        std::fs::remove_dir_all(&copy)?;
        let Lived { code, report, told } = lived?;
        ensure!(code == 1 && report["succeeded"] == false, "it ended with {code}: {told}");
        ensure!(report["phases"][0]["ended"] == "given up", "{report:#}");
        let failure = report["failure"].to_string();
        for words in ["it/validate", "life-it-", "exit code 3", "looking for the moon", "wait for the next moon"] {
            ensure!(failure.contains(words), "no {words:?} in {failure}");
        }
        ensure!(told.contains("did not live its life: create: validate fails on life-it-"), "{told}");
        let remains = remains(&told)?;
        ensure!(remains.is_empty(), "it left {remains:?}");
        Ok(())
    });
}
