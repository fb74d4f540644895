//! `straas config tag …`

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table, time};
use crate::{find, routes};
use clap::Subcommand;
use straas_schemas::configuration::{TagRequest, TagView};

/// What to do with tags.
#[derive(Subcommand)]
pub enum Verb {
    /// List the tags of a branch.
    List {
        /// A topology, or another branch.
        branch: String,
    },
    /// Give a commit of a branch a name, to come back to it.
    Create {
        /// A topology, or another branch.
        branch: String,
        /// The name.
        tag: String,
        /// What it marks.
        #[arg(short, long)]
        message: Option<String>,
        /// A commit of the branch; its newest if absent.
        #[arg(long)]
        commit: Option<String>,
    },
    /// Take a name away; the commit stays.
    Delete {
        /// A topology, or another branch.
        branch: String,
        /// The name.
        tag: String,
    },
}

/// Carries out a verb.
pub async fn run(client: &Client, verb: Verb, global: &Global) -> Result<(), CliError> {
    match verb {
        Verb::List { branch } => {
            let branch = find::reference(client, &branch).await?;
            let tags: Vec<TagView> = client.all(routes::TAGS, &[&branch], &[]).await?;
            print(global.format(), &tags, |tags| {
                let row = |t: &TagView| {
                    vec![t.tag.clone(), t.commit.clone(), time(t.at_ms), t.author.clone(), t.message.clone()]
                };
                table(&["tag", "commit", "when", "who", "what"], tags.iter().map(row))
            })
        }
        Verb::Create { branch, tag, message, commit } => {
            let branch = find::reference(client, &branch).await?;
            let message = message.unwrap_or_else(|| tag.clone());
            let body = TagRequest { tag, message, commit };
            let made: TagView = client.call(Ask::new(routes::TAG_CREATE, &[&branch]).body(&body)).await?;
            print(global.format(), &made, |t| format!("{} marks commit {}", t.reference, t.commit))
        }
        Verb::Delete { branch, tag } => {
            let branch = find::reference(client, &branch).await?;
            client.call::<()>(Ask::new(routes::TAG_DELETE, &[&branch, &tag])).await?;
            print(global.format(), &serde_json::json!({ "branch": branch, "tag": tag }), |_| {
                format!("{tag} of {branch} is deleted")
            })
        }
    }
}
