//! Guest commands on real nodes: asked for once, run once, heard live, ended on request.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_repos::Change;
use straas_schemas::command::{CommandStanding, CommandView};
use straas_tests::cluster::STEP_MAX;
use straas_tests::stages::AUTHOR;
use straas_tests::{Cluster, scene, wait};

/// Counts its runs and stays until the test lets it go; not idempotent.
const HOLD: &str = "assist-cmd/e2e-hold";
const DIR: &str = "/var/tmp/straas-e2e-commands";

fn add_hold(cluster: &Cluster) -> Result<()> {
    let script = format!(
        "#!/bin/bash\n# counts its runs and stays until the test lets it go\nmkdir -p {DIR}\necho run >> {DIR}/runs\n\
         echo begun\nwhile [ ! -e {DIR}/go ]; do sleep 0.1; done\necho 'let go'\n\
         echo '@straas {{\"result\":{{\"answer\":42}}}}'\n"
    );
    let meta = json!({
        "description": "Stays until it is let go.", "timeout_s": 300, "idempotent": false,
        "arguments": { "type": "object", "properties": {}, "additionalProperties": false },
    });
    let put = |path: &str, content: Vec<u8>, executable| Change::Put { path: path.to_owned(), content, executable };
    let changes = [
        put(&format!("guestcmds/{HOLD}"), script.into_bytes(), Some(true)),
        put(&format!("guestcmds/{HOLD}.json"), serde_json::to_vec_pretty(&meta)?, None),
    ];
    cluster.scripts()?.commit(None, &changes, "a command that stays", AUTHOR)?;
    Ok(())
}

async fn ask(cluster: &Cluster, node: &str, command: &str, args: Value) -> Result<String> {
    let body = json!({ "command": command, "args": args });
    let answer: Value = cluster.api.call(Method::POST, &format!("/nodes/{node}/commands"), Some(&body)).await?;
    Ok(answer["id"].as_str().context("the answer has no id")?.to_owned())
}

async fn ended(cluster: &Cluster, command: &str) -> Result<CommandView> {
    wait("the command to end", STEP_MAX, async || {
        let view: CommandView = cluster.api.get(&format!("/commands/{command}?wait=10s")).await.ok()?;
        view.standing.is_final().then_some(view)
    })
    .await
}

async fn begun(cluster: &Cluster, node: &str, command: &str) -> Result<()> {
    wait("the command to have begun", STEP_MAX, async || {
        let view: CommandView = cluster.api.get(&format!("/commands/{command}")).await.ok()?;
        view.output.contains("begun").then_some(())
    })
    .await?;
    ensure!(runs(cluster, node).await? > 0, "there is output of a command that did not run");
    Ok(())
}

async fn runs(cluster: &Cluster, node: &str) -> Result<usize> {
    Ok(cluster.sh(node, &format!("cat {DIR}/runs 2>/dev/null || true")).await?.lines().count())
}

#[test]
fn commands_run_once() {
    scene("commands_run_once", async |cluster| {
        add_hold(cluster)?;
        cluster.start().await?;
        let accepted = cluster.create("cmd", "3.8.0", 1).await?;
        cluster.active(&accepted).await?;
        let node = cluster.api.node("cmd-zk-1").await?;
        let id = node.id.as_str();

        let made = ask(cluster, id, "zk-cmd/create-namespace", json!({ "name": "e2e" })).await?;
        let made = ended(cluster, &made).await?;
        ensure!(made.standing == CommandStanding::Succeeded, "create-namespace: {made:?}");
        let listed = ask(cluster, id, "zk-cmd/list-namespace", json!({})).await?;
        let listed = ended(cluster, &listed).await?;
        ensure!(format!("{listed:?}").contains("e2e"), "the namespace is not listed: {listed:?}");

        let held = ask(cluster, id, HOLD, json!({})).await?;
        begun(cluster, &node.name, &held).await?;
        cluster.kill_agent(&node.name).await?;
        let lost = ended(cluster, &held).await?;
        ensure!(lost.standing == CommandStanding::Unknown, "after a kill it is {:?}", lost.standing);
        ensure!(runs(cluster, &node.name).await? == 1, "it ran {} times", runs(cluster, &node.name).await?);

        let held = ask(cluster, id, HOLD, json!({})).await?;
        begun(cluster, &node.name, &held).await?;
        cluster.kill()?;
        cluster.sh(&node.name, &format!("touch {DIR}/go")).await?;
        cluster.start().await?;
        let done = ended(cluster, &held).await?;
        ensure!(done.standing == CommandStanding::Succeeded, "over a restart of the controller: {done:?}");
        ensure!(done.output.contains("let go"), "its output is {:?}", done.output);
        ensure!(done.end.as_ref().is_some_and(|end| end.result["answer"] == 42), "its answer is {:?}", done.end);
        ensure!(runs(cluster, &node.name).await? == 2, "it ran {} times", runs(cluster, &node.name).await? - 1);

        cluster.sh(&node.name, &format!("rm {DIR}/go")).await?;
        let held = ask(cluster, id, HOLD, json!({})).await?;
        begun(cluster, &node.name, &held).await?;
        let _: Value = cluster.api.call(Method::POST, &format!("/commands/{held}/cancel"), None).await?;
        let cancelled = ended(cluster, &held).await?;
        ensure!(cancelled.standing == CommandStanding::Cancelled, "cancelled it is {:?}", cancelled.standing);
        // a pattern that does not find the process that brings it
        let left = cluster.exec(&node.name, &["pgrep", "-f", "e2e-hol[d]"]).await?;
        ensure!(left.code != 0, "processes of it are left: {}", left.stdout);
        Ok(())
    });
}
