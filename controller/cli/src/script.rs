//! `straas script …`: bring a commit of the script repo to nodes.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::{self, How, Rollout};
use crate::routes;
use crate::whom::Whom;
use clap::Subcommand;
use straas_schemas::change::SyncRequest;

/// What to do with scripts.
#[derive(Subcommand)]
pub enum Verb {
    /// Have nodes take up a commit of the script repo.
    ///
    /// Only what changed runs again, one node of each role first. Names of one kind, one or more:
    /// whole topologies, components (TOPOLOGY/COMPONENT), or single nodes.
    Sync {
        #[command(flatten)]
        whom: Whom,
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
    let Verb::Sync { whom, commit, rollout, how } = verb;
    let (scope, items) = whom.found(&client).await?;
    let request = SyncRequest { scope, items, commit, rollout: rollout.options() };
    mutation::send(&client, Ask::new(routes::SYNC, &[]).body(&request), how, global).await
}
