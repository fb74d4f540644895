//! Users, tenants and tokens in this controller's own database.
//!
//! A token is 256 random bits, shown once; the database has its SHA-256. It is looked up at every
//! request, so that it ends for everybody in the moment it is revoked.

use super::{ADMIN_TENANT, Identity, Person, Refused, password};
use crate::clock::Clock;
use crate::secrets;
use async_trait::async_trait;
use std::sync::Arc;
use straas_schemas::identity::{Role, TokenIssued, TokenView};
use straas_store::{Membership, Store, StoreError, TenantRecord, TokenRecord};
use uuid::Uuid;

/// A log-in lasts a working day.
const LOG_IN_S: i64 = 12 * 3600;

/// Identity in the store.
pub struct Embedded {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Embedded {
    /// Over a store, by this clock.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock }
    }

    async fn known(&self, token: &str) -> Result<Option<TokenRecord>, Refused> {
        Ok(self.store.token(&secrets::hash(token), (self.clock)()).await?)
    }

    async fn issue(&self, user: &str, scope: Option<Membership>, expires_ms: i64) -> Result<TokenIssued, Refused> {
        let label = "log-in".to_owned();
        let made = make(&*self.store, label, Some(user.to_owned()), scope, user, ((self.clock)(), expires_ms)).await;
        match made {
            Err(StoreError::Conflict { what: "tenant", .. }) => {
                Err(Refused::Unknown("this tenant has too many tokens"))
            }
            // the membership ended in this moment
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => Err(Refused::Unknown(WRONG_TENANT)),
            other => Ok(other?),
        }
    }
}

const WRONG_PASSWORD: &str = "user or password is wrong";
const WRONG_TENANT: &str = "this user has no such tenant";
const WRONG_TOKEN: &str = "this token is not known, or is not a user's";

/// Makes a token and records it.
///
/// # Errors
/// As [`straas_store::IdentityStore::add_token`].
pub async fn make(
    store: &dyn Store,
    label: String,
    user: Option<String>,
    scope: Option<Membership>,
    by: &str,
    (created_ms, expires_ms): (i64, i64),
) -> Result<TokenIssued, StoreError> {
    let token = secrets::new_token();
    let record = TokenRecord {
        id: Uuid::now_v7().to_string(),
        hash: secrets::hash(&token),
        label,
        user,
        scope,
        by: by.to_owned(),
        created_ms,
        expires_ms,
    };
    store.add_token(&record).await?;
    Ok(TokenIssued { token, view: view(record) })
}

/// A token as people see it.
#[must_use]
pub fn view(record: TokenRecord) -> TokenView {
    let (tenant, role) = record.scope.map_or((None, None), |scope| (Some(scope.tenant), Role::of(&scope.role)));
    TokenView {
        id: record.id,
        label: record.label,
        user: record.user,
        admin: tenant.as_deref() == Some(ADMIN_TENANT),
        tenant,
        role,
        by: record.by,
        created_ms: record.created_ms,
        expires_ms: Some(record.expires_ms),
    }
}

#[async_trait]
impl Identity for Embedded {
    fn is_own(&self) -> bool {
        true
    }

    async fn person(&self, token: &str) -> Result<Option<Person>, Refused> {
        Ok(self.known(token).await?.map(|record| {
            let name = record.user.clone().unwrap_or_else(|| record.label.clone());
            let token = view(record);
            // a role's word that this version does not know gives nothing
            Person { name, scope: token.tenant.clone().zip(token.role), token }
        }))
    }

    async fn log_in(&self, user: &str, given: &str, tenant: Option<&str>) -> Result<TokenIssued, Refused> {
        let found = self.store.user(user).await?;
        let kept = found.as_ref().and_then(|user| user.password.clone());
        let right = password::matches(given.to_owned(), kept).await?;
        let user = found.filter(|_| right).ok_or(Refused::Unknown(WRONG_PASSWORD))?;
        let of = |tenant: &str| user.memberships.iter().find(|m| m.tenant == tenant).cloned();
        let scope = tenant.map(|tenant| of(tenant).ok_or(Refused::Unknown(WRONG_TENANT))).transpose()?;
        self.issue(&user.name, scope, (self.clock)() + LOG_IN_S * 1000).await
    }

    async fn choose(&self, token: &str, tenant: &str) -> Result<TokenIssued, Refused> {
        let record = self.known(token).await?.ok_or(Refused::Unknown(WRONG_TOKEN))?;
        let name = record.user.ok_or(Refused::Unknown(WRONG_TOKEN))?;
        let user = self.store.user(&name).await?.ok_or(Refused::Unknown(WRONG_TOKEN))?;
        let scope = user.memberships.into_iter().find(|m| m.tenant == tenant);
        // nobody stays in for ever by asking again and again: the password's time goes on
        self.issue(&name, Some(scope.ok_or(Refused::Unknown(WRONG_TENANT))?), record.expires_ms).await
    }

    async fn tenants(&self, token: &str) -> Result<Vec<String>, Refused> {
        let record = self.known(token).await?.ok_or(Refused::Unknown(WRONG_TOKEN))?;
        let Some(name) = record.user else { return Ok(record.scope.map(|scope| scope.tenant).into_iter().collect()) };
        let user = self.store.user(&name).await?;
        Ok(user.into_iter().flat_map(|user| user.memberships).map(|m| m.tenant).collect())
    }

    async fn revoke(&self, token: &str) -> Result<bool, Refused> {
        match self.known(token).await? {
            Some(record) => Ok(self.store.remove_token(&record.id, straas_store::TokensOf::Everybody).await?),
            None => Ok(false),
        }
    }
}

/// Sees to it that the administrators' tenant is there.
///
/// # Errors
/// The database cannot be written.
pub async fn found(store: &dyn Store, now_ms: i64) -> Result<(), StoreError> {
    let tenant = TenantRecord { id: ADMIN_TENANT.to_owned(), created_ms: now_ms };
    match store.add_tenant(&tenant).await {
        Err(StoreError::Duplicate { .. }) => Ok(()),
        other => other,
    }
}

/// What is kept of a new password.
///
/// # Errors
/// [`Refused::Busy`].
pub async fn hash_password(password: String) -> Result<String, Refused> {
    password::hash(password).await
}
