//! Users, tenants and tokens over HTTP.
//!
//! ```text
//!  POST auth/tokens {user, password}          a token that only lists tenants
//!  GET  auth/tenants                          which there are to choose from
//!  POST auth/tokens {token, tenant}           a token to work with; {user, password, tenant} does it at once
//! ```
//! The three steps are those of Keystone, so that a client need not know who keeps the users.

mod people;
mod tokens;

pub use people::{
    UsersQuery, add_tenant, add_user, end_membership, remove_tenant, remove_user, set_membership, set_password, tenant,
    tenants, user, users,
};
pub use tokens::{TokensQuery, create, list, log_in, remove, revoke_own, show, tenants_of_caller, who};

use super::problem::ApiError;
use crate::app::App;
use straas_schemas::Fault;
use straas_store::StoreError;

/// Longest name of a user or tenant.
const NAME_MAX: usize = 64;

/// Users, tenants and tokens are this controller's own to change.
///
/// # Errors
/// 409 where they are not.
fn own(app: &App) -> Result<(), ApiError> {
    if app.identity.is_own() {
        return Ok(());
    }
    Err(ApiError::conflict("users, tenants and tokens are Keystone's here ([auth.keystone]): change them there"))
}

/// What is wrong with a name: it stands in paths, in commits as an author, in logs.
fn name_fault(pointer: &str, name: &str, more: &str) -> Option<Fault> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c) || more.contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fine = starts && name.len() <= NAME_MAX && name.chars().all(good);
    let say = || format!("use 1 to {NAME_MAX} of a-z 0-9 - _ {more}, beginning with a letter or digit");
    (!fine).then(|| Fault::at(pointer, say().trim_end().to_owned()))
}

/// The HTTP face of what the store refuses of people.
fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound { what, id } => ApiError::not_found(what, &id),
        StoreError::Duplicate { what, name } => ApiError::conflict(&format!("{what} {name} is there already")),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for (name, more, good) in [
            ("ann", "", true),
            ("team-1_x", "", true),
            ("ann@example.org", ".@", true),
            ("ann@example.org", "", false),
            ("", "", false),
            ("-ann", "", false),
            ("Ann", "", false),
            ("a/b", ".@", false),
            ("../x", ".@", false),
            ("a\n", "", false),
            (&"a".repeat(65), "", false),
        ] {
            assert_eq!(name_fault("/name", name, more).is_none(), good, "{name:?}");
        }
    }
}
