//! A controller of one test, with its directory, ports and provider of hosts.

use crate::agent::Agent;
use crate::logs;
use crate::providers::Recorder;
use crate::wire::{Answer, request, send, whole};
use http::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use straas_controller::config::Config;
use straas_controller::{BootTemplate, World, serve};
use straas_schemas::Digest;
use straas_store::{SqlStore, Store as _};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Everything a test waits for is there within a second; so long is waited on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TOPOLOGIES: &str = "/straas/v1.0/topologies";

pub struct Rig {
    pub dir: TempDir,
    pub hosts: Arc<Recorder>,
    pub boot: watch::Sender<Option<BootTemplate>>,
    pub token: String,
    users: SocketAddr,
    pub agents: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<anyhow::Result<()>>>,
    settings: String,
    /// The database's URL.
    store: String,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_with(
            "[timing]\nheartbeat_ms = 500\nsuspect_after_ms = 20000\nunreachable_after_ms = 60000\nretry_ms = 200\n",
        )
        .await
    }

    /// With these lines after `data_dir` in its configuration.
    pub async fn start_with(settings: &str) -> Self {
        let mut rig = Self::down_with(settings, Arc::default());
        rig.up().await;
        rig
    }

    /// A further controller over the same hosts: with the certificate authority and the key of the secrets of another.
    pub async fn beside(other: &Self, settings: &str) -> Self {
        let mut rig = Self::down_with(settings, other.hosts.clone());
        std::fs::create_dir(rig.data()).expect("made");
        let shared = ["ca", "secrets.key"].map(|name| other.data().join(name));
        let copied = std::process::Command::new("cp").arg("-a").args(shared).arg(rig.data()).status();
        assert!(copied.expect("cp runs").success());
        rig.up().await;
        rig
    }

    /// One that is not started, with the settings and hosts of another.
    pub fn empty(other: &Self) -> Self {
        Self::down_with(&other.settings, other.hosts.clone())
    }

    /// Put back from a backup, in the place of another.
    pub async fn restored(other: &Self, backup: &Path) -> Self {
        let mut rig = Self::empty(other);
        straas_controller::backup::restore(&rig.config(), backup, &mut |_| {}).await.expect("restored");
        rig.up().await;
        rig
    }

    /// Its configuration, as the file has it.
    pub fn config(&self) -> Config {
        let config = self.dir.path().join("controller.toml");
        let text = format!("data_dir = {:?}\n{}", self.data(), self.settings);
        std::fs::write(&config, text).expect("written");
        Config::load(&config).expect("a configuration")
    }

    /// Uses another database from its next start on.
    pub fn use_database(&mut self, url: &str) {
        self.settings = format!("[store]\nurl = {url:?}\n{}", self.settings);
    }

    fn down_with(settings: &str, hosts: Arc<Recorder>) -> Self {
        logs::keep();
        let boot = BootTemplate { controllers: vec!["https://10.9.0.1:7443".into()], apt: None };
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            hosts,
            boot: watch::Sender::new(Some(boot)),
            token: String::new(),
            users: SocketAddr::from(([127, 0, 0, 1], 0)),
            agents: SocketAddr::from(([127, 0, 0, 1], 0)),
            stop: None,
            served: None,
            settings: settings.to_owned(),
            store: String::new(),
        }
    }

    /// Starts the controller over the directory as it is.
    pub async fn up(&mut self) {
        let config = self.config();
        self.store = config.store_url();
        let loopback = || TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
        let (user_port, agent_port) = (loopback().await.expect("a port"), loopback().await.expect("a port"));
        self.users = user_port.local_addr().expect("an address");
        self.agents = agent_port.local_addr().expect("an address");
        let world = World {
            hosts: Some(self.hosts.clone()),
            boot: self.boot.subscribe(),
            user_port,
            agent_ports: vec![agent_port],
            agent_addresses: vec![self.agents.ip()],
            store: None,
            clock: straas_controller::system_clock(),
        };
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        self.served = Some(tokio::spawn(serve(config, world, async move { drop(stopped.await) })));
        let begun = Instant::now();
        while self.bare(Method::GET, "/readyz").await.is_none_or(|answer| answer.status != 200) {
            assert!(begun.elapsed() < PATIENCE, "the controller does not come up");
            // waits for: the ports to be served, which is when the token is there too
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.token = std::fs::read_to_string(self.data().join("admin.token")).expect("a token");
    }

    /// Starts a controller that is expected not to start; why.
    pub async fn refuses_to_start(&mut self) -> String {
        let config = Config::load(&self.dir.path().join("controller.toml")).expect("a configuration");
        let port = async || TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (user_port, agent_port) = (port().await, port().await);
        let world = World {
            hosts: Some(self.hosts.clone()),
            boot: self.boot.subscribe(),
            user_port,
            agent_ports: vec![agent_port],
            agent_addresses: vec![],
            store: None,
            clock: straas_controller::system_clock(),
        };
        format!("{:#}", serve(config, world, std::future::pending()).await.expect_err("a refusal"))
    }

    /// Where users reach it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.users)
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Tells the controller to stop and waits for it.
    pub async fn down(&mut self) -> anyhow::Result<()> {
        self.stop.take();
        self.served.take().expect("served").await.expect("no panic")
    }

    /// Ends the controller in the middle of what it does, as `kill -9` ends the program.
    pub async fn kill(&mut self) {
        let served = self.served.take().expect("served");
        served.abort();
        assert!(served.await.expect_err("cut off").is_cancelled());
    }

    /// A connection to the users' port.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.users).await.expect("connected")
    }

    async fn bare(&self, method: Method, path: &str) -> Option<Answer> {
        let stream = TcpStream::connect(self.users).await.ok()?;
        Some(whole(send(stream, request(method, path, &[], Vec::new())).await.ok()?).await)
    }

    /// A request with these headers and no token of its own.
    pub async fn raw(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        whole(send(self.connect().await, request(method, path, headers, body)).await.expect("an answer")).await
    }

    /// A request with the administrator's token.
    pub async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        self.raw(method, path, &[("x-auth-token", &self.token)], body).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, Vec::new()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, body.to_string().into_bytes()).await
    }

    /// Creates a topology of one ZooKeeper component; its id.
    pub async fn create(&self, name: &str, size: u32) -> String {
        let body = json!({ "name": name, "availability_zone": "z1", "components": [{ "name": "zk", "type": "zookeeper", "size": size }] });
        let answer = self.post(TOPOLOGIES, &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    pub async fn delete(&self, id: &str) -> Answer {
        self.call(Method::DELETE, &format!("{TOPOLOGIES}/{id}"), Vec::new()).await
    }

    /// Asks `path` until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.call(Method::GET, path, Vec::new()).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} is still {}: {}", answer.status, answer.text());
            // waits for: work in the background, which shows in this answer only
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The nodes of a topology, once every one has a host.
    pub async fn nodes(&self, topology: &str, count: usize) -> Vec<Value> {
        let up = |answer: &Answer| {
            let answer = answer.json();
            let items = answer["items"].as_array().expect("items");
            items.len() == count && items.iter().all(|node| !node["address"].is_null())
        };
        let answer = self.until(&format!("/straas/v1.0/nodes?topology={topology}"), up).await;
        answer.json()["items"].as_array().expect("items").clone()
    }

    /// The join token that the host of a node was given.
    pub fn join_token(&self, node: &str) -> String {
        self.hosts.host(node).unwrap_or_else(|| panic!("no host {node}")).token
    }

    /// The database, as another controller would have it open.
    pub async fn store(&self) -> SqlStore {
        SqlStore::connect(&self.store).await.expect("the database")
    }

    /// What happened in a topology, as recorded.
    pub async fn store_events(&self, topology: &str) -> Vec<straas_schemas::view::Event> {
        self.store().await.events(&topology.into(), 0, 1000).await.expect("events")
    }

    /// A join token of a node that its host was not given.
    pub async fn another_token(&self, node: &str, expires_ms: i64) -> String {
        let token = format!("another token of {node} until {expires_ms}");
        let hash = Digest::sha256(token.as_bytes()).0;
        self.store().await.add_join_token(&hash, &node.into(), expires_ms).await.expect("recorded");
        token
    }

    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.data().join("ca/ca.pem")).expect("a certificate")
    }

    /// The agents of all nodes of a topology, enrolled.
    pub async fn enrolled(&self, topology: &str, count: usize) -> Vec<Agent> {
        let mut out = Vec::new();
        for node in self.nodes(topology, count).await {
            let id = node["id"].as_str().expect("an id");
            out.push(Agent::enrol(self, &self.join_token(id)).await.expect("enrolled"));
        }
        out
    }

    /// Everything that a refused request must leave as it was: lists and refs.
    pub async fn state(&self) -> Value {
        let mut out = json!({});
        for list in ["topologies", "jobs", "nodes"] {
            out[list] = self.get(&format!("/straas/v1.0/{list}")).await;
        }
        for repo in ["config.git", "scripts.git"] {
            out[repo] = refs(&self.data().join(repo));
        }
        out
    }
}

/// Every ref of a repository with what it points to.
pub fn refs(repo: &Path) -> Value {
    let repo = git2::Repository::open_bare(repo).expect("a repository");
    let mut out = json!({});
    for found in repo.references().expect("refs") {
        let found = found.expect("a ref");
        out[found.name().expect("a name")] = json!(found.target().map(|id| id.to_string()));
    }
    assert!(!out.as_object().expect("an object").is_empty());
    out
}

/// What every request for one topology needs; change what is to be tried.
pub fn topology(name: &str) -> Value {
    json!({ "name": name, "availability_zone": "z1", "components": [{ "name": "zk", "type": "zookeeper", "size": 3 }] })
}
