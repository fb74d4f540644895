//! Users and tokens of OpenStack's Keystone.
//!
//! A token that Keystone knew is believed for `believed_s`, so that not every request asks it and a
//! revocation is honoured within a minute. Keystone away: whoever is not believed at the moment is let in
//! by nobody. Tenants are Keystone's projects, by their ids.

use super::{Identity, Person, Refused};
use crate::clock::Clock;
use crate::config::KeystoneAuth;
use crate::secrets;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use straas_drivers::keystone::{IssuedToken, Keystone, KeystoneConfig, KeystoneError, KeystoneToken};
use straas_schemas::identity::{Role, TokenIssued, TokenView};

/// Tokens remembered at once; when there are more, all are asked about again.
const REMEMBERED_MAX: usize = 10_000;

/// Identity in Keystone.
pub struct InKeystone {
    keystone: Keystone,
    auth: KeystoneAuth,
    clock: Clock,
    known: Mutex<Known>,
}

/// What Keystone said lately.
#[derive(Default)]
struct Known {
    /// By the token's hash: who it was, and until when that is believed.
    people: HashMap<String, (Person, Instant)>,
    /// How many tokens were ended here: what was asked before the last of them may be about it.
    ended: u64,
}

impl InKeystone {
    /// With these settings, by this clock.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub fn new(auth: KeystoneAuth, clock: Clock) -> Result<Self, KeystoneError> {
        let keystone = Keystone::new(KeystoneConfig {
            url: auth.url.clone(),
            ca_file: auth.ca_file.clone(),
            user: auth.user.clone(),
            password_file: auth.password_file.clone(),
            project: auth.project.clone(),
            domain: auth.domain.clone(),
        })?;
        Ok(Self { keystone, auth, clock, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, hash: &str) -> Option<Person> {
        self.known().people.get(hash).filter(|(_, until)| *until > Instant::now()).map(|(person, _)| person.clone())
    }

    /// Remembers what was asked at this time, when so many had been ended.
    fn remember(&self, hash: String, person: Person, (asked, ended): (Instant, u64)) {
        let mut known = self.known();
        if known.ended != ended {
            return;
        }
        if known.people.len() >= REMEMBERED_MAX {
            known.people.retain(|_, (_, until)| *until > asked);
        }
        if known.people.len() >= REMEMBERED_MAX {
            known.people.clear();
        }
        // no longer than the token itself
        let left = person.token.expires_ms.map_or(0, |at| at - (self.clock)());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let believed = Duration::from_secs(self.auth.believed_s.into());
        known.people.insert(hash, (person, asked + left.min(believed)));
    }

    fn view(&self, token: &KeystoneToken) -> TokenView {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().map_or(0, |at| at.as_millisecond());
        let role = token.project.as_ref().and_then(|_| self.role(token));
        let tenant = token.project.as_ref().map(|project| project.id.clone());
        TokenView {
            id: token.audit_ids.first().cloned().unwrap_or_default(),
            label: String::new(),
            user: Some(token.user.name.clone()),
            admin: role.is_some() && tenant.as_ref().is_some_and(|tenant| self.auth.admin_projects.contains(tenant)),
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
        let asked = (Instant::now(), self.known().ended);
        let found = match self.keystone.validate(token).await {
            Ok(found) => found,
            // it cannot even stand in a header
            Err(KeystoneError::Refused) => None,
            Err(error) => return Err(refused(error)),
        };
        let Some(found) = found else { return Ok(None) };
        let view = self.view(&found);
        let person = Person { name: found.user.name, scope: view.tenant.clone().zip(view.role), token: view };
        self.remember(hash, person.clone(), asked);
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
        let ended = self.keystone.revoke(token).await;
        // also where Keystone could not be told: whoever wants it ended is not to be let in on what was known
        let mut known = self.known();
        known.ended += 1;
        known.people.remove(&secrets::hash(token));
        ended.map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use straas_drivers::keystone::Named;

    fn keystone() -> InKeystone {
        let auth = "url = 'http://127.0.0.1:1/v3'\nuser = 'straas'\npassword_file = '/none'\nproject = 'service'\n\
                    admin_projects = ['platform']\noperator_roles = ['ops']\nhealth_check_roles = ['checker']";
        InKeystone::new(toml::from_str(auth).expect("settings"), crate::clock::system()).expect("a Keystone")
    }

    fn token(project: Option<&str>, roles: &[&str]) -> KeystoneToken {
        let named = |name: &str| Named { id: name.to_owned(), name: name.to_owned() };
        KeystoneToken {
            user: named("ann"),
            project: project.map(named),
            roles: roles.iter().copied().map(named).collect(),
            issued_at: "2024-01-01T00:00:00.000000Z".to_owned(),
            expires_at: "2999-01-01T00:00:00.000000Z".to_owned(),
            audit_ids: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    #[test]
    fn roles_there_are_roles_here() {
        for (project, roles, role, admin) in [
            (Some("red"), &["member"][..], Some(Role::Member), false),
            (Some("red"), &["admin"], Some(Role::Member), false),
            (Some("red"), &["member", "ops"], Some(Role::Operator), false),
            (Some("red"), &["checker"], Some(Role::HealthCheck), false),
            (Some("red"), &["reader"], None, false),
            (Some("platform"), &["member"], Some(Role::Member), true),
            (Some("platform"), &["reader"], None, false),
            (None, &["ops"], None, false),
        ] {
            let view = keystone().view(&token(project, roles));
            assert_eq!((view.role, view.admin), (role, admin), "{project:?} {roles:?}");
            assert_eq!((view.tenant.as_deref(), view.id.as_str()), (project, "a"));
        }
    }

    #[test]
    fn what_was_asked_before_a_token_ended_is_not_remembered() {
        let keystone = keystone();
        let view = keystone.view(&token(Some("red"), &["member"]));
        let person = Person { name: "ann".to_owned(), scope: None, token: view };
        let asked = (Instant::now(), keystone.known().ended);
        keystone.remember("one".to_owned(), person.clone(), asked);
        assert_eq!(keystone.remembered("one"), Some(person.clone()));
        keystone.known().ended += 1;
        keystone.remember("two".to_owned(), person.clone(), asked);
        assert_eq!(keystone.remembered("two"), None);
        // nor is an answer that came too late to be believed
        let long_ago = Instant::now().checked_sub(Duration::from_secs(31)).expect("a time");
        keystone.remember("three".to_owned(), person, (long_ago, 1));
        assert_eq!(keystone.remembered("three"), None);
    }
}
