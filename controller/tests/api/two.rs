//! Two controllers over one PostgreSQL and one upstream git server: what one is killed in the middle of, the other one
//! ends; what both write at once is all there; what is asked of one wakes whoever waits at the other.

use crate::agent::{Agent, live};
use crate::commands::{end, list, until};
use crate::life::{API, text};
use crate::rig::Rig;
use crate::rollouts::{Fleet, VALIDATE, is, phases, towns};
use crate::server::run;
use crate::temp_pg::TempPg;
use crate::upstream::{TREE, Upstream, file, put};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use straas_schemas::command::CommandOutcome;
use straas_schemas::poll::{PollAnswer, PollRequest};

/// The first controller, and what the second one needs.
struct Two {
    a: Rig,
    upstream: Upstream,
    settings: String,
    server: TempPg,
}

impl Two {
    async fn new() -> Self {
        let (server, upstream) = (TempPg::start().expect("PostgreSQL"), Upstream::new());
        let url = server.create_database("two").await.expect("a database");
        let timing =
            "[timing]\nheartbeat_ms = 500\nsuspect_after_ms = 20000\nunreachable_after_ms = 60000\nretry_ms = 200\n";
        let settings = format!("[store]\nurl = {url:?}\n{timing}{}", upstream.settings(200));
        Self { a: Rig::start_with(&settings).await, upstream, settings, server }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_with_the_one_that_is_left() {
    let Two { a, upstream, settings, server: _server } = Two::new().await;
    // hosts are made while there is one: what is tried here is not who makes them
    let towns = towns(&a, 4).await;
    let b = Rig::beside(&a, &settings).await;
    let old = run(&upstream.scripts, "git", &["rev-parse", "master"]);
    let new = upstream.push_to(&upstream.scripts, VALIDATE, "#!/bin/bash\nexit 0\n");
    let mut fleet = Fleet { rig: a, towns, old, new };
    let rollout = fleet.begin(json!({ "batches": [25, 50, 75, 100] })).await;
    // both look at it all the time; the one that plans for its agents dies while the second batch is under way
    fleet.until(&rollout, &[0], |now| phases(now).starts_with("verified begun")).await;
    fleet.rig.kill().await;
    fleet.rig = b;
    fleet.towns.iter_mut().flat_map(|town| &mut town.agents).for_each(|agent| agent.follow(&fleet.rig));
    let end = fleet.until(&rollout, &[0, 1, 2, 3], is("succeeded")).await;
    assert_eq!((phases(&end).as_str(), fleet.wanted().await.as_str()), ("verified verified verified verified", "nnnn"));
    for (town, member) in fleet.towns.iter().zip(end["members"].as_array().expect("members")) {
        let path = format!("{API}/jobs?component={}&kind=sync", town.component);
        let jobs = fleet.rig.get(&path).await["items"].clone();
        let jobs: Vec<_> = jobs.as_array().expect("jobs").iter().map(|job| (&job["id"], &job["state"])).collect();
        assert_eq!(jobs, [(&member["job"], &json!("succeeded"))], "begun once");
    }
}

/// Changes a value of a topology's branch; the commit.
async fn tick(rig: &Rig, branch: &str, value: usize) -> String {
    let path = format!("{TREE}/{branch}/app/zookeeper/3.8.0/user.json");
    let read = rig.get(&path).await;
    let mut file: Value = serde_json::from_str(read["content"].as_str().expect("text")).expect("json");
    let sections = file["content"].as_array_mut().expect("sections").iter_mut();
    let mut options = sections.flat_map(|section| section["options"].as_array_mut().expect("options"));
    options.find(|option| option["key"] == "tickTime").expect("tickTime")["value"] = json!(value.to_string());
    let body = json!({ "content": file.to_string(), "message": "a tick" });
    let written = rig.call(Method::PUT, &path, body.to_string().into_bytes()).await;
    assert_eq!(written.status, 200, "{}", written.text());
    text(&written.json()["commit"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_write_at_once_is_all_upstream_and_seen_by_both() {
    const ROUNDS: usize = 8;
    let two = Two::new().await;
    let (a, b) = (&two.a, &Rig::beside(&two.a, &two.settings).await);
    a.create("one", 1).await;
    b.create("two", 1).await;
    // a branch is made after its topology was accepted, and is upstream then
    for (rig, branch) in [(a, "two@z1"), (b, "one@z1")] {
        rig.until(&format!("{TREE}/{branch}"), |answer| answer.status == 200).await;
    }
    let setting = async |rig: &Rig, path: &str, content: String| {
        let written = put(rig, path, &content, None).await;
        assert_eq!(written.status, 200, "{}", written.text());
        text(&written.json()["commit"])
    };
    let mut commits = vec![];
    for round in 0..ROUNDS {
        let rate = u32::try_from(100 + round).expect("small");
        let (w, x, y, z) = tokio::join!(
            setting(a, "service/api.json", file("limits", "rate", rate)),
            setting(b, "service/agent.json", file("timing", "waiting_ms", rate)),
            tick(a, "two@z1", 2000 + round),
            tick(b, "one@z1", 3000 + round),
        );
        let both = tokio::join!(tick(a, "one@z1", 4000 + 2 * round), tick(b, "one@z1", 4001 + 2 * round));
        commits.extend([("master", w), ("master", x), ("two@z1", y), ("one@z1", z)]);
        commits.extend([("one@z1", both.0), ("one@z1", both.1)]);
    }
    let git = |words: &[&str]| run(&two.upstream.configs, "git", words);
    for (branch, commit) in &commits {
        git(&["merge-base", "--is-ancestor", commit, branch]);
    }
    let mut distinct: Vec<&String> = commits.iter().map(|(_, commit)| commit).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 6 * ROUNDS, "each write is a commit of its own");
    for branch in ["master", "one@z1", "two@z1"] {
        let head = git(&["rev-parse", branch]);
        for rig in [a, b] {
            rig.until(&format!("{TREE}/{branch}"), |answer| answer.json()["commit"] == head.as_str()).await;
        }
    }
}

/// Waits until each knows of the other: from then on they tell each other.
async fn know_each_other(a: &Rig, b: &Rig) {
    for rig in [a, b] {
        rig.until("/metrics", |answer| answer.text().contains("straas_controller_controllers_beside 1")).await;
    }
}

/// A poll that is answered when there is something to do, not when somebody only wishes for a look.
async fn held(agent: &Agent) -> PollAnswer {
    let body = PollRequest { look: u64::MAX, ..agent.poll_body(60_000) };
    let answer = agent.post("poll", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("an answer")
}

/// A poll that `agent` holds open at `at`, and how long after `change` was answered it ended.
async fn woken<T>(at: &Rig, agent: &mut Agent, change: impl Future<Output = T>) -> (PollAnswer, T, Duration) {
    let asked = AtomicBool::new(false);
    let changing = async {
        at.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
        asked.store(true, Ordering::SeqCst);
        (change.await, Instant::now())
    };
    let polling = async {
        loop {
            let answer = held(agent).await;
            if asked.load(Ordering::SeqCst) {
                return (answer, Instant::now());
            }
            // something of before
            agent.round().await;
        }
    };
    let ((answer, heard), (changed, answered)) = tokio::join!(polling, changing);
    (answer, changed, heard.saturating_duration_since(answered))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_one_wakes_whoever_waits_at_the_other() {
    let two = Two::new().await;
    let (a, mut b) = (&two.a, Rig::beside(&two.a, &two.settings).await);
    let topology = a.create("demo", 1).await;
    let mut agents = a.enrolled(&topology, 1).await;
    live(a, &mut agents, &topology, "ACTIVE").await;
    know_each_other(a, &b).await;
    let mut agent = agents.remove(0);
    agent.follow(&b);

    // a command, and its answer to whoever waits for it where he asked
    let path = format!("{API}/nodes/{}/commands", agent.node);
    let body = list();
    let asking = async {
        b.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 1")).await;
        let asked = a.post(&path, &body).await;
        assert_eq!(asked.status, 202, "{}", asked.text());
        a.get(&format!("{API}/commands/{}?wait=30s", text(&asked.json()["id"]))).await
    };
    let serving = async {
        let answer = held(&agent).await;
        let id = answer.commands.first().expect("a command").id.0.clone();
        agent.report(end(&id, CommandOutcome::Succeeded)).await;
        id
    };
    let (asked, id) = tokio::join!(asking, serving);
    assert_eq!(asked["state"], "succeeded", "{asked}");
    until(&b, &id, "succeeded").await;

    // a change of what is wanted: its assignment is planned at one and polled at the other
    let restart = format!("{API}/nodes/{}/services", agent.node);
    let mut times = Vec::new();
    for _ in 0..5 {
        agent.poll(0).await;
        agent.round().await;
        let change = async { a.call(Method::PUT, &restart, Vec::new()).await };
        let (answer, changed, took) = woken(&b, &mut agent, change).await;
        assert_eq!(changed.status, 202, "{}", changed.text());
        assert!(answer.assignment.is_some() || !answer.commands.is_empty(), "{answer:?}");
        times.push(took);
        while !agent.round().await {}
    }
    times.sort();
    println!(
        "a change at one reaches the poll at the other {:?} after it was answered (median of {})",
        times[2],
        times.len()
    );

    // deaf: its bell is cut again and again, and what was said meanwhile is found all the same
    let mut database = sqlx::PgConnection::connect(&two.server.url("two")).await.expect("connected");
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query ilike 'listen%'";
    let ended: i64 = sqlx::query_scalar(cut).fetch_one(&mut database).await.expect("asked");
    assert!(ended > 0, "nobody listens");
    agent.poll(0).await;
    agent.round().await;
    let change = async { a.call(Method::PUT, &restart, Vec::new()).await };
    let (answer, changed, _) = woken(&b, &mut agent, change).await;
    assert_eq!(changed.status, 202, "{}", changed.text());
    assert!(answer.assignment.is_some(), "{answer:?}");

    // a node that is gone at one is a stranger at the other
    assert_eq!(a.delete(&topology).await.status, 202);
    let begun = Instant::now();
    while agent.post("poll", &agent.poll_body(0)).await.status != 401 {
        assert!(begun.elapsed() < crate::rig::PATIENCE, "it is still known");
        // waits for: a word from one controller to the other, which shows in this answer only
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    b.down().await.expect("stopped");
    a.until("/metrics", |answer| answer.text().contains("straas_controller_controllers_beside 0")).await;
}

/// What only one controller does: looking at topologies, at rollouts, at commands, at the certificate authority.
const CHORES: usize = 4;

/// Waits until a controller does so many of the chores that only one does.
async fn has_chores(rig: &Rig, count: usize) {
    let line = format!("straas_controller_chores {count}\n");
    rig.until("/metrics", |answer| answer.text().contains(&line)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chores_are_of_one_and_go_to_the_other() {
    let Two { mut a, settings, server, upstream: _upstream } = Two::new().await;
    has_chores(&a, CHORES).await;
    let b = Rig::beside(&a, &settings).await;
    know_each_other(&a, &b).await;
    has_chores(&b, 0).await;
    a.down().await.expect("stopped");
    has_chores(&b, CHORES).await;
    // one that stood still for longer than its leases live finds that they are another's
    let mut database = sqlx::PgConnection::connect(&server.url("two")).await.expect("connected");
    let taken = "update lease set epoch = epoch + 1000, holder = 'another', until_ms = until_ms + 3600000";
    sqlx::query(taken).execute(&mut database).await.expect("written");
    has_chores(&b, 0).await;
    sqlx::query("delete from lease").execute(&mut database).await.expect("written");
    has_chores(&b, CHORES).await;
}

/// A topology of one node, whose host a controller has taken up and cannot make yet.
async fn spawning(a: &Rig) -> String {
    a.boot.send_replace(None);
    let topology = a.create("demo", 1).await;
    let spawning = |answer: &Answer| answer.json()["components"][0]["nodes"][0]["why"]["cause"] == "spawning";
    a.until(&format!("{API}/topologies/{topology}"), spawning).await;
    topology
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_made_by_one_and_by_the_other_when_that_one_ends() {
    let Two { mut a, settings, server, upstream: _upstream } = Two::new().await;
    let topology = spawning(&a).await;
    let mut database = sqlx::PgConnection::connect(&server.url("two")).await.expect("connected");
    let mut on_hosts = async || -> i64 {
        let held = "select count(*) from lease where name like 'host/%'";
        sqlx::query_scalar(held).fetch_one(&mut database).await.expect("asked")
    };
    while on_hosts().await == 0 {
        // waits for: work in the background, which shows in the database only
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // this one has all it needs, and would make it
    let b = Rig::beside(&a, &settings).await;
    know_each_other(&a, &b).await;
    assert_eq!(*a.hosts.changes.borrow(), 0, "it is the other's to make");
    a.down().await.expect("stopped");
    let mut agents = b.enrolled(&topology, 1).await;
    live(&b, &mut agents, &topology, "ACTIVE").await;
    assert_eq!(*b.hosts.changes.borrow(), 1, "made once");
    assert_eq!(on_hosts().await, 0, "none is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_one_makes_and_the_other_was_told_not_to_is_not_made() {
    let two = Two::new().await;
    let topology = spawning(&two.a).await;
    let b = Rig::beside(&two.a, &two.settings).await;
    assert_eq!(b.delete(&topology).await.status, 202);
    b.until(&format!("{API}/topologies/{topology}"), |answer| answer.status == 404).await;
    assert_eq!(*two.a.hosts.changes.borrow(), 0);
}
