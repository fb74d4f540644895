//! What an idle agent costs, as it is delivered: prints figures, asserts nothing.
//!
//! Run with: `cargo test -p straas-tests --test e2e agent_footprint -- --ignored`

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use straas_tests::artifacts::delivered_agent;
use straas_tests::{Cluster, say, scene};

/// How long it is watched; the length of the measurement.
const WATCH: Duration = Duration::from_secs(60);

#[test]
#[ignore = "measures for two minutes and builds with full optimisation"]
fn agent_footprint() {
    scene("agent_footprint", async |cluster| {
        let delivered = delivered_agent()?;
        say(&format!("  binary: {:.2} MiB", delivered.agent.metadata()?.len() as f64 / f64::from(1 << 20)));
        cluster.use_artifacts(delivered);
        // the defaults of an operator
        cluster.timing = String::new();
        cluster.start().await?;
        cluster.active(&cluster.create("idle", "3.8.0", 1).await?).await?;
        let agent = agent(cluster)?;
        // waits for: time itself: what the agent costs while it idles is what is measured
        tokio::time::sleep(WATCH).await;
        let (begun, before) = (Instant::now(), cpu_ns(&agent)?);
        // waits for: time itself, as above
        tokio::time::sleep(WATCH).await;
        let used = (cpu_ns(&agent)? - before) as f64 / 1e6;
        let memory = |key| memory_kib(&agent, key).map(|kib| kib as f64 / 1024.0);
        say(&format!(
            "  idle agent: {:.2} MiB resident, {:.2} MiB proportional; {:.3} ms of CPU per second over {} s",
            memory("Rss:")?,
            memory("Pss:")?,
            used / begun.elapsed().as_secs_f64(),
            WATCH.as_secs()
        ));
        Ok(())
    });
}

/// The agent of the only host, as `/proc/<pid>`.
fn agent(cluster: &Cluster) -> Result<PathBuf> {
    let data = cluster.data().to_string_lossy().into_owned();
    let ours = |proc: &Path| {
        let has = |file, text: &str| std::fs::read_to_string(proc.join(file)).is_ok_and(|read| read.contains(text));
        has("comm", "straas-agent") && has("mountinfo", &data)
    };
    let mut all = std::fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    all.find(|proc| ours(proc)).context("no agent runs")
}

/// Time on a CPU, of all threads, in nanoseconds.
fn cpu_ns(proc: &Path) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(proc.join("task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

fn memory_kib(proc: &Path, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(proc.join("smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
