//! The pool of hosts in memory.

use super::{MemoryStore, conflict, duplicate, missing, most};
use crate::{
    EXPIRED_TOKEN_KEPT_MS, JoinOutcome, Joining, PageRequest, PoolFilter, PoolHost, PoolStore, PoolToken, Result,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use straas_schemas::{HostId, NodeId};

/// Hosts with the number of their last change, tokens, and who joined with which key of which token.
#[derive(Debug, Default)]
pub(super) struct Pool {
    hosts: BTreeMap<HostId, (PoolHost, u64)>,
    tokens: BTreeMap<String, PoolToken>,
    joined: BTreeMap<(String, String), (HostId, u64)>,
    changes: u64,
}

impl Pool {
    fn put(&mut self, host: PoolHost) {
        self.changes += 1;
        self.hosts.insert(host.id.clone(), (host, self.changes));
    }

    fn host(&self, id: &HostId, revision: u64) -> Result<&PoolHost> {
        let (host, _) = self.hosts.get(id).ok_or_else(|| missing("host", id))?;
        if host.revision == revision { Ok(host) } else { Err(conflict("host", id)) }
    }

    /// A host as it is.
    pub(super) fn host_of(&self, id: &HostId) -> Option<&PoolHost> {
        self.hosts.get(id).map(|(host, _)| host)
    }

    /// All of them.
    pub(super) fn host_ids(&self) -> impl Iterator<Item = &HostId> {
        self.hosts.keys()
    }

    fn check(&self, token: &PoolToken) -> Result<()> {
        if self.tokens.values().any(|other| other.id == token.id || other.hash == token.hash) {
            return Err(duplicate("join token", &token.id));
        }
        Ok(())
    }

    fn add(&mut self, token: &PoolToken) {
        let kept = |other: &PoolToken| other.expires_ms >= token.created_ms - EXPIRED_TOKEN_KEPT_MS;
        self.tokens.retain(|_, other| kept(other));
        let tokens = &self.tokens;
        self.joined.retain(|(id, _), _| tokens.contains_key(id));
        self.tokens.insert(token.id.clone(), PoolToken { joined: 0, ..token.clone() });
    }
}

#[async_trait]
impl PoolStore for MemoryStore {
    async fn announce_host(&self, host: &PoolHost, token: &PoolToken) -> Result<()> {
        self.write(|tables| {
            let pool = &mut tables.pool;
            if pool.hosts.contains_key(&host.id) {
                return Err(duplicate("host", &host.id));
            }
            pool.check(token)?;
            pool.put(PoolHost { revision: 1, allotment: None, holds: None, ..host.clone() });
            pool.add(token);
            Ok(())
        })
    }

    async fn add_pool_token(&self, token: &PoolToken) -> Result<()> {
        self.write(|tables| {
            let pool = &mut tables.pool;
            pool.check(token)?;
            if let Some(host) = token.host.as_ref().filter(|host| !pool.hosts.contains_key(host)) {
                return Err(missing("host", host));
            }
            pool.add(token);
            Ok(())
        })
    }

    async fn pool_tokens(&self, now_ms: i64, page: &PageRequest) -> Result<Vec<PoolToken>> {
        let after = page.after.as_deref().unwrap_or_default();
        let listed = |token: &&PoolToken| token.id.as_str() > after && token.expires_ms > now_ms;
        Ok(self.tables().pool.tokens.values().filter(listed).take(most(page.limit)).cloned().collect())
    }

    async fn pool_token(&self, id: &str) -> Result<Option<PoolToken>> {
        Ok(self.tables().pool.tokens.get(id).cloned())
    }

    async fn remove_pool_token(&self, id: &str) -> Result<()> {
        self.write(|tables| {
            tables.pool.tokens.remove(id).ok_or_else(|| missing("join token", id))?;
            tables.pool.joined.retain(|(token, _), _| token != id);
            Ok(())
        })
    }

    async fn join_pool(&self, joining: &Joining) -> Result<JoinOutcome> {
        self.write(|tables| {
            let pool = &mut tables.pool;
            let Some(token) = pool.tokens.values().find(|token| token.hash == joining.hash).cloned() else {
                return Ok(JoinOutcome::Unknown);
            };
            let by = (token.id.clone(), joining.key.clone());
            if let Some((host, incarnation)) = pool.joined.get(&by)
                && pool.hosts.get(host).is_some_and(|(host, _)| host.incarnation == *incarnation)
            {
                return Ok(JoinOutcome::Joined { host: host.clone(), incarnation: *incarnation });
            }
            if token.expires_ms <= joining.now_ms {
                return Ok(JoinOutcome::Expired);
            }
            if token.joined >= token.most {
                return Ok(JoinOutcome::Used);
            }
            let known = token.host.as_ref().and_then(|id| pool.hosts.get(id)).map(|(host, _)| host.clone());
            let host = PoolHost::newcomer(&token, joining);
            let host = match known {
                Some(known) => {
                    let PoolHost { name, joined_ms, seen_ms, .. } = host;
                    let (incarnation, revision) = (known.incarnation + 1, known.revision + 1);
                    PoolHost { name, joined_ms, seen_ms, incarnation, revision, ..known }
                }
                None => host,
            };
            if let Some(token) = pool.tokens.get_mut(&token.id) {
                token.joined += 1;
            }
            let (id, incarnation) = (host.id.clone(), host.incarnation);
            pool.joined.insert(by, (id.clone(), incarnation));
            pool.put(host);
            Ok(JoinOutcome::Joined { host: id, incarnation })
        })
    }

    async fn pool_host(&self, id: &HostId) -> Result<Option<PoolHost>> {
        Ok(self.tables().pool.hosts.get(id).map(|(host, _)| host.clone()))
    }

    async fn pool_hosts(&self, filter: &PoolFilter, page: &PageRequest) -> Result<Vec<PoolHost>> {
        let after = page.after.as_deref().unwrap_or_default();
        let listed = |host: &&PoolHost| {
            host.id.as_str() > after
                && filter.zone.as_ref().is_none_or(|zone| host.zone == *zone)
                && !(filter.idle_only && (host.allotment.is_some() || host.holds.is_some()))
        };
        let tables = self.tables();
        let hosts = tables.pool.hosts.values().map(|(host, _)| host);
        Ok(hosts.filter(listed).take(most(page.limit)).cloned().collect())
    }

    async fn pool_hosts_of(&self, node: &NodeId) -> Result<Vec<PoolHost>> {
        let of = |host: &&PoolHost| host.holds.as_ref() == Some(node) || host.allotted(node).is_some();
        Ok(self.tables().pool.hosts.values().map(|(host, _)| host).filter(of).cloned().collect())
    }

    async fn change_pool_host(&self, host: &PoolHost) -> Result<()> {
        self.write(|tables| {
            let pool = &mut tables.pool;
            let kept = pool.host(&host.id, host.revision)?.clone();
            let node = |host: &PoolHost| host.allotment.as_ref().map(|allotted| allotted.node.clone());
            let mut others = pool.hosts.values().map(|(other, _)| other).filter(|other| other.id != host.id);
            if let Some(wanted) = node(host)
                && others.any(|other| node(other).as_ref() == Some(&wanted))
            {
                return Err(duplicate("allotment", wanted));
            }
            let (incarnation, seen_ms) = (kept.incarnation, kept.seen_ms);
            pool.put(PoolHost { revision: host.revision + 1, incarnation, seen_ms, zone: kept.zone, ..host.clone() });
            Ok(())
        })
    }

    async fn remove_pool_host(&self, id: &HostId, revision: u64) -> Result<()> {
        self.write(|tables| {
            let pool = &mut tables.pool;
            pool.host(id, revision)?;
            pool.hosts.remove(id);
            pool.tokens.retain(|_, token| token.host.as_ref() != Some(id));
            pool.joined.retain(|_, (host, _)| host != id);
            Ok(())
        })
    }

    async fn pool_seen(&self, seen: &[(HostId, i64)]) -> Result<()> {
        self.write(|tables| {
            for (id, at_ms) in seen {
                if let Some((host, _)) = tables.pool.hosts.get_mut(id) {
                    host.seen_ms = host.seen_ms.max(Some(*at_ms));
                }
            }
            Ok(())
        })
    }

    async fn pool_changes(&self, after: u64) -> Result<Vec<(HostId, u64)>> {
        let tables = self.tables();
        let mut found: Vec<_> = tables.pool.hosts.values().map(|(host, change)| (host.id.clone(), *change)).collect();
        found.retain(|(_, change)| *change > after);
        found.sort_by_key(|(_, change)| *change);
        found.truncate(most(crate::PAGE_MAX));
        Ok(found)
    }
}
