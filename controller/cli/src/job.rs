//! `straas job …`: list, show, and watch live.
//!
//! On a terminal a job is a bar per step; elsewhere it is a line per event, fit for a log.

use crate::Global;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{duration, print, table, time, word};
use crate::sse::Events;
use clap::Subcommand;
use http::Method;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use straas_schemas::job::{Job, JobStanding, NodeStep, Progress, Step};
use straas_schemas::view::{Event, Page};

/// Tries to follow a job again so often in a row when the stream breaks.
const RECONNECTS_MAX: u32 = 60;

/// What to do with jobs.
#[derive(Subcommand)]
pub enum Verb {
    /// List jobs, newest first.
    List,
    /// Show a job with its steps and nodes.
    Show {
        /// Its id.
        job: String,
    },
    /// Follow a job until it ends.
    Watch {
        /// Its id.
        job: String,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List => {
            let page: Page<Job> = client.get("/jobs").await?;
            print(global.output, &page.items, |items| list(items))
        }
        Verb::Show { job } => {
            let job: Job = client.get(&format!("/jobs/{job}")).await?;
            print(global.output, &job, show)
        }
        Verb::Watch { job } => watch(&client, &job).await,
    }
}

fn list(items: &[Job]) -> String {
    let rows = items.iter().map(|j| {
        let took = j.finished_ms.map(|end| duration((end - j.created_ms).unsigned_abs())).unwrap_or_else(|| "-".into());
        vec![j.id.to_string(), word(&j.kind), j.topology_name.clone(), word(&j.standing), time(j.created_ms), took, j.detail.clone()]
    });
    table(&["job", "kind", "topology", "state", "created", "took", "detail"], rows)
}

fn show(job: &Job) -> String {
    let mut out = format!("job {}  {}  {}\n{}\n", job.id, word(&job.kind), word(&job.standing), job.detail);
    for step in &job.steps {
        out.push_str(&format!("\n{:<24} {:<9} {}/{}", step.id, word(&step.progress), step.done, step.total));
        if !step.after.is_empty() {
            out.push_str(&format!("   after {}", step.after.join(", ")));
        }
        out.push('\n');
        for node in step.nodes.iter().filter(|n| n.progress != Progress::Pending) {
            out.push_str(&format!("  {}\n", node_line(node)));
        }
    }
    out
}

fn node_line(node: &NodeStep) -> String {
    let mut line = format!("{:<24} {:<9}", node.name, word(&node.progress));
    if node.attempt > 1 {
        line.push_str(&format!(" attempt {}", node.attempt));
    }
    if let Some(ms) = node.duration_ms {
        line.push_str(&format!(" {}", duration(ms)));
    }
    if let Some(percent) = node.percent {
        line.push_str(&format!(" {percent} %"));
    }
    if !node.detail.is_empty() {
        line.push_str(&format!(" {}", node.detail));
    }
    if let Some(at) = node.next_retry_ms {
        line.push_str(&format!("; next try at {}", time(at)));
    }
    if let Some(hint) = &node.hint {
        line.push_str(&format!("\n    hint: {hint}"));
    }
    for output in node.output_tail.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev() {
        line.push_str(&format!("\n    | {output}"));
    }
    line
}

/// Follows a job to its end.
pub async fn watch(client: &Client, id: &str) -> Result<(), CliError> {
    let mut display: Box<dyn Display> =
        if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) };
    let mut broken = 0;
    loop {
        let mut events = match client.send(Method::GET, &format!("/jobs/{id}/events"), None).await {
            Ok(response) => Events::new(response),
            Err(CliError::Unreachable { .. }) if broken > 0 && broken < RECONNECTS_MAX => {
                broken += 1;
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(event) = events.next().await? {
            match event.kind.as_str() {
                "job" => {
                    let Ok(job) = serde_json::from_str::<Job>(&event.data) else { continue };
                    broken = 0;
                    display.job(&job);
                    if job.standing.is_final() {
                        return end(&job);
                    }
                }
                "event" => {
                    if let Ok(event) = serde_json::from_str::<Event>(&event.data) {
                        display.event(&event);
                    }
                }
                _ => {}
            }
        }
        // the stream ended before the job did: the controller was restarted, or the link was cut
        broken += 1;
    }
}

fn end(job: &Job) -> Result<(), CliError> {
    let took = job.finished_ms.map(|at| duration((at - job.created_ms).unsigned_abs())).unwrap_or_default();
    if job.standing == JobStanding::Succeeded {
        anstream::eprintln!("{} succeeded in {took}", job.detail);
        return Ok(());
    }
    Err(CliError::Job(format!("{}: {} after {took}", job.detail, word(&job.standing))))
}

trait Display {
    fn job(&mut self, job: &Job);
    fn event(&mut self, event: &Event);
}

/// A line for each event and for each step that is done or fails.
#[derive(Default)]
struct Lines {
    seen: i64,
    steps: BTreeMap<String, (Progress, u32, Option<String>)>,
}

impl Display for Lines {
    fn event(&mut self, event: &Event) {
        if event.seq > self.seen {
            self.seen = event.seq;
            anstream::eprintln!("  {}", event.text);
        }
    }

    fn job(&mut self, job: &Job) {
        for step in &job.steps {
            let now = (step.progress, step.done, step.waiting_for.clone());
            if self.steps.get(&step.id) == Some(&now) {
                continue;
            }
            if step.progress != Progress::Pending {
                anstream::eprintln!("{:<24} {:<9} {}/{}{}", step.id, word(&step.progress), step.done, step.total, waits(step));
            }
            for node in step.nodes.iter().filter(|n| n.progress == Progress::Retrying) {
                anstream::eprintln!("    {}", node_line(node));
            }
            self.steps.insert(step.id.clone(), now);
        }
    }
}

fn waits(step: &Step) -> String {
    step.waiting_for.as_ref().map(|text| format!("   {text}")).unwrap_or_default()
}

/// A bar for each step.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Display for Bars {
    fn event(&mut self, _: &Event) {}

    fn job(&mut self, job: &Job) {
        for step in &job.steps {
            let bar = self.bars.entry(step.id.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("{prefix:<24} {bar:24.green/dim} {pos:>3}/{len:<3} {wide_msg}");
                let bar = self.all.add(ProgressBar::new(u64::from(step.total)));
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_prefix(step.id.clone());
                bar
            });
            bar.set_length(u64::from(step.total));
            bar.set_position(u64::from(step.done));
            bar.set_message(message(step));
            if step.progress == Progress::Done && !bar.is_finished() {
                bar.finish_with_message("done");
            }
        }
    }
}

fn message(step: &Step) -> String {
    let interesting = step.nodes.iter().find(|n| n.progress == Progress::Retrying);
    let interesting = interesting.or_else(|| step.nodes.iter().find(|n| n.progress == Progress::Waiting));
    let interesting = interesting.or_else(|| step.nodes.iter().find(|n| n.progress == Progress::Running));
    match interesting {
        Some(node) => node_line(node).lines().next().unwrap_or_default().to_owned(),
        None if step.progress == Progress::Pending => String::new(),
        None => word(&step.progress),
    }
}
