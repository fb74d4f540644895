//! The traits of hosts and the values they speak in.
//!
//! A host is what a node's agent runs on. `ensure` is level-triggered and idempotent by id: the
//! controller says what must be there, the driver looks at what is. Ids and names are checked here
//! once, because drivers make paths, interface names and shell lines from them.

use std::net::IpAddr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::agent::AgentBoot;
use crate::error::HostError;

/// Longest id: it must fit a file name and a DNS label with room to spare.
pub const ID_LENGTH_MAX: usize = 64;
/// Longest host name: `sethostname(2)` takes 64 bytes, a DNS label 63.
pub const NAME_LENGTH_MAX: usize = 63;
/// Longest owner or zone label.
pub const LABEL_LENGTH_MAX: usize = 200;

/// Makes and removes hosts.
#[async_trait]
pub trait Hosts: Send + Sync {
    /// A short word for logs and tables: `microhost`, `process`, `nova`.
    fn kind(&self) -> &'static str;

    /// What this kind of host cannot show compared with a VM, in one sentence; `None` if nothing.
    fn isolation_note(&self) -> Option<String>;

    /// How many fault domains of a zone it can spread hosts over; 1 where it knows of none.
    fn fault_domains(&self, zone: &str) -> u32 {
        let _ = zone;
        1
    }

    /// Whether a host of this zone is made with [`HostSpec::agent`]; else it has its own way to an agent.
    fn needs_boot(&self, zone: &str) -> bool {
        let _ = zone;
        true
    }

    /// Makes the host exist and run. Does nothing when it runs already, boots it when it is down.
    /// A host of that id with another name, owner or wanted address is a [`HostError::Conflict`].
    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError>;

    /// Removes the host with its processes, disk, link and address. An unknown id is a success.
    async fn destroy(&self, id: &str) -> Result<(), HostError>;

    /// Every host the driver knows, also those of an earlier controller process, sorted by id.
    async fn list(&self) -> Result<Vec<HostStatus>, HostError>;
}

/// Breaks hosts on purpose; what the fault tests and game days are made of.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Power off: all processes of the host die at once. The disk stays. No-op when down.
    async fn crash(&self, id: &str) -> Result<(), HostError>;
    /// Power on with the same disk. No-op when it runs.
    async fn boot(&self, id: &str) -> Result<HostStatus, HostError>;
    /// Power off, power on.
    async fn reboot(&self, id: &str) -> Result<HostStatus, HostError> {
        self.crash(id).await?;
        self.boot(id).await
    }
    /// Takes the network link down. A cut survives a reboot.
    async fn cut(&self, id: &str) -> Result<(), HostError>;
    /// Brings the link up again.
    async fn heal(&self, id: &str) -> Result<(), HostError>;
    /// Delays and drops frames in both directions; a second call replaces the first.
    async fn delay(&self, id: &str, delay: Delay) -> Result<(), HostError>;
    /// Takes the delay away.
    async fn undelay(&self, id: &str) -> Result<(), HostError>;
}

/// What a host must be.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// The node's id: `[a-z0-9-]{1,64}`, opaque to the driver.
    pub id: String,
    /// The host name: a DNS label.
    pub name: String,
    /// A label of the controller's own, kept and shown with the host, e.g. the topology's id.
    pub owner: String,
    /// The availability zone's name.
    pub zone: String,
    /// Its size.
    pub flavor: Flavor,
    /// Hosts with the same word of the same owner are spread over the fault domains, as evenly as can be.
    pub spread: Option<String>,
    /// A wanted address; `None` lets the driver choose. Either way it stays for the host's life.
    pub address: Option<IpAddr>,
    /// What the agent on it needs for its first start.
    pub agent: AgentBoot,
    /// Further shell lines for the first boot, run after the agent's files are in place.
    pub userdata: String,
}

/// The size of a host. Drivers without hard limits record it and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flavor {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
}

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// As in the spec.
    pub id: String,
    /// As in the spec.
    pub name: String,
    /// As in the spec.
    pub owner: String,
    /// As in the spec.
    pub zone: String,
    /// The address it has for its whole life.
    pub address: IpAddr,
    /// What it shares with others and fails with: a rack, a power feed. `None` where the driver knows of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<String>,
    /// Whether it runs.
    pub phase: HostPhase,
    /// How often it was booted, the first time included.
    pub boots: u32,
    /// The process id of its init on this machine while it runs.
    pub pid: Option<i32>,
    /// Its link.
    pub link: Link,
    /// What is worth knowing beside that, e.g. why the userdata failed.
    pub detail: Option<String>,
}

impl HostStatus {
    /// A host that runs since it was made, of which nothing else is known.
    #[must_use]
    pub fn running(id: &str, name: &str, owner: &str, zone: &str, address: IpAddr) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            owner: owner.to_owned(),
            zone: zone.to_owned(),
            address,
            fault_domain: None,
            phase: HostPhase::Running,
            boots: 1,
            pid: None,
            link: Link::Up,
            detail: None,
        }
    }
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPhase {
    /// Its init runs.
    Running,
    /// It has a disk and an address, and no process.
    Down,
}

/// The network link of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// As it should be.
    Up,
    /// Taken down by [`Faults::cut`].
    Cut,
    /// Slowed by [`Faults::delay`].
    Delayed,
}

/// A slow and lossy link.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delay {
    /// Milliseconds added in each direction, at most 60,000.
    pub ms: u32,
    /// Share of frames lost in each direction, 0 to 100.
    pub loss_percent: f32,
}

/// What a command in a host gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; 128 + signal when killed by one.
    pub code: i32,
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
}

/// Refuses ids that could leave their directory or confuse a tool.
pub(crate) fn check_id(id: &str) -> Result<(), HostError> {
    let fine = !id.is_empty()
        && id.len() <= ID_LENGTH_MAX
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !id.starts_with('-');
    if fine {
        return Ok(());
    }
    Err(HostError::Invalid {
        field: "id",
        reason: format!("{:?} is not 1 to {ID_LENGTH_MAX} of a-z, 0-9 and - (not first)", clip(id)),
    })
}

/// Refuses a spec that no driver should see.
pub(crate) fn check_spec(spec: &HostSpec) -> Result<(), HostError> {
    check_id(&spec.id)?;
    let name = &spec.name;
    let label = !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !label {
        return Err(HostError::Invalid {
            field: "name",
            reason: format!("{:?} is not a host name of 1 to {NAME_LENGTH_MAX} of a-z, 0-9 and inner -", clip(name)),
        });
    }
    let spread = spec.spread.as_deref().unwrap_or_default();
    for (field, text) in [("owner", spec.owner.as_str()), ("zone", &spec.zone), ("spread", spread)] {
        if text.len() > LABEL_LENGTH_MAX || text.chars().any(char::is_control) {
            return Err(HostError::Invalid {
                field,
                reason: format!("{:?} has control characters or more than {LABEL_LENGTH_MAX} bytes", clip(text)),
            });
        }
    }
    spec.agent.check()
}

/// The start of a text that came from outside, for an error message.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_paths_or_options_are_refused() {
        for bad in ["", "..", "a/b", "a b", "-rf", "A", "ä", "a\0", "a\n", &"x".repeat(65), "."] {
            assert!(check_id(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "0", "demo-zk-1", "0190b6a0-7c1e-7000-8000-000000000001", &"x".repeat(64)] {
            assert!(check_id(good).is_ok(), "{good:?} was refused");
        }
    }
}
