//! Scripts that behave as badly as they can, as a stage and as guest commands: they fork into the
//! background and keep their output open, they write a gigabyte, they will not be ended.
//!
//! A script of the stage does what a file on its node says before it becomes the real one. Each that
//! does not end is ended at its limit with all it started, and says so; the agent stays small, keeps
//! little, and does everything else meanwhile; the service, which left the stage long ago, stays.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use straas_repos::Change;
use straas_schemas::command::{CommandStanding, CommandView};
use straas_schemas::job::{JobStage, JobStanding};
use straas_schemas::view::{Accepted, Liveness};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::stages::AUTHOR;
use straas_tests::{Cluster, say, scene, wait};

const NODE: &str = "r-a-1";
const SCRIPT: &str = "cmd/moody/default/runpuppet.sh";
/// What the script of the stage does first, if there is such a file.
const FILE: &str = "/var/tmp/unruly";
/// Seconds of the stage, and of a command: each is used up.
const LIMIT_S: u32 = 3;
/// Most an agent may come to, in KiB: what it is allowed at rest and some room, in a build for tests.
const AGENT_KIB_MAX: u64 = 96 * 1024;
/// Most that runs may leave on the disk, in KiB: a few times what is kept of one.
const KEPT_KIB_MAX: u64 = 16 * 1024;

/// Keeps the output open in a session of its own, twice forked; its parent waits for ever.
const BACKGROUND: &str =
    "(setsid bash -c '(trap \"\" TERM HUP; exec -a unruly-background sleep 7777) &' &)\nsleep 7777";
/// Writes without end, in lines and without, and does not mind being asked to stop.
const FLOOD: &str = "trap '' TERM\n(exec -a unruly-flood yes 'a line of output that nobody needs') &\n\
                     exec -a unruly-flood cat /dev/zero";
/// Neither it nor what it starts can be ended with grace.
const DEAF: &str = "trap '' TERM\nset -m\n(trap '' TERM; exec -a unruly-deaf sleep 7777) &\n\
                    while :; do echo deaf; sleep 0.2; done";

const MANNERS: [(&str, &str); 3] = [("background", BACKGROUND), ("flood", FLOOD), ("deaf", DEAF)];

/// Commands of each kind, one that writes a gigabyte and ends, and the stage's shim.
fn add(cluster: &Cluster) -> Result<()> {
    let scripts = cluster.scripts()?;
    let real = scripts.read(&scripts.head()?, SCRIPT)?.with_context(|| format!("there is no {SCRIPT}"))?;
    let shim = format!(
        "#!/bin/bash\n# what a file of this node says, then the real one\n[ ! -e {FILE} ] || . {FILE}\n\
         exec \"${{BASH_SOURCE[0]}}.real\" \"$@\"\n"
    );
    let put = |path: String, content: Vec<u8>, executable| Change::Put { path, content, executable };
    let mut changes =
        vec![put(format!("{SCRIPT}.real"), real, Some(true)), put(SCRIPT.to_owned(), shim.into_bytes(), Some(true))];
    let gigabyte = ("gigabyte", "head -c 1073741824 /dev/zero");
    for (name, text) in MANNERS.into_iter().chain([gigabyte]) {
        let timeout_s = if name == "gigabyte" { 300 } else { LIMIT_S };
        let meta = json!({
            "description": "Behaves badly.", "timeout_s": timeout_s, "idempotent": false,
            "arguments": { "type": "object", "properties": {}, "additionalProperties": false },
        });
        let path = format!("guestcmds/moody-cmd/unruly-{name}");
        changes.push(put(format!("{path}.json"), serde_json::to_vec_pretty(&meta)?, None));
        changes.push(put(path, format!("#!/bin/bash\n# behaves badly\n{text}\n").into_bytes(), Some(true)));
    }
    scripts.commit(None, &changes, "scripts that behave badly", AUTHOR)?;
    cluster.edit_type("moody", |meta| {
        meta["stages"]["config"] = json!({ "total_s": LIMIT_S, "no_progress_s": LIMIT_S });
    })
}

async fn ask(cluster: &Cluster, node: &str, command: &str, args: Value) -> Result<String> {
    let body = json!({ "command": format!("moody-cmd/{command}"), "args": args });
    let answer: Value = cluster.api.call(Method::POST, &format!("/nodes/{node}/commands"), Some(&body)).await?;
    Ok(answer["id"].as_str().context("the answer has no id")?.to_owned())
}

async fn ended(cluster: &Cluster, command: &str) -> Result<CommandView> {
    wait("the command to end", STEP_MAX, async || {
        let view: CommandView = cluster.api.get(&format!("/commands/{command}")).await.ok()?;
        view.standing.is_final().then_some(view)
    })
    .await
}

/// Nothing that a bad script started is there any more.
async fn none_left(cluster: &Cluster, what: &str) -> Result<()> {
    // a pattern that does not find the process that brings it
    let gone = async || cluster.exec(NODE, &["pgrep", "-f", "unrul[y]-"]).await.ok().filter(|ran| ran.code != 0);
    let gone = wait(&format!("all of {what} to be gone"), STEP_MAX, gone).await;
    let left = cluster.exec(NODE, &["pgrep", "-fa", "unrul[y]-"]).await?.stdout;
    gone.map(drop).with_context(|| format!("left of {what}: {left}"))
}

/// The most memory that the agent ever had, in KiB.
async fn peak(cluster: &Cluster) -> Result<u64> {
    let pid = cluster.agent_pid(NODE).await.context("no agent runs")?;
    let status = cluster.sh(NODE, &format!("cat /proc/{pid}/status")).await?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

#[test]
fn unruly_scripts_are_ended_with_all_they_started() {
    scene("unruly_scripts_are_ended_with_all_they_started", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        add(cluster)?;
        let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": 1 });
        let body = json!({ "name": "r", "availability_zone": "az1", "components": [a] });
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
        let topology = cluster.active(&accepted).await?;
        let node = cluster.api.node(NODE).await?;
        let component = &topology.components[0].id;
        let (agent, before) = (cluster.agent_pid(NODE).await, peak(cluster).await?);

        // as commands, all at once
        let mut asked = Vec::new();
        for (name, _) in MANNERS {
            asked.push((name, ask(cluster, node.id.as_str(), &format!("unruly-{name}"), json!({})).await?));
        }
        let beside = ask(cluster, node.id.as_str(), "count", json!({ "key": "beside" })).await?;
        let well = ended(cluster, &beside).await?;
        ensure!(well.standing == CommandStanding::Succeeded, "a good command beside bad ones: {well:?}");
        for (name, id) in &asked {
            let view = ended(cluster, id).await?;
            let reason = view.end.as_ref().map(|end| end.reason.clone()).unwrap_or_default();
            let expect = format!("took longer than {LIMIT_S} s and was killed with all its processes");
            ensure!(view.standing == CommandStanding::Failed && reason.contains(&expect), "{name}: {view:?}");
            ensure!(view.ended_ms >= well.ended_ms, "the good command waited for {name}: {well:?} {view:?}");
        }
        none_left(cluster, "the commands").await?;

        // as a stage, one after the other; each is tried again until the file is gone. The flood is deaf as well
        let mut spoiled = Vec::new();
        for (name, text) in &MANNERS[..2] {
            cluster.sh(NODE, &format!("cat > {FILE} <<'END'\n{text}\nEND")).await?;
            let path = format!("/components/{component}/services");
            let restart: Accepted = cluster.api.call(Method::PUT, &path, None).await?;
            let failing = cluster.follow(restart.job.id.as_str(), STEP_MAX, |job| {
                let step = job.steps.iter().find(|step| step.stage == JobStage::Config)?;
                let node = step.nodes.iter().find(|node| node.next_retry_ms.is_some())?;
                (job.standing == JobStanding::Failing).then(|| node.detail.clone())
            });
            let detail = failing.await.with_context(|| format!("the stage that is {name} to fail"))?;
            let (long, silent) = (format!("took longer than {LIMIT_S} s"), format!("wrote nothing for {LIMIT_S} s"));
            ensure!(detail.contains(&long) || detail.contains(&silent), "{name}: {detail}");
            cluster.sh(NODE, &format!("rm {FILE}")).await?;
            let job = cluster.ended(&restart).await?;
            ensure!(job.standing == JobStanding::Succeeded, "after {name}: {:?} {}", job.standing, job.detail);
            none_left(cluster, name).await?;
            spoiled.push(detail);
            ensure!(cluster.api.node(NODE).await?.liveness == Liveness::Reachable, "{name}: it was not heard");
        }
        cluster.settled(&accepted.id).await?;

        let gigabyte = ended(cluster, &ask(cluster, node.id.as_str(), "unruly-gigabyte", json!({})).await?).await?;
        let bytes = gigabyte.end.as_ref().map_or(0, |end| end.output_bytes);
        ensure!(
            gigabyte.standing == CommandStanding::Succeeded && bytes == 1 << 30,
            "{bytes} bytes: {:?}",
            gigabyte.end
        );

        let page = cluster.sh(NODE, "pgrep -c mini_httpd").await?;
        ensure!(page.trim() == "1", "of the service run {}", page.trim());
        ensure!(cluster.agent_pid(NODE).await == agent, "the agent was started anew");
        let after = peak(cluster).await?;
        ensure!(after < AGENT_KIB_MAX, "the agent came to {after} KiB");
        let kept = cluster.sh(NODE, "du -sk /var/lib/straas/agent/run | cut -f1").await?.trim().parse::<u64>()?;
        ensure!(kept < KEPT_KIB_MAX, "{kept} KiB are kept of what scripts wrote");
        say(&format!(
            "  {} commands and {} stages were ended, nothing is left of them; agent at most {} MiB, {} MiB before; {kept} KiB kept",
            asked.len(),
            spoiled.len(),
            after / 1024,
            before / 1024
        ));
        Ok(())
    });
}
