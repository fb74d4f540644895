//! What was read, and whether it is still so: `If-None-Match` for readers, `If-Match` for writers.

use crate::agent::live;
use crate::rig::{Rig, TOPOLOGIES};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};

const V1: &str = "/straas/v1.0";
const USER_JSON: &str = "/straas/v1.0/configurations/tree/demo@z1/app/zookeeper/3.8.0/user.json";

async fn with(rig: &Rig, method: Method, path: &str, header: (&str, &str), body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    rig.raw(method, path, &[("x-auth-token", &rig.token), header], body).await
}

async fn tag(rig: &Rig, path: &str) -> String {
    let answer = rig.call(Method::GET, path, vec![]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let tag = answer.header("etag").to_owned();
    assert!(tag.len() > 4 && tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag:?}");
    tag
}

/// What of an ETag a writer is held to.
fn wanted(tag: &str) -> &str {
    tag.trim_matches('"').split('.').next().expect("a part")
}

struct Scene {
    rig: Rig,
    topology: String,
    component: String,
    node: String,
    agents: Vec<crate::agent::Agent>,
}

async fn scene() -> Scene {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    let seen = live(&rig, &mut agents, &id, "ACTIVE").await;
    rig.until(&format!("{V1}/jobs"), |answer| answer.json()["items"][0]["state"] == "succeeded").await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Scene {
        topology: format!("{TOPOLOGIES}/{id}"),
        component: format!("{V1}/components/{}", text(&seen["components"][0]["id"])),
        node: format!("{V1}/nodes/{}", text(&seen["components"][0]["nodes"][0]["id"])),
        rig,
        agents,
    }
}

#[tokio::test]
async fn a_reader_who_has_it_is_told_so_and_heartbeats_change_nothing() {
    let Scene { rig, topology, component, node, mut agents } = scene().await;
    assert_eq!(rig.post(&format!("{V1}/users"), &json!({ "name": "ann" })).await.status, 201);
    let job = rig.get(&format!("{V1}/jobs")).await["items"][0]["id"].as_str().expect("an id").to_owned();
    let paths = [
        topology.clone(),
        component.clone(),
        node.clone(),
        format!("{V1}/jobs/{job}"),
        format!("{V1}/jobs"),
        format!("{V1}/topologies"),
        format!("{V1}/nodes"),
        format!("{V1}/users/ann"),
        format!("{V1}/users"),
        format!("{V1}/tenants"),
        format!("{V1}/configurations/tree/demo@z1"),
        format!("{V1}/configurations/tree/demo@z1/tags"),
        USER_JSON.to_owned(),
        "/straas/".to_owned(),
        "/straas/demo".to_owned(),
    ];
    let mut tags = Vec::new();
    for path in &paths {
        tags.push(tag(&rig, path).await);
    }
    // a heartbeat is written: its time and its numbers are shown, and are not what an ETag is of
    let before = rig.get(&node).await["seen_ms"].clone();
    agents[0].heartbeat().await;
    rig.until(&node, |answer| answer.json()["seen_ms"] != before).await;
    for (path, tag) in paths.iter().zip(&tags) {
        for header in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let answer = with(&rig, Method::GET, path, ("if-none-match", &header), &Value::Null).await;
            let expect = if header == "*" { 200 } else { 304 };
            assert_eq!((answer.status, answer.header("etag")), (expect, tag.as_str()), "{path} {header}");
            assert_eq!(answer.body.is_empty(), expect == 304, "{path}");
        }
        assert_eq!(with(&rig, Method::GET, path, ("if-none-match", "\"other\""), &Value::Null).await.status, 200);
    }
    // another state of a node is told to readers, and refuses no writer
    agents[0].facts.insert("mode".to_owned(), json!("leader"));
    agents[0].heartbeat().await;
    let changed = rig.until(&topology, |answer| answer.header("etag") != tags[0]).await;
    assert_eq!(wanted(changed.header("etag")), wanted(&tags[0]));
    with(&rig, Method::GET, &topology, ("if-none-match", ""), &Value::Null).await.problem(400);
}

#[tokio::test]
async fn a_writer_changes_what_he_saw_and_nothing_else() {
    let Scene { rig, topology, component, node, .. } = scene().await;
    let first = (tag(&rig, &topology).await, tag(&rig, &component).await, tag(&rig, &node).await);
    let grow = json!({ "size": 3 });
    let dry = format!("{component}?dry_run=true");
    assert_eq!(with(&rig, Method::PATCH, &dry, ("if-match", &first.1), &grow).await.status, 200);
    assert_eq!(with(&rig, Method::PATCH, &component, ("if-match", &first.1), &grow).await.status, 202);
    let refused = with(&rig, Method::PATCH, &component, ("if-match", &first.1), &json!({ "size": 5 })).await;
    refused.problem(412);
    assert!(refused.text().contains("sizes changed since"), "{}", refused.text());
    let second = tag(&rig, &component).await;
    assert_eq!(wanted(refused.header("etag")), wanted(&second), "what it is now");
    // every change that a component and a node know is held to it
    let services = |of: &str| format!("{of}/services");
    for (method, path, stale, body) in [
        (Method::POST, component.clone(), &first.1, json!({ "count": 2 })),
        (Method::DELETE, component.clone(), &first.1, Value::Null),
        (Method::POST, services(&component), &first.1, Value::Null),
        (Method::DELETE, services(&component), &first.1, Value::Null),
        (Method::PUT, services(&component), &first.1, Value::Null),
        (Method::PUT, format!("{component}/tree/demo@z1"), &first.1, Value::Null),
        (Method::POST, format!("{component}/dependencies"), &first.1, json!({ "depends_on": [] })),
        (Method::DELETE, topology.clone(), &first.0, Value::Null),
        (Method::PUT, node.clone(), &first.1, Value::Null),
        (Method::DELETE, node.clone(), &first.1, Value::Null),
        (Method::DELETE, services(&node), &first.1, Value::Null),
    ] {
        let refused = with(&rig, method.clone(), &path, ("if-match", stale), &body).await;
        assert_eq!(refused.status, 412, "{method} {path}: {}", refused.text());
    }
    // the node is as it was: others joined
    assert_eq!(wanted(&tag(&rig, &node).await), wanted(&first.2));
    assert_eq!(with(&rig, Method::DELETE, &services(&node), ("if-match", &first.2), &Value::Null).await.status, 202);
    let refused = with(&rig, Method::PUT, &node, ("if-match", &first.2), &Value::Null).await;
    refused.problem(412);
    assert!(refused.text().contains("services changed since"), "{}", refused.text());
    let any = with(&rig, Method::PUT, &node, ("if-match", "\"other\", *"), &Value::Null).await;
    assert_eq!(any.status, 202, "{}", any.text());
    // what has no ETag is not passed over
    for (method, path) in [(Method::POST, TOPOLOGIES.to_owned()), (Method::DELETE, format!("{V1}/tenants/x"))] {
        with(&rig, method, &path, ("if-match", "\"a\""), &json!({})).await.problem(412);
    }
    let now = tag(&rig, &topology).await;
    assert_eq!(with(&rig, Method::DELETE, &topology, ("if-match", &now), &Value::Null).await.status, 202);
    let again = with(&rig, Method::DELETE, &topology, ("if-match", &now), &Value::Null).await;
    again.problem(412);
    assert!(again.text().contains("deletion"), "{}", again.text());
}

/// Of many who saw the same, one wins, and each of the others is told what it is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_wins() {
    let Scene { rig, topology, component, .. } = scene().await;
    let seen = tag(&rig, &component).await;
    let ask = |size: u32| {
        let (rig, component, seen) = (&rig, &component, &seen);
        async move { with(rig, Method::PATCH, component, ("if-match", seen), &json!({ "size": size })).await.status }
    };
    let asked = tokio::join!(ask(3), ask(5), ask(3), ask(5), ask(3), ask(5));
    let mut asked = [asked.0, asked.1, asked.2, asked.3, asked.4, asked.5];
    asked.sort_unstable();
    assert_eq!(asked, [202, 412, 412, 412, 412, 412]);
    // two writers of one file
    let file = rig.get(USER_JSON).await;
    let commit = tag(&rig, USER_JSON).await;
    let write = |value: &'static str| {
        let content = file["content"].as_str().expect("a text").replacen("2000", value, 1);
        let (rig, commit) = (&rig, &commit);
        async move {
            let body = json!({ "content": content, "message": "mine" });
            with(rig, Method::PUT, USER_JSON, ("if-match", commit), &body).await
        }
    };
    let written = tokio::join!(write("2500"), write("3000"), write("3500"));
    let (won, lost): (Vec<_>, Vec<_>) =
        [written.0, written.1, written.2].into_iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 2));
    for lost in lost {
        lost.problem(412);
        assert_eq!(lost.header("etag"), won[0].header("etag"), "where the branch is now");
        assert_eq!(won[0].header("etag"), format!("\"{}\"", won[0].json()["commit"].as_str().expect("a commit")));
    }
    assert_eq!(tag(&rig, USER_JSON).await, won[0].header("etag"));
    // a tag of a branch stays that of its commit
    let tags = format!("{V1}/configurations/tree/demo@z1/tags");
    let made = rig.post(&tags, &json!({ "tag": "t", "message": "m" })).await;
    let stays = with(&rig, Method::DELETE, &format!("{tags}/t"), ("if-match", &commit), &Value::Null).await;
    stays.problem(412);
    let now = format!("\"{}\"", made.json()["commit"].as_str().expect("a commit"));
    assert_eq!(stays.header("etag"), now);
    assert_eq!(with(&rig, Method::DELETE, &format!("{tags}/t"), ("if-match", &now), &Value::Null).await.status, 204);
    drop(topology);
}

#[tokio::test]
async fn users_are_changed_as_they_were_seen() {
    let rig = Rig::start().await;
    assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": "red" })).await.status, 201);
    assert_eq!(rig.post(&format!("{V1}/users"), &json!({ "name": "ann" })).await.status, 201);
    let ann = format!("{V1}/users/ann");
    let first = tag(&rig, &ann).await;
    let password = (Method::PUT, format!("{ann}/password"), json!({ "password": "open sesame" }));
    let role = (Method::PUT, format!("{ann}/tenants/red"), json!({ "role": "member" }));
    let end = (Method::DELETE, format!("{ann}/tenants/red"), Value::Null);
    let away = (Method::DELETE, ann.clone(), Value::Null);
    // a password is not shown, but changes what a client could change
    for (method, path, body) in [password, role, end, away] {
        let seen = tag(&rig, &ann).await;
        if seen != first {
            with(&rig, method.clone(), &path, ("if-match", &first), &body).await.problem(412);
        }
        let done = with(&rig, method, &path, ("if-match", &seen), &body).await;
        assert_eq!(done.status, 204, "{path}: {}", done.text());
    }
    with(&rig, Method::DELETE, &ann, ("if-match", &first), &Value::Null).await.problem(404);
}

#[tokio::test]
async fn a_model_is_synced_and_removed_as_it_was_seen() {
    let Scene { rig, topology, component, .. } = scene().await;
    let cms = format!("{topology}/cms");
    let made = rig.call(Method::POST, &cms, vec![]).await;
    let first = tag(&rig, &cms).await;
    assert_eq!((made.status, made.header("etag")), (201, first.as_str()));
    // the topology goes on: a reader is told that the model is stale, and a writer is not refused for it
    assert_eq!(rig.call(Method::PATCH, &component, json!({ "size": 3 }).to_string().into_bytes()).await.status, 202);
    let stale = rig.until(&cms, |answer| answer.json()["in_sync"] == false).await;
    assert!(stale.header("etag") != first && wanted(stale.header("etag")) == wanted(&first));
    let (one, two, three) = tokio::join!(
        with(&rig, Method::PUT, &cms, ("if-match", &first), &Value::Null),
        with(&rig, Method::PUT, &cms, ("if-match", &first), &Value::Null),
        with(&rig, Method::PUT, &cms, ("if-match", &first), &Value::Null),
    );
    let (won, lost): (Vec<_>, Vec<_>) = [one, two, three].into_iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 2));
    let second = tag(&rig, &cms).await;
    assert_eq!(wanted(won[0].header("etag")), wanted(&second));
    for lost in lost {
        lost.problem(412);
        assert_eq!(wanted(lost.header("etag")), wanted(&second), "what it is now");
    }
    with(&rig, Method::DELETE, &cms, ("if-match", &first), &Value::Null).await.problem(412);
    assert_eq!(with(&rig, Method::DELETE, &cms, ("if-match", &second), &Value::Null).await.status, 204);
    with(&rig, Method::DELETE, &cms, ("if-match", &second), &Value::Null).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_replaced_and_removed_as_it_was_seen() {
    let rig = Rig::start().await;
    let file = format!("{V1}/storage/local/regions/z1/jars/a");
    let of = |content: &str| format!("\"{}\"", straas_schemas::Digest::sha256(content.as_bytes()));
    let put = async |content: &str, header: (&str, &str)| {
        let headers = [("x-auth-token", rig.token.as_str()), header];
        rig.raw(Method::POST, &file, &headers, content.as_bytes().to_vec()).await
    };
    for (header, value) in [("if-match", "*"), ("if-match", of("one").as_str())] {
        let none = put("one", (header, value)).await;
        none.problem(412);
        assert_eq!(none.header("etag"), "", "there is none");
    }
    let made = tokio::join!(
        put("one", ("if-none-match", "*")),
        put("two", ("if-none-match", "*")),
        put("three", ("if-none-match", "*"))
    );
    let (won, lost): (Vec<_>, Vec<_>) = [made.0, made.1, made.2].into_iter().partition(|answer| answer.status == 201);
    assert_eq!((won.len(), lost.len()), (1, 2));
    let first = won[0].header("etag").to_owned();
    for lost in lost {
        lost.problem(412);
        assert_eq!(lost.header("etag"), first, "what is there");
    }
    let content = format!("{file}?content=true");
    assert_eq!(tag(&rig, &content).await, first);
    assert_eq!(with(&rig, Method::GET, &content, ("if-none-match", &first), &Value::Null).await.status, 304);
    let replaced = put("four", ("if-match", &first)).await;
    assert_eq!((replaced.status, replaced.header("etag")), (200, of("four").as_str()), "{}", replaced.text());
    let late = put("five", ("if-match", &first)).await;
    late.problem(412);
    assert_eq!(late.header("etag"), of("four"));
    let kept = with(&rig, Method::DELETE, &file, ("if-match", &first), &Value::Null).await;
    kept.problem(412);
    assert_eq!(kept.header("etag"), of("four"));
    assert_eq!(rig.call(Method::GET, &content, vec![]).await.text(), "four");
    assert_eq!(with(&rig, Method::DELETE, &file, ("if-match", &of("four")), &Value::Null).await.status, 204);
    with(&rig, Method::DELETE, &file, ("if-match", "*"), &Value::Null).await.problem(404);
}
