//! Who somebody is: from a token to a person, from a password to a token.
//!
//! One trait, because tokens may be this controller's own (`embedded.rs`) or another service's (`keystone.rs`).
//! Beside it there is always the administrator's token of the data directory: whoever can read that
//! file owns the controller anyway, and it is the way in while nobody else is known.
//!
//! Never here: what a person may do, which is `http/access.rs`.

pub mod embedded;
pub mod keystone;
mod password;

use async_trait::async_trait;
use straas_schemas::identity::{Role, TokenIssued, TokenView};

/// The tenant whose members are administrators.
pub const ADMIN_TENANT: &str = "admin";

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user, or for a program's token what that is called.
    pub name: String,
    /// Where and as what; none until a tenant was chosen.
    pub scope: Option<(String, Role)>,
    /// The token that was shown.
    pub token: TokenView,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Name, password, token or tenant is not right. Which one is not said: it would help who guesses.
    #[error("{0}")]
    Unknown(&'static str),
    /// Too many are at it.
    #[error("too many passwords are being checked; try again in a moment")]
    Busy,
    /// Who knows cannot be asked: nobody is let in on a guess.
    #[error("cannot find out who this is")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<straas_store::StoreError> for Refused {
    fn from(error: straas_store::StoreError) -> Self {
        Self::Away(Box::new(error))
    }
}

/// Where users and their tokens are known.
#[async_trait]
pub trait Identity: Send + Sync {
    /// The person who shows a token; `None` if it is not known (any more).
    async fn person(&self, token: &str) -> Result<Option<Person>, Refused>;
    /// A token for a password, in a tenant or still without one.
    async fn log_in(&self, user: &str, password: &str, tenant: Option<&str>) -> Result<TokenIssued, Refused>;
    /// A token in a tenant, for a token of the same user.
    async fn choose(&self, token: &str, tenant: &str) -> Result<TokenIssued, Refused>;
    /// The tenants that the user of a token can choose.
    async fn tenants(&self, token: &str) -> Result<Vec<String>, Refused>;
    /// Whether users, tenants and tokens are this controller's own to change.
    fn is_own(&self) -> bool;
    /// Ends a token; `false` if it was not known.
    async fn revoke(&self, token: &str) -> Result<bool, Refused>;
}
