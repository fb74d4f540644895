//! `straas etag …`: what `--if-match` of a change takes, of what is there now.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::print;
use crate::storage::Place;
use crate::{find, routes};
use clap::Subcommand;

/// Of what.
#[derive(Subcommand)]
pub enum Of {
    /// Of a topology.
    Topology {
        /// Name or id.
        topology: String,
    },
    /// Of a component.
    Component {
        /// The topology: name or id.
        topology: String,
        /// The component: name or id.
        component: String,
    },
    /// Of a node.
    Node {
        /// Name or id.
        node: String,
    },
    /// Of a host of the pool.
    Host {
        /// Its id.
        id: String,
    },
    /// Of a user.
    User {
        /// His name.
        name: String,
    },
    /// Of a topology's model in the configuration management system.
    Cms {
        /// The topology: name or id.
        topology: String,
    },
    /// Of a file in the storage.
    File {
        /// The file: CONTAINER/NAME.
        path: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Prints it.
pub async fn run(of: Of, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let ask = match &of {
        Of::Topology { topology } => {
            Ask::new(routes::TOPOLOGY, &[find::topology(&client, topology).await?.id.as_str()])
        }
        Of::Component { topology, component } => {
            Ask::new(routes::COMPONENT, &[find::component(&client, topology, component).await?.1.id.as_str()])
        }
        Of::Node { node } => Ask::new(routes::NODE, &[find::node(&client, node).await?.id.as_str()]),
        Of::Host { id } => Ask::new(routes::HOST, &[id]),
        Of::User { name } => Ask::new(routes::USER, &[name]),
        Of::Cms { topology } => Ask::new(routes::CMS, &[find::topology(&client, topology).await?.id.as_str()]),
        Of::File { path, place } => Ask::new(routes::FILES, &place.at(path)).with("content", "true"),
    };
    let etag = client.etag(ask).await?;
    print(global.format(), &etag.trim_matches('"'), |etag| (*etag).to_owned())
}
