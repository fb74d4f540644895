//! Users who are a real Keystone's: from a password to a topology, whose rights are whose, how a token
//! ends, and what happens while Keystone is away.

use crate::keystone_server::{Keystone, password};
use crate::logs;
use crate::rig::{PATIENCE, Rig, topology};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const V1: &str = "/straas/v1.0";
/// So short here, so that a test need not wait long for it.
const BELIEVED: Duration = Duration::from_secs(2);

async fn with(rig: &Rig, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    rig.raw(method, &format!("{V1}{path}"), &[("x-auth-token", token)], body).await
}

async fn get(rig: &Rig, token: &str, path: &str) -> Answer {
    with(rig, token, Method::GET, path, None).await
}

async fn log_in(rig: &Rig, body: Value) -> Answer {
    rig.raw(Method::POST, &format!("{V1}/auth/tokens"), &[], body.to_string().into_bytes()).await
}

fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["token"].as_str().expect("a token").to_owned()
}

async fn both(test: &str) -> Option<(Keystone, Rig)> {
    let keystone = Keystone::start(test).await?;
    let rig = Rig::start_with(&keystone.settings(u32::try_from(BELIEVED.as_secs()).expect("short"))).await;
    Some((keystone, rig))
}

/// Asks with a token until the answer has a status.
async fn until(rig: &Rig, token: &str, status: u16) {
    let begun = Instant::now();
    loop {
        let answer = get(rig, token, "/topologies").await;
        if answer.status == status {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "still {}: {}", answer.status, answer.text());
        // waits for: what was believed to be asked about again, which only the answer shows
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn keystones_people_work_in_their_projects() {
    let Some((keystone, rig)) = both("keystones_people_work_in_their_projects").await else { return };
    let (red, blue) = (keystone.ids["red"].as_str(), keystone.ids["blue"].as_str());

    // three steps: password, tenants, tenant by its name or id
    let bare = token(&log_in(&rig, json!({ "user": "ann", "password": password("ann") })).await);
    get(&rig, &bare, "/topologies").await.problem(403);
    let mut tenants = get(&rig, &bare, "/auth/tenants").await.json()["items"].as_array().expect("items").clone();
    tenants.sort_by_key(ToString::to_string);
    assert_eq!(tenants, [json!("blue"), json!("red")]);
    let in_red = token(&log_in(&rig, json!({ "token": bare, "tenant": "red" })).await);
    let in_blue = token(&log_in(&rig, json!({ "token": bare, "tenant": blue })).await);
    let who = get(&rig, &in_red, "/auth/token").await.json();
    let expected = (&json!("ann"), &json!(red), &json!("member"), &json!(false));
    assert_eq!((&who["user"], &who["tenant"], &who["role"], &who["admin"]), expected);
    for header in ["token", "x-auth-token"] {
        let path = format!("{V1}/topologies");
        assert_eq!(rig.raw(Method::GET, &path, &[(header, &in_red)], vec![]).await.status, 200, "{header}");
    }

    // who is not let in
    log_in(&rig, json!({ "user": "ann", "password": "a wrong secret" })).await.problem(401);
    log_in(&rig, json!({ "user": "nobody", "password": "a wrong secret" })).await.problem(401);
    let bobs = token(&log_in(&rig, json!({ "user": "bob", "password": password("bob") })).await);
    log_in(&rig, json!({ "token": bobs, "tenant": "red" })).await.problem(401);
    log_in(&rig, json!({ "token": bobs, "tenant": red })).await.problem(401);
    log_in(&rig, json!({ "token": "no token", "tenant": "red" })).await.problem(401);
    get(&rig, "no token", "/topologies").await.problem(401);
    get(&rig, &"x".repeat(5000), "/topologies").await.problem(401);

    // a token that Keystone made for somebody who then came here; what is one tenant's is not another's
    let direct = keystone.token("bob", "blue").await;
    let made = with(&rig, &in_red, Method::POST, "/topologies", Some(topology("reds"))).await;
    assert_eq!(made.status, 202, "{}", made.text());
    let reds = format!("/topologies/{}", made.json()["id"].as_str().expect("an id"));
    let count = async |token: &str, path: &str| {
        let answer = get(&rig, token, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["items"].as_array().expect("items").len()
    };
    assert_eq!(count(&in_red, "/topologies").await, 1);
    for stranger in [&in_blue, &direct] {
        assert_eq!(count(stranger, "/topologies").await, 0);
        get(&rig, stranger, &reds).await.problem(404);
        with(&rig, stranger, Method::DELETE, &reds, None).await.problem(404);
        get(&rig, stranger, "/topologies?all_tenants=true").await.problem(403);
    }

    // roles there are roles here
    let (operator, checker) = (keystone.token("olga", "red").await, keystone.token("chris", "blue").await);
    assert_eq!(count(&operator, "/topologies?all_tenants=true").await, 1);
    assert_eq!(get(&rig, &operator, "/auth/token").await.json()["role"], "operator");
    assert_eq!(get(&rig, &checker, &reds).await.status, 200);
    with(&rig, &checker, Method::DELETE, &reds, None).await.problem(403);
    let administrator = keystone.token("ruth", "platform").await;
    assert_eq!(get(&rig, &administrator, "/auth/token").await.json()["admin"], true);
    assert_eq!(get(&rig, &administrator, &reds).await.status, 200);
    let more = json!({ "name": "new", "password": "long enough", "tenants": {} });
    let refusal = with(&rig, &administrator, Method::POST, "/users", Some(more)).await;
    refusal.problem(409);
    assert!(refusal.text().contains("Keystone"), "{}", refusal.text());
    let reader = token(&log_in(&rig, json!({ "user": "rea", "password": password("rea"), "tenant": "red" })).await);
    let refusal = get(&rig, &reader, "/topologies").await;
    refusal.problem(403);
    assert!(refusal.text().contains("none of your roles in this tenant"), "{}", refusal.text());

    let tokens = [&bare, &in_red, &in_blue, &bobs, &direct, &operator, &checker, &administrator, &reader];
    for secret in tokens.into_iter().map(String::as_str).chain(["ann", "bob", "straas"].map(password)) {
        assert!(!logs::has(secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn a_token_ends_when_keystone_or_its_owner_says_so() {
    let Some((mut keystone, rig)) = both("a_token_ends_when_keystone_or_its_owner_says_so").await else { return };
    let file = keystone.password_file();

    // revoked there: good here no longer than it is believed
    let token = keystone.token("ann", "red").await;
    until(&rig, &token, 200).await;
    keystone.revoke(&token).await;
    let revoked = Instant::now();
    until(&rig, &token, 401).await;
    assert!(revoked.elapsed() < BELIEVED + Duration::from_secs(10), "{:?}", revoked.elapsed());
    // ended here: at once, there too
    let token = keystone.token("ann", "red").await;
    until(&rig, &token, 200).await;
    assert_eq!(with(&rig, &token, Method::DELETE, "/auth/token", None).await.status, 204);
    get(&rig, &token, "/topologies").await.problem(401);

    // the service's password is another one: that is not the caller's fault, and whoever looks after it is told
    // where it stands; the token that was made with the old one has ended too
    keystone.change_service(json!({ "password": "quite another secret" })).await;
    assert!(!logs::has(&file.display().to_string()));
    let token = keystone.token("ann", "red").await;
    get(&rig, &token, "/topologies").await.problem(503);
    assert!(logs::has(&file.display().to_string()), "the log does not say which file");
    std::fs::write(&file, "quite another secret").expect("written");
    until(&rig, &token, 200).await;
    // the service's own token ended once more: it makes another one
    keystone.change_service(json!({ "enabled": false })).await;
    get(&rig, &keystone.token("ann", "red").await, "/topologies").await.problem(503);
    keystone.change_service(json!({ "enabled": true })).await;
    until(&rig, &keystone.token("ann", "red").await, 200).await;
    until(&rig, &token, 200).await;

    // away: nobody is let in on what is not known any more, but who owns the controller
    keystone.down();
    let away = Instant::now();
    while away.elapsed() < BELIEVED {
        let status = get(&rig, &token, "/topologies").await.status;
        assert!([200, 503].contains(&status), "{status}");
        // waits for: the time to pass for which the token is believed
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refusal = get(&rig, &token, "/topologies").await;
    refusal.problem(503);
    assert!(!refusal.text().contains("127.0.0.1"), "{}", refusal.text());
    get(&rig, "no token", "/topologies").await.problem(503);
    log_in(&rig, json!({ "user": "ann", "password": password("ann") })).await.problem(503);
    assert_eq!(get(&rig, &rig.token, "/topologies").await.status, 200);
    // back: as before
    keystone.up().await;
    until(&rig, &token, 200).await;
    for secret in [token.as_str(), password("ann"), password("straas"), "quite another secret"] {
        assert!(!logs::has(secret), "a secret is in the log");
    }
}
