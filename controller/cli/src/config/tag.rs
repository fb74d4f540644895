//! `straas config tag …`

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, given};
use crate::output::{print, table, time};
use crate::routes;
use clap::Subcommand;
use straas_schemas::configuration::{TagRequest, TagView};

/// What to do with tags.
#[derive(Subcommand)]
pub enum Verb {
    /// List the tags of a branch.
    List {
        /// A topology, or another branch.
        branch: String,
        /// Only tags of this role: user or admin.
        #[arg(long)]
        role: Option<String>,
        /// Only tags that begin so.
        #[arg(long)]
        prefix: Option<String>,
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
        /// Only if it still marks this commit.
        #[arg(long, value_name = "COMMIT")]
        if_at: Option<String>,
    },
}

/// Carries out a verb.
pub async fn run(client: &Client, verb: Verb, global: &Global) -> Result<(), CliError> {
    match verb {
        Verb::List { branch, role, prefix } => {
            let branch = find::reference(client, &branch).await?;
            let query = given([("role", role), ("prefix", prefix)]);
            let tags: Vec<TagView> = client.all(routes::TAGS, &[&branch], &query).await?;
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
        Verb::Delete { branch, tag, if_at } => {
            let branch = find::reference(client, &branch).await?;
            let ask = Ask::new(routes::TAG_DELETE, &[&branch, &tag]).if_seen(if_at.as_deref());
            client.call::<()>(ask).await?;
            print(global.format(), &serde_json::json!({ "branch": branch, "tag": tag }), |_| {
                format!("{tag} of {branch} is deleted")
            })
        }
    }
}
