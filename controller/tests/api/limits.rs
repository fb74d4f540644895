//! Nobody takes the controller from the others: slow clients, too many at once, too often.

use crate::commands::{end, list, order, working};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use http::Method;
use serde_json::json;
use straas_schemas::command::CommandOutcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

const V1: &str = "/straas/v1.0";

/// A token of a tenant that is made for it.
async fn token(rig: &Rig, tenant: &str) -> String {
    assert_eq!(rig.post(&format!("{V1}/tenants"), &json!({ "id": tenant })).await.status, 201);
    another(rig, tenant).await
}

async fn another(rig: &Rig, tenant: &str) -> String {
    let made = rig.post(&format!("{V1}/tokens"), &json!({ "label": "t", "tenant": tenant })).await;
    made.json()["token"].as_str().expect("a token").to_owned()
}

async fn ask(rig: &Rig, token: &str) -> crate::wire::Answer {
    rig.raw(Method::GET, TOPOLOGIES, &[("x-auth-token", token)], vec![]).await
}

#[tokio::test]
async fn who_sends_his_request_slowly_is_cut_off() {
    let rig = Rig::start_with("[api]\nhead_s = 1\n").await;
    // a head that never ends, and silence after an answer
    for begin in ["GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", ""] {
        let mut stream = rig.connect().await;
        stream.write_all(begin.as_bytes()).await.expect("written");
        let dribble = async {
            if begin.ends_with(": ") {
                while stream.write_all(b"x").await.is_ok() {
                    // waits for: nothing; the pause is what such a client does
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            } else {
                drop(stream.read_to_end(&mut Vec::new()).await);
            }
        };
        tokio::time::timeout(PATIENCE, dribble).await.unwrap_or_else(|_| panic!("{begin:?} is not cut off"));
    }
    // who does not let others wait is served on
    assert_eq!(rig.call(Method::GET, "/healthz", vec![]).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_on_every_route() {
    let rig = Rig::start().await;
    let large = vec![b' '; (1 << 20) + 1];
    let document = rig.get("/straas/openapi.json").await;
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if operation["requestBody"]["content"]["application/json"].is_null() {
                continue;
            }
            let path = path.replace("{ref}", "master").replace("{path}", "app/x/1/user.json").replace(['{', '}'], "");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let answer = rig.call(method.clone(), &path, large.clone()).await;
            // what is not there is told first
            assert!([413, 404].contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
            tried += usize::from(answer.status == 413);
        }
    }
    assert!(tried >= 8, "{tried}");
}

#[tokio::test]
async fn a_token_that_asks_too_often_takes_nothing_from_another_tenant() {
    let rig = Rig::start_with("[api]\nrate = 1\nburst = 5\n").await;
    let (red, blue) = (token(&rig, "red").await, token(&rig, "blue").await);
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(ask(&rig, &red).await);
    }
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(answers[..5].iter().all(|answer| answer.status == 200));
    assert!(!refused.is_empty(), "it never ends");
    for answer in refused {
        answer.problem(429);
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=2).contains(&seconds)));
    }
    assert_eq!(ask(&rig, &blue).await.status, 200);
    // many tokens are not many rates: of a tenant's 20 at a stroke some are gone
    let mut more = 0;
    for _ in 0..8 {
        let token = another(&rig, "red").await;
        for _ in 0..5 {
            more += usize::from(ask(&rig, &token).await.status == 200);
        }
    }
    assert!(more < 40, "{more}");
    // an administrator gets in, and the controller says how it is
    for path in [TOPOLOGIES, "/healthz", "/readyz", "/metrics"] {
        assert_eq!(rig.call(Method::GET, path, vec![]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn with_too_many_at_once_some_are_told_to_come_again() {
    let rig = Rig::start_with("[api]\nat_once = 4\n[timing]\nheartbeat_ms = 500\n").await;
    let (id, mut agents) = working(&rig, 1).await;
    // those that wait have room of their own
    let component = rig.get(&format!("{TOPOLOGIES}/{id}")).await["components"][0]["id"].clone();
    let path = format!("/straas/guestcmd/{}/demo-zk-1", component.as_str().expect("an id"));
    let headers = [("x-auth-token", rig.token.as_str())];
    let body = list().to_string().into_bytes();
    let waiting = rig.raw(Method::POST, &path, &headers, body);
    let beside = async {
        let asked = order(&agents[0], &[]).await.id.to_string();
        let red = token(&rig, "red").await;
        // one of four is a tenant's; it is had again and again
        for _ in 0..10 {
            assert_eq!(ask(&rig, &red).await.status, 200);
        }
        let all: Vec<_> = (0..64).map(|_| ask(&rig, &red)).collect();
        let all = futures(all).await;
        let refused: Vec<_> = all.iter().filter(|answer| answer.status == 429).collect();
        assert!(!refused.is_empty() && refused.len() < 64, "{} of 64", refused.len());
        for answer in refused {
            answer.problem(429);
            assert!(!answer.header("retry-after").is_empty());
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(rig.call(Method::GET, path, vec![]).await.status, 200);
        }
        asked
    };
    let mut waiting = std::pin::pin!(waiting);
    let asked = tokio::select! {
        answer = &mut waiting => panic!("it did not wait: {}", answer.text()),
        asked = beside => asked,
    };
    agents[0].report(end(&asked, CommandOutcome::Succeeded)).await;
    assert_eq!(waiting.await.status, 200);
}

async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    futures_util::future::join_all(all).await
}

/// It is over once the other end has reset the connection.
async fn reset(who: &str, tcp: &TcpStream) {
    let reset = async { while !tcp.ready(Interest::ERROR).await.expect("a socket").is_error() {} };
    tokio::time::timeout(PATIENCE, reset).await.unwrap_or_else(|_| panic!("{who} holds its connection"));
}

#[tokio::test]
async fn who_does_not_read_his_answer_is_cut_off() {
    // more than what two kernels keep of a connection, on loopback
    const BYTES: usize = 15 << 20;
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("large");
    std::fs::write(&source, vec![7; BYTES]).expect("written");
    let settings =
        format!("[api]\nstall_s = 1\n[agents]\nstall_s = 1\n[[files]]\npath = \"/large\"\nsource = {source:?}\n");
    let rig = Rig::start_with(&settings).await;
    let path = format!("{V1}/storage/local/regions/z1/c/large");
    let put = rig.call(Method::POST, &path, vec![7; BYTES]).await;
    assert_eq!(put.status, 201, "{}", put.text());

    let path = format!("{path}?content=true");
    let mut user = rig.connect().await;
    let ask = |path: &str, token: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{token}\r\n");
    user.write_all(ask(&path, &format!("x-auth-token: {}\r\n", rig.token)).as_bytes()).await.expect("asked");
    reset("a user", &user).await;
    let whole = rig.call(Method::GET, &path, vec![]).await;
    assert_eq!((whole.status, whole.body.len()), (200, BYTES), "who reads gets it");

    let topology = rig.create("demo", 1).await;
    let agent = rig.enrolled(&topology, 1).await.remove(0);
    let sha256 = straas_schemas::Digest::sha256(&vec![7; BYTES]);
    let path = agent.path(&format!("files/{sha256}"));
    let mut tls = agent.connection().await;
    tls.write_all(ask(&path, "").as_bytes()).await.expect("asked");
    tls.flush().await.expect("asked");
    reset("an agent", tls.get_ref().0).await;
    assert_eq!(agent.ask(Method::GET, &path, vec![]).await.body.len(), BYTES, "who reads gets it");
}
