//! Requests that name themselves: asked again they are answered as the first time and change nothing,
//! also while the first is at work, after a restart, and when nobody heard the first answer.

use crate::commands::{end, list, order, working};
use crate::rig::{Rig, TOPOLOGIES, topology};
use crate::wire::{Answer, request, send};
use http::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};
use straas_schemas::command::CommandOutcome;

const V1: &str = "/straas/v1.0";

async fn named(rig: &Rig, key: &str, path: &str, body: &Value) -> Answer {
    let headers = [("x-auth-token", rig.token.as_str()), ("idempotency-key", key)];
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    rig.raw(Method::POST, path, &headers, body).await
}

/// Behind the controller's back.
async fn behind(rig: &Rig, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(rig.data().join("straas.db"));
    options.connect().await.expect("the database").execute(statement).await.expect("executed");
}

fn same(first: &Answer, again: &Answer) {
    assert!((200..300).contains(&first.status), "{}", first.text());
    assert_eq!((first.status, first.text()), (again.status, again.text()));
    for name in ["location", "content-type", "etag", "cache-control"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), ("", "true"));
}

#[tokio::test]
async fn whatever_makes_something_makes_it_once() {
    let mut rig = Rig::start().await;
    let (id, agents) = working(&rig, 1).await;
    let seen = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    let component = seen["components"][0]["id"].as_str().expect("an id").to_owned();
    let node = agents[0].node.clone();
    let more = json!({ "name": "zk2", "type": "zookeeper", "size": 1 });
    let posts = [
        (TOPOLOGIES.to_owned(), topology("second")),
        (format!("{TOPOLOGIES}/{id}/components"), more),
        (format!("{TOPOLOGIES}/{id}/commands"), list()),
        (format!("{V1}/components/{component}/commands"), list()),
        (format!("{V1}/components/{component}/dependencies"), json!({ "depends_on": [] })),
        (format!("{V1}/components/{component}"), json!({ "count": 2 })),
        (format!("{V1}/components/{component}/services"), Value::Null),
        (format!("{V1}/nodes/{node}/services"), Value::Null),
        (format!("{V1}/nodes/{node}/commands"), list()),
        (format!("{V1}/configurations/tree/demo@z1/tags"), json!({ "tag": "t1", "message": "m" })),
        (format!("{V1}/tenants"), json!({ "id": "red" })),
        (format!("{V1}/users"), json!({ "name": "ann", "tenants": { "red": "member" } })),
        (format!("{V1}/tokens"), json!({ "label": "program", "tenant": "red" })),
    ];
    let mut first = Vec::new();
    for (number, (path, body)) in posts.iter().enumerate() {
        first.push(named(&rig, &format!("k{number}"), path, body).await);
    }
    let counts = async |rig: &Rig| {
        let mut counts = Vec::new();
        for place in ["jobs", "commands", "users", "tenants", "tokens"] {
            counts.push(rig.get(&format!("{V1}/{place}?limit=500")).await["items"].as_array().expect("items").len());
        }
        counts
    };
    let before = counts(&rig).await;
    // asked again at once, and of a controller that was started anew
    for restarted in [false, true] {
        if restarted {
            rig.down().await.expect("stopped");
            rig.up().await;
        }
        for (number, (path, body)) in posts.iter().enumerate() {
            same(&first[number], &named(&rig, &format!("k{number}"), path, body).await);
        }
    }
    assert_eq!(counts(&rig).await, before);
    let size = rig.get(&format!("{V1}/components/{component}")).await["nodes"].as_array().map(Vec::len);
    assert!(size.is_some_and(|size| size <= 3), "grown once: {size:?}");
    // another path or body under the same name
    for (path, body) in [(&posts[0].0, topology("third")), (&posts[1].0, topology("second"))] {
        let refused = named(&rig, "k0", path, &body).await;
        refused.problem(422);
        assert_eq!(refused.json()["type"], "straas:key-reused");
    }
    // another tenant's request of the same name is another
    let red = first[12].json()["token"].as_str().expect("a token").to_owned();
    let headers = [("x-auth-token", red.as_str()), ("idempotency-key", "k0")];
    let other = rig.raw(Method::POST, TOPOLOGIES, &headers, topology("red").to_string().into_bytes()).await;
    assert_eq!(other.status, 202, "{}", other.text());
}

#[tokio::test]
async fn what_changed_nothing_is_not_kept() {
    let rig = Rig::start().await;
    let dry = format!("{TOPOLOGIES}?dry_run=true");
    assert_eq!(named(&rig, "k", &dry, &topology("demo")).await.status, 200);
    named(&rig, "k", TOPOLOGIES, &json!({})).await.problem(422);
    assert_eq!(named(&rig, "k", TOPOLOGIES, &topology("demo")).await.status, 202);
    for key in ["", &"x".repeat(129), "ä"] {
        named(&rig, key, TOPOLOGIES, &topology("other")).await.problem(400);
    }
    // of a body that is not read twice the query has to say what it is
    named(&rig, "jar", "/straas/stormjar/x?main_class=M", &json!("a jar")).await.problem(422);
}

#[tokio::test]
async fn while_the_first_is_at_work_others_wait_and_its_caller_may_go() {
    let rig = Rig::start().await;
    let (id, mut agents) = working(&rig, 1).await;
    let component = rig.get(&format!("{TOPOLOGIES}/{id}")).await["components"][0]["id"].clone();
    let path = format!("/straas/guestcmd/{}/demo-zk-1", component.as_str().expect("an id"));
    let headers = [("x-auth-token", rig.token.as_str()), ("idempotency-key", "k")];
    let body = list().to_string().into_bytes();
    let first = tokio::spawn(send(rig.connect().await, request(Method::POST, &path, &headers, body)));
    let asked = order(&agents[0], &[]).await.id.to_string();
    let again = named(&rig, "k", &path, &list()).await;
    again.problem(409);
    assert_eq!(again.json()["type"], "straas:in-progress");
    assert!(again.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=15).contains(&seconds)));
    // who asked goes; what he asked for does not
    first.abort();
    agents[0].report(end(&asked, CommandOutcome::Succeeded)).await;
    let answer = loop {
        let answer = named(&rig, "k", &path, &list()).await;
        if answer.status != 409 {
            break answer;
        }
        // waits for: the answer to be kept, which shows in this answer only
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(
        (answer.status, &answer.json()["id"], &answer.json()["state"]),
        (200, &json!(asked), &json!("succeeded"))
    );
    assert_eq!(rig.get(&format!("{V1}/commands")).await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn one_that_died_before_it_answered_is_told_of_what_it_made() {
    let rig = Rig::start().await;
    let made = named(&rig, "made", TOPOLOGIES, &topology("demo")).await;
    let user = json!({ "name": "ann" });
    assert_eq!(named(&rig, "user", &format!("{V1}/users"), &user).await.status, 201);
    behind(&rig, "update request set answer = null, until_ms = 0").await;
    let again = named(&rig, "made", TOPOLOGIES, &topology("demo")).await;
    assert_eq!((again.status, again.header("location")), (202, made.header("location")));
    assert_eq!((&again.json()["id"], &again.json()["job"]["id"]), (&made.json()["id"], &made.json()["job"]["id"]));
    let told = named(&rig, "user", &format!("{V1}/users"), &user).await;
    told.problem(409);
    assert!(told.text().contains("/straas/v1.0/users/ann"), "{}", told.text());
    // it died before it changed anything: it is carried out
    behind(&rig, "update request set answer = null, made = null, until_ms = 0").await;
    rig.call(Method::DELETE, &format!("{V1}/users/ann"), vec![]).await;
    assert_eq!(named(&rig, "user", &format!("{V1}/users"), &user).await.status, 201);
}

#[tokio::test]
async fn a_secret_is_told_again_to_who_asked_for_it_and_to_nobody_else() {
    let rig = Rig::start().await;
    let path = format!("{V1}/tokens");
    let body = json!({ "label": "program" });
    let first = named(&rig, "k", &path, &body).await;
    same(&first, &named(&rig, "k", &path, &body).await);
    let secret = first.json()["token"].as_str().expect("a token").to_owned();
    for file in ["straas.db", "straas.db-wal"] {
        let bytes = std::fs::read(rig.data().join(file)).unwrap_or_default();
        let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!there, "the token is in {file}");
    }
    // of the same tenant, with another token
    let headers = [("x-auth-token", secret.as_str()), ("idempotency-key", "k")];
    let other = rig.raw(Method::POST, &path, &headers, body.to_string().into_bytes()).await;
    other.problem(409);
    assert!(!other.text().contains(&secret));
}
