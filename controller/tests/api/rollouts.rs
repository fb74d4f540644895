//! Rollouts over the fleet: batch after batch, turned back as a whole, steered, through crashes.

use crate::agent::{Agent, live};
use crate::life::{API, text};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_repos::ScriptRepo;
use straas_schemas::Stage;
use straas_schemas::rollout::{FleetMemberPhase, FleetRolloutStanding};
use straas_store::{ComponentRecord, RolloutStore as _, Store as _};

pub const ROLLOUTS: &str = "/straas/v1.0/rollouts";
pub const VALIDATE: &str = "cmd/zookeeper/default/validate.sh";

/// A topology of one node.
pub struct Town {
    pub topology: String,
    pub component: String,
    pub agents: Vec<Agent>,
}

/// Some topologies that work, and a commit of the scripts that nobody has.
pub struct Fleet {
    pub rig: Rig,
    pub towns: Vec<Town>,
    pub old: String,
    pub new: String,
}

impl Fleet {
    pub async fn new(count: usize) -> Self {
        let rig = Rig::start().await;
        let towns = towns(&rig, count).await;
        let scripts = ScriptRepo::open(&rig.data().join("scripts.git")).expect("a repository");
        let old = scripts.head().expect("a head").to_string();
        let new = scripts.write(VALIDATE, b"#!/bin/bash\nexit 0\n", "simpler", "an author").expect("a commit");
        Self { rig, towns, old, new: new.to_string() }
    }

    pub async fn component(&self, town: usize) -> ComponentRecord {
        let id = self.towns[town].component.as_str().into();
        self.rig.store().await.component(&id).await.expect("read").expect("a component")
    }

    /// Which commits are wanted: `o` for the old one, `n` for the new one.
    pub async fn wanted(&self) -> String {
        let mut out = String::new();
        for town in 0..self.towns.len() {
            let scripts = self.component(town).await.spec.want.scripts;
            out.push(if scripts == self.new { 'n' } else { 'o' });
            assert!(scripts == self.new || scripts == self.old, "{scripts}");
        }
        out
    }

    pub async fn begin(&self, more: Value) -> Value {
        let mut body = json!({ "kind": "scripts", "commit": self.new });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = self.rig.post(ROLLOUTS, &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(answer.header("location"), format!("{ROLLOUTS}/{}", text(&answer.json()["id"])));
        answer.json()
    }

    pub async fn show(&self, rollout: &Value) -> Value {
        self.rig.get(&format!("{ROLLOUTS}/{}", text(&rollout["id"]))).await
    }

    pub async fn steer(&self, rollout: &Value, verb: &str) -> Answer {
        self.rig.post(&format!("{ROLLOUTS}/{}/{verb}", text(&rollout["id"])), &Value::Null).await
    }

    /// Lets the agents of some towns live until the rollout is as wanted.
    pub async fn until(&mut self, rollout: &Value, towns: &[usize], wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            for town in towns {
                for agent in &mut self.towns[*town].agents {
                    agent.try_round().await;
                }
            }
            let now = self.show(rollout).await;
            if wanted(&now) {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "still {now:#}");
            // waits for: work in the background, which shows in this answer only
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Lets agents live until all that is asked for holds.
    pub async fn settled(&mut self) {
        let begun = Instant::now();
        while !self.rig.get(&format!("{API}/jobs?open=true")).await["items"].as_array().expect("items").is_empty() {
            for agent in self.towns.iter_mut().flat_map(|town| &mut town.agents) {
                agent.try_round().await;
            }
            let jobs = async || self.rig.get(&format!("{API}/jobs?open=true")).await;
            assert!(begun.elapsed() < PATIENCE, "still {:#}", jobs().await);
        }
    }
}

/// Topologies of one node each, which work.
pub async fn towns(rig: &Rig, count: usize) -> Vec<Town> {
    let mut towns = Vec::new();
    for number in 0..count {
        let topology = rig.create(&format!("town{number}"), 1).await;
        let mut agents = rig.enrolled(&topology, 1).await;
        let view = live(rig, &mut agents, &topology, "ACTIVE").await;
        towns.push(Town { topology, component: text(&view["components"][0]["id"]), agents });
    }
    let over = |answer: &Answer| answer.json()["items"].as_array().is_some_and(Vec::is_empty);
    rig.until(&format!("{API}/jobs?open=true"), over).await;
    towns
}

pub fn phases(rollout: &Value) -> String {
    let members = rollout["members"].as_array().expect("members").iter();
    members.map(|member| text(&member["phase"])).collect::<Vec<_>>().join(" ")
}

pub fn is(state: &str) -> impl Fn(&Value) -> bool {
    move |rollout| rollout["state"] == state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_follow_each_other_and_each_is_verified_before_the_next() {
    let mut fleet = Fleet::new(3).await;
    let dry = fleet.rig.post(&format!("{ROLLOUTS}?dry_run=true"), &json!({ "kind": "scripts" })).await;
    assert_eq!((dry.status, phases(&dry.json()).as_str()), (200, "waiting waiting waiting"), "{}", dry.text());
    assert_eq!(dry.json()["batches"].as_array().map(Vec::len), Some(3), "{}", dry.text());
    assert_eq!(fleet.rig.get(ROLLOUTS).await["items"], json!([]), "nothing is written");

    let rollout = fleet.begin(json!({})).await;
    assert_eq!((&rollout["state"], &rollout["total"]), (&json!("running"), &json!(3)), "{rollout:#}");
    for (batch, (before, wanted)) in
        [("begun waiting waiting", "noo"), ("verified begun waiting", "nno"), ("verified verified begun", "nnn")]
            .into_iter()
            .enumerate()
    {
        // all but who it is about live: nobody begins before that one is verified
        let others: Vec<usize> = (0..3).filter(|town| *town != batch).collect();
        let now =
            fleet.until(&rollout, &others, |now| phases(now) == before && !now["members"][batch]["job"].is_null());
        let now = now.await;
        assert_eq!(now["batch"], batch + 1, "{now:#}");
        let job = text(&now["members"][batch]["job"]);
        let begun = fleet.rig.until(&format!("{API}/jobs/{job}"), |answer| answer.status == 200).await.json();
        assert_eq!((&begun["kind"], &begun["component"]), (&json!("sync"), &json!(fleet.towns[batch].component)));
        for _ in 0..3 {
            let now = fleet.until(&rollout, &others, |_| true).await;
            assert_eq!((phases(&now).as_str(), fleet.wanted().await.as_str()), (before, wanted));
        }
        fleet.until(&rollout, &[batch], |now| now["verified"] == batch + 1).await;
    }
    let end = fleet.until(&rollout, &[], is("succeeded")).await;
    assert_eq!((phases(&end).as_str(), &end["verified"]), ("verified verified verified", &json!(3)));
    assert!(end["ended_ms"].is_number() && end["reason"].is_null(), "{end:#}");
    for town in &fleet.towns {
        assert_eq!(town.agents[0].assignment().scripts, fleet.new);
    }
    let list = fleet.rig.get(ROLLOUTS).await["items"].clone();
    assert_eq!((&list[0]["id"], &list[0]["verified"], &list[0]["total"]), (&rollout["id"], &json!(3), &json!(3)));
    assert!(list[0]["members"].is_null(), "{list:#}");
    assert_eq!(fleet.rig.get(&format!("{ROLLOUTS}?open=true")).await["items"], json!([]));
    // all have it: there is nothing to do
    let again = fleet.begin(json!({})).await;
    assert_eq!((&again["state"], &again["total"], &again["batches"]), (&json!("succeeded"), &json!(0), &json!([])));
    for verb in ["pause", "resume", "cancel"] {
        fleet.steer(&again, verb).await.problem(409);
    }
    let trail = fleet.rig.get(&format!("{API}/audit?all_tenants=true")).await.to_string();
    assert!(trail.contains(&format!("rollout {}", text(&rollout["id"]))), "{trail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_fails_turns_all_of_it_back() {
    let mut fleet = Fleet::new(3).await;
    fleet.towns[1].agents[0].fails = Some(Stage::Validate);
    let rollout = fleet.begin(json!({})).await;
    let second = fleet.until(&rollout, &[0], |now| phases(now) == "verified begun waiting").await;
    assert_eq!(fleet.rig.get(&format!("{ROLLOUTS}?open=true")).await["items"][0]["id"], rollout["id"], "{second:#}");
    let end = fleet.until(&rollout, &[0, 1, 2], is("turned_back")).await;
    assert_eq!(phases(&end), "turned_back failed waiting", "{end:#}");
    let reason = text(&end["reason"]);
    assert!(reason.starts_with("town1/zk: ") && reason.contains("town1-zk-1"), "{reason}");
    assert_eq!(fleet.wanted().await, "ooo");
    fleet.towns[1].agents[0].fails = None;
    fleet.settled().await;
    assert_eq!(fleet.towns[0].agents[0].assignment().scripts, fleet.old);
    assert_eq!(fleet.towns[1].agents[0].assignment().scripts, fleet.old);
    let jobs = fleet.rig.get(&format!("{API}/jobs?component={}&kind=sync", fleet.towns[0].component)).await;
    let states: Vec<_> = jobs["items"].as_array().expect("items").iter().map(|job| text(&job["state"])).collect();
    assert_eq!(states, ["succeeded", "succeeded"], "there and back");
    let third = fleet.rig.get(&format!("{API}/jobs?component={}&kind=sync", fleet.towns[2].component)).await;
    assert_eq!(third["items"], json!([]));
    // what failed is nobody's until it is released
    for query in ["", "?dry_run=true"] {
        let body = json!({ "kind": "scripts", "commit": fleet.new });
        let faults = fleet.rig.post(&format!("{ROLLOUTS}{query}"), &body).await.problem(409);
        assert!(faults["/commit"].contains("quarantine"), "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_resumed_and_cancelled() {
    let mut fleet = Fleet::new(3).await;
    let rollout = fleet.begin(json!({ "batches": [30, 60, 100] })).await;
    let paused = fleet.steer(&rollout, "pause").await;
    assert_eq!((paused.status, &paused.json()["state"]), (200, &json!("paused")), "{}", paused.text());
    assert_eq!(fleet.steer(&rollout, "pause").await.status, 200);
    // who begun goes on; it may have been paused before that
    fleet.steer(&rollout, "resume").await;
    fleet.until(&rollout, &[], |now| phases(now) == "begun waiting waiting").await;
    assert_eq!(fleet.steer(&rollout, "pause").await.json()["state"], "paused");
    fleet.until(&rollout, &[0], |now| phases(now) == "verified waiting waiting").await;
    for _ in 0..5 {
        fleet.until(&rollout, &[0, 1, 2], |_| true).await;
    }
    assert_eq!(fleet.wanted().await, "noo");
    // another one over some of them is refused, and says which is in the way
    for query in ["", "?dry_run=true"] {
        let path = format!("{ROLLOUTS}{query}");
        let body = json!({ "kind": "scripts", "scope": "topologies", "items": [fleet.towns[2].topology] });
        let refused = fleet.rig.post(&path, &body).await;
        assert!(refused.text().contains(&text(&rollout["id"])), "{}", refused.text());
        refused.problem(409);
    }
    // somebody goes on by himself, and another one goes: both are left alone
    let body = json!({ "scope": "components", "items": [fleet.towns[1].component], "commit": fleet.new });
    let sync = fleet.rig.call(Method::PUT, &format!("{API}/nodes/scripts"), body.to_string().into_bytes()).await;
    assert_eq!(sync.status, 202, "{}", sync.text());
    assert_eq!(fleet.rig.delete(&fleet.towns[2].topology).await.status, 202);
    assert_eq!(fleet.steer(&rollout, "resume").await.json()["state"], "running");
    let end = fleet.until(&rollout, &[0, 1], is("succeeded")).await;
    assert_eq!(phases(&end), "verified skipped skipped", "{end:#}");
    fleet.towns.truncate(2);
    fleet.settled().await;

    // and back to the old one; cancelled in its middle
    let commit = json!({ "commit": fleet.old, "soak_s": 86_400 });
    let rollout = fleet.begin(commit).await;
    let watched = fleet.until(&rollout, &[0], |now| phases(now) == "verified waiting").await;
    assert!(watched["watched_since_ms"].is_number(), "{watched:#}");
    assert_eq!(fleet.wanted().await, "on");
    let cancelled = fleet.steer(&rollout, "cancel").await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    let end = fleet.until(&rollout, &[0, 1], is("cancelled")).await;
    assert_eq!((phases(&end).as_str(), fleet.wanted().await.as_str()), ("turned_back waiting", "nn"));
    assert!(text(&end["reason"]).contains("cancelled it"), "{end:#}");
    fleet.steer(&rollout, "cancel").await.problem(409);
    fleet.settled().await;
    assert_eq!(fleet.towns[0].agents[0].assignment().scripts, fleet.new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_gets_ill_while_it_is_watched_is_turned_back() {
    let mut fleet = Fleet::new(2).await;
    let rollout = fleet.begin(json!({ "soak_s": 3600 })).await;
    fleet.until(&rollout, &[0], |now| now["watched_since_ms"].is_number()).await;
    let said = json!({ fleet.towns[0].agents[0].node.clone(): "INACTIVE" });
    let path = format!("{API}/components/{}/status", fleet.towns[0].component);
    let answer = fleet.rig.post(&path, &said).await;
    assert!(answer.status < 300, "{}", answer.text());
    let end = fleet.until(&rollout, &[0, 1], is("turned_back")).await;
    assert!(text(&end["reason"]).contains("became INACTIVE"), "{end:#}");
    assert_eq!((phases(&end).as_str(), fleet.wanted().await.as_str()), ("failed waiting", "oo"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_may_die_at_any_moment() {
    let mut fleet = Fleet::new(2).await;
    let rollout = fleet.begin(json!({})).await;
    let id = text(&rollout["id"]);
    let now = fleet.until(&rollout, &[], |now| phases(now) == "begun waiting").await;
    let job = format!("{API}/jobs/{}", text(&now["members"][0]["job"]));
    fleet.rig.until(&job, |answer| answer.status == 200).await;
    fleet.rig.down().await.expect("down");
    // what a controller leaves that died when it had named the job of the second, and not yet begun it
    let store = fleet.rig.store().await;
    let mut record = store.rollout(&id).await.expect("read").expect("a rollout");
    record.batch = 1;
    record.members[0].phase = FleetMemberPhase::Verified;
    record.members[1].phase = FleetMemberPhase::Begun;
    record.members[1].job = Some("0198ffff-0000-7000-8000-000000000001".into());
    store.change_rollout(&record, &[0, 1], record.revision).await.expect("written");
    fleet.rig.up().await;
    fleet.towns.iter_mut().flat_map(|town| &mut town.agents).for_each(|agent| agent.follow(&fleet.rig));
    let end = fleet.until(&rollout, &[0, 1], is("succeeded")).await;
    assert_eq!(end["members"][1]["job"], "0198ffff-0000-7000-8000-000000000001");
    let sync = fleet.rig.get(&format!("{API}/jobs?component={}&kind=sync", fleet.towns[1].component)).await;
    assert_eq!(sync["items"].as_array().map(Vec::len), Some(1), "once: {sync:#}");
    fleet.settled().await;

    // and that died when it had named a job, and the rollout was cancelled then: it is begun by nobody
    let back = fleet.begin(json!({ "commit": fleet.old, "soak_s": 1 })).await;
    let id = text(&back["id"]);
    let now = fleet.until(&back, &[], |now| phases(now) == "begun waiting").await;
    let job = format!("{API}/jobs/{}", text(&now["members"][0]["job"]));
    fleet.rig.until(&job, |answer| answer.status == 200).await;
    fleet.rig.down().await.expect("down");
    let mut record = store.rollout(&id).await.expect("read").expect("a rollout");
    record.standing = FleetRolloutStanding::Cancelling;
    record.members[1].phase = FleetMemberPhase::Begun;
    record.members[1].job = Some("0198ffff-0000-7000-8000-000000000002".into());
    store.change_rollout(&record, &[1], record.revision).await.expect("written");
    let before = fleet.component(1).await;
    fleet.rig.up().await;
    fleet.towns.iter_mut().flat_map(|town| &mut town.agents).for_each(|agent| agent.follow(&fleet.rig));
    let end = fleet.until(&back, &[], is("cancelled")).await;
    assert_eq!(phases(&end), "turned_back waiting", "{end:#}");
    let after = fleet.component(1).await;
    assert_eq!(after.spec, before.spec);
    assert_eq!(after.revision, before.revision + 1, "whoever was about to begin it is too late");
    assert_eq!(fleet.wanted().await, "nn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_it_is_and_what_is_refused() {
    let fleet = Fleet::new(1).await;
    let mut tokens = Vec::new();
    for (tenant, role) in [("red", "member"), ("blue", "member"), ("platform", "operator")] {
        assert_eq!(fleet.rig.post(&format!("{API}/tenants"), &json!({ "id": tenant })).await.status, 201);
        let body = json!({ "label": "t", "tenant": tenant, "role": role });
        tokens.push(text(&fleet.rig.post(&format!("{API}/tokens"), &body).await.json()["token"]));
    }
    let ask = async |who: usize, method: Method, path: &str, body: &Value| {
        let headers = [("x-auth-token", tokens[who].as_str()), ("idempotency-key", "once")];
        let headers = if path.ends_with("#once") { &headers[..] } else { &headers[..1] };
        fleet.rig.raw(method, path.trim_end_matches("#once"), headers, body.to_string().into_bytes()).await
    };
    let town = crate::rig::topology("reds");
    let reds = text(&ask(0, Method::POST, TOPOLOGIES, &town).await.json()["id"]);
    fleet.rig.nodes(&reds, 3).await;
    let scripts = ScriptRepo::open(&fleet.rig.data().join("scripts.git")).expect("a repository");
    let newer =
        scripts.write(VALIDATE, b"#!/bin/bash\nexit 0\n\n", "newer", "an author").expect("a commit").to_string();
    let other =
        scripts.write(VALIDATE, b"#!/bin/bash\nexit 0\n\n\n", "other", "an author").expect("a commit").to_string();
    let order = json!({ "kind": "scripts", "commit": newer });

    // a member's goes to his tenant's, and is begun once by its name
    let made = ask(0, Method::POST, &format!("{ROLLOUTS}#once"), &order).await;
    assert_eq!((made.status, &made.json()["total"]), (201, &json!(1)), "{}", made.text());
    assert_eq!(made.json()["members"][0]["topology"], json!(reds));
    let again = ask(0, Method::POST, &format!("{ROLLOUTS}#once"), &order).await;
    assert_eq!((again.status, &again.json()["id"]), (201, &made.json()["id"]), "{}", again.text());
    assert_eq!(again.header("idempotent-replayed"), "true");
    let path = format!("{ROLLOUTS}/{}", text(&made.json()["id"]));
    assert_eq!(ask(0, Method::GET, &path, &Value::Null).await.status, 200);
    ask(1, Method::GET, &path, &Value::Null).await.problem(404);
    ask(1, Method::POST, &format!("{path}/cancel"), &Value::Null).await.problem(404);
    assert_eq!(ask(1, Method::GET, ROLLOUTS, &Value::Null).await.json()["items"], json!([]));
    let all = format!("{ROLLOUTS}?all_tenants=true");
    assert_eq!(ask(2, Method::GET, &all, &Value::Null).await.json()["items"].as_array().map(Vec::len), Some(1));

    // everybody's are an operator's; he is told what is in the way
    let everybody = json!({ "kind": "scripts", "commit": other, "all_tenants": true });
    assert_eq!(ask(0, Method::POST, ROLLOUTS, &everybody).await.status, 403);
    ask(2, Method::POST, ROLLOUTS, &everybody).await.problem(409);
    assert_eq!(ask(2, Method::POST, &format!("{path}/cancel"), &Value::Null).await.status, 200);
    fleet.rig.until(&path, |answer| answer.json()["state"] == "cancelled").await;
    let dry = ask(2, Method::POST, &format!("{ROLLOUTS}?dry_run=true"), &everybody).await;
    assert_eq!((dry.status, &dry.json()["total"]), (200, &json!(2)), "{}", dry.text());
    assert_eq!(
        dry.json()["batches"],
        json!([
            { "percent": 1, "components": 1, "nodes": 1 }, { "percent": 5, "components": 1, "nodes": 3 }
        ])
    );

    let check = async |more: Value, pointers: &[&str]| {
        let mut body = order.clone();
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        for query in ["", "?dry_run=true"] {
            let answer = fleet.rig.post(&format!("{ROLLOUTS}{query}"), &body).await;
            assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), pointers, "{body}: {}", answer.text());
        }
    };
    let own = fleet.towns[0].component.as_str();
    check(json!({ "kind": "hosts" }), &["/kind"]).await;
    check(json!({ "packaged": true }), &["/packaged"]).await;
    check(json!({ "commit": "f".repeat(40) }), &["/commit"]).await;
    check(json!({ "commit": "master" }), &["/commit"]).await;
    check(json!({ "batches": [] }), &["/batches"]).await;
    check(json!({ "batches": [0, 100] }), &["/batches/0"]).await;
    check(json!({ "batches": [50, 40, 99] }), &["/batches", "/batches/1"]).await;
    check(json!({ "batches": (1..=20).chain([100]).collect::<Vec<_>>() }), &["/batches"]).await;
    check(json!({ "soak_s": 86_401 }), &["/soak_s"]).await;
    check(json!({ "scope": "components" }), &["/items"]).await;
    check(json!({ "items": [own] }), &["/scope"]).await;
    check(json!({ "scope": "nodes", "items": [own] }), &["/scope"]).await;
    check(json!({ "scope": "components", "items": ["x", own] }), &["/items/0"]).await;
    check(json!({ "scope": "components", "items": [own], "all_tenants": true }), &["/all_tenants"]).await;
    let gone = straas_repos::Change::Remove { path: VALIDATE.into() };
    let lacking = scripts.commit(None, &[gone], "no validate", "an author").expect("a commit").to_string();
    check(json!({ "commit": lacking }), &["/commit"]).await;
    assert_eq!(fleet.wanted().await, "o");
}
