//! `straas job …`: list, show, and watch live.
//!
//! On a terminal a job is a bar per step; elsewhere it is a line per event, fit for a log.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation;
use crate::output::{Format, clean, duration, print, table, time, word};
use crate::routes::{self, Route};
use crate::sse::{Heard, follow as follow_events};
use clap::Subcommand;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use straas_schemas::job::{Job, JobStanding, NodeStep, Progress, Step};
use straas_schemas::view::{Event, Page};

/// What to do with jobs.
#[derive(Subcommand)]
pub enum Verb {
    /// List jobs, newest first.
    List {
        /// Only of this topology (name or id).
        #[arg(long)]
        topology: Option<String>,
    },
    /// Show a job with its steps and nodes.
    Show {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
    },
    /// Follow a job until it ends.
    ///
    /// On a terminal each step is a bar; elsewhere each event is a line. Exits with 0 when the job
    /// succeeded, with 7 when it ended otherwise.
    Watch {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
    },
    /// Let no further node begin; those that have begun go on.
    Pause {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
    },
    /// Go on with a job that was paused, or that is held because nodes failed.
    Resume {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
    },
    /// Take a job back: what was before holds again.
    Cancel {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
        /// Only show what would be done; nothing is changed.
        #[arg(long)]
        dry_run: bool,
        /// Wait until what was before holds again.
        #[arg(long, conflicts_with = "dry_run")]
        wait: bool,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { topology } => {
            let mut jobs = client.all::<Job>(routes::JOBS, &[], &[]).await?;
            jobs.retain(|job| topology.as_ref().is_none_or(|name| is_of(job, name)));
            print(global.format(), &jobs, |items| list(items))
        }
        Verb::Show { job } => {
            let id = find(&client, &job).await?;
            let job: Job = client.get(routes::JOB, &[&id]).await?;
            print(global.format(), &job, show)
        }
        Verb::Watch { job } => watch(&client, &find(&client, &job).await?, global.format()).await,
        Verb::Pause { job } => steer(&client, routes::JOB_PAUSE, &job, global).await,
        Verb::Resume { job } => steer(&client, routes::JOB_RESUME, &job, global).await,
        Verb::Cancel { job, dry_run: true, .. } => {
            let id = find(&client, &job).await?;
            let how = mutation::How { dry_run: true, wait: false };
            mutation::send(&client, Ask::new(routes::JOB_CANCEL, &[&id]), how, global).await
        }
        Verb::Cancel { job, wait, .. } => {
            let id = find(&client, &job).await?;
            if !wait {
                return steer(&client, routes::JOB_CANCEL, &id, global).await;
            }
            let _: Job = client.call(Ask::new(routes::JOB_CANCEL, &[&id])).await?;
            let end = follow(&client, &id, global.format()).await?;
            match end.standing {
                JobStanding::Cancelled => {
                    anstream::eprintln!("{}: cancelled", end.detail);
                    Ok(())
                }
                _ => finish(&end),
            }
        }
    }
}

/// Pauses, resumes or cancels, and says how the job stands then.
async fn steer(client: &Client, route: Route, job: &str, global: &Global) -> Result<(), CliError> {
    let id = find(client, job).await?;
    let job: Job = client.call(Ask::new(route, &[&id])).await?;
    print(global.format(), &job, |job| format!("{}: {} (job {})", job.detail, word(&job.standing), job.id))
}

fn is_of(job: &Job, topology: &str) -> bool {
    job.topology_name == topology || job.topology.as_str() == topology
}

/// The id of a job, or of the newest job of a topology, which may be gone.
async fn find(client: &Client, wanted: &str) -> Result<String, CliError> {
    if straas_schemas::ids::is_id(wanted) {
        match client.get::<Job>(routes::JOB, &[wanted]).await {
            Err(error) if Client::is_missing(&error) => {}
            other => return other.map(|job| job.id.0),
        }
    }
    let mut marker = None;
    loop {
        let page: Page<Job> = client.page(routes::JOBS, &[], &[("limit", "100".to_owned())], marker).await?;
        if let Some(job) = page.items.into_iter().find(|job| is_of(job, wanted)) {
            return Ok(job.id.0);
        }
        marker = page.next;
        if marker.is_none() {
            return Err(CliError::NotFound {
                text: format!("there is no job {wanted}, and no topology of this name had one"),
                hint: "straas job list",
            });
        }
    }
}

fn list(items: &[Job]) -> String {
    let rows = items.iter().map(|j| {
        let took = j.finished_ms.map(|end| duration((end - j.created_ms).unsigned_abs())).unwrap_or_else(|| "-".into());
        vec![
            j.id.to_string(),
            word(&j.kind),
            j.topology_name.clone(),
            word(&j.standing),
            time(j.created_ms),
            took,
            j.detail.clone(),
        ]
    });
    table(&["job", "kind", "topology", "state", "created", "took", "detail"], rows)
}

fn show(job: &Job) -> String {
    let mut out = format!("job {}  {}  {}\n{}\n", job.id, word(&job.kind), word(&job.standing), job.detail);
    out.push('\n');
    for step in &job.steps {
        out.push_str(&format!("{:<24} {:<9} {}/{}", step.id, word(&step.progress), step.done, step.total));
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
    line.truncate(line.trim_end().len());
    if let Some(hint) = &node.hint {
        line.push_str(&format!("\n    hint: {hint}"));
    }
    for output in node.output_tail.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev() {
        line.push_str(&format!("\n    | {output}"));
    }
    line
}

/// Follows a job to its end; in the forms for programs its last picture is printed.
pub async fn watch(client: &Client, id: &str, format: Format) -> Result<(), CliError> {
    finish(&follow(client, id, format).await?)
}

/// Follows a job until it has ended: how it ended.
pub async fn follow(client: &Client, id: &str, format: Format) -> Result<Job, CliError> {
    let mut display: Box<dyn Display> =
        if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) };
    follow_events(client, routes::JOB_EVENTS, id, "the job", |event| {
        match event.kind.as_str() {
            "job" => {
                let Ok(job) = serde_json::from_str::<Job>(&event.data) else { return Ok(Heard::Nothing) };
                display.job(&job);
                if !job.standing.is_final() {
                    return Ok(Heard::More);
                }
                if format != Format::Table {
                    print(format, &job, show)?;
                }
                return Ok(Heard::End(job));
            }
            "event" => {
                if let Ok(event) = serde_json::from_str::<Event>(&event.data) {
                    display.event(&event);
                }
            }
            _ => {}
        }
        Ok(Heard::Nothing)
    })
    .await
}

fn finish(job: &Job) -> Result<(), CliError> {
    let took = job.finished_ms.map(|at| duration((at - job.created_ms).unsigned_abs())).unwrap_or_default();
    if job.standing == JobStanding::Succeeded {
        anstream::eprintln!("{} succeeded in {took}", job.detail);
        if let Some(text) = slowest(job) {
            anstream::eprintln!("{text}");
        }
        return Ok(());
    }
    let how = match job.standing {
        JobStanding::Superseded => "was superseded by a later request".to_owned(),
        other => word(&other),
    };
    Err(CliError::Job(format!("{}: {how} after {took}", job.detail)))
}

/// What the scripts alone took where they took longest: what no controller could have saved. The
/// rest is hosts, enrolment, and what the software itself needs to come up.
fn slowest(job: &Job) -> Option<String> {
    let mut nodes: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for step in &job.steps {
        for node in &step.nodes {
            let timed = node.duration_ms.map(|ms| (step.stage.name(), ms));
            nodes.entry(&node.name).or_default().extend(timed);
        }
    }
    let sum = |stages: &[(&str, u64)]| stages.iter().map(|(_, ms)| ms).sum::<u64>();
    let (name, stages) = nodes.into_iter().filter(|(_, s)| !s.is_empty()).max_by_key(|(_, s)| sum(s))?;
    let each: Vec<String> = stages.iter().map(|(stage, ms)| format!("{stage} {}", duration(*ms))).collect();
    Some(format!("its scripts took {} on {name}, the slowest node: {}", duration(sum(&stages)), each.join(", ")))
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
            anstream::eprintln!("  {}", clean(&event.text));
        }
    }

    fn job(&mut self, job: &Job) {
        for step in &job.steps {
            let now = (step.progress, step.done, step.waiting_for.clone());
            if self.steps.get(&step.id) == Some(&now) {
                continue;
            }
            if step.progress != Progress::Pending {
                anstream::eprintln!(
                    "{:<24} {:<9} {}/{}{}",
                    step.id,
                    word(&step.progress),
                    step.done,
                    step.total,
                    clean(&waits(step))
                );
            }
            for node in step.nodes.iter().filter(|n| n.progress == Progress::Retrying) {
                anstream::eprintln!("    {}", clean(&node_line(node)));
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
                let style =
                    ProgressStyle::with_template("{prefix:<24} {bar:24.green/dim} {pos:>3}/{len:<3} {wide_msg}");
                let bar = self.all.add(ProgressBar::new(u64::from(step.total)));
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_prefix(step.id.clone());
                bar
            });
            bar.set_length(u64::from(step.total));
            bar.set_position(u64::from(step.done));
            bar.set_message(clean(&message(step)).into_owned());
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
