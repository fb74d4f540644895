//! The config repo over HTTP: refs in paths, checked writes, lost races, tags, history, origins.

use crate::life::{Town, text};
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

#[tokio::test]
async fn a_default_that_moved_is_taken_up_when_it_is_wanted() {
    let mut town = Town::new(1).await;
    let updates = format!("/straas/v1.0/configurations/updates/{}", town.component);
    assert_eq!(town.rig.get(&updates).await["moved"], json!([]));
    // the platform's own value, which no tenant may set, moves
    let path = "/straas/v1.0/configurations/tree/master/app/zookeeper/3.8.0/default.json";
    let content = text(&town.rig.get(path).await["content"]);
    let mut file: Value = serde_json::from_str(&content).expect("json");
    let settable = user(&town.rig, "master").await.0;
    let options = file["content"]
        .as_array_mut()
        .expect("sections")
        .iter_mut()
        .flat_map(|section| section["options"].as_array_mut().expect("options").iter_mut());
    let mut theirs =
        options.filter(|option| option["type"] != "boolean" && !settable.contains(&option["key"].to_string()));
    let option = theirs.next().expect("a value that only the platform sets");
    let (key, was) = (text(&option["key"]), text(&option["value"]));
    let now = was.parse::<u32>().map_or_else(|_| format!("{was}x"), |number| (number + 1).to_string());
    option["value"] = json!(now);
    let body = json!({ "content": file.to_string(), "message": "another default" });
    let written = town.call(Method::PUT, path, &body).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let seen = town.rig.get(&updates).await;
    let moved = seen["moved"].as_array().expect("a list").iter().find(|moved| moved["key"] == key).cloned();
    let moved = moved.unwrap_or_else(|| panic!("{key} did not move: {seen:#}"));
    assert_eq!(moved["now"], now, "{seen:#}");
    let dry = town.call(Method::POST, &format!("{updates}?dry_run=true"), &Value::Null).await.json();
    assert_eq!((&dry["commit"], &dry["moved"]), (&seen["commit"], &seen["moved"]));
    let taken = town.call(Method::POST, &updates, &Value::Null).await.json();
    assert_ne!(taken["commit"], seen["commit"]);
    assert_eq!((&taken["moved"], &town.rig.get(&updates).await["moved"]), (&seen["moved"], &json!([])));
    // nothing happens to nodes until that is asked for
    let config = town.spec().await.want.config;
    assert_ne!(json!(config), taken["commit"]);
    let apply = format!("{}/tree/{}", town.path(), text(&taken["commit"]));
    let job = town.begin(Method::PUT, &apply, Value::Null).await;
    town.until_job(&job, "succeeded").await;
    let blame = "/straas/v1.0/configurations/blame/town@z1/app/zookeeper/3.8.0/default.json";
    let blame = town.rig.get(blame).await;
    let value = blame["values"].as_array().expect("a list").iter().find(|value| value["key"] == key).cloned();
    let by = value.expect("the key")["set_by"].clone();
    assert!(text(&by["message"]).contains("take up the defaults of master"), "{by:#}");
    let none = "/straas/v1.0/configurations/blame/master/metadata/zookeeper.json";
    town.call(Method::GET, none, &Value::Null).await.problem(422);
}
