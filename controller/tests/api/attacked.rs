//! The agents' port in the hands of strangers: tokens guessed, certificates that ended, bodies that are bombs or no HTTP at
//! all, connections that say nothing. Whatever they do, they get nothing, and agents go on.

use crate::agent::{Agent, ask, connect, csr, enrolment, tls};
use crate::rig::Rig;
use crate::wire::{request, send, whole};
use http::Method;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A node with its agent.
async fn one() -> (Rig, Agent) {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let agent = rig.enrolled(&id, 1).await.remove(0);
    (rig, agent)
}

/// The agent is served as if nobody else were there.
async fn served(agent: &mut Agent) {
    let begun = Instant::now();
    agent.round().await;
    println!("a round of the agent beside it: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_join_tokens_has_to_wait() {
    let (rig, mut agent) = one().await;
    let stranger = tls(&rig.ca(), None);
    let (_, csr) = csr(CertificateParams::default());
    let guess = async |path: &str, number: u32| {
        let body = enrolment(&format!("guess {number}"), &csr);
        ask(rig.agents, &stranger, Method::POST, path, body).await.expect("an answer")
    };
    let mut refused = 0;
    let limited = loop {
        // tokens of nodes and of the pool alike
        let path = if refused % 2 == 0 { "/agent/v1/enrol" } else { "/agent/v1/hosts" };
        let answer = guess(path, refused).await;
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 401, "{}", answer.text());
        refused += 1;
        assert!(refused < 1000, "nobody stops it");
    };
    limited.problem(429);
    let wait: u64 = limited.header("retry-after").parse().expect("seconds");
    assert!(refused >= 60 && wait > 0, "{refused} guesses, then {wait} s");
    served(&mut agent).await;
    // waits for: the time that the answer named
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(guess("/agent/v1/enrol", refused).await.status, 401);
    // a good one is let in, and is not counted
    let token = rig.another_token(&agent.node, i64::MAX).await;
    assert!(Agent::enrol(&rig, &token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ended_or_is_not_begun_is_none() {
    let (rig, mut agent) = one().await;
    let key = std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&rig.ca(), KeyPair::from_pem(&key).expect("a key")).expect("an authority");
    let day = time::Duration::days(1);
    let now = OffsetDateTime::now_utc();
    for (from, until, good) in
        [(now - day, now + day, true), (now - day * 3, now - day * 2, false), (now + day, now + day * 2, false)]
    {
        let mut params = CertificateParams::default();
        let name = format!("straas://node/{}/{}", agent.node, agent.incarnation);
        params.subject_alt_names = vec![SanType::URI(name.try_into().expect("a name"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (from, until);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
        let config = tls(&rig.ca(), Some((&certificate, &key.serialize_pem())));
        let body = serde_json::to_vec(&agent.poll_body(0)).expect("json");
        let answer = ask(rig.agents, &config, Method::POST, &agent.path("poll"), body).await;
        let got_in = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        assert_eq!(got_in, good, "{from} to {until}: {answer:?}");
    }
    served(&mut agent).await;
}

/// A node's certificate of an authority, for a key, that ended so many days ago.
fn ended(issuer: &Issuer<'_, KeyPair>, (node, incarnation): (&str, u64), key: &KeyPair, days: i64) -> String {
    certificate(issuer, &format!("straas://node/{node}/{incarnation}"), key, days)
}

/// A certificate of an authority for a name, that ended so many days ago, or will end if that is negative.
pub fn certificate(issuer: &Issuer<'_, KeyPair>, name: &str, key: &KeyPair, days: i64) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.to_owned().try_into().expect("a name"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let end = OffsetDateTime::now_utc() - time::Duration::days(days);
    (params.not_before, params.not_after) = (end - time::Duration::days(2), end);
    params.signed_by(key, issuer).expect("signed").pem()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_has_the_key_of_a_certificate_that_was_good() {
    let (rig, agent) = one().await;
    let its = |pem: &str| KeyPair::from_pem(pem).expect("a key");
    let ca_key = its(&std::fs::read_to_string(rig.data().join("ca/ca.key")).expect("a key"));
    let issuer = Issuer::from_ca_cert_pem(&rig.ca(), ca_key).expect("an authority");
    // the same names and another key
    let foreign = Issuer::from_ca_cert_pem(&rig.ca(), KeyPair::generate().expect("a key")).expect("an authority");
    let (key, other) = (its(&agent.key_pem), KeyPair::generate().expect("a key"));
    let stranger = tls(&rig.ca(), None);
    let check = async |certificate: &str, key: &KeyPair, status: u16, says: &str| {
        let csr = CertificateParams::default().serialize_request(key).expect("a request").pem().expect("pem");
        let body = serde_json::json!({ "certificate_pem": certificate, "csr_pem": csr }).to_string().into_bytes();
        let answer = ask(rig.agents, &stranger, Method::POST, "/agent/v1/come-back", body).await.expect("an answer");
        assert_eq!(answer.status, status, "{says}: {}", answer.text());
        assert!(answer.text().contains(says), "{says}: {}", answer.text());
        answer
    };
    let (node, incarnation) = (agent.node.as_str(), agent.incarnation);
    let good = ended(&issuer, (node, incarnation), &key, 30);
    check(&good, &other, 401, "another key").await;
    check(&ended(&foreign, (node, incarnation), &key, 30), &key, 401, "not one that this fleet gave").await;
    check(&ended(&issuer, (node, incarnation), &key, 400), &key, 401, "too long ago").await;
    check(&ended(&issuer, (node, incarnation - 1), &key, 30), &key, 401, "enrolled again").await;
    check(&ended(&issuer, (&"f".repeat(32), 1), &key, 30), &key, 401, "no such node").await;
    check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, 401, "not one that this fleet gave")
        .await;
    check(&"x".repeat(10_000), &key, 422, "/certificate_pem").await;
    let back = check(&good, &key, 200, "certificate_pem").await.json();
    let certificate = back["certificate_pem"].as_str().expect("a certificate");
    let config = tls(&rig.ca(), Some((certificate, &agent.key_pem)));
    let body = serde_json::to_vec(&agent.poll_body(0)).expect("json");
    assert_eq!(ask(rig.agents, &config, Method::POST, &agent.path("poll"), body).await.expect("in").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_packed_is_not_unpacked() {
    let (rig, mut agent) = one().await;
    // 100 MiB of zeros, packed
    let packed = std::process::Command::new("sh").args(["-c", "head -c 104857600 /dev/zero | gzip -1"]).output();
    let bomb = packed.expect("gzip runs").stdout;
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let headers = [("content-type", "application/json"), ("content-encoding", encoding)];
        let stream = connect(rig.agents, &tls(&rig.ca(), Some((&agent.certificate_pem, &agent.key_pem)))).await;
        let request = request(Method::POST, &agent.path("reports"), &headers, bomb.clone());
        let answer = whole(send(stream.expect("connected"), request).await.expect("an answer")).await;
        assert!((400..500).contains(&answer.status), "{encoding}: {} {}", answer.status, answer.text());
    }
    served(&mut agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_or_no_tls_ends_and_harms_nobody() {
    let (rig, mut agent) = one().await;
    let config = tls(&rig.ca(), Some((&agent.certificate_pem, &agent.key_pem)));
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(1 << 20));
    let heads = (0..10_000).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{heads}\r\n");
    let path = agent.path("heartbeat");
    let lies =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    let negative = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n");
    let huge = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\n");
    for text in ["\0\0\0\0", "GET", "GET / HTTP/9.9\r\n\r\n", &long, &many, &lies, &negative, &huge] {
        let mut stream = connect(rig.agents, &config).await.expect("connected");
        // the other end may end it while it is being told
        let _ = stream.write_all(text.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || status.starts_with('4'), "{:?}: {answer}", &text[..text.len().min(60)]);
    }
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 4096]] {
        let mut tcp = TcpStream::connect(rig.agents).await.expect("connected");
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "an answer without TLS");
    }
    served(&mut agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_connect_and_say_nothing_are_cut_off() {
    let (rig, mut agent) = one().await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(rig.agents).await.expect("connected"));
    }
    served(&mut agent).await;
    // each is given up after the time that a handshake has
    for tcp in &mut silent {
        let mut byte = [0];
        let ended = tokio::time::timeout(crate::rig::PATIENCE, tcp.read(&mut byte)).await.expect("it is held for ever");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    served(&mut agent).await;
}
