//! Users, tenants and tokens: the three steps to a token, and how each ends.

use crate::logs;
use crate::rig::{Rig, TOPOLOGIES};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};

const V1: &str = "/straas/v1.0";

async fn with(rig: &Rig, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    rig.raw(method, &format!("{V1}{path}"), &[("x-auth-token", token)], body).await
}

async fn log_in(rig: &Rig, body: Value) -> Answer {
    rig.raw(Method::POST, &format!("{V1}/auth/tokens"), &[], body.to_string().into_bytes()).await
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()["token"].as_str().expect("a token").to_owned()
}

/// Two tenants, and Ann who is in both.
async fn people() -> Rig {
    let rig = Rig::start().await;
    for tenant in ["red", "blue"] {
        assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": tenant })).await.status, 201);
    }
    let ann = json!({ "name": "ann", "password": "open sesame", "tenants": { "red": "member", "blue": "operator" } });
    let made = rig.post(&format!("{V1}/users"), &ann).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains("sesame") && !made.text().contains("argon"), "{}", made.text());
    rig
}

#[tokio::test]
async fn from_a_password_to_a_tenant() {
    let rig = people().await;
    let bare = token(&log_in(&rig, json!({ "user": "ann", "password": "open sesame" })).await);
    with(&rig, &bare, Method::GET, "/topologies", None).await.problem(403);
    let tenants = with(&rig, &bare, Method::GET, "/auth/tenants", None).await.json();
    assert_eq!(tenants["items"], json!(["blue", "red"]));
    let red = token(&log_in(&rig, json!({ "token": bare, "tenant": "red" })).await);
    let who = with(&rig, &red, Method::GET, "/auth/token", None).await.json();
    assert_eq!(
        (&who["user"], &who["tenant"], &who["role"], &who["admin"]),
        (&json!("ann"), &json!("red"), &json!("member"), &json!(false))
    );
    let made = with(&rig, &red, Method::POST, "/topologies", Some(crate::rig::topology("reds"))).await;
    assert_eq!(made.status, 202, "{}", made.text());
    // the tenants' things are apart
    let blue = token(&log_in(&rig, json!({ "user": "ann", "password": "open sesame", "tenant": "blue" })).await);
    let count = async |token: &str, path: &str| {
        with(&rig, token, Method::GET, path, None).await.json()["items"].as_array().expect("items").len()
    };
    assert_eq!((count(&red, "/topologies").await, count(&blue, "/topologies").await), (1, 0));
    assert_eq!(count(&blue, "/topologies?all_tenants=true").await, 1, "an operator sees everybody's");
    // the header may have the old name
    let old = rig.raw(Method::GET, TOPOLOGIES, &[("token", &red)], vec![]).await;
    assert_eq!(old.status, 200);

    assert_eq!(with(&rig, &red, Method::DELETE, "/auth/token", None).await.status, 204);
    with(&rig, &red, Method::GET, "/auth/token", None).await.problem(401);
    assert_eq!(with(&rig, &bare, Method::GET, "/auth/token", None).await.status, 200, "the others go on");
}

#[tokio::test]
async fn a_commit_that_was_overheard_opens_nothing() {
    let rig = people().await;
    let made = async |tenant: &str| {
        token(&rig.post(&format!("{V1}/tokens"), &json!({ "label": tenant, "tenant": tenant })).await)
    };
    let (red, blue) = (made("red").await, made("blue").await);
    let reds = with(&rig, &red, Method::POST, "/topologies", Some(crate::rig::topology("reds"))).await;
    assert_eq!(reds.status, 202, "{}", reds.text());
    let file = "/configurations/tree/reds@z1/app/zookeeper/3.8.0/user.json";
    let content =
        with(&rig, &red, Method::GET, file, None).await.json()["content"].as_str().expect("a file").to_owned();
    let body = json!({ "content": format!("{content}\n"), "message": "mine" });
    let written = with(&rig, &red, Method::PUT, file, Some(body)).await;
    assert_eq!(written.status, 200, "{}", written.text());
    let commit = written.json()["commit"].as_str().expect("a commit").to_owned();
    let master = with(&rig, &red, Method::GET, "/configurations/tree/master", None).await.json()["commit"].clone();
    let master = master.as_str().expect("a commit");
    for path in [
        format!("/configurations/tree/{commit}"),
        format!("/configurations/log/{commit}"),
        format!("/configurations/diff/{master}...{commit}"),
    ] {
        with(&rig, &blue, Method::GET, &path, None).await.problem(404);
        assert_eq!(with(&rig, &red, Method::GET, &path, None).await.status, 200, "{path}");
    }
    assert_eq!(with(&rig, &blue, Method::GET, &format!("/configurations/tree/{master}"), None).await.status, 200);
}

#[tokio::test]
async fn wrong_words_let_nobody_in() {
    let rig = people().await;
    let wrong_password = log_in(&rig, json!({ "user": "ann", "password": "open" })).await;
    let no_user = log_in(&rig, json!({ "user": "nobody", "password": "open" })).await;
    wrong_password.problem(401);
    no_user.problem(401);
    assert_eq!(wrong_password.text(), no_user.text(), "who guesses learns nothing of which names there are");
    for body in [
        json!({ "user": "ann", "password": "open sesame", "tenant": "green" }),
        json!({ "token": "f".repeat(64), "tenant": "red" }),
        json!({ "token": rig.token, "tenant": "red" }),
    ] {
        log_in(&rig, body).await.problem(401);
    }
    for body in [
        json!({}),
        json!({ "user": "ann" }),
        json!({ "token": "x" }),
        json!({ "user": "ann", "password": "x", "token": "y", "tenant": "red" }),
        json!({ "user": "ann", "password": "x", "more": 1 }),
        json!({ "user": 7, "password": "x" }),
    ] {
        log_in(&rig, body).await.problem(422);
    }
    assert!(!logs::has("open sesame"), "a password is in the log");
}

#[tokio::test]
async fn bad_people_are_refused_with_every_fault() {
    let rig = people().await;
    let post = async |path: &str, body: Value| rig.post(&format!("{V1}{path}"), &body).await;
    assert!(post("/tenants", json!({ "id": "Not/This" })).await.problem(422).contains_key("/id"));
    post("/tenants", json!({ "id": "red" })).await.problem(409);
    let short = post("/users", json!({ "name": "bob", "password": "short", "tenants": { "red": "king" } })).await;
    let faults = short.problem(422);
    assert!(faults.contains_key("/password") && faults.contains_key("/tenants/red"), "{faults:?}");
    assert!(!short.text().contains("\"short\""), "a password comes back: {}", short.text());
    let nowhere = post("/users", json!({ "name": "bob", "tenants": { "green": "member" } })).await.problem(422);
    assert!(nowhere.contains_key("/tenants/green"), "{nowhere:?}");
    rig.call(Method::GET, &format!("{V1}/users/bob"), vec![]).await.problem(404);
    assert!(post("/users", json!({ "name": "ann" })).await.problem(409).contains_key("/name"));
    assert!(post("/tokens", json!({ "label": "x", "tenant": "green" })).await.problem(422).contains_key("/tenant"));
    let long = post("/tokens", json!({ "label": "x", "expires_in_s": 40_000_000 })).await.problem(422);
    assert!(long.contains_key("/expires_in_s"), "{long:?}");
    rig.call(Method::DELETE, &format!("{V1}/tenants/admin"), vec![]).await.problem(409);
    rig.call(Method::DELETE, &format!("{V1}/auth/token"), vec![]).await.problem(409);
}

#[tokio::test]
async fn tokens_end_with_what_they_rest_on() {
    let rig = people().await;
    let ann = json!({ "user": "ann", "password": "open sesame", "tenant": "red" });
    let lives = async |token: &str| with(&rig, token, Method::GET, "/auth/token", None).await.status == 200;
    let put = async |path: &str, body: Value| {
        let answer = rig.call(Method::PUT, &format!("{V1}{path}"), body.to_string().into_bytes()).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    };
    let red = token(&log_in(&rig, ann.clone()).await);
    put("/users/ann/tenants/red", json!({ "role": "operator" })).await;
    assert!(!lives(&red).await, "another role, another token");

    let red = token(&log_in(&rig, ann.clone()).await);
    put("/users/ann/password", json!({ "password": "another one" })).await;
    assert!(!lives(&red).await);
    log_in(&rig, ann).await.problem(401);
    let red = token(&log_in(&rig, json!({ "user": "ann", "password": "another one", "tenant": "red" })).await);
    let gone = rig.call(Method::DELETE, &format!("{V1}/users/ann/tenants/red"), vec![]).await;
    assert_eq!(gone.status, 204);
    assert!(!lives(&red).await);

    // a program's token, made by its tenant, ends when it is revoked or its time is over
    let made = rig.post(&format!("{V1}/tokens"), &json!({ "label": "ci", "tenant": "red" })).await;
    let (ci, id) = (token(&made), made.json()["id"].as_str().expect("an id").to_owned());
    let own = with(&rig, &ci, Method::POST, "/tokens", Some(json!({ "label": "deploy" }))).await;
    let deploy = token(&own);
    assert_eq!(own.json()["by"], "ci");
    let more =
        with(&rig, &ci, Method::POST, "/tokens", Some(json!({ "label": "x", "tenant": "blue", "role": "operator" })))
            .await;
    assert_eq!(more.problem(422).keys().collect::<Vec<_>>(), ["/role", "/tenant"], "nobody gives more than he has");
    let listed = with(&rig, &deploy, Method::GET, "/tokens", None).await.json();
    let labels: Vec<_> = listed["items"].as_array().expect("items").iter().map(|token| &token["label"]).collect();
    assert_eq!(labels, ["ci", "deploy"]);
    assert!(!listed.to_string().contains(&ci), "a token is shown once");
    // what is known of one is told, and never the token
    let shown = with(&rig, &deploy, Method::GET, &format!("/tokens/{id}"), None).await;
    assert_eq!((shown.status, &shown.json()), (200, &listed["items"][0]));
    assert!(!shown.text().contains(&ci) && !shown.text().contains(&deploy), "{}", shown.text());
    let tenant = rig.get(&format!("{V1}/tenants/red")).await;
    assert_eq!((&tenant["id"], tenant["created_ms"].is_i64()), (&json!("red"), true));
    rig.call(Method::GET, &format!("{V1}/tenants/nobody"), vec![]).await.problem(404);
    assert_eq!(with(&rig, &deploy, Method::DELETE, &format!("/tokens/{id}"), None).await.status, 204);
    with(&rig, &deploy, Method::GET, &format!("/tokens/{id}"), None).await.problem(404);
    assert!(!lives(&ci).await && lives(&deploy).await);
    rig.call(Method::DELETE, &format!("{V1}/tenants/red"), vec![]).await;
    assert!(!lives(&deploy).await, "its tenant is gone");
}
