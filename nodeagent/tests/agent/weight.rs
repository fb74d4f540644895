//! What the agent weighs: its binary as a process of its own, settled and idle for a minute.
//!
//! `STRAAS_AGENT_BIN=target/agent/straas-agent cargo test -p straas-agent -- --ignored --nocapture weight`
//! prints the figures; without the variable the binary of the tests is weighed, which is larger.

use crate::controller::Controller;
use crate::end_to_end::{Node, ROLE, local, wanted};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long it is watched; long enough for beats and looks at its real intervals.
const IDLE: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "takes over a minute; prints figures"]
async fn settled_and_idle() {
    local(async {
        let dir = tempfile::tempdir().unwrap();
        let controller = Controller::start(dir.path()).await;
        let scripts = controller.shared.repo.commit(&ROLE);
        let mut assignment = wanted(1, &scripts, 1);
        assignment.timing.heartbeat_ms = 10_000;
        assignment.timing.validate_every_ms = 30_000;
        controller.shared.assignment.send_replace(Some(assignment));
        let node = Node::new(dir.path(), &controller);
        let program = std::env::var("STRAAS_AGENT_BIN").unwrap_or(env!("CARGO_BIN_EXE_straas-agent").into());
        let size = std::fs::metadata(&program).unwrap().len();
        let mut child =
            Command::new(program).arg("--config").arg(node.write()).stderr(Stdio::null()).spawn().unwrap();
        controller.until("converged", |c| c.converged(1)).await;
        let proc = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
        let cpu_ns = || proc("schedstat").split_whitespace().next().unwrap().parse::<u64>().unwrap();
        let children = || proc("stat").rsplit_once(')').unwrap().1.split_whitespace().nth(14).unwrap().to_owned();
        let before = (cpu_ns(), children());
        // waits for: time itself: what the agent costs while it idles is what is measured
        tokio::time::sleep(IDLE).await;
        let spent = (cpu_ns() - before.0) as f64 / 1e6 / IDLE.as_secs_f64();
        let memory = proc("smaps_rollup");
        let kib = |name: &str| memory.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        println!(
            "binary {size} bytes; Rss {} KiB, Pss {} KiB, Anonymous {} KiB; main thread {spent:.3} ms of CPU per second",
            kib("Rss:"), kib("Pss:"), kib("Anonymous:")
        );
        let threads: u64 = std::fs::read_dir(format!("/proc/{}/task", child.id()))
            .unwrap()
            .map(|t| {
                let stat = std::fs::read_to_string(t.unwrap().path().join("schedstat")).unwrap();
                stat.split_whitespace().next().unwrap().parse::<u64>().unwrap()
            })
            .sum();
        println!("all threads since the start: {} ms", threads / 1_000_000);
        child.kill().unwrap();
        child.wait().unwrap();
    })
    .await;
}
