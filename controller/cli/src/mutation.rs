//! What all changes have in common: predict, do, follow.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::job;
use crate::output::print;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use straas_schemas::change::RolloutOptions;
use straas_schemas::job::Job;
use straas_schemas::view::DryRun;

/// How to go about a change.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct How {
    /// Only show what would be done; nothing is changed.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it is done, showing progress; exits with 7 if it does not succeed.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// With --wait: stop waiting after so many seconds; what was asked for goes on.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

/// How to go about a change of something that is there, and may have been changed by somebody else.
#[derive(Args, Clone, Debug, Default)]
pub struct Held {
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    seen: Seen,
}

/// What was seen of what is changed.
#[derive(Args, Clone, Debug, Default)]
pub struct Seen {
    /// Only if nobody changed it since it had this ETag (straas etag); exits with 4 if somebody did.
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
}

impl From<How> for Held {
    fn from(how: How) -> Self {
        Self { how, seen: Seen::default() }
    }
}

/// How a change reaches the nodes.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Rollout {
    /// One node of each role goes first and has to work before the others follow.
    #[arg(long, overrides_with = "no_canary")]
    canary: bool,
    /// No node goes first.
    #[arg(long, overrides_with = "canary")]
    no_canary: bool,
    /// Hold the change once so many nodes fail.
    #[arg(long, value_name = "N")]
    max_failures: Option<u32>,
}

impl Rollout {
    /// As the API has it; nothing if nothing was said.
    pub fn options(self) -> Option<RolloutOptions> {
        let canary = match (self.canary, self.no_canary) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let options = RolloutOptions { canary, max_failures: self.max_failures };
        (options != RolloutOptions::default()).then_some(options)
    }
}

/// What a change is answered with.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Answer {
    /// A job for each component.
    Several { jobs: Vec<Job> },
    /// One job; none if everything is so already.
    One { id: String, job: Option<Job> },
}

/// Sends a change, or asks what it would do; then follows its job if that is wanted.
pub async fn send(client: &Client, ask: Ask<'_>, held: impl Into<Held>, global: &Global) -> Result<(), CliError> {
    let Held { how, seen } = held.into();
    let ask = ask.if_seen(seen.if_match.as_deref());
    if how.dry_run {
        let answer: DryRun = client.call(ask.with("dry_run", "true")).await?;
        return print(global.format(), &answer, predicted);
    }
    let answer: Answer = client.call(ask).await?;
    let jobs: Vec<&Job> = match &answer {
        Answer::Several { jobs } => jobs.iter().collect(),
        Answer::One { job, .. } => job.iter().collect(),
    };
    if how.wait && !jobs.is_empty() {
        for job in jobs {
            let limit = how.timeout.map(Duration::from_secs);
            job::watch(client, job.id.as_str(), Some(job), limit, global.format()).await?;
        }
        return Ok(());
    }
    print(global.format(), &answer, |_| {
        if jobs.is_empty() {
            return "nothing to do: it is so already".to_owned();
        }
        let one = jobs.len() == 1;
        let lines = jobs.iter().map(|job| {
            let name = if one { job.topology_name.as_str() } else { job.id.as_str() };
            format!("accepted: {} (job {})\nfollow it with: straas job watch {name}", job.detail, job.id)
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn predicted(answer: &DryRun) -> String {
    let mut out = String::new();
    let mut part = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("{title}\n  {}\n", lines.join("\n  ")));
        }
    };
    part("changes:", answer.changes.clone());
    part("nothing was changed; this would be done:", answer.steps.clone());
    part("nodes:", answer.nodes.iter().map(|(name, why)| format!("{name}: {}", why.join("; "))).collect());
    if answer.steps.is_empty() {
        out.push_str("nothing was changed, and nothing would be: no node would run anything again\n");
    }
    out
}
