//! `straas topology …`

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, flag, given};
use crate::mutation::{self, Held, How};
use crate::output::{duration, print, table, time, word};
use crate::routes;
use clap::Subcommand;
use std::path::PathBuf;
use straas_schemas::Lifecycle;
use straas_schemas::Stage;
use straas_schemas::view::{ComponentView, NodeView, TopologyView};

/// What to do with topologies.
#[derive(Subcommand)]
pub enum Verb {
    /// Create a topology from a file, or a single component from flags.
    Create {
        /// Its name.
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// A file with the request in JSON or YAML; `-` for standard input.
        #[arg(short, long, conflicts_with_all = ["name", "kind"])]
        file: Option<PathBuf>,
        /// Availability zone.
        #[arg(long, default_value = "local", conflicts_with = "file")]
        az: String,
        /// Type of its one component.
        #[arg(long = "type", default_value = "zookeeper")]
        kind: String,
        /// Version of the component; the type's default if absent.
        #[arg(long = "component-version", conflicts_with = "file")]
        version: Option<String>,
        /// Number of nodes; the type's default if absent.
        #[arg(long, conflicts_with = "file")]
        size: Option<u32>,
        #[command(flatten)]
        how: How,
    },
    /// List topologies.
    List {
        /// Only of this name.
        #[arg(long)]
        name: Option<String>,
        /// Only in this availability zone.
        #[arg(long)]
        az: Option<String>,
        /// Only those with this status, e.g. ACTIVE.
        #[arg(long)]
        status: Option<String>,
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
    },
    /// Show a topology with its nodes.
    Show {
        /// Name or id.
        topology: String,
    },
    /// Delete a topology with everything in it.
    Delete {
        /// Name or id.
        topology: String,
        #[command(flatten)]
        how: Held,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Create { name, file, az, kind, version, size, how } => {
            let body = match file {
                Some(path) => read(&path)?,
                None => simple(name.as_deref().unwrap_or_default(), &az, &kind, version, size),
            };
            mutation::send(&client, Ask::new(routes::CREATE, &[]).body(&body), how, global).await
        }
        Verb::List { name, az, status, all_tenants } => {
            let query = given([
                ("name", name),
                ("availability_zone", az),
                ("status", status),
                ("all_tenants", flag(all_tenants)),
            ]);
            let all = client.all::<TopologyView>(routes::TOPOLOGIES, &[], &query).await?;
            print(global.format(), &all, |items| list(items))
        }
        Verb::Show { topology } => print(global.format(), &find::topology(&client, &topology).await?, show),
        Verb::Delete { topology, how } => {
            let id = find::topology(&client, &topology).await?.id;
            mutation::send(&client, Ask::new(routes::DELETE, &[id.as_str()]), how, global).await
        }
    }
}

/// A request from a file in JSON or YAML.
pub fn read(path: &PathBuf) -> Result<serde_json::Value, CliError> {
    let text =
        if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|e| CliError::Local(format!("cannot read {}: {e}", path.display())))?;
    let bad = |what: &str, e: &dyn std::fmt::Display| CliError::Input(format!("{} is not {what}: {e}", path.display()));
    if text.trim_start().starts_with(['{', '[']) {
        return serde_json::from_str(&text).map_err(|e| bad("JSON", &e));
    }
    serde_saphyr::from_str(&text).map_err(|e| bad("YAML", &e))
}

fn simple(name: &str, az: &str, kind: &str, version: Option<String>, size: Option<u32>) -> serde_json::Value {
    let short = if kind == "zookeeper" { "zk" } else { kind };
    let mut component = serde_json::json!({ "name": short, "type": kind });
    if let Some(version) = version {
        component["version"] = version.into();
    }
    if let Some(size) = size {
        component["size"] = size.into();
    }
    serde_json::json!({ "name": name, "availability_zone": az, "components": [component] })
}

fn list(items: &[TopologyView]) -> String {
    let rows = items.iter().map(|t| {
        let nodes: usize = t.components.iter().map(|c| c.nodes.len()).sum();
        let kinds: Vec<String> = t.components.iter().map(|c| format!("{}:{}", c.name, c.kind)).collect();
        vec![
            t.name.clone(),
            t.availability_zone.clone(),
            word(&t.status),
            kinds.join(" "),
            nodes.to_string(),
            time(t.created_ms),
        ]
    });
    table(&["name", "zone", "status", "components", "nodes", "created"], rows)
}

fn show(topology: &TopologyView) -> String {
    let mut out = format!(
        "topology {}  zone {}  {}  branch {}  id {}\n",
        topology.name,
        topology.availability_zone,
        word(&topology.status),
        topology.branch,
        topology.id
    );
    for component in &topology.components {
        out.push_str(&format!(
            "\ncomponent {}  {} {}  {}\n",
            component.name,
            component.kind,
            component.version,
            word(&component.status)
        ));
        out.push_str(&rollout(component));
        out.push_str(&nodes(component));
        out.push('\n');
    }
    out
}

/// A line for the change that is under way, if one is.
pub fn rollout(component: &ComponentView) -> String {
    let Some(rollout) = &component.rollout else { return String::new() };
    let mut line = format!("rollout {}: {} of {} nodes", word(&rollout.phase), rollout.done, rollout.total);
    if !rollout.canaries.is_empty() {
        line.push_str(&format!("; first {}", rollout.canaries.join(", ")));
    }
    if !rollout.failed.is_empty() {
        line.push_str(&format!("; failed {}", rollout.failed.join(", ")));
    }
    if let Some(reason) = &rollout.reason {
        line.push_str(&format!("; {reason}"));
    }
    format!("{line} (job {})\n", rollout.job)
}

/// The nodes of a component as a table.
pub fn nodes(component: &ComponentView) -> String {
    table(
        &["node", "address", "service", "mode", "agent", "install", "pre_config", "config", "validate", "why"],
        component.nodes.iter().map(row),
    )
}

fn row(node: &NodeView) -> Vec<String> {
    let stage = |stage: Stage| {
        let result = node.stages.get(&stage);
        result.map_or_else(
            || "-".to_owned(),
            |r| if r.return_value.ends_with("SUCCESS") { duration(r.duration_ms) } else { word(&r.outcome) },
        )
    };
    let fact = node.facts.get("mode").and_then(|v| v.as_str()).unwrap_or("-");
    vec![
        node.name.clone(),
        node.address.clone().unwrap_or_else(|| "-".into()),
        if node.lifecycle == Lifecycle::Stopped { "stopped".into() } else { word(&node.service) },
        fact.to_owned(),
        node.agent_version.clone().unwrap_or_else(|| "-".into()),
        stage(Stage::Install),
        stage(Stage::PreConfig),
        stage(Stage::Config),
        stage(Stage::Validate),
        node.why.text.clone(),
    ]
}
