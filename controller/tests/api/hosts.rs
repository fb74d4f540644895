//! Hosts that cannot be made, take long, get lost, or are not wanted any more.

use crate::agent::Agent;
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use straas_controller::BootTemplate;

#[tokio::test]
async fn a_provider_that_fails_is_shown_with_its_words_and_tried_again() {
    let rig = Rig::start().await;
    rig.hosts.fails.send_replace(Some("no space left on device".into()));
    let id = rig.create("demo", 1).await;
    let path = format!("{TOPOLOGIES}/{id}");
    let failed =
        rig.until(&path, |answer| answer.json()["components"][0]["nodes"][0]["why"]["cause"] == "spawn_failed").await;
    let why = &failed.json()["components"][0]["nodes"][0]["why"];
    assert!(why["evidence"]["error"].as_str().expect("a text").contains("no space left on device"), "{why}");
    assert_eq!(failed.json()["status"], "DEGRADED");
    let job = rig.get("/straas/v1.0/jobs").await["items"][0]["state"].clone();
    assert_eq!(job, "failing");
    rig.hosts.fails.send_replace(None);
    let node = rig.nodes(&id, 1).await.remove(0);
    // the token of the try that succeeded is the one that counts
    let node = node["id"].as_str().expect("an id");
    Agent::enrol(&rig, &rig.join_token(node)).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
}

#[tokio::test]
async fn what_is_being_made_can_be_deleted() {
    let rig = Rig::start().await;
    // before image and packages are there
    rig.boot.send_replace(None);
    let id = rig.create("early", 3).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| {
        answer.json()["components"][0]["nodes"][2]["why"]["cause"] == "spawning"
    })
    .await;
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    rig.boot.send_replace(Some(BootTemplate { controllers: vec!["https://10.9.0.1:7443".into()], apt: None }));
    // while a host comes up: "nothing is left" is said when that is so
    rig.hosts.held.send_replace(true);
    let id = rig.create("busy", 1).await;
    rig.hosts.waiting.subscribe().wait_for(|waiting| *waiting == 1).await.expect("a call");
    let job = rig.delete(&id).await.json()["job"]["id"].as_str().expect("a job").to_owned();
    let deleting = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    assert_eq!(deleting["status"], "DELETING");
    assert_ne!(rig.get(&format!("/straas/v1.0/jobs/{job}")).await["state"], "succeeded");
    rig.hosts.held.send_replace(false);
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    assert!(rig.hosts.hosts().is_empty(), "{:?}", rig.hosts.hosts());
    assert_eq!(rig.get(&format!("/straas/v1.0/jobs/{job}")).await["state"], "succeeded");
    // while the provider fails
    rig.hosts.fails.send_replace(Some("no".into()));
    let id = rig.create("failing", 1).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| {
        answer.json()["components"][0]["nodes"][0]["why"]["cause"] == "spawn_failed"
    })
    .await;
    rig.delete(&id).await;
    rig.hosts.fails.send_replace(None);
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
}

#[tokio::test]
async fn a_host_that_is_gone_is_made_anew_with_a_token_of_its_own() {
    let mut rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent = rig.enrolled(&id, 1).await.remove(0);
    agent.poll(60_000).await;
    let first = rig.join_token(&agent.node);
    // hosts are compared with nodes at start, and every 15 s
    rig.hosts.lose(&agent.node);
    rig.hosts.plant("stray", "straas");
    rig.hosts.plant("foreign", "another-instance");
    rig.down().await.expect("stopped");
    rig.up().await;
    let mut changes = rig.hosts.changes.subscribe();
    let made = changes.wait_for(|_| rig.hosts.host(&agent.node).is_some() && rig.hosts.host("stray").is_none());
    drop(tokio::time::timeout(PATIENCE, made).await.expect("in time").expect("made"));
    assert!(rig.hosts.host("foreign").is_some(), "what is another's is left alone");
    let second = rig.join_token(&agent.node);
    assert_ne!(first, second);
    let again = Agent::enrol(&rig, &second).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
    // that its host is gone is an incarnation of its own
    assert_eq!((again.node.as_str(), again.incarnation), (agent.node.as_str(), 3));
    agent.follow(&rig);
    agent.post("poll", &agent.poll_body(0)).await.problem(401);
}
