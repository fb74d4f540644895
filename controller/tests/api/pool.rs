//! Hosts of the pool: they join, get a node, let it go, and are cleaned up after.

use crate::agent::{Agent, ask, csr, live, tls};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES, topology};
use crate::wire::Answer;
use http::Method;
use rcgen::CertificateParams;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use straas_schemas::pool::{HostCleaning, HostFacts, HostPollAnswer, HostPollRequest, HostWish};

const HOSTS: &str = "/straas/v1.0/hosts";
const TOKENS: &str = "/straas/v1.0/join-tokens";

/// A host as the controller meets it.
pub struct PaperHost {
    pub id: String,
    pub agents: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub key_pem: String,
    pub said: HostPollRequest,
    /// With which the agent of the node that it was given enrols.
    token: String,
}

fn joining(token: &str, csr: &str) -> Vec<u8> {
    json!({ "protocol": 1, "token": token, "csr_pem": csr, "hostname": "metal" }).to_string().into_bytes()
}

impl PaperHost {
    pub async fn join(rig: &Rig, token: &str) -> Result<Self, Answer> {
        let (key, csr) = csr(CertificateParams::default());
        let stranger = tls(&rig.ca(), None);
        let mut answers = Vec::new();
        // the answer may be lost: asked again with the same key, it is given again
        for _ in 0..2 {
            let body = joining(token, &csr);
            answers.push(ask(rig.agents, &stranger, Method::POST, "/agent/v1/hosts", body).await.expect("an answer"));
        }
        let answer = answers.swap_remove(1);
        if answer.status != 201 {
            return Err(answer);
        }
        let given = answer.json();
        assert_eq!(
            (&given["host"], &given["incarnation"]),
            (&answers[0].json()["host"], &answers[0].json()["incarnation"])
        );
        let text = |name: &str| given[name].as_str().expect("a text").to_owned();
        let facts = HostFacts {
            address: "10.1.0.1".into(),
            memory_mib: 8192,
            vcpus: 4,
            os: "Debian".into(),
            agent_version: "0.1.0".into(),
        };
        Ok(Self {
            id: text("host"),
            agents: rig.agents,
            tls: tls(&rig.ca(), Some((&text("certificate_pem"), &key.serialize_pem()))),
            key_pem: key.serialize_pem(),
            said: HostPollRequest {
                protocol: 1,
                hostname: "metal".into(),
                facts,
                knows: None,
                holds: None,
                released: None,
                wants_token: false,
                cleaning: None,
                trusts: None,
                wait_ms: 60_000,
            },
            token: String::new(),
        })
    }

    pub async fn at(mut self, address: &str) -> Self {
        self.said.facts.address = address.into();
        self.hear(0).await;
        self
    }

    pub async fn ask(&self, said: &HostPollRequest) -> Answer {
        let path = format!("/agent/v1/hosts/{}/poll", self.id);
        let asked = ask(self.agents, &self.tls, Method::POST, &path, serde_json::to_vec(said).expect("json"));
        tokio::time::timeout(PATIENCE, asked).await.expect("in time").expect("an answer")
    }

    /// Polls once; what it is wanted for.
    async fn hear(&mut self, wait_ms: u32) -> HostWish {
        let answer = self.ask(&HostPollRequest { wait_ms, ..self.said.clone() }).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let HostPollAnswer { wish, allotment, .. } = serde_json::from_slice(&answer.body).expect("an answer");
        if let Some(allotment) = allotment {
            assert_eq!(Some(&allotment.node), wish.node.as_ref());
            self.token = allotment.join_token;
        }
        self.said.knows = Some(wish.clone());
        wish
    }

    /// Waits for a node and takes it up: its agent.
    pub async fn take(&mut self, rig: &Rig) -> Agent {
        while self.hear(60_000).await.node.is_none() {}
        self.said.holds = self.said.knows.as_ref().and_then(|wish| wish.node.clone());
        let agent = Agent::enrol(rig, &self.token).await.unwrap_or_else(|answer| panic!("{}", answer.text()));
        assert_eq!(Some(agent.node.as_str()), self.said.holds.as_ref().map(|node| node.as_str()));
        self.hear(0).await;
        agent
    }

    /// Waits until the node is taken away.
    async fn taken(&mut self) {
        while self.hear(60_000).await.release.is_none() {}
    }

    /// Says that nothing of the node runs any more.
    async fn let_go(&mut self) {
        self.said.released = self.said.holds.take();
        self.hear(0).await;
    }
}

pub async fn pool(zones: &str) -> Rig {
    Rig::start_with(&format!(
        "[pool]\nzones = {zones}\n[timing]\nheartbeat_ms = 500\nsuspect_after_ms = 20000\nunreachable_after_ms = 60000\nretry_ms = 200\nretry_max_ms = 200\n"
    ))
    .await
}

/// A token with which so many hosts join the pool of `z1`.
pub async fn token(rig: &Rig, hosts: u32, fault_domain: &str) -> String {
    let body = json!({ "zone": "z1", "hosts": hosts, "fault_domain": fault_domain, "label": "racks" });
    let answer = rig.post(TOKENS, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["token"].as_str().expect("a token").to_owned()
}

async fn state(rig: &Rig, host: &PaperHost) -> Value {
    rig.get(&format!("{HOSTS}/{}", host.id)).await
}

async fn why(rig: &Rig, topology: &str, cause: &str) -> String {
    let path = format!("{TOPOLOGIES}/{topology}");
    let answer = rig
        .until(&path, |answer| {
            let nodes = &answer.json()["components"][0]["nodes"];
            nodes.as_array().is_some_and(|nodes| nodes.iter().any(|node| node["why"]["cause"] == cause))
        })
        .await;
    let nodes = answer.json()["components"][0]["nodes"].clone();
    let found = nodes.as_array().expect("nodes").iter().find(|node| node["why"]["cause"] == cause).cloned();
    found.expect("a node")["why"].to_string()
}

#[tokio::test]
async fn a_topology_lives_on_hosts_of_the_pool_and_gives_them_back() {
    let rig = pool("['z1']").await;
    let early = rig.create("early", 1).await;
    let evidence = why(&rig, &early, "spawn_failed").await;
    assert!(evidence.contains("no host of zone z1 can have it"), "{evidence}");
    assert!(evidence.contains("the pool has none there"), "{evidence}");
    rig.delete(&early).await;
    rig.until(&format!("{TOPOLOGIES}/{early}"), |answer| answer.status == 404).await;
    let mut hosts = Vec::new();
    for (number, rack) in ["r1", "r1", "r2", "r3"].into_iter().enumerate() {
        let host = PaperHost::join(&rig, &token(&rig, 1, rack).await).await.unwrap_or_else(|a| panic!("{}", a.text()));
        hosts.push(host.at(&format!("10.1.0.{}", number + 1)).await);
    }
    let mut body = topology("demo");
    body["components"][0]["enable_fault_domain"] = json!(true);
    body["components"][0]["min_num_of_fault_domain"] = json!(3);
    let created = rig.post(TOPOLOGIES, &body).await;
    assert_eq!(created.status, 202, "{}", created.text());
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    // spread over the racks: one of the two in r1 is left
    let nodes = rig.nodes(&id, 3).await;
    let mut racks: Vec<&str> = nodes.iter().map(|node| node["fault_domain"].as_str().expect("a rack")).collect();
    racks.sort_unstable();
    assert_eq!(racks, ["r1", "r2", "r3"]);
    assert!(rig.hosts.hosts().is_empty(), "nothing is made here");
    let mut serving = Vec::new();
    let mut idle = Vec::new();
    for mut host in hosts {
        if state(&rig, &host).await["state"] == "free" {
            idle.push(host);
            continue;
        }
        let agent = host.take(&rig).await;
        assert_eq!(state(&rig, &host).await["state"], "serving");
        assert_eq!(state(&rig, &host).await["node"]["topology"], id);
        serving.push((host, agent));
    }
    assert_eq!((serving.len(), idle.len()), (3, 1));
    let (mut hosts, mut agents): (Vec<_>, Vec<_>) = serving.into_iter().unzip();
    live(&rig, &mut agents, &id, "ACTIVE").await;

    // while the topology goes, a host that has not let go keeps its node
    rig.delete(&id).await;
    let mut last = hosts.pop().expect("three");
    for host in &mut hosts {
        host.taken().await;
        assert_eq!(state(&rig, host).await["state"], "leaving");
        host.let_go().await;
        assert_eq!(state(&rig, host).await["state"], "free");
    }
    last.taken().await;
    assert_eq!(rig.get(&format!("{TOPOLOGIES}/{id}")).await["status"], "DELETING");
    // it has let go, and has to clean up, which does not hold the topology up
    let node = last.said.holds.clone().expect("a node");
    last.said.cleaning = Some(HostCleaning { node, reason: Some("rm: busy".into()) });
    last.let_go().await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    let dirty = state(&rig, &last).await;
    assert_eq!(dirty["state"], "cleaning");
    assert!(dirty["reason"].as_str().expect("a reason").contains("rm: busy"), "{dirty}");
    // somebody cleans it by hand and says so
    let patched = rig.call(Method::PATCH, &format!("{HOSTS}/{}", last.id), br#"{"cleaned":true}"#.to_vec()).await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    assert!(last.hear(60_000).await.cleaned);
    last.said.cleaning = None;
    assert_eq!(last.hear(0).await, HostWish::default());
    assert_eq!(state(&rig, &last).await["state"], "free");
    let free = rig.get(&format!("{HOSTS}?state=free&zone=z1")).await;
    assert_eq!(free["items"].as_array().expect("hosts").len(), 4);
}

#[tokio::test]
async fn a_host_that_is_silent_keeps_its_node_until_somebody_knows_better() {
    let mut rig = pool("['*']\n[agents]\nlisten = '127.0.0.1:0'").await;
    let shared = token(&rig, 2, "r1").await;
    let first = PaperHost::join(&rig, &shared).await.unwrap_or_else(|a| panic!("{}", a.text()));
    let mut first = first.at("10.1.0.1").await;
    let id = rig.create("demo", 1).await;
    let mut agents = vec![first.take(&rig).await];
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let second = PaperHost::join(&rig, &shared).await.unwrap_or_else(|a| panic!("{}", a.text()));
    let mut second = second.at("10.1.0.2").await;
    let refused = PaperHost::join(&rig, &shared).await.err().expect("a refusal");
    assert!(refused.text().contains("as many hosts joined with this token as may"), "{}", refused.text());

    // another lease: whoever has to know its address is told, once hosts are looked at
    first.said.facts.address = "10.1.0.9".into();
    first.hear(0).await;
    rig.down().await.expect("stopped");
    rig.up().await;
    let moved = |answer: &Answer| answer.json()["items"][0]["address"] == "10.1.0.9";
    rig.until(&format!("/straas/v1.0/nodes?topology={id}"), moved).await;
    for agents in [&mut first.agents, &mut second.agents] {
        *agents = rig.agents;
    }
    agents[0].follow(&rig);
    live(&rig, &mut agents, &id, "ACTIVE").await;

    // it is not taken out while it serves, nor does a replacement take its node while it may still serve
    let one = format!("{HOSTS}/{}", first.id);
    let kept = rig.call(Method::DELETE, &one, Vec::new()).await;
    assert!(kept.status == 409 && kept.text().contains("serving node demo-zk-1"), "{}", kept.text());
    let node = agents[0].node.clone();
    let replaced = rig.call(Method::PUT, &format!("/straas/v1.0/nodes/{node}"), Vec::new()).await;
    assert_eq!(replaced.status, 202, "{}", replaced.text());
    // the service is stopped first
    while state(&rig, &first).await["state"] != "leaving" {
        agents[0].try_round().await;
    }
    assert_eq!(state(&rig, &second).await["state"], "free");
    // the operator knows that the machine is scrap
    assert_eq!(rig.call(Method::DELETE, &format!("{one}?force=true"), Vec::new()).await.status, 204);
    let gone = first.ask(&first.said).await;
    assert!(gone.status == 401 && gone.text().contains("no such host"), "{}", gone.text());
    let agent = second.take(&rig).await;
    assert_eq!((agent.node.as_str(), agent.incarnation > agents[0].incarnation), (node.as_str(), true));
    let mut agents = vec![agent];
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let audit = rig.get("/straas/v1.0/audit?limit=5").await.to_string();
    assert!(audit.contains(&format!("host {}", first.id)), "{audit}");
}

#[tokio::test]
async fn one_that_was_announced_joins_with_its_own_token_and_cordoned_it_stays_empty() {
    let rig = pool("['z1']").await;
    let body = json!({ "name": "rack7-u3", "zone": "z1", "fault_domain": "rack7" });
    let announced = rig.post(HOSTS, &body).await;
    assert_eq!(announced.status, 201, "{}", announced.text());
    let host = announced.json();
    assert_eq!((host["state"].as_str(), host["name"].as_str()), (Some("expected"), Some("rack7-u3")));
    let own = host["token"].as_str().expect("a token");
    let (path, id) = (format!("{HOSTS}/{}", host["id"].as_str().expect("an id")), host["id"].clone());
    let mut first = PaperHost::join(&rig, own).await.unwrap_or_else(|a| panic!("{}", a.text()));
    assert_eq!(json!(first.id), id);
    // as the operator saw it
    let seen = rig.call(Method::GET, &path, Vec::new()).await;
    let tag = seen.header("etag").to_owned();
    let patch = async |tag: &str, body: &str| {
        let headers = [("x-auth-token", rig.token.as_str()), ("if-match", tag)];
        rig.raw(Method::PATCH, &path, &headers, body.as_bytes().to_vec()).await
    };
    assert_eq!(patch(&tag, r#"{"cordoned":true}"#).await.json()["cordoned"], true);
    assert_eq!(patch(&tag, r#"{"cordoned":false}"#).await.status, 412);
    assert_eq!(patch("*", r#"{"cleaned":true}"#).await.status, 409, "there is nothing to clean");
    let topology = rig.create("demo", 1).await;
    first.hear(0).await;
    let evidence = why(&rig, &topology, "spawn_failed").await;
    assert!(evidence.contains("1 cordoned"), "{evidence}");
    assert_eq!(patch("*", r#"{"cordoned":false}"#).await.status, 200);
    let agent = first.take(&rig).await;

    // installed again, it joins anew as the same host: what it was before is in standing no more
    let again = json!({ "host": id });
    let token = rig.post(TOKENS, &again).await.json()["token"].as_str().expect("a token").to_owned();
    let second = PaperHost::join(&rig, &token).await.unwrap_or_else(|a| panic!("{}", a.text()));
    assert_eq!(json!(second.id), id);
    assert_eq!(first.ask(&first.said).await.status, 401);
    // nothing of the node is on it, so it is given to it anew
    let mut second = second;
    let newer = second.take(&rig).await;
    assert_eq!((newer.node.as_str(), newer.incarnation > agent.incarnation), (agent.node.as_str(), true));
}

#[tokio::test]
async fn strangers_and_other_hosts_get_nowhere() {
    let rig = pool("['z1']").await;
    let shared = token(&rig, 2, "r").await;
    let ended = rig.post(TOKENS, &json!({ "zone": "z1" })).await.json();
    let path = format!("{TOKENS}/{}", ended["id"].as_str().expect("an id"));
    assert_eq!(rig.get(&path).await.get("token"), None, "it is shown once");
    assert_eq!(rig.call(Method::DELETE, &path, Vec::new()).await.status, 204);
    for bad in ["guessed", ended["token"].as_str().expect("a token"), ""] {
        let refused = PaperHost::join(&rig, bad).await.err().unwrap_or_else(|| panic!("{bad} is accepted"));
        assert_eq!(refused.status, 401, "{bad}: {}", refused.text());
    }
    let one = PaperHost::join(&rig, &shared).await.unwrap_or_else(|a| panic!("{}", a.text())).at("10.1.0.1").await;
    let mut two = PaperHost::join(&rig, &shared).await.unwrap_or_else(|a| panic!("{}", a.text()));
    // another's identity, a node's routes, no identity
    two.id.clone_from(&one.id);
    assert_eq!(two.ask(&two.said).await.status, 403);
    let as_node = format!("/agent/v1/nodes/{}/poll", one.id);
    let poll = br#"{"protocol":1,"incarnation":1,"generation":0,"digest":null,"wait_ms":0}"#.to_vec();
    let refused = ask(rig.agents, &one.tls, Method::POST, &as_node, poll).await.expect("an answer");
    assert_eq!(refused.status, 401, "{}", refused.text());
    let stranger = PaperHost { tls: tls(&rig.ca(), None), ..two };
    assert_eq!(stranger.ask(&stranger.said).await.status, 401);
    // what it says is checked
    for (field, said) in [
        (
            "/facts/address",
            HostPollRequest {
                facts: HostFacts { address: "x; rm".into(), ..one.said.facts.clone() },
                ..one.said.clone()
            },
        ),
        ("/holds", HostPollRequest { holds: Some("../x".into()), ..one.said.clone() }),
    ] {
        let refused = one.ask(&said).await;
        assert!(refused.status == 422 && refused.text().contains(field), "{field}: {}", refused.text());
    }
    let long = HostPollRequest { hostname: format!("{}\n", "h".repeat(500)), wait_ms: 0, ..one.said.clone() };
    assert_eq!(one.ask(&long).await.status, 200);
    assert_eq!(state(&rig, &one).await["name"].as_str().map(str::len), Some(64));
    // requests that cannot be
    for (body, pointer) in [
        (json!({}), "/zone"),
        (json!({ "zone": "Z!" }), "/zone"),
        (json!({ "zone": "z1", "hosts": 0 }), "/hosts"),
        (json!({ "zone": "z1", "host": one.id }), "/zone"),
        (json!({ "host": "nobody" }), "/host"),
        (json!({ "zone": "z1", "fault_domain": "a b" }), "/fault_domain"),
        (json!({ "zone": "z1", "expires_in_s": 59 }), "/expires_in_s"),
    ] {
        let refused = rig.post(TOKENS, &body).await;
        assert!(refused.status == 422 && refused.text().contains(pointer), "{body}: {}", refused.text());
    }
    // a token is in no log, and only its hash in the database
    assert!(!crate::logs::has(&shared));
}

#[tokio::test]
async fn what_another_controller_gives_a_host_is_told_here() {
    use straas_store::PoolStore as _;
    let rig = pool("['z1']").await;
    let host = PaperHost::join(&rig, &token(&rig, 1, "r").await).await.unwrap_or_else(|a| panic!("{}", a.text()));
    let mut host = host.at("10.1.0.1").await;
    let store = rig.store().await;
    let mut record = store.pool_host(&host.id.as_str().into()).await.expect("read").expect("there");
    // as if it had been told of a node, which is another's by now
    record.holds = Some("n".into());
    record.told_as = 1;
    let (written, wish) = tokio::join!(store.change_pool_host(&record), host.hear(60_000));
    written.expect("written");
    assert_eq!(wish.release, Some("n".into()));
    assert_eq!(state(&rig, &host).await["state"], "leaving");
    host.said.released = Some("n".into());
    assert_eq!(host.hear(0).await, HostWish::default());
    assert_eq!(state(&rig, &host).await["state"], "free");
}
