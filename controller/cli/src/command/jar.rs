//! `straas command submit-jar`: a jar on its way to a Storm cluster.

use super::live;
use super::run::ended;
use crate::Global;
use crate::client::Client;
use crate::content::Upload;
use crate::error::CliError;
use crate::find;
use crate::output::Format;
use crate::routes::encoded;
use std::path::PathBuf;
use straas_schemas::command::CommandView;

/// What to submit where.
#[derive(clap::Args)]
pub struct Args {
    /// The topology of StraaS: name or id.
    topology: String,
    /// Its Storm component: name or id.
    component: String,
    /// The jar, a file on this machine.
    jar: PathBuf,
    /// Its main class.
    #[arg(long)]
    class: String,
    /// The name of the Storm topology; comes first among the arguments of the class.
    #[arg(long)]
    name: Option<String>,
    /// Further arguments of the class, without blanks in them.
    #[arg(last = true, value_name = "ARGUMENTS")]
    rest: Vec<String>,
}

/// Uploads it and follows the command that submits it.
pub async fn run(client: &Client, args: Args, global: &Global) -> Result<(), CliError> {
    let component = find::component(client, &args.topology, &args.component).await?.1;
    let upload = Upload::of(&args.jar)?;
    let rest = args.rest.join(" ");
    let mut query = vec![("main_class", args.class.as_str())];
    query.extend(args.name.as_deref().map(|name| ("topology_name", name)));
    query.extend((!rest.is_empty()).then_some(("args", rest.as_str())));
    anstream::eprintln!("uploading {} ({} KiB)", args.jar.display(), upload.size.div_ceil(1024));
    let path = format!("/straas/stormjar/{}", encoded(component.id.as_str()));
    let begun: CommandView = client.upload(&path, &query, None, upload).await?;
    let shown = global.format() == Format::Table;
    if begun.standing.is_final() && shown {
        anstream::print!("{}", crate::output::clean(&begun.output));
    }
    // shown from its beginning if it has not ended yet
    let last = if begun.standing.is_final() { begun } else { live::follow(client, begun.id.as_str(), shown).await? };
    ended(client, &last, global).await
}
