//! A real controller whose hosts are on paper: whoever makes one leaves its join token in a file.

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use straas_controller::config::Config;
use straas_controller::{BootTemplate, World};
use straas_drivers::{HostError, HostSpec, HostStatus, Hosts};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

struct Paper {
    hosts: Mutex<HashMap<String, HostStatus>>,
    tokens: PathBuf,
}

fn status(id: &str, name: &str, owner: &str, zone: &str, number: usize) -> HostStatus {
    let [.., high, low] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    HostStatus::running(id, name, owner, zone, IpAddr::from([10, 9, high, low]))
}

#[async_trait]
impl Hosts for Paper {
    fn kind(&self) -> &'static str {
        "paper"
    }

    fn isolation_note(&self) -> Option<String> {
        None
    }

    fn fault_domains(&self, _zone: &str) -> u32 {
        1
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let number = hosts.len() + 1;
        let status = status(&spec.id, &spec.name, &spec.owner, &spec.zone, number);
        // the name comes last in the file, so that a half-written one is not taken for whole
        let line = format!("{} {} {} end\n", spec.agent.join_token.expose(), status.address, spec.name);
        std::fs::write(self.tokens.join(&spec.id), line).map_err(|error| HostError::Command {
            what: "leaving a token".into(),
            status: "none".into(),
            output: error.to_string(),
        })?;
        hosts.insert(spec.id.clone(), status.clone());
        Ok(status)
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let _ = std::fs::remove_file(self.tokens.join(id));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        Ok(self.hosts.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
    }
}

/// Serves until it is told to stop.
pub async fn serve(config: &Path, tokens: PathBuf, port: u16) -> Result<()> {
    let config = Config::load(config)?;
    let mut hosts = HashMap::new();
    // what an earlier run of it made
    for entry in std::fs::read_dir(&tokens)?.flatten() {
        let (id, text) = (entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?);
        let mut words = text.split_whitespace().skip(1);
        let (address, name) = (words.next().context("no address")?, words.next().context("no name")?);
        let known = status(&id, name, &config.local.instance, "z1", 0);
        hosts.insert(id, HostStatus { address: address.parse()?, ..known });
    }
    let user_port = TcpListener::bind(config.api.listen).await.context("listen for users")?;
    let agent_port = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("listen for agents")?;
    let template = BootTemplate { controllers: vec![format!("https://127.0.0.1:{port}")], apt: None };
    let (_offer, boot) = watch::channel(Some(template));
    let world = World {
        hosts: Some(Arc::new(Paper { hosts: Mutex::new(hosts), tokens })),
        boot,
        user_port,
        agent_ports: vec![agent_port],
        agent_addresses: vec![Ipv4Addr::LOCALHOST.into()],
        store: None,
        clock: straas_controller::system_clock(),
    };
    let mut term = signal(SignalKind::terminate())?;
    straas_controller::serve(config, world, async move { term.recv().await.unwrap_or_default() }).await
}
