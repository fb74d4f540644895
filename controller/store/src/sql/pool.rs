//! The pool of hosts in SQL.
//!
//! A token's row is the lock of joining with it. A host's row holds what others ask by in columns and the rest in a
//! document; its revision decides who writes.

use super::rows::{count, from_text, int, key, to_text};
use super::{Fail, SqlStore};
use crate::{
    EXPIRED_TOKEN_KEPT_MS, JoinOutcome, Joining, PAGE_MAX, PageRequest, PoolFilter, PoolHost, PoolStore, PoolToken,
    Result, StoreError,
};
use async_trait::async_trait;
use serde::Serialize;
use sqlx::{FromRow, query, query_as, query_scalar};
use straas_schemas::{HostId, NodeId};

macro_rules! hosts {
    ($rest:literal) => {
        concat!("select id, holds, incarnation, revision, seen_ms, document from pool_host where ", $rest)
    };
}
macro_rules! tokens {
    ($rest:literal) => {
        concat!("select id, hash, host, joined, most, expires_ms, document from pool_token where ", $rest)
    };
}

statements! {
    CHANGE_NUMBER = "update counter set value = value + 1 where name = 'pool' returning value";
    HOST_ADD = "insert into pool_host (id, zone, node, holds, incarnation, revision, change, seen_ms, document)
        values ($1, $2, null, null, $3, 1, $4, $5, $6)";
    HOST_GET = hosts!("id = $1");
    HOSTS_OF = hosts!("node = $1 or holds = $1");
    HOSTS = hosts!("id > $1 and (cast($3 as text) is null or zone = $3) order by id limit $2");
    HOSTS_IDLE = hosts!("id > $1 and (cast($3 as text) is null or zone = $3) and node is null and holds is null order by id limit $2");
    HOST_CHANGE = "update pool_host set node = $3, holds = $4, revision = revision + 1, change = $5, document = $6
        where id = $1 and revision = $2";
    HOST_JOINED = "update pool_host set incarnation = incarnation + 1, revision = revision + 1, change = $2, seen_ms = $3,
            document = $4
        where id = $1 returning incarnation";
    HOST_REVISION = "select revision from pool_host where id = $1";
    HOST_REMOVE = "delete from pool_host where id = $1 and revision = $2";
    CHANGES = "select id, change from pool_host where change > $1 order by change limit $2";
    TOKEN_ADD = "insert into pool_token (id, hash, host, joined, most, expires_ms, document) values ($1, $2, $3, 0, $4, $5, $6)";
    TOKENS_FORGET = "delete from pool_token where expires_ms < $1";
    TOKEN_GET = tokens!("id = $1");
    TOKENS = tokens!("id > $1 and expires_ms > $3 order by id limit $2");
    TOKEN_REMOVE = "delete from pool_token where id = $1";
    TOKEN_SPEND = "update pool_token set joined = joined + 1 where hash = $1 and joined < most and expires_ms > $2 returning id";
    TOKEN_OF = tokens!("hash = $1");
    JOINED = "select j.host, j.incarnation, h.incarnation from pool_joined j join pool_host h on h.id = j.host
        where j.token = $1 and j.public_key = $2";
    JOINED_ADD = "insert into pool_joined (token, public_key, host, incarnation) values ($1, $2, $3, $4)
        on conflict (token, public_key) do update set host = excluded.host, incarnation = excluded.incarnation";
    @ TOKEN_LOCK = sqlite "select id from pool_token where hash = $1",
        postgres "select id from pool_token where hash = $1 for no key update";
    @ SEEN = sqlite "update pool_host set seen_ms = max(coalesce(seen_ms, 0), s.value ->> 'at_ms')
            from json_each($1) s where pool_host.id = s.value ->> 'host'",
        postgres "update pool_host set seen_ms = greatest(coalesce(seen_ms, 0), s.at_ms)
            from json_to_recordset($1::json) as s(host text, at_ms bigint) where pool_host.id = s.host";
}

#[derive(FromRow)]
struct HostRow {
    id: String,
    holds: Option<String>,
    incarnation: i64,
    revision: i64,
    seen_ms: Option<i64>,
    document: String,
}

impl TryFrom<HostRow> for PoolHost {
    type Error = Fail;
    fn try_from(row: HostRow) -> Result<Self, Fail> {
        let host: Self = from_text(|| format!("host {}", row.id), &row.document)?;
        let (incarnation, revision) = (count(row.incarnation)?, count(row.revision)?);
        Ok(Self { holds: row.holds.map(Into::into), incarnation, revision, seen_ms: row.seen_ms, ..host })
    }
}

#[derive(FromRow)]
struct TokenRow {
    id: String,
    hash: String,
    host: Option<String>,
    joined: i64,
    most: i64,
    expires_ms: i64,
    document: String,
}

impl TryFrom<TokenRow> for PoolToken {
    type Error = Fail;
    fn try_from(row: TokenRow) -> Result<Self, Fail> {
        let token: Self = from_text(|| format!("join token {}", row.id), &row.document)?;
        let (joined, most) = (count(row.joined)?, count(row.most)?);
        let host = row.host.map(Into::into);
        Ok(Self { hash: row.hash, host, joined, most, expires_ms: row.expires_ms, ..token })
    }
}

/// Adds a token inside a transaction.
macro_rules! add_token {
    ($tx:ident, $on:ident, $token:expr) => {{
        let token: &PoolToken = $token;
        let host = token.host.as_ref().map(|host| key(host.as_str()));
        query($on(&TOKENS_FORGET)).bind(token.created_ms - EXPIRED_TOKEN_KEPT_MS).execute(&mut *$tx).await?;
        query($on(&TOKEN_ADD))
            .bind(key(&token.id))
            .bind(key(&token.hash))
            .bind(host.as_deref())
            .bind(i64::from(token.most))
            .bind(token.expires_ms)
            .bind(to_text("a join token", token)?)
            .execute(&mut *$tx)
            .await
            .map_err(|cause| {
                let host = host.as_deref().unwrap_or_default();
                Fail::or_duplicate_or_missing(cause, ("join token", &token.id), ("host", host))
            })?;
    }};
}

/// Adds a host inside a transaction.
macro_rules! add_host {
    ($tx:ident, $on:ident, $host:expr) => {{
        let host: &PoolHost = $host;
        let change: i64 = query_scalar($on(&CHANGE_NUMBER)).fetch_one(&mut *$tx).await?;
        query($on(&HOST_ADD))
            .bind(key(host.id.as_str()))
            .bind(key(&host.zone))
            .bind(int(host.incarnation)?)
            .bind(change)
            .bind(host.seen_ms)
            .bind(to_text("a host", host)?)
            .execute(&mut *$tx)
            .await
            .map_err(|cause| Fail::or_duplicate(cause, "host", host.id.as_str()))?;
    }};
}

/// Why a host was not changed, inside a transaction: it is gone, or was changed since it was read.
macro_rules! as_seen {
    ($tx:ident, $on:ident, $id:expr) => {{
        let there: Option<i64> = query_scalar($on(&HOST_REVISION)).bind(&**$id).fetch_optional(&mut *$tx).await?;
        let (what, id) = ("host", $id.to_string());
        Fail::from(match there {
            Some(_) => StoreError::Conflict { what, id },
            None => StoreError::NotFound { what, id },
        })
    }};
}

/// A host's time as the statement takes it.
#[derive(Serialize)]
struct Seen<'a> {
    host: &'a str,
    at_ms: i64,
}

#[async_trait]
impl PoolStore for SqlStore {
    async fn announce_host(&self, host: &PoolHost, token: &PoolToken) -> Result<()> {
        writing!(self, "announcing a host", |tx, on| {
            add_host!(tx, on, host);
            add_token!(tx, on, token);
        })
    }

    async fn add_pool_token(&self, token: &PoolToken) -> Result<()> {
        writing!(self, "recording a join token", |tx, on| { add_token!(tx, on, token) })
    }

    async fn pool_tokens(&self, now_ms: i64, page: &PageRequest) -> Result<Vec<PoolToken>> {
        reading!(self, "listing join tokens", |tx, on| {
            let found: Vec<TokenRow> = query_as(on(&TOKENS))
                .bind(key(page.after.as_deref().unwrap_or_default()))
                .bind(i64::from(page.limit.min(PAGE_MAX)))
                .bind(now_ms)
                .fetch_all(&mut *tx)
                .await?;
            super::rows::all(found)?
        })
    }

    async fn pool_token(&self, id: &str) -> Result<Option<PoolToken>> {
        reading!(self, "reading a join token", |tx, on| {
            let found: Option<TokenRow> = query_as(on(&TOKEN_GET)).bind(key(id)).fetch_optional(&mut *tx).await?;
            found.map(PoolToken::try_from).transpose()?
        })
    }

    async fn remove_pool_token(&self, id: &str) -> Result<()> {
        writing!(self, "forgetting a join token", |tx, on| {
            if query(on(&TOKEN_REMOVE)).bind(key(id)).execute(&mut *tx).await?.rows_affected() == 0 {
                return Err(StoreError::NotFound { what: "join token", id: id.to_owned() }.into());
            }
        })
    }

    async fn join_pool(&self, joining: &Joining) -> Result<JoinOutcome> {
        let (hash, public_key) = (key(&joining.hash), key(&joining.key));
        writing!(self, "letting a host into the pool", |tx, on| {
            query(on(&TOKEN_LOCK)).bind(&*hash).execute(&mut *tx).await?;
            let found: Option<TokenRow> = query_as(on(&TOKEN_OF)).bind(&*hash).fetch_optional(&mut *tx).await?;
            let Some(token) = found.map(PoolToken::try_from).transpose()? else { return Ok(JoinOutcome::Unknown) };
            let before: Option<(String, i64, i64)> =
                query_as(on(&JOINED)).bind(key(&token.id)).bind(&*public_key).fetch_optional(&mut *tx).await?;
            if let Some((host, made, _)) = before.filter(|(_, made, now)| made == now) {
                return Ok(JoinOutcome::Joined { host: host.into(), incarnation: count(made)? });
            }
            let spent: Option<String> =
                query_scalar(on(&TOKEN_SPEND)).bind(&*hash).bind(joining.now_ms).fetch_optional(&mut *tx).await?;
            if spent.is_none() {
                let expired = token.expires_ms <= joining.now_ms;
                return Ok(if expired { JoinOutcome::Expired } else { JoinOutcome::Used });
            }
            let host = PoolHost::newcomer(&token, joining);
            let id = token.host.clone().unwrap_or_else(|| host.id.clone());
            let incarnation = match &token.host {
                None => {
                    add_host!(tx, on, &host);
                    1
                }
                Some(id) => {
                    let row: Option<HostRow> =
                        query_as(on(&HOST_GET)).bind(key(id.as_str())).fetch_optional(&mut *tx).await?;
                    let kept = row.map(PoolHost::try_from).transpose()?;
                    let kept = kept.map(|kept| PoolHost { joined_ms: host.joined_ms, name: host.name.clone(), ..kept });
                    let change: i64 = query_scalar(on(&CHANGE_NUMBER)).fetch_one(&mut *tx).await?;
                    // the token goes with its host
                    query_scalar(on(&HOST_JOINED))
                        .bind(key(id.as_str()))
                        .bind(change)
                        .bind(joining.now_ms)
                        .bind(to_text("a host", kept.as_ref().unwrap_or(&host))?)
                        .fetch_one(&mut *tx)
                        .await?
                }
            };
            query(on(&JOINED_ADD))
                .bind(key(&token.id))
                .bind(&*public_key)
                .bind(key(id.as_str()))
                .bind(incarnation)
                .execute(&mut *tx)
                .await?;
            JoinOutcome::Joined { host: id, incarnation: count(incarnation)? }
        })
    }

    async fn pool_host(&self, id: &HostId) -> Result<Option<PoolHost>> {
        let found: Option<HostRow> = asking!(self, "reading a host", |pool, on| query_as(on(&HOST_GET))
            .bind(key(id.as_str()))
            .fetch_optional(pool))?;
        found.map(PoolHost::try_from).transpose().map_err(|fail| fail.into_error("reading a host"))
    }

    async fn pool_hosts(&self, filter: &PoolFilter, page: &PageRequest) -> Result<Vec<PoolHost>> {
        reading!(self, "listing hosts", |tx, on| {
            let found: Vec<HostRow> = query_as(on(if filter.idle_only { &HOSTS_IDLE } else { &HOSTS }))
                .bind(key(page.after.as_deref().unwrap_or_default()))
                .bind(i64::from(page.limit.min(PAGE_MAX)))
                .bind(filter.zone.as_deref().map(key))
                .fetch_all(&mut *tx)
                .await?;
            super::rows::all(found)?
        })
    }

    async fn pool_hosts_of(&self, node: &NodeId) -> Result<Vec<PoolHost>> {
        reading!(self, "reading the hosts of a node", |tx, on| {
            let found: Vec<HostRow> = query_as(on(&HOSTS_OF)).bind(key(node.as_str())).fetch_all(&mut *tx).await?;
            let mut found: Vec<PoolHost> = super::rows::all(found)?;
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found
        })
    }

    async fn change_pool_host(&self, host: &PoolHost) -> Result<()> {
        let id = key(host.id.as_str());
        let allotted = host.allotment.as_ref().map(|allotted| key(allotted.node.as_str()));
        writing!(self, "changing a host", |tx, on| {
            let change: i64 = query_scalar(on(&CHANGE_NUMBER)).fetch_one(&mut *tx).await?;
            let done = query(on(&HOST_CHANGE))
                .bind(&*id)
                .bind(int(host.revision)?)
                .bind(allotted.as_deref())
                .bind(host.holds.as_ref().map(|node| key(node.as_str())).as_deref())
                .bind(change)
                .bind(to_text("a host", host)?)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, "allotment", allotted.as_deref().unwrap_or_default()))?;
            if done.rows_affected() == 0 {
                return Err(as_seen!(tx, on, &id));
            }
        })
    }

    async fn remove_pool_host(&self, id: &HostId, revision: u64) -> Result<()> {
        let id = key(id.as_str());
        writing!(self, "removing a host", |tx, on| {
            if query(on(&HOST_REMOVE)).bind(&*id).bind(int(revision)?).execute(&mut *tx).await?.rows_affected() == 0 {
                return Err(as_seen!(tx, on, &id));
            }
        })
    }

    async fn pool_seen(&self, seen: &[(HostId, i64)]) -> Result<()> {
        let what = "noting when hosts were heard of";
        let lines: Vec<_> = seen.iter().map(|(host, at_ms)| Seen { host: host.as_str(), at_ms: *at_ms }).collect();
        let lines = to_text("a batch", &lines).map_err(|fail| fail.into_error(what))?;
        writing!(self, what, |tx, on| {
            query(on(&SEEN)).bind(&lines).execute(&mut *tx).await?;
        })
    }

    async fn pool_changes(&self, after: u64) -> Result<Vec<(HostId, u64)>> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let found: Vec<(String, i64)> = asking!(self, "looking for changed hosts", |pool, on| query_as(on(&CHANGES))
            .bind(after)
            .bind(i64::from(PAGE_MAX))
            .fetch_all(pool))?;
        Ok(found.into_iter().map(|(id, change)| (id.into(), change.unsigned_abs())).collect())
    }
}
