//! The first-boot script is part of the contract with images: its text is held by a golden file.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use common::spec;
use straas_drivers::{AgentPaths, AptSource, agent_toml, render_userdata};

#[test]
fn the_script_is_as_agreed() {
    let mut spec = spec("n-1", "demo-zk-1");
    spec.agent.apt = Some(AptSource {
        url: "http://10.77.0.1:8081".into(),
        suite: "stable".into(),
        component: "main".into(),
        key_armored: "-----BEGIN PGP PUBLIC KEY BLOCK-----\nBBBB\n-----END PGP PUBLIC KEY BLOCK-----\n".into(),
    });
    spec.agent.settings.insert("heartbeat_ms".into(), 5000.into());
    spec.userdata = "echo further".into();
    let script = render_userdata(&spec);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/userdata.sh");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &script).unwrap();
    }
    assert_eq!(script, std::fs::read_to_string(path).unwrap(), "run with UPDATE_GOLDEN=1 and look at the difference");
}

#[test]
fn the_token_is_in_the_script_and_nowhere_else() {
    let spec = spec("n-1", "demo-zk-1");
    assert!(render_userdata(&spec).contains("join-token-of-the-test"));
    assert!(!format!("{spec:?}").contains("join-token-of-the-test"));
    assert!(!agent_toml(&spec.agent, &AgentPaths { prefix: String::new() }).contains("join-token-of-the-test"));
}
