//! `straas rollout …`: something that reaches many components batch by batch, and is turned back as a whole if one fails.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table, time, word};
use crate::routes::{self, Route};
use crate::whom;
use clap::{Args, Subcommand};
use straas_schemas::rollout::{
    BuildFile, FleetMember, FleetRollout, FleetRolloutKind, FleetRolloutRequest, FleetScope,
};

/// What to do with rollouts.
#[derive(Subcommand)]
pub enum Verb {
    /// Roll a commit of the script repo, or a build of the agent, out over many components.
    ///
    /// It reaches them in batches, whole components at a time; the next batch begins when every component of the one
    /// before works. If one fails, all that have begun get back what they had. Without names: your tenant's components.
    Start(Start),
    /// List rollouts, newest first.
    List {
        /// Only those that have not ended.
        #[arg(long)]
        open: bool,
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
    },
    /// Show a rollout with its components.
    Show {
        /// Its id.
        id: String,
    },
    /// Let no further component begin; those that have begun go on.
    Pause {
        /// Its id.
        id: String,
    },
    /// Go on with a rollout that was paused.
    Resume {
        /// Its id.
        id: String,
    },
    /// Take a rollout back: whoever has begun gets back what it had.
    Cancel {
        /// Its id.
        id: String,
    },
}

/// What to roll out, to whom, and how.
#[derive(Args)]
pub struct Start {
    /// The commit of the script repo; the newest if absent.
    #[arg(long, group = "what")]
    commit: Option<String>,
    /// A build of the agent: this file of the storage, CONTAINER/NAME. For administrators and operators.
    #[arg(long, value_name = "PATH", group = "what", requires = "region")]
    agent: Option<String>,
    /// The agent that came with each host's package, in the place of a build.
    #[arg(long, group = "what")]
    packaged_agent: bool,
    /// The region that the build is in.
    #[arg(long, requires = "agent")]
    region: Option<String>,
    /// The storage that the build is in; the only one if absent.
    #[arg(long, requires = "agent")]
    storage: Option<String>,
    /// To every component of this topology; may be given more than once.
    #[arg(long, group = "whom")]
    topology: Vec<String>,
    /// To this component, as TOPOLOGY/COMPONENT; may be given more than once.
    #[arg(long, group = "whom")]
    component: Vec<String>,
    /// To everybody's components.
    #[arg(long, group = "whom")]
    all_tenants: bool,
    /// Percent of the nodes that have it after each batch, rising to 100; 1,5,50,100 if absent.
    #[arg(long, value_name = "PERCENT", value_delimiter = ',')]
    batches: Option<Vec<u32>>,
    /// Watch each batch for so many seconds before the next begins.
    #[arg(long, value_name = "SECONDS")]
    soak: Option<u32>,
    /// Only show the batches; nothing is changed.
    #[arg(long)]
    dry_run: bool,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Start(start) => begin(&client, start, global).await,
        Verb::List { open, all_tenants } => {
            let asked = [("open", open), ("all_tenants", all_tenants)];
            let query: Vec<_> =
                asked.into_iter().filter(|asked| asked.1).map(|(key, _)| (key, "true".to_owned())).collect();
            let all: Vec<FleetRollout> = client.all(routes::ROLLOUTS, &[], &query).await?;
            print(global.format(), &all, |all| list(all))
        }
        Verb::Show { id } => {
            let rollout: FleetRollout = client.get(routes::ROLLOUT, &[&id]).await?;
            print(global.format(), &rollout, show)
        }
        Verb::Pause { id } => steer(&client, routes::ROLLOUT_PAUSE, &id, global).await,
        Verb::Resume { id } => steer(&client, routes::ROLLOUT_RESUME, &id, global).await,
        Verb::Cancel { id } => steer(&client, routes::ROLLOUT_CANCEL, &id, global).await,
    }
}

async fn begin(client: &Client, start: Start, global: &Global) -> Result<(), CliError> {
    let (scope, items) = if !start.topology.is_empty() {
        (Some(FleetScope::Topologies), Some(whom::topologies(client, &start.topology).await?))
    } else if !start.component.is_empty() {
        (Some(FleetScope::Components), Some(whom::components(client, &start.component).await?))
    } else {
        (None, None)
    };
    let file = match start.agent {
        None => None,
        Some(path) => {
            let Some((container, filename)) = path.split_once('/') else {
                return Err(CliError::Input(format!("{path} is not CONTAINER/NAME")));
            };
            let (container, filename) = (container.to_owned(), filename.to_owned());
            Some(BuildFile { storage: start.storage, region: start.region.unwrap_or_default(), container, filename })
        }
    };
    let agents = file.is_some() || start.packaged_agent;
    let request = FleetRolloutRequest {
        kind: if agents { FleetRolloutKind::Agents } else { FleetRolloutKind::Scripts },
        commit: start.commit,
        file,
        packaged: start.packaged_agent,
        all_tenants: start.all_tenants,
        scope,
        items,
        batches: start.batches,
        soak_s: start.soak,
    };
    let ask = Ask::new(routes::ROLLOUT_START, &[]).body(&request);
    if start.dry_run {
        let rollout: FleetRollout = client.call(ask.with("dry_run", "true")).await?;
        return print(global.format(), &rollout, |rollout| {
            format!("nothing was changed; it would go like this:\n{}{}", batches(rollout), members(&rollout.members))
        });
    }
    let rollout: FleetRollout = client.call(ask).await?;
    print(global.format(), &rollout, |rollout| {
        let (id, total) = (&rollout.id, rollout.total);
        match total {
            0 => format!("nothing to do: all have it already (rollout {id})"),
            _ => format!(
                "accepted: {total} components (rollout {id})\n{}see it with: straas rollout show {id}",
                batches(rollout)
            ),
        }
    })
}

/// Pauses, resumes or cancels, and says how the rollout stands then.
async fn steer(client: &Client, route: Route, id: &str, global: &Global) -> Result<(), CliError> {
    let rollout: FleetRollout = client.call(Ask::new(route, &[id])).await?;
    print(global.format(), &rollout, |rollout| format!("rollout {}: {}", rollout.id, word(&rollout.standing)))
}

fn list(all: &[FleetRollout]) -> String {
    let row = |rollout: &FleetRollout| {
        vec![
            rollout.id.clone(),
            word(&rollout.kind),
            format!("{:.10}", what(rollout)),
            word(&rollout.standing),
            format!("{}/{}", rollout.batch, rollout.batches.len()),
            format!("{}/{}", rollout.verified, rollout.total),
            time(rollout.created_ms),
            rollout.author.clone(),
            rollout.reason.clone().unwrap_or_default(),
        ]
    };
    let header = ["rollout", "kind", "what", "state", "batch", "verified", "created", "by", "reason"];
    table(&header, all.iter().map(row))
}

fn show(rollout: &FleetRollout) -> String {
    let (id, total, verified) = (&rollout.id, rollout.total, rollout.verified);
    let mut out = format!("rollout {id}  {} {}\n", word(&rollout.kind), what(rollout));
    if let Some(from) = &rollout.from {
        out.push_str(&format!("from {from}\n"));
    }
    out.push_str(&format!("{}; batch {}, {verified} of {total} verified\n", word(&rollout.standing), rollout.batch));
    if let Some(reason) = &rollout.reason {
        out.push_str(&format!("{reason}\n"));
    }
    out.push_str(&batches(rollout));
    out.push_str(&members(&rollout.members));
    out
}

/// What is rolled out: the commit, or the build.
fn what(rollout: &FleetRollout) -> &str {
    rollout.commit.as_deref().or(rollout.build.as_deref()).unwrap_or_default()
}

fn batches(rollout: &FleetRollout) -> String {
    let line = |(number, batch): (usize, &straas_schemas::rollout::FleetBatch)| {
        let (components, nodes, percent) = (batch.components, batch.nodes, batch.percent);
        format!("  batch {}: {components} components, {nodes} nodes (up to {percent} %)\n", number + 1)
    };
    rollout.batches.iter().enumerate().map(line).collect()
}

fn members(members: &[FleetMember]) -> String {
    let row = |member: &FleetMember| {
        vec![
            member.batch.to_string(),
            member.tenant.clone(),
            format!("{}/{}", member.topology_name, member.component_name),
            member.nodes.to_string(),
            word(&member.phase),
            member.job.as_ref().map(ToString::to_string).unwrap_or_default(),
            member.reason.clone().unwrap_or_default(),
        ]
    };
    table(&["batch", "tenant", "component", "nodes", "phase", "job", "reason"], members.iter().map(row))
}
