//! Follows a job while it goes on: a bar for each step on a terminal, a line for each event elsewhere.
//!
//! What its scripts took is told from what was new: a picture shows every stage a node has been
//! through, also those of earlier jobs.

use super::{node_line, show};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{Format, clean, duration, print, word};
use crate::routes;
use crate::sse::{self, Heard};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use straas_schemas::job::{Job, JobKind, JobStanding, Progress, Step};
use straas_schemas::view::Event;

/// What became of a job while it was followed.
pub struct Followed {
    /// Its last picture.
    pub job: Job,
    /// What its scripts took.
    pub took: Took,
    /// Why it was not followed to its end.
    pub stopped: Option<String>,
}

/// Follows a job until it has ended, or until `stop` says why there is no point in going on. `begun`
/// is its first picture, if that is at hand.
pub async fn follow(
    client: &Client,
    id: &str,
    begun: Option<&Job>,
    format: Format,
    mut stop: impl FnMut(&Job) -> Option<String>,
) -> Result<Followed, CliError> {
    let mut display: Box<dyn Display> =
        if std::io::stderr().is_terminal() { Box::new(Bars::default()) } else { Box::new(Lines::default()) };
    let mut first = Durations::new();
    begun.into_iter().for_each(|job| note(job, &mut first));
    sse::follow(client, routes::JOB_EVENTS, id, "the job", |event| {
        match event.kind.as_str() {
            "job" => {
                let Ok(job) = serde_json::from_str::<Job>(&event.data) else { return Ok(Heard::Nothing) };
                note(&job, &mut first);
                display.job(&job);
                let stopped = stop(&job);
                if !job.standing.is_final() && stopped.is_none() {
                    return Ok(Heard::More);
                }
                if format != Format::Table {
                    print(format, &job, show)?;
                }
                let took = Took::of(&job, &first);
                return Ok(Heard::End(Followed { job, took, stopped }));
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

/// Why a job that waits for somebody's decision need not be followed.
pub fn held(job: &Job) -> Option<String> {
    let failing = || {
        let nodes = job.steps.iter().flat_map(|step| step.nodes.iter().map(move |node| (step, node)));
        let failing = nodes.filter(|(_, node)| node.progress == Progress::Retrying);
        let each: Vec<String> =
            failing.map(|(step, node)| format!("{} fails {}: {}", node.name, step.stage.name(), node.detail)).collect();
        if each.is_empty() { "too many nodes failed".to_owned() } else { each.join("; ") }
    };
    (job.standing == JobStanding::Held).then(failing)
}

/// By step and node.
type Durations = BTreeMap<(String, String), Option<u64>>;

/// Notes what a stage had taken on a node when it was first seen there: a run of an earlier job.
fn note(job: &Job, first: &mut Durations) {
    for step in &job.steps {
        for node in &step.nodes {
            first.entry((step.id.clone(), node.name.clone())).or_insert(node.duration_ms);
        }
    }
}

/// What the scripts of a job took, by node: what no controller could have saved. The rest is hosts,
/// enrolment, waiting for others, and what the software itself needs to come up.
#[derive(Debug, Default)]
pub struct Took(BTreeMap<String, Vec<(&'static str, u64)>>);

impl Took {
    fn of(job: &Job, first: &Durations) -> Self {
        let mut out = Self::default();
        for step in &job.steps {
            for node in &step.nodes {
                let Some(ms) = node.duration_ms else { continue };
                let before = first.get(&(step.id.clone(), node.name.clone()));
                if job.kind == JobKind::Create || before != Some(&Some(ms)) {
                    out.0.entry(node.name.clone()).or_default().push((step.stage.name(), ms));
                }
            }
        }
        out
    }

    /// In all, by node, in ms.
    pub fn by_node(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(node, stages)| (node.clone(), sum(stages))).collect()
    }

    /// Where they took longest, in words.
    pub fn slowest(&self) -> Option<String> {
        let (name, stages) = self.0.iter().max_by_key(|(_, stages)| sum(stages))?;
        let each: Vec<String> = stages.iter().map(|(stage, ms)| format!("{stage} {}", duration(*ms))).collect();
        Some(format!("its scripts took {} on {name}, the slowest node: {}", duration(sum(stages)), each.join(", ")))
    }
}

fn sum(stages: &[(&str, u64)]) -> u64 {
    stages.iter().map(|(_, ms)| ms).sum()
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
