//! The config repo over HTTP: refs in paths, checked writes, lost races, tags, history, origins.

use crate::rig::{Rig, TOPOLOGIES};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};

const ROOT: &str = "/straas/v1.0/configurations";
const USER: &str = "app/zookeeper/3.8.0/user.json";

async fn put(rig: &Rig, branch: &str, path: &str, content: &str, at: Option<&str>) -> Answer {
    let body = json!({ "content": content, "message": "a test" }).to_string().into_bytes();
    let tag = at.map(|commit| format!("\"{commit}\""));
    let mut headers = vec![("x-auth-token", rig.token.as_str())];
    headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
    rig.raw(Method::PUT, &format!("{ROOT}/tree/{branch}/{path}"), &headers, body).await
}

async fn user(rig: &Rig, reference: &str) -> (String, String) {
    let node = rig.get(&format!("{ROOT}/tree/{reference}/{USER}")).await;
    let text = |key: &str| node[key].as_str().expect("text").to_owned();
    (text("content"), text("commit"))
}

#[tokio::test]
async fn folders_files_and_refs() {
    let rig = Rig::start().await;
    rig.create("demo", 3).await;
    let top = rig.get(&format!("{ROOT}/tree/master")).await;
    let names: Vec<&str> =
        top["entries"].as_array().expect("entries").iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(names, ["app", "metadata", "schema", "service"]);
    assert_eq!(top["type"], "folder");
    rig.until(&format!("{ROOT}/tree/demo@z1/{USER}"), |answer| answer.status == 200).await;
    let (content, commit) = user(&rig, "demo%40z1").await;
    assert_eq!(user(&rig, &commit).await, (content, commit));
    for (path, status) in [
        ("tree/other@z1", 404),
        ("tree/develop", 404),
        ("tree/master/app/nothing", 404),
        ("tree/master/..%2F..%2Fetc", 422),
        ("tree/demo@z1&nothing", 404),
        ("tree/demo@z1&..", 422),
        ("tree/refs%2Fheads%2Fmaster", 422),
        ("diff/master", 400),
        ("diff/master...other@z1", 404),
        ("log/master/../x", 422),
        ("effective/nobody", 404),
    ] {
        let answer = rig.call(Method::GET, &format!("{ROOT}/{path}"), vec![]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_value_is_changed_tagged_compared_and_explained() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    rig.until(&format!("{ROOT}/tree/demo@z1/{USER}"), |answer| answer.status == 200).await;
    let (content, before) = user(&rig, "demo@z1").await;
    let tag = rig.post(&format!("{ROOT}/tree/demo@z1/tags"), &json!({ "tag": "v1", "message": "as made" })).await;
    assert_eq!((tag.status, tag.json()["ref"].clone()), (201, json!("demo@z1&v1")), "{}", tag.text());
    let again = rig.post(&format!("{ROOT}/tree/demo@z1/tags"), &json!({ "tag": "v1", "message": "m" })).await;
    assert_eq!(again.status, 409);
    let changed = content.replacen("\"2000\"", "\"2500\"", 1);
    let done = put(&rig, "demo@z1", USER, &changed, Some(&before)).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let commit = done.json()["commit"].as_str().expect("a commit").to_owned();
    // whoever has not seen it does not write over it
    let lost = put(&rig, "demo@z1", USER, &content, Some(&before)).await;
    assert_eq!(lost.status, 412, "{}", lost.text());
    assert!(lost.text().contains(&commit), "{}", lost.text());
    let diff = rig.get(&format!("{ROOT}/diff/demo@z1&v1...demo@z1")).await;
    let key = &diff["files"][0]["keys"][0];
    assert_eq!((&key["key"], &key["old"], &key["new"]), (&json!("tickTime"), &json!("2000"), &json!("2500")));
    let log = rig.get(&format!("{ROOT}/log/demo@z1/{USER}?limit=1")).await;
    assert_eq!((&log["items"][0]["commit"], &log["items"][0]["message"]), (&json!(commit), &json!("a test")));
    // what the component has is what it was made with, until it is told to take it up
    let topology = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    let component = topology["components"][0]["id"].as_str().expect("an id");
    let effective = rig.get(&format!("{ROOT}/effective/{component}")).await;
    assert_eq!((&effective["commit"], &effective["head"]), (&json!(before), &json!(commit)));
    let values = effective["values"].as_array().expect("values");
    let tick: &Value = values.iter().find(|v| v["key"] == "tickTime").expect("tickTime");
    assert_eq!((&tick["value"], &tick["settable"]), (&json!(2000), &json!(true)));
    let gone = rig.call(Method::DELETE, &format!("{ROOT}/tree/demo@z1/tags/v1"), vec![]).await;
    assert_eq!(gone.status, 204);
    assert_eq!(rig.get(&format!("{ROOT}/tree/demo@z1/tags")).await["items"], json!([]));
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let rig = Rig::start().await;
    rig.create("demo", 3).await;
    rig.until(&format!("{ROOT}/tree/demo@z1/{USER}"), |answer| answer.status == 200).await;
    let (content, before) = user(&rig, "demo@z1").await;
    let bad = content.replacen("\"2000\"", "\"soon\"", 1).replacen("\"10\"", "\"-1\"", 1);
    let answer = put(&rig, "demo@z1", USER, &bad, None).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.json()["errors"].as_array().expect("errors").len() >= 2, "{}", answer.text());
    for (branch, path, status) in [
        ("demo@z1", "metadata/zookeeper.json", 422),
        ("demo@z1", "app/zookeeper/3.8.0/default.json", 422),
        ("demo@z1", "app/zookeeper/9.9/user.json", 404),
        ("demo@z1&v1", USER, 422),
        ("other@z1", USER, 404),
    ] {
        let answer = put(&rig, branch, path, &content, None).await;
        assert_eq!(answer.status, status, "{branch} {path}: {}", answer.text());
    }
    assert_eq!(user(&rig, "demo@z1").await, (content, before));
}
