//! A provider of hosts that records what it is asked for, and fails or holds on command.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use straas_drivers::{HostError, HostSpec, HostStatus, Hosts};
use tokio::sync::watch;

/// A host that would be.
#[derive(Clone, Debug)]
pub struct Paper {
    pub status: HostStatus,
    pub token: String,
    pub spread: Option<String>,
}

pub struct Recorder {
    hosts: Mutex<BTreeMap<String, Paper>>,
    /// Why hosts cannot be made, if they cannot.
    pub fails: watch::Sender<Option<String>>,
    /// `ensure` waits while this is set.
    pub held: watch::Sender<bool>,
    /// How many times hosts were made or removed.
    pub changes: watch::Sender<u32>,
    /// How many calls wait because of `held`.
    pub waiting: watch::Sender<u32>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            hosts: Mutex::default(),
            fails: watch::Sender::new(None),
            held: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            waiting: watch::Sender::new(0),
        }
    }
}

impl Recorder {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Paper>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host of an id.
    pub fn host(&self, id: &str) -> Option<Paper> {
        self.lock().get(id).cloned()
    }

    pub fn hosts(&self) -> Vec<Paper> {
        self.lock().values().cloned().collect()
    }

    /// Names of hosts, with the word that each is spread by.
    pub fn spreads(&self) -> BTreeMap<String, Option<String>> {
        self.lock().values().map(|paper| (paper.status.name.clone(), paper.spread.clone())).collect()
    }

    /// Somebody took the host away without asking.
    pub fn lose(&self, id: &str) {
        self.lock().remove(id);
    }

    /// A host that no node asked for.
    pub fn plant(&self, id: &str, owner: &str) {
        let status = status(id, id, owner, 99);
        self.lock().insert(id.to_owned(), Paper { status, token: String::new(), spread: None });
    }

    fn refusal(&self) -> Result<(), HostError> {
        let reason = self.fails.borrow().clone();
        reason.map_or(Ok(()), |output| {
            Err(HostError::Command { what: "making a host".into(), status: "exit 1".into(), output })
        })
    }
}

fn status(id: &str, name: &str, owner: &str, number: usize) -> HostStatus {
    let address = std::net::IpAddr::from([10, 9, 0, number as u8]);
    HostStatus { fault_domain: Some(format!("fd-{number}")), ..HostStatus::running(id, name, owner, "z1", address) }
}

#[async_trait]
impl Hosts for Recorder {
    fn kind(&self) -> &'static str {
        "paper"
    }

    fn isolation_note(&self) -> Option<String> {
        None
    }

    fn fault_domains(&self, _zone: &str) -> u32 {
        2
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        self.waiting.send_modify(|count| *count += 1);
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        self.waiting.send_modify(|count| *count -= 1);
        self.refusal()?;
        let mut hosts = self.lock();
        let number = hosts.len() + 11;
        let token = spec.agent.join_token.expose().to_owned();
        let host = hosts.entry(spec.id.clone()).or_insert_with(|| Paper {
            status: status(&spec.id, &spec.name, &spec.owner, number),
            token,
            spread: spec.spread.clone(),
        });
        let status = host.status.clone();
        drop(hosts);
        self.changes.send_modify(|count| *count += 1);
        Ok(status)
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        self.refusal()?;
        self.lock().remove(id);
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        Ok(self.lock().values().map(|host| host.status.clone()).collect())
    }
}
