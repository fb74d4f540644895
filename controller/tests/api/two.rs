//! Two controllers over one PostgreSQL and one upstream git server: what one is killed in the middle of, the other one
//! ends; what both write at once is all there.

use crate::life::{API, text};
use crate::rig::Rig;
use crate::rollouts::{Fleet, VALIDATE, is, phases, towns};
use crate::server::run;
use crate::temp_pg::TempPg;
use crate::upstream::{TREE, Upstream, file, put};
use http::Method;
use serde_json::{Value, json};

/// The first controller, and what the second one needs.
struct Two {
    a: Rig,
    upstream: Upstream,
    settings: String,
    _server: TempPg,
}

impl Two {
    async fn new() -> Self {
        let (server, upstream) = (TempPg::start().expect("PostgreSQL"), Upstream::new());
        let url = server.create_database("two").await.expect("a database");
        let timing =
            "[timing]\nheartbeat_ms = 500\nsuspect_after_ms = 20000\nunreachable_after_ms = 60000\nretry_ms = 200\n";
        let settings = format!("[store]\nurl = {url:?}\n{timing}{}", upstream.settings(200));
        Self { a: Rig::start_with(&settings).await, upstream, settings, _server: server }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_goes_on_with_the_one_that_is_left() {
    let Two { a, upstream, settings, _server } = Two::new().await;
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
