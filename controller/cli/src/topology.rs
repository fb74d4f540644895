//! `straas topology …`

use crate::client::Client;
use crate::error::CliError;
use crate::output::{duration, print, table, time, word};
use crate::{Global, job};
use clap::Subcommand;
use std::path::PathBuf;
use straas_schemas::Stage;
use straas_schemas::view::{Accepted, ComponentView, DryRun, NodeView, Page, TopologyView};

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
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Wait until it works, showing progress.
        #[arg(long)]
        wait: bool,
    },
    /// List topologies.
    List,
    /// Show a topology with its nodes.
    Show {
        /// Name or id.
        topology: String,
    },
    /// Delete a topology with everything in it.
    Delete {
        /// Name or id.
        topology: String,
        /// Only show what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Wait until nothing of it is left, showing progress.
        #[arg(long)]
        wait: bool,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Create { name, file, az, kind, version, size, dry_run, wait } => {
            let body = match file {
                Some(path) => read(&path)?,
                None => simple(name.as_deref().unwrap_or_default(), &az, &kind, version, size),
            };
            if dry_run {
                let answer: DryRun = client.post("/topologies?dry_run=true", &body).await?;
                return print(global.output, &answer, dry);
            }
            follow(&client, client.post("/topologies", &body).await?, global, wait).await
        }
        Verb::List => print(global.output, &client.all::<TopologyView>("/topologies").await?, |items| list(items)),
        Verb::Show { topology } => {
            let found = find(&client, &topology).await?;
            print(global.output, &found, show)
        }
        Verb::Delete { topology, dry_run, wait } => {
            let id = find(&client, &topology).await?.id;
            if dry_run {
                let answer: DryRun = client.delete(&format!("/topologies/{id}?dry_run=true")).await?;
                return print(global.output, &answer, dry);
            }
            follow(&client, client.delete(&format!("/topologies/{id}")).await?, global, wait).await
        }
    }
}

async fn follow(client: &Client, accepted: Accepted, global: &Global, wait: bool) -> Result<(), CliError> {
    if wait {
        return job::watch(client, accepted.job.id.as_str(), global.output).await;
    }
    print(global.output, &accepted, |a| {
        format!(
            "accepted: {} (job {})\nfollow it with: straas job watch {}",
            a.job.detail, a.job.id, a.job.topology_name
        )
    })
}

fn read(path: &PathBuf) -> Result<serde_json::Value, CliError> {
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

/// The topology of a name or an id.
pub async fn find(client: &Client, wanted: &str) -> Result<TopologyView, CliError> {
    if straas_schemas::ids::is_id(wanted) {
        match client.get(&format!("/topologies/{wanted}")).await {
            Err(error) if Client::is_missing(&error) => {}
            other => return other,
        }
    }
    let mut marker = String::new();
    loop {
        let page: Page<TopologyView> = client.get(&format!("/topologies?limit=100{marker}")).await?;
        if let Some(found) = page.items.into_iter().find(|t| t.name == wanted || t.branch == wanted) {
            return Ok(found);
        }
        let Some(next) = page.next else {
            return Err(CliError::NotFound {
                text: format!("there is no topology {wanted}"),
                hint: "straas topology list",
            });
        };
        marker = format!("&marker={next}");
    }
}

fn dry(answer: &DryRun) -> String {
    let nodes =
        answer.nodes.iter().map(|(name, why)| format!("  {name}: {}", why.join("; "))).collect::<Vec<_>>().join("\n");
    format!("nothing was changed; this would be done:\n  {}\nnodes:\n{nodes}", answer.steps.join("\n  "))
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
        out.push_str(&nodes(component));
        out.push('\n');
    }
    out
}

fn nodes(component: &ComponentView) -> String {
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
        word(&node.service),
        fact.to_owned(),
        node.agent_version.clone().unwrap_or_else(|| "-".into()),
        stage(Stage::Install),
        stage(Stage::PreConfig),
        stage(Stage::Config),
        stage(Stage::Validate),
        node.why.text.clone(),
    ]
}
