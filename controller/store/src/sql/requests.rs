//! Requests that name themselves in SQL.
//!
//! The note of what a request made is the last statement of the transaction that made it (`run.rs`).

use super::rows::{from_text, key};
use super::{Fail, SqlStore};
use crate::input::clean;
use crate::{
    Begun, REQUEST_AGE_MS_MAX, REQUESTS_PER_TENANT_MAX, REQUESTS_PRUNED_MAX, RequestClaim, RequestKey, RequestStore,
    Result, Store, StoreError,
};
use async_trait::async_trait;
use serde_json::Value;
use sqlx::{FromRow, query, query_as, query_scalar};
use std::sync::Arc;

statements! {
    ADD = "insert into request (tenant, request_key, digest, claim, until_ms, created_ms) values ($1, $2, $3, $4, $5, $6)
        on conflict (tenant, request_key) do nothing";
    COUNT = "select count(*) from request where tenant = $1";
    TAKE_OVER = "update request set claim = $3, until_ms = $4 where tenant = $1 and request_key = $2";
    RENEW = "update request set until_ms = $4 where tenant = $1 and request_key = $2 and claim = $3 and answer is null";
    MADE = "update request set made = $4 where tenant = $1 and request_key = $2 and claim = $3 and answer is null";
    ANSWER = "update request set answer = $4 where tenant = $1 and request_key = $2 and claim = $3";
    FORGET = "delete from request where tenant = $1 and request_key = $2 and claim = $3 and made is null";
    END = "update request set until_ms = 0 where tenant = $1 and request_key = $2 and claim = $3";
    PRUNE_THIS = "delete from request where tenant = $1 and request_key = $2 and created_ms < $3";
    PRUNE = "delete from request where (tenant, request_key) in
        (select tenant, request_key from request where created_ms < $1 order by created_ms limit $2)";
    @ LOCK = sqlite "select digest, until_ms, made, answer from request where tenant = $1 and request_key = $2",
        postgres "select digest, until_ms, made, answer from request where tenant = $1 and request_key = $2 for no key update";
}

/// What writes through a claim are bound to.
#[derive(Debug)]
pub(super) struct Bound {
    pub tenant: String,
    pub key: String,
    pub claim: String,
    pub made: String,
}

/// Notes what a request made, inside the transaction that made it.
macro_rules! note_made {
    ($tx:ident, $on:ident, $bound:expr) => {{
        let bound: &$crate::sql::requests::Bound = $bound;
        let noted = sqlx::query($on(&$crate::sql::requests::MADE))
            .bind(&bound.tenant)
            .bind(&bound.key)
            .bind(&bound.claim)
            .bind(&bound.made)
            .execute(&mut *$tx)
            .await?;
        if noted.rows_affected() == 0 {
            let lost = $crate::StoreError::Conflict { what: "request", id: bound.key.clone() };
            return Err($crate::sql::error::Fail::Answer(lost));
        }
    }};
}

#[derive(FromRow)]
struct Row {
    digest: String,
    until_ms: i64,
    made: Option<String>,
    answer: Option<String>,
}

/// Marks the error that rolls back for a tenant that has too many; never leaves this file.
const FULL: &str = "requests of tenant";

#[async_trait]
impl RequestStore for SqlStore {
    async fn begin_request(&self, request: &RequestKey, claim: &str, now_ms: i64, until_ms: i64) -> Result<Begun> {
        let (tenant, name) = (clean(&request.tenant), clean(&request.key));
        let old_ms = now_ms.saturating_sub(REQUEST_AGE_MS_MAX);
        writing!(self, "beginning a request that names itself", |tx, on| {
            query(on(&PRUNE_THIS)).bind(&*tenant).bind(&*name).bind(old_ms).execute(&mut *tx).await?;
            query(on(&PRUNE)).bind(old_ms).bind(i64::from(REQUESTS_PRUNED_MAX)).execute(&mut *tx).await?;
            let added = query(on(&ADD))
                .bind(&*tenant)
                .bind(&*name)
                .bind(&request.digest)
                .bind(claim)
                .bind(until_ms)
                .bind(now_ms)
                .execute(&mut *tx)
                .await?;
            if added.rows_affected() > 0 {
                let count: i64 = query_scalar(on(&COUNT)).bind(&*tenant).fetch_one(&mut *tx).await?;
                if count > i64::from(REQUESTS_PER_TENANT_MAX) {
                    return Err(Fail::Answer(StoreError::Conflict { what: FULL, id: tenant.to_string() }));
                }
                Begun::New
            } else {
                let row: Option<Row> = query_as(on(&LOCK)).bind(&*tenant).bind(&*name).fetch_optional(&mut *tx).await?;
                match row {
                    // it was forgotten in this very moment
                    None => Begun::Running { until_ms: now_ms },
                    Some(row) if row.digest != request.digest => Begun::Other,
                    Some(Row { answer: Some(answer), .. }) => Begun::Answered(answer),
                    Some(row) if row.until_ms > now_ms => Begun::Running { until_ms: row.until_ms },
                    Some(Row { made: Some(made), .. }) => {
                        Begun::Made(from_text(|| format!("what request {name} made"), &made)?)
                    }
                    Some(_) => {
                        let taken = query(on(&TAKE_OVER)).bind(&*tenant).bind(&*name).bind(claim).bind(until_ms);
                        taken.execute(&mut *tx).await?;
                        Begun::New
                    }
                }
            }
        })
        .or_else(|error| match error {
            StoreError::Conflict { what: FULL, .. } => Ok(Begun::Full),
            other => Err(other),
        })
    }

    async fn renew_request(&self, claim: &RequestClaim, until_ms: i64) -> Result<bool> {
        writing!(self, "keeping a request", |tx, on| {
            let renew = query(on(&RENEW)).bind(key(&claim.tenant)).bind(key(&claim.key)).bind(&claim.id).bind(until_ms);
            renew.execute(&mut *tx).await?.rows_affected() > 0
        })
    }

    async fn end_request(&self, claim: &RequestClaim, answer: Option<&str>) -> Result<()> {
        let (tenant, name) = (key(&claim.tenant), key(&claim.key));
        writing!(self, "ending a request", |tx, on| {
            if let Some(answer) = answer {
                let end = query(on(&ANSWER)).bind(&*tenant).bind(&*name).bind(&claim.id).bind(answer);
                end.execute(&mut *tx).await?;
            } else {
                query(on(&FORGET)).bind(&*tenant).bind(&*name).bind(&claim.id).execute(&mut *tx).await?;
                query(on(&END)).bind(&*tenant).bind(&*name).bind(&claim.id).execute(&mut *tx).await?;
            }
        })
    }

    fn claimed(&self, claim: &RequestClaim, made: &Value) -> Arc<dyn Store> {
        let bound = Bound {
            tenant: clean(&claim.tenant).into_owned(),
            key: clean(&claim.key).into_owned(),
            claim: claim.id.clone(),
            made: made.to_string(),
        };
        Arc::new(Self { bound: Some(Arc::new(bound)), ..self.clone() })
    }
}
