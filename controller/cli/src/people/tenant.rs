//! `straas tenant …`: who owns topologies.

use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{print, table, time};
use crate::routes;
use clap::Subcommand;
use straas_schemas::identity::TenantView;

/// What to do with tenants.
#[derive(Subcommand)]
pub enum Verb {
    /// Add a tenant.
    Add {
        /// Its name: a-z 0-9 - _.
        id: String,
    },
    /// List tenants.
    List,
    /// Remove a tenant that has no topologies; its tokens end.
    Remove {
        /// Its name.
        id: String,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Add { id } => {
            let body = serde_json::json!({ "id": id });
            let made: TenantView = client.call(Ask::new(routes::TENANT_ADD, &[]).body(&body)).await?;
            print(global.format(), &made, |made| {
                format!("tenant {} is there; make a token: straas token create LABEL --tenant {0}", made.id)
            })
        }
        Verb::List => {
            let all: Vec<TenantView> = client.all(routes::TENANTS, &[], &[]).await?;
            let row = |tenant: &TenantView| vec![tenant.id.clone(), time(tenant.created_ms)];
            print(global.format(), &all, |all| table(&["tenant", "since"], all.iter().map(row)))
        }
        Verb::Remove { id } => {
            client.call::<()>(Ask::new(routes::TENANT_REMOVE, &[&id])).await?;
            print(global.format(), &id, |id| format!("tenant {id} is gone"))
        }
    }
}
