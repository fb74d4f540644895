//! Where secrets are and where they are not.

use crate::agent::{Agent, live};
use crate::logs;
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use straas_controller::config::Config;

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
    let spent = Agent::enrol(&rig, &join).await.err().expect("spent");
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

const FOLDER: &str = "app/zookeeper/3.8.0";

/// A file of the config repo with an option more, or with another value of the one that is there.
async fn with_password(rig: &Rig, branch: &str, file: &str, value: &str) -> crate::wire::Answer {
    let path = format!("/straas/v1.0/configurations/tree/{branch}/{FOLDER}/{file}");
    let content = rig.get(&path).await["content"].as_str().expect("a text").to_owned();
    let mut document: Value = serde_json::from_str(&content).expect("json");
    let options = document["content"][0]["options"].as_array_mut().expect("options");
    match options.iter_mut().find(|option| option["key"] == "adminPassword") {
        Some(option) => option["value"] = json!(value),
        None => options.push(json!({ "key": "adminPassword", "value": value, "type": "string", "secret": true })),
    }
    let body = json!({ "content": document.to_string(), "message": "a password" });
    rig.call(Method::PUT, &path, body.to_string().into_bytes()).await
}

/// Every object of a repository that holds a text.
fn objects_with(repo: &Path, text: &str) -> Vec<String> {
    let repo = git2::Repository::open_bare(repo).expect("a repository");
    let odb = repo.odb().expect("objects");
    let mut found = Vec::new();
    odb.foreach(|id| {
        let object = odb.read(*id).expect("read");
        if object.data().windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(id.to_string());
        }
        true
    })
    .expect("read");
    found
}

#[tokio::test]
async fn a_secret_of_a_configuration_is_open_on_its_node_only() {
    let (first, second) = ("changeit-please", "correct horse battery");
    let mut rig = Rig::start().await;
    for file in ["default.json", "user.json"] {
        let written = with_password(&rig, "master", file, first).await;
        assert_eq!(written.status, 200, "{file}: {}", written.text());
    }
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    let view = live(&rig, &mut agents, &id, "ACTIVE").await;
    let section = |agent: &Agent| {
        let config = agent.assignment().context["config"].as_object().expect("sections").clone();
        config.into_iter().find(|(_, keys)| keys.get("adminPassword").is_some()).expect("the section")
    };
    let (name, keys) = section(&agents[0]);
    assert_eq!(keys["adminPassword"], first, "its node has it in clear");
    assert_eq!(agents[0].assignment().context["secrets"], json!([[name, "adminPassword"]]));

    // a tenant's own
    let written = with_password(&rig, "demo@z1", "user.json", second).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let forged = with_password(&rig, "demo@z1", "user.json", "straas-sealed:1:AAAA").await;
    assert!(forged.problem(422).values().any(|message| message.contains("cannot begin with")), "{}", forged.text());
    let kept = with_password(&rig, "demo@z1", "user.json", "***").await;
    assert_eq!(kept.json()["commit"], written.json()["commit"], "what is kept makes no commit");
    let component = view["components"][0]["id"].as_str().expect("an id");
    let apply = format!("/straas/v1.0/components/{component}/tree/demo@z1");
    let mut shown = Vec::new();
    let dry = rig.call(Method::PUT, &format!("{apply}?dry_run=true"), Vec::new()).await;
    assert!(dry.text().contains("adminPassword: *** → ***"), "{}", dry.text());
    shown.push(dry.text());
    let begun = rig.call(Method::PUT, &apply, Vec::new()).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    shown.push(begun.text());
    let job = begun.json()["job"]["id"].as_str().expect("an id").to_owned();
    let path = format!("/straas/v1.0/jobs/{job}");
    while rig.get(&path).await["state"] != "succeeded" {
        agents[0].round().await;
    }
    assert_eq!(section(&agents[0]).1["adminPassword"], second);

    for path in [
        format!("{TOPOLOGIES}/{id}"),
        path,
        "/straas/v1.0/audit".into(),
        format!("/straas/v1.0/configurations/tree/demo@z1/{FOLDER}/user.json"),
        format!("/straas/v1.0/configurations/tree/demo@z1/{FOLDER}/default.json"),
        format!("/straas/v1.0/configurations/effective/{component}"),
        "/straas/v1.0/configurations/diff/master...demo@z1".into(),
        "/straas/v1.0/configurations/log/demo@z1".into(),
    ] {
        shown.push(rig.get(&path).await.to_string());
    }
    rig.down().await.expect("stopped");
    let mut all = Vec::new();
    files(&rig.data(), &mut all);
    for secret in [first, second] {
        assert!(shown.iter().all(|text| !text.contains(secret)), "an answer has it");
        assert!(shown.iter().all(|text| !text.contains("straas-sealed")), "an answer has it as it is kept");
        assert!(!logs::has(secret), "the log has it");
        assert_eq!(objects_with(&rig.data().join("config.git"), secret), [""; 0], "git has it");
        for path in &all {
            let Ok(bytes) = std::fs::read(path) else { continue };
            let holds = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!holds, "{} has it", path.display());
        }
    }
    assert!(
        !objects_with(&rig.data().join("config.git"), "straas-sealed:1:").is_empty(),
        "the test looks at the files"
    );
    // with another key nobody gets anything else than he has, and it is said why
    std::fs::remove_file(rig.data().join("secrets.key")).expect("removed");
    rig.up().await;
    let broken = |answer: &crate::wire::Answer| answer.text().contains("sealed with another key");
    rig.until(&format!("{TOPOLOGIES}/{id}"), broken).await;
}

#[tokio::test]
async fn another_key_seals_and_nodes_notice_nothing() {
    let rig = Rig::start().await;
    for file in ["default.json", "user.json"] {
        assert_eq!(with_password(&rig, "master", file, "open sesame").await.status, 200, "{file}");
    }
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    let view = live(&rig, &mut agents, &id, "ACTIVE").await;
    assert_eq!(with_password(&rig, "demo@z1", "user.json", "correct horse").await.status, 200);
    let component = view["components"][0]["id"].as_str().expect("an id");
    let apply = async |agent: &mut Agent| {
        let path = format!("/straas/v1.0/components/{component}/tree/demo@z1");
        let begun = rig.call(Method::PUT, &path, Vec::new()).await;
        assert_eq!(begun.status, 202, "{}", begun.text());
        let path = format!("/straas/v1.0/jobs/{}", begun.json()["job"]["id"].as_str().expect("an id"));
        while rig.get(&path).await["state"] != "succeeded" {
            agent.round().await;
        }
    };
    apply(&mut agents[0]).await;
    let clear = |agent: &Agent| agent.assignment().context.to_string().contains("\"adminPassword\":\"correct horse\"");
    assert!(clear(&agents[0]));
    let reseal = async || {
        let done = rig.post("/straas/v1.0/configurations/reseal", &Value::Null).await;
        assert_eq!(done.status, 200, "{}", done.text());
        let done = done.json();
        assert_eq!(done["more"], false);
        let branches = done["resealed"].as_array().expect("branches").iter().map(|one| one["branch"].clone());
        branches.collect::<Vec<_>>()
    };
    assert_eq!(reseal().await, Vec::<Value>::new());
    let config = Config::load(&rig.dir.path().join("controller.toml")).expect("a configuration");
    straas_controller::rotate_secrets(&config, false).expect("another key");
    assert_eq!(reseal().await, ["demo@z1", "master"]);
    assert_eq!(reseal().await, Vec::<Value>::new());
    // what it has was sealed with the old key, what it takes up with the new one
    let generation = agents[0].assignment().generation;
    agents[0].round().await;
    assert!(clear(&agents[0]) && agents[0].assignment().generation == generation, "nothing changes by itself");
    apply(&mut agents[0]).await;
    assert!(clear(&agents[0]) && agents[0].assignment().generation > generation);
    for secret in ["correct horse", "open sesame"] {
        assert_eq!(objects_with(&rig.data().join("config.git"), secret), [""; 0], "git has it");
    }
}
