//! The audit trail: who changed what, when, from where, with what outcome; and nothing secret in it.

use crate::rig::{Rig, TOPOLOGIES, topology};
use http::Method;
use serde_json::{Value, json};

const V1: &str = "/straas/v1.0";

async fn trail(rig: &Rig, query: &str) -> Vec<Value> {
    let answer = rig.get(&format!("{V1}/audit?{query}")).await;
    answer["items"].as_array().expect("items").clone()
}

#[tokio::test]
async fn every_mutation_leaves_a_line() {
    let rig = Rig::start().await;
    let body = topology("demo").to_string().into_bytes();
    let headers = [("x-auth-token", rig.token.as_str()), ("x-request-id", "mine-1")];
    let made = rig.raw(Method::POST, TOPOLOGIES, &headers, body.clone()).await;
    assert_eq!((made.status, made.header("x-request-id")), (202, "mine-1"));
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let seen = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    let component = seen["components"][0]["id"].as_str().expect("an id").to_owned();
    // what changes nothing leaves nothing: reading, dry runs, strangers
    let dry = rig.call(Method::DELETE, &format!("{TOPOLOGIES}/{id}?dry_run=true"), vec![]).await;
    assert_eq!(dry.status, 200);
    rig.raw(Method::DELETE, &format!("{TOPOLOGIES}/{id}"), &[], vec![]).await.problem(401);
    let patch = json!({ "size": 5 }).to_string().into_bytes();
    assert_eq!(rig.call(Method::PATCH, &format!("{V1}/components/{component}"), patch).await.status, 202);
    // a refusal for the body's sake is the outcome of a request that might have changed something
    rig.call(Method::POST, TOPOLOGIES, b"{".to_vec()).await.problem(400);

    let lines = trail(&rig, "").await;
    let told: Vec<_> =
        lines.iter().map(|line| (line["method"].as_str().expect("a method"), line["status"].as_u64())).collect();
    assert_eq!(told, [("POST", Some(400)), ("PATCH", Some(202)), ("POST", Some(202))], "newest first: {lines:#?}");
    let (changed, created) = (&lines[1], &lines[2]);
    assert_eq!(created["request_id"], "mine-1");
    assert_eq!(
        (&created["caller"], &created["tenant"], &created["source"]),
        (&json!("admin"), &json!("admin"), &json!("127.0.0.1"))
    );
    assert_eq!((&created["topology"], &created["path"]), (&json!(id), &json!(TOPOLOGIES)));
    assert_eq!(created["changes"][0]["what"], "topology demo");
    let change = &changed["changes"][0];
    assert_eq!(change["what"], "component zk");
    assert!(change["before"].to_string().contains("\"size\":3"), "{change}");
    assert!(change["after"].to_string().contains("\"size\":5"), "{change}");
    assert!(
        !change["after"].to_string().contains("zookeeper@") && change["after"]["type"].is_null(),
        "only what differs: {change}"
    );
    // filters and pages
    assert_eq!(trail(&rig, &format!("topology={id}")).await.len(), 2);
    assert_eq!(trail(&rig, "caller=nobody").await.len(), 0);
    let at = changed["at_ms"].as_i64().expect("a time");
    assert_eq!(
        trail(&rig, &format!("until_ms={at}&caller=admin")).await.first().map(|line| &line["request_id"]),
        Some(&json!("mine-1"))
    );
    let first = rig.get(&format!("{V1}/audit?limit=1")).await;
    let second = rig.get(&format!("{V1}/audit?limit=1&marker={}", first["next"].as_str().expect("more"))).await;
    assert_eq!(second["items"][0], *changed);
    rig.call(Method::GET, &format!("{V1}/audit?marker=x"), vec![]).await.problem(422);
    // an id that could not stand in a log is not taken over
    let odd = rig.raw(Method::GET, TOPOLOGIES, &[("x-auth-token", &rig.token), ("x-request-id", "a b")], vec![]).await;
    assert!(odd.header("x-request-id").len() == 36, "{}", odd.header("x-request-id"));
}

#[tokio::test]
async fn secrets_stay_out_and_tenants_see_their_own() {
    let rig = Rig::start().await;
    rig.post(&format!("{V1}/tenants"), &json!({ "id": "red" })).await;
    rig.post(&format!("{V1}/users"), &json!({ "name": "ann", "password": "open sesame" })).await;
    let password = json!({ "password": "another one" }).to_string().into_bytes();
    rig.call(Method::PUT, &format!("{V1}/users/ann/password"), password).await;
    let token = rig.post(&format!("{V1}/tokens"), &json!({ "label": "ci", "tenant": "red" })).await.json();
    let token = token["token"].as_str().expect("a token");
    let made =
        rig.raw(Method::POST, TOPOLOGIES, &[("x-auth-token", token)], topology("reds").to_string().into_bytes()).await;
    assert_eq!(made.status, 202, "{}", made.text());

    let all = rig.get(&format!("{V1}/audit?all_tenants=true")).await;
    for secret in ["open sesame", "another one", token, "argon2"] {
        assert!(!all.to_string().contains(secret), "{secret} is in the trail");
    }
    assert_eq!(all["items"].as_array().expect("items").len(), 5, "{all:#}");
    let own = rig.raw(Method::GET, &format!("{V1}/audit"), &[("x-auth-token", token)], vec![]).await.json();
    let lines = own["items"].as_array().expect("items");
    assert_eq!((lines.len(), &lines[0]["caller"]), (1, &json!("ci")));
    rig.raw(Method::GET, &format!("{V1}/audit?all_tenants=true"), &[("x-auth-token", token)], vec![])
        .await
        .problem(403);
}
