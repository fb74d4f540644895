//! Users and tokens of OpenStack's Keystone.
//!
//! A token that Keystone knew is believed for [`BELIEVED`], so that not every request asks it and a
//! revocation is honoured within a minute. Keystone away: whoever is not believed at the moment is let in
//! by nobody. Tenants are Keystone's projects, by their ids.

use super::{Identity, Person, Refused};
use crate::config::KeystoneAuth;
use crate::secrets;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use straas_drivers::keystone::{IssuedToken, Keystone, KeystoneConfig, KeystoneError, KeystoneToken};
use straas_schemas::identity::{Role, TokenIssued, TokenView};

/// How long an answer of Keystone's is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// Tokens remembered at once; when there are more, all are asked about again.
const REMEMBERED_MAX: usize = 10_000;

/// Identity in Keystone.
pub struct InKeystone {
    keystone: Keystone,
    auth: KeystoneAuth,
    /// By the token's hash: who it was, and until when that is believed.
    known: Mutex<HashMap<String, (Person, Instant)>>,
}

impl InKeystone {
    /// With these settings.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(auth: KeystoneAuth) -> Result<Self, KeystoneError> {
        let keystone = Keystone::new(KeystoneConfig {
            url: auth.url.clone(),
            ca_file: auth.ca_file.clone(),
            user: auth.user.clone(),
            password_file: auth.password_file.clone(),
            project: auth.project.clone(),
            domain: auth.domain.clone(),
        })?;
        Ok(Self { keystone, auth, known: Mutex::new(HashMap::new()) })
    }

    fn remembered(&self, hash: &str) -> Option<Person> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).filter(|(_, until)| *until > Instant::now()).map(|(person, _)| person.clone())
    }

    fn remember(&self, hash: String, person: Person) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        // no longer than the token itself
        let left = person.token.expires_ms.map_or(0, |at| at - crate::clock::now_ms());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        known.insert(hash, (person, now + left.min(BELIEVED)));
    }

    fn view(&self, token: &KeystoneToken) -> TokenView {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().map_or(0, |at| at.as_millisecond());
        let role = token.project.as_ref().and_then(|_| self.role(token));
        let tenant = token.project.as_ref().filter(|_| role.is_some()).map(|project| project.id.clone());
        TokenView {
            id: token.audit_ids.first().cloned().unwrap_or_default(),
            label: String::new(),
            user: Some(token.user.name.clone()),
            admin: tenant.as_ref().is_some_and(|tenant| self.auth.admin_projects.contains(tenant)),
            tenant,
            role,
            by: "Keystone".to_owned(),
            created_ms: ms(&token.issued_at),
            expires_ms: Some(ms(&token.expires_at)),
        }
    }

    /// The role here of who has these roles there; none if none of them means anything here.
    fn role(&self, token: &KeystoneToken) -> Option<Role> {
        let has = |wanted: &[String]| token.roles.iter().any(|role| wanted.contains(&role.name));
        let auth = &self.auth;
        let roles = [
            (&auth.operator_roles, Role::Operator),
            (&auth.member_roles, Role::Member),
            (&auth.health_check_roles, Role::HealthCheck),
        ];
        roles.into_iter().find(|(names, _)| has(names)).map(|(_, role)| role)
    }

    fn issued(&self, issued: IssuedToken) -> TokenIssued {
        TokenIssued { view: self.view(&issued.token), token: issued.secret }
    }
}

fn refused(error: KeystoneError) -> Refused {
    match error {
        KeystoneError::Refused => Refused::Unknown("user, password, token or tenant is wrong"),
        other => Refused::Away(Box::new(other)),
    }
}

#[async_trait]
impl Identity for InKeystone {
    fn is_own(&self) -> bool {
        false
    }

    async fn person(&self, token: &str) -> Result<Option<Person>, Refused> {
        let hash = secrets::hash(token);
        if let Some(person) = self.remembered(&hash) {
            return Ok(Some(person));
        }
        let found = match self.keystone.validate(token).await {
            Ok(found) => found,
            // it cannot even stand in a header
            Err(KeystoneError::Refused) => None,
            Err(error) => return Err(refused(error)),
        };
        let Some(found) = found else { return Ok(None) };
        let view = self.view(&found);
        let person = Person { name: found.user.name, scope: view.tenant.clone().zip(view.role), token: view };
        self.remember(hash, person.clone());
        Ok(Some(person))
    }

    async fn log_in(&self, user: &str, password: &str, tenant: Option<&str>) -> Result<TokenIssued, Refused> {
        let issued = self.keystone.log_in(user, password, tenant).await;
        issued.map(|issued| self.issued(issued)).map_err(refused)
    }

    async fn choose(&self, token: &str, tenant: &str) -> Result<TokenIssued, Refused> {
        self.keystone.choose(token, tenant).await.map(|issued| self.issued(issued)).map_err(refused)
    }

    async fn tenants(&self, token: &str) -> Result<Vec<String>, Refused> {
        let found = self.keystone.projects(token).await.map_err(refused)?;
        Ok(found.into_iter().map(|project| project.name).collect())
    }

    async fn revoke(&self, token: &str) -> Result<bool, Refused> {
        let ended = self.keystone.revoke(token).await.map_err(refused)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&secrets::hash(token));
        Ok(ended)
    }
}
