//! `straas guestcmd …`: which guest commands there are and what they take.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table};
use crate::{find, routes};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use straas_schemas::command::CommandMeta;

/// What to say of guest commands.
#[derive(Subcommand)]
pub enum Verb {
    /// List the guest commands.
    List {
        /// Only those that this component's nodes can run, as TOPOLOGY/COMPONENT.
        #[arg(long)]
        component: Option<String>,
    },
    /// Say what a guest command does and takes.
    Describe {
        /// GROUP/NAME.
        command: String,
    },
}

/// All of them, at a commit of the script repo.
#[derive(Debug, Serialize, Deserialize)]
pub struct Offer {
    commit: String,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Group {
    name: String,
    allowed: String,
    commands: Vec<Known>,
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known {
    /// `group/name`.
    pub command: String,
    /// What it takes and promises.
    #[serde(flatten)]
    pub meta: CommandMeta,
}

/// What is offered, to all or to a component.
pub async fn offer(client: &Client, component: Option<&str>) -> Result<Offer, CliError> {
    let mut ask = Ask::new(routes::GUESTCMDS, &[]);
    if let Some(id) = component {
        ask = ask.with("component", id);
    }
    client.call(ask).await
}

impl Offer {
    /// The command of this name.
    pub fn find(&self, command: &str) -> Result<&Known, CliError> {
        let all = || self.groups.iter().flat_map(|group| &group.commands);
        all().find(|known| known.command == command).ok_or_else(|| CliError::NotFound {
            text: format!("there is no guest command {command}"),
            hint: "straas guestcmd list",
        })
    }
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::List { component } => {
            let id = find::component_id(&client, component.as_deref()).await?;
            let offer = offer(&client, id.as_deref()).await?;
            print(global.format(), &offer, list)
        }
        Verb::Describe { command } => {
            let offer = offer(&client, None).await?;
            print(global.format(), offer.find(&command)?, describe)
        }
    }
}

fn list(offer: &Offer) -> String {
    let rows = offer.groups.iter().flat_map(|group| {
        group.commands.iter().map(|known| {
            let arguments: Vec<String> = arguments(&known.meta).into_iter().map(|(name, ..)| name).collect();
            vec![
                known.command.clone(),
                group.allowed.clone(),
                known.meta.role.clone().unwrap_or_else(|| "any".into()),
                if arguments.is_empty() { "-".to_owned() } else { arguments.join(" ") },
                known.meta.description.clone(),
            ]
        })
    });
    table(&["command", "allowed to", "on", "arguments", "what it does"], rows)
}

/// (name, what it may be, required, what it is for)
fn arguments(meta: &CommandMeta) -> Vec<(String, String, bool, String)> {
    let required = meta.arguments["required"].as_array().cloned().unwrap_or_default();
    let properties = meta.arguments["properties"].as_object().cloned().unwrap_or_default();
    let each = properties.into_iter().map(|(name, schema)| {
        let mut limits = vec![schema["type"].as_str().unwrap_or("any").to_owned()];
        for key in ["enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "default"] {
            if let Some(value) = schema.get(key) {
                limits.push(format!("{key} {value}"));
            }
        }
        let must = required.iter().any(|r| r == &name);
        let what = schema["description"].as_str().unwrap_or_default().to_owned();
        (name, limits.join(", "), must, what)
    });
    each.collect()
}

fn describe(known: &Known) -> String {
    let meta = &known.meta;
    let mut out = format!("{}: {}\n", known.command, meta.description);
    out.push_str(&format!(
        "runs on {}, at most {} s, {}\n",
        meta.role.as_deref().map_or_else(|| "any node".to_owned(), |role| format!("nodes with the scripts of {role}")),
        meta.timeout_s,
        if meta.idempotent { "may be repeated" } else { "at most once" }
    ));
    let rows = arguments(meta)
        .into_iter()
        .map(|(name, limits, must, what)| vec![name, if must { "yes" } else { "no" }.to_owned(), limits, what]);
    out.push_str(&table(&["argument", "required", "value", "what it is"], rows));
    out
}
