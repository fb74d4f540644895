//! `straas script …`: bring a commit of the script repo to nodes.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::{self, How, Rollout};
use crate::{find, routes};
use clap::{ArgGroup, Subcommand};
use straas_schemas::change::{SyncRequest, SyncScope};

/// What to do with scripts.
#[derive(Subcommand)]
pub enum Verb {
    /// Have nodes take up a commit of the script repo.
    ///
    /// Only what changed runs again, one node of each role first. Names of one kind, one or more:
    /// whole topologies, components (TOPOLOGY/COMPONENT), or single nodes.
    #[command(group(ArgGroup::new("scope").required(true).args(["topology", "component", "node"])))]
    Sync {
        /// Every component of this topology; may be given more than once.
        #[arg(long)]
        topology: Vec<String>,
        /// This component, as TOPOLOGY/COMPONENT; may be given more than once.
        #[arg(long)]
        component: Vec<String>,
        /// This node; may be given more than once.
        #[arg(long)]
        node: Vec<String>,
        /// The commit; the newest if absent.
        #[arg(long)]
        commit: Option<String>,
        #[command(flatten)]
        rollout: Rollout,
        #[command(flatten)]
        how: How,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let Verb::Sync { topology, component, node, commit, rollout, how } = verb;
    let mut items = Vec::new();
    let scope = if !topology.is_empty() {
        for name in &topology {
            items.push(find::topology(&client, name).await?.id.0);
        }
        SyncScope::Topologies
    } else if !component.is_empty() {
        for name in &component {
            let Some((of, name)) = name.split_once('/') else {
                return Err(CliError::Input(format!("{name} is not TOPOLOGY/COMPONENT")));
            };
            items.push(find::component(&client, of, name).await?.1.id.0);
        }
        SyncScope::Components
    } else {
        for name in &node {
            items.push(find::node(&client, name).await?.id.0);
        }
        SyncScope::Nodes
    };
    let request = SyncRequest { scope, items, commit, rollout: rollout.options() };
    mutation::send(&client, Ask::new(routes::SYNC, &[]).body(&request), how, global).await
}
