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
        let mut items = Vec::new();
        if !self.topology.is_empty() {
            for name in &self.topology {
                items.push(find::topology(client, name).await?.id.0);
            }
            return Ok((Scope::Topologies, items));
        }
        if !self.component.is_empty() {
            for name in &self.component {
                let Some((of, name)) = name.split_once('/') else {
                    return Err(CliError::Input(format!("{name} is not TOPOLOGY/COMPONENT")));
                };
                items.push(find::component(client, of, name).await?.1.id.0);
            }
            return Ok((Scope::Components, items));
        }
        for name in &self.node {
            items.push(find::node(client, name).await?.id.0);
        }
        Ok((Scope::Nodes, items))
    }
}
