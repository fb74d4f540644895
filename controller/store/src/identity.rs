//! Users, tenants and tokens: what is kept of them, and what the store promises.
//!
//! A *tenant* owns topologies. A *user* has a password and in each of his tenants one role. A
//! *token* speaks for a user in a tenant, or for a program in a tenant, until it expires or is
//! revoked; what it may do is what is written in it, and it ends with the user's membership.
//!
//! Never here: passwords and tokens themselves (only hashes come in), and what a role may do.

use crate::{PageRequest, Result};
use async_trait::async_trait;

/// Most tokens of a tenant that have not expired: nobody keeps count of more.
pub const TOKENS_PER_TENANT_MAX: u32 = 1000;
/// Most tokens of a user that have not expired; the oldest of his log-ins end first.
pub const TOKENS_PER_USER_MAX: u32 = 50;

/// Who owns topologies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its id, which is its name too.
    pub id: String,
    /// Unix ms.
    pub created_ms: i64,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// His name.
    pub name: String,
    /// Hash of his password in PHC format; none: he cannot log in.
    pub password: Option<String>,
    /// Unix ms.
    pub created_ms: i64,
    /// Rises with each change of him; 1 at first.
    pub revision: u64,
    /// His role in each of his tenants, by tenant.
    pub memberships: Vec<Membership>,
}

/// A role in a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant: String,
    /// The role's word.
    pub role: String,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id, which is no secret.
    pub id: String,
    /// SHA-256 of it, in hex.
    pub hash: String,
    /// What it is for, in its maker's words.
    pub label: String,
    /// The user it speaks for.
    pub user: Option<String>,
    /// Where it may do anything, and as what.
    pub scope: Option<Membership>,
    /// Who made it.
    pub by: String,
    /// Unix ms.
    pub created_ms: i64,
    /// Unix ms.
    pub expires_ms: i64,
}

/// Which tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokensOf<'a> {
    /// All.
    Everybody,
    /// Of a tenant.
    Tenant(&'a str),
}

/// What the store promises of users, tenants and tokens.
#[async_trait]
pub trait IdentityStore: Send + Sync {
    /// Records a tenant; `Duplicate` if there is one of this id.
    async fn add_tenant(&self, tenant: &TenantRecord) -> Result<()>;
    /// The tenant of this id.
    async fn tenant(&self, id: &str) -> Result<Option<TenantRecord>>;
    /// Tenants by id, after `page.after`.
    async fn tenants(&self, page: &PageRequest) -> Result<Vec<TenantRecord>>;
    /// Removes a tenant with its memberships and tokens. `Ok(false)` if there is none;
    /// `Conflict` while it has topologies.
    async fn remove_tenant(&self, id: &str) -> Result<bool>;

    /// Records a user with his memberships. `Duplicate` if the name is taken; `NotFound` if one of
    /// the tenants is not there, and then nothing is recorded.
    async fn add_user(&self, user: &UserRecord) -> Result<()>;
    /// One user.
    async fn user(&self, name: &str) -> Result<Option<UserRecord>>;
    /// Users by name, of a tenant or all, after `page.after`.
    async fn users(&self, tenant: Option<&str>, page: &PageRequest) -> Result<Vec<UserRecord>>;
    /// Sets the hash of a user's password and ends all his tokens. `Ok(false)` if there is no such user.
    ///
    /// Here and below: with `seen`, `Conflict` of a `user`, and nothing changed, unless that is his revision.
    async fn set_password(&self, name: &str, hash: Option<&str>, seen: Option<u64>) -> Result<bool>;
    /// Removes a user with his memberships and tokens; `Ok(false)` if there is none.
    async fn remove_user(&self, name: &str, seen: Option<u64>) -> Result<bool>;
    /// Gives a user a role in a tenant, in the place of the one he has there; tokens of his that
    /// were made with another role there end. `NotFound` if user or tenant is not there.
    async fn set_membership(&self, user: &str, membership: &Membership, seen: Option<u64>) -> Result<()>;
    /// Takes a user's role in a tenant and ends his tokens there; `Ok(false)` if he had none.
    async fn end_membership(&self, user: &str, tenant: &str, seen: Option<u64>) -> Result<bool>;

    /// Records a token, after those that expired before its making are removed. `NotFound` if its
    /// user or tenant is not there; `Conflict` if its user has not this role there (any more), or
    /// if its tenant has [`TOKENS_PER_TENANT_MAX`] tokens. Of a user who has
    /// [`TOKENS_PER_USER_MAX`], the one that expires first makes room.
    async fn add_token(&self, token: &TokenRecord) -> Result<()>;
    /// The token of a hash that expires after `now_ms`.
    async fn token(&self, hash: &str, now_ms: i64) -> Result<Option<TokenRecord>>;
    /// The token of this id that expires after `now_ms`.
    async fn token_by_id(&self, id: &str, now_ms: i64) -> Result<Option<TokenRecord>>;
    /// Tokens that expire after `now_ms`, of a user or all, by id, after `page.after`.
    async fn tokens(
        &self,
        of: TokensOf<'_>,
        user: Option<&str>,
        now_ms: i64,
        page: &PageRequest,
    ) -> Result<Vec<TokenRecord>>;
    /// Removes a token; `Ok(false)` if it was not there, or not of that tenant where one is named.
    async fn remove_token(&self, id: &str, of: TokensOf<'_>) -> Result<bool>;
}
