//! Servers beside the hosts: each a network namespace of its own on the hosts' bridge, with an address and processes.
//!
//! ```text
//!   namespace straas-<instance>            a zone: a bridge behind one link, which can be cut
//!   br0 ──┬── v11 … hosts                    u1 ══ d1 ── z1 ──┬── v12 … hosts
//!         ├── s5  … servers                                   └── s2  … servers
//!         └── u1 (uplink of zone 1)
//! ```
//! Those inside a zone that is cut hear each other and nobody else. Whatever happens, all processes and namespaces go when
//! this is dropped.

use crate::wait;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The address with this last number in the hosts' network; hosts have 11 and more.
#[must_use]
pub const fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// An address and port there.
#[must_use]
pub fn at(number: u8, port: u16) -> SocketAddr {
    (address(number), port).into()
}

/// Servers and zones of one test.
pub struct Net {
    fabric: String,
    dir: PathBuf,
}

/// Zones there may be.
const ZONES_MAX: u8 = 3;

/// A process that has not ended by then does not end: a controller finishes what it was asked, which takes seconds.
const STOP_MAX: Duration = Duration::from_secs(60);

/// A process of a server; killed when it is dropped.
pub struct Program {
    child: Child,
}

impl Program {
    /// `kill -9`.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop).context("wait for a process")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Has it end by itself.
    ///
    /// # Errors
    /// It does not, or not well.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let ended = wait("a process to end", STOP_MAX, async || self.child.try_wait().ok().flatten()).await?;
        ensure!(ended.success(), "a process did not end well: {ended}");
        Ok(())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Net {
    /// Beside the hosts of this fabric; logs go to `dir`.
    #[must_use]
    pub fn new(fabric: String, dir: &Path) -> Self {
        Self { fabric, dir: dir.to_owned() }
    }

    fn namespace(&self, number: u8) -> String {
        format!("{}-s{number}", self.fabric)
    }

    fn batch(&self, lines: &[String]) -> Result<()> {
        lines.iter().try_for_each(|line| ip(&format!("-n {} {line}", self.fabric)))
    }

    /// Makes a zone.
    ///
    /// # Errors
    /// The network refuses.
    pub fn zone(&self, zone: u8) -> Result<()> {
        ensure!((1..=ZONES_MAX).contains(&zone), "no zone {zone}");
        self.batch(&[
            format!("link add z{zone} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"),
            format!("link add u{zone} type veth peer name d{zone}"),
            format!("link set u{zone} master br0 up"),
            format!("link set d{zone} master z{zone} up"),
            format!("link set z{zone} up"),
        ])
    }

    /// Puts a host into a zone.
    ///
    /// # Errors
    /// The network refuses.
    pub fn plug(&self, host: Ipv4Addr, zone: u8) -> Result<()> {
        self.batch(&[format!("link set v{} master z{zone}", host.octets()[3])])
    }

    /// Cuts a zone off.
    ///
    /// # Errors
    /// There is none.
    pub fn cut(&self, zone: u8) -> Result<()> {
        self.batch(&[format!("link set u{zone} down")])
    }

    /// Ends that.
    ///
    /// # Errors
    /// There is none.
    pub fn heal(&self, zone: u8) -> Result<()> {
        self.batch(&[format!("link set u{zone} up")])
    }

    /// Makes a server, in a zone or in the middle.
    ///
    /// # Errors
    /// The network refuses.
    pub fn server(&self, number: u8, zone: Option<u8>) -> Result<()> {
        let (own, fabric) = (self.namespace(number), &self.fabric);
        let bridge = zone.map_or_else(|| "br0".to_owned(), |zone| format!("z{zone}"));
        for line in [
            format!("netns add {own}"),
            format!("-n {fabric} link add s{number} type veth peer name eth0 netns {own}"),
            format!("-n {fabric} link set s{number} master {bridge} up"),
            format!("-n {own} addr add {}/24 dev eth0", address(number)),
            format!("-n {own} link set lo up"),
            format!("-n {own} link set eth0 up"),
        ] {
            ip(&line)?;
        }
        Ok(())
    }

    /// Starts a program on a server; what it says is appended to `<name>.log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, number: u8, name: &str, argv: &[&str]) -> Result<Program> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(number)]).args(argv).current_dir(&self.dir);
        // by this it is found if the test is killed
        command.env("STRAAS_E2E", &self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Program { child: command.spawn().with_context(|| format!("start {argv:?}"))? })
    }

    /// Where a program's words are.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Output of a command on a server, which has to succeed.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, number: u8, argv: &[&str]) -> Result<String> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(number)]).args(argv).current_dir("/").stdin(Stdio::null());
        let output = command.output().with_context(|| format!("start {argv:?}"))?;
        ensure!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove_servers(&self.fabric);
    }
}

/// Ends everything that runs on the servers beside a fabric, and removes them and the zones.
pub fn remove_servers(fabric: &str) {
    for zone in 1..=ZONES_MAX {
        // one end of a link takes the other with it; most have none
        let _ = ip(&format!("-n {fabric} link del u{zone}"));
        let _ = ip(&format!("-n {fabric} link del z{zone}"));
    }
    for name in servers(fabric) {
        // whoever is killed may just have started another one
        while let Some(pids) = pids(&name).filter(|pids| !pids.is_empty()) {
            for pid in pids {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let _ = ip(&format!("netns del {name}"));
    }
}

/// Names of the servers beside a fabric.
#[must_use]
pub fn servers(fabric: &str) -> Vec<String> {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.strip_prefix(fabric).is_some_and(|rest| rest.starts_with("-s"))).collect()
}

/// Processes in a namespace, without those that have ended and wait for their parent to notice.
fn pids(namespace: &str) -> Option<Vec<i32>> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let runs = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    };
    Some(text.lines().filter_map(|line| line.trim().parse().ok()).filter(runs).collect())
}

fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("start ip")?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
