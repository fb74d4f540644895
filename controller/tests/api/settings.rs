//! The service's own settings: in force without a restart, refused at the door, and of a bad push the last
//! good ones stay.

use crate::life::{API, Town};
use crate::logs;
use crate::rig::Rig;
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use straas_schemas::Assignment;

const SETTINGS: &str = "/straas/v1.0/configurations/settings";

fn file(section: &str, key: &str, value: u32) -> Value {
    let options = json!([{ "key": key, "value": value.to_string(), "type": "integer" }]);
    json!({ "type": "ini", "content": [{ "section": section, "options": options }] })
}

async fn put(rig: &Rig, path: &str, content: &Value) -> Answer {
    let body = json!({ "content": content.to_string(), "message": "a test" }).to_string().into_bytes();
    rig.call(Method::PUT, &format!("{API}/configurations/tree/master/service/{path}"), body).await
}

/// A value that is in force, with its file.
async fn value(rig: &Rig, query: &str, key: &str) -> (Value, Value) {
    let view = rig.get(&format!("{SETTINGS}{query}")).await;
    let values = view["values"].as_array().expect("values").clone();
    let found = values.into_iter().find(|value| value["key"] == key).expect("the key");
    (found["value"].clone(), found["file"].clone())
}

/// Lets the agents live until every one has this assigned, and has confirmed it.
async fn until_assigned(town: &mut Town, has: impl Fn(&Assignment) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        town.live_once().await;
        if town.agents.iter().all(|agent| has(agent.assignment())) && town.view().await["status"] == "ACTIVE" {
            return;
        }
        assert!(begun.elapsed() < crate::rig::PATIENCE, "still {:?}", town.agents[0].assignment());
    }
}

async fn until_beats(town: &mut Town, heartbeat_ms: u32) {
    until_assigned(town, |assignment| assignment.timing.heartbeat_ms == heartbeat_ms).await;
}

/// The stages that every node ran, and those that it is to run.
fn stages(town: &Town) -> impl PartialEq + std::fmt::Debug + use<> {
    let each = town.agents.iter().map(|agent| (agent.node.clone(), (agent.ran(), agent.assignment().stages.clone())));
    each.collect::<BTreeMap<_, _>>()
}

#[tokio::test]
async fn agents_get_other_intervals_and_run_nothing_for_it() {
    let mut town = Town::new(3).await;
    assert_eq!(value(&town.rig, "", "heartbeat_ms").await, (json!(500), json!("controller.toml")));
    let (before, generation) = (stages(&town), town.agents[0].assignment().generation);
    let written = put(&town.rig, "agent.json", &file("timing", "heartbeat_ms", 700)).await;
    assert_eq!(written.status, 200, "{}", written.text());
    // whoever reads the answer finds it in force
    let seen = town.rig.get(SETTINGS).await;
    assert_eq!((&seen["commit"], &seen["faults"]), (&written.json()["commit"], &json!([])));
    assert_eq!(value(&town.rig, "", "heartbeat_ms").await, (json!(700), json!("service/agent.json")));
    until_beats(&mut town, 700).await;
    // of its own zone, and of another one
    assert_eq!(put(&town.rig, "zones/z2/agent.json", &file("timing", "heartbeat_ms", 800)).await.status, 200);
    assert_eq!(put(&town.rig, "zones/z1/agent.json", &file("timing", "heartbeat_ms", 900)).await.status, 200);
    until_beats(&mut town, 900).await;
    assert_eq!(value(&town.rig, "?zone=z1", "heartbeat_ms").await, (json!(900), json!("service/zones/z1/agent.json")));
    assert_eq!(value(&town.rig, "", "heartbeat_ms").await.0, json!(700));
    assert_eq!(stages(&town), before, "no stage ran, and none is ordered");
    assert!(town.agents[0].assignment().generation > generation);
    let jobs = town.rig.get(&format!("{API}/jobs")).await;
    assert_eq!(jobs["items"].as_array().expect("jobs").len(), 1, "that of its creation: {jobs:#}");
}

const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQGNBGc=\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n";

/// A file that names an apt repository.
fn apt(url: &str, suite: &str, key: &str) -> Value {
    let option = |key: &str, value: &str| json!({ "key": key, "value": value, "type": "string" });
    let values = [("apt_url", url), ("apt_suite", suite), ("apt_components", "main"), ("apt_key", key)];
    let options: Vec<Value> = values.map(|(key, value)| option(key, value)).to_vec();
    json!({ "type": "ini", "content": [{ "section": "packages", "options": options }] })
}

#[tokio::test]
async fn an_apt_repository_is_a_file_of_every_node_of_the_zone() {
    const PATH: &str = "/etc/apt/sources.list.d/straas-packages.sources";
    let mut town = Town::new(1).await;
    let (before, generation) = (stages(&town), town.agents[0].assignment().generation);
    let of = |assignment: &Assignment| assignment.files.iter().find(|file| file.path == PATH).cloned();
    assert_eq!(put(&town.rig, "agent.json", &apt("http://common/apt", "stable", KEY)).await.status, 200);
    until_assigned(&mut town, |assignment| of(assignment).is_some()).await;
    let file = of(town.agents[0].assignment()).expect("the file");
    let content = async |town: &Town, sha256: &str| {
        let agent = &town.agents[0];
        agent.ask(Method::GET, &agent.path(&format!("files/{sha256}")), vec![]).await
    };
    let got = content(&town, file.sha256.as_str()).await;
    assert_eq!((got.status, got.body.len() as u64, file.mode), (200, file.size, 0o644));
    assert!(got.text().contains("URIs: http://common/apt\nSuites: stable\nComponents: main\nSigned-By:\n -----BEGIN"));
    // a zone may have another, or none
    assert_eq!(put(&town.rig, "zones/z1/agent.json", &apt("http://z1/apt", "stable", KEY)).await.status, 200);
    until_assigned(&mut town, |assignment| of(assignment).is_some_and(|other| other.sha256 != file.sha256)).await;
    let other = of(town.agents[0].assignment()).expect("the file");
    assert!(content(&town, other.sha256.as_str()).await.text().contains("URIs: http://z1/apt\n"));
    assert_eq!(content(&town, file.sha256.as_str()).await.status, 404, "it is not its node's any more");
    assert_eq!(put(&town.rig, "zones/z1/agent.json", &apt("", "", "")).await.status, 200);
    until_assigned(&mut town, |assignment| of(assignment).is_none()).await;
    assert_eq!(stages(&town), before, "no stage ran, and none is ordered");
    assert!(town.agents[0].assignment().generation > generation);
    // the place is the setting's own, used or not
    let give = json!({ "scope": "topology", "items": [town.topology], "container": "c", "filename": "a", "target_path": PATH });
    let faults = town.rig.post(&format!("{API}/nodes/files"), &give).await.problem(422);
    assert!(faults.contains_key("/target_path"), "{faults:?}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_place() {
    let rig = Rig::start().await;
    let before = rig.state().await;
    for (path, content, pointer) in [
        ("agent.json", file("timing", "heartbeat_ms", 20_000), "/content/0/options/0/value"),
        ("zones/z1/agent.json", file("timing", "suspect_after_ms", 500), "/content/0/options/0/value"),
        ("agent.json", file("limits", "rate", 1), "/content/0/section"),
        ("api.json", file("limits", "rates", 1), "/content/0/options/0/key"),
        ("agents.json", file("timing", "heartbeat_ms", 600), ""),
        ("agent.json", apt("http://h/\nSuites: x", "stable", KEY), "/content/0/options/0/value"),
        ("zones/z1/agent.json", apt("http://h/", "a b", KEY), "/content/0/options/1/value"),
        ("agent.json", apt("http://h/", "stable", "a key"), "/content/0/options/3/value"),
        ("controller.json", apt("http://h/", "stable", KEY), "/content/0/section"),
    ] {
        let faults = put(&rig, path, &content).await.problem(422);
        assert_eq!(faults.keys().map(String::as_str).collect::<Vec<_>>(), [pointer], "{path} {content}");
    }
    assert_eq!(rig.state().await, before);
    rig.call(Method::GET, &format!("{SETTINGS}?zone=Z%201"), vec![]).await.problem(422);
    rig.call(Method::GET, &format!("{SETTINGS}?zones=z1"), vec![]).await.problem(400);
}

#[tokio::test]
async fn of_a_bad_push_nothing_is_taken_and_everybody_is_told() {
    let town = Town::new(1).await;
    let ready = async || town.rig.get("/readyz").await["settings"].clone();
    let metric = async |faults: u32| {
        let text = town.rig.call(Method::GET, "/metrics", vec![]).await.text();
        assert!(text.contains(&format!("straas_controller_settings_faults {faults}\n")), "{text}");
    };
    assert_eq!(ready().await, "ok");
    metric(0).await;
    let good = put(&town.rig, "api.json", &file("limits", "rate", 60)).await.json()["commit"].clone();
    let push = |path: &str, content: &Value| {
        let text = content.to_string();
        town.configs().write("master", path, text.as_bytes(), "pushed", "somebody").expect("a commit").to_string()
    };
    let bad = push("service/agent.json", &file("timing", "heartbeat_ms", 20_000));
    let seen = town.rig.until(SETTINGS, |answer| answer.json()["head"] == bad.as_str()).await.json();
    assert_eq!((&seen["commit"], &seen["faults"][0]["pointer"]), (&good, &json!("/content/0/options/0/value")));
    let why = seen["faults"][0]["message"].as_str().expect("a message");
    assert!(why.starts_with("service/agent.json: ") && why.contains("suspect_after_ms 20000"), "{why}");
    let said = ready().await;
    assert!(said.as_str().is_some_and(|text| text.contains(&bad) && text.contains("1 faults")), "{said}");
    metric(1).await;
    assert!(logs::has(&bad), "an operator who reads the log finds it");
    assert_eq!(value(&town.rig, "", "rate").await, (json!(60), json!("service/api.json")));
    assert_eq!(value(&town.rig, "", "heartbeat_ms").await.0, json!(500));
    // a good one takes effect without the API as well
    let mended = push("service/agent.json", &file("timing", "heartbeat_ms", 600));
    town.rig.until(SETTINGS, |answer| answer.json()["commit"] == mended.as_str()).await;
    assert_eq!((ready().await, value(&town.rig, "", "heartbeat_ms").await.0), (json!("ok"), json!(600)));
    metric(0).await;
}

#[tokio::test]
async fn limits_and_lives_of_certificates_follow() {
    let rig = Rig::start_with("[api]\nrate = 1\nburst = 1\n").await;
    assert_eq!(rig.post(&format!("{API}/tenants"), &json!({ "id": "red" })).await.status, 201);
    let token = rig.post(&format!("{API}/tokens"), &json!({ "label": "t", "tenant": "red" })).await.json();
    let token = [("x-auth-token", token["token"].as_str().expect("a token"))];
    let ask = async || rig.raw(Method::GET, crate::rig::TOPOLOGIES, &token, vec![]).await.status;
    let mut asked = Vec::new();
    while asked.last() != Some(&429) {
        asked.push(ask().await);
    }
    let both = json!({ "type": "ini", "content": [{ "section": "limits", "options": [
        { "key": "rate", "value": "100000", "type": "integer" },
        { "key": "burst", "value": "1000", "type": "integer" },
    ]}]});
    assert_eq!(put(&rig, "api.json", &both).await.status, 200);
    for _ in 0..50 {
        assert_eq!(ask().await, 200);
    }
    let one = json!({ "type": "ini", "content": [{ "section": "storage", "options": [
        { "key": "file_mib_max", "value": "0", "type": "integer" },
    ]}]});
    assert_eq!(put(&rig, "api.json", &one).await.status, 200);
    let upload = rig.call(Method::POST, &format!("{API}/storage/local/regions/z1/c/a"), b"x".to_vec()).await;
    assert_eq!(upload.status, 413, "{}", upload.text());
    // a certificate lives as long as is said when it is made
    assert_eq!(put(&rig, "controller.json", &file("agents", "certificate_days", 2)).await.status, 200);
    let topology = rig.create("demo", 1).await;
    let agent = rig.enrolled(&topology, 1).await.remove(0);
    let pem = x509_parser::pem::parse_x509_pem(agent.certificate_pem.as_bytes()).expect("pem").1;
    let validity = pem.parse_x509().expect("a certificate").validity().clone();
    let left = validity.time_to_expiration().expect("it is good").whole_hours();
    assert!((47..=48).contains(&left), "{left}");
}
