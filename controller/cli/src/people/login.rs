//! `straas login`: from a password to a token that later commands use.

use super::{keep, secret};
use crate::Global;
use crate::client::{Ask, Client};
use crate::context::{self, Context};
use crate::error::CliError;
use crate::output::{print, time};
use crate::routes;
use clap::Args;
use std::path::PathBuf;
use straas_schemas::identity::{LogIn, TokenIssued};
use straas_schemas::view::Page;

/// Log in: keeps a token for later commands.
#[derive(Args)]
pub struct Login {
    /// Your name.
    #[arg(long, short)]
    user: String,
    /// The tenant to work in; may be left out if you are in one only.
    #[arg(long, short)]
    tenant: Option<String>,
    /// Read the password from the first line of this file, `-` for what is piped in.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Carries it out.
pub async fn run(login: Login, global: &Global) -> Result<(), CliError> {
    let endpoint = Context::load(global).endpoint;
    // whatever token is there belongs to somebody else
    let stranger = Client::with(Context { endpoint: endpoint.clone(), token_file: None })?;
    let password = secret::password(&format!("Password of {}", login.user), login.password_file.as_deref())?;
    let body = LogIn { user: Some(login.user), password: Some(password), ..LogIn::default() };
    let mut issued: TokenIssued = stranger.call(Ask::new(routes::LOG_IN, &[]).body(&body)).await?;
    let path =
        context::beside("token").ok_or_else(|| CliError::Local("neither HOME nor XDG_CONFIG_HOME is set".into()))?;
    keep(&path, &issued.token)?;
    let kept = Context { endpoint, token_file: Some(path.clone()) };
    let tenant = match login.tenant {
        Some(tenant) => tenant,
        None => only(&Client::with(kept.clone())?).await?,
    };
    let body = LogIn { token: Some(issued.token), tenant: Some(tenant), ..LogIn::default() };
    issued = stranger.call(Ask::new(routes::LOG_IN, &[]).body(&body)).await?;
    keep(&path, &issued.token)?;
    kept.save()?;
    print(global.format(), &issued.view, |view| {
        let until = view.expires_ms.map(|at| format!(" until {}", time(at))).unwrap_or_default();
        format!(
            "logged in as {} in tenant {}{until}",
            view.user.as_deref().unwrap_or_default(),
            view.tenant.as_deref().unwrap_or_default()
        )
    })
}

/// The one tenant there is to choose.
async fn only(client: &Client) -> Result<String, CliError> {
    let page: Page<String> = client.call(Ask::new(routes::OWN_TENANTS, &[])).await?;
    match page.items.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(CliError::Local("you are in no tenant yet; ask an administrator for a role in one".to_owned())),
        many => {
            Err(CliError::Local(format!("you are in several tenants; choose one with --tenant: {}", many.join(", "))))
        }
    }
}
