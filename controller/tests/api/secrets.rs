//! Where secrets are and where they are not.

use crate::logs;
use crate::rig::{Rig, TOPOLOGIES};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        if entry.path().is_dir() { files(&entry.path(), out) } else { out.push(entry.path()) }
    }
}

#[tokio::test]
async fn tokens_and_keys_are_in_their_files_and_nowhere_else() {
    let mut rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent = rig.enrolled(&id, 1).await.remove(0);
    agent.round().await;
    let join = rig.join_token(&agent.node);
    let spent = crate::agent::Agent::enrol(&rig, &join).await.err().expect("spent");
    spent.problem(401);
    rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    rig.down().await.expect("stopped");
    let data = rig.data();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    // others may pass through on their way to what is theirs, and may look at nothing
    assert_eq!(mode(&data) & 0o066, 0);
    for private in ["ca", "config.git", "scripts.git", "packs"] {
        assert_eq!(mode(&data.join(private)) & 0o077, 0, "{private}");
    }
    for private in ["ca/ca.key", "admin.token", "straas.db"] {
        assert_eq!(mode(&data.join(private)), 0o600, "{private}");
    }
    let mut all = Vec::new();
    files(&data, &mut all);
    let key = std::fs::read_to_string(data.join("ca/ca.key")).expect("a key");
    let key = key.lines().nth(1).expect("base64");
    for path in all {
        let Ok(bytes) = std::fs::read(&path) else {
            continue; // the database tidies up behind itself
        };
        let name = path.strip_prefix(&data).expect("inside").to_string_lossy().into_owned();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(&join), "the join token is in {name}");
        assert_eq!(holds(&rig.token), name == "admin.token", "{name}");
        assert_eq!(holds(key), name == "ca/ca.key", "{name}");
    }
    assert!(logs::has("demo-zk-1: agent 0.1.0 enrolled (incarnation 1)"), "the log is kept");
    for secret in [&join, &rig.token, key] {
        assert!(!logs::has(secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn an_empty_token_file_is_not_a_token() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("admin.token"), "\n").expect("written");
    let mut rig = Rig::start().await;
    rig.down().await.expect("stopped");
    std::fs::write(rig.data().join("admin.token"), "\n").expect("written");
    let error = rig.refuses_to_start().await;
    assert!(error.contains("admin.token is empty"), "{error}");
}
