//! Health, models for configuration management, flavors, discovery.

use crate::life::{API, Town, text};
use crate::rig::TOPOLOGIES;
use http::Method;
use serde_json::{Value, json};

async fn health(town: &Town, node: &str) -> Value {
    town.rig.get(&format!("{API}/nodes/{node}")).await["health"].clone()
}

#[tokio::test]
async fn both_health_checks_have_their_word() {
    let mut town = Town::new(3).await;
    let (one, two) = (town.node("town-zk-1").await, town.node("town-zk-2").await);
    // what is built in says so by itself
    let path = format!("{API}/nodes/{one}");
    let seen = town.rig.until(&path, |answer| answer.json()["health"]["status"] == "ACTIVE").await.json();
    assert_eq!(seen["health"]["source"], "straas");
    let token = json!({ "label": "prober", "tenant": "admin", "role": "health_check" });
    let token = town.rig.post(&format!("{API}/tokens"), &token).await.json();
    let prober = [("x-auth-token", token["token"].as_str().expect("a token"))];
    let report = format!("{}/status", town.path());
    let say = async |town: &Town, body: Value| {
        town.rig.raw(Method::POST, &report, &prober, body.to_string().into_bytes()).await
    };
    let said = say(&town, json!({ "town-zk-1": "INACTIVE", (two.as_str()): "UNREACHABLE" })).await;
    assert_eq!(said.status, 204, "{}", said.text());
    let found = health(&town, &one).await;
    assert_eq!((&found["status"], &found["source"]), (&json!("INACTIVE"), &json!("prober")));
    assert_eq!(health(&town, &two).await["status"], "UNREACHABLE");
    // nothing changed for what is built in: it does not talk the other one down
    town.live_once().await;
    assert_eq!(health(&town, &one).await["status"], "INACTIVE");
    // it speaks when it sees something new
    let stop = town.begin(Method::DELETE, &format!("{API}/nodes/{one}/services"), Value::Null).await;
    town.until_job(&stop, "succeeded").await;
    let seen = town.rig.until(&path, |answer| answer.json()["health"]["status"] == "SKIPPED").await.json();
    assert_eq!(seen["health"]["source"], "straas");
    for (body, status, pointer) in [
        (json!({ "town-zk-9": "ACTIVE" }), 422, "/town-zk-9"),
        (json!({ "town-zk-1": "FINE" }), 422, "/town-zk-1"),
        (json!({}), 422, ""),
        (json!([]), 422, ""),
    ] {
        let faults = say(&town, body.clone()).await.problem(status);
        assert_eq!(faults.keys().map(String::as_str).collect::<Vec<_>>(), [pointer], "{body}");
    }
}

#[tokio::test]
async fn a_model_is_made_goes_stale_and_is_synced() {
    let mut town = Town::new(1).await;
    for top in ["topologies", "typologies"] {
        let path = format!("{API}/{top}/{}/cms", town.topology);
        town.call(Method::GET, &path, &Value::Null).await.problem(404);
        town.call(Method::PUT, &path, &Value::Null).await.problem(404);
        town.call(Method::DELETE, &path, &Value::Null).await.problem(404);
        let made = town.call(Method::POST, &path, &Value::Null).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let model = made.json()["model"].clone();
        assert_eq!(
            (&model["name"], &model["components"][0]["nodes"][0]["name"]),
            (&json!("town"), &json!("town-zk-1"))
        );
        assert!(model["components"][0]["nodes"][0]["address"].is_string(), "{model:#}");
        town.call(Method::POST, &path, &Value::Null).await.problem(409);
        assert_eq!(town.rig.get(&path).await["in_sync"], true);
        if top == "topologies" {
            let job = town.begin(Method::POST, &town.path(), json!({ "count": 2 })).await;
            town.until_job(&job, "succeeded").await;
            let stale = town.rig.get(&path).await;
            let differs = json!(["/components/0/nodes/1", "/components/0/nodes/2"]);
            assert_eq!((&stale["in_sync"], &stale["differs"]), (&json!(false), &differs), "{stale:#}");
            let synced = town.call(Method::PUT, &path, &Value::Null).await.json();
            assert_eq!(
                (&synced["in_sync"], synced["model"]["components"][0]["nodes"].as_array().expect("nodes").len()),
                (&json!(true), 3)
            );
        }
        assert_eq!(town.call(Method::DELETE, &path, &Value::Null).await.status, 204);
    }
    town.call(Method::GET, &format!("{TOPOLOGIES}/nobody/cms"), &Value::Null).await.problem(404);
}

#[tokio::test]
async fn flavors_and_targets_are_told() {
    let town = Town::new(1).await;
    let flavors = town.rig.get(&format!("{API}/components/zookeeper/nova_flavors")).await;
    assert_eq!((&flavors["default"], &flavors["flavors"]["tiny"]["memory_mib"]), (&json!("tiny"), &json!(512)));
    town.call(Method::GET, &format!("{API}/components/{}/nova_flavors", town.component), &Value::Null)
        .await
        .problem(404);
    let targets = town.rig.get(&format!("{API}/discovery/prometheus")).await;
    let node = town.rig.get(&format!("{API}/nodes/{}", town.node("town-zk-1").await)).await;
    let expect = json!([{
        "targets": [format!("{}:9465", text(&node["address"]))],
        "labels": {
            "component": "zk", "node": "town-zk-1", "node_id": node["id"], "role": "zookeeper",
            "tenant": "admin", "topology": "town", "zone": "z1"
        }
    }]);
    assert_eq!(targets, expect);
    assert_eq!(town.rig.get(&format!("{API}/discovery/prometheus?all_tenants=true")).await, expect);
}
