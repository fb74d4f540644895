//! A controller in its seat: the whole program, over its own data directory and the store of all.

use crate::ground::Ground;
use crate::wire::Port;
use std::path::PathBuf;
use std::sync::Arc;
use straas_controller::config::Config;
use straas_controller::{BootTemplate, World, serve};
use straas_store::{MemoryStore, Store};
use tokio::sync::watch;

/// Where users reach a controller.
pub const USERS: u16 = 8080;
/// Where agents do.
pub const AGENTS: u16 = 7443;

/// What outlives a kill of a controller.
#[derive(Clone)]
pub struct Seat {
    pub name: &'static str,
    /// Of the file of its configuration, with the data directory beside it.
    pub dir: PathBuf,
    pub store: Arc<MemoryStore>,
    pub ground: Arc<Ground>,
}

impl Seat {
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Writes its configuration.
    pub fn furnish(&self, settings: &str) {
        std::fs::create_dir_all(&self.dir).unwrap();
        std::fs::write(self.config(), format!("data_dir = {:?}\n{settings}", self.data())).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.join("controller.toml")
    }

    /// What all controllers over one database share, from the first of them.
    pub fn take_secrets(&self, from: &Self) {
        std::fs::create_dir_all(self.data()).unwrap();
        let shared = ["ca", "secrets.key"].map(|name| from.data().join(name));
        let copied = std::process::Command::new("cp").arg("-a").args(shared).arg(self.data()).status();
        assert!(copied.unwrap().success());
    }

    /// Whether it has made all that others need of it.
    pub fn is_settled(&self) -> bool {
        ["ca/ca.pem", "secrets.key", "admin.token"].iter().all(|name| self.data().join(name).exists())
    }

    /// The administrator's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin.token")).unwrap_or_default()
    }

    /// Runs until it is killed.
    pub async fn run(self) -> turmoil::Result {
        let config = Config::load(&self.config()).map_err(|error| format!("{error:#}"))?;
        let controllers = ["c0", "c1"].map(|name| format!("https://{name}:{AGENTS}")).to_vec();
        let (_offer, boot) = watch::channel(Some(BootTemplate { controllers, apt: None }));
        let clock = self.ground.clone();
        let world = World {
            hosts: Some(self.ground.clone()),
            boot,
            user_port: Port::bind(USERS).await?,
            agent_ports: vec![Port::bind(AGENTS).await?],
            agent_addresses: Vec::new(),
            store: Some(self.store.clone() as Arc<dyn Store>),
            clock: Arc::new(move || clock.now_ms()),
        };
        Ok(serve(config, world, std::future::pending()).await.map_err(|error| format!("{}: {error:#}", self.name))?)
    }
}
