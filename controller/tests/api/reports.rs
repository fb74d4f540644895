//! What agents ask for and send: polls, reports, heartbeats, files. Each is bounded and idempotent.

use crate::agent::{Agent, ask, live, tls};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use http::Method;
use serde_json::{Value, json};
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::{ReportBody, ReportRequest};
use straas_schemas::{Digest, Outcome, Stage};

async fn one(rig: &Rig) -> (String, Agent) {
    let id = rig.create("demo", 1).await;
    let mut agent = rig.enrolled(&id, 1).await.remove(0);
    assert!(agent.poll(60_000).await, "the first assignment is there at once");
    (id, agent)
}

#[tokio::test]
async fn a_poll_waits_for_something_newer_and_for_nothing_else() {
    let rig = Rig::start().await;
    let (id, mut agent) = one(&rig).await;
    assert!(!agent.poll(50).await, "what it has is not sent again");
    // neither a lower generation nor other content at the same one is answered before the wait is over
    for (generation, digest) in [(99, None), (agent.assignment().generation, Some(Digest::sha256(b"other")))] {
        let mut body = agent.poll_body(300);
        (body.generation, body.digest) = (generation, digest);
        let begun = std::time::Instant::now();
        let answer = agent.post("poll", &body).await;
        assert!(begun.elapsed().as_millis() >= 300, "it is told at the end of its wait");
        assert_eq!(answer.json()["assignment"]["generation"], agent.assignment().generation);
    }
    // a change wakes it: other scripts are asked for
    let body = serde_json::to_vec(&agent.poll_body(60_000)).expect("json");
    let (agents, path) = (rig.agents, agent.path("poll"));
    let config = tls(&rig.ca(), Some((&agent.certificate_pem, &agent.key_pem)));
    let waiting = tokio::spawn(async move { ask(agents, &config, Method::POST, &path, body).await });
    rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
    let scripts = straas_repos::ScriptRepo::open(&rig.data().join("scripts.git")).expect("a repo");
    let text = b"#!/bin/sh\nexit 0\n";
    scripts.write("cmd/zookeeper/default/validate.sh", text, "try", "t").expect("written");
    let order = json!({ "scope": "topologies", "items": [id] });
    let answer = rig.call(Method::PUT, "/straas/v1.0/nodes/scripts", order.to_string().into_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = tokio::time::timeout(PATIENCE, waiting).await.expect("in time").expect("no panic").expect("an answer");
    assert!(
        answer.json()["assignment"]["generation"].as_u64() > Some(agent.assignment().generation),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_service_is_looked_at_once_more_when_a_neighbour_has_come_back() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    let mut agents = rig.enrolled(&id, 3).await;
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let ask = async |agent: &Agent, look, wait_ms| -> PollAnswer {
        let answer = agent.post("poll", &PollRequest { look, ..agent.poll_body(wait_ms) }).await;
        serde_json::from_slice(&answer.body).expect("a poll answer")
    };
    // what it knows is older than the others' success
    let agent = &mut agents[0];
    agent.facts.insert("mode".into(), "follower".into());
    let beat = Heartbeat { looked_ago_ms: Some(3_600_000), ..agent.heartbeat_body() };
    assert_eq!(agent.post("heartbeat", &beat).await.status, 204);
    let told = ask(agent, 0, 60_000).await;
    assert!(told.look > 0 && told.assignment.is_none(), "{told:?}");
    // who has heard of it is not told again, whoever has not is: after a start of the agent
    assert_eq!(ask(agent, told.look, 50).await.look, 0);
    assert_eq!(ask(agent, 0, 50).await.look, told.look);
    // what is fresh is fresh enough, and facts that nobody decides by are no reason
    let beat = Heartbeat { looked_ago_ms: Some(0), ..agent.heartbeat_body() };
    assert_eq!(agent.post("heartbeat", &beat).await.status, 204);
    let other = &mut agents[1];
    other.facts.insert("znodes".into(), 7.into());
    let beat = Heartbeat { looked_ago_ms: Some(3_600_000), ..other.heartbeat_body() };
    assert_eq!(other.post("heartbeat", &beat).await.status, 204);
    assert_eq!(ask(&agents[0], told.look, 200).await.look, 0);
    assert_eq!(ask(&agents[1], 0, 200).await.look, 0);
}

#[tokio::test]
async fn a_report_is_recorded_once_and_acknowledged_each_time() {
    let rig = Rig::start().await;
    let (id, agent) = one(&rig).await;
    let (stage, digest) = agent.wants().expect("a stage");
    let body = ReportBody::Stage(agent.result(stage, digest, Outcome::Succeeded));
    let report = |seq| json!({ "seq": seq, "at_ms": 0, "kind": "converged", "generation": 0 });
    let first = serde_json::to_value(straas_schemas::report::Report { seq: 1, at_ms: 0, body }).expect("json");
    let send = async |reports: Value| agent.post("reports", &json!({ "incarnation": 1, "reports": reports })).await;
    let events = async || rig.store_events(&id).await;
    for _ in 0..3 {
        let answer = send(json!([first])).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "acknowledged": 1 })));
    }
    assert_eq!(events().await.iter().filter(|event| event.kind == "stage").count(), 1);
    // a batch that overlaps with what is there
    let answer = send(json!([first, report(2), report(4)])).await;
    assert_eq!(answer.json(), json!({ "acknowledged": 4 }));
    assert_eq!(events().await.iter().filter(|event| event.kind == "converged").count(), 2);
    for (reports, status, pointer) in [
        (json!([report(6), report(5)]), 422, "/reports"),
        (json!([report(5), report(5)]), 422, "/reports"),
        (json!([]), 422, "/reports"),
        (json!((10..80).map(report).collect::<Vec<_>>()), 422, "/reports"),
        (json!([report(u64::MAX)]), 422, "/reports/0/seq"),
        (json!([report(1u64 << 63)]), 422, "/reports/0/seq"),
        (json!([{ "seq": 9, "at_ms": 0, "kind": "converged", "generation": u64::MAX }]), 422, "/reports/0/generation"),
        (
            json!([{ "seq": 9, "at_ms": 0, "kind": "refused", "offered": u64::MAX, "have": 1, "reason": "r" }]),
            422,
            "/reports/0/offered",
        ),
        (json!([{ "seq": 9, "at_ms": 0, "kind": "mystery" }]), 422, ""),
        (json!([{ "seq": -1, "at_ms": 0, "kind": "converged", "generation": 1 }]), 422, ""),
    ] {
        let answer = send(reports.clone()).await;
        assert_eq!(answer.problem(status).into_keys().collect::<Vec<_>>(), [pointer], "{reports}");
    }
    let other = agent.post("reports", &json!({ "incarnation": 2, "reports": [report(9)] })).await;
    other.problem(409);
    let huge = [
        ("duration_ms", json!(u64::MAX)),
        ("retry_in_ms", json!(u64::MAX)),
        ("output_tail", json!("x".repeat(9000))),
        ("facts", json!({ "a": "x".repeat(20_000) })),
    ];
    for (field, value) in huge {
        let mut bad = first.clone();
        bad["seq"] = json!(9);
        bad[field] = value;
        let answer = send(json!([bad])).await;
        assert!(answer.problem(422).contains_key(&format!("/reports/0/{field}")), "{field}: {}", answer.text());
    }
    // a reason of any length is cut: a report that is refused would block the agent's outbox
    let mut wordy = first.clone();
    wordy["seq"] = json!(9);
    wordy["outcome"] = json!("failed");
    wordy["reason"] = json!("é".repeat(100_000));
    wordy["hint"] = json!("h".repeat(100_000));
    assert_eq!(send(json!([wordy])).await.status, 200);
    let view = rig.get(&format!("/straas/v1.0/nodes/{}", agent.node)).await;
    assert!(view.to_string().len() < 20_000);
}

#[tokio::test]
async fn what_is_too_large_or_not_json_is_a_problem() {
    let rig = Rig::start().await;
    let (_, mut agent) = one(&rig).await;
    let path = |what: &str| agent.path(what);
    for (what, size) in [("heartbeat", 65 * 1024), ("reports", 4 << 20), ("poll", 20 * 1024), ("renew", 20 * 1024)] {
        agent.ask(Method::POST, &path(what), vec![b' '; size]).await.problem(413);
        agent.ask(Method::POST, &path(what), b"nope".to_vec()).await.problem(400);
        agent.ask(Method::POST, &path(what), b"[]".to_vec()).await.problem(422);
        agent.ask(Method::POST, &path(what), format!("{{\"x\":{}", "[".repeat(10_000)).into_bytes()).await.problem(400);
        agent.ask(Method::PUT, &path(what), vec![]).await.problem(405);
    }
    agent.ask(Method::GET, "/agent/v1/nothing", vec![]).await.problem(404);
    agent.ask(Method::GET, "/straas/v1.0/topologies", vec![]).await.problem(404);
    agent.ask(Method::GET, &path(&format!("packs/{}", "0".repeat(40))), vec![]).await.problem(404);
    agent.ask(Method::GET, &path("packs/..%2f..%2fetc"), vec![]).await.problem(422);
    agent.ask(Method::GET, &path(&format!("packs/{}?hvae=1", "0".repeat(40))), vec![]).await.problem(400);
    agent.ask(Method::GET, &path("files/..%2f..%2fca%2fca.key"), vec![]).await.problem(404);
    let mut beat = agent.heartbeat_body();
    beat.beat = u64::MAX;
    assert!(agent.post("heartbeat", &beat).await.problem(422).contains_key("/beat"));
    beat = agent.heartbeat_body();
    beat.incarnation = 7;
    agent.post("heartbeat", &beat).await.problem(409);
}

#[tokio::test]
async fn scripts_come_as_one_pack_with_its_sum() {
    let rig = Rig::start().await;
    let (_, agent) = one(&rig).await;
    let path = agent.path(&format!("packs/{}", agent.assignment().scripts));
    let answer = agent.ask(Method::GET, &path, vec![]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("x-straas-sha256"), Digest::sha256(&answer.body).as_str());
    assert_eq!(&answer.body[..4], b"PACK");
    let thin = agent.ask(Method::GET, &format!("{path}?have={}", agent.assignment().scripts), vec![]).await;
    assert!(thin.body.len() < answer.body.len());
}

#[tokio::test]
async fn a_failed_stage_shows_node_stage_output_and_next_try() {
    let rig = Rig::start().await;
    let (id, mut agent) = one(&rig).await;
    let (stage, digest) = agent.wants().expect("a stage");
    assert_eq!(stage, Stage::Install);
    agent.report(ReportBody::Stage(agent.result(stage, digest, Outcome::Failed))).await;
    agent.heartbeat().await;
    let why = rig.get(&format!("/straas/v1.0/nodes/{}/why", agent.node)).await;
    assert_eq!(why["cause"], "retrying", "{why}");
    assert_eq!(why["evidence"]["output"], "E: last line");
    assert!(why["evidence"]["next_retry_ms"].is_string());
    let view = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    assert_eq!(view["status"], "DEGRADED");
    let job = rig.get(&format!("/straas/v1.0/jobs/{}", view["job"].as_str().expect("a job"))).await;
    assert_eq!(job["state"], "failing");
    let request = ReportRequest { incarnation: 1, reports: vec![] };
    agent.post("reports", &request).await.problem(422);
}
