//! What tests of workflows need: a topology that works, its ids, and how it comes to rest again.

use crate::agent::{Agent, live};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_repos::{Change, ConfigRepo, ScriptRepo};

pub const API: &str = "/straas/v1.0";

/// A topology of one ZooKeeper component that works.
pub struct Town {
    pub rig: Rig,
    pub topology: String,
    pub component: String,
    pub agents: Vec<Agent>,
}

impl Town {
    pub async fn new(size: u32) -> Self {
        let rig = Rig::start().await;
        let topology = rig.create("town", size).await;
        let mut agents = rig.enrolled(&topology, size as usize).await;
        let view = live(&rig, &mut agents, &topology, "ACTIVE").await;
        let component = text(&view["components"][0]["id"]);
        let town = Self { rig, topology, component, agents };
        town.rig.until(&format!("{API}/jobs"), |answer| answer.json()["items"][0]["state"] == "succeeded").await;
        town
    }

    /// The path of its component.
    pub fn path(&self) -> String {
        format!("{API}/components/{}", self.component)
    }

    pub async fn view(&self) -> Value {
        self.rig.get(&format!("{TOPOLOGIES}/{}", self.topology)).await
    }

    /// Id of a node by its name.
    pub async fn node(&self, name: &str) -> String {
        let nodes = self.rig.get(&format!("{API}/nodes?topology={}", self.topology)).await;
        let found = nodes["items"].as_array().expect("items").iter().find(|node| node["name"] == name).cloned();
        text(&found.unwrap_or_else(|| panic!("no node {name} in {nodes:#}"))["id"])
    }

    /// Names of its nodes.
    pub async fn names(&self) -> Vec<String> {
        let nodes = self.rig.get(&format!("{API}/nodes?topology={}", self.topology)).await;
        nodes["items"].as_array().expect("items").iter().map(|node| text(&node["name"])).collect()
    }

    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.rig.call(method, path, body).await
    }

    /// A change that is accepted; its job.
    pub async fn begin(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.call(method, path, &body).await;
        assert_eq!(answer.status, 202, "{path}: {}", answer.text());
        let job = answer.json()["job"].clone();
        assert_eq!(answer.header("location"), format!("{API}/jobs/{}", text(&job["id"])));
        assert_eq!(job["component"], self.component, "{job:#}");
        job
    }

    /// Lets its agents live, and those of new hosts with them, until a job stands so.
    pub async fn until_job(&mut self, job: &Value, state: &str) -> Value {
        let path = format!("{API}/jobs/{}", text(&job["id"]));
        let begun = Instant::now();
        loop {
            self.live_once().await;
            let now = self.rig.get(&path).await;
            if now["state"] == state {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "still {now:#} in {:#}", self.view().await);
        }
    }

    /// One round of every agent whose host is there; those of new hosts enrol first.
    pub async fn live_once(&mut self) {
        let nodes = self.rig.get(&format!("{API}/nodes?topology={}", self.topology)).await;
        for node in nodes["items"].as_array().expect("items").iter().filter(|node| !node["address"].is_null()) {
            let id = text(&node["id"]);
            let Some(host) = self.rig.hosts.host(&id) else { continue };
            // a host that was made anew has another token
            if self.agents.iter().any(|agent| agent.node == id && agent.token == host.token) {
                continue;
            }
            if let Ok(agent) = Agent::enrol(&self.rig, &host.token).await {
                self.agents.retain(|old| old.node != id);
                self.agents.push(agent);
            }
        }
        self.agents.retain(|agent| self.rig.hosts.host(&agent.node).is_some());
        for agent in &mut self.agents {
            agent.try_round().await;
        }
    }

    pub fn configs(&self) -> ConfigRepo {
        ConfigRepo::open(&self.rig.data().join("config.git")).expect("a repository")
    }

    pub fn scripts(&self) -> ScriptRepo {
        ScriptRepo::open(&self.rig.data().join("scripts.git")).expect("a repository")
    }

    /// Another version of ZooKeeper, as a component author adds it.
    pub fn add_version(&self, version: &str) {
        let configs = self.configs();
        let head = configs.head().expect("a head");
        let read = |path: &str| configs.read(&head, path).expect("read").expect("a file");
        let mut metadata: Value = serde_json::from_slice(&read("metadata/zookeeper.json")).expect("json");
        metadata["versions"][version] =
            json!({ "packages": [{ "name": "zookeeper", "version": format!("{version}-*") }] });
        let put = |path: String, content| Change::Put { path, content, executable: None };
        let mut changes =
            vec![put("metadata/zookeeper.json".into(), serde_json::to_vec_pretty(&metadata).expect("json"))];
        for file in ["default.json", "user.json"] {
            let content = read(&format!("app/zookeeper/3.8.0/{file}"));
            changes.push(put(format!("app/zookeeper/{version}/{file}"), content));
        }
        configs.commit("master", None, &changes, "another version", "an author").expect("a commit");
    }

    /// A commit on the topology's branch that changes a value of ZooKeeper's.
    pub fn set_tick_time(&self, value: u32) -> String {
        let configs = self.configs();
        let branch = "town@z1";
        let head = configs.branch(branch).expect("read").expect("a branch");
        let path = "app/zookeeper/3.8.0/user.json";
        let text = String::from_utf8(configs.read(&head, path).expect("read").expect("a file")).expect("utf-8");
        let mut file: Value = serde_json::from_str(&text).expect("json");
        let mut found = false;
        for section in file["content"].as_array_mut().expect("sections") {
            for option in section["options"].as_array_mut().expect("options") {
                if option["key"] == "tickTime" {
                    option["value"] = json!(value.to_string());
                    found = true;
                }
            }
        }
        assert!(found, "{text}");
        let text = serde_json::to_vec_pretty(&file).expect("json");
        configs.write(branch, path, &text, "another tick time", "a tenant").expect("a commit").into()
    }

    /// The spec of its component, as recorded.
    pub async fn spec(&self) -> straas_store::ComponentSpec {
        use straas_store::Store as _;
        let found = self.rig.store().await.component(&self.component.as_str().into()).await.expect("read");
        found.expect("a component").spec
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
