//! The life of a topology of two components, one of which waits for the other.

use crate::agent::live;
use crate::rig::{Rig, TOPOLOGIES};
use serde_json::json;

#[tokio::test]
async fn a_component_waits_for_the_one_it_depends_on() {
    let rig = Rig::start().await;
    let body = json!({ "name": "two", "availability_zone": "z1", "components": [
        { "name": "zk2", "type": "zookeeper", "size": 1, "depends_on": "zk" },
        { "name": "zk", "type": "zookeeper", "size": 3 },
    ]});
    let answer = rig.post(TOPOLOGIES, &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    let mut agents = rig.enrolled(&id, 4).await;
    let names = rig.nodes(&id, 4).await;
    let waiting = names.iter().find(|node| node["name"] == "two-zk2-1").expect("a node")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let at = agents.iter().position(|agent| agent.node == waiting).expect("an agent");
    let mut second = agents.remove(at);
    // it installs and then waits, and says for whom
    assert!(!second.round().await);
    let why = rig
        .until(&format!("/straas/v1.0/nodes/{waiting}/why"), |answer| answer.json()["cause"] == "awaiting_dependency")
        .await
        .json();
    assert_eq!(why["evidence"]["component"], "zk", "{why}");
    let job = rig.get(&format!("{TOPOLOGIES}/{id}")).await["job"].as_str().expect("a job").to_owned();
    let job = rig.get(&format!("/straas/v1.0/jobs/{job}")).await;
    let step = |name: &str| {
        job["steps"].as_array().expect("steps").iter().find(|step| step["id"] == name).expect("a step").clone()
    };
    assert!(step("zk2/pre_config")["after"].as_array().expect("ids").contains(&json!("zk/validate")), "{job:#}");
    // two of three are not enough
    let mut last = agents.remove(2);
    for agent in &mut agents {
        while !agent.round().await {}
    }
    assert!(!second.round().await);
    while !last.round().await {}
    agents.push(last);
    agents.push(second);
    let view = live(&rig, &mut agents, &id, "ACTIVE").await;
    assert!(view["components"].as_array().expect("components").iter().all(|c| c["status"] == "ACTIVE"), "{view:#}");
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    let nodes = rig.get("/straas/v1.0/nodes").await;
    assert_eq!(nodes["items"], json!([]));
}
