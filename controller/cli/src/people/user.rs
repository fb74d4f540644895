//! `straas user …`: people with passwords.

use super::{membership, role, secret};
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::find::given;
use crate::mutation::Seen;
use crate::output::{print, table, time};
use crate::routes;
use clap::Subcommand;
use std::path::PathBuf;
use straas_schemas::identity::{PasswordRequest, Role, RoleRequest, UserRequest, UserView};

/// What to do with users.
#[derive(Subcommand)]
pub enum Verb {
    /// Add a user; asks for the password.
    Add {
        /// Its name: a-z 0-9 - _ . @.
        name: String,
        /// A tenant of his, and his role there: TENANT or TENANT=ROLE. May be given more than once.
        #[arg(long = "tenant", value_parser = membership, value_name = "TENANT[=ROLE]")]
        tenants: Vec<(String, Role)>,
        /// Read the password from the first line of this file, `-` for what is piped in.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List users.
    List {
        /// Only those who have a role in this tenant.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Remove a user; his tokens end.
    Remove {
        /// His name.
        name: String,
        #[command(flatten)]
        seen: Seen,
    },
    /// Set a password; all tokens of the user end.
    Password {
        /// His name.
        name: String,
        /// Read the password from the first line of this file, `-` for what is piped in.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        seen: Seen,
    },
    /// Give a role in a tenant, or take it.
    Role {
        /// His name.
        name: String,
        /// The tenant.
        tenant: String,
        /// member, operator or health-check; left out with --none.
        #[arg(value_parser = role, required_unless_present = "none", conflicts_with = "none")]
        role: Option<Role>,
        /// Take the role he has there.
        #[arg(long)]
        none: bool,
        #[command(flatten)]
        seen: Seen,
    },
}

/// Carries out a verb.
pub async fn run(verb: Verb, global: &Global) -> Result<(), CliError> {
    let client = Client::new(global)?;
    match verb {
        Verb::Add { name, tenants, password_file } => {
            let password = Some(secret::password(&format!("Password of {name}"), password_file.as_deref())?);
            let body = UserRequest { name, password, tenants: tenants.into_iter().collect() };
            let made: UserView = client.call(Ask::new(routes::USER_ADD, &[]).body(&body)).await?;
            print(global.format(), &made, |made| format!("user {} is there", made.name))
        }
        Verb::List { tenant } => {
            let all: Vec<UserView> = client.all(routes::USERS, &[], &given([("tenant", tenant)])).await?;
            print(global.format(), &all, |all| table(&["user", "tenants", "log-in", "since"], all.iter().map(row)))
        }
        Verb::Remove { name, seen } => {
            let ask = Ask::new(routes::USER_REMOVE, &[&name]).if_seen(seen.if_match.as_deref());
            client.call::<()>(ask).await?;
            print(global.format(), &name, |name| format!("user {name} is gone"))
        }
        Verb::Password { name, password_file, seen } => {
            let password = Some(secret::password(&format!("New password of {name}"), password_file.as_deref())?);
            let ask = Ask::new(routes::USER_PASSWORD, &[&name]).if_seen(seen.if_match.as_deref());
            client.call::<()>(ask.body(&PasswordRequest { password })).await?;
            print(global.format(), &name, |name| format!("the password of {name} is set; his tokens have ended"))
        }
        Verb::Role { name, tenant, role, seen, .. } => match role {
            Some(role) => {
                let ask = Ask::new(routes::ROLE_GIVE, &[&name, &tenant]).if_seen(seen.if_match.as_deref());
                client.call::<()>(ask.body(&RoleRequest { role })).await?;
                print(global.format(), &name, |name| format!("{name} is {} in {tenant}", role.name()))
            }
            None => {
                let ask = Ask::new(routes::ROLE_TAKE, &[&name, &tenant]).if_seen(seen.if_match.as_deref());
                client.call::<()>(ask).await?;
                print(global.format(), &name, |name| format!("{name} has no role in {tenant} any more"))
            }
        },
    }
}

fn row(user: &UserView) -> Vec<String> {
    let tenants: Vec<_> = user.tenants.iter().map(|(tenant, role)| format!("{tenant}={}", role.name())).collect();
    let log_in = if user.can_log_in { "yes" } else { "no" };
    vec![user.name.clone(), tenants.join(" "), log_in.to_owned(), time(user.created_ms)]
}
