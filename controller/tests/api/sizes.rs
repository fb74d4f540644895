//! More nodes, fewer nodes, another host.

use crate::life::{API, Town, text};
use crate::rig::TOPOLOGIES;
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_component_grows_and_shrinks_and_gives_no_ordinal_out_twice() {
    let mut town = Town::new(1).await;
    let path = town.path();
    let dry = town.call(Method::POST, &format!("{path}?dry_run=true"), &json!({ "count": 2 })).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let names: Vec<String> = dry.json()["nodes"].as_object().expect("nodes").keys().cloned().collect();
    assert!(names.contains(&"town-zk-3".to_owned()), "{names:?}");
    assert_eq!(town.names().await, ["town-zk-1"], "a dry run adds nothing");
    let job = town.begin(Method::POST, &path, json!({ "count": 2, "role": "zookeeper" })).await;
    assert_eq!(job["kind"], "flexup");
    town.until_job(&job, "succeeded").await;
    assert_eq!(town.names().await, ["town-zk-1", "town-zk-2", "town-zk-3"]);

    // a quorum does not go from three to two; two leave together
    let (two, three) = (town.node("town-zk-2").await, town.node("town-zk-3").await);
    let refused = town.call(Method::DELETE, &format!("{API}/nodes/{two}"), &Value::Null).await;
    refused.problem(409);
    let detail = text(&refused.json()["detail"]);
    assert!(detail.contains("odd") && detail.contains("may have 1 or 5") && detail.contains("with="), "{detail}");
    let elsewhere = format!("{API}/nodes/{two}?with={three},nobody");
    town.call(Method::DELETE, &elsewhere, &Value::Null).await.problem(404);
    let job = town.begin(Method::DELETE, &format!("{API}/nodes/{two}?with={three}"), Value::Null).await;
    assert_eq!(job["kind"], "flexdown");
    town.until_job(&job, "succeeded").await;
    assert_eq!(town.names().await, ["town-zk-1"]);
    town.call(Method::DELETE, &format!("{API}/nodes/{two}"), &Value::Null).await.problem(404);

    // as one number, both ways
    let job = town.begin(Method::PATCH, &path, json!({ "size": 3 })).await;
    assert_eq!(job["kind"], "flexup");
    town.until_job(&job, "succeeded").await;
    assert_eq!(town.names().await, ["town-zk-1", "town-zk-4", "town-zk-5"]);
    let job = town.begin(Method::PATCH, &path, json!({ "size": 1 })).await;
    assert_eq!(job["kind"], "flexdown");
    town.until_job(&job, "succeeded").await;
    assert_eq!(town.names().await, ["town-zk-1"]);
    assert_eq!(town.spec().await.want.groups[0].without, [2, 3, 4, 5]);
    let same = town.call(Method::PATCH, &path, &json!({ "size": 1 })).await;
    assert_eq!((same.status, same.json()), (200, json!({ "id": town.component, "job": null })));
}

#[tokio::test]
async fn sizes_that_cannot_be_are_refused_with_those_that_can() {
    let town = Town::new(3).await;
    let before = (town.rig.state().await, town.spec().await);
    let check = async |method: Method, body: &str, status: u16, pointers: &[&str]| {
        for query in ["", "?dry_run=true"] {
            let path = format!("{}{query}", town.path());
            let answer = town.rig.call(method.clone(), &path, body.into()).await;
            let found: Vec<_> = answer.problem(status).into_keys().collect();
            assert_eq!(found, pointers, "{body}: {}", answer.text());
        }
    };
    let post = Method::POST;
    check(post.clone(), r#"{"count":1}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":8}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":0}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":-2}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":2000}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":"2"}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":2,"count":2}"#, 422, &["/count"]).await;
    check(post.clone(), r#"{"count":2,"role":"nimbus"}"#, 422, &["/role"]).await;
    check(post.clone(), r#"{"count":2,"colour":"red"}"#, 422, &[""]).await;
    check(post.clone(), "{}", 422, &[""]).await;
    check(post.clone(), "[", 400, &[]).await;
    check(Method::PATCH, r#"{"size":4}"#, 422, &["/size"]).await;
    check(Method::PATCH, r#"{"size":4,"version":"9","config":"nowhere"}"#, 422, &["/config", "/size", "/version"])
        .await;
    check(Method::PATCH, r#"{"size":5,"role":"nimbus"}"#, 422, &["/role"]).await;
    check(Method::PATCH, r#"{"version":"3.8.0","role":"zookeeper"}"#, 422, &["/role"]).await;
    let nobody = format!("{API}/components/nobody");
    town.call(Method::POST, &nobody, &json!({ "count": 2 })).await.problem(404);
    for method in [Method::DELETE, Method::PUT] {
        town.call(method, &format!("{API}/nodes/nobody"), &Value::Null).await.problem(404);
    }
    let after = (town.rig.state().await, town.spec().await);
    for part in ["topologies", "jobs", "config.git", "scripts.git"] {
        let view = |state: &Value| match part {
            "topologies" => state[part]["items"][0]["components"][0]["nodes"].as_array().expect("nodes").len().into(),
            _ => state[part].clone(),
        };
        assert_eq!(view(&after.0), view(&before.0), "{part}");
    }
    assert_eq!(after.1, before.1);
}

#[tokio::test]
async fn growing_is_taken_back_while_hosts_are_made() {
    let mut town = Town::new(1).await;
    town.rig.hosts.held.send_replace(true);
    let job = town.begin(Method::POST, &town.path(), json!({ "count": 2 })).await;
    let jobs = format!("{API}/jobs/{}", text(&job["id"]));
    town.call(Method::POST, &format!("{jobs}/pause"), &Value::Null).await.problem(409);
    let cancelled = town.call(Method::POST, &format!("{jobs}/cancel"), &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")), "{}", cancelled.text());
    town.call(Method::POST, &format!("{jobs}/cancel"), &Value::Null).await.problem(409);
    let spec = town.spec().await;
    assert_eq!((spec.want.groups[0].size, spec.want.groups[0].without.as_slice()), (1, [2, 3].as_slice()));
    let open = town.rig.get(&format!("{API}/jobs?topology={}&open=true", town.topology)).await["items"][0].clone();
    assert_eq!(open["kind"], "flexdown");
    town.rig.hosts.held.send_replace(false);
    town.until_job(&open, "succeeded").await;
    assert_eq!((town.names().await, town.rig.hosts.hosts().len()), (vec!["town-zk-1".to_owned()], 1));
}

#[tokio::test]
async fn shrinking_is_taken_back_while_the_hosts_are_there() {
    let mut town = Town::new(3).await;
    town.rig.hosts.fails.send_replace(Some("not now".into()));
    let job = town.begin(Method::PATCH, &town.path(), json!({ "size": 1 })).await;
    let path = format!("{API}/jobs/{}/cancel", text(&job["id"]));
    let answer = town.call(Method::POST, &path, &Value::Null).await;
    town.rig.hosts.fails.send_replace(None);
    // whether the provider's refusal was recorded first decides which of the two it is
    if answer.status == 409 {
        assert!(text(&answer.json()["detail"]).contains("has lost its host already"), "{}", answer.text());
        town.until_job(&job, "succeeded").await;
        assert_eq!(town.names().await.len(), 1);
        return;
    }
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("cancelled")), "{}", answer.text());
    let spec = town.spec().await;
    assert_eq!((spec.want.groups[0].size, spec.want.groups[0].without.len()), (3, 0));
}

#[tokio::test]
async fn a_replaced_node_keeps_all_but_its_host() {
    let mut town = Town::new(3).await;
    let before = town.view().await;
    let node = town.node("town-zk-2").await;
    let path = format!("{API}/nodes/{node}");
    let token = town.rig.join_token(&node);
    let dry = town.call(Method::PUT, &format!("{path}?dry_run=true"), &Value::Null).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(town.rig.join_token(&node), token);
    let job = town.begin(Method::PUT, &path, Value::Null).await;
    assert_eq!(job["kind"], "replace");
    let jobs = format!("{API}/jobs/{}", text(&job["id"]));
    let done = town.until_job(&job, "succeeded").await;
    assert_eq!(done["kind"], "replace");
    assert_ne!(town.rig.join_token(&node), token, "another host");
    town.call(Method::POST, &format!("{jobs}/cancel"), &Value::Null).await.problem(409);
    let after = town.view().await;
    let nodes = |view: &Value| -> Vec<(Value, Value, Value)> {
        let nodes = view["components"][0]["nodes"].as_array().expect("nodes");
        nodes.iter().map(|node| (node["id"].clone(), node["name"].clone(), node["ordinal"].clone())).collect()
    };
    assert_eq!(nodes(&after), nodes(&before));
    let agent = town.agents.iter().find(|agent| agent.node == node).expect("an agent");
    assert_eq!(
        (agent.incarnation, town.rig.hosts.hosts().len()),
        (4, 3),
        "that the old host is gone is one, the new one another, its enrolment a third"
    );
    // once more, and asking twice is asking once
    town.rig.hosts.held.send_replace(true);
    let again = town.begin(Method::PUT, &path, Value::Null).await;
    town.call(Method::PUT, &path, &Value::Null).await.problem(409);
    town.call(Method::POST, &format!("{API}/jobs/{}/cancel", text(&again["id"])), &Value::Null).await.problem(409);
    town.rig.hosts.held.send_replace(false);
    town.until_job(&again, "succeeded").await;
    let id = &town.topology;
    town.rig.delete(id).await;
    town.rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
}

#[tokio::test]
async fn many_who_grow_it_at_once_never_exceed_what_it_may_have() {
    let town = Town::new(1).await;
    let path = town.path();
    let body = json!({ "count": 2 });
    let mut answers = Vec::new();
    let all = (0..8).map(|_| town.call(Method::POST, &path, &body));
    for answer in futures_util::future::join_all(all).await {
        answers.push(answer.status);
    }
    answers.sort_unstable();
    assert_eq!(answers, [202, 202, 202, 202, 422, 422, 422, 422], "1 + 4 × 2 = 9 and no more");
    let spec = town.spec().await;
    assert_eq!(spec.want.groups[0].size, 9);
    let open = town.rig.get(&format!("{API}/jobs?topology={}&open=true", town.topology)).await;
    assert_eq!(open["items"].as_array().expect("items").len(), 1, "each took the place of the one before");
}
