//! `straas cms …`: the model of a topology in the configuration management system.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::mutation::Seen;
use crate::output::{print, table, time};
use crate::{find, routes};
use clap::Subcommand;
use straas_schemas::cms::CmsView;

/// What to do with a model.
#[derive(Subcommand)]
pub enum Verb {
    /// Show it, and whether the topology still is as it says.
    Show {
        /// The topology: name or id.
        topology: String,
    },
    /// Make it.
    Create {
        /// The topology: name or id.
        topology: String,
    },
    /// Bring it up to date.
    Sync {
        /// The topology: name or id.
        topology: String,
        #[command(flatten)]
        seen: Seen,
    },
    /// Remove it.
    Remove {
        /// The topology: name or id.
        topology: String,
        #[command(flatten)]
        seen: Seen,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let (route, topology, seen) = match &verb {
        Verb::Show { topology } => (routes::CMS, topology, None),
        Verb::Create { topology } => (routes::CMS_CREATE, topology, None),
        Verb::Sync { topology, seen } => (routes::CMS_SYNC, topology, seen.if_match.as_deref()),
        Verb::Remove { topology, seen } => (routes::CMS_REMOVE, topology, seen.if_match.as_deref()),
    };
    let id = find::topology(&client, topology).await?.id;
    if matches!(verb, Verb::Remove { .. }) {
        client.call::<()>(Ask::new(route, &[id.as_str()]).if_seen(seen)).await?;
        anstream::eprintln!("{topology} has no model any more");
        return Ok(());
    }
    let found: CmsView = client.call(Ask::new(route, &[id.as_str()]).if_seen(seen)).await?;
    print(global.format(), &found, show)
}

fn show(view: &CmsView) -> String {
    let model = &view.model;
    let mut out = format!(
        "{} in {}, written {} by {}: {}\n",
        model.name,
        model.availability_zone,
        time(view.written_ms),
        view.author,
        if view.in_sync { "in sync" } else { "not as the topology is now; straas cms sync brings it up to date" },
    );
    if !view.in_sync {
        out.push_str(&format!("differs at {}\n", view.differs.join(", ")));
    }
    let rows = model.components.iter().flat_map(|component| {
        component.nodes.iter().map(move |node| {
            let address = node.address.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                component.name.clone(),
                format!("{} {}", component.kind, component.version),
                node.name.clone(),
                address,
            ]
        })
    });
    out + &table(&["component", "type", "node", "address"], rows)
}
