//! Users, tenants and tokens in SQL.
//!
//! A token is recorded only together with the membership that it rests on: whoever changes a
//! membership locks the user's row first, and so does whoever makes a token.

use super::rows::{count, key};
use super::{Fail, SqlStore};
use crate::input::clean;
use crate::{
    IdentityStore, Membership, PAGE_MAX, PageRequest, Result, StoreError, TOKENS_PER_TENANT_MAX, TOKENS_PER_USER_MAX,
    TenantRecord, TokenRecord, TokensOf, UserRecord,
};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as, query_scalar};

macro_rules! token_columns {
    ($rest:literal) => {
        concat!("select id, hash, label, account, tenant, role, made_by, created_ms, expires_ms from token ", $rest)
    };
}

statements! {
    TENANT_ADD = "insert into tenant (id, created_ms) values ($1, $2)";
    TENANT_GET = "select id, created_ms from tenant where id = $1";
    TENANTS = "select id, created_ms from tenant where id > $1 order by id limit $2";
    TENANT_REMOVE = "delete from tenant where id = $1";
    TENANT_OWNS = "select count(*) from topology where tenant = $1";
    USER_ADD = "insert into account (name, password, created_ms) values ($1, $2, $3)";
    USER_GET = "select name, password, created_ms, revision from account where name = $1";
    USERS = "select name, password, created_ms, revision from account where name > $1
            and (cast($3 as text) is null
                or exists (select 1 from membership m where m.account = account.name and m.tenant = $3))
        order by name limit $2";
    USER_TOUCH = "update account set revision = revision + 1 where name = $1 returning revision";
    USERS_TOUCH_IN_TENANT = "update account set revision = revision + 1
        where name in (select account from membership where tenant = $1)";
    USER_PASSWORD = "update account set password = $2 where name = $1";
    USER_REMOVE = "delete from account where name = $1";
    MEMBERSHIPS_OF = "select account, tenant, role from membership where account = $1 order by tenant";
    MEMBERSHIPS_BETWEEN = "select account, tenant, role from membership where account >= $1 and account <= $2
        order by account, tenant";
    MEMBERSHIP_SET = "insert into membership (account, tenant, role) values ($1, $2, $3)
        on conflict (account, tenant) do update set role = excluded.role";
    MEMBERSHIP_END = "delete from membership where account = $1 and tenant = $2";
    MEMBERSHIP_THERE = "select count(*) from membership where account = $1 and tenant = $2 and role = $3";
    TOKEN_ADD = "insert into token (id, hash, label, account, tenant, role, made_by, created_ms, expires_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    TOKEN_GET = token_columns!("where hash = $1 and expires_ms > $2");
    TOKEN_BY_ID = token_columns!("where id = $1 and expires_ms > $2");
    TOKENS = token_columns!("where id > $1 and expires_ms > $3 and (cast($4 as text) is null or account = $4)
        order by id limit $2");
    TOKENS_OF_TENANT = token_columns!("where tenant = $5 and id > $1 and expires_ms > $3
        and (cast($4 as text) is null or account = $4) order by id limit $2");
    TOKENS_COUNT_OF_TENANT = "select count(*) from token where tenant = $1";
    TOKENS_TRIM_OF_USER = "delete from token where id in (select id from token where account = $1
        order by expires_ms desc, id desc limit 1000000 offset $2)";
    TOKENS_EXPIRED = "delete from token where expires_ms <= $1";
    TOKENS_END_OF_USER = "delete from token where account = $1";
    TOKENS_END_IN_TENANT = "delete from token where account = $1 and tenant = $2";
    TOKENS_END_OTHER_ROLE = "delete from token where account = $1 and tenant = $2 and role <> $3";
    TOKEN_REMOVE = "delete from token where id = $1";
    TOKEN_REMOVE_OF_TENANT = "delete from token where id = $1 and tenant = $2";
    @ USER_LOCK = sqlite "select name from account where name = $1",
        postgres "select name from account where name = $1 for no key update";
    @ TENANT_LOCK = sqlite "select id from tenant where id = $1",
        postgres "select id from tenant where id = $1 for no key update";
}

#[derive(FromRow)]
struct TenantRow {
    id: String,
    created_ms: i64,
}

impl From<TenantRow> for TenantRecord {
    fn from(row: TenantRow) -> Self {
        Self { id: row.id, created_ms: row.created_ms }
    }
}

#[derive(FromRow)]
struct UserRow {
    name: String,
    password: Option<String>,
    created_ms: i64,
    revision: i64,
}

#[derive(FromRow)]
struct MembershipRow {
    account: String,
    tenant: String,
    role: String,
}

#[derive(FromRow)]
struct TokenRow {
    id: String,
    hash: String,
    label: String,
    account: Option<String>,
    tenant: Option<String>,
    role: Option<String>,
    made_by: String,
    created_ms: i64,
    expires_ms: i64,
}

impl From<TokenRow> for TokenRecord {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            hash: row.hash,
            label: row.label,
            user: row.account,
            scope: row.tenant.zip(row.role).map(|(tenant, role)| Membership { tenant, role }),
            by: row.made_by,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
        }
    }
}

fn user(row: UserRow, memberships: &[MembershipRow]) -> Result<UserRecord, Fail> {
    let own = memberships.iter().filter(|m| m.account == row.name);
    let memberships = own.map(|m| Membership { tenant: m.tenant.clone(), role: m.role.clone() }).collect();
    Ok(UserRecord {
        name: row.name,
        password: row.password,
        created_ms: row.created_ms,
        revision: count(row.revision)?,
        memberships,
    })
}

fn missing(what: &'static str, id: &str) -> StoreError {
    StoreError::NotFound { what, id: id.to_owned() }
}

/// Locks the row of a thing inside a transaction; `NotFound` if it is not there.
macro_rules! locked {
    ($tx:ident, $on:ident, $lock:expr, $what:literal, $id:expr) => {{
        let found: Option<String> = query_scalar($on(&$lock)).bind(key($id)).fetch_optional(&mut *$tx).await?;
        found.ok_or_else(|| missing($what, $id))?
    }};
}

/// Locks a user inside a transaction and raises his revision; `false` if there is none, `Conflict` if he is not as
/// he was seen.
macro_rules! touched {
    ($tx:ident, $on:ident, $name:expr, $seen:expr) => {{
        let now: Option<i64> = query_scalar($on(&USER_TOUCH)).bind(key($name)).fetch_optional(&mut *$tx).await?;
        let before = now.map(|now| now - 1);
        let seen: Option<u64> = $seen;
        if before.zip(seen).is_some_and(|(before, seen)| u64::try_from(before) != Ok(seen)) {
            return Err(StoreError::Conflict { what: "user", id: $name.to_owned() }.into());
        }
        now.is_some()
    }};
}

fn bounds(page: &PageRequest) -> (String, i64) {
    (key(page.after.as_deref().unwrap_or("")).into_owned(), i64::from(page.limit.min(PAGE_MAX)))
}

#[async_trait]
impl IdentityStore for SqlStore {
    async fn add_tenant(&self, tenant: &TenantRecord) -> Result<()> {
        writing!(self, "adding a tenant", |tx, on| {
            let added = query(on(&TENANT_ADD)).bind(key(&tenant.id)).bind(tenant.created_ms).execute(&mut *tx).await;
            added.map(drop).map_err(|cause| Fail::or_duplicate(cause, "tenant", &tenant.id))?;
        })
    }

    async fn tenant(&self, id: &str) -> Result<Option<TenantRecord>> {
        let found: Option<TenantRow> =
            asking!(self, "reading a tenant", |pool, on| query_as(on(&TENANT_GET)).bind(key(id)).fetch_optional(pool))?;
        Ok(found.map(Into::into))
    }

    async fn tenants(&self, page: &PageRequest) -> Result<Vec<TenantRecord>> {
        let (after, limit) = bounds(page);
        let found: Vec<TenantRow> = asking!(self, "listing tenants", |pool, on| query_as(on(&TENANTS))
            .bind(&after)
            .bind(limit)
            .fetch_all(pool))?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn remove_tenant(&self, id: &str) -> Result<bool> {
        writing!(self, "removing a tenant", |tx, on| {
            let owned: i64 = query_scalar(on(&TENANT_OWNS)).bind(key(id)).fetch_one(&mut *tx).await?;
            if owned > 0 {
                return Err(StoreError::Conflict { what: "tenant", id: id.to_owned() }.into());
            }
            query(on(&USERS_TOUCH_IN_TENANT)).bind(key(id)).execute(&mut *tx).await?;
            query(on(&TENANT_REMOVE)).bind(key(id)).execute(&mut *tx).await?.rows_affected() > 0
        })
    }

    async fn add_user(&self, user: &UserRecord) -> Result<()> {
        writing!(self, "adding a user", |tx, on| {
            query(on(&USER_ADD))
                .bind(key(&user.name))
                .bind(user.password.as_deref())
                .bind(user.created_ms)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, "user", &user.name))?;
            for membership in &user.memberships {
                query(on(&MEMBERSHIP_SET))
                    .bind(key(&user.name))
                    .bind(key(&membership.tenant))
                    .bind(clean(&membership.role))
                    .execute(&mut *tx)
                    .await
                    .map_err(|cause| Fail::or_missing(cause, "tenant", &membership.tenant))?;
            }
        })
    }

    async fn user(&self, name: &str) -> Result<Option<UserRecord>> {
        reading!(self, "reading a user", |tx, on| {
            let found: Option<UserRow> = query_as(on(&USER_GET)).bind(key(name)).fetch_optional(&mut *tx).await?;
            let memberships: Vec<MembershipRow> =
                query_as(on(&MEMBERSHIPS_OF)).bind(key(name)).fetch_all(&mut *tx).await?;
            found.map(|row| user(row, &memberships)).transpose()?
        })
    }

    async fn users(&self, tenant: Option<&str>, page: &PageRequest) -> Result<Vec<UserRecord>> {
        let (after, limit) = bounds(page);
        reading!(self, "listing users", |tx, on| {
            let listed = query_as(on(&USERS)).bind(&after).bind(limit).bind(tenant.map(key));
            let found: Vec<UserRow> = listed.fetch_all(&mut *tx).await?;
            let ends = found.first().zip(found.last()).map(|(first, last)| (first.name.clone(), last.name.clone()));
            let memberships: Vec<MembershipRow> = match ends {
                Some((first, last)) => {
                    query_as(on(&MEMBERSHIPS_BETWEEN)).bind(first).bind(last).fetch_all(&mut *tx).await?
                }
                None => Vec::new(),
            };
            found.into_iter().map(|row| user(row, &memberships)).collect::<Result<Vec<_>, Fail>>()?
        })
    }

    async fn set_password(&self, name: &str, hash: Option<&str>, seen: Option<u64>) -> Result<bool> {
        writing!(self, "setting a password", |tx, on| {
            if !touched!(tx, on, name, seen) {
                return Ok(false);
            }
            query(on(&TOKENS_END_OF_USER)).bind(key(name)).execute(&mut *tx).await?;
            query(on(&USER_PASSWORD)).bind(key(name)).bind(hash).execute(&mut *tx).await?.rows_affected() > 0
        })
    }

    async fn remove_user(&self, name: &str, seen: Option<u64>) -> Result<bool> {
        writing!(self, "removing a user", |tx, on| {
            if !touched!(tx, on, name, seen) {
                return Ok(false);
            }
            query(on(&USER_REMOVE)).bind(key(name)).execute(&mut *tx).await?.rows_affected() > 0
        })
    }

    async fn set_membership(&self, user: &str, membership: &Membership, seen: Option<u64>) -> Result<()> {
        writing!(self, "giving a role", |tx, on| {
            if !touched!(tx, on, user, seen) {
                return Err(missing("user", user).into());
            }
            query(on(&MEMBERSHIP_SET))
                .bind(key(user))
                .bind(key(&membership.tenant))
                .bind(clean(&membership.role))
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_missing(cause, "tenant", &membership.tenant))?;
            query(on(&TOKENS_END_OTHER_ROLE))
                .bind(key(user))
                .bind(key(&membership.tenant))
                .bind(clean(&membership.role))
                .execute(&mut *tx)
                .await?;
        })
    }

    async fn end_membership(&self, user: &str, tenant: &str, seen: Option<u64>) -> Result<bool> {
        writing!(self, "taking a role", |tx, on| {
            if !touched!(tx, on, user, seen) {
                return Ok(false);
            }
            query(on(&TOKENS_END_IN_TENANT)).bind(key(user)).bind(key(tenant)).execute(&mut *tx).await?;
            let ended = query(on(&MEMBERSHIP_END)).bind(key(user)).bind(key(tenant)).execute(&mut *tx).await?;
            if ended.rows_affected() == 0 {
                // nothing was changed: his revision stays too
                return Ok(false);
            }
            true
        })
    }

    async fn add_token(&self, token: &TokenRecord) -> Result<()> {
        let refused = |what: &'static str, id: &str| StoreError::Conflict { what, id: id.to_owned() };
        let (tenant, role) =
            token.scope.as_ref().map_or((None, None), |s| (Some(s.tenant.as_str()), Some(s.role.as_str())));
        writing!(self, "adding a token", |tx, on| {
            if let Some(user) = token.user.as_deref() {
                locked!(tx, on, USER_LOCK, "user", user);
            }
            query(on(&TOKENS_EXPIRED)).bind(token.created_ms).execute(&mut *tx).await?;
            if let (Some(tenant), Some(role)) = (tenant, role) {
                locked!(tx, on, TENANT_LOCK, "tenant", tenant);
                let there: i64 =
                    query_scalar(on(&TOKENS_COUNT_OF_TENANT)).bind(key(tenant)).fetch_one(&mut *tx).await?;
                if there >= i64::from(TOKENS_PER_TENANT_MAX) {
                    return Err(refused("tenant", tenant).into());
                }
                if let Some(user) = token.user.as_deref() {
                    let asked = query_scalar(on(&MEMBERSHIP_THERE)).bind(key(user)).bind(key(tenant)).bind(clean(role));
                    let member: i64 = asked.fetch_one(&mut *tx).await?;
                    if member == 0 {
                        return Err(refused("user", user).into());
                    }
                }
            }
            if let Some(user) = token.user.as_deref() {
                let keep = i64::from(TOKENS_PER_USER_MAX) - 1;
                query(on(&TOKENS_TRIM_OF_USER)).bind(key(user)).bind(keep).execute(&mut *tx).await?;
            }
            query(on(&TOKEN_ADD))
                .bind(&token.id)
                .bind(&token.hash)
                .bind(clean(&token.label))
                .bind(token.user.as_deref().map(key))
                .bind(tenant.map(key))
                .bind(role.map(clean))
                .bind(clean(&token.by))
                .bind(token.created_ms)
                .bind(token.expires_ms)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, "token", &token.id))?;
        })
    }

    async fn token(&self, hash: &str, now_ms: i64) -> Result<Option<TokenRecord>> {
        let found: Option<TokenRow> = asking!(self, "reading a token", |pool, on| query_as(on(&TOKEN_GET))
            .bind(key(hash))
            .bind(now_ms)
            .fetch_optional(pool))?;
        Ok(found.map(Into::into))
    }

    async fn token_by_id(&self, id: &str, now_ms: i64) -> Result<Option<TokenRecord>> {
        let found: Option<TokenRow> = asking!(self, "reading a token", |pool, on| query_as(on(&TOKEN_BY_ID))
            .bind(key(id))
            .bind(now_ms)
            .fetch_optional(pool))?;
        Ok(found.map(Into::into))
    }

    async fn tokens(
        &self,
        of: TokensOf<'_>,
        user: Option<&str>,
        now_ms: i64,
        page: &PageRequest,
    ) -> Result<Vec<TokenRecord>> {
        let (after, limit) = bounds(page);
        let (statement, tenant) = match of {
            TokensOf::Everybody => (&TOKENS, None),
            TokensOf::Tenant(tenant) => (&TOKENS_OF_TENANT, Some(tenant)),
        };
        let found: Vec<TokenRow> = asking!(self, "listing tokens", |pool, on| async {
            let listed = query_as(on(statement)).bind(&after).bind(limit).bind(now_ms).bind(user.map(key));
            match tenant {
                None => listed.fetch_all(pool).await,
                Some(tenant) => listed.bind(key(tenant)).fetch_all(pool).await,
            }
        })?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    async fn remove_token(&self, id: &str, of: TokensOf<'_>) -> Result<bool> {
        writing!(self, "removing a token", |tx, on| {
            let removed = match of {
                TokensOf::Everybody => query(on(&TOKEN_REMOVE)).bind(key(id)).execute(&mut *tx).await?,
                TokensOf::Tenant(tenant) => {
                    query(on(&TOKEN_REMOVE_OF_TENANT)).bind(key(id)).bind(key(tenant)).execute(&mut *tx).await?
                }
            };
            removed.rows_affected() > 0
        })
    }
}
