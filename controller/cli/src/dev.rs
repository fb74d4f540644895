//! `straas dev …`: a whole StraaS on this machine, to try and to develop.
//!
//! `up` writes a configuration, makes the host image (once), starts the controller in the
//! background and waits until it says that it is ready. Nothing is installed and nothing outside
//! of the data directory, the image cache and a network namespace of its own is touched.

use crate::context::Context;
use crate::error::CliError;
use clap::Subcommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A controller that is not ready by then has a problem; its log says which.
const READY: Duration = Duration::from_secs(60);
/// A controller that has not stopped by then is killed.
const STOP: Duration = Duration::from_secs(30);

/// What to do with the StraaS of this machine.
#[derive(Subcommand)]
pub enum Verb {
    /// Start a controller that makes hosts on this machine. The first time it makes their image.
    Up {
        #[command(flatten)]
        at: Place,
        /// How hosts are kept apart: auto, microhost or process.
        #[arg(long, default_value = "auto")]
        isolation: String,
        /// Port of the API on 127.0.0.1.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Folder of a component, laid over the built-in ones at the start; may be given more than once.
        #[arg(long, value_name = "DIR")]
        overlay: Vec<PathBuf>,
    },
    /// Stop it and remove every host it made; its data stays.
    Down {
        #[command(flatten)]
        at: Place,
        /// Remove its data as well.
        #[arg(long)]
        purge: bool,
    },
    /// Run a command inside the host of a node.
    Exec {
        #[command(flatten)]
        at: Place,
        /// The node's name.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

/// Where its data is.
#[derive(clap::Args)]
pub struct Place {
    /// The data directory.
    #[arg(long, env = "STRAAS_DEV_DIR", hide_env_values = true, default_value = "/var/lib/straas-dev")]
    dir: PathBuf,
}

/// Carries out a verb.
pub async fn run(verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Up { at, isolation, port, overlay } => {
            let overlay = overlay.iter().map(std::fs::canonicalize).collect::<Result<Vec<_>, _>>()?;
            up(&at.dir, &isolation, port, &overlay)
        }
        Verb::Down { at, purge } => down(&at.dir, purge),
        Verb::Exec { at, node, command } => {
            let config = at.dir.join("controller.toml");
            let error = Command::new(beside("straas-controller")?)
                .arg("exec")
                .arg("--config")
                .arg(config)
                .arg(node)
                .args(command)
                .exec();
            Err(CliError::Local(format!("cannot run the controller's exec: {error}")))
        }
    }
}

/// A program that was built or installed beside this one.
fn beside(name: &str) -> Result<PathBuf, CliError> {
    let own = std::env::current_exe()?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let found = [dir.join(name), Path::new("/usr/sbin").join(name), Path::new("/usr/bin").join(name)]
        .into_iter()
        .find(|p| p.is_file());
    found.ok_or_else(|| {
        CliError::Local(format!(
            "{name} is neither beside {} nor in /usr/sbin; build it with: cargo build --workspace",
            own.display()
        ))
    })
}

fn agent_deb() -> Result<PathBuf, CliError> {
    let own = std::env::current_exe()?;
    let dir = own.parent().unwrap_or(Path::new("/")).to_owned();
    let system = Path::new("/usr/share/straas").to_owned();
    for dir in [dir, system] {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let debs = entries.flatten().map(|e| e.path());
        let mut debs: Vec<_> = debs
            .filter(|p| {
                p.file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(|n| n.starts_with("straas-agent") && n.ends_with(".deb"))
            })
            .collect();
        debs.sort();
        if let Some(newest) = debs.pop() {
            let made = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
            if made(&dir.join("straas-agent")) > made(&newest) {
                anstream::eprintln!(
                    "{} is older than the agent beside it; make it anew: make agent-deb",
                    newest.display()
                );
            }
            return Ok(newest);
        }
    }
    Err(CliError::Local("there is no straas-agent_*.deb beside this program; make it with: make agent-deb".into()))
}

/// The directory with the script that makes packages of components: in the source tree that this
/// program was built in, or where its package puts it.
fn components() -> PathBuf {
    let built = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/components"));
    let installed = Path::new("/usr/share/straas/components");
    let found = built.canonicalize().ok().filter(|dir| dir.join("build.sh").is_file());
    found.unwrap_or_else(|| installed.to_owned())
}

fn up(dir: &Path, isolation: &str, port: u16, overlays: &[PathBuf]) -> Result<(), CliError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CliError::Local("hosts on this machine are made as root: run this with sudo".into()));
    }
    let context = Context { endpoint: format!("http://127.0.0.1:{port}"), token_file: Some(dir.join("admin.token")) };
    if let Some(pid) = running(dir) {
        let context = Context { endpoint: configured(dir).unwrap_or(context.endpoint), ..context };
        context.save()?;
        anstream::println!(
            "the controller runs already at {} (pid {pid}); stop it with: straas dev down",
            context.endpoint
        );
        return Ok(());
    }
    begin(dir, isolation, port, overlays)?;
    context.save()?;
    anstream::println!("controller is up at {}, log in {}", context.endpoint, dir.join("controller.log").display());
    Ok(())
}

/// A controller with components of its own that no later command is told of.
pub fn private(dir: &Path, port: u16, overlays: &[PathBuf]) -> Result<(), CliError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CliError::Local("hosts on this machine are made as root: run this with sudo".into()));
    }
    begin(dir, "auto", port, overlays)
}

/// Writes the configuration, makes what hosts need, starts the controller.
fn begin(dir: &Path, isolation: &str, port: u16, overlays: &[PathBuf]) -> Result<(), CliError> {
    std::fs::create_dir_all(dir)?;
    let config = dir.join("controller.toml");
    std::fs::write(&config, settings(dir, isolation, port, overlays)?)?;
    let controller = beside("straas-controller")?;
    let prepared = told(Command::new(&controller).arg("prepare").arg("--config").arg(&config))?;
    if !prepared.success() {
        return Err(CliError::Local("this machine could not be prepared for hosts; see above".into()));
    }
    start(dir, &controller, &config)
}

/// Runs the controller's program to its end; what it says goes where no result is looked for.
fn told(command: &mut Command) -> Result<ExitStatus, CliError> {
    let said = std::io::stderr().as_fd().try_clone_to_owned()?;
    Ok(command.env("RUST_LOG", "warn").stdout(said).status()?)
}

/// The endpoint that the configuration of this directory says.
fn configured(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join("controller.toml")).ok()?;
    let listen = text.lines().find_map(|line| line.strip_prefix("listen = "))?;
    Some(format!("http://{}", listen.trim_matches('"')))
}

fn settings(dir: &Path, isolation: &str, port: u16, overlays: &[PathBuf]) -> Result<String, CliError> {
    let text = |path: &Path| path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!(
        "# written by `straas dev up`\n\
         data_dir = \"{}\"\n\n\
         [api]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [timing]\nheartbeat_ms = 2000\nsuspect_after_ms = 7000\nunreachable_after_ms = 20000\nretry_ms = 2000\n\n\
         [local]\ninstance = \"dev-{port}\"\nisolation = \"{isolation}\"\nagent_deb = \"{}\"\nagent_binary = \"{}\"\n\
         components = \"{}\"\n\n[seed]\noverlays = [{}]\n",
        text(dir),
        text(&agent_deb()?),
        text(&beside("straas-agent")?),
        text(&components()),
        overlays.iter().map(|dir| format!("\"{}\"", text(dir))).collect::<Vec<_>>().join(", "),
    ))
}

/// Starts the controller in a session of its own and waits for its word that it is ready, which
/// it gives as it would to systemd.
fn start(dir: &Path, controller: &Path, config: &Path) -> Result<(), CliError> {
    let socket_path = dir.join("notify.sock");
    let _ = std::fs::remove_file(&socket_path);
    let socket = UnixDatagram::bind(&socket_path)?;
    let log_path = dir.join("controller.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let mut child = Command::new(controller)
        .arg("run")
        .arg("--config")
        .arg(config)
        .env("NOTIFY_SOCKET", &socket_path)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    std::fs::write(dir.join("controller.pid"), child.id().to_string())?;
    let deadline = Instant::now() + READY;
    let mut buffer = [0; 4096];
    loop {
        // the read ends now and then, to see whether the controller has ended instead
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        if let Ok(len) = socket.recv(&mut buffer)
            && buffer.get(..len).is_some_and(|text| text.starts_with(b"READY=1"))
        {
            let _ = std::fs::remove_file(&socket_path);
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(CliError::Local(format!("the controller ended ({status}):\n{}", tail(&log_path))));
        }
        if Instant::now() > deadline {
            child.kill()?;
            return Err(CliError::Local(format!(
                "the controller is not ready after {} s:\n{}",
                READY.as_secs(),
                tail(&log_path)
            )));
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The pid of the controller of this directory, if it runs.
fn running(dir: &Path) -> Option<Pid> {
    let pid: i32 = std::fs::read_to_string(dir.join("controller.pid")).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = dir.join("controller.toml");
    // a pid is reused; a command line that names our configuration is ours
    command.split(|b| *b == 0).any(|arg| arg == ours.as_os_str().as_encoded_bytes()).then(|| Pid::from_raw(pid))
}

fn down(dir: &Path, purge: bool) -> Result<(), CliError> {
    remove(dir, purge)?;
    anstream::println!("stopped; no host is left{}", if purge { ", its data is removed" } else { "" });
    Ok(())
}

/// Stops a controller and removes its hosts.
pub fn remove(dir: &Path, purge: bool) -> Result<(), CliError> {
    if let Some(pid) = running(dir) {
        kill(pid, Signal::SIGTERM)
            .map_err(|e| CliError::Local(format!("cannot stop the controller (pid {pid}): {e}")))?;
        let deadline = Instant::now() + STOP;
        let mut killed = false;
        // waits for: a process that is not our child to end
        while running(dir).is_some() {
            if !killed && Instant::now() > deadline {
                anstream::eprintln!("the controller does not stop; killing it");
                let _ = kill(pid, Signal::SIGKILL);
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let config = dir.join("controller.toml");
    if config.exists() {
        let removed = told(Command::new(beside("straas-controller")?).arg("teardown").arg("--config").arg(&config))?;
        if !removed.success() {
            return Err(CliError::Local("some hosts could not be removed; see above".into()));
        }
    }
    Context::forget(&dir.join("admin.token"));
    if purge && dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}
