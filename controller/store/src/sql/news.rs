//! News between controllers in SQL: numbered messages, and PostgreSQL's `NOTIFY` as the bell.
//!
//! The number is taken last in its own short transaction, so that messages become visible in their order and nobody waits
//! for more than that.

use super::connect::alone;
use super::levels;
use super::rows::{from_text, key, to_text};
use super::run::within;
use super::{Pools, SqlStore};
use crate::{Beside, Heard, NEWS_KEPT_MS, NewsStore, PAGE_MAX, PRESENT_MS, Result, StoreError, WORDS_MAX, Word};
use async_trait::async_trait;
use serde::Deserialize as _;
use serde_json::Value;
use sqlx::postgres::PgListener;
use sqlx::{query, query_as, query_scalar};
use std::time::Duration;

statements! {
    PRESENT = "insert into controller (id, seen_ms, level, version) values ($1, $2, $3, $4) on conflict (id) do update set \
               seen_ms = excluded.seen_ms";
    OTHERS = "select id, level, version from controller where id <> $1 and seen_ms > $2 order by seen_ms limit $3";
    GONE = "delete from controller where id = $1";
    FORGET_GONE = "delete from controller where seen_ms < $1";
    NUMBER = "update counter set value = value + 1 where name = 'news' returning value";
    SAY = "insert into news (seq, said_by, at_ms, document) values ($1, $2, $3, $4)";
    FORGET = "delete from news where at_ms < $1";
    LAST = "select value from counter where name = 'news'";
    NEWS = "select seq, said_by, document from news where seq > $1 order by seq limit $2";
    THERE = "select 1";
    @ RING = sqlite "select value from counter where name = 'news'", postgres "select pg_notify('straas_news', '')";
}

/// A controller that went without a word is forgotten after a day.
const GONE_KEPT_MS: i64 = 24 * 3600 * 1000;

/// The channel of the bell.
const CHANNEL: &str = "straas_news";
/// A bell that was not heard for so long is asked whether its connection is there at all.
const SILENCE: Duration = Duration::from_secs(20);
/// So long it has for its answer.
const ANSWER: Duration = Duration::from_secs(5);

#[async_trait]
impl NewsStore for SqlStore {
    fn is_shared(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    fn level(&self) -> i64 {
        levels::mine()
    }

    async fn present(&self, id: &str, version: &str, now_ms: i64) -> Result<Vec<Beside>> {
        writing!(self, "noting that a controller is there", |tx, on| {
            query(on(&PRESENT))
                .bind(key(id))
                .bind(now_ms)
                .bind(levels::mine())
                .bind(key(version))
                .execute(&mut *tx)
                .await?;
            query(on(&FORGET_GONE)).bind(now_ms - GONE_KEPT_MS).execute(&mut *tx).await?;
            let others: Vec<(String, i64, String)> = query_as(on(&OTHERS))
                .bind(key(id))
                .bind(now_ms - PRESENT_MS)
                .bind(i64::from(PAGE_MAX))
                .fetch_all(&mut *tx)
                .await?;
            others.into_iter().map(|(id, level, version)| Beside { id, level, version }).collect()
        })
    }

    async fn leave(&self, id: &str) -> Result<()> {
        writing!(self, "noting that a controller goes", |tx, on| {
            query(on(&GONE)).bind(key(id)).execute(&mut *tx).await?;
        })
    }

    async fn say(&self, id: &str, words: &[Word], now_ms: i64) -> Result<()> {
        crate::input::bounded(words.len(), WORDS_MAX, "words")?;
        writing!(self, "telling other controllers", |tx, on| {
            if !words.is_empty() {
                query(on(&FORGET)).bind(now_ms - NEWS_KEPT_MS).execute(&mut *tx).await?;
                let seq: i64 = query_scalar(on(&NUMBER)).fetch_one(&mut *tx).await?;
                query(on(&SAY))
                    .bind(seq)
                    .bind(key(id))
                    .bind(now_ms)
                    .bind(to_text("words", words)?)
                    .execute(&mut *tx)
                    .await?;
            }
            query(on(&RING)).execute(&mut *tx).await?;
        })
    }

    async fn last_news(&self) -> Result<u64> {
        let last: i64 =
            asking!(self, "reading the newest number of news", |pool, on| query_scalar(on(&LAST)).fetch_one(pool))?;
        Ok(last.unsigned_abs())
    }

    async fn news(&self, id: &str, after: u64) -> Result<Heard> {
        reading!(self, "hearing of other controllers", |tx, on| {
            let mut heard = Heard { last: after, ..Heard::default() };
            let found: Vec<(i64, String, String)> = query_as(on(&NEWS))
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(i64::from(PAGE_MAX))
                .fetch_all(&mut *tx)
                .await?;
            let newest: i64 = query_scalar(on(&LAST)).fetch_one(&mut *tx).await?;
            let first = found.first().map_or(newest, |(seq, ..)| *seq - 1);
            heard.missed = first.unsigned_abs() != after;
            for (seq, said_by, document) in &found {
                heard.last = seq.unsigned_abs();
                if said_by != id {
                    let words = from_text::<Vec<Value>>(|| format!("news {seq}"), document)?;
                    heard.words.extend(words.into_iter().filter_map(|word| Word::deserialize(word).ok()));
                }
            }
            if found.is_empty() {
                heard.last = newest.unsigned_abs();
            }
            heard
        })
    }

    async fn listen(&self) -> Result<()> {
        let Pools::Postgres(pool) = &self.pools else { return std::future::pending().await };
        let failed = |cause: sqlx::Error| StoreError::Unavailable(Box::new(cause));
        let mut listener = self.listener.lock().await;
        let on = match &mut *listener {
            Some(on) => on,
            None => {
                // a connection of its own: it is waited on for ever, and must not keep the others from being closed
                let mut on = PgListener::connect_with(&alone(pool)).await.map_err(failed)?;
                within(ANSWER, on.listen(CHANNEL)).await.map_err(failed)?;
                listener.insert(on)
            }
        };
        // none: the connection was lost, and with it what was said meanwhile; the next call connects anew
        if let Ok(heard) = tokio::time::timeout(SILENCE, on.try_recv()).await {
            return heard.map(drop).map_err(failed);
        }
        // of a connection that was cut in the middle nothing is ever heard, not even that
        let there = within(ANSWER, query(THERE.for_postgres()).execute(on)).await;
        if let Err(cause) = there {
            *listener = None;
            return Err(failed(cause));
        }
        Ok(())
    }
}
