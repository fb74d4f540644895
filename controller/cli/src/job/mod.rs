//! `straas job …`: list, show, and watch live.
//!
//! How a job is followed is in `follow.rs`.

mod follow;

pub use follow::{Took, follow, held};

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, flag, given};
use crate::mutation;
use crate::output::{Format, duration, print, table, time, word};
use crate::routes::{self, Route};
use clap::Subcommand;
use follow::Followed;
use std::time::Duration;
use straas_schemas::job::{Job, JobStanding, NodeStep, Progress};
use straas_schemas::view::Page;

/// What to do with jobs.
#[derive(Subcommand)]
pub enum Verb {
    /// List jobs, newest first.
    List {
        /// Only of this topology (name or id), which may be gone.
        #[arg(long)]
        topology: Option<String>,
        /// Only of this component, as TOPOLOGY/COMPONENT.
        #[arg(long)]
        component: Option<String>,
        /// Only of this kind, e.g. create or upgrade.
        #[arg(long)]
        kind: Option<String>,
        /// Only those that stand so, e.g. running or failed.
        #[arg(long)]
        state: Option<String>,
        /// Only those that have not ended.
        #[arg(long)]
        open: bool,
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
    },
    /// Show a job with its steps and nodes.
    Show {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
    },
    /// Follow a job until it ends.
    ///
    /// On a terminal each step is a bar; elsewhere each event is a line. Exits with 0 when the job
    /// succeeded, with 7 when it ended otherwise or is held until somebody decides.
    Watch {
        /// Its id, or a topology's name for that topology's newest job.
        job: String,
        /// Stop following after so many seconds; the job goes on.
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
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
        Verb::List { topology, component, kind, state, open, all_tenants } => {
            // one that is gone has its name in its jobs only
            let there = match find::topology_id(&client, topology.as_deref()).await {
                Err(CliError::NotFound { .. }) => None,
                other => other?,
            };
            let query = given([
                ("topology", there),
                ("component", find::component_id(&client, component.as_deref()).await?),
                ("kind", kind),
                ("state", state),
                ("open", flag(open)),
                ("all_tenants", flag(all_tenants)),
            ]);
            let mut jobs = client.all::<Job>(routes::JOBS, &[], &query).await?;
            jobs.retain(|job| topology.as_ref().is_none_or(|name| is_of(job, name)));
            print(global.format(), &jobs, |items| list(items))
        }
        Verb::Show { job } => {
            let id = of(&client, &job).await?;
            let job: Job = client.get(routes::JOB, &[&id]).await?;
            print(global.format(), &job, show)
        }
        Verb::Watch { job, timeout } => {
            let id = of(&client, &job).await?;
            watch(&client, &id, None, timeout.map(Duration::from_secs), global.format()).await
        }
        Verb::Pause { job } => steer(&client, routes::JOB_PAUSE, &job, global).await,
        Verb::Resume { job } => steer(&client, routes::JOB_RESUME, &job, global).await,
        Verb::Cancel { job, dry_run: true, .. } => {
            let id = of(&client, &job).await?;
            let how = mutation::How { dry_run: true, ..mutation::How::default() };
            mutation::send(&client, Ask::new(routes::JOB_CANCEL, &[&id]), how, global).await
        }
        Verb::Cancel { job, wait, .. } => {
            let id = of(&client, &job).await?;
            if !wait {
                return steer(&client, routes::JOB_CANCEL, &id, global).await;
            }
            let begun: Job = client.call(Ask::new(routes::JOB_CANCEL, &[&id])).await?;
            let end = follow(&client, &id, Some(&begun), global.format(), held).await?;
            match end.job.standing {
                JobStanding::Cancelled => {
                    anstream::eprintln!("{}: cancelled", end.job.detail);
                    Ok(())
                }
                _ => finish(&end),
            }
        }
    }
}

/// Pauses, resumes or cancels, and says how the job stands then.
async fn steer(client: &Client, route: Route, job: &str, global: &Global) -> Result<(), CliError> {
    let id = of(client, job).await?;
    let job: Job = client.call(Ask::new(route, &[&id])).await?;
    print(global.format(), &job, |job| format!("{}: {} (job {})", job.detail, word(&job.standing), job.id))
}

fn is_of(job: &Job, topology: &str) -> bool {
    job.topology_name == topology || job.topology.as_str() == topology
}

/// The id of a job, or of the newest job of a topology, which may be gone.
async fn of(client: &Client, wanted: &str) -> Result<String, CliError> {
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

/// A job with its steps and nodes.
pub fn show(job: &Job) -> String {
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

/// How a node stands in a step, with the last lines of a run that failed.
pub fn node_line(node: &NodeStep) -> String {
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
    // what the script said to the agent is told above
    let said = |line: &&str| !line.starts_with("@straas ");
    for output in node.output_tail.lines().filter(said).rev().take(10).collect::<Vec<_>>().into_iter().rev() {
        line.push_str(&format!("\n    | {output}"));
    }
    line
}

/// Follows a job to its end, or until it is held; in the forms for programs its last picture is printed.
pub async fn watch(
    client: &Client,
    id: &str,
    begun: Option<&Job>,
    limit: Option<Duration>,
    format: Format,
) -> Result<(), CliError> {
    let following = follow(client, id, begun, format, held);
    let Some(limit) = limit else { return finish(&following.await?) };
    match tokio::time::timeout(limit, following).await {
        Ok(followed) => finish(&followed?),
        Err(_) => Err(CliError::Job {
            text: format!("job {id} has not ended within {}; it goes on", duration(limit.as_millis() as u64)),
            hint: Some(format!("straas job show {id}")),
        }),
    }
}

fn finish(followed: &Followed) -> Result<(), CliError> {
    let job = &followed.job;
    let took = job.finished_ms.map(|at| duration((at - job.created_ms).unsigned_abs())).unwrap_or_default();
    if job.standing == JobStanding::Succeeded {
        anstream::eprintln!("{} succeeded in {took}", job.detail);
        if let Some(text) = followed.took.slowest() {
            anstream::eprintln!("{text}");
        }
        return Ok(());
    }
    let id = &job.id;
    let (how, hint) = match (&followed.stopped, job.standing) {
        (Some(why), _) => {
            let hint = format!("straas job show {id}, then straas job resume {id} or straas job cancel {id}");
            (format!("is held: {why}"), hint)
        }
        (None, JobStanding::Superseded) => (
            format!("was superseded by a later request after {took}"),
            format!("straas job watch {}", job.topology_name),
        ),
        (None, other) => (format!("{} after {took}", word(&other)), format!("straas job show {id}")),
    };
    Err(CliError::Job { text: format!("{}: {how}", job.detail), hint: Some(hint) })
}
