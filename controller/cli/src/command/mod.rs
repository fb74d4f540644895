//! `straas command …`: run guest commands and look at those that ran.

mod jar;
mod live;
mod run;

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{self, flag, given};
use crate::output::{duration, print, table, time, word};
use crate::routes;
use clap::{ArgGroup, Args, Subcommand};
use straas_schemas::command::{BatchView, CommandView};
use straas_schemas::view::Page;

/// What to do with guest commands.
#[derive(Subcommand)]
pub enum Verb {
    /// Run a guest command; its output is shown as it comes.
    ///
    /// On one node the exit code is the command's own, 125 if it had none. On a component or a whole
    /// topology every node runs it; the exit code is 7 if one did not succeed.
    Run(Order),
    /// List commands, newest first.
    List {
        /// Only on this node.
        #[arg(long)]
        node: Option<String>,
        /// Only in this topology.
        #[arg(long)]
        topology: Option<String>,
        /// Only on nodes of this component, as TOPOLOGY/COMPONENT.
        #[arg(long)]
        component: Option<String>,
        /// Only of this batch.
        #[arg(long)]
        batch: Option<String>,
        /// Only of this guest command, as GROUP/NAME.
        #[arg(long)]
        command: Option<String>,
        /// Everybody's.
        #[arg(long)]
        all_tenants: bool,
        /// Only queued, running, succeeded, failed, cancelled, expired or unknown ones.
        #[arg(long = "state")]
        standing: Option<String>,
        /// At most so many.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show a command with its output, or a batch of commands.
    Show {
        /// Its id.
        command: String,
    },
    /// End a command or a whole batch: what waits never begins, what runs is killed.
    Cancel {
        /// Its id.
        command: String,
    },
    /// Run the main class of a jar on a nimbus node of a Storm component.
    ///
    /// The jar is uploaded, up to 256 MiB, and checked by its hash.
    SubmitJar(jar::Args),
}

/// What to run where.
#[derive(Args)]
#[command(group(ArgGroup::new("where").required(true).args(["node", "topology"])))]
pub struct Order {
    /// GROUP/NAME; `straas guestcmd list` shows those there are.
    command: String,
    /// ARGUMENT=VALUE, as `straas guestcmd describe` says.
    #[arg(value_name = "ARGUMENT=VALUE")]
    values: Vec<String>,
    /// On this node: name or id.
    #[arg(long)]
    node: Option<String>,
    /// On every node of this topology, or of its --component.
    #[arg(long)]
    topology: Option<String>,
    /// On every node of this component of the topology.
    #[arg(long, requires = "topology")]
    component: Option<String>,
    /// Only on nodes of this role.
    #[arg(long, requires = "topology")]
    role: Option<String>,
    /// How many nodes run it at once; all if absent.
    #[arg(long, requires = "topology", value_name = "N")]
    concurrency: Option<u32>,
    /// No further node begins once so many have not succeeded.
    #[arg(long, requires = "topology", value_name = "N")]
    max_errors: Option<u32>,
    /// Seconds a run may take; the command's own limit if absent.
    #[arg(long = "timeout", value_name = "SECONDS")]
    timeout_s: Option<u32>,
    /// Seconds within which it has to begin.
    #[arg(long = "deadline", value_name = "SECONDS")]
    deadline_s: Option<u32>,
    /// Do not wait for it.
    #[arg(long)]
    no_wait: bool,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Run(order) => run::run(&client, order, global).await,
        Verb::List { node, topology, component, batch, command, all_tenants, standing, limit } => {
            let node = match node {
                Some(name) => Some(find::node(&client, &name).await?.id.0),
                None => None,
            };
            let query = given([
                ("limit", Some(limit.to_string())),
                ("node", node),
                ("topology", find::topology_id(&client, topology.as_deref()).await?),
                ("component", find::component_id(&client, component.as_deref()).await?),
                ("batch", batch),
                ("command", command),
                ("state", standing),
                ("all_tenants", flag(all_tenants)),
            ]);
            let page: Page<CommandView> = client.page(routes::COMMANDS, &[], &query, None).await?;
            print(global.format(), &page.items, |items| list(items))
        }
        Verb::Show { command } => match client.get::<CommandView>(routes::COMMAND, &[&command]).await {
            Err(missing) if Client::is_missing(&missing) => {
                let batch = client.get::<BatchView>(routes::BATCH, &[&command]).await;
                let batch = batch.map_err(|error| if Client::is_missing(&error) { missing } else { error })?;
                print(global.format(), &batch, run::batch)
            }
            view => print(global.format(), &view?, show),
        },
        Verb::Cancel { command } => {
            match client.call::<CommandView>(Ask::new(routes::COMMAND_CANCEL, &[&command])).await {
                Err(missing) if Client::is_missing(&missing) => {
                    let batch = client.call::<BatchView>(Ask::new(routes::BATCH_CANCEL, &[&command])).await;
                    let batch = batch.map_err(|error| if Client::is_missing(&error) { missing } else { error })?;
                    print(global.format(), &batch, run::batch)
                }
                view => print(global.format(), &view?, |v| {
                    let now = if v.standing.is_final() { word(&v.standing) } else { "is being ended".to_owned() };
                    format!("{} on {}: {now}", v.command, v.node_name)
                }),
            }
        }
        Verb::SubmitJar(args) => jar::run(&client, args, global).await,
    }
}

fn list(items: &[CommandView]) -> String {
    let row = |c: &CommandView| {
        let took = c.end.as_ref().map_or_else(|| "-".to_owned(), |end| duration(end.duration_ms));
        vec![
            c.id.to_string(),
            c.command.clone(),
            c.node_name.clone(),
            standing(c),
            time(c.created_ms),
            took,
            c.by.clone(),
        ]
    };
    table(&["id", "command", "node", "state", "created", "took", "by"], items.iter().map(row))
}

fn standing(c: &CommandView) -> String {
    let code = c.end.as_ref().and_then(|end| end.exit_code).filter(|code| *code != 0);
    code.map_or_else(|| word(&c.standing), |code| format!("{} ({code})", word(&c.standing)))
}

fn show(c: &CommandView) -> String {
    let mut out = format!("command {} on {}: {}\n", c.command, c.node_name, standing(c));
    if !c.args.is_empty() {
        out.push_str(&format!("  arguments  {}\n", serde_json::Value::Object(c.args.clone())));
    }
    out.push_str(&format!("  asked for  {} by {}\n", time(c.created_ms), c.by));
    if let Some(end) = &c.end {
        out.push_str(&format!("  took       {}\n", duration(end.duration_ms)));
        if !end.reason.is_empty() {
            out.push_str(&format!("  because    {}\n", end.reason));
        }
        if let Some(hint) = &end.hint {
            out.push_str(&format!("  hint       {hint}\n"));
        }
        if !end.result.is_empty() {
            out.push_str(&format!("  result     {}\n", serde_json::Value::Object(end.result.clone())));
        }
    }
    out.push_str(&c.output);
    out
}
