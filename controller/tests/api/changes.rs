//! Script sync, and two changes at once.

use crate::life::{API, Town, text};
use http::Method;
use serde_json::{Value, json};

const VALIDATE: &str = "cmd/zookeeper/default/validate.sh";

#[tokio::test]
async fn scripts_reach_nodes_only_when_asked_for() {
    let mut town = Town::new(1).await;
    let first = town.spec().await.want.scripts;
    let commit = town.scripts().write(VALIDATE, b"#!/bin/bash\nexit 0\n", "simpler", "an author").expect("a commit");
    let commit = commit.to_string();
    for _ in 0..3 {
        town.live_once().await;
    }
    assert_eq!(town.agents[0].assignment().scripts, first, "a commit alone reaches nobody");
    let path = format!("{API}/nodes/scripts");
    let order = |scope: &str, item: &str| json!({ "scope": scope, "items": [item], "rollout": { "canary": false } });
    let node = town.node("town-zk-1").await;
    let dry = town.call(Method::PUT, &format!("{path}?dry_run=true"), &order("nodes", &node)).await;
    assert_eq!((dry.status, dry.json()["steps"].is_array()), (200, true), "{}", dry.text());
    assert!(town.spec().await.rollout.is_none());

    // one node, until its component is synced
    let answer = town.call(Method::PUT, &path, &order("nodes", &node)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let job = answer.json()["jobs"][0].clone();
    assert_eq!((&job["kind"], &job["component"]), (&json!("sync"), &json!(town.component)));
    let spec = town.spec().await;
    assert_eq!(spec.want.nodes[&node.as_str().into()].scripts.as_deref(), Some(commit.as_str()));
    assert_eq!(spec.want.scripts, first);
    // the whole component takes the place of it
    let answer = town.call(Method::PUT, &path, &order("components", &town.component)).await;
    let second = answer.json()["jobs"][0].clone();
    assert_eq!(town.rig.get(&format!("{API}/jobs/{}", text(&job["id"]))).await["state"], "superseded");
    let spec = town.spec().await;
    assert_eq!((spec.want.scripts.as_str(), spec.want.nodes.len()), (commit.as_str(), 0));
    assert_eq!(spec.rollout.expect("a rollout").before.scripts, first);
    town.until_job(&second, "succeeded").await;
    assert_eq!(town.agents[0].assignment().scripts, commit);
    // nothing is left to do for the topology
    let answer = town.call(Method::PUT, &path, &order("topologies", &town.topology)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "jobs": [] })));
    // back to a named commit
    let back = json!({ "scope": "topologies", "items": [town.topology], "commit": first });
    let answer = town.call(Method::PUT, &path, &back).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    town.until_job(&answer.json()["jobs"][0].clone(), "succeeded").await;
    assert_eq!(town.agents[0].assignment().scripts, first);
}

#[tokio::test]
async fn a_sync_with_one_fault_changes_nobody() {
    let town = Town::new(1).await;
    let first = town.spec().await;
    let lacking = town.scripts();
    let head = lacking.head().expect("a head");
    let gone = straas_repos::Change::Remove { path: VALIDATE.into() };
    let lacking = lacking.commit(Some(&head), &[gone], "no validate", "an author").expect("a commit").to_string();
    let path = format!("{API}/nodes/scripts");
    let check = async |body: Value, status: u16, pointers: &[&str]| {
        for query in ["", "?dry_run=true"] {
            let answer = town.call(Method::PUT, &format!("{path}{query}"), &body).await;
            assert_eq!(answer.problem(status).into_keys().collect::<Vec<_>>(), pointers, "{body}: {}", answer.text());
        }
    };
    let (topology, component) = (town.topology.as_str(), town.component.as_str());
    check(json!({ "scope": "components", "items": ["x", component, "y"] }), 422, &["/items/0", "/items/2"]).await;
    check(json!({ "scope": "topologies", "items": [component] }), 422, &["/items/0"]).await;
    check(json!({ "scope": "nodes", "items": [topology] }), 422, &["/items/0"]).await;
    check(json!({ "scope": "nodes", "items": [] }), 422, &["/items"]).await;
    check(json!({ "scope": "fleet", "items": [topology] }), 422, &["/scope"]).await;
    check(json!({ "items": [topology] }), 422, &[""]).await;
    for commit in ["master", "f", &"f".repeat(40)] {
        check(json!({ "scope": "components", "items": [component], "commit": commit }), 422, &["/commit"]).await;
    }
    check(json!({ "scope": "components", "items": [component], "commit": lacking }), 422, &["/commit"]).await;
    check(json!({ "scope": "components", "items": [component] }), 422, &["/commit"]).await;
    assert_eq!(town.spec().await, first);
}

#[tokio::test]
async fn a_second_change_takes_the_place_of_the_first() {
    let mut town = Town::new(1).await;
    let first = town.spec().await.want;
    let second = town.set_tick_time(2500);
    let third = town.set_tick_time(3000);
    let one = town.begin(Method::PUT, &format!("{}/tree/{second}", town.path()), Value::Null).await;
    let stop = town.begin(Method::DELETE, &format!("{}/services", town.path()), Value::Null).await;
    let two = town.begin(Method::PUT, &format!("{}/tree/{third}", town.path()), Value::Null).await;
    let state = async |job: &Value| town.rig.get(&format!("{API}/jobs/{}", text(&job["id"]))).await["state"].clone();
    assert_eq!(state(&one).await, "superseded");
    assert_ne!(state(&stop).await, "superseded", "it is about something else");
    let rollout = town.spec().await.rollout.expect("a rollout");
    assert_eq!((rollout.job.as_str(), &rollout.before.config), (two["id"].as_str().expect("an id"), &first.config));
    // cancelling the second brings back what was before the first
    let path = format!("{API}/jobs/{}/cancel", text(&two["id"]));
    assert_eq!(town.call(Method::POST, &path, &Value::Null).await.status, 200);
    assert_eq!(town.spec().await.want.config, first.config);
    // and a correction while it is turned back goes on from there
    let four = town.begin(Method::PUT, &format!("{}/tree/{third}", town.path()), Value::Null).await;
    assert_eq!(town.spec().await.rollout.expect("a rollout").before.config, first.config);
    town.begin(Method::POST, &format!("{}/services", town.path()), Value::Null).await;
    town.until_job(&four, "succeeded").await;
    assert_eq!(town.agents[0].assignment().config, third);
}
