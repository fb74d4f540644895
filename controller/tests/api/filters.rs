//! Lists are filtered by field, and their pages are whole all the same.

use crate::agent::live;
use crate::commands::list;
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;
use serde_json::{Value, json};

const V1: &str = "/straas/v1.0";

/// The names of all items, page by page of `limit`, each page but the last full.
async fn names(rig: &Rig, list: &str, query: &str, name: &str, limit: usize) -> Vec<String> {
    let (mut seen, mut marker) = (Vec::new(), String::new());
    loop {
        let page = rig.get(&format!("{V1}/{list}?limit={limit}&{query}{marker}")).await;
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item[name].as_str().expect("a text").to_owned()));
        let Some(next) = page["next"].as_str() else { return seen };
        assert_eq!(items.len(), limit, "{list}?{query}");
        marker = format!("&marker={next}");
    }
}

#[tokio::test]
async fn each_by_its_fields() {
    let rig = Rig::start().await;
    let mut ids = Vec::new();
    for (name, zone) in [("a", "z1"), ("b", "z1"), ("c", "z2"), ("a", "z2"), ("d", "z1")] {
        let zk = json!({ "name": "zk", "type": "zookeeper", "size": 3 });
        let body = json!({ "name": name, "availability_zone": zone, "components": [zk] });
        let made = rig.post(TOPOLOGIES, &body).await;
        assert_eq!(made.status, 202, "{}", made.text());
        ids.push(made.json()["id"].as_str().expect("an id").to_owned());
    }
    for id in &ids {
        rig.nodes(id, 3).await;
    }
    // the second and the last work
    let mut node = String::new();
    for at in [1, 4] {
        let mut agents = rig.enrolled(&ids[at], 3).await;
        live(&rig, &mut agents, &ids[at], "ACTIVE").await;
        node.clone_from(&agents[0].node);
    }
    rig.until(&format!("{V1}/jobs?state=succeeded"), |answer| {
        answer.json()["items"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    let component = rig.get(&format!("{TOPOLOGIES}/{}", ids[1])).await["components"][0]["id"].clone();
    let component = component.as_str().expect("an id");
    let stopped = format!("{V1}/components/{component}/services");
    let stop = rig.call(Method::DELETE, &stopped, vec![]).await;
    assert_eq!(stop.status, 202, "{}", stop.text());
    assert_eq!(rig.post(&format!("{V1}/nodes/{node}/commands"), &list()).await.status, 202);
    let of = |at: usize| format!("topology={}", ids[at]);
    let table: Vec<(&str, String, &str, Vec<&str>)> = vec![
        ("topologies", String::new(), "name", vec!["a", "b", "c", "a", "d"]),
        ("topologies", "name=a".into(), "availability_zone", vec!["z1", "z2"]),
        ("topologies", "availability_zone=z1".into(), "name", vec!["a", "b", "d"]),
        ("topologies", "name=a&availability_zone=z2".into(), "id", vec![&ids[3]]),
        ("topologies", "status=CREATING".into(), "name", vec!["a", "c", "a"]),
        ("topologies", "status=CREATING&availability_zone=z1".into(), "name", vec!["a"]),
        ("topologies", "status=DELETING".into(), "name", vec![]),
        ("jobs", "kind=create".into(), "topology_name", vec!["d", "a", "c", "b", "a"]),
        ("jobs", "kind=stop".into(), "topology_name", vec!["b"]),
        ("jobs", "state=succeeded".into(), "topology_name", vec!["d", "b"]),
        ("jobs", "state=running&kind=create".into(), "topology_name", vec!["a", "c", "a"]),
        ("jobs", format!("component={component}"), "kind", vec!["stop"]),
        ("jobs", format!("{}&kind=create", of(1)), "state", vec!["succeeded"]),
        ("jobs", format!("{}&state=failing", of(1)), "state", vec![]),
        ("commands", "command=assist-cmd/list".into(), "node", vec![&node]),
        ("commands", "command=assist-cmd/other".into(), "node", vec![]),
        ("audit", "method=DELETE".into(), "path", vec![&stopped]),
        ("audit", "method=DELETE&status=404".into(), "path", vec![]),
        ("audit", "status=409".into(), "path", vec![]),
    ];
    for (of, query, name, expect) in &table {
        for limit in [1, 2, 3, 500] {
            assert_eq!(names(&rig, of, query, name, limit).await, *expect, "{of}?{query} limit {limit}");
        }
    }
    for (query, count) in [
        (String::new(), 15),
        (of(2), 3),
        ("role=zookeeper".into(), 15),
        ("role=king".into(), 0),
        (format!("component={component}"), 3),
        (format!("{}&component={component}", of(2)), 0),
        (format!("{}&status=UNKNOWN", of(2)), 3),
        ("status=UNKNOWN&role=zookeeper".into(), 9),
        ("all_tenants=true".into(), 15),
    ] {
        let mut all = names(&rig, "nodes", &query, "id", 4).await;
        assert_eq!(all.len(), count, "{query}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "{query}: each once");
    }
    assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": "red" })).await.status, 201);
    // a marker opens nobody's topology
    let red = rig.post(&format!("{V1}/tokens"), &json!({ "label": "red", "tenant": "red" })).await.json();
    let headers = [("x-auth-token", red["token"].as_str().expect("a token"))];
    for path in [format!("nodes?marker={}/a", ids[0]), format!("nodes?component={component}"), "nodes".into()] {
        let answer = rig.raw(Method::GET, &format!("{V1}/{path}"), &headers, vec![]).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "items": [] })), "{path}");
    }
    for (name, tenants) in [("ann", json!({ "red": "member" })), ("bob", json!({}))] {
        let made = rig.post(&format!("{V1}/users"), &json!({ "name": name, "tenants": tenants })).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    assert_eq!(names(&rig, "users", "", "name", 1).await, ["ann", "bob"]);
    assert_eq!(names(&rig, "users", "tenant=red", "name", 1).await, ["ann"]);
    let none: Vec<Value> = rig.get(&format!("{V1}/tokens?user=ann")).await["items"].as_array().expect("items").clone();
    assert!(none.is_empty());
}

#[tokio::test]
async fn quarantine_and_tags_too() {
    let rig = Rig::start().await;
    rig.create("demo", 1).await;
    let record = |(what, key, topology): (&str, &str, &str)| straas_store::QuarantineRecord {
        what: what.into(),
        key: key.into(),
        reason: "for a test".into(),
        topology: topology.into(),
        at_ms: 1,
    };
    let kept = [
        ("version", "kafka@3.9.0", "t1"),
        ("version", "kafka@3.9.1", "t2"),
        ("scripts", "abc", "t2"),
        ("version", "storm@2.6", "t1"),
    ];
    straas_store::Store::quarantine(&rig.store().await, &kept.map(record)).await.expect("recorded");
    for (query, keys) in [
        ("", vec!["abc", "kafka@3.9.0", "kafka@3.9.1", "storm@2.6"]),
        ("what=version", vec!["kafka@3.9.0", "kafka@3.9.1", "storm@2.6"]),
        ("topology=t2", vec!["abc", "kafka@3.9.1"]),
        ("what=version&topology=t2", vec!["kafka@3.9.1"]),
        ("topology=t3", vec![]),
    ] {
        for limit in [1, 2, 500] {
            assert_eq!(names(&rig, "quarantine", query, "key", limit).await, keys, "{query}");
        }
    }
    let tags = "configurations/tree/demo@z1/tags";
    for tag in ["v1", "v2", "w1", "v3"] {
        let made = rig.post(&format!("{V1}/{tags}"), &json!({ "tag": tag, "message": "m" })).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    for (query, found) in [
        ("", vec!["v1", "v2", "v3", "w1"]),
        ("prefix=v", vec!["v1", "v2", "v3"]),
        ("role=user&prefix=w", vec!["w1"]),
        ("role=admin", vec![]),
    ] {
        assert_eq!(names(&rig, tags, query, "tag", 1).await, found, "{query}");
    }
    for bad in ["quarantine?what=nodes", "quarantine?limit=0", "quarantine?key=abc", &format!("{tags}?role=king")] {
        rig.call(Method::GET, &format!("{V1}/{bad}"), vec![]).await.problem(400);
    }
}
