//! Who asks goes away before the answer: what was begun for him is finished all the same.
//!
//! He hangs up at sixty different moments, so that some are between what is written first and what
//! is written after it. The moments are the point here; nothing is awaited with them.

use crate::agent::Agent;
use crate::commands::{list, working};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use straas_schemas::Outcome;
use straas_schemas::report::{Report, ReportBody, ReportRequest};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const MOMENTS: u32 = 60;
const APART: Duration = Duration::from_micros(60);

/// Sends a request on a connection where another was answered, and hangs up a while later.
async fn hang_up(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, token: &str, body: &[u8], moment: u32) {
    for body in [b"[]", body] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: straas\r\nx-auth-token: {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await.expect("written");
        stream.flush().await.expect("sent");
        if body == b"[]" {
            let count = stream.read(&mut [0; 4096]).await.expect("an answer");
            assert!(count > 0, "no answer");
        }
    }
    let sent = Instant::now();
    // a timer is too coarse
    while sent.elapsed() < APART * moment {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_report_leaves_its_event() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent: Agent = rig.enrolled(&id, 1).await.remove(0);
    assert!(agent.poll(60_000).await);
    let (stage, digest) = agent.wants().expect("a stage");
    let path = agent.path("reports");
    for moment in 1..=MOMENTS {
        let mut result = agent.result(stage, digest.clone(), Outcome::Failed);
        result.attempt = moment;
        let report = Report { seq: moment.into(), at_ms: 0, body: ReportBody::Stage(result) };
        let request = ReportRequest { incarnation: 1, reports: vec![report] };
        let body = serde_json::to_vec(&request).expect("json");
        hang_up(agent.connect().await, &path, "", &body, moment).await;
        // as an agent does that was not answered
        assert_eq!(agent.post("reports", &request).await.status, 200);
    }
    let told = async || {
        let events = rig.store_events(&id).await;
        let of = |moment: u32| events.iter().filter(|e| e.text.contains(&format!("(attempt {moment})"))).count();
        (1..=MOMENTS).map(of).collect::<Vec<_>>()
    };
    // what an earlier request began may end after the answer to a later one
    let begun = Instant::now();
    while told().await.contains(&0) && begun.elapsed() < PATIENCE / 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(told().await, vec![1; MOMENTS as usize]);
}

#[tokio::test]
async fn every_change_is_in_the_audit_trail_with_its_outcome() {
    let rig = Rig::start().await;
    for moment in 1..=MOMENTS {
        let body = json!({ "id": format!("gone-{moment}") }).to_string();
        hang_up(rig.connect().await, "/straas/v1.0/tenants", &rig.token, body.as_bytes(), moment).await;
    }
    let ended = |answer: &crate::wire::Answer| {
        let lines = answer.json()["items"].as_array().expect("items").clone();
        !lines.is_empty() && lines.iter().all(|line| !line["status"].is_null())
    };
    let tenants = async || {
        let tenants = rig.call(Method::GET, "/straas/v1.0/tenants?limit=200", vec![]).await.json();
        let there = |item: &&serde_json::Value| item["id"].as_str().is_some_and(|id| id.starts_with("gone-"));
        tenants["items"].as_array().expect("items").iter().filter(there).count()
    };
    // the last of them may not even have begun: what is there before the trail is read is in it, and what is in it
    // is there afterwards
    let before = tenants().await;
    let trail = rig.until("/straas/v1.0/audit?limit=200", ended).await.json();
    let made = trail["items"].as_array().expect("items").iter().filter(|line| line["status"] == 201).count();
    let after = tenants().await;
    assert!(before <= made && made <= after, "{before} tenants, {made} in the trail, {after} tenants");
    assert!(made > 0, "nothing was done");
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_has_its_line_whole() {
    let rig = Rig::start().await;
    let (id, _agents) = working(&rig, 1).await;
    let component = rig.get(&format!("{TOPOLOGIES}/{id}")).await["components"][0]["id"].clone();
    let path = format!("/straas/guestcmd/{}/demo-zk-1", component.as_str().expect("an id"));
    let body = list().to_string();
    for moment in 1..=MOMENTS {
        // up to 30 ms: some of them wait by then
        hang_up(rig.connect().await, &path, &rig.token, body.as_bytes(), 8 * moment).await;
    }
    let queued = async || rig.get("/straas/v1.0/commands?limit=500").await["items"].as_array().expect("items").len();
    let of = |answer: &crate::wire::Answer| {
        let lines = answer.json()["items"].as_array().expect("items").clone();
        lines.into_iter().filter(|line| line["path"] == path.as_str()).collect::<Vec<_>>()
    };
    let before = queued().await;
    let trail = rig
        .until("/straas/v1.0/audit?limit=500", |answer| {
            let lines = of(answer);
            !lines.is_empty() && lines.iter().all(|line| !line["status"].is_null())
        })
        .await;
    let told = of(&trail).iter().filter(|line| line["status"] == 202).count();
    let after = queued().await;
    assert!(before <= told && told <= after, "{before} commands, {told} in the trail, {after} commands");
    assert!(told > 0, "nothing was done");
}
