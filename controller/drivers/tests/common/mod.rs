//! What the driver's tests share: a stand-in agent, specs, and polls with a deadline.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use straas_drivers::local::{Isolation, LocalConfig, LocalHosts, Progress};
use straas_drivers::{AgentBoot, Flavor, HostError, HostSpec, Secret};

/// Five times and more of what a loaded machine was seen to need.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The helper program that cargo built beside the tests.
pub const HELPER: &str = env!("CARGO_BIN_EXE_straas-microhost");

/// Stands in for the agent in this crate's tests only: says what it was given, then stays.
const AGENT: &str = "#!/bin/sh\necho \"agent $*\"\nexec sleep 1000000\n";

pub fn agent_binary(dir: &Path) -> PathBuf {
    let path = dir.join("straas-agent");
    std::fs::write(&path, AGENT).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A real package made by the project's own script around the stand-in.
pub fn agent_deb(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/debian/build-agent.sh");
    let output = Command::new(script).arg(agent_binary(dir)).arg(dir.join("debs")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

pub fn config(instance: &str, dir: &Path, isolation: Isolation) -> LocalConfig {
    let mut config = LocalConfig::new(instance, dir.join("state"));
    config.helper = vec![HELPER.into()];
    config.isolation = isolation;
    config
}

/// Opens microhosts, or says why this test cannot run here.
pub async fn microhosts(instance: &str, dir: &Path) -> Option<LocalHosts> {
    let mut config = config(instance, dir, Isolation::Microhost);
    config.agent_deb = agent_deb(dir);
    match LocalHosts::open(config).await {
        Ok(hosts) => {
            if let Err(error) = hosts.prepare(progress()).await {
                panic!("no image: {error}; {}", error.hint().unwrap_or_default());
            }
            Some(hosts)
        }
        Err(error @ HostError::Unsupported(_)) => {
            println!("SKIPPED {instance}: {error}");
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

pub fn progress() -> Progress {
    Arc::new(|line: &str| println!("... {line}"))
}

pub fn spec(id: &str, name: &str) -> HostSpec {
    HostSpec {
        id: id.into(),
        name: name.into(),
        owner: "demo".into(),
        zone: "az1".into(),
        flavor: Flavor { memory_mib: 512, vcpus: 1 },
        spread: None,
        address: None,
        agent: AgentBoot {
            controllers: vec!["https://10.77.0.1:7443".into()],
            node: Some(id.into()),
            ca_pem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            join_token: Secret::new("join-token-of-the-test"),
            metrics_listen: "127.0.0.1:9465".into(),
            apt: None,
            settings: BTreeMap::new(),
        },
        userdata: String::new(),
    }
}

/// Polls until something holds; fails with `what` when it does not in time.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not in time: {what}");
        // waits for: a look into other processes, which tell nobody when they change
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The numbers of all processes whose command line mentions a path.
pub fn processes_of(path: &Path) -> Vec<String> {
    let needle = path.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&needle) {
                found.push(format!("{name} {line}"));
            }
        }
    }
    found
}
