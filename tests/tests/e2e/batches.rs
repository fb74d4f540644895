//! Guest commands for many nodes: in steps, until too many fail, and heard while they run.

use crate::steered::It;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_repos::Change;
use straas_schemas::command::{CommandStanding, CommandView};
use straas_schemas::view::Page;
use straas_tests::cluster::STEP_MAX;
use straas_tests::stages::AUTHOR;
use straas_tests::{Cluster, wait};

/// Says that it has begun and stays until the test tells it how to end.
const STAY: &str = "assist-cmd/e2e-stay";
const DIR: &str = "/var/tmp/straas-e2e-batch";

/// Adds the command; before the first start.
pub fn add(cluster: &Cluster) -> Result<()> {
    let script = format!(
        "#!/bin/bash\n# says that it has begun and stays until it is told how to end\nmkdir -p {DIR}\n\
         echo run >> {DIR}/runs\necho \"begun on $STRAAS_NODE\"\nwhile [ ! -s {DIR}/code ]; do sleep 0.1; done\n\
         code=$(cat {DIR}/code)\necho \"ends with $code\"\nrm {DIR}/code\nexit \"$code\"\n"
    );
    let meta = json!({
        "description": "Stays until it is told how to end.", "timeout_s": 300, "idempotent": false,
        "arguments": { "type": "object", "properties": {}, "additionalProperties": false },
    });
    let put = |path: &str, content: Vec<u8>, executable| Change::Put { path: path.to_owned(), content, executable };
    let changes = [
        put(&format!("guestcmds/{STAY}"), script.into_bytes(), Some(true)),
        put(&format!("guestcmds/{STAY}.json"), serde_json::to_vec_pretty(&meta)?, None),
    ];
    cluster.scripts()?.commit(None, &changes, "a command that stays", AUTHOR)?;
    Ok(())
}

async fn end(cluster: &Cluster, node: &str, code: u8) -> Result<()> {
    cluster.sh(node, &format!("echo {code} > {DIR}/code.new && mv {DIR}/code.new {DIR}/code")).await.map(drop)
}

async fn newest(cluster: &Cluster, topology: &str, count: usize) -> Result<Vec<CommandView>> {
    let page: Page<CommandView> = cluster.api.get(&format!("/commands?topology={topology}&limit={count}")).await?;
    Ok(page.items)
}

/// Two at once; one fails, so the third never begins, and the other ends as it would.
pub async fn in_steps(cluster: &Cluster, it: &It) -> Result<()> {
    let order = ["command", "run", STAY, "--topology", "steer", "--component", "zk"];
    let limits = ["--concurrency", "2", "--max-errors", "1"];
    let asked = cluster.typing(&[&order[..], &limits].concat())?;
    let running = wait("two of three to have begun", STEP_MAX, async || {
        let commands = newest(cluster, &it.topology, 3).await.ok()?;
        let mut running = Vec::new();
        for command in commands.iter().filter(|command| command.standing == CommandStanding::Running) {
            let view: CommandView = cluster.api.get(&format!("/commands/{}", command.id)).await.ok()?;
            running.extend(view.output.contains("begun").then_some(view));
        }
        (running.len() == 2).then_some(running)
    })
    .await?;
    let waits = newest(cluster, &it.topology, 3).await?;
    let waits = waits.iter().find(|command| command.standing == CommandStanding::Queued).context("none waits")?;
    end(cluster, &running[0].node_name, 3).await?;
    wait("the third to be called off", STEP_MAX, async || {
        let view: CommandView = cluster.api.get(&format!("/commands/{}", waits.id)).await.ok()?;
        (view.standing == CommandStanding::Cancelled).then_some(())
    })
    .await?;
    let never = cluster.exec(&waits.node_name, &["test", "-e", &format!("{DIR}/runs")]).await?;
    ensure!(never.code != 0, "it ran on {} all the same", waits.node_name);
    end(cluster, &running[1].node_name, 0).await?;
    let said = asked.ended().await?;
    ensure!(said.code == 7, "it ended with {}: {}{}", said.code, said.stdout, said.stderr);
    for word in ["failed (3)", "cancelled", "succeeded", &waits.node_name] {
        ensure!(said.stdout.contains(word), "nothing of {word:?} in {}", said.stdout);
    }
    ensure!(said.stderr.contains("2 of 3"), "it says {}", said.stderr);

    let all = ["command", "run", "zk-cmd/four-letter-word", "word=ruok", "--topology", "steer", "--concurrency", "1"];
    let said = cluster.typed(&all).await?;
    ensure!(said.contains("3 succeeded"), "it says {said}");
    let mut turns = newest(cluster, &it.topology, 3).await?;
    turns.sort_by_key(|command| command.started_ms);
    let in_turn = |pair: &[CommandView]| pair[0].ended_ms.is_some() && pair[0].ended_ms <= pair[1].started_ms;
    ensure!(turns.windows(2).all(in_turn), "not one after the other: {turns:?}");
    Ok(())
}

/// The command line shows output while the command runs, and ends with its exit code.
pub async fn heard_live(cluster: &Cluster, it: &It) -> Result<()> {
    let node = it.names(cluster).await?.remove(0);
    let mut asked = cluster.typing(&["command", "run", STAY, "--node", &node])?;
    let first = asked.line().await?;
    ensure!(first == format!("begun on {node}"), "its first line is {first:?}");
    end(cluster, &node, 5).await?;
    let said = asked.ended().await?;
    ensure!(said.code == 5 && said.stdout.contains("ends with 5"), "{said:?}");
    let (status, problem): (u16, Value) = {
        let body = json!({ "command": "zk-cmd/four-letter-word", "args": { "word": "kill" } });
        cluster.api.answer(Method::POST, &format!("/components/{}/commands", it.zk), Some(&body)).await?
    };
    ensure!(status == 422 && problem.to_string().contains("word"), "{status} {problem}");
    Ok(())
}
