//! The pool as a provider of hosts: machines that exist already, on which an agent waits for a node.
//!
//! Nothing is made here. To make a host for a node is to write into the record of a free one that it is to have that
//! node; to remove it is to take that back and to wait until the host says that nothing of the node runs any more. The
//! host hears of it in its own poll (`agents/pool.rs`): nothing connects to it.
//!
//! A host that is silent does not let go: whether it still serves cannot be known from here. Somebody who knows that it
//! is gone says so, by removing it from the pool.

mod choose;
pub mod desk;
pub mod standing;
mod zoned;

pub use choose::is_silent;
pub use zoned::{Zoned, Zones};

use async_trait::async_trait;
use choose::{Wanted, choose};
use desk::Desk;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use straas_drivers::{HostError, HostPhase, HostSpec, HostStatus, Hosts};
use straas_schemas::NodeId;
use straas_store::{Allotted, PAGE_MAX, PageRequest, PoolFilter, PoolHost, Store, StoreError};
use tokio::time::{Instant, timeout_at};

/// A host that was changed meanwhile is looked at anew so often.
const TRIES_MAX: u32 = 16;
/// So long a removal waits for a host to let go before it is tried again later: services stop within seconds.
const LEAVING: Duration = Duration::from_secs(20);

/// The hosts of the pool.
pub struct Pool {
    store: Arc<dyn Store>,
    desk: Arc<Desk>,
    /// See [`LEAVING`].
    patience: Duration,
}

fn records(error: StoreError) -> HostError {
    HostError::Io { what: "the pool's records".to_owned(), source: std::io::Error::other(error) }
}

impl Pool {
    /// The pool in this store.
    pub fn new(store: Arc<dyn Store>, desk: Arc<Desk>) -> Self {
        Self { store, desk, patience: LEAVING }
    }

    /// Every host of a zone, or of all, with when it was heard of last.
    async fn hosts(&self, zone: Option<&str>) -> Result<Vec<PoolHost>, HostError> {
        let filter = PoolFilter { zone: zone.map(str::to_owned), idle_only: false };
        let mut hosts: Vec<PoolHost> = Vec::new();
        loop {
            let page = PageRequest { limit: PAGE_MAX, after: hosts.last().map(|host| host.id.0.clone()) };
            let found = self.store.pool_hosts(&filter, &page).await.map_err(records)?;
            let more = found.len() >= PAGE_MAX as usize;
            hosts.extend(found);
            if !more {
                break;
            }
        }
        for host in &mut hosts {
            host.seen_ms = self.desk.seen_ms(host);
        }
        Ok(hosts)
    }

    async fn of(&self, node: &NodeId) -> Result<Vec<PoolHost>, HostError> {
        self.store.pool_hosts_of(node).await.map_err(records)
    }

    /// Writes a host; `false` if it was changed meanwhile, or its node is another's.
    async fn change(&self, host: &PoolHost) -> Result<bool, HostError> {
        match self.desk.change(&*self.store, host).await {
            Err(StoreError::NotFound { .. } | StoreError::Duplicate { .. }) => Ok(false),
            done => done.map_err(records),
        }
    }
}

/// Whether a host was given a node and fell silent before it was told: it knows nothing of it then.
fn fell_silent(host: &PoolHost, seen_ms: Option<i64>, now_ms: i64) -> bool {
    host.allotment.as_ref().is_some_and(|allotted| !allotted.told) && is_silent(seen_ms, now_ms)
}

fn status(host: &PoolHost, allotted: &Allotted, down: bool) -> Result<HostStatus, HostError> {
    let address: IpAddr = host.facts.address.parse().map_err(|_| {
        let text: String = host.facts.address.chars().take(64).collect();
        HostError::NoAddress(format!("host {} says that it is at {text:?}", host.name))
    })?;
    Ok(HostStatus {
        fault_domain: host.fault_domain.clone(),
        // whether one that knows of its node is heard of is seen from that node's heartbeats
        phase: if down { HostPhase::Down } else { HostPhase::Running },
        detail: Some(format!("host {} of the pool", host.name)),
        ..HostStatus::running(allotted.node.as_str(), &allotted.name, &allotted.owner, &host.zone, address)
    })
}

/// Why a host has not let go yet, for people.
fn holds_on(host: &PoolHost, seen_ms: Option<i64>, now_ms: i64) -> String {
    let (name, id) = (&host.name, &host.id);
    if is_silent(seen_ms, now_ms) {
        let since = seen_ms.map_or_else(String::new, |at| format!(" for {} s", (now_ms - at) / 1000));
        return format!(
            "host {name} ({id}) is silent{since} and may still serve this node: it lets go when it is back; if it is gone \
             for good, remove it from the pool by force"
        );
    }
    format!("host {name} ({id}) is stopping this node's service and has not said that nothing of it runs any more")
}

#[async_trait]
impl Hosts for Pool {
    fn kind(&self) -> &'static str {
        "pool"
    }

    fn isolation_note(&self) -> Option<String> {
        None
    }

    fn fault_domains(&self, _zone: &str) -> u32 {
        // as many as its hosts say that they are in, which changes with each that joins
        u32::MAX
    }

    fn needs_boot(&self, _zone: &str) -> bool {
        false
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        let node = NodeId(spec.id.clone());
        for _ in 0..TRIES_MAX {
            let now = self.desk.now_ms();
            if let Some(host) = self.of(&node).await?.into_iter().next() {
                match host.allotted(&node) {
                    None => return Err(HostError::Held(holds_on(&host, self.desk.seen_ms(&host), now))),
                    Some(allotted) if !fell_silent(&host, self.desk.seen_ms(&host), now) => {
                        return status(&host, allotted, false);
                    }
                    Some(_) => {}
                }
                if let Some(free) = standing::released(&host, &node, now) {
                    tracing::info!(%node, host = host.name, "fell silent before it knew of its node; another one gets it");
                    self.change(&free).await?;
                }
                continue;
            }
            let hosts = self.hosts(Some(&spec.zone)).await?;
            let wanted =
                Wanted { zone: &spec.zone, flavor: spec.flavor, owner: &spec.owner, spread: spec.spread.as_deref() };
            let mut host = choose(&hosts, &wanted, now).map_err(HostError::NoHost)?.clone();
            let (name, owner, spread) = (spec.name.clone(), spec.owner.clone(), spec.spread.clone());
            host.allotment = Some(Allotted { node: node.clone(), name, owner, spread, told: false });
            if self.change(&host).await? {
                tracing::info!(%node, host = host.name, id = %host.id, "host of the pool is to have it");
            }
        }
        Err(HostError::NoHost(format!("the hosts of zone {} are being given away faster than looked at", spec.zone)))
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        let node = NodeId(id.to_owned());
        let until = Instant::now() + self.patience;
        loop {
            // whoever lets go while they are read wakes all the same
            let first = self.of(&node).await?;
            let Some(host) = first.first() else { return Ok(()) };
            let mut watch = self.desk.watch(&host.id);
            let Some(host) = self.of(&node).await?.into_iter().next() else { return Ok(()) };
            if let Some(released) = standing::released(&host, &node, self.desk.now_ms()) {
                self.change(&released).await?;
                continue;
            }
            if timeout_at(until, watch.changed()).await.is_err() {
                return Err(HostError::Held(holds_on(&host, self.desk.seen_ms(&host), self.desk.now_ms())));
            }
        }
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        let hosts = self.hosts(None).await?;
        let given = hosts.iter().filter_map(|host| Some((host, host.allotment.as_ref()?)));
        let now = self.desk.now_ms();
        let status = |(host, allotted): (&PoolHost, _)| status(host, allotted, fell_silent(host, host.seen_ms, now));
        let mut list = given.map(status).collect::<Result<Vec<_>, _>>()?;
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now_ms;
    use straas_drivers::{AgentBoot, Flavor, Secret};
    use straas_schemas::pool::HostFacts;
    use straas_store::{JoinOutcome, Joining, MemoryStore, PoolToken};

    fn spec(node: &str) -> HostSpec {
        HostSpec {
            id: node.into(),
            name: node.into(),
            owner: "o".into(),
            zone: "z".into(),
            flavor: Flavor { memory_mib: 1, vcpus: 1 },
            spread: None,
            address: None,
            agent: AgentBoot {
                controllers: Vec::new(),
                node: Some(node.into()),
                ca_pem: String::new(),
                join_token: Secret::new(""),
                metrics_listen: String::new(),
                apt: None,
                settings: std::collections::BTreeMap::new(),
            },
            userdata: String::new(),
        }
    }

    /// A host that joined, heard of at this time.
    async fn joined(store: &dyn Store, id: &str, address: &str, at_ms: i64) {
        let token = PoolToken {
            id: id.into(),
            hash: id.into(),
            label: String::new(),
            zone: "z".into(),
            fault_domain: None,
            host: None,
            most: 1,
            joined: 0,
            by: String::new(),
            created_ms: 0,
            expires_ms: i64::MAX,
        };
        store.add_pool_token(&token).await.expect("recorded");
        let joining = Joining { hash: id.into(), key: "k".into(), id: id.into(), name: id.into(), now_ms: at_ms };
        assert!(matches!(store.join_pool(&joining).await, Ok(JoinOutcome::Joined { .. })));
        let mut host = store.pool_host(&id.into()).await.expect("read").expect("there");
        host.facts = HostFacts { address: address.into(), memory_mib: 8, vcpus: 8, ..HostFacts::default() };
        store.change_pool_host(&host).await.expect("written");
    }

    async fn host(store: &dyn Store, id: &str) -> PoolHost {
        store.pool_host(&id.into()).await.expect("read").expect("there")
    }

    #[tokio::test]
    async fn a_host_that_falls_silent_before_it_is_told_loses_its_node_to_another() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pool = Pool::new(store.clone(), Arc::new(Desk::new(Arc::default(), crate::clock::system())));
        joined(&*store, "a", "10.0.0.1", 1).await;
        let mut silent = host(&*store, "a").await;
        let (node, name, owner) = ("n".into(), "n".into(), "o".into());
        silent.allotment = Some(Allotted { node, name, owner, spread: None, told: false });
        store.change_pool_host(&silent).await.expect("written");
        assert_eq!(pool.list().await.expect("listed")[0].phase, HostPhase::Down);
        joined(&*store, "b", "10.0.0.2", now_ms()).await;
        for _ in 0..2 {
            assert_eq!(pool.ensure(&spec("n")).await.expect("a host").address.to_string(), "10.0.0.2");
        }
        assert!(matches!(pool.ensure(&spec("m")).await, Err(HostError::NoHost(_))));
    }

    #[tokio::test]
    async fn once_it_was_told_only_its_own_word_counts() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pool = Pool {
            patience: Duration::ZERO,
            ..Pool::new(store.clone(), Arc::new(Desk::new(Arc::default(), crate::clock::system())))
        };
        joined(&*store, "a", "10.0.0.1", now_ms()).await;
        pool.ensure(&spec("n")).await.expect("a host");
        let told = standing::told(&host(&*store, "a").await, 1).expect("news");
        store.change_pool_host(&told).await.expect("written");
        let refused = pool.destroy("n").await.expect_err("it has not let go");
        assert!(refused.to_string().contains("has not said that nothing of it runs"), "{refused}");
        let mut leaving = host(&*store, "a").await;
        assert_eq!((leaving.holds.take(), &leaving.allotment), (Some("n".into()), &None));
        store.change_pool_host(&leaving).await.expect("written");
        pool.destroy("n").await.expect("it let go");
    }
}
