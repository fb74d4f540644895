//! Users, tenants and tokens as the user API shows and takes them.
//!
//! What a role may do is one table in the controller; here are only its words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shortest password: what NIST SP 800-63B asks of one that a person chooses.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password: hashing takes its time, and nobody types more.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// Longest life of a token, in seconds: a year.
pub const TOKEN_LIFE_S_MAX: u32 = 366 * 24 * 3600;
/// Life of a token that names none, in seconds: 30 days.
pub const TOKEN_LIFE_S: u32 = 30 * 24 * 3600;

/// What somebody is in a tenant. Who is in the administrators' tenant is an administrator, whatever
/// his role there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Handles the tenant's topologies.
    Member,
    /// A member who looks after the platform too: sees everybody's, steers jobs, owns defaults and scripts.
    Operator,
    /// The health-check service: sees everybody's topologies and writes their components' status.
    HealthCheck,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Member, Self::Operator, Self::HealthCheck];

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
            Self::HealthCheck => "health_check",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// `POST /auth/tokens`: a token for a password, or for another token and a tenant.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// A user's name, with `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user: Option<String>,
    /// His password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub password: Option<String>,
    /// A token that was had before, in the place of user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub token: Option<String>,
    /// The tenant to work in; without it the token only lists the tenants there are to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub tenant: Option<String>,
}

// a password or token in a log would be one too many
impl std::fmt::Debug for LogIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogIn").field("user", &self.user).field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// A new token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenIssued {
    /// What to send as `X-Auth-Token`.
    pub token: String,
    /// What is known of it later.
    #[serde(flatten)]
    pub view: TokenView,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The user it speaks for; none if it was made for a program.
    pub user: Option<String>,
    /// The tenant it works in; none if that is still to be chosen.
    pub tenant: Option<String>,
    /// As what.
    pub role: Option<Role>,
    /// It is an administrator's.
    pub admin: bool,
    /// Who made it.
    pub by: String,
    /// Unix ms; 0 if not known.
    pub created_ms: i64,
    /// Unix ms; none for the administrator's token of the data directory, which does not expire.
    pub expires_ms: Option<i64>,
}

/// `POST /tokens`: a token for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for.
    #[schemars(length(min = 1, max = 128))]
    pub label: String,
    /// The tenant it works in; the caller's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub tenant: Option<String>,
    /// As what; `member` if absent. Nobody gives more than he has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Seconds until it expires; 30 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_622_400))]
    pub expires_in_s: Option<u32>,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantView {
    /// Its id: 1 to 64 of `a-z 0-9 - _`.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_-]{0,63}$"))]
    pub id: String,
    /// Unix ms; given by the controller.
    #[serde(default)]
    pub created_ms: i64,
}

/// `POST /users`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// His name: 1 to 64 of `a-z 0-9 - _ . @`.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9_.@-]{0,63}$"))]
    pub name: String,
    /// His password; without one he cannot log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 256))]
    pub password: Option<String>,
    /// His role in each of his tenants.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 100))]
    pub tenants: BTreeMap<String, Role>,
}

impl std::fmt::Debug for UserRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserView {
    /// His name.
    pub name: String,
    /// He has a password.
    pub can_log_in: bool,
    /// His role in each of his tenants.
    pub tenants: BTreeMap<String, Role>,
    /// Unix ms.
    pub created_ms: i64,
}

/// `PUT /users/{name}/password`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The new one; null for none, and then he cannot log in.
    #[schemars(length(min = 8, max = 256))]
    pub password: Option<String>,
}

/// `PUT /users/{name}/tenants/{tenant}`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// His role there.
    pub role: Role,
}
