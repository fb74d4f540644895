//! Several controllers over one database, with agents that know them as a list or by a load balancer.
//!
//! ```text
//!   user ──► HAProxy (5) ──► controllers (2, 3, 4) ──► HAProxy of each ──► PostgreSQL + Patroni + etcd (2, 3, 4)
//!                 ▲               ▲          └──────► git (6)
//!   machines ─────┴── list ───────┘
//! ```
//! The numbers are last numbers of addresses: each is a server of its own (`net.rs`). The machines are microhosts of the
//! pool. Controllers are the real program, and can be killed.

pub mod balance;
pub mod database;
pub mod forward;
mod git;
pub mod load;
pub mod net;

use crate::api::Api;
use crate::artifacts::{Artifacts, artifacts};
use crate::cluster::Cluster;
use crate::{say, wait};
use anyhow::{Context as _, Result, ensure};
use database::Database;
use forward::Forward;
use http::Method;
use net::{Net, Program, at};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use straas_drivers::local::{LocalHosts, PackageRepo, quiet};
use straas_drivers::{AgentBoot, Flavor, HostSpec, Hosts as _, Secret};
use straas_schemas::pool::JoinTokenIssued;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The number of the first server.
pub const FIRST: u8 = 2;
/// The number of the first member of a database on servers of its own.
const MEMBERS: u8 = 7;
/// The number of the load balancer.
const BALANCER: u8 = 5;
/// Ports of a controller and of the load balancer.
const USERS: u16 = 8080;
const AGENTS: u16 = 7443;
const PACKAGES: u16 = 8081;
/// A controller starts within a second or two.
const READY_MAX: Duration = Duration::from_secs(60);

/// What there should be.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Controllers: 1 to 3.
    pub controllers: usize,
    /// Members of the database: 1 or 3.
    pub members: usize,
    /// What of it is in zones.
    pub zoned: Zoned,
}

/// What is in zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zoned {
    /// Nothing: there are none.
    Nothing,
    /// Each controller in one of its own; the database is in none.
    Controllers,
    /// Each controller in one of its own, with a member of the database.
    WithDatabase,
}

/// A controller.
pub struct One {
    /// Its server.
    pub number: u8,
    /// The user's view of it alone.
    pub api: Api,
    program: Option<Program>,
    _forward: Forward,
}

/// All of it.
pub struct Several {
    /// Hosts, for faults.
    pub hosts: LocalHosts,
    /// The controllers.
    pub all: Vec<One>,
    /// The database.
    pub database: Database,
    /// What else runs.
    others: Vec<Program>,
    artifacts: Artifacts,
    packages: PackageRepo,
    serving: JoinHandle<()>,
    dir: PathBuf,
    _forward: Forward,
    // last: it ends whatever is left on the servers
    /// Servers and zones.
    pub net: Net,
}

impl Drop for Several {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// How a machine finds its controllers.
#[derive(Clone, Copy, Debug)]
pub enum Known {
    /// By a list of all.
    List,
    /// By the load balancer.
    Balancer,
}

impl Several {
    /// Starts everything; from then on the cluster's user talks to the load balancer.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn start(cluster: &mut Cluster, layout: Layout, packages: &[&str]) -> Result<Self> {
        let begun = Instant::now();
        cluster.write_config()?;
        let dir = cluster.data().to_owned();
        // the database's own user passes through
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let hosts = cluster.hosts().await?;
        let net = Net::new(cluster.netns(), &dir);
        hosts.prepare(quiet()).await?;
        let requests: Vec<_> = packages.iter().map(|request| (*request).to_owned()).collect();
        let packages = hosts.packages(&requests, quiet()).await?.context("packages")?;
        ensure!(packages.missing.is_empty(), "packages are missing: {:?}", packages.missing);
        let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(&packages.dir));
        let listener = TcpListener::from_std(hosts.listen(PACKAGES)?)?;
        let serving = tokio::spawn(async move { drop(axum::serve(listener, files).await) });

        let controllers: Vec<u8> = (FIRST..).take(layout.controllers).collect();
        // a database that is no part of a zone is on servers of its own
        let members: Vec<u8> =
            (if layout.zoned == Zoned::Controllers { MEMBERS } else { FIRST }..).take(layout.members).collect();
        let zoned = layout.zoned != Zoned::Nothing;
        for (number, zone) in controllers.iter().zip(1..) {
            if zoned {
                net.zone(zone)?;
            }
            net.server(*number, zoned.then_some(zone))?;
        }
        for number in members.iter().filter(|number| !controllers.contains(number)) {
            net.server(*number, None)?;
        }
        for number in [BALANCER, git::NUMBER] {
            net.server(number, None)?;
        }
        let (server, repositories) = git::start(&net, &dir)?;
        let mut others = vec![server];
        let database = Database::start(&net, &dir, &members).await?;
        for number in &controllers {
            others.push(balance::start(&net, &dir, *number, balance::DATABASE, &members)?);
        }
        say(&format!("  the database is up after {:.1} s", begun.elapsed().as_secs_f32()));
        let settings = format!("[timing]\n{}\n{}\n{repositories}", cluster.timing, cluster.settings);
        let mut all = Vec::new();
        for number in &controllers {
            let own = dir.join(format!("c{number}"));
            if let Some(first) = all.first().map(|one: &One| dir.join(format!("c{}", one.number))) {
                std::fs::create_dir(&own)?;
                let shared = ["ca", "secrets.key", "admin.token"].map(|name| first.join(name));
                let copied = Command::new("cp").arg("-a").args(shared).arg(&own).status()?;
                ensure!(copied.success(), "cp failed");
            }
            let listen = |port| at(*number, port);
            let text = format!(
                "data_dir = {own:?}\n[store]\nurl = {:?}\n[api]\nlisten = \"{}\"\n[agents]\nlisten = \"{}\"\n\
                 [pool]\nzones = [\"*\"]\n{settings}",
                database::URL,
                listen(USERS),
                listen(AGENTS)
            );
            std::fs::write(dir.join(format!("c{number}.toml")), text)?;
            let forward = Forward::to(&cluster.netns(), listen(USERS))?;
            let api = Api::new(forward.port, own.join("admin.token"));
            let program = Some(controller(&net, &cluster.artifacts, &dir, *number)?);
            let mut one = One { number: *number, api, program, _forward: forward };
            one.ready().await?;
            all.push(one);
        }
        others.push(balance::start(&net, &dir, BALANCER, balance::CONTROLLERS, &controllers)?);
        let forward = Forward::to(&cluster.netns(), at(BALANCER, USERS))?;
        cluster.api = Api::new(forward.port, dir.join(format!("c{FIRST}/admin.token")));
        wait("the load balancer", READY_MAX, async || ready(&cluster.api).await.then_some(())).await?;
        say(&format!("  {} controllers are up after {:.1} s", all.len(), begun.elapsed().as_secs_f32()));
        let artifacts = cluster.artifacts.clone();
        Ok(Self { hosts, all, database, others, artifacts, packages, serving, dir, _forward: forward, net })
    }

    /// Makes a machine of the pool.
    ///
    /// # Errors
    /// No token, or no host.
    pub async fn machine(&self, cluster: &Cluster, spot: &Spot<'_>, known: Known) -> Result<()> {
        let body = json!({ "zone": spot.zone, "hosts": 1, "fault_domain": spot.domain });
        let issued: JoinTokenIssued = cluster.api.call(Method::POST, "/join-tokens", Some(&body)).await?;
        let controllers = match known {
            Known::List => self.all.iter().map(|one| format!("https://{}", at(one.number, AGENTS))).collect(),
            Known::Balancer => vec![format!("https://{}", at(BALANCER, AGENTS))],
        };
        let spec = HostSpec {
            id: spot.name.to_owned(),
            name: spot.name.to_owned(),
            owner: "somebody".to_owned(),
            zone: String::new(),
            flavor: Flavor { memory_mib: 1024, vcpus: 1 },
            spread: None,
            address: None,
            agent: AgentBoot {
                controllers,
                node: None,
                ca_pem: std::fs::read_to_string(self.dir.join(format!("c{FIRST}/ca/ca.pem")))?,
                join_token: Secret::new(&issued.token),
                metrics_listen: String::new(),
                apt: Some(self.packages.source(&format!("http://{}:{PACKAGES}", self.hosts.gateway()))),
                settings: BTreeMap::new(),
            },
            userdata: String::new(),
        };
        self.hosts.ensure(&spec).await?;
        Ok(())
    }

    /// Puts a machine into a zone of the network.
    ///
    /// # Errors
    /// There is no such machine or zone.
    pub async fn plug(&self, machine: &str, zone: u8) -> Result<()> {
        let all = self.hosts.list().await?;
        let found = all.iter().find(|host| host.id == machine).with_context(|| format!("no machine {machine}"))?;
        let std::net::IpAddr::V4(address) = found.address else { anyhow::bail!("{machine} has no such address") };
        self.net.plug(address, zone)
    }

    /// Whether anything but a controller or a member of the database has ended by itself.
    ///
    /// # Errors
    /// What has.
    pub fn others_run(&mut self) -> Result<()> {
        let ended: Vec<_> = self.others.iter_mut().filter_map(Program::ended).collect();
        ensure!(ended.is_empty(), "ended by itself: {ended:?}");
        Ok(())
    }

    /// Whether every controller that was not killed still runs, as the process it was.
    ///
    /// # Errors
    /// Which does not.
    pub fn controllers_run(&mut self) -> Result<()> {
        for one in &mut self.all {
            let ended = one.program.as_mut().and_then(Program::ended);
            ensure!(ended.is_none(), "controller {} ended by itself: {ended:?}", one.number);
        }
        Ok(())
    }

    /// `kill -9` of a controller.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.all[index].program.take().context("it does not run")?.kill()
    }

    /// Starts a controller that was killed.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn revive(&mut self, index: usize) -> Result<()> {
        let number = self.all[index].number;
        self.all[index].program = Some(controller(&self.net, &self.artifacts, &self.dir, number)?);
        self.all[index].ready().await
    }

    /// Exchanges a controller for one of this build, in order: how long it was away.
    ///
    /// # Errors
    /// It does not end well, or the new one does not become ready.
    pub async fn exchange(&mut self, index: usize) -> Result<Duration> {
        let begun = Instant::now();
        self.all[index].program.take().context("it does not run")?.stop().await?;
        self.artifacts = artifacts()?.clone();
        self.revive(index).await?;
        Ok(begun.elapsed())
    }
}

impl One {
    async fn ready(&mut self) -> Result<()> {
        let (api, program) = (&self.api, &mut self.program);
        wait("a controller to be ready", READY_MAX, async || {
            if let Some(how) = program.as_mut().and_then(Program::ended) {
                return Some(Err(anyhow::anyhow!("it ended: {how}")));
            }
            ready(api).await.then_some(Ok(()))
        })
        .await?
    }
}

/// Where a machine stands.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    /// Its name.
    pub name: &'a str,
    /// The zone of the pool that it joins.
    pub zone: &'a str,
    /// Its fault domain.
    pub domain: &'a str,
}

/// Whether a controller says that it is ready.
pub async fn ready(api: &Api) -> bool {
    api.request(Method::GET, "/readyz", None).await.is_ok_and(|response| response.status().is_success())
}

fn controller(net: &Net, artifacts: &Artifacts, dir: &Path, number: u8) -> Result<Program> {
    let config = dir.join(format!("c{number}.toml"));
    // pictures of a failure show the first one's
    let log = if number == FIRST { "controller".to_owned() } else { format!("controller-{number}") };
    let program = artifacts.controller.to_string_lossy();
    let argv = ["env", "RUST_LOG=info,straas_controller=debug", &program, "run", "--config", &config.to_string_lossy()];
    net.start(number, &log, &argv)
}
