//! `straas node …`

use crate::Global;
use crate::client::Client;
use crate::error::CliError;
use crate::output::{duration, print, table, time, word};
use crate::topology::find;
use clap::Subcommand;
use straas_schemas::view::{NodeView, Why};

/// What to do with nodes.
#[derive(Subcommand)]
pub enum Verb {
    /// List nodes.
    List {
        /// Only of this topology (name or id).
        #[arg(long)]
        topology: Option<String>,
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
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { topology } => {
            let query = match topology {
                Some(name) => format!("?topology={}", find(&client, &name).await?.id),
                None => String::new(),
            };
            print(global.output, &client.all::<NodeView>(&format!("/nodes{query}")).await?, |items| list(items))
        }
        Verb::Show { node } => print(global.output, &one(&client, &node).await?, show),
        Verb::Why { node } => print(global.output, &one(&client, &node).await?.why, why),
    }
}

async fn one(client: &Client, wanted: &str) -> Result<NodeView, CliError> {
    if straas_schemas::ids::is_id(wanted) {
        match client.get(&format!("/nodes/{wanted}")).await {
            Err(error) if Client::is_missing(&error) => {}
            other => return other,
        }
    }
    let missing = || CliError::NotFound { text: format!("there is no node {wanted}"), hint: "straas node list" };
    client.all::<NodeView>("/nodes").await?.into_iter().find(|n| n.name == wanted).ok_or_else(missing)
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
    line(
        "heard",
        format!(
            "{}{}",
            word(&node.liveness),
            node.seen_ms.map(|ms| format!(", last {}", time(ms))).unwrap_or_default()
        ),
    );
    line("service", word(&node.service));
    line("agent", node.agent_version.clone().unwrap_or_else(|| "-".into()));
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
