//! Users, tenants and tokens in memory.

use super::{MemoryStore, conflict, duplicate, missing, most};
use crate::input::clean;
use crate::{
    IdentityStore, Membership, PageRequest, Result, TOKENS_PER_TENANT_MAX, TOKENS_PER_USER_MAX, TenantRecord,
    TokenRecord, TokensOf, UserRecord,
};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Everything about who may come in.
#[derive(Debug, Default)]
pub(super) struct People {
    tenants: BTreeMap<String, TenantRecord>,
    users: BTreeMap<String, UserRecord>,
    tokens: BTreeMap<String, TokenRecord>,
}

impl People {
    fn has_all(&self, memberships: &[Membership]) -> Result<()> {
        let stranger = memberships.iter().find(|membership| !self.tenants.contains_key(&membership.tenant));
        stranger.map_or(Ok(()), |stranger| Err(missing("tenant", &stranger.tenant)))
    }

    fn check_seen(&self, user: &str, seen: Option<u64>) -> Result<()> {
        let now = self.users.get(user).map(|user| user.revision);
        if now.zip(seen).is_some_and(|(now, seen)| now != seen) { Err(conflict("user", user)) } else { Ok(()) }
    }

    fn check_scope(&self, token: &TokenRecord) -> Result<()> {
        let user = token.user.as_ref().map(|name| self.users.get(name).ok_or_else(|| missing("user", name)));
        let user = user.transpose()?;
        let Some(scope) = &token.scope else { return Ok(()) };
        self.has_all(std::slice::from_ref(scope))?;
        if self.tokens.values().filter(|t| in_tenant(t, &scope.tenant)).count() >= TOKENS_PER_TENANT_MAX as usize {
            return Err(conflict("tenant", &scope.tenant));
        }
        user.filter(|user| !user.memberships.contains(scope)).map_or(Ok(()), |user| Err(conflict("user", &user.name)))
    }
}

fn in_tenant(token: &TokenRecord, tenant: &str) -> bool {
    token.scope.as_ref().is_some_and(|scope| scope.tenant == tenant)
}

fn of_user(token: &TokenRecord, user: &str) -> bool {
    token.user.as_deref() == Some(user)
}

fn belongs(token: &TokenRecord, of: TokensOf<'_>) -> bool {
    match of {
        TokensOf::Everybody => true,
        TokensOf::Tenant(tenant) => in_tenant(token, tenant),
    }
}

fn paged<'a, T>(map: &'a BTreeMap<String, T>, page: &'a PageRequest) -> impl Iterator<Item = &'a T> {
    let after = page.after.as_deref().unwrap_or("");
    map.iter().filter(move |(id, _)| id.as_str() > after).map(|(_, found)| found)
}

#[async_trait]
impl IdentityStore for MemoryStore {
    async fn add_tenant(&self, tenant: &TenantRecord) -> Result<()> {
        self.write(|tables| {
            let people = &mut tables.people;
            if people.tenants.contains_key(&tenant.id) {
                return Err(duplicate("tenant", &tenant.id));
            }
            people.tenants.insert(tenant.id.clone(), tenant.clone());
            Ok(())
        })
    }

    async fn tenant(&self, id: &str) -> Result<Option<TenantRecord>> {
        Ok(self.tables().people.tenants.get(id).cloned())
    }

    async fn tenants(&self, page: &PageRequest) -> Result<Vec<TenantRecord>> {
        Ok(paged(&self.tables().people.tenants, page).take(most(page.limit)).cloned().collect())
    }

    async fn remove_tenant(&self, id: &str) -> Result<bool> {
        self.write(|tables| {
            if tables.topologies.values().any(|topology| topology.tenant == id) {
                return Err(conflict("tenant", id));
            }
            let people = &mut tables.people;
            people.tokens.retain(|_, token| !in_tenant(token, id));
            for user in people.users.values_mut().filter(|user| user.memberships.iter().any(|m| m.tenant == id)) {
                user.revision += 1;
                user.memberships.retain(|m| m.tenant != id);
            }
            Ok(people.tenants.remove(id).is_some())
        })
    }

    async fn add_user(&self, user: &UserRecord) -> Result<()> {
        self.write(|tables| {
            let people = &mut tables.people;
            if people.users.contains_key(&user.name) {
                return Err(duplicate("user", &user.name));
            }
            people.has_all(&user.memberships)?;
            let mut user = user.clone();
            user.memberships.sort_by(|a, b| a.tenant.cmp(&b.tenant));
            people.users.insert(user.name.clone(), user);
            Ok(())
        })
    }

    async fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        Ok(self.tables().people.users.get(name).cloned())
    }

    async fn users(&self, tenant: Option<&str>, page: &PageRequest) -> Result<Vec<UserRecord>> {
        let tables = self.tables();
        let wanted =
            |user: &&UserRecord| tenant.is_none_or(|tenant| user.memberships.iter().any(|m| m.tenant == tenant));
        Ok(paged(&tables.people.users, page).filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn set_password(&self, name: &str, hash: Option<&str>, seen: Option<u64>) -> Result<bool> {
        self.write(|tables| {
            let people = &mut tables.people;
            people.check_seen(name, seen)?;
            let Some(user) = people.users.get_mut(name) else { return Ok(false) };
            user.revision += 1;
            user.password = hash.map(str::to_owned);
            people.tokens.retain(|_, token| !of_user(token, name));
            Ok(true)
        })
    }

    async fn remove_user(&self, name: &str, seen: Option<u64>) -> Result<bool> {
        self.write(|tables| {
            let people = &mut tables.people;
            people.check_seen(name, seen)?;
            people.tokens.retain(|_, token| !of_user(token, name));
            Ok(people.users.remove(name).is_some())
        })
    }

    async fn set_membership(&self, user: &str, membership: &Membership, seen: Option<u64>) -> Result<()> {
        self.write(|tables| {
            let people = &mut tables.people;
            if !people.users.contains_key(user) {
                return Err(missing("user", user));
            }
            people.check_seen(user, seen)?;
            people.has_all(std::slice::from_ref(membership))?;
            if let Some(user) = people.users.get_mut(user) {
                user.revision += 1;
                user.memberships.retain(|m| m.tenant != membership.tenant);
                user.memberships.push(membership.clone());
                user.memberships.sort_by(|a, b| a.tenant.cmp(&b.tenant));
            }
            let stale = |token: &TokenRecord| {
                of_user(token, user)
                    && token.scope.as_ref().is_some_and(|s| s.tenant == membership.tenant && s != membership)
            };
            people.tokens.retain(|_, token| !stale(token));
            Ok(())
        })
    }

    async fn end_membership(&self, user: &str, tenant: &str, seen: Option<u64>) -> Result<bool> {
        self.write(|tables| {
            let people = &mut tables.people;
            people.check_seen(user, seen)?;
            let Some(found) = people.users.get_mut(user) else { return Ok(false) };
            let before = found.memberships.len();
            found.memberships.retain(|m| m.tenant != tenant);
            if found.memberships.len() == before {
                return Ok(false);
            }
            found.revision += 1;
            people.tokens.retain(|_, token| !(of_user(token, user) && in_tenant(token, tenant)));
            Ok(true)
        })
    }

    async fn add_token(&self, token: &TokenRecord) -> Result<()> {
        self.write(|tables| {
            let people = &mut tables.people;
            people.tokens.retain(|_, kept| kept.expires_ms > token.created_ms);
            people.check_scope(token)?;
            if people.tokens.values().any(|kept| kept.hash == token.hash) || people.tokens.contains_key(&token.id) {
                return Err(duplicate("token", &token.id));
            }
            if let Some(user) = &token.user {
                let mut own: Vec<_> =
                    people.tokens.values().filter(|t| of_user(t, user)).map(|t| (t.expires_ms, t.id.clone())).collect();
                own.sort();
                let surplus = (own.len() + 1).saturating_sub(TOKENS_PER_USER_MAX as usize);
                for (_, id) in own.into_iter().take(surplus) {
                    people.tokens.remove(&id);
                }
            }
            let (label, by) = (clean(&token.label).into_owned(), clean(&token.by).into_owned());
            people.tokens.insert(token.id.clone(), TokenRecord { label, by, ..token.clone() });
            Ok(())
        })
    }

    async fn token(&self, hash: &str, now_ms: i64) -> Result<Option<TokenRecord>> {
        let tables = self.tables();
        let mut live = tables.people.tokens.values().filter(|token| token.expires_ms > now_ms);
        Ok(live.find(|token| token.hash == hash).cloned())
    }

    async fn token_by_id(&self, id: &str, now_ms: i64) -> Result<Option<TokenRecord>> {
        let found = self.tables().people.tokens.get(id).cloned();
        Ok(found.filter(|token| token.expires_ms > now_ms))
    }

    async fn tokens(
        &self,
        of: TokensOf<'_>,
        user: Option<&str>,
        now_ms: i64,
        page: &PageRequest,
    ) -> Result<Vec<TokenRecord>> {
        let tables = self.tables();
        let wanted = |token: &&TokenRecord| {
            token.expires_ms > now_ms && belongs(token, of) && user.is_none_or(|user| of_user(token, user))
        };
        Ok(paged(&tables.people.tokens, page).filter(wanted).take(most(page.limit)).cloned().collect())
    }

    async fn remove_token(&self, id: &str, of: TokensOf<'_>) -> Result<bool> {
        self.write(|tables| {
            let people = &mut tables.people;
            if !people.tokens.get(id).is_some_and(|token| belongs(token, of)) {
                return Ok(false);
            }
            Ok(people.tokens.remove(id).is_some())
        })
    }
}
