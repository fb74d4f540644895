//! `straas component add`: one more component in a topology that is there.

use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::{self, How};
use crate::{Global, find, routes, topology};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What to add where.
#[derive(clap::Args)]
pub struct Args {
    /// The topology: name or id.
    topology: String,
    /// Its name, unique in the topology.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// A file with the component in JSON or YAML, as in a request for a topology; `-` for standard input.
    #[arg(short, long, conflicts_with_all = ["name", "kind", "version", "size", "flavor", "on", "roles"])]
    file: Option<PathBuf>,
    /// Its type.
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "file")]
    kind: Option<String>,
    /// Its version; the type's default if absent.
    #[arg(long = "component-version", value_name = "VERSION")]
    version: Option<String>,
    /// Number of nodes; the type's default if absent.
    #[arg(long, conflicts_with = "roles")]
    size: Option<u32>,
    /// Size of its hosts; the type's default if absent.
    #[arg(long)]
    flavor: Option<String>,
    /// A component that has to work first; may be given more than once.
    #[arg(long = "depends-on", value_name = "COMPONENT")]
    on: Vec<String>,
    /// Nodes of a role, as ROLE=NUMBER, where the type has several; may be given more than once.
    #[arg(long = "role", value_name = "ROLE=NUMBER")]
    roles: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Adds it.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let body = match &args.file {
        Some(path) => topology::read(path)?,
        None => described(&args)?,
    };
    let id = find::topology(&client, &args.topology).await?.id;
    mutation::send(&client, Ask::new(routes::ADD, &[id.as_str()]).body(&body), args.how, global).await
}

fn described(args: &Args) -> Result<Value, CliError> {
    let mut component = json!({ "name": args.name, "type": args.kind });
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            component[key] = value;
        }
    };
    set("version", args.version.clone().map(Value::from));
    set("size", args.size.map(Value::from));
    set("flavor", args.flavor.clone().map(Value::from));
    set("depends_on", (!args.on.is_empty()).then(|| args.on.clone().into()));
    let mut roles = Vec::new();
    for text in &args.roles {
        let number = text.split_once('=').and_then(|(role, number)| Some((role, number.parse::<u32>().ok()?)));
        let Some((role, number)) = number else {
            return Err(CliError::Input(format!("--role {text} is not ROLE=NUMBER, as in --role supervisor=2")));
        };
        roles.push(json!({ "role": role, "name": role, "size": number }));
    }
    set("submodules", (!roles.is_empty()).then(|| roles.into()));
    Ok(component)
}
