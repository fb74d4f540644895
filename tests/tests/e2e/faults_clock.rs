//! The clock of a node is wrong by days, forward and back, and jumps while its agent runs: the agent goes
//! on, what was begun ends, nothing misfires, nobody refuses anybody.
//!
//! Only the agent's process is lied to (libfaketime): hosts of one machine share its clock. What measures
//! spans of time is not faked, as it is not by a clock that is set.

use crate::faults_rig::{add_stay, begun, command, configured, let_go, light, ran, restart, serves, stay};
use anyhow::{Context as _, Result, ensure};
use std::time::Instant;
use straas_schemas::command::CommandStanding;
use straas_schemas::job::JobStanding;
use straas_schemas::view::Liveness;
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::{Cluster, say, scene, wait};

const NODE: &str = "t-a-1";
/// Debian's libfaketime on this machine, and in the hosts.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// What the agent's clock is off by; read anew every second.
const OFFSET: &str = "/etc/straas-faketime";
/// Days, first forward and then back. A certificate counts from 90 days before it was made.
const DAYS: [i32; 1] = [60];

/// What the program that it precedes is lied to with.
fn lie() -> String {
    format!(
        "/usr/bin/env LD_PRELOAD={LIBRARY} FAKETIME_TIMESTAMP_FILE={OFFSET} FAKETIME_CACHE_DURATION=1 \
         FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
    )
}

/// Sets the clock, and waits until a program that is lied to says so.
async fn set(cluster: &Cluster, days: i32) -> Result<()> {
    cluster.sh(NODE, &format!("echo '{days:+}d' > {OFFSET}.new; mv {OFFSET}.new {OFFSET}")).await?;
    let off = cluster.sh(NODE, &format!("echo $(( ($({} date +%s) - $(date +%s)) / 3600 ))", lie())).await?;
    let (off, expect) = (off.trim().parse::<i32>()?, days * 24);
    ensure!((off - expect).abs() <= 1, "the clock is off by {off} h, not {expect}");
    // an agent looks at its clock within two seconds, which it beats in
    let before = cluster.api.node(NODE).await?.seen_ms;
    for _ in 0..3 {
        let last = cluster.api.node(NODE).await?.seen_ms;
        wait("a heartbeat", STEP_MAX, async || {
            cluster.api.node(NODE).await.ok()?.seen_ms.filter(|seen| Some(*seen) > last)
        })
        .await?;
    }
    ensure!(cluster.api.node(NODE).await?.seen_ms > before, "it is not heard");
    Ok(())
}

#[test]
fn a_clock_that_is_days_off_misleads_nobody() {
    scene("a_clock_that_is_days_off_misleads_nobody", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.settings.push_str(&format!("[[files]]\npath = {LIBRARY:?}\nsource = {LIBRARY:?}\nmode = 0o644\n"));
        cluster.start().await?;
        add_stay(cluster)?;
        let conductor = Conductor::listen(cluster)?;
        let topology = light(cluster, "t", 1).await?;
        let id = topology.id.as_str();
        // a program of the same name, in the place of the agent's
        let wrapper = format!(
            "set -e; echo +0d > {OFFSET}; mkdir -p /opt/real; mv /usr/sbin/straas-agent /opt/real/\n\
             printf '#!/bin/sh\\nexec {} /opt/real/straas-agent \"$@\"\\n' > /usr/sbin/straas-agent; chmod 755 /usr/sbin/straas-agent",
            lie()
        );
        cluster.sh(NODE, &wrapper).await?;
        cluster.kill_agent(NODE).await?;
        let maps = "grep -c libfaketime /proc/$(pidof straas-agent)/maps";
        let lied_to = async || cluster.sh(NODE, maps).await.ok();
        wait("an agent that is lied to", STEP_MAX, lied_to).await?;

        let (mut commands, mut longest) = (0, 0.0_f32);
        for (number, days) in DAYS.into_iter().enumerate() {
            let word = |what: &str| format!("{what}{}", "abcd".chars().nth(number).unwrap_or('x'));
            // begun before the clock jumps, ended after
            let (over, next, queued) = (word("over"), word("next"), word("queued"));
            let first = stay(cluster, NODE, &over).await?;
            begun(cluster, &first).await?;
            set(cluster, days).await?;
            let_go(cluster, NODE, &over).await?;
            let view = command(cluster, &first, |view| view.standing.is_final()).await?;
            ensure!(view.standing == CommandStanding::Succeeded, "{days} days: begun before: {view:?}");
            // an agent that begins with the wrong clock, with one command begun and others waiting
            let mut held = Vec::new();
            for place in ["k", "l", "m", "n"] {
                held.push(stay(cluster, NODE, &word(place)).await?);
            }
            for id in &held {
                begun(cluster, id).await?;
            }
            let waiting = stay(cluster, NODE, &queued).await?;
            command(cluster, &waiting, |view| view.standing == CommandStanding::Running).await?;
            set(cluster, -days).await?;
            let_go(cluster, NODE, &queued).await?;
            cluster.kill_agent(NODE).await?;
            let killed = Instant::now();
            for id in &held {
                let view = command(cluster, id, |view| view.standing.is_final()).await?;
                ensure!(view.standing == CommandStanding::Unknown, "{days} days: begun, then killed: {view:?}");
            }
            let view = command(cluster, &waiting, |view| view.standing.is_final()).await?;
            ensure!(view.standing == CommandStanding::Succeeded, "{days} days: waited, then killed: {view:?}");
            longest = longest.max(killed.elapsed().as_secs_f32());
            let before = configured(&conductor, NODE);
            let job = cluster.ended(&restart(cluster, &topology).await?).await?;
            ensure!(job.standing == JobStanding::Succeeded, "{days} days: {:?} {}", job.standing, job.detail);
            ensure!(configured(&conductor, NODE) == before + 1, "{days} days: it was configured more than once");
            let_go(cluster, NODE, &next).await?;
            let view = stay(cluster, NODE, &next).await?;
            let view = command(cluster, &view, |view| view.standing.is_final()).await?;
            ensure!(view.standing == CommandStanding::Succeeded, "{days} days: asked for then: {view:?}");
            for key in [over, next, queued].iter().chain(&["k", "l", "m", "n"].map(word)) {
                ensure!(
                    ran(cluster, NODE, key).await? == 1,
                    "{days} days: {key} ran {} times",
                    ran(cluster, NODE, key).await?
                );
                commands += 1;
            }
            ensure!(cluster.api.node(NODE).await?.liveness == Liveness::Reachable, "{days} days: it is not heard");
        }
        serves(cluster, NODE).await?;
        let events = cluster.events(id).await?;
        let refused = events.iter().filter(|event| ["refused", "ledger"].contains(&event.kind.as_str())).count();
        ensure!(refused == 0, "something was refused: {events:#?}");
        let log = cluster.sh(NODE, "cat /var/log/sa.log").await;
        let log = log.context("the agent's log")?;
        ensure!(!log.contains("reports could not be sent"), "a report was refused");
        say(&format!(
            "  off by {DAYS:?} days forward and back, each by a jump, and killed each time: {commands} commands, 0 twice, 0 expired, 0 refused; \
             goes on {longest:.1} s after a kill"
        ));
        Ok(())
    });
}
