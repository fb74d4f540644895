//! Process mode with real processes: works for anybody, root or not.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::{agent_binary, config, eventually, processes_of, spec};
use straas_drivers::local::{Isolation, LocalHosts};
use straas_drivers::{Faults, HostError, HostPhase, Hosts};

#[tokio::test]
async fn an_agent_outlives_its_controller_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("t-proc", dir.path(), Isolation::Process);
    config.agent_binary = agent_binary(dir.path());
    let hosts = LocalHosts::open(config.clone()).await.unwrap();
    assert_eq!((hosts.kind(), hosts.isolation()), ("process", Isolation::Process));
    assert!(hosts.isolation_note().unwrap().contains("no link can be cut"));
    assert_eq!(hosts.gateway().to_string(), "127.77.0.1");
    assert!(hosts.packages(&["tree".into()], common::progress()).await.unwrap().is_none());

    let made = hosts.ensure(&spec("n-1", "demo-1")).await.unwrap();
    assert_eq!((made.phase, made.address.to_string()), (HostPhase::Running, "127.77.0.11".into()));
    assert_eq!(hosts.ensure(&spec("n-1", "demo-1")).await.unwrap(), made);
    let prefix = hosts.disk("n-1").unwrap();
    let toml = std::fs::read_to_string(prefix.join("etc/straas/agent.toml")).unwrap();
    assert!(toml.contains(&format!("prefix = \"{}\"", prefix.display())), "{toml}");
    assert!(toml.contains("metrics_listen = \"127.77.0.11:9465\""), "{toml}");
    assert!(!toml.contains("join-token-of-the-test"), "{toml}");
    eventually("the agent", || async { hosts.agent_log("n-1").unwrap().contains("agent --config") }).await;
    let out = hosts.exec("n-1", &["sh", "-c", "echo $STRAAS_PREFIX"]).await.unwrap();
    assert_eq!(out.stdout.trim(), prefix.display().to_string());
    assert!(matches!(hosts.cut("n-1").await, Err(HostError::Unsupported(_))));
    let mut scripted = spec("n-2", "demo-2");
    scripted.userdata = "true".into();
    assert!(matches!(hosts.ensure(&scripted).await, Err(HostError::Unsupported(_))));

    drop(hosts);
    let hosts = LocalHosts::open(config).await.unwrap();
    assert_eq!(hosts.list().await.unwrap(), std::slice::from_ref(&made));
    hosts.crash("n-1").await.unwrap();
    assert_eq!(hosts.list().await.unwrap()[0].phase, HostPhase::Down);
    assert_eq!(processes_of(&prefix), Vec::<String>::new());
    assert_eq!(hosts.reboot("n-1").await.unwrap().boots, 2);
    hosts.destroy("n-1").await.unwrap();
    hosts.teardown().await.unwrap();
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(dir.path().join("state/hosts")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_an_agent_abandons_is_found_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("t-daemon", dir.path(), Isolation::Process);
    config.agent_binary = agent_binary(dir.path());
    let daemon = "#!/bin/sh\n(setsid sleep 1000077 &)\necho up\nexec sleep 1000000\n";
    std::fs::write(&config.agent_binary, daemon).unwrap();
    let hosts = LocalHosts::open(config).await.unwrap();
    let host = hosts.ensure(&spec("n-1", "demo-1")).await.unwrap();
    let needle = std::path::Path::new("sleep 1000077");
    eventually("the daemon", || async { processes_of(needle).len() == 1 }).await;
    // Even when the supervisor is killed and can be asked nothing.
    let killed = std::process::Command::new("kill").args(["-9", &host.pid.unwrap().to_string()]).status().unwrap();
    assert!(killed.success());
    hosts.destroy("n-1").await.unwrap();
    assert_eq!(processes_of(needle), Vec::<String>::new());
    hosts.teardown().await.unwrap();
}
