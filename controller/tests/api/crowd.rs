//! How long users wait when a hundred of them ask at once, with a thousand topologies in the database.
//!
//! Each kind of request stands next to `/healthz` over the same connections in the same round, which
//! costs what the machine, the network and HTTP cost; what is more than that is the controller's own.
//! Not a check: it prints. `cargo test --release -p straas-controller --test api -- --ignored --nocapture crowd`

use crate::rig::{Rig, TOPOLOGIES};
use crate::temp_pg;
use crate::wire::{Answer, request, whole};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Method;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CLIENTS: usize = 100;
const COUNT: usize = 1000;
/// Creations that are under way at a time.
const CREATORS: usize = 16;
const FOR: Duration = Duration::from_secs(6);
const ROUNDS: usize = 3;
const API: &str = "/straas/v1.0";
const USER: &str = "app/zookeeper/3.8.0/user.json";

/// What one client sends, by how many were sent before.
type Make<'a> = &'a (dyn Fn(usize) -> (Method, String, Vec<u8>) + Sync);

struct Crowd {
    rig: Rig,
    /// Topology and component.
    ids: Vec<(String, String)>,
    /// A file of values, to be changed.
    values: Value,
}

impl Crowd {
    async fn gather(settings: &str) -> Self {
        let rig = Rig::start_with(settings).await;
        let begun = Instant::now();
        let create = async |number: usize| {
            let id = rig.create(&format!("crowd-{number}"), 1).await;
            let seen = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
            let component = seen["components"][0]["id"].as_str().expect("an id").to_owned();
            (id, component)
        };
        let ids: Vec<_> = stream::iter(0..COUNT).map(create).buffered(CREATORS).collect().await;
        println!("  {COUNT} topologies created in {:.1} s by {CREATORS} clients", begun.elapsed().as_secs_f64());
        let last = format!("{API}/nodes?topology={}", ids[COUNT - 1].0);
        rig.until(&last, |answer| answer.json()["items"][0]["address"].is_string()).await;
        let path = format!("{API}/configurations/tree/crowd-0@z1/{USER}");
        let file = rig.get(&path).await["content"].clone();
        let values = serde_json::from_str(file.as_str().expect("text")).expect("json");
        Self { rig, ids, values }
    }

    /// The values with another `tickTime`.
    fn values(&self, tick: usize) -> String {
        let mut file = self.values.clone();
        for section in file["content"].as_array_mut().expect("sections") {
            for option in section["options"].as_array_mut().expect("options") {
                if option["key"] == "tickTime" {
                    option["value"] = json!(tick.to_string());
                }
            }
        }
        file.to_string()
    }

    /// A rollout over all of them: what it costs to ask for one, and to be refused because of it.
    async fn roll_out(&self) {
        let path = self.rig.data().join("scripts.git");
        let write = move |text: &[u8]| {
            let scripts = straas_repos::ScriptRepo::open(&path).expect("a repository");
            scripts.write(crate::rollouts::VALIDATE, text, "another", "an author").expect("a commit").to_string()
        };
        let [first, second] = [&b"#!/bin/bash\nexit 0\n"[..], &b"#!/bin/bash\nexit 0\n\n"[..]].map(write);
        let ask = async |query: &str, commit: &str, status: u16| {
            let body = json!({ "kind": "scripts", "commit": commit, "all_tenants": true });
            let begun = Instant::now();
            let answer = self.rig.post(&format!("{API}/rollouts{query}"), &body).await;
            assert_eq!(answer.status, status, "{}", answer.text());
            (begun.elapsed().as_secs_f64() * 1e3, answer)
        };
        let (dry, _) = ask("?dry_run=true", &first, 200).await;
        let (begun, answer) = ask("", &first, 201).await;
        let (refused, _) = ask("", &second, 409).await;
        let total = &answer.json()["total"];
        println!(
            "  a rollout over {total} components: dry run {dry:.0} ms, begun in {begun:.0} ms, another refused in {refused:.0} ms"
        );
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let (sender, connection) = handshake(TokioIo::new(self.rig.connect().await)).await.expect("http");
        tokio::spawn(connection);
        sender
    }

    /// How long each request took, in ms, sorted.
    async fn run(&self, make: Make<'_>) -> Vec<f64> {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let end = Instant::now() + FOR;
        let client = async || {
            let mut sender = self.connect().await;
            let mut out = Vec::new();
            while Instant::now() < end {
                let (method, path, body) = make(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                let request = request(method, &path, &[("x-auth-token", &self.rig.token)], body);
                let begun = Instant::now();
                sender.ready().await.expect("ready");
                let answer: Answer = whole(sender.send_request(request).await.expect("an answer")).await;
                out.push(begun.elapsed().as_secs_f64() * 1e3);
                assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text());
            }
            out
        };
        let all = futures_util::future::join_all((0..CLIENTS).map(|_| client())).await;
        let mut all: Vec<f64> = all.into_iter().flatten().collect();
        all.sort_by(f64::total_cmp);
        all
    }

    async fn measure(&self) {
        let topology = |number: usize| &self.ids[number * 7 % COUNT].0;
        let floor = |_: usize| (Method::GET, "/healthz".to_owned(), vec![]);
        let one = |number: usize| (Method::GET, format!("{TOPOLOGIES}/{}", topology(number)), vec![]);
        let page = |_: usize| (Method::GET, format!("{TOPOLOGIES}?limit=100"), vec![]);
        let nodes = |number: usize| (Method::GET, format!("{API}/nodes?topology={}", topology(number)), vec![]);
        let health = |number: usize| {
            let path = format!("{API}/components/{}/status", self.ids[number % COUNT].1);
            let status = if number.is_multiple_of(2) { "ACTIVE" } else { "INACTIVE" };
            (Method::POST, path, json!({ format!("crowd-{}-zk-1", number % COUNT): status }).to_string().into_bytes())
        };
        let commit = |number: usize| {
            let path = format!("{API}/configurations/tree/crowd-{}@z1/{USER}", number % COUNT);
            let body = json!({ "content": self.values(2000 + number), "message": "a crowd" });
            (Method::PUT, path, body.to_string().into_bytes())
        };
        let kinds: [(&str, Make<'_>); 5] = [
            ("read a topology", &one),
            ("read a page of 100", &page),
            ("read a topology's nodes", &nodes),
            ("write: a node's health", &health),
            ("write: a configuration", &commit),
        ];
        for (name, make) in kinds {
            let (mut ratios, mut lines) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let base = self.run(&floor).await;
                let taken = self.run(make).await;
                ratios.push(at(&taken, 99) / at(&base, 99));
                let rate = taken.len() as f64 / FOR.as_secs_f64();
                lines.push((at(&taken, 99), at(&taken, 50), at(&base, 99), rate));
            }
            ratios.sort_by(f64::total_cmp);
            lines.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (p99, p50, base, rate) = lines[ROUNDS / 2];
            println!(
                "  {name}: p99 {p99:.1} ms, p50 {p50:.1} ms, {rate:.0}/s; /healthz p99 {base:.1} ms; ratio {:.1}",
                ratios[ROUNDS / 2]
            );
        }
        self.roll_out().await;
    }
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn crowd() {
    println!("SQLite:");
    Crowd::gather("").await.measure().await;
    println!("PostgreSQL (without fsync, on a unix socket):");
    let server = temp_pg::TempPg::start().expect("PostgreSQL");
    let url = server.create_database("crowd").await.expect("a database");
    Crowd::gather(&format!("[store]\nurl = {url:?}\n")).await.measure().await;
}
