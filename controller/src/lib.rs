//! The StraaS controller: records what is wanted, plans, and answers whoever asks.
//!
//! `run` puts the parts together and keeps them going. It takes its configuration and a future
//! that ends when it should stop; it opens what it needs and leaves it whole. The controller never
//! connects to a node: agents come to it.

mod agents;
mod app;
mod apply;
mod apt;
mod authority;
pub mod backup;
mod bell;
mod books;
mod bucket;
mod ca;
mod clock;
mod commands;
pub mod config;
mod disk;
mod engine;
mod error;
mod files;
mod fleet;
mod goods;
mod http;
mod identity;
mod leases;
mod local;
pub mod log;
mod metrics;
mod pool;
mod port;
mod repos;
mod rollout;
mod secrets;
mod settings;
mod snapshot;
mod stop;
mod storage;
mod sync;
mod tasks;
mod tls;
mod unsealed;
mod uploads;
mod wake;
mod wanted;

use anyhow::{Context as _, Result};
use app::App;
pub use app::BootTemplate;
use books::GitBooks;
pub use clock::{Clock, system as system_clock};
use config::Config;
use engine::Engine;
pub use local::{prepare, teardown};
pub use port::{Listen, Stream};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use straas_drivers::Hosts;
use straas_drivers::local::LocalHosts;
use straas_repos::{Packs, Vault};
use straas_store::{SqlStore, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The parts that decide nothing and hold everything together, for whoever plays the world around them: the simulation
/// of `tests/tests/simulation` tells them histories, with a database, a clock, hosts and agents of its own.
pub mod parts {
    pub use crate::agents::enrol::admitted;
    pub use crate::agents::poll::answered;
    pub use crate::agents::report::{beaten, taken};
    pub use crate::agents::standing;
    pub use crate::apply::{carry_out, health::Said, held::Held};
    pub use crate::authority::Authorities;
    pub use crate::bell::Bell;
    pub use crate::books::Books;
    pub use crate::ca::Ca;
    pub use crate::commands::Commands;
    pub use crate::engine::Engine;
    pub use crate::error::Error;
    pub use crate::fleet::Fleet;
    pub use crate::http::problem::ApiError;
    pub use crate::leases::{Leases, end};
    pub use crate::metrics::Metrics;
    pub use crate::settings::Settings;
    pub use crate::snapshot::take;
    pub use crate::stop::{Stopper, pair};
    pub use crate::tasks::beats::{Beats, Last, write_waiting};
    pub use crate::tasks::commands::{hear, settle, work};
    pub use crate::tasks::hosts::{Busy, Due, HostWork, Task, attempt, due, over, sweep};
    pub use crate::tls::Identity;
    pub use crate::wake::Wake;
    pub use crate::wanted::{come_back, join, leave, ordinals, roll_out, set_stopped, turn_back};
}

/// Everything gets so long to end after the word to stop; what has not ended then is cut off, as by
/// a crash, which everything here survives.
const STOP: Duration = Duration::from_secs(10);

/// A database server that is away when the controller starts gets so long to come: a fail-over takes some seconds. Then the
/// controller ends, for whoever started it to see that something is wrong.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const DATABASE_AGAIN: Duration = Duration::from_secs(1);

/// The keys that secrets of configurations are sealed with, in the data directory.
const SECRETS_KEY: &str = "secrets.key";

/// What the controller is given by whoever starts it. A program gets all of it from its host; `tests/tests/network` plays
/// the network and the time.
pub struct World<L = TcpListener> {
    /// The provider of hosts, but for those of the pool; none where all are the pool's.
    pub hosts: Option<Arc<dyn Hosts>>,
    /// What a new host's agent is told; `None` until hosts can be made.
    pub boot: watch::Receiver<Option<BootTemplate>>,
    /// Where users connect.
    pub user_port: L,
    /// Where agents connect.
    pub agent_ports: Vec<L>,
    /// Addresses under which agents reach those, for their certificate.
    pub agent_addresses: Vec<IpAddr>,
    /// The database, if not the one of the configuration.
    pub store: Option<Arc<dyn Store>>,
    /// The time.
    pub clock: Clock,
}

/// Has another key seal the secrets of configurations, or with `prepare` lays one ready; the file that was written.
///
/// # Errors
/// There is no key yet, or the disk.
pub fn rotate_secrets(config: &Config, prepare: bool) -> Result<std::path::PathBuf> {
    Vault::rotate(&config.data_dir.join(SECRETS_KEY), prepare).context("rotate the key of the secrets")
}

/// Runs a controller with hosts on this machine until `stop` ends.
///
/// # Errors
/// Something it cannot do without is missing: the data directory, the database, a port.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    data_dir(&config.data_dir)?;
    if pool::Zones::new(&config.pool.zones).all() {
        return run_on_pool(config, stop).await;
    }
    let hosts = local::open(&config).await?;
    run_on(config, hosts, stop).await
}

/// As [`run`], with hosts of the pool alone.
async fn run_on_pool(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    tracing::info!("all hosts are the pool's: none are made on this machine");
    let user_port = user_port(&config).await?;
    let (agent_ports, agent_addresses) = agent_port(&config).await?.into_iter().unzip();
    // nobody waits for it: a host of the pool has an agent already
    let (_offer, boot) = watch::channel(None);
    serve(
        config,
        World { hosts: None, boot, user_port, agent_ports, agent_addresses, store: None, clock: system_clock() },
        stop,
    )
    .await
}

async fn user_port(config: &Config) -> Result<TcpListener> {
    let listening = TcpListener::bind(config.api.listen).await;
    listening.with_context(|| format!("listen on {} for users ([api] listen)", config.api.listen))
}

/// The port for agents that are not on this machine, if there is to be one.
async fn agent_port(config: &Config) -> Result<Option<(TcpListener, IpAddr)>> {
    let Some(listen) = config.agents.listen else { return Ok(None) };
    let listening = TcpListener::bind(listen).await;
    let listening = listening.with_context(|| format!("listen on {listen} for agents ([agents] listen)"))?;
    Ok(Some((listening, listen.ip())))
}

/// As [`run`], with hosts that the caller has opened and goes on using.
///
/// # Errors
/// As [`run`].
pub async fn run_on(config: Config, hosts: LocalHosts, stop: impl Future<Output = ()>) -> Result<()> {
    tracing::info!(isolation = Hosts::kind(&hosts), "{}", hosts.isolation_reason());
    if let Some(note) = Hosts::isolation_note(&hosts) {
        tracing::warn!("{note}");
    }
    let user_port = user_port(&config).await?;
    let near = hosts.listen(config.agents.port).context("listen for agents ([agents] port)")?;
    let near = (TcpListener::from_std(near)?, hosts.gateway());
    let (agent_ports, agent_addresses) = std::iter::once(near).chain(agent_port(&config).await?).unzip();
    let (offer, boot) = watch::channel(None);
    let world = World {
        boot,
        user_port,
        agent_ports,
        agent_addresses,
        hosts: Some(Arc::new(hosts.clone())),
        store: None,
        clock: system_clock(),
    };
    // packages of components that are laid over the repositories are wanted from the first start on
    let catalog = config.clone();
    tokio::task::spawn_blocking(move || local::catalog(&catalog)).await??;
    let provider = tokio::spawn(local::provide(config.clone(), hosts, offer));
    let served = serve(config, world, stop).await;
    provider.abort();
    served
}

/// Runs a controller in a world until `stop` ends.
///
/// # Errors
/// As [`run`].
pub async fn serve<L: Listen>(config: Config, world: World<L>, stop: impl Future<Output = ()>) -> Result<()> {
    // one provider of cryptography; a second call in one process changes nothing
    let _ = rustls::crypto::ring::default_provider().install_default();
    data_dir(&config.data_dir)?;
    let (stopper, stopping) = stop::pair();
    let mut stop = std::pin::pin!(stop);
    let World { hosts, boot, user_port, agent_ports, agent_addresses, store, clock } = world;
    let given = Given { hosts, boot, agent_addresses, store, clock };
    let app = tokio::select! {
        app = open(config, given, stopping.clone()) => app?,
        () = &mut stop => return Ok(()),
    };
    bell::enter(&app).await;
    app.load().await.context("read the database")?;

    let mut tasks = JoinSet::new();
    tasks.spawn(tasks::reconcile::run(app.clone()));
    tasks.spawn(tasks::hosts::run(app.clone()));
    tasks.spawn(tasks::beats::run(app.clone()));
    tasks.spawn(tasks::commands::run(app.clone()));
    tasks.spawn(tasks::rollouts::run(app.clone()));
    tasks.spawn(tasks::authority::run(app.clone()));
    tasks.spawn(pool::desk::run(app.pool.clone(), app.store.clone(), stopping.clone()));
    tasks.spawn(bell::run(app.clone()));
    tasks.spawn(leases::run(app.clone()));
    tasks.spawn(settings::run(app.clone()));
    for (mirror, _) in tasks::mirrors::all(&app) {
        tasks.spawn(tasks::mirrors::run(app.clone(), mirror));
    }
    tasks.spawn(storage::run(app.storage.clone(), app.store.clone(), stopping.clone()));
    let seconds = |s: u32| Duration::from_secs(s.max(1).into());
    let (idle, stall) = (port::AGENT_IDLE, seconds(app.config.agents.stall_s));
    let door = port::Door { tls: Some(app.authorities.clone()), idle, stall, router: agents::router(app.clone()) };
    for port in agent_ports {
        tasks.spawn(port::serve(port, door.clone(), stopping.clone()));
    }
    let (idle, stall) = (seconds(app.config.api.head_s), seconds(app.config.api.stall_s));
    let door = port::Door { tls: None, idle, stall, router: http::router(app.clone()) };
    tasks.spawn(port::serve(user_port, door, stopping.clone()));
    // to systemd, or to whoever started us and listens; nobody listening is fine
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(users = %app.config.api.listen, agents = app.config.agents.port, "controller is up");

    // a controller that lost one of its tasks is worse than one that ends and is started again
    let early = tokio::select! {
        () = &mut stop => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    tracing::info!("stopping");
    stopper.stop();
    app.tasks.close();
    let drained = tokio::time::timeout(STOP, async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a background task")?;
        }
        app.tasks.wait().await;
        Ok::<_, anyhow::Error>(())
    });
    match drained.await {
        Ok(drained) => drained?,
        Err(_) => tracing::warn!("some tasks did not end within {} s; they are cut off", STOP.as_secs()),
    }
    tasks.shutdown().await;
    if let Some(ended) = early {
        ended.context("a background task")?;
        anyhow::bail!("a background task ended by itself");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Makes the data directory. Others may pass through it, since services of nodes that are plain
/// processes run as users of their own below it, but may look at nothing in it.
fn data_dir(dir: &Path) -> Result<()> {
    let unfinished = dir.join(backup::UNFINISHED);
    anyhow::ensure!(
        !unfinished.exists(),
        "{}: a backup was only partly put back here; restore it again",
        unfinished.display()
    );
    make_dir(dir, 0o711)?;
    for private in ["ca", "config.git", "scripts.git", "packs", "files", "uploads", "objects", "objects/partial"] {
        make_dir(&dir.join(private), 0o700)?;
    }
    Ok(())
}

fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let made = std::fs::create_dir_all(dir);
    let made = made.and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)));
    made.with_context(|| format!("create the directory {}", dir.display()))
}

fn who(config: &Config, store: &Arc<dyn Store>, clock: &Clock) -> Result<Arc<dyn identity::Identity>> {
    Ok(match &config.auth.keystone {
        Some(auth) => {
            Arc::new(identity::keystone::InKeystone::new(auth.clone(), clock.clone()).context("[auth.keystone]")?)
        }
        None => Arc::new(identity::embedded::Embedded::new(store.clone(), clock.clone())),
    })
}

/// The database. One on this machine is there or not; a server is waited for.
async fn connected(url: &str) -> straas_store::Result<SqlStore> {
    let begun = Instant::now();
    loop {
        match SqlStore::connect(url).await {
            Err(error @ StoreError::Unavailable(_))
                if url.starts_with("postgres") && begun.elapsed() < DATABASE_PATIENCE =>
            {
                tracing::warn!(error = error::chain(&error), "the database is not there; trying again");
                tokio::time::sleep(DATABASE_AGAIN).await;
            }
            other => return other,
        }
    }
}

/// Of a world all but its ports.
struct Given {
    hosts: Option<Arc<dyn Hosts>>,
    boot: watch::Receiver<Option<BootTemplate>>,
    agent_addresses: Vec<IpAddr>,
    store: Option<Arc<dyn Store>>,
    clock: Clock,
}

async fn open(config: Config, given: Given, stopping: stop::Stop) -> Result<Arc<App>> {
    let Given { hosts: others, boot, agent_addresses: addresses, store, clock } = given;
    let dir = config.data_dir.clone();
    let store = match store {
        Some(store) => store,
        None => Arc::new(connected(&config.store_url()).await.context("open the database ([store] url)")?),
    };
    identity::embedded::found(&*store, clock()).await.context("record the administrators' tenant")?;
    let ours = config.clone();
    // a first start asks their upstreams
    let opened =
        tokio::task::spawn_blocking(move || Ok::<_, anyhow::Error>((repos::scripts(&ours)?, repos::configs(&ours)?)));
    let (scripts, configs) = opened.await??;
    let vault = Vault::open(&dir.join(SECRETS_KEY)).context("open the key of the secrets")?;
    let vault = Arc::new(vault);
    let home = authority::Home { dir: dir.join("ca"), vault: vault.clone(), addresses };
    let authorities = authority::Authorities::open(home, &*store).await;
    let configs = configs.with_vault(vault).with_own_settings(config.settings());
    let overlays = &config.seed.overlays;
    if !overlays.is_empty() {
        let laid = scripts.overlay(overlays).and_then(|_| configs.overlay(overlays));
        let commit = laid.context("lay [seed] overlays over the repositories")?;
        tracing::info!(%commit, folders = overlays.len(), "components are laid over the repositories");
    }
    let packs = Packs::open(&scripts, &dir.join("packs")).context("open the packs")?;
    // a repository that was made just now has taken the place of the private directory
    data_dir(&dir)?;
    let settings =
        settings::Settings::open(&configs, &dir).context("read the service's settings in the config repo")?;
    log::from(settings.common().log.level);
    let bell = Arc::new(bell::Bell::default());
    let desk = Arc::new(pool::desk::Desk::new(bell.clone(), clock.clone()));
    let hosts = pool::Pool::new(store.clone(), desk.clone());
    let hosts = Arc::new(pool::Zoned::new(pool::Zones::new(&config.pool.zones), hosts, others));
    let files = files::take_in(&dir, &config.files).context("take in [[files]]")?;
    let engine = Engine {
        clock: clock.clone(),
        store: store.clone(),
        books: Arc::new(GitBooks::new(configs.clone(), scripts.clone())),
        authorities: Arc::new(authorities.context("open the certificate authority")?),
        hosts,
        instance: config.local.instance.clone(),
        restored: dir.join(backup::RESTORED),
        leases: leases::Leases::open(&*store, &dir).await.context("end the leases of the run before")?,
        boot,
        fleet: fleet::Fleet::default(),
        wake: wake::Wake::new(bell.clone()),
        bell,
        commands: commands::Commands::default(),
        beats: tasks::beats::Beats::default(),
        health: apply::health::Said::default(),
        held: apply::held::Held::default(),
        files,
        settings,
        metrics: metrics::Metrics::default(),
        busy: tasks::hosts::Busy::default(),
        stopping,
    };
    Ok(Arc::new(App {
        engine,
        identity: who(&config, &store, &clock)?,
        configs,
        packs,
        scripts,
        pool: desk,
        disk: disk::Disk::of(&dir),
        storage: Arc::new(storage::Storages::open(&dir)),
        admin_token: secrets::hash(&secrets::admin_token(&dir).context("the administrator's token")?),
        limits: http::limits::Limits::default(),
        guesses: agents::Guesses::default(),
        tasks: tokio_util::task::TaskTracker::new(),
        config,
    }))
}
