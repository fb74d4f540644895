//! What is taken down when a test fails: jobs, the cause at each node, the logs' last lines.

use crate::api::Api;
use crate::left;
use std::fmt::Write as _;
use std::path::Path;
use straas_schemas::job::{Job, Progress};
use straas_schemas::view::Page;

/// Lines of each log.
const LINES: usize = 40;

/// All that is known about a cluster, as text.
pub async fn take(api: &Api, data: &Path, log: &Path) -> String {
    let mut out = String::from("--- pictures of the failure\n");
    match api.get::<Page<Job>>("/jobs").await {
        Ok(page) => {
            for job in page.items {
                picture(&mut out, &api.job(job.id.as_str()).await.unwrap_or(job));
            }
        }
        Err(error) => drop(writeln!(out, "jobs: {error:#}")),
    }
    for node in api.nodes().await.unwrap_or_default() {
        let _ = writeln!(
            out,
            "node {} generation {}/{} {:?} {:?}",
            node.name, node.converged_generation, node.generation, node.liveness, node.service
        );
        let _ = writeln!(out, "  why: {:?} {} {:?}", node.why.cause, node.why.text, node.why.evidence);
        for (stage, view) in &node.stages {
            let _ = writeln!(out, "  {stage}: {:?} attempt {} {}", view.outcome, view.attempt, view.reason);
        }
    }
    tail(&mut out, "controller", log);
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "log") && path != log {
            tail(&mut out, &entry.file_name().to_string_lossy(), &path);
        }
    }
    for id in left::hosts(data) {
        let dir = data.join("hosts/hosts").join(&id);
        let name = std::fs::read_to_string(dir.join("upper/etc/hostname")).unwrap_or(id);
        tail(&mut out, &format!("agent of {}", name.trim()), &dir.join("upper/var/log/sa.log"));
        tail(&mut out, &format!("userdata of {}", name.trim()), &dir.join("upper/var/log/userdata.log"));
    }
    out
}

fn picture(out: &mut String, job: &Job) {
    let _ = writeln!(out, "job {} {} {:?} {}", job.id, job.kind.name(), job.standing, job.detail);
    for step in &job.steps {
        let waits = step.waiting_for.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {} {:?} {}/{} {waits}", step.id, step.progress, step.done, step.total);
        for node in step.nodes.iter().filter(|node| !matches!(node.progress, Progress::Pending | Progress::Done)) {
            let _ = writeln!(out, "    {} {:?} attempt {} {}", node.name, node.progress, node.attempt, node.detail);
            node.output_tail.lines().for_each(|line| out.push_str(&format!("      | {line}\n")));
        }
    }
}

fn tail(out: &mut String, what: &str, path: &Path) {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let _ = writeln!(out, "--- log of {what}, last of {} lines", lines.len());
    lines.iter().skip(lines.len().saturating_sub(LINES)).for_each(|line| out.push_str(&format!("{line}\n")));
}
