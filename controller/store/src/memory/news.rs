//! News between controllers in memory: as if several were over it, but with no bell.

use super::{MemoryStore, most};
use crate::sql::level;
use crate::{Beside, Heard, NEWS_KEPT_MS, NewsStore, PAGE_MAX, PRESENT_MS, Result, WORDS_MAX, Word};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Messages by number, with who said them when; who is there.
#[derive(Debug, Default)]
pub(super) struct News {
    last: u64,
    said: BTreeMap<u64, (String, i64, Vec<Word>)>,
    controllers: BTreeMap<String, (i64, String)>,
}

#[async_trait]
impl NewsStore for MemoryStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn level(&self) -> i64 {
        level()
    }

    async fn present(&self, id: &str, version: &str, now_ms: i64) -> Result<Vec<Beside>> {
        self.write(|tables| {
            tables.news.controllers.insert(id.to_owned(), (now_ms, version.to_owned()));
            let there = |(other, (seen, _)): &(&String, &(i64, String))| *other != id && *seen > now_ms - PRESENT_MS;
            let others = tables.news.controllers.iter().filter(there);
            let others =
                others.map(|(id, (_, version))| Beside { id: id.clone(), level: level(), version: version.clone() });
            Ok(others.take(most(PAGE_MAX)).collect())
        })
    }

    async fn leave(&self, id: &str) -> Result<()> {
        self.write(|tables| {
            tables.news.controllers.remove(id);
            Ok(())
        })
    }

    async fn say(&self, id: &str, words: &[Word], now_ms: i64) -> Result<()> {
        crate::input::bounded(words.len(), WORDS_MAX, "words")?;
        self.write(|tables| {
            if !words.is_empty() {
                let news = &mut tables.news;
                news.said.retain(|_, (_, at_ms, _)| *at_ms >= now_ms - NEWS_KEPT_MS);
                news.last += 1;
                news.said.insert(news.last, (id.to_owned(), now_ms, words.to_vec()));
            }
            Ok(())
        })
    }

    async fn last_news(&self) -> Result<u64> {
        Ok(self.tables().news.last)
    }

    async fn news(&self, id: &str, after: u64) -> Result<Heard> {
        let tables = self.tables();
        let news = &tables.news;
        let found: Vec<_> = news.said.range(after + 1..).take(most(PAGE_MAX)).collect();
        let missed = found.first().map_or(news.last, |(seq, _)| **seq - 1) != after;
        let last = found.last().map_or(news.last, |(seq, _)| **seq);
        let others = found.into_iter().filter(|(_, (said_by, ..))| said_by != id);
        Ok(Heard { last, missed, words: others.flat_map(|(_, (.., words))| words.clone()).collect() })
    }

    async fn listen(&self) -> Result<()> {
        std::future::pending().await
    }
}
