//! Rollouts of agents: which build it is, who may, how members are verified, turned back and quarantined.

use crate::life::{API, text};
use crate::rig::TOPOLOGIES;
use crate::rollouts::{Fleet, ROLLOUTS, is, phases};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use straas_schemas::Digest;

const STORED: &str = "/straas/v1.0/storage/local/regions/z1/agents";

/// A program, as far as the controller looks.
fn program(what: &str) -> Vec<u8> {
    [b"\x7fELF\x02", what.as_bytes()].concat()
}

fn sum(what: &str) -> Digest {
    Digest::sha256(&program(what))
}

fn order(name: &str) -> Value {
    json!({ "kind": "agents", "file": { "region": "z1", "container": "agents", "filename": name } })
}

async fn store(fleet: &Fleet, name: &str, content: Vec<u8>) {
    let made = fleet.rig.call(Method::POST, &format!("{STORED}/{name}"), content).await;
    assert!([200, 201].contains(&made.status), "{}", made.text());
}

async fn begin(fleet: &Fleet, body: &Value) -> Value {
    let answer = fleet.rig.post(ROLLOUTS, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

impl Fleet {
    /// Which builds are wanted, by the first letters of what they are called.
    async fn builds(&self) -> Vec<String> {
        let mut out = Vec::new();
        for town in 0..self.towns.len() {
            let agent = self.component(town).await.spec.want.agent;
            out.push(agent.map_or("packaged".to_owned(), |build| build.sha256.to_string()));
        }
        out
    }

    async fn fetched(&self, town: usize, build: &Digest) -> Answer {
        let agent = &self.towns[town].agents[0];
        agent.ask(Method::GET, &agent.path(&format!("files/{build}")), Vec::new()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_reaches_all_batch_by_batch_and_so_does_the_packaged_agent() {
    let mut fleet = Fleet::new(3).await;
    store(&fleet, "new", program("one")).await;
    let one = sum("one");
    let dry = fleet.rig.post(&format!("{ROLLOUTS}?dry_run=true"), &order("new")).await;
    assert_eq!((dry.status, phases(&dry.json()).as_str()), (200, "waiting waiting waiting"), "{}", dry.text());
    let stages = fleet.towns[0].agents[0].ran();
    let rollout = begin(&fleet, &order("new")).await;
    // what is stored there later reaches nobody
    store(&fleet, "new", program("two")).await;
    assert_eq!((&rollout["build"], &rollout["from"]), (&json!(one), &json!("local:z1/agents/new")), "{rollout:#}");
    assert_eq!((&rollout["commit"], &rollout["members"][0]["before"]), (&Value::Null, &json!("packaged")));
    // the first has it assigned, and does not say that it runs it: nobody else begins
    let begun = fleet.until(&rollout, &[1, 2], |now| !now["members"][0]["job"].is_null()).await;
    assert_eq!(phases(&begun), "begun waiting waiting");
    let job = format!("{API}/jobs/{}", text(&begun["members"][0]["job"]));
    let running = fleet.rig.until(&job, |answer| answer.status == 200).await.json();
    assert_eq!((&running["kind"], &running["steps"][0]["stage"]), (&json!("agent"), &json!("agent")), "{running:#}");
    fleet.rig.post(&format!("{job}/cancel"), &Value::Null).await.problem(409);
    let others = [1, 2];
    fleet.until(&rollout, &others, |now| phases(now) == "begun waiting waiting").await;
    assert_eq!(fleet.builds().await, [one.as_str(), "packaged", "packaged"]);
    while !fleet.towns[0].agents[0].poll(2000).await {}
    assert_eq!(fleet.towns[0].agents[0].assignment().agent.as_ref().map(|build| &build.sha256), Some(&one));
    // it may fetch it, and those whose turn has not come may not
    let fetched = fleet.fetched(0, &one).await;
    assert_eq!((fetched.status, fetched.body.as_ref()), (200, program("one").as_slice()));
    assert_eq!(fleet.fetched(2, &one).await.status, 404);
    let end = fleet.until(&rollout, &[0, 1, 2], is("succeeded")).await;
    assert_eq!(phases(&end), "verified verified verified");
    assert_eq!(fleet.towns[0].agents[0].ran(), stages, "no stage ran again");
    let node = format!("{API}/nodes/{}", fleet.towns[0].agents[0].node);
    let node = fleet.rig.until(&node, |answer| answer.json()["agent"]["sha256"] == json!(one)).await.json();
    assert_eq!(node["agent"], json!({ "sha256": one }), "{node:#}");
    let component = fleet.rig.get(&format!("{API}/components/{}", fleet.towns[0].component)).await;
    assert_eq!(component["agent"], json!({ "sha256": one, "size": program("one").len() }), "{component:#}");

    // what stands there now goes to the others; those that are named, in one batch
    let mut two = order("new");
    let named = json!({ "scope": "topologies", "items": [fleet.towns[2].topology], "batches": [100] });
    two.as_object_mut().expect("an object").extend(named.as_object().expect("an object").clone());
    let rollout = begin(&fleet, &two).await;
    assert_eq!(rollout["members"][0]["before"], json!(one));
    fleet.until(&rollout, &[2], is("succeeded")).await;
    let two = sum("two");
    assert_eq!(fleet.builds().await, [one.as_str(), one.as_str(), two.as_str()]);

    let packaged = json!({ "kind": "agents", "packaged": true, "batches": [100] });
    let rollout = begin(&fleet, &packaged).await;
    assert_eq!((&rollout["build"], &rollout["total"]), (&json!("packaged"), &json!(3)));
    // cancelled, everybody has what he had, each his own
    fleet.until(&rollout, &[2], |now| phases(now) == "begun begun verified").await;
    assert_eq!(fleet.steer(&rollout, "cancel").await.status, 200);
    fleet.until(&rollout, &[0, 1, 2], is("cancelled")).await;
    assert_eq!(fleet.builds().await, [one.as_str(), one.as_str(), two.as_str()]);
    fleet.settled().await;
    let rollout = begin(&fleet, &packaged).await;
    let end = fleet.until(&rollout, &[0, 1, 2], is("succeeded")).await;
    assert_eq!(phases(&end), "verified verified verified");
    assert_eq!(fleet.builds().await, ["packaged"; 3]);
    assert_eq!(fleet.towns[2].agents[0].assignment().agent, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_a_node_refuses_is_taken_back_and_nobodys_until_it_is_released() {
    let mut fleet = Fleet::new(3).await;
    store(&fleet, "bad", program("bad")).await;
    let bad = sum("bad");
    fleet.towns[1].agents[0].refuses = Some(bad.clone());
    let rollout = begin(&fleet, &order("bad")).await;
    let end = fleet.until(&rollout, &[0, 1, 2], is("turned_back")).await;
    assert_eq!(phases(&end), "turned_back failed waiting", "{end:#}");
    assert_eq!(end["reason"], json!("town1/zk: town1-zk-1: no good"));
    assert_eq!(fleet.builds().await, ["packaged"; 3]);
    fleet.settled().await;
    assert_eq!(fleet.towns[0].agents[0].build.as_ref().and_then(|build| build.sha256.clone()), None);
    let held = fleet.rig.get(&format!("{API}/quarantine?what=agents")).await;
    assert_eq!((&held["items"][0]["key"], &held["items"][0]["reason"]), (&json!(bad), &json!("town1-zk-1: no good")));
    for query in ["", "?dry_run=true"] {
        let faults = fleet.rig.post(&format!("{ROLLOUTS}{query}"), &order("bad")).await.problem(409);
        assert!(faults["/file"].contains("quarantine"), "{faults:?}");
    }
    assert_eq!(fleet.rig.call(Method::DELETE, &format!("{API}/quarantine/agents/{bad}"), Vec::new()).await.status, 204);
    fleet.towns[1].agents[0].refuses = None;
    let again = begin(&fleet, &order("bad")).await;
    fleet.until(&again, &[0, 1, 2], is("succeeded")).await;
    assert_eq!(fleet.builds().await, [bad.as_str(); 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_and_what_is_refused() {
    let mut fleet = Fleet::new(1).await;
    let mut tokens = Vec::new();
    for (tenant, role) in [("red", "member"), ("platform", "operator")] {
        assert_eq!(fleet.rig.post(&format!("{API}/tenants"), &json!({ "id": tenant })).await.status, 201);
        let body = json!({ "label": "t", "tenant": tenant, "role": role });
        tokens.push(text(&fleet.rig.post(&format!("{API}/tokens"), &body).await.json()["token"]));
    }
    let ask = async |who: usize, path: &str, body: &Value| {
        let headers = [("x-auth-token", tokens[who].as_str())];
        fleet.rig.raw(Method::POST, path, &headers, body.to_string().into_bytes()).await
    };
    store(&fleet, "good", program("good")).await;
    // agents are root on the nodes: they are no tenant's, his own ones neither
    let made = ask(0, &format!("{STORED}/mine"), &Value::Null).await;
    assert_eq!(made.status, 201, "{}", made.text());
    for body in [order("mine"), order("good"), json!({ "kind": "agents", "packaged": true })] {
        for query in ["", "?dry_run=true"] {
            assert_eq!(ask(0, &format!("{ROLLOUTS}{query}"), &body).await.status, 403, "{body}");
        }
    }
    // an operator's are in his own storage
    let headers = [("x-auth-token", tokens[1].as_str())];
    fleet.rig.raw(Method::POST, &format!("{STORED}/ours"), &headers, program("ours")).await;
    let mut everybodys = order("ours");
    everybodys["all_tenants"] = json!(true);
    let dry = ask(1, &format!("{ROLLOUTS}?dry_run=true"), &everybodys).await;
    assert_eq!((dry.status, &dry.json()["total"]), (200, &json!(1)), "{}", dry.text());
    everybodys["file"]["filename"] = json!("good");
    ask(1, ROLLOUTS, &everybodys).await.problem(422);

    store(&fleet, "text", b"#!/bin/sh\necho straas-agent\n".to_vec()).await;
    store(&fleet, "short", b"\x7fEL".to_vec()).await;
    let check = async |body: Value, pointers: &[&str]| {
        for query in ["", "?dry_run=true"] {
            let answer = fleet.rig.post(&format!("{ROLLOUTS}{query}"), &body).await;
            assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), pointers, "{body}: {}", answer.text());
        }
    };
    let with = |more: Value| {
        let mut body = order("good");
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    check(json!({ "kind": "agents" }), &["/file"]).await;
    check(with(json!({ "packaged": true })), &["/file"]).await;
    check(with(json!({ "commit": "f".repeat(40) })), &["/commit"]).await;
    check(with(json!({ "kind": "scripts" })), &["/file"]).await;
    check(order("absent"), &["/file/filename"]).await;
    check(order("text"), &["/file/filename"]).await;
    check(order("short"), &["/file/filename"]).await;
    check(order("../good"), &["/file/filename"]).await;
    let other = |key: &str, value: &str| {
        let mut body = order("good");
        body["file"][key] = json!(value);
        body
    };
    check(other("container", "a/b"), &["/file/container"]).await;
    check(other("storage", "swift"), &["/file/storage"]).await;
    check(other("region", "z2"), &["/file/filename"]).await;
    check(other("sha256", "x"), &["/file"]).await;

    // whoever cannot be replaced by a build would never say that he was
    let topology = fleet.towns[0].topology.clone();
    let agent = &mut fleet.towns[0].agents[0];
    agent.build = None;
    agent.heartbeat().await;
    let nodes = format!("{TOPOLOGIES}/{topology}");
    fleet.rig.until(&nodes, |answer| answer.json()["components"][0]["nodes"][0]["agent"].is_null()).await;
    let answer = fleet.rig.post(ROLLOUTS, &order("good")).await;
    let faults = answer.problem(422);
    assert!(faults["/kind"].contains("town0-zk-1"), "{faults:?}");
    assert_eq!(fleet.builds().await, ["packaged"]);
    // what an agent says of itself is bounded
    let agent = &mut fleet.towns[0].agents[0];
    let mut beat = serde_json::to_value(agent.heartbeat_body()).expect("json");
    beat["agent"] = json!({ "sha256": "../x" });
    agent.post("heartbeat", &beat).await.problem(422);
    beat["agent"] = json!({ "sha256": "0".repeat(64), "coming": "ä".repeat(2000) });
    assert_eq!(agent.post("heartbeat", &beat).await.status, 204);
    let seen = fleet.rig.until(&nodes, |answer| !answer.json()["components"][0]["nodes"][0]["agent"].is_null()).await;
    let coming = text(&seen.json()["components"][0]["nodes"][0]["agent"]["coming"]);
    assert!(coming.len() < 1100 && coming.ends_with('…'), "{}", coming.len());
}
