//! `straas config …`: the configuration of components, as files on branches of the config repo.
//!
//! REF is a topology's name (its branch), `TOPOLOGY&TAG`, `master`, or a commit of 40 digits.

mod edit;
mod set;
mod show;
mod tag;

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::{How, Rollout};
use crate::output::{Format, print};
use crate::{find, routes};
use clap::Subcommand;
use std::path::PathBuf;
use straas_schemas::configuration::{
    Blame, CommitView, ConfigContent, ConfigDiff, ConfigNode, ConfigWrite, ConfigWritten, EffectiveView, ResealView,
    SettingsView, UpdatesView,
};
use straas_schemas::view::Page;

/// What to do with the configuration.
#[derive(Subcommand)]
pub enum Verb {
    /// List a folder of the config repo.
    Ls {
        /// A topology, TOPOLOGY&TAG, master, or a commit.
        #[arg(value_name = "REF", default_value = "master")]
        reference: String,
        /// The folder; the top if absent.
        #[arg(default_value = "")]
        path: String,
    },
    /// Print a file of the config repo; secret values are not shown.
    Cat {
        /// A topology, TOPOLOGY&TAG, master, or a commit.
        #[arg(value_name = "REF")]
        reference: String,
        /// The file, e.g. app/zookeeper/3.8.0/user.json.
        path: String,
    },
    /// Set values of a component, in one commit; with --apply its nodes take them up.
    Set {
        /// The topology: name or id.
        topology: String,
        /// The component: name or id.
        component: String,
        /// SECTION.KEY=VALUE, one or more; `straas config effective` shows those that can be set.
        #[arg(required = true, value_name = "SECTION.KEY=VALUE")]
        values: Vec<String>,
        /// Why, for the history.
        #[arg(short, long)]
        message: Option<String>,
        /// Have the component's nodes take it up.
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        rollout: Rollout,
        #[command(flatten)]
        how: How,
    },
    /// Write a whole file to a branch.
    Put {
        /// A topology, or another branch.
        branch: String,
        /// Where, e.g. app/zookeeper/3.8.0/user.json.
        path: String,
        /// The file to send; `-` for standard input.
        file: PathBuf,
        /// Why, for the history.
        #[arg(short, long)]
        message: Option<String>,
        /// Only if the branch is still at this commit.
        #[arg(long, value_name = "COMMIT")]
        if_at: Option<String>,
    },
    /// Change a file in an editor ($VISUAL, $EDITOR, else sensible-editor or vi); what differs is shown first.
    Edit {
        /// A topology, or another branch.
        branch: String,
        /// The file, e.g. app/zookeeper/3.8.0/user.json.
        path: String,
        /// Why, for the history.
        #[arg(short, long)]
        message: Option<String>,
        /// Write without asking.
        #[arg(short, long)]
        yes: bool,
    },
    /// Who set every value of a file, when and in which commit.
    Blame {
        /// A topology, TOPOLOGY&TAG, master, or a commit.
        #[arg(value_name = "REF")]
        reference: String,
        /// The file, e.g. app/zookeeper/3.8.0/user.json.
        path: String,
    },
    /// Which defaults of the platform moved since a component took them; --take takes them up.
    ///
    /// Values of your own stay. The component has them when it is told to: straas component configure.
    Updates {
        /// The topology: name or id.
        topology: String,
        /// The component: name or id.
        component: String,
        /// Take them up on the topology's branch.
        #[arg(long)]
        take: bool,
    },
    /// What differs between two refs, value by value.
    Diff {
        /// The left side.
        from: String,
        /// The right side.
        to: String,
    },
    /// Who changed what, newest first.
    Log {
        /// A topology, TOPOLOGY&TAG, master, or a commit.
        #[arg(value_name = "REF", default_value = "master")]
        reference: String,
        /// Only what changed this file or folder.
        #[arg(default_value = "")]
        path: String,
        /// At most so many.
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Names for commits of a branch.
    #[command(subcommand)]
    Tag(tag::Verb),
    /// Every value a component is configured with, and who set it.
    Effective {
        /// The topology: name or id.
        topology: String,
        /// The component: name or id.
        component: String,
        /// With what each does.
        #[arg(long)]
        doc: bool,
    },
    /// Every setting of the service itself, who set it, and whether the newest commit is in force.
    Settings {
        /// As they count for the nodes of an availability zone.
        #[arg(long)]
        zone: Option<String>,
        /// With what each does.
        #[arg(long)]
        doc: bool,
    },
    /// Seal what older keys sealed with the newest, on every branch (after straas-controller rotate-secrets).
    Reseal,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Ls { reference, path } => {
            let node = read(&client, &reference, &path).await?;
            print(global.format(), &node, show::folder)
        }
        Verb::Cat { reference, path } => {
            let node = read(&client, &reference, &path).await?;
            match &node.content {
                ConfigContent::File { content } if global.format() == Format::Table => {
                    anstream::print!("{}", crate::output::clean(content));
                    Ok(())
                }
                ConfigContent::Folder { .. } if global.format() == Format::Table => Err(CliError::Input(format!(
                    "{path} is a folder; list it with: straas config ls {reference} {path}"
                ))),
                _ => print(global.format(), &node, |_| String::new()),
            }
        }
        Verb::Set { topology, component, values, message, apply, rollout, how } => {
            let order = set::Order { topology, component, values, message, apply, rollout, how };
            set::run(&client, order, global).await
        }
        Verb::Put { branch, path, file, message, if_at } => {
            let branch = find::reference(&client, &branch).await?;
            let content = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(&file)
            };
            let content = content.map_err(|e| CliError::Local(format!("cannot read {}: {e}", file.display())))?;
            let message = message.unwrap_or_else(|| format!("{path}: written with straas config put"));
            let body = ConfigWrite { content, message };
            let parts = [branch.as_str(), path.as_str()];
            let mut ask = Ask::new(routes::CONFIG_WRITE, &parts).body(&body);
            if let Some(commit) = &if_at {
                ask = ask.if_at(commit);
            }
            let done: ConfigWritten = client.call(ask).await?;
            print(global.format(), &done, show::written)
        }
        Verb::Edit { branch, path, message, yes } => edit::run(&client, &branch, &path, message, yes, global).await,
        Verb::Blame { reference, path } => {
            let reference = find::reference(&client, &reference).await?;
            let blame: Blame = client.get(routes::BLAME, &[&reference, &path]).await?;
            print(global.format(), &blame, show::blame)
        }
        Verb::Updates { topology, component, take } => {
            let id = find::component(&client, &topology, &component).await?.1.id;
            let route = if take { routes::UPDATES_TAKE } else { routes::UPDATES };
            let view: UpdatesView = client.get(route, &[id.as_str()]).await?;
            print(global.format(), &view, |view| show::updates(view, take))
        }
        Verb::Diff { from, to } => {
            let (from, to) = (find::reference(&client, &from).await?, find::reference(&client, &to).await?);
            let diff: ConfigDiff = client.get(routes::CONFIG_DIFF, &[&format!("{from}...{to}")]).await?;
            print(global.format(), &diff, show::diff)
        }
        Verb::Log { reference, path, limit } => {
            let reference = find::reference(&client, &reference).await?;
            let query = [("limit", limit.to_string())];
            let page: Page<CommitView> = if path.is_empty() {
                client.page(routes::CONFIG_LOG_TOP, &[&reference], &query, None).await?
            } else {
                client.page(routes::CONFIG_LOG, &[&reference, &path], &query, None).await?
            };
            print(global.format(), &page.items, |items| show::log(items))
        }
        Verb::Tag(verb) => tag::run(&client, verb, global).await,
        Verb::Effective { topology, component, doc } => {
            let id = find::component(&client, &topology, &component).await?.1.id;
            let view: EffectiveView = client.get(routes::EFFECTIVE, &[id.as_str()]).await?;
            print(global.format(), &view, |view| show::effective(view, doc))
        }
        Verb::Settings { zone, doc } => {
            let mut ask = Ask::new(routes::SETTINGS, &[]);
            if let Some(zone) = zone {
                ask = ask.with("zone", zone);
            }
            let view: SettingsView = client.call(ask).await?;
            print(global.format(), &view, |view| show::settings(view, doc))
        }
        Verb::Reseal => {
            let mut all = ResealView { resealed: Vec::new(), more: true };
            while all.more {
                let some: ResealView = client.call(Ask::new(routes::RESEAL, &[])).await?;
                all.more = some.more;
                all.resealed.extend(some.resealed);
            }
            print(global.format(), &all, show::resealed)
        }
    }
}

async fn read(client: &Client, reference: &str, path: &str) -> Result<ConfigNode, CliError> {
    let reference = find::reference(client, reference).await?;
    if path.trim_matches('/').is_empty() {
        client.get(routes::CONFIG_TOP, &[&reference]).await
    } else {
        client.get(routes::CONFIG_READ, &[&reference, path]).await
    }
}
