//! Guest commands for many nodes, live output, bad requests, the old API.

use crate::commands::{ask, end, list, order, poll, show, until, working};
use crate::rig::{PATIENCE, Rig};
use crate::streams::Stream;
use http::Method;
use serde_json::{Value, json};
use straas_schemas::command::{
    COMMAND_OUTPUT_BYTES_MAX, COMMAND_PIECE_BYTES_MAX, COMMANDS_WAITING_MAX, CommandOutcome,
};
use straas_schemas::report::ReportBody;

#[tokio::test]
async fn a_batch_goes_in_steps_and_stops_at_its_errors() {
    let rig = Rig::start().await;
    let (topology, mut agents) = working(&rig, 5).await;
    agents.sort_by(|a, b| a.node.cmp(&b.node));
    let body = json!({ "command": "assist-cmd/list", "concurrency": 2, "max_errors": 2 });
    let answer = rig.post(&format!("/straas/v1.0/topologies/{topology}/commands"), &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let batch = answer.json();
    let place = answer.header("location").to_owned();
    let commands = batch["commands"].as_array().expect("commands").clone();
    assert_eq!((commands.len(), &batch["counts"]), (5, &json!({ "queued": 5 })));
    let of = |at: usize| {
        let node = commands[at]["node"].as_str().expect("a node").to_owned();
        (commands[at]["id"].as_str().expect("an id").to_owned(), node)
    };
    let agent = |node: &str| agents.iter().position(|agent| agent.node == node).expect("an agent");
    let (first, second, third) = (of(0), of(1), of(2));
    assert_eq!(order(&agents[agent(&first.1)], &[]).await.id.as_str(), first.0);
    assert_eq!(order(&agents[agent(&second.1)], &[]).await.id.as_str(), second.0);
    let at = agent(&third.1);
    assert!(poll(&agents[at], &[], 50).await.commands.is_empty(), "not its turn");
    let at = agent(&first.1);
    agents[at].report(end(&first.0, CommandOutcome::Failed)).await;
    let agent = |node: &str| agents.iter().position(|agent| agent.node == node).expect("an agent");
    assert_eq!(order(&agents[agent(&third.1)], &[]).await.id.as_str(), third.0);
    poll(&agents[agent(&third.1)], &[&third.0], 0).await;
    until(&rig, &third.0, "running").await;
    let at = agent(&second.1);
    agents[at].report(end(&second.0, CommandOutcome::Failed)).await;
    for at in [3, 4] {
        let stopped = until(&rig, &of(at).0, "cancelled").await;
        assert!(stopped["end"]["reason"].as_str().is_some_and(|reason| reason.contains("batch")), "{stopped}");
    }
    let open = rig.get(&place).await;
    assert_eq!(
        (&open["ended_ms"], &open["counts"]),
        (&Value::Null, &json!({ "cancelled": 2, "failed": 2, "running": 1 }))
    );
    let at = agents.iter().position(|agent| agent.node == third.1).expect("an agent");
    let path = format!("{place}?wait=60s");
    let (ended, ()) = tokio::join!(rig.get(&path), agents[at].report(end(&third.0, CommandOutcome::Succeeded)));
    assert_eq!((ended["ended_ms"].is_i64(), &ended["counts"]["succeeded"]), (true, &json!(1)), "{ended}");
    // all at once, of a component, named: asked again it is the same
    let component = commands[0]["component"].as_str().expect("a component");
    let path = format!("/straas/v1.0/components/{component}/commands");
    let headers = [("x-auth-token", rig.token.as_str()), ("idempotency-key", "batch-1")];
    let again = async || rig.raw(Method::POST, &path, &headers, list().to_string().into_bytes()).await.json();
    let (one, two) = (again().await, again().await);
    assert_eq!((&one["id"], one["commands"].as_array().map(Vec::len)), (&two["id"], Some(5)));
    let bad = [
        (json!({ "command": "assist-cmd/list", "role": "nobody" }), "/role"),
        (json!({ "command": "assist-cmd/list", "concurrency": 0 }), "/concurrency"),
        (json!({ "command": "assist-cmd/mystery" }), "/command"),
        (json!({ "command": "storm-cmd/list" }), "/command"),
    ];
    for (body, pointer) in bad {
        let faults = rig.post(&path, &body).await.problem(422);
        assert_eq!(faults.into_keys().collect::<Vec<_>>(), [pointer], "{body}");
    }
}

#[tokio::test]
async fn a_batch_is_cancelled_as_a_whole() {
    let rig = Rig::start().await;
    let (topology, mut agents) = working(&rig, 3).await;
    let body = json!({ "command": "assist-cmd/list", "concurrency": 1 });
    let answer = rig.post(&format!("/straas/v1.0/topologies/{topology}/commands"), &body).await;
    let place = answer.header("location").to_owned();
    let batch = answer.json();
    let id = |at: usize| batch["commands"][at]["id"].as_str().expect("an id").to_owned();
    let runs = agents.iter().position(|agent| batch["commands"][0]["node"] == agent.node.as_str()).expect("an agent");
    order(&agents[runs], &[]).await;
    poll(&agents[runs], &[&id(0)], 0).await;
    until(&rig, &id(0), "running").await;
    let cancelled = rig.post(&format!("{place}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    // what waits never begins; what runs is told to end
    assert_eq!(cancelled.json()["counts"], json!({ "cancelled": 2, "running": 1 }));
    for at in [1, 2] {
        until(&rig, &id(at), "cancelled").await;
    }
    assert_eq!(poll(&agents[runs], &[&id(0)], 0).await.cancel, [id(0).into()]);
    agents[runs].report(end(&id(0), CommandOutcome::Cancelled)).await;
    assert!(rig.get(&format!("{place}?wait=60s")).await["ended_ms"].is_i64());
    rig.post(&format!("{place}/cancel"), &json!({})).await.problem(409);
    rig.post("/straas/v1.0/batches/nothing/cancel", &json!({})).await.problem(404);
}

#[tokio::test]
async fn output_is_streamed_live_to_a_slow_reader_and_resumed() {
    let rig = Rig::start().await;
    let (_, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let id = ask(&rig, agent, list()).await;
    let path = format!("/straas/v1.0/commands/{id}/events");
    let mut stream = Stream::open(&rig, &path, None).await;
    let first = stream.next().await.expect("an event");
    assert_eq!((first.kind.as_str(), &first.data["state"], first.id), ("state", &json!("queued"), Some(0)));
    let unread = Stream::open(&rig, &path, None).await;
    order(agent, &[]).await;
    // the whole of it, in pieces that cut characters, some of them sent twice
    let text = "é€😀 line of output\n".repeat(COMMAND_OUTPUT_BYTES_MAX / 20);
    let bytes = text.as_bytes();
    let whole = bytes.len();
    let mut next = 0;
    while next < whole {
        let upto = (next + COMMAND_PIECE_BYTES_MAX - 7).min(whole);
        let send = async |from: usize| {
            let path = agent.path(&format!("commands/{id}/output?offset={from}"));
            agent.ask(Method::POST, &path, bytes[from..upto].to_vec()).await.json()
        };
        send(next).await;
        assert_eq!(send(next).await["next"], json!(upto));
        next = upto;
    }
    agent.report(end(&id, CommandOutcome::Succeeded)).await;
    let kept = whole.min(COMMAND_OUTPUT_BYTES_MAX);
    let mut got = String::new();
    let mut ids = Vec::new();
    let last = loop {
        let event = stream.next().await.expect("an event");
        if event.kind == "output" {
            assert_eq!(event.data["offset"].as_u64(), Some(got.len() as u64));
            got.push_str(event.data["text"].as_str().expect("a text"));
            ids.push(event.id.expect("an id"));
        } else if event.data["state"] == "succeeded" {
            break event;
        }
    };
    assert_eq!(last.data["output"], "");
    assert!(stream.next().await.is_none(), "it ends with the command");
    assert!(got.len() >= kept - 3 && text.starts_with(&got[..kept - 3]), "{} of {kept}", got.len());
    assert!(ids.len() > 10, "piece by piece");
    // resumed: only what comes after
    let mut rest = Stream::open(&rig, &path, Some(ids[3])).await;
    assert_eq!(rest.next().await.expect("an event").data["offset"].as_i64(), Some(ids[3]));
    drop(unread);
    let shown = show(&rig, &id).await;
    assert!(shown["output"].as_str().is_some_and(|output| output.len() >= kept - 3));
}

#[tokio::test]
async fn an_end_that_overtakes_the_last_output_is_shown_after_it() {
    let rig = Rig::start().await;
    let (_, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    let id = ask(&rig, agent, list()).await;
    let mut stream = Stream::open(&rig, &format!("/straas/v1.0/commands/{id}/events"), None).await;
    order(agent, &[]).await;
    let mut over = end(&id, CommandOutcome::Failed);
    if let ReportBody::Command(end) = &mut over {
        end.output_bytes = 10;
    }
    agent.report(over).await;
    until(&rig, &id, "failed").await;
    let piece = agent.path(&format!("commands/{id}/output?offset=0"));
    let path = format!("/straas/v1.0/commands/{id}?wait=60s");
    // asked for before the last output comes
    let (waited, sent) = tokio::join!(rig.get(&path), agent.ask(Method::POST, &piece, b"last words".to_vec()));
    assert_eq!(sent.json()["next"], 10);
    assert_eq!((&waited["state"], &waited["output"]), (&json!("failed"), &json!("last words")));
    let mut heard = String::new();
    while let Some(event) = stream.next().await {
        assert!(event.data["state"] != "failed" || heard == "last words", "the end after {heard:?}");
        heard.push_str(event.data["text"].as_str().unwrap_or_default());
    }
    assert_eq!(heard, "last words");
}

#[tokio::test]
async fn pieces_are_bounded_and_a_nodes_own() {
    let rig = Rig::start().await;
    let (_, agents) = working(&rig, 3).await;
    let id = ask(&rig, &agents[0], list()).await;
    let send = async |at: usize, query: &str, bytes: Vec<u8>| {
        agents[at].ask(Method::POST, &agents[at].path(&format!("commands/{id}/output{query}")), bytes).await
    };
    assert_eq!(send(0, "?offset=0", b"abc".to_vec()).await.json(), json!({ "next": 3 }));
    assert_eq!(send(0, "?offset=9", b"gap".to_vec()).await.json(), json!({ "next": 3 }));
    send(1, "?offset=0", b"x".to_vec()).await.problem(404);
    send(0, "?offset=0", vec![0; COMMAND_PIECE_BYTES_MAX + 1]).await.problem(413);
    for bad in ["", "?offset=x", "?offset=-1", "?offset=0&x=1"] {
        send(0, bad, vec![]).await.problem(400);
    }
    send(0, &format!("?offset={}", u64::MAX), vec![]).await.problem(422);
    let other = agents[0].path("commands/nobody/output?offset=0");
    agents[0].ask(Method::POST, &other, b"x".to_vec()).await.problem(404);
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_and_nothing_is_queued() {
    let rig = Rig::start().await;
    let (_, agents) = working(&rig, 1).await;
    let path = format!("/straas/v1.0/nodes/{}/commands", agents[0].node);
    let check = async |body: Value, pointers: &[&str]| {
        let faults = rig.post(&path, &body).await.problem(422);
        assert_eq!(faults.keys().map(String::as_str).collect::<Vec<_>>(), pointers, "{body}: {faults:?}");
        faults
    };
    let unknown = check(json!({ "command": "zk-cmd/mystery" }), &["/command"]).await;
    assert!(unknown["/command"].contains("zk-cmd/list-namespace"), "{unknown:?}");
    for name in
        ["", "zk-cmd", "../x", "zk-cmd/..", "lib/zk.sh", "schema/guestcmd.schema", "zk-cmd/a/b", "zk-cmd/\0", "ZK/x"]
    {
        check(json!({ "command": name }), &["/command"]).await;
    }
    check(json!({ "command": "zk-cmd/create-namespace" }), &["/args"]).await;
    check(
        json!({ "command": "zk-cmd/create-namespace", "args": { "name": "../a", "more": 1 } }),
        &["/args", "/args/name"],
    )
    .await;
    check(json!({ "command": "assist-cmd/list", "args": { "x": "y".repeat(20_000) } }), &["/args"]).await;
    check(
        json!({ "command": "assist-cmd/list", "timeout_s": 0, "deadline_s": 90_000 }),
        &["/deadline_s", "/timeout_s"],
    )
    .await;
    check(json!({ "command": "assist-cmd/list", "colour": 1 }), &[""]).await;
    check(json!({ "command": "kafka-cmd/list-topics" }), &["/command"]).await;
    check(json!({}), &[""]).await;
    rig.call(Method::POST, &path, b"nope".to_vec()).await.problem(400);
    rig.call(Method::POST, "/straas/v1.0/nodes/nobody/commands", b"{}".to_vec()).await.problem(404);
    for path in [
        "commands/x?wait=long",
        "commands?state=mystery",
        "commands?limit=x",
        "commands/x/output?offset=x",
        "guestcmds?x=1",
    ] {
        rig.call(Method::GET, &format!("/straas/v1.0/{path}"), vec![]).await.problem(400);
    }
    assert_eq!(rig.get("/straas/v1.0/commands").await["items"], json!([]));
    // a queue is bounded
    for _ in 0..COMMANDS_WAITING_MAX {
        ask(&rig, &agents[0], list()).await;
    }
    let full = rig.post(&path, &list()).await;
    full.problem(409);
    assert!(full.text().contains("64 commands"), "{}", full.text());
    let offered = rig.get("/straas/v1.0/guestcmds").await;
    let groups: Vec<_> = offered["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|g| (g["name"].as_str().expect("a name"), g["allowed"].as_str().expect("a word")))
        .collect();
    assert!(groups.contains(&("zk-cmd", "tenant")) && !groups.iter().any(|(name, _)| *name == "lib"), "{groups:?}");
}

#[tokio::test]
async fn the_old_routes_answer() {
    let rig = Rig::start().await;
    let (topology, mut agents) = working(&rig, 1).await;
    let agent = &mut agents[0];
    assert_eq!(rig.get("/straas/").await["items"][0]["id"], json!(topology));
    let view = rig.get("/straas/demo").await;
    assert_eq!(view["id"], json!(topology));
    rig.call(Method::GET, "/straas/nobody", vec![]).await.problem(404);
    rig.raw(Method::GET, "/straas/", &[], vec![]).await.problem(401);
    let component = view["components"][0]["id"].as_str().expect("an id");
    let path = format!("/straas/guestcmd/{component}/demo-zk-1");
    let body = json!({ "command": "zk-cmd/create-namespace", "args": "{\"name\":\"a\"}" });
    let working = async {
        let id = order(agent, &[]).await.id;
        agent.ask(Method::POST, &agent.path(&format!("commands/{id}/output?offset=0")), b"made\n".to_vec()).await;
        agent.report(end(id.as_str(), CommandOutcome::Succeeded)).await;
    };
    let (answer, ()) = tokio::join!(rig.post(&path, &body), working);
    assert_eq!(
        (answer.status, &answer.json()["output"], &answer.json()["args"]["name"]),
        (200, &json!("made\n"), &json!("a"))
    );
    rig.post(&path, &json!({ "command": "assist-cmd/list", "args": 3 })).await.problem(422);
    rig.post(&format!("/straas/guestcmd/{component}/nobody"), &list()).await.problem(404);
    let jar = format!("/straas/stormjar/{component}?main_class=a.B");
    rig.call(Method::POST, &jar, b"jar".to_vec()).await.problem(409);
    rig.call(Method::POST, &format!("/straas/stormjar/{component}"), b"jar".to_vec()).await.problem(400);
    assert!(!rig.data().join("uploads").read_dir().expect("a folder").flatten().any(|_| true), "nothing is kept");
}

/// Run by hand: `cargo test --release -p straas-controller --test api command_speed -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn command_speed() {
    const NODES: u32 = 9;
    let rig = Rig::start().await;
    let (topology, agents) = working(&rig, NODES).await;
    for round in 1..=5_u64 {
        let polls = agents.iter().map(|agent| async {
            let id = order(agent, &[]).await.id;
            let report = json!({ "seq": 1000 + round, "at_ms": 0, "kind": "command", "id": id, "outcome": "succeeded", "duration_ms": 1 });
            let answer = agent.post("reports", &json!({ "incarnation": 1, "reports": [report] })).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        });
        let begun = std::time::Instant::now();
        let asking = async {
            let batch = rig.post(&format!("/straas/v1.0/topologies/{topology}/commands"), &list()).await;
            rig.get(&format!("{}?wait=60s", batch.header("location"))).await
        };
        let (ended, _) = tokio::join!(asking, futures_util::future::join_all(polls));
        assert!(ended["ended_ms"].is_i64() && begun.elapsed() < PATIENCE);
        println!("round {round}: {NODES} nodes, all answers in {:?}", begun.elapsed());
    }
}
