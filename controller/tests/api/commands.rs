//! Guest commands over both APIs: offered at most once, ended by the truth, cancelled, expired.

use crate::agent::{Agent, live};
use crate::rig::Rig;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use straas_schemas::CommandId;
use straas_schemas::command::{CommandEnd, CommandOrder, CommandOutcome};
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::ReportBody;

/// A working topology with its agents.
pub async fn working(rig: &Rig, size: u32) -> (String, Vec<Agent>) {
    let id = rig.create("demo", size).await;
    let mut agents = rig.enrolled(&id, size as usize).await;
    live(rig, &mut agents, &id, "ACTIVE").await;
    for agent in &mut agents {
        agent.poll(0).await;
    }
    (id, agents)
}

/// A poll that names what the agent has.
pub async fn poll(agent: &Agent, named: &[&str], wait_ms: u32) -> PollAnswer {
    let commands = named.iter().map(|id| CommandId::from(*id)).collect();
    let answer = agent.post("poll", &PollRequest { commands, ..agent.poll_body(wait_ms) }).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("a poll answer")
}

/// The one order that a poll brings.
pub async fn order(agent: &Agent, named: &[&str]) -> CommandOrder {
    let mut answer = poll(agent, named, 60_000).await;
    assert_eq!(answer.commands.len(), 1, "{answer:?}");
    answer.commands.remove(0)
}

pub fn end(id: &str, outcome: CommandOutcome) -> ReportBody {
    ReportBody::Command(CommandEnd {
        id: id.into(),
        outcome,
        exit_code: Some(i32::from(outcome != CommandOutcome::Succeeded)),
        reason: if outcome == CommandOutcome::Succeeded { String::new() } else { "it did not go well".into() },
        hint: None,
        duration_ms: 12,
        result: json!({ "count": 1 }).as_object().cloned().expect("an object"),
        output_bytes: 0,
    })
}

/// Asks for a command; its id.
pub async fn ask(rig: &Rig, agent: &Agent, body: Value) -> String {
    let answer = rig.post(&format!("/straas/v1.0/nodes/{}/commands", agent.node), &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("location"), format!("/straas/v1.0/commands/{id}"));
    id
}

pub async fn show(rig: &Rig, id: &str) -> Value {
    rig.get(&format!("/straas/v1.0/commands/{id}")).await
}

/// Waits until a command stands so.
pub async fn until(rig: &Rig, id: &str, state: &str) -> Value {
    rig.until(&format!("/straas/v1.0/commands/{id}"), |answer| answer.json()["state"] == state).await.json()
}

pub fn list() -> Value {
    json!({ "command": "assist-cmd/list" })
}

#[tokio::test]
async fn a_command_wakes_the_poll_is_offered_until_named_and_ends_once() {
    let rig = Rig::start().await;
    let (topology, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let waiting = poll(agent, &[], 60_000);
    let asking = async {
        rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
        let args = json!({ "command": "zk-cmd/create-namespace", "args": { "name": "a" }, "timeout_s": 7 });
        (ask(&rig, agent, args).await, Instant::now())
    };
    let (answer, (id, asked)) = tokio::join!(waiting, asking);
    assert!(asked.elapsed() < Duration::from_secs(5), "at once");
    let [order] = answer.commands.as_slice() else { panic!("{answer:?}") };
    assert_eq!(
        (order.id.as_str(), order.command.as_str(), order.timeout_s),
        (id.as_str(), "zk-cmd/create-namespace", 7)
    );
    assert!(order.idempotent && (590_000..=600_000).contains(&order.begin_within_ms), "{order:?}");
    assert_eq!(show(&rig, &id).await["state"], "queued");
    // the answer was lost: it is offered again at once, then the agent says that it has it
    assert_eq!(poll(agent, &[], 60_000).await.commands[0].id.as_str(), id);
    assert!(poll(agent, &[&id], 0).await.commands.is_empty());
    let running = until(&rig, &id, "running").await;
    assert!(running["started_ms"].is_i64());
    assert!(poll(agent, &[&id], 100).await.commands.is_empty());
    // its end comes twice, with another end after it
    agent.report(end(&id, CommandOutcome::Succeeded)).await;
    agent.report(end(&id, CommandOutcome::Failed)).await;
    let done = show(&rig, &id).await;
    assert_eq!((&done["state"], &done["end"]["result"]["count"]), (&json!("succeeded"), &json!(1)), "{done}");
    assert!(poll(agent, &[], 100).await.commands.is_empty(), "never again");
    let texts: Vec<_> =
        rig.store_events(&topology).await.into_iter().filter(|e| e.kind == "command").map(|e| e.text).collect();
    assert!(texts[0].contains("queued") && texts[1].contains("runs") && texts[2].contains("succeeded"), "{texts:?}");
    let metrics = rig.call(Method::GET, "/metrics", vec![]).await.text();
    assert!(metrics.contains("straas_controller_commands_ended_total{outcome=\"succeeded\"}"), "{metrics}");
    // without scripts, or after its ledger was lost, an agent is offered nothing
    let other = ask(&rig, agent, list()).await;
    let empty = PollRequest { generation: 0, digest: None, ..agent.poll_body(0) };
    let answer: PollAnswer = serde_json::from_slice(&agent.post("poll", &empty).await.body).expect("an answer");
    assert!(answer.assignment.is_some() && answer.commands.is_empty());
    agent.report(ReportBody::LedgerLost { reason: "torn".into() }).await;
    assert_eq!(show(&rig, &other).await["state"], "queued", "an idempotent one may be run");
}

#[tokio::test]
async fn waiting_for_the_end_listing_and_asking_again() {
    let rig = Rig::start().await;
    let (topology, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let path = format!("/straas/v1.0/nodes/{}/commands", agent.node);
    let headers = [("x-auth-token", rig.token.as_str()), ("idempotency-key", "key-1")];
    let body = list().to_string().into_bytes();
    let first = rig.raw(Method::POST, &path, &headers, body.clone()).await;
    let again = rig.raw(Method::POST, &path, &headers, body).await;
    assert_eq!((first.status, again.status, &first.json()["id"]), (202, 202, &again.json()["id"]));
    let other = json!({ "command": "assist-cmd/list", "timeout_s": 5 }).to_string().into_bytes();
    rig.raw(Method::POST, &path, &headers, other).await.problem(422);
    let long = "x".repeat(129);
    let bad = [headers[0], ("idempotency-key", long.as_str())];
    rig.raw(Method::POST, &path, &bad, list().to_string().into_bytes()).await.problem(400);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(rig.get(&format!("/straas/v1.0/commands/{id}?wait=50ms")).await["state"], "queued");
    let path = format!("/straas/v1.0/commands/{id}?wait=1m");
    let waiting = rig.get(&path);
    let ending = async {
        order(agent, &[]).await;
        let path = agent.path(&format!("commands/{id}/output?offset=0"));
        let piece = agent.ask(Method::POST, &path, b"h\xc3\xa9\xff\n".to_vec()).await;
        assert_eq!(piece.json(), json!({ "next": 5 }));
        agent.report(end(&id, CommandOutcome::Failed)).await;
    };
    let (ended, ()) = tokio::join!(waiting, ending);
    assert_eq!((&ended["state"], &ended["output"]), (&json!("failed"), &json!("hé\u{fffd}\n")));
    let raw = rig.call(Method::GET, &format!("/straas/v1.0/commands/{id}/output?offset=1"), vec![]).await;
    assert_eq!((&raw.body[..], raw.header("content-type")), (&b"\xc3\xa9\xff\n"[..], "application/octet-stream"));
    let mut ids = vec![id];
    for _ in 0..4 {
        ids.push(ask(&rig, agent, list()).await);
    }
    let mut found = Vec::new();
    let mut marker = String::new();
    loop {
        let page = rig.get(&format!("/straas/v1.0/commands?topology={topology}&limit=2{marker}")).await;
        found.extend(
            page["items"].as_array().expect("items").iter().map(|c| c["id"].as_str().expect("an id").to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        marker = format!("&marker={next}");
    }
    ids.reverse();
    assert_eq!(found, ids);
    for (query, count) in
        [("state=failed", 1), ("state=queued", 4), (&format!("node={}", agent.node), 5), ("component=x", 0)]
    {
        let page = rig.get(&format!("/straas/v1.0/commands?{query}")).await;
        assert_eq!(page["items"].as_array().expect("items").len(), count, "{query}");
    }
}

#[tokio::test]
async fn cancelled_while_queued_while_running_and_too_late() {
    let rig = Rig::start().await;
    let (_, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let cancel = async |id: &str| rig.call(Method::POST, &format!("/straas/v1.0/commands/{id}/cancel"), vec![]).await;
    // nobody had it
    let id = ask(&rig, agent, list()).await;
    assert_eq!(cancel(&id).await.json()["state"], "cancelled");
    assert!(poll(agent, &[], 50).await.commands.is_empty());
    cancel(&id).await.problem(409);
    cancel("nobody").await.problem(404);
    // it runs: the agent is told, and says how it ended
    let id = ask(&rig, agent, list()).await;
    order(agent, &[]).await;
    poll(agent, &[&id], 0).await;
    until(&rig, &id, "running").await;
    let named = [id.as_str()];
    let (answer, cancelled) = tokio::join!(poll(agent, &named, 60_000), cancel(&id));
    assert_eq!((cancelled.status, &cancelled.json()["cancelling"]), (202, &json!(true)));
    assert_eq!(answer.cancel, [CommandId::from(id.as_str())]);
    agent.report(end(&id, CommandOutcome::Cancelled)).await;
    assert_eq!(show(&rig, &id).await["state"], "cancelled");
    // the agent had taken it before the cancel came: it shows as running and is to be ended; its end is the truth
    let id = ask(&rig, agent, list()).await;
    order(agent, &[]).await;
    cancel(&id).await;
    assert_eq!(poll(agent, &[&id], 60_000).await.cancel, [CommandId::from(id.as_str())]);
    until(&rig, &id, "running").await;
    agent.report(end(&id, CommandOutcome::Succeeded)).await;
    assert_eq!(show(&rig, &id).await["state"], "succeeded");
}

#[tokio::test]
async fn a_deadline_expires_what_waits_and_a_late_end_is_the_truth() {
    let rig = Rig::start().await;
    let (_, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let short = json!({ "command": "assist-cmd/list", "deadline_s": 1 });
    let id = ask(&rig, agent, short.clone()).await;
    let left = order(agent, &[]).await.begin_within_ms;
    assert!((1..=1_000).contains(&left), "{left}");
    let expired = until(&rig, &id, "expired").await;
    assert!(expired["end"]["reason"].as_str().is_some_and(|reason| reason.contains("deadline")), "{expired}");
    assert!(poll(agent, &[], 50).await.commands.is_empty());
    agent.report(end(&id, CommandOutcome::Succeeded)).await;
    assert_eq!(show(&rig, &id).await["state"], "succeeded");
    // an agent that says later that it has it, has it
    let id = ask(&rig, agent, short).await;
    until(&rig, &id, "expired").await;
    poll(agent, &[&id], 0).await;
    until(&rig, &id, "running").await;
}

#[tokio::test]
async fn a_restart_and_another_controller_lose_nothing() {
    let mut rig = Rig::start().await;
    let (_, mut agents) = working(&rig, 3).await;
    let id = ask(&rig, &agents[0], list()).await;
    rig.down().await.expect("stopped");
    rig.up().await;
    agents.iter_mut().for_each(|agent| agent.follow(&rig));
    assert_eq!(order(&agents[0], &[]).await.id.as_str(), id);
    // queued by somebody else over the same database, while a poll is held here
    let store = rig.store().await;
    let record = straas_store::CommandStore::command(&store, &id.as_str().into()).await.expect("read").expect("there");
    let waiting = poll(&agents[1], &[], 60_000);
    let elsewhere = async {
        rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
        let node = agents[1].node.as_str().into();
        let record = straas_store::CommandRecord { id: "elsewhere".into(), node, ..record };
        straas_store::CommandStore::queue_commands(&store, &[record], None).await.expect("queued");
    };
    let (answer, ()) = tokio::join!(waiting, elsewhere);
    assert_eq!(answer.commands[0].id.as_str(), "elsewhere");
}

#[tokio::test]
async fn a_node_that_enrols_again_does_not_run_what_the_earlier_host_may_have_run() {
    let rig = Rig::start().await;
    let (topology, agents) = working(&rig, 1).await;
    let drain = json!({ "command": "zk-cmd/four-letter-word", "args": { "word": "ruok" } });
    let (running, queued) = (ask(&rig, &agents[0], drain).await, ask(&rig, &agents[0], list()).await);
    poll(&agents[0], &[&running], 0).await;
    until(&rig, &running, "running").await;
    let token = rig.another_token(&agents[0].node, i64::MAX).await;
    let mut again = Agent::enrol(&rig, &token).await.expect("enrolled");
    again.poll(60_000).await;
    assert_eq!(show(&rig, &running).await["state"], "unknown");
    assert_eq!(order(&again, &[]).await.id.as_str(), queued, "an idempotent one that nobody named is still wanted");
    // of a node that is gone nothing waits
    rig.delete(&topology).await;
    rig.until(&format!("{}/{topology}", crate::rig::TOPOLOGIES), |answer| answer.status == 404).await;
    until(&rig, &queued, "expired").await;
}

#[tokio::test]
async fn what_is_another_tenants_is_not_there() {
    let rig = Rig::start().await;
    let (topology, agents) = working(&rig, 1).await;
    let id = ask(&rig, &agents[0], list()).await;
    let component = rig.get(&format!("/straas/v1.0/topologies/{topology}")).await["components"][0]["id"].clone();
    let component = component.as_str().expect("an id");
    rig.post("/straas/v1.0/tenants", &json!({ "id": "other" })).await;
    let token = rig.post("/straas/v1.0/tokens", &json!({ "label": "somebody", "tenant": "other" })).await.json();
    let token = token["token"].as_str().expect("a token");
    let body = list().to_string().into_bytes();
    for (method, path) in [
        (Method::GET, format!("v1.0/commands/{id}")),
        (Method::GET, format!("v1.0/commands/{id}/output")),
        (Method::GET, format!("v1.0/commands/{id}/events")),
        (Method::POST, format!("v1.0/commands/{id}/cancel")),
        (Method::POST, format!("v1.0/nodes/{}/commands", agents[0].node)),
        (Method::POST, format!("v1.0/components/{component}/commands")),
        (Method::POST, format!("v1.0/topologies/{topology}/commands")),
        (Method::GET, format!("v1.0/guestcmds?component={component}")),
        (Method::GET, "v1.0/batches/x".to_owned()),
        (Method::GET, "demo".to_owned()),
        (Method::POST, format!("guestcmd/{component}/demo-zk-1")),
        (Method::POST, format!("stormjar/{component}?main_class=a.B")),
    ] {
        rig.raw(method, &format!("/straas/{path}"), &[("x-auth-token", token)], body.clone()).await.problem(404);
    }
    let seen = rig.raw(Method::GET, "/straas/v1.0/commands", &[("x-auth-token", token)], vec![]).await;
    assert_eq!(seen.json()["items"], json!([]));
}
