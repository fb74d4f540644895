//! The settings of the local driver.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::HostError;
use crate::local::subnet::Subnet;

/// Longest instance name: with the prefix it still reads well in `ip netns`.
const INSTANCE_LENGTH_MAX: usize = 20;

/// Most fault domains: more than there are racks in any zone that one machine is to stand for.
const FAULT_DOMAINS_MAX: u32 = 100;

/// How hosts are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Microhosts where the machine allows them, else processes, with a message.
    Auto,
    /// Microhosts or an error.
    Microhost,
    /// Plain processes.
    Process,
}

impl FromStr for Isolation {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match text {
            "auto" => Ok(Self::Auto),
            "microhost" => Ok(Self::Microhost),
            "process" => Ok(Self::Process),
            other => Err(HostError::Invalid {
                field: "isolation",
                reason: format!("{other:?} is not auto, microhost or process"),
            }),
        }
    }
}

/// The settings of the local driver.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Names the network namespace `straas-<instance>`: `[a-z0-9-]{1,20}`.
    pub instance: String,
    /// What belongs to this instance: hosts, lock.
    pub state_dir: PathBuf,
    /// What all instances share: image, packages. Default `/var/cache/straas/microhost`.
    pub cache_dir: PathBuf,
    /// The microhosts' addresses. Default `10.77.0.0/24`.
    pub subnet: Subnet,
    /// How hosts are kept apart. Default `Auto`.
    pub isolation: Isolation,
    /// The agent's Debian package, for microhosts.
    pub agent_deb: PathBuf,
    /// The agent's binary, for process mode.
    pub agent_binary: PathBuf,
    /// As how many fault domains this one machine is taken: for trying what spreading means. Default 1.
    pub fault_domains: u32,
    /// Our own program and the words of its hidden subcommand.
    /// Default: this executable, `microhost`.
    pub helper: Vec<OsString>,
    /// Where the script is that makes packages of components which no mirror has. Default none.
    pub components: Option<PathBuf>,
    /// A Debian mirror's base URL instead of the machine's own apt sources.
    pub mirror: Option<String>,
}

impl LocalConfig {
    /// Settings with defaults for all but the name and the place.
    pub fn new(instance: &str, state_dir: impl Into<PathBuf>) -> Self {
        // Resolved now: the file may be replaced by an upgrade while we run.
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        Self {
            instance: instance.to_owned(),
            state_dir: state_dir.into(),
            cache_dir: PathBuf::from("/var/cache/straas/microhost"),
            subnet: Subnet::DEFAULT,
            isolation: Isolation::Auto,
            agent_deb: PathBuf::from("/usr/share/straas/straas-agent.deb"),
            agent_binary: PathBuf::from("/usr/sbin/straas-agent"),
            fault_domains: 1,
            helper: vec![program.into(), "microhost".into()],
            components: None,
            mirror: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), HostError> {
        let name = &self.instance;
        let fine = !name.is_empty()
            && name.len() <= INSTANCE_LENGTH_MAX
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fine {
            return Err(HostError::Invalid {
                field: "instance",
                reason: format!("{name:?} is not 1 to {INSTANCE_LENGTH_MAX} of a-z, 0-9 and -"),
            });
        }
        if !(1..=FAULT_DOMAINS_MAX).contains(&self.fault_domains) {
            let reason = format!("{} is not a number from 1 to {FAULT_DOMAINS_MAX}", self.fault_domains);
            return Err(HostError::Invalid { field: "fault_domains", reason });
        }
        for path in [&self.state_dir, &self.cache_dir] {
            if !path.is_absolute() {
                return Err(HostError::Invalid {
                    field: "state_dir",
                    reason: format!("{} is not an absolute path", path.display()),
                });
            }
        }
        Ok(())
    }
}
