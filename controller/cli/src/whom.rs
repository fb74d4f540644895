//! Whom a request is about that may be about many: topologies, components or nodes, by their names.

use crate::client::Client;
use crate::error::CliError;
use crate::find;
use clap::Args;
use straas_schemas::change::Scope;

/// Names of one kind, one or more.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// Every component of this topology; may be given more than once.
    #[arg(long)]
    topology: Vec<String>,
    /// This component, as TOPOLOGY/COMPONENT; may be given more than once.
    #[arg(long)]
    component: Vec<String>,
    /// This node; may be given more than once.
    #[arg(long)]
    node: Vec<String>,
}

impl Whom {
    /// What they are, and their ids.
    pub async fn found(&self, client: &Client) -> Result<(Scope, Vec<String>), CliError> {
        if !self.topology.is_empty() {
            return Ok((Scope::Topologies, topologies(client, &self.topology).await?));
        }
        if !self.component.is_empty() {
            return Ok((Scope::Components, components(client, &self.component).await?));
        }
        let mut items = Vec::new();
        for name in &self.node {
            items.push(find::node(client, name).await?.id.0);
        }
        Ok((Scope::Nodes, items))
    }
}

/// The ids of topologies.
pub async fn topologies(client: &Client, names: &[String]) -> Result<Vec<String>, CliError> {
    let mut items = Vec::new();
    for name in names {
        items.push(find::topology(client, name).await?.id.0);
    }
    Ok(items)
}

/// The ids of components, called TOPOLOGY/COMPONENT.
pub async fn components(client: &Client, names: &[String]) -> Result<Vec<String>, CliError> {
    let mut items = Vec::new();
    for name in names {
        items.extend(find::component_id(client, Some(name)).await?);
    }
    Ok(items)
}
