//! Hosts on this one machine: microhosts, or plain processes where namespaces are not allowed.
//!
//! [`LocalHosts`] is the front door. A *microhost* is VM-like: own network, mounts, processes,
//! host name and disk (an overlay over a cached image), made in a tenth of a second. *Process* mode
//! runs the agent as a process with a directory and a loopback address of its own, and says what
//! that cannot show. Both survive the controller, as VMs would, and are adopted by the next one.
//!
//! ```text
//!   <state>/driver.lock         one driver per instance (kernel lock)
//!   <state>/hosts/<id>/         host.json run.json lock init.log upper/ work/ root/
//!   <state>/trash/              renamed here before removal, emptied at the next start
//! ```

pub mod beside;
mod components;
mod config;
mod faults;
mod host;
mod image;
mod micro;
mod packages;
mod places;
mod process;
mod prune;
mod shared_apt;
mod sources;
mod spawn;

pub(crate) mod fabric;
pub(crate) mod proc;
pub(crate) mod record;
mod registry;
mod subnet;
pub(crate) mod tools;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use config::{Isolation, LocalConfig};
pub use packages::{MissingPackage, PackageRepo};
pub use subnet::Subnet;

use crate::error::HostError;
use crate::helper::ProbeTask;
use crate::hosts::{ExecOutput, check_id};
use fabric::Fabric;
use image::Images;
use registry::Registry;
use spawn::{Helper, Scratch};

/// Is told in short lines what a long piece of work is at.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// A [`Progress`] for nobody.
pub fn quiet() -> Progress {
    Arc::new(|_| {})
}

/// Longest a command in a host may take: an apt-get with hundreds of packages on a loaded machine.
const EXEC_SECONDS_MAX: u64 = 900;

/// The hosts of one driver instance. Cheap to clone.
#[derive(Clone)]
pub struct LocalHosts {
    inner: Arc<Inner>,
}

struct Inner {
    config: LocalConfig,
    helper: Helper,
    images: Images,
    registry: Registry,
    subnet: Subnet,
    /// `None` in process mode.
    fabric: Option<Fabric>,
    reason: String,
    /// The image's directories once they are known to exist.
    image: tokio::sync::Mutex<Option<Vec<PathBuf>>>,
    _lock: File,
}

impl LocalHosts {
    /// Takes the instance over: locks it, finds out what this machine allows, adopts the hosts of
    /// an earlier controller, removes what was left half made.
    pub async fn open(config: LocalConfig) -> Result<Self, HostError> {
        blocking(move || Self::open_blocking(config)).await
    }

    fn open_blocking(config: LocalConfig) -> Result<Self, HostError> {
        config.check()?;
        tools::make_dirs(&config.state_dir)?;
        let lock = lock_instance(&config.state_dir.join("driver.lock"))?;
        let helper = Helper(config.helper.clone());
        let fabric = Fabric::new(&config.instance, config.subnet);
        let (isolation, reason) = choose(&config, &helper, &fabric)?;
        let process = isolation == Isolation::Process;
        let subnet = if process { process::subnet()? } else { config.subnet };
        let fabric = (!process).then_some(fabric);
        let registry = Registry::open(&config.state_dir, subnet, fabric.as_ref())?;
        tracing::info!(instance = %config.instance, hosts = registry.len(), "{reason}");
        let images = Images { cache: config.cache_dir.clone(), helper: helper.clone(), mirror: config.mirror.clone() };
        let image = tokio::sync::Mutex::new(None);
        let inner = Inner { config, helper, images, registry, subnet, fabric, reason, image, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The mode that was chosen: never `Auto`.
    pub fn isolation(&self) -> Isolation {
        if self.inner.fabric.is_some() { Isolation::Microhost } else { Isolation::Process }
    }

    /// One line for people: which mode, and why.
    pub fn isolation_reason(&self) -> &str {
        &self.inner.reason
    }

    /// Where hosts reach this machine.
    pub fn gateway(&self) -> IpAddr {
        IpAddr::V4(self.inner.subnet.gateway())
    }

    /// Builds the image unless it is cached. The first time takes about a minute and the network.
    /// `ensure` does it as well; call this first to show the progress.
    pub async fn prepare(&self, progress: Progress) -> Result<(), HostError> {
        self.image(progress).await.map(drop)
    }

    async fn image(&self, progress: Progress) -> Result<Vec<PathBuf>, HostError> {
        if self.inner.fabric.is_none() {
            return process::check_agent(&self.inner.config.agent_binary).map(|()| Vec::new());
        }
        let mut image = self.inner.image.lock().await;
        if let Some(lower) = &*image {
            return Ok(lower.clone());
        }
        let inner = Arc::clone(&self.inner);
        let lower = blocking(move || inner.images.prepare(&inner.config.agent_deb, &progress)).await?;
        *image = Some(lower.clone());
        Ok(lower)
    }

    /// Makes sure that the requested packages (`zookeeper=3.8.0*`) and all they need are in the
    /// local apt repository. `None` in process mode: there agents use the machine's own sources, and
    /// beside them the packages of components, which are put before them here.
    /// What cannot be had is in [`PackageRepo::missing`]; the rest is there.
    pub async fn packages(&self, requests: &[String], progress: Progress) -> Result<Option<PackageRepo>, HostError> {
        if self.inner.fabric.is_none() {
            let inner = Arc::clone(&self.inner);
            return blocking(move || shared_apt::offer(&inner.config, &progress)).await.map(|()| None);
        }
        self.image(Arc::clone(&progress)).await?;
        let (inner, requests) = (Arc::clone(&self.inner), requests.to_vec());
        blocking(move || packages::provide(&inner.images, inner.config.components.as_deref(), &requests, &progress))
            .await
            .map(Some)
    }

    /// Listens on the gateway's address, reachable for the hosts only. The listener is nonblocking.
    pub fn listen(&self, port: u16) -> Result<TcpListener, HostError> {
        match &self.inner.fabric {
            Some(fabric) => fabric.listen(port),
            None => fabric::listen_on(SocketAddr::new(self.gateway(), port)),
        }
    }

    /// Runs a closure on a thread inside the hosts' network; sockets it makes stay there.
    pub async fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HostError> {
        let fabric = self.inner.fabric.clone();
        blocking(move || match fabric {
            Some(fabric) => fabric.enter(work),
            None => Ok(work()),
        })
        .await
    }

    /// Connects from the gateway to a host's port, within 5 s. The stream is nonblocking.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream, HostError> {
        let connect = move || {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        self.within(connect).await?.map_err(HostError::io::<std::io::Error>(format!("cannot connect to {address}")))
    }

    /// Runs a command inside a host, as root, with a clean environment. Killed after 15 minutes.
    pub async fn exec(&self, id: &str, argv: &[&str]) -> Result<ExecOutput, HostError> {
        let command = self.exec_command(id, argv).await?;
        let mut command = tokio::process::Command::from(command);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        // A little later than the limit inside the host, which is the one that ends the command.
        let limit = Duration::from_secs(EXEC_SECONDS_MAX + 30);
        let what = || format!("{} in host {id}", argv.first().unwrap_or(&""));
        let output = tokio::time::timeout(limit, command.output())
            .await
            .map_err(|_| HostError::Timeout { what: what(), seconds: EXEC_SECONDS_MAX })?
            .map_err(HostError::io(what()))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        Ok(ExecOutput {
            code: output.status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    async fn exec_command(&self, id: &str, argv: &[&str]) -> Result<std::process::Command, HostError> {
        check_id(id)?;
        let host = self.inner.registry.get(id)?.ok_or_else(|| HostError::NotFound(id.to_owned()))?;
        let run = host.running().ok_or_else(|| HostError::Down(id.to_owned()))?;
        if self.inner.fabric.is_some() {
            Ok(micro::exec_command(run.pid, argv, Duration::from_secs(EXEC_SECONDS_MAX)))
        } else {
            Ok(process::exec_command(&host.dir, argv))
        }
    }

    /// Where a host's files are on this machine: its root as the host itself wrote it (in
    /// microhost mode only what differs from the image).
    pub fn disk(&self, id: &str) -> Result<PathBuf, HostError> {
        check_id(id)?;
        let dir = self.inner.registry.dir(id);
        Ok(if self.inner.fabric.is_some() { dir.upper() } else { dir.prefix() })
    }

    /// The last part (16 KiB) of what the host's agent printed; empty when it never ran.
    pub fn agent_log(&self, id: &str) -> Result<String, HostError> {
        let path = match &self.inner.fabric {
            Some(_) => self.disk(id)?.join("var/log/sa.log"),
            None => self.inner.registry.dir(id).at("log").join("sa.log"),
        };
        Ok(read_tail(&path))
    }

    /// The last part (16 KiB) of what the userdata printed; empty in process mode.
    pub fn userdata_log(&self, id: &str) -> Result<String, HostError> {
        Ok(read_tail(&self.disk(id)?.join("var/log/userdata.log")))
    }

    /// Destroys every host, then the network. The cached image and packages stay.
    pub async fn teardown(&self) -> Result<(), HostError> {
        for id in self.inner.registry.ids()? {
            crate::Hosts::destroy(self, &id).await?;
        }
        let fabric = self.inner.fabric.clone();
        blocking(move || fabric.map_or(Ok(()), |fabric| fabric.down())).await
    }
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(HostError::io("a blocking piece of work was cut short")(std::io::Error::other(error))),
    }
}

/// A controller killed while it started a program leaves its lock with that child until the child
/// becomes the program, moments later. The kernel's waiting lock has no time limit, so we poll.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Takes the kernel lock of an instance, which ends with the process whatever kills it.
fn lock_instance(path: &Path) -> Result<File, HostError> {
    let mut lock = tools::lock_file(path)?;
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_POLL),
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                return Err(HostError::Busy { path: path.to_owned(), holder });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(HostError::at("lock", path)(e)),
        }
    }
    let note = |lock: &mut File| {
        lock.set_len(0)?;
        lock.seek(SeekFrom::Start(0))?;
        writeln!(lock, "pid {}", std::process::id())
    };
    note(&mut lock).map_err(HostError::at("write", path))?;
    Ok(lock)
}

/// Decides between the modes by trying. A wish that cannot be had is an error, never a surprise.
fn choose(config: &LocalConfig, helper: &Helper, fabric: &Fabric) -> Result<(Isolation, String), HostError> {
    if config.isolation == Isolation::Process {
        return Ok((Isolation::Process, format!("process mode as configured: {}", process::NOTE)));
    }
    match (probe(config, helper).and_then(|()| fabric.up()), config.isolation) {
        (Ok(()), _) => Ok((Isolation::Microhost, "microhosts: namespaces and overlayfs work here".into())),
        (Err(error), Isolation::Microhost) => {
            Err(HostError::Unsupported(format!("this machine does not allow microhosts: {}", error.chain())))
        }
        (Err(error), _) => Ok((
            Isolation::Process,
            format!(
                "process mode, because this machine does not allow microhosts ({}): {}",
                error.chain(),
                process::NOTE
            ),
        )),
    }
}

fn probe(config: &LocalConfig, helper: &Helper) -> Result<(), HostError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(HostError::Unsupported("microhosts need root".into()));
    }
    tools::check_mountable(&config.state_dir)?;
    let scratch = Scratch::make(&config.state_dir, ".probe")?;
    tools::make_dirs(&scratch.path().join("lower"))?;
    helper.probe(&ProbeTask { dir: scratch.path().to_owned() })
}

fn read_tail(path: &Path) -> String {
    const BYTES: u64 = 16 << 10;
    let read = || {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, BYTES), &mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// The IPv4 address in a spec; local hosts have no other.
fn wanted_v4(address: Option<IpAddr>) -> Result<Option<Ipv4Addr>, HostError> {
    match address {
        None => Ok(None),
        Some(IpAddr::V4(address)) => Ok(Some(address)),
        Some(IpAddr::V6(address)) => {
            Err(HostError::NoAddress(format!("{address} is IPv6, which local hosts do not have")))
        }
    }
}
