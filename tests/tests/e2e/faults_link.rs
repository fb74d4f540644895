//! A slow link on which three exchanges in ten fail: a topology is created and changed over it to the
//! end, and nothing is done twice.
//!
//! The switch between the hosts and the controller drops frames by chance and limits what passes.
//! `LINK_LOST` chooses how many of a hundred, each way.

use crate::faults_rig::{add_stay, command, let_go, light, ran, restart, stay};
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use std::time::Instant;
use straas_schemas::command::CommandStanding;
use straas_schemas::job::JobStanding;
use straas_tests::conductor::Conductor;
use straas_tests::{Cluster, say, scene};

const NODES: [&str; 2] = ["s-a-1", "s-a-2"];
/// Of a hundred frames, in each direction: of exchanges it is twice that.
const LOST: u32 = 16;
/// What may pass each way, in KiB each second.
const KIB: u32 = 1024;

/// Ends with the guard, or with the network.
struct Bad<'c>(&'c Cluster);

impl<'c> Bad<'c> {
    fn begin(cluster: &'c Cluster, lost: u32) -> Result<Self> {
        let rule = format!(
            "numgen random mod 100 < {lost} counter drop; limit rate over {KIB} kbytes/second burst 64 kbytes counter drop;"
        );
        // to the controller and from it: what hosts say to each other is not the subject
        let table = format!(
            "table bridge bad {{\n chain in {{ type filter hook input priority 0; {rule} }}\n \
             chain out {{ type filter hook output priority 0; {rule} }}\n}}\n"
        );
        nft(cluster, &["-f", "-"], &table)?;
        Ok(Self(cluster))
    }

    /// Frames that were lost.
    fn lost(&self) -> Result<u64> {
        let listed = nft(self.0, &["list", "table", "bridge", "bad"], "")?;
        let counts =
            listed.split("packets ").skip(1).filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

impl Drop for Bad<'_> {
    fn drop(&mut self) {
        let _ = nft(self.0, &["delete", "table", "bridge", "bad"], "");
    }
}

fn nft(cluster: &Cluster, arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write as _;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &cluster.netns(), "nft"]).args(arguments);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().context("start nft")?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_slow_link_that_loses_a_third() {
    scene("a_slow_link_that_loses_a_third", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        add_stay(cluster)?;
        // counted on the nodes: over such a link nobody can conduct
        cluster.build_brake("cmd/moody/default/runpuppet.sh")?;
        let percent = std::env::var("LINK_LOST").ok().and_then(|text| text.parse().ok()).unwrap_or(LOST);
        let bad = Bad::begin(cluster, percent)?;
        let begun = Instant::now();
        let topology = light(cluster, "s", 2).await.context("create")?;
        let created = begun.elapsed().as_secs_f32();
        let configured = async |node| cluster.braked_runs(node).await;
        let before = [configured(NODES[0]).await?, configured(NODES[1]).await?];

        let mut asked = Vec::new();
        for number in 0..6_usize {
            let (node, key) = (NODES[number % 2], format!("key{}", "abcdef".chars().nth(number).unwrap_or('x')));
            let_go(cluster, node, &key).await?;
            asked.push((node, key.clone(), stay(cluster, node, &key).await?));
        }
        let begun = Instant::now();
        let job = cluster.ended(&restart(cluster, &topology).await?).await?;
        ensure!(job.standing == JobStanding::Succeeded, "the restart: {:?} {}", job.standing, job.detail);
        let changed = begun.elapsed().as_secs_f32();
        for (node, key, id) in &asked {
            let view = command(cluster, id, |view| view.standing.is_final()).await?;
            ensure!(view.standing == CommandStanding::Succeeded, "{key}: {view:?}");
            let times = ran(cluster, node, key).await?;
            ensure!(times == 1, "{key} ran {times} times");
        }
        for (node, before) in NODES.iter().zip(before) {
            let times = configured(node).await? - before;
            ensure!(times == 1, "{node} was configured {times} times");
        }
        cluster.settled(topology.id.as_str()).await?;
        let lost = bad.lost()?;
        ensure!(lost > 0, "no frame was lost");
        say(&format!(
            "  {percent} % lost each way ({lost} frames), {KIB} KiB/s: created in {created:.1} s, restarted in {changed:.1} s; \
             {} commands, 0 lost, 0 twice",
            asked.len()
        ));
        Ok(())
    });
}
