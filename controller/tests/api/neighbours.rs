//! Components beside each other: added, removed, and what they depend on.

use crate::agent::{Agent, live};
use crate::life::{API, text};
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;
use serde_json::{Value, json};

/// A topology of `zk` and `next`, which depends on it.
async fn pair(rig: &Rig) -> (String, String, String) {
    let body = json!({ "name": "two", "availability_zone": "z1", "components": [
        { "name": "zk", "type": "zookeeper", "size": 1 },
        { "name": "next", "type": "zookeeper", "size": 1, "depends_on": "zk" },
    ]});
    let answer = rig.post(TOPOLOGIES, &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = text(&answer.json()["id"]);
    let view = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    let component = |at: usize| text(&view["components"][at]["id"]);
    (id.clone(), component(0), component(1))
}

#[tokio::test]
async fn a_component_is_removed_once_nobody_needs_it() {
    let rig = Rig::start().await;
    let (id, zk, next) = pair(&rig).await;
    rig.enrolled(&id, 2).await;
    let call = async |method: Method, path: &str| rig.call(method, path, Vec::new()).await;
    let remove = |component: &str| format!("{API}/components/{component}");
    let refused = call(Method::DELETE, &remove(&zk)).await;
    refused.problem(409);
    assert!(text(&refused.json()["detail"]).contains("next depend on zk"), "{}", refused.text());
    let dry = call(Method::DELETE, &format!("{}?dry_run=true", remove(&next))).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    rig.hosts.held.send_replace(true);
    let answer = call(Method::DELETE, &remove(&next)).await;
    assert_eq!((answer.status, &answer.json()["job"]["kind"]), (202, &json!("remove")), "{}", answer.text());
    let job = text(&answer.json()["job"]["id"]);
    let again = call(Method::DELETE, &remove(&next)).await;
    if again.status != 404 {
        assert_eq!((again.status, &again.json()["job"]["id"]), (202, &json!(job)));
    }
    rig.hosts.held.send_replace(false);
    rig.until(&remove(&next), |answer| answer.status == 404).await;
    rig.until(&format!("{API}/jobs/{job}"), |answer| answer.json()["state"] == "succeeded").await;
    let view = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    assert_eq!(view["components"].as_array().expect("components").len(), 1);
    assert_eq!(rig.hosts.hosts().len(), 1);
    // the last one goes with the topology
    call(Method::DELETE, &remove(&zk)).await.problem(409);
}

#[tokio::test]
async fn a_component_is_added_to_what_runs() {
    let rig = Rig::start().await;
    let (id, ..) = pair(&rig).await;
    let path = format!("{TOPOLOGIES}/{id}/components");
    let before = rig.state().await;
    let check = async |body: Value, status: u16, pointers: &[&str]| {
        for query in ["", "?dry_run=true"] {
            let answer = rig.post(&format!("{path}{query}"), &body).await;
            assert_eq!(answer.problem(status).into_keys().collect::<Vec<_>>(), pointers, "{body}: {}", answer.text());
        }
    };
    check(json!({ "name": "zk", "type": "zookeeper" }), 422, &["/name"]).await;
    check(json!({ "name": "a/b", "type": "mystery", "size": 2 }), 422, &["/name", "/type"]).await;
    check(json!({ "name": "c", "type": "zookeeper", "depends_on": ["zk", "nobody"] }), 422, &["/depends_on/1"]).await;
    check(json!({ "name": "c", "type": "zookeeper", "depends_on": "c" }), 422, &["/depends_on"]).await;
    check(json!({ "name": "c", "type": "zookeeper", "size": 2, "version": "9" }), 422, &["/size", "/version"]).await;
    check(json!({ "type": "zookeeper" }), 422, &[""]).await;
    check(json!([]), 422, &[""]).await;
    let good = json!({ "name": "third", "type": "zookeeper", "size": 1, "depends_on": ["zk", "next"] });
    let dry = rig.post(&format!("{path}?dry_run=true"), &good).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert!(dry.json()["nodes"]["two-third-1"].is_array(), "{}", dry.text());
    let after = rig.state().await;
    assert_eq!((&after["jobs"], &after["config.git"]), (&before["jobs"], &before["config.git"]));
    rig.post(&format!("{TOPOLOGIES}/nobody/components"), &good).await.problem(404);

    let answer = rig.post(&path, &good).await;
    assert_eq!((answer.status, &answer.json()["job"]["kind"]), (202, &json!("create")), "{}", answer.text());
    let component = text(&answer.json()["id"]);
    assert_eq!(answer.json()["job"]["component"], component);
    rig.post(&path, &good).await.problem(422);
    let mut agents = rig.enrolled(&id, 3).await;
    let view = live(&rig, &mut agents, &id, "ACTIVE").await;
    assert_eq!(view["components"][2]["id"], component);
    let job = text(&answer.json()["job"]["id"]);
    rig.until(&format!("{API}/jobs/{job}"), |answer| answer.json()["state"] == "succeeded").await;
}

#[tokio::test]
async fn the_agent_of_a_removed_component_is_nobody_in_the_one_that_takes_its_name() {
    let rig = Rig::start().await;
    let (id, _, next) = pair(&rig).await;
    let agents = rig.enrolled(&id, 2).await;
    let removed = format!("{API}/components/{next}");
    let old = text(&rig.get(&removed).await["nodes"][0]["id"]);
    rig.call(Method::DELETE, &removed, Vec::new()).await;
    rig.until(&removed, |answer| answer.status == 404).await;
    let again = json!({ "name": "next", "type": "zookeeper", "size": 1, "depends_on": "zk" });
    let answer = rig.post(&format!("{TOPOLOGIES}/{id}/components"), &again).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let mut new = rig.nodes(&id, 2).await;
    new.retain(|node| node["name"] == "two-next-1");
    let new = text(&new[0]["id"]);
    Agent::enrol(&rig, &rig.join_token(&new)).await.expect("enrolled");
    let left = agents.into_iter().find(|agent| agent.node == old).expect("the old one");
    let answer = left.post("poll", &left.poll_body(0)).await;
    assert_eq!((answer.status, old != new), (401, true), "{}", answer.text());
}

#[tokio::test]
async fn dependencies_are_told_and_changed() {
    let rig = Rig::start().await;
    let (_, zk, next) = pair(&rig).await;
    let path = |component: &str| format!("{API}/components/{component}/dependencies");
    let told = rig.call(Method::POST, &path(&zk), Vec::new()).await.json();
    assert_eq!((&told["depends_on"], &told["dependents"][0]["name"]), (&json!([]), &json!("next")), "{told:#}");
    let told = rig.post(&path(&next), &json!({})).await.json();
    let neighbour = &told["depends_on"][0];
    assert_eq!(
        (&neighbour["id"], &neighbour["type"], &neighbour["required"]),
        (&json!(zk), &json!("zookeeper"), &json!(false))
    );
    let check = async |component: &str, body: Value, pointers: &[&str]| {
        let answer = rig.post(&path(component), &body).await;
        assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), pointers, "{body}: {}", answer.text());
    };
    check(&zk, json!({ "depends_on": ["next"] }), &["/depends_on/0"]).await;
    check(&zk, json!({ "depends_on": ["zk", "nobody"] }), &["/depends_on/0", "/depends_on/1"]).await;
    check(&next, json!({ "depends_on": ["zk", "zk"] }), &["/depends_on/1"]).await;
    check(&next, json!({ "depends_on": "zk" }), &["/depends_on"]).await;
    check(&next, json!({ "needs": [] }), &[""]).await;
    let same = rig.post(&path(&next), &json!({ "depends_on": ["zk"] })).await;
    assert_eq!((same.status, &same.json()["job"]), (200, &Value::Null));
    let answer = rig.post(&path(&next), &json!({ "depends_on": [] })).await;
    assert_eq!((answer.status, &answer.json()["job"]["kind"]), (202, &json!("change")), "{}", answer.text());
    let told = rig.post(&path(&zk), &json!({})).await.json();
    assert_eq!(told["dependents"], json!([]));
    rig.post(&path("nobody"), &json!({})).await.problem(404);
}
