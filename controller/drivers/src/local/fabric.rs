//! The network that microhosts share: one network namespace of its own with one bridge.
//!
//! ```text
//!   namespace straas-<instance>                      namespace of host 10.77.0.11
//!   br0 10.77.0.1/24 ---- v11 ======= veth =======---- eth0 10.77.0.11/24
//!                    \--- v12 ...                       lo
//! ```
//!
//! The machine's own interfaces, routes and firewall are never touched, and two instances may use
//! the same subnet. The `ip` program does the work, since nix speaks no netlink. A thread that
//! must open a socket in here enters the namespace and ends; sockets stay where they were made.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::error::HostError;
use crate::local::subnet::Subnet;
use crate::local::tools::{run, run_with_input};

/// The bridge's name inside the fabric.
pub const BRIDGE: &str = "br0";

/// The shared network of one driver instance.
#[derive(Debug, Clone)]
pub struct Fabric {
    /// Name of the namespace, as `ip netns` shows it.
    pub netns: String,
    /// Its addresses.
    pub subnet: Subnet,
}

impl Fabric {
    /// The fabric of an instance; does not make it yet.
    pub fn new(instance: &str, subnet: Subnet) -> Self {
        Self { netns: format!("straas-{instance}"), subnet }
    }

    /// Makes namespace and bridge where they are missing; completes a half-made one.
    pub fn up(&self) -> Result<(), HostError> {
        if !self.path().exists() {
            run("making the network namespace", Command::new("ip").args(["netns", "add", &self.netns]))?;
        }
        let gateway = format!("{}/{}", self.subnet.gateway(), self.subnet.prefix_length());
        let has_bridge = self.ip(&["link", "show", "dev", BRIDGE]).is_ok();
        if !has_bridge {
            self.batch(&format!(
                "link set lo up\nlink add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n"
            ))?;
        }
        let shown = self.ip(&["-o", "-4", "addr", "show", "dev", BRIDGE])?;
        if !shown.contains(&format!(" {gateway} ")) {
            self.batch(&format!("addr flush dev {BRIDGE}\naddr add {gateway} dev {BRIDGE}\n"))?;
        }
        // without one of its own it takes the lowest of its ports' addresses, another whenever that host goes, and the
        // others would send to the one before for seconds
        let mac = Self::mac(self.subnet.gateway());
        self.batch(&format!("link set {BRIDGE} address {mac}\nlink set {BRIDGE} up\n"))
    }

    /// Removes the namespace with everything in it. Fine when there is none.
    pub fn down(&self) -> Result<(), HostError> {
        if !self.path().exists() {
            return Ok(());
        }
        run("removing the network namespace", Command::new("ip").args(["netns", "del", &self.netns])).map(drop)
    }

    /// The name of a host's port on the bridge side; at most 15 bytes whatever the id is.
    pub fn port(number: u32) -> String {
        format!("v{number}")
    }

    /// A MAC address that follows from the IP address, so that a host which boots again is known
    /// to its neighbours at once.
    pub fn mac(address: Ipv4Addr) -> String {
        let [a, b, c, d] = address.octets();
        format!("02:73:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// Takes a host's port up or down. A port that is not there (host down) is fine.
    pub fn set_port(&self, number: u32, up: bool) -> Result<(), HostError> {
        self.change_link(&Self::port(number), &format!("set {{}} {}", if up { "up" } else { "down" }))
    }

    /// Removes a host's port and what a delay put around it.
    pub fn delete_port(&self, number: u32) -> Result<(), HostError> {
        self.delete_link(&Self::port(number))?;
        self.delete_link(&delay_bridge(number))
    }

    /// Removes a link. Fine when there is none.
    pub fn delete_link(&self, name: &str) -> Result<(), HostError> {
        self.change_link(name, "del {}")
    }

    /// Puts a port back on the main bridge after its delay helper is gone.
    pub fn straighten_port(&self, number: u32) -> Result<(), HostError> {
        self.change_link(&Self::port(number), &format!("set {{}} master {BRIDGE}"))?;
        self.delete_link(&delay_bridge(number))
    }

    /// `ip link` with the link's name for `{}`, if it is there. The kernel removes a link by itself
    /// when the namespace at its other end goes, some time later: losing that race is fine.
    fn change_link(&self, name: &str, change: &str) -> Result<(), HostError> {
        let gone = || Ok::<_, HostError>(!self.ports()?.iter().any(|port| port == name));
        if gone()? {
            return Ok(());
        }
        match self.batch(&format!("link {}\n", change.replace("{}", name))) {
            Err(_) if gone()? => Ok(()),
            done => done,
        }
    }

    /// Every interface of the fabric except the bridge and loopback.
    pub fn ports(&self) -> Result<Vec<String>, HostError> {
        let shown = self.ip(&["-o", "link", "show"])?;
        let name =
            |line: &str| Some(line.split_whitespace().nth(1)?.trim_end_matches(':').split('@').next()?.to_owned());
        Ok(shown.lines().filter_map(name).filter(|name| name != "lo" && name != BRIDGE).collect())
    }

    /// Runs `ip` commands, one a line, stopping at the first that fails.
    pub fn batch(&self, lines: &str) -> Result<(), HostError> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.netns, "-batch", "-"]);
        run_with_input(&format!("network change in {}", self.netns), &mut ip, lines).map(drop)
    }

    fn ip(&self, args: &[&str]) -> Result<String, HostError> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.netns]).args(args);
        let output = run(&format!("looking at the network {}", self.netns), &mut ip)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a closure on a thread inside the fabric and waits for it. Sockets it makes belong to
    /// the fabric for good.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HostError> {
        let path = self.path();
        let what = format!("cannot enter the network namespace {}", self.netns);
        let thread = std::thread::spawn(move || {
            enter_netns(&path)?;
            Ok(work())
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the closure panicked")))
            .map_err(HostError::io(what))
    }

    /// Listens on the gateway's address, nonblocking; port 0 lets the kernel choose.
    pub fn listen(&self, port: u16) -> Result<TcpListener, HostError> {
        let address = SocketAddr::from((self.subnet.gateway(), port));
        self.enter(move || listen_on(address))?
    }

    /// The file that names the namespace.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.netns)
    }
}

/// The private bridge behind which a delayed port stands.
pub fn delay_bridge(number: u32) -> String {
    format!("dr{number}")
}

/// Moves the calling thread into a network namespace, for good.
pub fn enter_netns(path: &std::path::Path) -> std::io::Result<()> {
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET).map_err(Into::into)
}

/// Listens, nonblocking, with an error that names the address.
pub fn listen_on(address: SocketAddr) -> Result<TcpListener, HostError> {
    let listener = TcpListener::bind(address).map_err(HostError::io(format!("cannot listen on {address}")))?;
    listener.set_nonblocking(true).map_err(HostError::io("cannot make the listener nonblocking"))?;
    Ok(listener)
}
