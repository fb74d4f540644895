//! What an instance of the local driver has on this machine: so that a test can say "nothing".
//!
//! A process belongs to an instance if it sees the instance's directory among its mounts, which
//! every process of a microhost does, or names it on its command line or in its environment: so are
//! found HAProxy, etcd, Patroni and PostgreSQL of tests with several controllers, too.

use std::path::Path;

/// Everything of an instance that is there, one line each; empty when it is gone.
#[must_use]
pub fn left(instance: &str, data_dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = hosts(data_dir).into_iter().map(|host| format!("host directory {host}")).collect();
    let namespace = Path::new("/run/netns").join(format!("straas-{instance}"));
    if namespace.exists() {
        found.push(format!("network namespace {}", namespace.display()));
    }
    let servers = crate::several::net::servers(&format!("straas-{instance}"));
    found.extend(servers.into_iter().map(|server| format!("server {server}")));
    found.extend(processes(data_dir));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&*data_dir.to_string_lossy()));
    found.extend(mounts.map(|line| format!("mount {line}")));
    found
}

/// Ids of the hosts that have a directory.
#[must_use]
pub fn hosts(data_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_dir.join("hosts/hosts")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Processes that belong to a data directory, one line each.
#[must_use]
pub fn processes(data_dir: &Path) -> Vec<String> {
    let needle = data_dir.to_string_lossy().into_owned();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let has = |file| {
            std::fs::read(entry.path().join(file)).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&needle))
        };
        if pid != own && (has("mountinfo") && !sees_as_we_do(pid) || has("cmdline") || has("environ")) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("process {pid} {}", name.trim()));
        }
    }
    found
}

/// A process in our own mount namespace sees our mounts without being the instance's.
fn sees_as_we_do(pid: u32) -> bool {
    let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    of(&pid.to_string()) == of("self")
}
