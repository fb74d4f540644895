//! `straas component health` and `flavors`: what a health check found, and which sizes there are.

use super::Which;
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table};
use crate::{find, routes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use straas_schemas::health::HealthStatus;
use straas_schemas::metadata::Flavor;

/// What was found.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// NODE=STATUS, with a status of ACTIVE, INACTIVE, SKIPPED or UNREACHABLE; one or more.
    #[arg(required = true, value_name = "NODE=STATUS")]
    found: Vec<String>,
}

/// Writes it.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let mut said: BTreeMap<&str, HealthStatus> = BTreeMap::new();
    for word in &args.found {
        let wrong =
            || CliError::Input(format!("{word} is not NODE=STATUS; statuses are ACTIVE INACTIVE SKIPPED UNREACHABLE"));
        let (node, status) = word.split_once('=').ok_or_else(wrong)?;
        let status = HealthStatus::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(status));
        said.insert(node, status.ok_or_else(wrong)?);
    }
    let id = find::component(&client, &args.which.topology, &args.which.component).await?.1.id;
    client.call::<()>(Ask::new(routes::STATUS, &[id.as_str()]).body(&said)).await?;
    print(global.format(), &said, |said| format!("written of {} nodes", said.len()))
}

/// Sizes of hosts of a component type.
#[derive(Debug, Serialize, Deserialize)]
struct Flavors {
    #[serde(rename = "type")]
    kind: String,
    default: String,
    flavors: BTreeMap<String, Flavor>,
}

/// Lists them.
pub async fn flavors(kind: &str, global: &Global) -> Result<(), CliError> {
    let found: Flavors = Client::new(global)?.get(routes::FLAVORS, &[kind]).await?;
    print(global.format(), &found, |found| {
        let row = |(name, f): (&String, &Flavor)| {
            let mark = if *name == found.default { format!("{name} (default)") } else { name.clone() };
            vec![mark, f.memory_mib.to_string(), f.vcpus.to_string(), f.disk_gib.to_string()]
        };
        table(&["flavor", "memory MiB", "vcpus", "disk GiB"], found.flavors.iter().map(row))
    })
}
