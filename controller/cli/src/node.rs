//! `straas node …`

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, flag, given};
use crate::mutation::{self, Held};
use crate::output::{duration, print, table, time, word};
use crate::routes::{self, Route};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::Value;
use straas_schemas::history::NodeAsOf;
use straas_schemas::report::ReportBody;
use straas_schemas::view::{NodeView, Why};

/// What to do with nodes.
#[derive(Subcommand)]
pub enum Verb {
    /// List nodes.
    List {
        /// Only of this topology (name or id).
        #[arg(long)]
        topology: Option<String>,
        /// Only of this component, as TOPOLOGY/COMPONENT.
        #[arg(long)]
        component: Option<String>,
        /// Only of this role.
        #[arg(long)]
        role: Option<String>,
        /// Only those whose services are active, inactive or unknown.
        #[arg(long)]
        status: Option<String>,
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
    },
    /// Show a node.
    Show {
        /// Name or id.
        node: String,
    },
    /// Say what a node waits for, with the evidence.
    Why {
        /// Name or id.
        node: String,
    },
    /// Show what a node was told, had run and had reported at a time.
    History {
        /// Name or id.
        node: String,
        /// The time, like 2026-01-31T08:00:00Z; now if absent.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
        /// Most reports to show.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: Option<u32>,
    },
    /// List where agents show their metrics; -o json is what Prometheus reads.
    Targets {
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
    },
    /// Give a node a new host: same name, settings and place in its component.
    ///
    /// The old host is destroyed; the data comes back by the component's own replication.
    Replace(Change),
    /// Start the services of a node that was stopped.
    Start(Change),
    /// Stop the services of a node; they stay stopped over reboots and changes until started.
    Stop(Change),
    /// Restart the services of a node, once the others can do without it.
    Restart(Change),
    /// Take nodes out of their component (flexdown): their work is moved away first, then their hosts go.
    ///
    /// Several of one role leave together, as a component needs it whose size has to be odd.
    Remove {
        /// Names or ids.
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        how: Held,
    },
}

/// A change of one node.
#[derive(clap::Args)]
pub struct Change {
    /// Name or id.
    node: String,
    #[command(flatten)]
    how: Held,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { topology, component, role, status, all_tenants } => {
            let query = given([
                ("topology", find::topology_id(&client, topology.as_deref()).await?),
                ("component", find::component_id(&client, component.as_deref()).await?),
                ("role", role),
                ("status", status),
                ("all_tenants", flag(all_tenants)),
            ]);
            let all = client.all::<NodeView>(routes::NODES, &[], &query).await?;
            print(global.format(), &all, |items| list(items))
        }
        Verb::Show { node } => print(global.format(), &find::node(&client, &node).await?, show),
        Verb::Why { node } => print(global.format(), &find::node(&client, &node).await?.why, why),
        Verb::History { node, at, limit } => {
            let node = find::node(&client, &node).await?;
            let mut ask = Ask::new(routes::NODE_HISTORY, &[node.id.as_str()]);
            if let Some(at) = at {
                ask = ask.with("at_ms", at.as_millisecond().to_string());
            }
            if let Some(limit) = limit {
                ask = ask.with("limit", limit.to_string());
            }
            print(global.format(), &client.call::<NodeAsOf>(ask).await?, as_of)
        }
        Verb::Targets { all_tenants } => targets(&client, all_tenants, global).await,
        Verb::Replace(change) => apply(&client, routes::REPLACE, change, global).await,
        Verb::Start(change) => apply(&client, routes::NODE_START, change, global).await,
        Verb::Stop(change) => apply(&client, routes::NODE_STOP, change, global).await,
        Verb::Restart(change) => apply(&client, routes::NODE_RESTART, change, global).await,
        Verb::Remove { nodes, how } => {
            let mut ids = Vec::new();
            for name in &nodes {
                ids.push(find::node(&client, name).await?.id.0);
            }
            let (first, others) = ids.split_first().ok_or_else(|| CliError::Input("name a node".into()))?;
            let mut ask = Ask::new(routes::FLEXDOWN, &[first]);
            if !others.is_empty() {
                ask = ask.with("with", others.join(","));
            }
            mutation::send(&client, ask, how, global).await
        }
    }
}

async fn targets(client: &Client, all_tenants: bool, global: &Global) -> Result<(), CliError> {
    let mut ask = Ask::new(routes::DISCOVERY, &[]);
    if all_tenants {
        ask = ask.with("all_tenants", "true");
    }
    let found: Vec<Value> = client.call(ask).await?;
    print(global.format(), &found, |found| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |group: &Value| {
            let labels = &group["labels"];
            vec![text(&labels["node"]), text(&group["targets"][0]), text(&labels["topology"]), text(&labels["role"])]
        };
        table(&["node", "target", "topology", "role"], found.iter().map(row))
    })
}

async fn apply(client: &Client, route: Route, change: Change, global: &Global) -> Result<(), CliError> {
    let node = find::node(client, &change.node).await?;
    mutation::send(client, Ask::new(route, &[node.id.as_str()]), change.how, global).await
}

fn as_of(then: &NodeAsOf) -> String {
    let mut text = format!("at {}\n", time(then.at_ms));
    match &then.told {
        None => text.push_str("it was told nothing that is kept\n"),
        Some(told) => text.push_str(&format!(
            "told generation {} at {}: version {}, configuration {:.10}, scripts {:.10}, services {}; it had confirmed {}\n",
            told.generation,
            time(told.written_ms),
            told.version,
            told.config,
            told.scripts,
            word(&told.lifecycle),
            then.converged_generation,
        )),
    }
    let stages = then.stages.iter().map(|run| {
        let result = &run.result;
        let (stage, outcome) = (result.stage.to_string(), word(&result.outcome));
        vec![time(run.received_ms), stage, result.generation.to_string(), outcome, result.reason.clone()]
    });
    text.push_str(&table(&["last run", "stage", "generation", "outcome", "reason"], stages));
    let reports = then.reports.iter().map(|kept| {
        let of = format!("{}/{}", kept.incarnation, kept.report.seq);
        vec![time(kept.received_ms), of, said(&kept.report.body)]
    });
    text.push('\n');
    text.push_str(&table(&["received", "incarnation/report", "what"], reports));
    text
}

/// A report in one line.
fn said(body: &ReportBody) -> String {
    match body {
        ReportBody::Stage(result) => format!("{} {}", result.stage, word(&result.outcome)),
        ReportBody::Converged { generation } => format!("holds generation {generation}"),
        ReportBody::Refused { offered, reason, .. } => format!("refused generation {offered}: {reason}"),
        ReportBody::Command(end) => format!("command {} {}", end.id, word(&end.outcome)),
        ReportBody::Drift(found) => format!("{} resources are not as configured", found.total),
        ReportBody::LedgerLost { reason } => format!("its ledger was damaged: {reason}"),
    }
}

fn list(items: &[NodeView]) -> String {
    let rows = items.iter().map(|n| {
        vec![
            n.name.clone(),
            n.component_name.clone(),
            n.role.clone(),
            n.address.clone().unwrap_or_else(|| "-".into()),
            word(&n.liveness),
            word(&n.service),
            format!("{}/{}", n.converged_generation, n.generation),
            n.why.text.clone(),
        ]
    });
    table(&["node", "component", "role", "address", "heard", "service", "holds", "why"], rows)
}

fn show(node: &NodeView) -> String {
    let mut out = format!("node {}  id {}\n", node.name, node.id);
    let mut line = |name: &str, value: String| out.push_str(&format!("  {name:<12} {value}\n"));
    line("component", format!("{} ({} {})", node.component_name, node.role, node.version));
    line("address", node.address.clone().unwrap_or_else(|| "-".into()));
    if let Some(domain) = &node.fault_domain {
        line("fault domain", domain.clone());
    }
    line(
        "heard",
        format!(
            "{}{}",
            word(&node.liveness),
            node.seen_ms.map(|ms| format!(", last {}", time(ms))).unwrap_or_default()
        ),
    );
    line("service", format!("{} (should be {})", word(&node.service), word(&node.lifecycle)));
    if let Some(health) = &node.health {
        line("health", format!("{}, found {} by {}", word(&health.status), time(health.at_ms), health.source));
    }
    for file in &node.files {
        line("file", format!("{} ({} bytes, {:.12})", file.path, file.size, file.sha256.as_str()));
    }
    if let Some(drift) = &node.drift {
        let found = if drift.resources.is_empty() { "none".to_owned() } else { drift.resources.join(", ") };
        line("drift", found);
    }
    line("agent", node.agent_version.clone().unwrap_or_else(|| "-".into()));
    if let Some(agent) = &node.agent {
        let trial = if agent.trial { ", on trial" } else { "" };
        line("build", format!("{}{trial}", straas_schemas::build::name(agent.sha256.as_ref())));
        if let Some(coming) = &agent.coming {
            line("next build", coming.clone());
        }
        if let Some(refused) = &agent.refused {
            let build = straas_schemas::build::name(refused.sha256.as_ref());
            line("refused", format!("{build}: {}", refused.reason));
        }
    }
    line("generation", format!("holds {} of {}", node.converged_generation, node.generation));
    if let Some(vitals) = &node.vitals {
        let mib = |bytes: u64| bytes >> 20;
        line(
            "load",
            format!(
                "{:.2} {:.2} {:.2}, cpu {:.0} %",
                vitals.load[0], vitals.load[1], vitals.load[2], vitals.cpu_percent
            ),
        );
        line("memory", format!("{} of {} MiB available", mib(vitals.memory_available), mib(vitals.memory_total)));
        line(
            "agent uses",
            format!(
                "{} MiB resident, {} ms of cpu in {} s",
                mib(vitals.agent.resident),
                vitals.agent.cpu_ms,
                vitals.agent.uptime_s
            ),
        );
    }
    for (name, value) in &node.facts {
        line("fact", format!("{name} = {value}"));
    }
    for (stage, result) in &node.stages {
        line(
            "stage",
            format!("{stage}: {} (attempt {}, {})", result.return_value, result.attempt, duration(result.duration_ms)),
        );
    }
    out.push_str(&why(&node.why));
    out
}

fn why(why: &Why) -> String {
    let mut out = format!("{}: {}\n", word(&why.cause), why.text);
    // what has many lines comes last
    let (short, long): (Vec<_>, Vec<_>) = why.evidence.iter().partition(|(_, value)| !value.trim_end().contains('\n'));
    for (name, value) in short.into_iter().chain(long) {
        let value = if name.ends_with("_ms") {
            value.parse().map_or_else(|_| value.clone(), time)
        } else {
            value.trim_end().replace('\n', "\n    ")
        };
        let gap = if value.contains('\n') { "\n    " } else { " " };
        out.push_str(&format!("  {}:{gap}{value}\n", name.trim_end_matches("_ms").replace('_', " ")));
    }
    out
}
