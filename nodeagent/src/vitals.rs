//! Metrics of the host (sysinfo) and of the agent itself (`/proc/self`).
//!
//! Sampled when a heartbeat or a scrape wants them, never in between: an idle agent is idle.
//!
//! Never here: a list of processes, which is what makes monitoring agents heavy.

use std::time::Duration;
use straas_schemas::heartbeat::{AgentVitals, DiskVitals, NetworkVitals, Vitals};
use sysinfo::{DiskRefreshKind, Disks, Networks, System};

/// Most disks and most interfaces in one heartbeat; its size limit counts on it.
const LISTED_MAX: usize = 64;
/// File systems that are no disks.
const NOT_DISKS: [&str; 4] = ["tmpfs", "devtmpfs", "squashfs", "ramfs"];

/// Keeps what a rate needs from one sample to the next.
#[derive(Debug)]
pub struct Sampler {
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
}

impl Sampler {
    /// Looks at nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { system: System::new().ok(), disks: Disks::new().ok(), networks: Networks::new().ok() }
    }

    /// Looks now.
    pub fn sample(&mut self, running: Duration, failed_requests: u64) -> Vitals {
        let mut vitals = Vitals {
            boot_id: boot_id(),
            uptime_s: System::uptime().unwrap_or(0),
            agent: AgentVitals { uptime_s: running.as_secs(), failed_requests, ..own() },
            ..Vitals::default()
        };
        if let Ok(load) = System::load_average() {
            vitals.load = [load.one, load.five, load.fifteen];
        }
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            vitals.cpus = u32::try_from(system.cpus().len()).unwrap_or(0);
            vitals.cpu_percent = system.global_cpu_usage();
            vitals.memory_total = system.total_memory();
            vitals.memory_available = system.available_memory();
        }
        if let Some(disks) = &mut self.disks {
            disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
            for disk in disks.iter().filter(|disk| disk.total_space() > 0).take(LISTED_MAX) {
                let kind = disk.file_system().to_string_lossy().into_owned();
                if !NOT_DISKS.contains(&kind.as_str()) {
                    let mount = disk.mount_point().to_string_lossy().into_owned();
                    vitals.disks.insert(
                        mount,
                        DiskVitals {
                            total: disk.total_space(),
                            available: disk.available_space(),
                            read_only: disk.is_read_only(),
                        },
                    );
                }
            }
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            for (name, network) in networks.iter().filter(|(name, _)| *name != "lo").take(LISTED_MAX) {
                let errors = network.total_errors_on_received() + network.total_errors_on_transmitted();
                vitals.networks.insert(
                    name.to_string_lossy().into_owned(),
                    NetworkVitals { received: network.total_received(), sent: network.total_transmitted(), errors },
                );
            }
        }
        vitals
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes with each boot of this host: the kernel's boot id, and the start of process 1, which is
/// what differs when a host shares its kernel with others.
#[must_use]
pub fn boot_id() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let init = std::fs::read_to_string("/proc/1/stat").ok().and_then(|stat| field(&stat, 22)).unwrap_or_default();
    format!("{}-{init}", kernel.trim())
}

/// How long the host has been up, in ms, by the clock that [`std::time::Instant`] has.
#[must_use]
pub fn up_ms() -> i64 {
    let up = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    up.map_or(0, |up| Duration::from(up).as_millis().try_into().unwrap_or(i64::MAX))
}

/// A field of a `stat` line, counted from 1 as proc(5) does; the name may contain anything.
fn field(stat: &str, number: usize) -> Option<String> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

fn own() -> AgentVitals {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let number = |at| field(&stat, at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    let ticks = number(14) + number(15);
    AgentVitals {
        resident: number(24) * u64::try_from(page).unwrap_or(4096),
        cpu_ms: ticks * 1000 / u64::try_from(per_second).unwrap_or(100).max(1),
        ..AgentVitals::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_looks_at_this_host() {
        let vitals = Sampler::new().sample(Duration::from_secs(3), 2);
        assert!(vitals.cpus > 0 && vitals.memory_total > vitals.memory_available && vitals.agent.resident > 0);
        assert_eq!((vitals.agent.uptime_s, vitals.agent.failed_requests), (3, 2));
        assert!(vitals.boot_id.len() > 36, "{}", vitals.boot_id);
        assert_eq!(field("1 (a) b) S 5 6", 4).as_deref(), Some("5"));
    }
}
