//! A component that depends on one of another topology of its tenant.

use crate::agent::{Agent, live};
use crate::life::{API, text};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_schemas::command::{CommandEnd, CommandOutcome};
use straas_schemas::report::ReportBody;

/// Kafka in a topology of its own.
fn kafka(name: &str, on: &Value) -> Value {
    json!({ "name": name, "availability_zone": "z1", "components": [
        { "name": "kf", "type": "kafka", "size": 1, "depends_on": on },
    ]})
}

async fn created(rig: &Rig, body: &Value) -> String {
    let answer = rig.post(TOPOLOGIES, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    text(&answer.json()["id"])
}

async fn component(rig: &Rig, topology: &str) -> String {
    text(&rig.get(&format!("{TOPOLOGIES}/{topology}")).await["components"][0]["id"])
}

/// Two topologies that work: `shared` with a ZooKeeper of one, and `logs` with a Kafka on it.
struct Two {
    rig: Rig,
    shared: String,
    logs: String,
    servers: Vec<Agent>,
    brokers: Vec<Agent>,
}

impl Two {
    async fn new() -> Self {
        let rig = Rig::start().await;
        let shared = rig.create("shared", 1).await;
        let mut servers = rig.enrolled(&shared, 1).await;
        live(&rig, &mut servers, &shared, "ACTIVE").await;
        let logs = created(&rig, &kafka("logs", &json!("shared/zk"))).await;
        let mut brokers = rig.enrolled(&logs, 1).await;
        brokers[0].facts.insert("under_replicated".into(), json!(0));
        assert!(!brokers[0].round().await, "it waits for its namespace");
        let mut two = Self { rig, shared, logs, servers, brokers };
        two.prepared().await;
        live(&two.rig, &mut two.brokers, &two.logs, "ACTIVE").await;
        two
    }

    /// The namespace on the other topology is made.
    async fn prepared(&mut self) {
        self.operated("zk-cmd/create-namespace", async |two| {
            let why = two.rig.get(&format!("{API}/nodes/{}/why", two.brokers[0].node)).await;
            assert_eq!(why["cause"], "awaiting_operation", "{why}");
        })
        .await;
    }

    /// An operation on the other topology's node is asked for, and then done.
    async fn operated(&mut self, name: &str, meanwhile: impl AsyncFn(&Self)) {
        let queued = format!("{API}/commands?topology={}", self.logs);
        let found = self.rig.until(&queued, |answer| answer.json()["items"][0]["command"] == name).await;
        let command = found.json()["items"][0].clone();
        let server = self.servers.iter().position(|server| json!(server.node) == command["node"]);
        meanwhile(self).await;
        let end = CommandEnd {
            id: text(&command["id"]).as_str().into(),
            outcome: CommandOutcome::Succeeded,
            exit_code: Some(0),
            reason: String::new(),
            hint: None,
            duration_ms: 5,
            result: serde_json::Map::new(),
            output_bytes: 0,
        };
        self.servers[server.expect("a node of the other topology")].report(ReportBody::Command(end)).await;
    }

    /// Lets all agents live until something holds. The regular look at everything comes too late
    /// for this: what is waited for has to be noticed by itself.
    async fn until(&mut self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < PATIENCE / 2, "not in time: {what}");
            for agent in self.servers.iter_mut().chain(&mut self.brokers) {
                agent.try_round().await;
            }
        }
    }

    fn listed(&self) -> usize {
        let context = &self.brokers[0].assignment().context;
        let nodes = context["dependencies"]["shared/zk"]["nodes"].as_array().expect("nodes");
        assert!(nodes.iter().all(|node| node["address"].is_string()), "{nodes:?}");
        nodes.len()
    }

    async fn cause(&self, agent: &Agent) -> Value {
        self.rig.get(&format!("{API}/nodes/{}/why", agent.node)).await
    }
}

#[tokio::test]
async fn it_lives_on_a_component_of_another_topology() {
    let mut two = Two::new().await;
    assert_eq!(two.listed(), 1);
    let view = two.rig.get(&format!("{TOPOLOGIES}/{}", two.logs)).await;
    assert_eq!(view["components"][0]["depends_on"], json!(["shared/zk"]));
    let (zk, kf) = (component(&two.rig, &two.shared).await, component(&two.rig, &two.logs).await);
    let told = async |id: &str| two.rig.post(&format!("{API}/components/{id}/dependencies"), &json!({})).await.json();
    let upper = told(&kf).await;
    let expected = json!([{ "id": zk, "name": "shared/zk", "type": "zookeeper", "status": "ACTIVE", "topology": two.shared, "required": true }]);
    assert_eq!(upper["depends_on"], expected, "{upper:#}");
    let lower = told(&zk).await;
    assert_eq!(lower["dependents"][0]["name"], "logs/kf", "{lower:#}");
    assert_eq!(lower["dependents"][0]["topology"], json!(two.logs));

    // what is needed stays
    let before = two.rig.state().await;
    for path in [format!("{TOPOLOGIES}/{}", two.shared), format!("{API}/components/{zk}")] {
        for query in ["", "?dry_run=true"] {
            let answer = two.rig.call(Method::DELETE, &format!("{path}{query}"), Vec::new()).await;
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert!(answer.text().contains("kf of topology logs depends on zk"), "{}", answer.text());
        }
    }
    assert_eq!(two.rig.state().await["jobs"], before["jobs"]);

    // what is listed there changes what its nodes are told
    let grown = two.rig.post(&format!("{API}/components/{zk}"), &json!({ "count": 2 })).await;
    assert_eq!(grown.status, 202, "{}", grown.text());
    for node in two.rig.nodes(&two.shared, 3).await {
        let id = text(&node["id"]);
        if two.servers.iter().all(|agent| agent.node != id) {
            two.servers.push(Agent::enrol(&two.rig, &two.rig.join_token(&id)).await.expect("enrolled"));
        }
    }
    two.until("three are listed", async |two| two.listed() == 3).await;
    let path = format!("{API}/jobs/{}", text(&grown.json()["job"]["id"]));
    two.until("it has grown", async |two| two.rig.get(&path).await["state"] == "succeeded").await;

    // nobody is disturbed while Kafka owes copies
    two.brokers[0].facts.insert("under_replicated".into(), json!(2));
    two.brokers[0].heartbeat().await;
    two.servers.iter_mut().for_each(|server| server.serves_on = true);
    let restart = two.rig.call(Method::PUT, &format!("{API}/components/{zk}/services"), Vec::new()).await;
    assert_eq!(restart.status, 202, "{}", restart.text());
    two.until("all wait", async |two| {
        let mut waiting = 0;
        for server in &two.servers {
            let why = two.cause(server).await;
            waiting +=
                usize::from(why["text"].as_str().is_some_and(|text| text.contains("logs-kf-1 of topology logs")));
        }
        waiting == 3
    })
    .await;
    two.brokers[0].facts.insert("under_replicated".into(), json!(0));
    let path = format!("{API}/jobs/{}", text(&restart.json()["job"]["id"]));
    two.until("they are restarted", async |two| two.rig.get(&path).await["state"] == "succeeded").await;

    // the one that depends goes first
    assert_eq!(two.rig.delete(&two.logs).await.status, 202);
    // what it had there goes with it
    two.operated("zk-cmd/delete-namespace", async |_| {}).await;
    two.rig.until(&format!("{TOPOLOGIES}/{}", two.logs), |answer| answer.status == 404).await;
    assert_eq!(two.rig.delete(&two.shared).await.status, 202);
    two.rig.until(&format!("{TOPOLOGIES}/{}", two.shared), |answer| answer.status == 404).await;
}

#[tokio::test]
async fn what_cannot_be_depended_on_is_refused() {
    let rig = Rig::start().await;
    let shared = rig.create("shared", 1).await;
    rig.post(&format!("{API}/tenants"), &json!({ "id": "other" })).await;
    let token = rig.post(&format!("{API}/tokens"), &json!({ "label": "somebody", "tenant": "other" })).await.json();
    let token = text(&token["token"]);
    let theirs = crate::rig::topology("theirs").to_string().into_bytes();
    let theirs = rig.raw(Method::POST, TOPOLOGIES, &[("x-auth-token", &token)], theirs).await;
    assert_eq!(theirs.status, 202, "{}", theirs.text());
    let theirs = text(&theirs.json()["id"]);
    let refused = async |on: Value, pointers: &[&str], words: &str| {
        for query in ["", "?dry_run=true"] {
            let answer = rig.post(&format!("{TOPOLOGIES}{query}"), &kafka("logs", &on)).await;
            assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), pointers, "{on}: {}", answer.text());
            assert!(answer.text().contains(words), "{on}: {}", answer.text());
        }
    };
    let at = "/components/0/depends_on";
    // a needed type that is not there is told as well
    let absent = "in another topology of yours";
    for name in ["nobody/zk", "shared/nobody", "theirs/zk", "shared@z2/zk", "shared/zk/zk", "/zk", "shared/", "logs/kf"]
    {
        refused(json!(name), &[at], absent).await;
    }
    refused(json!(format!("{theirs}/zk")), &[at], absent).await;
    refused(json!(["zk", "theirs/zk"]), &[at, "/components/0/depends_on/0", "/components/0/depends_on/1"], absent)
        .await;
    let many: Vec<String> = (0..200).map(|n| format!("shared/{n}")).collect();
    assert_eq!(rig.post(TOPOLOGIES, &kafka("logs", &json!(many))).await.status, 422);

    // by id, by name and zone, and once only
    let by_id = format!("{shared}/zk");
    let logs = created(&rig, &kafka("logs", &json!([by_id, "shared@z1/zk"]))).await;
    let kf = component(&rig, &logs).await;
    let spec = async || {
        use straas_store::Store as _;
        rig.store().await.component(&kf.as_str().into()).await.expect("read").expect("a component").spec
    };
    let found = spec().await.foreign;
    assert_eq!((found.len(), found[0].name.as_str(), found[0].topology.as_str()), (1, "shared/zk", shared.as_str()));
    let dependencies = format!("{API}/components/{kf}/dependencies");
    let change = async |on: Value| rig.post(&dependencies, &json!({ "depends_on": on })).await;
    assert_eq!(change(json!([by_id])).await.json()["job"], Value::Null, "nothing to be done");
    change(json!([by_id, "shared/zk"])).await.problem(422);
    change(json!(["logs/kf"])).await.problem(422);
    change(json!([])).await.problem(422);

    // no circles, and nothing that goes
    let circle = json!({ "name": "zk2", "type": "zookeeper", "size": 1, "depends_on": "logs/kf" });
    let circle = rig.post(&format!("{TOPOLOGIES}/{shared}/components"), &circle).await;
    assert!(circle.problem(422)["/depends_on"].contains("dependency cycle"), "{}", circle.text());
    let second = rig.create("second", 1).await;
    let moved = change(json!(["second/zk"])).await;
    assert_eq!(moved.status, 202, "{}", moved.text());
    assert_eq!(spec().await.foreign[0].topology.as_str(), second);
    assert_eq!(rig.delete(&shared).await.status, 202, "nothing depends on it any more");
    refused(json!("shared/zk"), &[at], "").await;
    assert_eq!(rig.delete(&second).await.status, 409);
}
