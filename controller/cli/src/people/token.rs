//! `straas token …`: tokens for programs, and who one is.

use super::{keep, role, seconds};
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::{flag, given};
use crate::output::{print, table, time};
use crate::routes;
use clap::Subcommand;
use std::path::PathBuf;
use straas_schemas::identity::{Role, TokenIssued, TokenRequest, TokenView};

/// What to do with tokens.
#[derive(Subcommand)]
pub enum Verb {
    /// Make a token for a program. It is shown once, or kept in a file that only you read.
    Create {
        /// What it is for.
        label: String,
        /// The tenant it works in; your own if left out.
        #[arg(long)]
        tenant: Option<String>,
        /// member, operator or health-check.
        #[arg(long, value_parser = role, default_value = "member")]
        role: Role,
        /// How long it lives, such as 12h or 30d.
        #[arg(long, value_parser = seconds, value_name = "TIME")]
        expires_in: Option<u32>,
        /// Write it to this file in the place of showing it.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// List the tokens of your tenant.
    List {
        /// Of all tenants.
        #[arg(long)]
        all_tenants: bool,
        /// Only of this user.
        #[arg(long)]
        user: Option<String>,
    },
    /// Revoke a token: whoever uses it is refused from then on.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Say who you are to the controller.
    Who,
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Create { label, tenant, role, expires_in, file } => {
            let body = TokenRequest { label, tenant, role: Some(role), expires_in_s: expires_in };
            let issued: TokenIssued = client.call(Ask::new(routes::TOKEN_CREATE, &[]).body(&body)).await?;
            match file {
                Some(path) => {
                    keep(&path, &issued.token)?;
                    print(global.format(), &issued.view, |view| format!("token {} is in {}", view.id, path.display()))
                }
                None => print(global.format(), &issued, |issued| issued.token.clone()),
            }
        }
        Verb::List { all_tenants, user } => {
            let query = given([("all_tenants", flag(all_tenants)), ("user", user)]);
            let all: Vec<TokenView> = client.all(routes::TOKENS, &[], &query).await?;
            print(global.format(), &all, |all| {
                table(&["id", "for", "tenant", "role", "made by", "expires"], all.iter().map(row))
            })
        }
        Verb::Revoke { id } => {
            client.call::<()>(Ask::new(routes::TOKEN_REVOKE, &[&id])).await?;
            print(global.format(), &id, |id| format!("token {id} is revoked"))
        }
        Verb::Who => {
            let view: TokenView = client.call(Ask::new(routes::WHO, &[])).await?;
            print(global.format(), &view, |view| {
                table(&["id", "for", "tenant", "role", "made by", "expires"], [row(view)])
            })
        }
    }
}

fn row(token: &TokenView) -> Vec<String> {
    let whom = token.user.clone().unwrap_or_else(|| token.label.clone());
    let role = if token.admin { "administrator" } else { token.role.map_or("-", Role::name) };
    let tenant = token.tenant.clone().unwrap_or_else(|| "-".to_owned());
    let expires = token.expires_ms.map_or_else(|| "never".to_owned(), time);
    vec![token.id.clone(), whom, tenant, role.to_owned(), token.by.clone(), expires]
}
