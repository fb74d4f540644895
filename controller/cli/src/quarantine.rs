//! `straas quarantine …`: what failed its canaries and is kept from everybody else.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, given};
use crate::output::{print, table, time};
use crate::routes;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// What to do with what is in quarantine.
#[derive(Subcommand)]
pub enum Verb {
    /// List what is in quarantine, and why.
    List {
        /// Only versions, or only scripts: version or scripts.
        #[arg(long)]
        what: Option<String>,
        /// Only what failed in this topology.
        #[arg(long)]
        topology: Option<String>,
    },
    /// Let it be used again.
    ///
    /// Versions are called TYPE@VERSION, scripts by their commit; both as `list` shows them.
    Release {
        /// As listed: kafka@3.9.1, or a commit.
        key: String,
    },
}

/// An entry.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    what: String,
    key: String,
    reason: String,
    topology: String,
    at_ms: i64,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { what, topology } => {
            let topology = find::topology_id(&client, topology.as_deref()).await?;
            let query = given([("what", what), ("topology", topology)]);
            let all: Vec<Entry> = client.all(routes::QUARANTINE, &[], &query).await?;
            print(global.format(), &all, |all| {
                let row = |e: &Entry| vec![e.what.clone(), e.key.clone(), time(e.at_ms), e.reason.clone()];
                table(&["what", "key", "since", "reason"], all.iter().map(row))
            })
        }
        Verb::Release { key } => {
            let all: Vec<Entry> = client.all(routes::QUARANTINE, &[], &[]).await?;
            let found = all.into_iter().find(|e| e.key == key || (key.len() >= 7 && e.key.starts_with(&key)));
            let Some(found) = found else {
                let text = format!("{key} is not in quarantine");
                return Err(CliError::NotFound { text, hint: "straas quarantine list" });
            };
            client.call::<()>(Ask::new(routes::RELEASE, &[&found.what, &found.key])).await?;
            print(global.format(), &found, |e| format!("{} {} may be used again", e.what, e.key))
        }
    }
}
