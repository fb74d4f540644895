//! What goes on while the database refuses, and what is caught up with afterwards.

use crate::agent::{Agent, live};
use crate::rig::{Rig, TOPOLOGIES, topology};
use http::Method;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection};
use std::time::Duration;
use straas_schemas::Outcome;
use straas_schemas::report::{Report, ReportBody, ReportRequest};

/// The database's own file, behind the controller's back.
async fn open(rig: &Rig) -> SqliteConnection {
    let options =
        SqliteConnectOptions::new().filename(rig.data().join("straas.db")).busy_timeout(Duration::from_secs(30));
    options.connect().await.expect("the database")
}

#[tokio::test]
async fn a_history_that_cannot_be_written_loses_no_report_and_costs_nothing_else() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    rig.nodes(&id, 1).await;
    let mut behind = open(&rig).await;
    behind.execute("alter table event rename to event_away").await.expect("renamed");
    // the token is spent on a certificate; a report is recorded with what is told of it, or not at all
    let mut agents = rig.enrolled(&id, 1).await;
    assert!(agents[0].poll(60_000).await);
    let (stage, digest) = agents[0].wants().expect("a stage");
    let body = ReportBody::Stage(agents[0].result(stage, digest, Outcome::Failed));
    let request = ReportRequest { incarnation: 1, reports: vec![Report { seq: 1, at_ms: 0, body }] };
    agents[0].seq = 1;
    agents[0].post("reports", &request).await.problem(500);
    behind.execute("alter table event_away rename to event").await.expect("renamed");
    assert_eq!(agents[0].post("reports", &request).await.status, 200, "sent again it is recorded");
    let told = rig.store_events(&id).await;
    assert_eq!(told.iter().filter(|event| event.text.contains("failed after")).count(), 1, "{told:?}");
    live(&rig, &mut agents, &id, "ACTIVE").await;

    behind.execute("alter table event rename to event_away").await.expect("renamed");
    let jobs = rig.until("/straas/v1.0/jobs", |answer| answer.json()["items"][0]["state"] == "succeeded").await;
    assert_eq!(jobs.json()["items"][0]["kind"], "create");
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    behind.execute("alter table event_away rename to event").await.expect("renamed");
    behind.close().await.expect("closed");
    rig.create("again", 1).await;
}

#[tokio::test]
async fn while_the_database_takes_no_writes_agents_are_answered_and_nothing_is_lost() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent: Agent = rig.enrolled(&id, 1).await.remove(0);
    assert!(agent.poll(60_000).await);
    let (stage, digest) = agent.wants().expect("a stage");
    let body = ReportBody::Stage(agent.result(stage, digest, Outcome::Failed));
    let request = ReportRequest { incarnation: 1, reports: vec![Report { seq: 1, at_ms: 0, body }] };
    let mut behind = open(&rig).await;
    behind.execute("begin immediate").await.expect("the writer's lock");
    let created = topology("other");
    let (report, create, delete) =
        tokio::join!(agent.post("reports", &request), rig.post(TOPOLOGIES, &created), rig.delete(&id));
    for refused in [report, create, delete] {
        refused.problem(503);
        assert_eq!(refused.header("retry-after"), "2");
    }
    assert_eq!(agent.post("poll", &agent.poll_body(0)).await.status, 200, "polls are answered from memory");
    let heartbeat = agent.heartbeat_body();
    assert_eq!(agent.post("heartbeat", &heartbeat).await.status, 204);
    assert_eq!(rig.call(Method::GET, "/readyz", vec![]).await.status, 200, "reading works");
    behind.execute("rollback").await.expect("unlocked");
    // nothing of what was refused has happened, and everything can be asked for again
    let names = rig.get(TOPOLOGIES).await["items"].as_array().expect("items").len();
    assert_eq!(names, 1);
    assert_eq!(agent.post("reports", &request).await.status, 200);
    rig.until(&format!("/straas/v1.0/nodes/{}/why", agent.node), |answer| answer.json()["cause"] == "retrying").await;
    assert_eq!(rig.post(TOPOLOGIES, &created).await.status, 202);
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
}

#[tokio::test]
async fn agents_are_told_that_their_heartbeats_cannot_be_written_and_none_is_lost() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agent: Agent = rig.enrolled(&id, 1).await.remove(0);
    assert!(agent.poll(60_000).await);
    let mut behind = open(&rig).await;
    behind.execute("begin immediate").await.expect("the writer's lock");
    // whether it can be written is known once it was tried
    let refused = loop {
        let body = agent.heartbeat_body();
        let answer = agent.post("heartbeat", &body).await;
        if answer.status != 204 {
            break answer;
        }
    };
    refused.problem(503);
    assert_eq!(refused.header("retry-after"), "2");
    let last = agent.heartbeat_body();
    agent.post("heartbeat", &last).await.problem(503);
    assert_eq!(agent.post("poll", &agent.poll_body(0)).await.status, 200, "polls are answered from memory");
    behind.execute("rollback").await.expect("unlocked");
    // the agent says nothing more, and is heard
    let path = format!("/straas/v1.0/nodes/{}", agent.node);
    rig.until(&path, |answer| answer.json()["liveness"] == "reachable").await;
    let body = agent.heartbeat_body();
    assert_eq!(agent.post("heartbeat", &body).await.status, 204);
}

#[tokio::test]
async fn a_database_that_forgot_an_assignment_is_gone_on_from() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let before = agents[0].assignment().generation;
    let mut behind = open(&rig).await;
    behind.execute("delete from assignment").await.expect("forgotten");
    behind.close().await.expect("closed");
    // seen by whoever looks, and planned anew from what the database knows
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 200).await;
    let path = format!("/straas/v1.0/nodes/{}", agents[0].node);
    rig.until(&path, |answer| answer.json()["generation"].as_u64().is_some_and(|now| (1..=before).contains(&now)))
        .await;
}
