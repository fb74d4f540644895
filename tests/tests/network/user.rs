//! A user: asks controllers by turns until one answers, with an `Idempotency-Key`, and remembers what was acknowledged.

use crate::dice::Dice;
use crate::ground::Ground;
use crate::seat::{Seat, USERS};
use crate::{checks, wire};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An answer that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// A user's connection breaks once in so many requests, after it was taken and before it is answered.
const BREAKS: usize = 5;
/// On its way to a controller a request is longer than that; the answer is not there yet.
const UNDER_WAY: Duration = Duration::from_millis(60);
/// Before the next controller is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// Changes and commands of one history.
const WISHES: usize = 14;
/// Once nothing fails any more, all that was wanted is done within this time: longer than the longest back-off, time-out
/// and retry of a stage together.
const SETTLES: Duration = Duration::from_secs(900);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// See the module.
pub struct User {
    pub seats: Vec<Seat>,
    pub ground: Arc<Ground>,
    pub dice: Dice,
    /// Which controller is asked.
    at: usize,
    asked: u64,
    /// Nodes there are to be, by all that was acknowledged.
    pub wanted: u64,
    /// Exchanges of the certificate authority that were begun.
    pub rotations: u64,
    /// Ids of acknowledged commands.
    pub commands: Vec<String>,
}

/// What was created.
struct Topology {
    id: String,
    component: String,
    size: u64,
}

impl User {
    pub fn new(seats: Vec<Seat>, ground: Arc<Ground>, seed: u64) -> Self {
        Self {
            seats,
            ground,
            dice: Dice::of(seed, 2_000_000),
            at: 0,
            asked: 0,
            wanted: 0,
            rotations: 0,
            commands: Vec::new(),
        }
    }

    /// Asks one controller after another until there is an answer that is one; for all of them it is the same request.
    pub async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.asked += 1;
        let key = format!("wish-{}", self.asked);
        let begun = Instant::now();
        loop {
            let breaks = method != Method::GET && !self.ground.is_peaceful() && self.dice.one_in(BREAKS);
            let asking = self.once(&method, path, body, &key);
            let asked = async {
                match breaks {
                    true => cut_off(asking, self.seats[self.at].name, &self.ground).await,
                    false => asking.await,
                }
            };
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) if answer.status < 500 && answer.status != 429 => return answer,
                _ => {}
            }
            assert!(begun.elapsed() < SETTLES, "no controller answers to {method} {path}");
            self.ground.count("a request is asked again");
            self.at = (self.at + 1) % self.seats.len();
            // waits for: nothing that can be seen from outside
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, method: &Method, path: &str, body: Option<&Value>, key: &str) -> turmoil::Result<Answer> {
        let seat = &self.seats[self.at];
        let stream = wire::connect(seat.name.to_owned(), USERS).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let running = tokio::task::spawn_local(connection);
        let mut request = Request::builder().method(method).uri(format!("/straas/v1.0{path}")).header("host", "straas");
        request = request.header("x-auth-token", seat.token());
        if method != Method::GET {
            request = request.header("idempotency-key", key);
        }
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        let response = sender.send_request(request.body(Full::new(Bytes::from(bytes)))?).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        running.abort();
        Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// A change that may be refused for a reason, which is no fault.
    async fn change(&mut self, what: &str, method: Method, path: &str, body: &Value) -> Option<Value> {
        let answer = self.ask(method, path, Some(body).filter(|body| !body.is_null())).await;
        let taken = answer.status < 300;
        self.ground.tell(&format!("a user wants {what}: {} {}", answer.status, if taken { "" } else { "refused" }));
        if taken {
            self.ground.count("a change is accepted");
        } else if !matches!(answer.status, 404 | 409 | 412) {
            self.ground.fault(format!("{what} was answered with {}: {}", answer.status, answer.body));
        }
        taken.then_some(answer.body)
    }

    /// A whole life of a topology, with faults until there is peace.
    pub async fn live(mut self) -> turmoil::Result {
        let topology = self.create().await?;
        for _ in 0..WISHES {
            // waits for: nothing; users take their time
            tokio::time::sleep(Duration::from_millis(500 + self.dice.below(14_000) as u64)).await;
            self.wish(&topology).await;
        }
        while !self.ground.is_peaceful() {
            // waits for: the end of the faults, which is a moment of the history
            tokio::time::sleep(LOOK).await;
        }
        self.ground.tell("peace: nothing fails from now on");
        let path = format!("/topologies/{}", topology.id);
        let begun = Instant::now();
        loop {
            let (view, jobs) = (self.get(&path).await.body, self.get("/jobs?open=true").await.body);
            let authority = self.get("/authority").await.body;
            let open = jobs["items"].as_array().map_or(usize::MAX, Vec::len);
            let settled = open == 0 && authority["phase"] == "settled" && authority["ready"] == authority["agents"];
            if view["status"] == "ACTIVE" && settled && self.ground.facts().machines.values().all(|m| !m.disturbed) {
                break;
            }
            if begun.elapsed() > SETTLES {
                return Err(format!("it does not come to rest: {view:#}\n{jobs:#}\n{authority:#}").into());
            }
            // waits for: what a user sees only when he asks
            tokio::time::sleep(LOOK).await;
        }
        self.ground.tell("all is as it is wanted");
        (0..self.rotations).for_each(|_| self.ground.count("the certificate authority is exchanged"));
        checks::at_rest(&mut self, &topology.id).await;
        self.change("all gone", Method::DELETE, &path, &Value::Null).await;
        while self.get(&path).await.status != 404 || !self.ground.facts().machines.is_empty() {
            if begun.elapsed() > 2 * SETTLES {
                return Err("it is not deleted".into());
            }
            // waits for: the same
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn create(&mut self) -> turmoil::Result<Topology> {
        let size = 2 + self.dice.below(2) as u64;
        let body = json!({ "name": "town", "availability_zone": "z1",
            "components": [{ "name": "a", "type": "moody", "version": "1.0", "size": size }] });
        let made = self.change("a topology", Method::POST, "/topologies", &body).await.ok_or("it is refused")?;
        let id = made["id"].as_str().ok_or("no id")?.to_owned();
        let view = self.get(&format!("/topologies/{id}")).await.body;
        let component = view["components"][0]["id"].as_str().ok_or("no component")?.to_owned();
        self.wanted = size;
        Ok(Topology { id, component, size })
    }

    async fn wish(&mut self, topology: &Topology) {
        let path = format!("/components/{}", topology.component);
        match self.dice.below(10) {
            0 => {
                let more = self.change("one more", Method::POST, &path, &json!({ "count": 1 })).await;
                self.wanted += u64::from(more.is_some());
            }
            1 => {
                let body = json!({ "size": topology.size });
                if self.change("as many as at first", Method::PATCH, &path, &body).await.is_some() {
                    self.wanted = topology.size;
                }
            }
            2 => {
                let version = if self.dice.one_in(2) { "2.0" } else { "1.0" };
                drop(self.change(version, Method::PATCH, &path, &json!({ "version": version })).await);
            }
            3 => drop(self.change("a restart", Method::PUT, &format!("{path}/services"), &Value::Null).await),
            4 => {
                let begun = self.change("another authority", Method::POST, "/authority/rotation", &Value::Null).await;
                self.rotations += u64::from(begun.is_some());
            }
            _ => self.command(topology).await,
        }
    }

    async fn command(&mut self, topology: &Topology) {
        let nodes = self.get(&format!("/nodes?topology={}", topology.id)).await.body;
        let nodes: Vec<_> = nodes["items"].as_array().into_iter().flatten().cloned().collect();
        let Some(node) = self.dice.pick(&nodes).and_then(|node| node["id"].as_str()) else { return };
        let expires = 5 + self.dice.below(120);
        let body = json!({ "command": "moody-cmd/count", "args": { "key": format!("k-{}", self.asked) },
            "deadline_s": expires });
        let answer = self.ask(Method::POST, &format!("/nodes/{node}/commands"), Some(&body)).await;
        if let Some(id) = answer.body["id"].as_str().filter(|_| answer.status < 300) {
            self.ground.tell(&format!("a user wants the command {id} within {expires} s"));
            self.ground.count("a command is accepted");
            self.commands.push(id.to_owned());
        } else if !matches!(answer.status, 404 | 409) {
            self.ground.fault(format!("a command was answered with {}: {}", answer.status, answer.body));
        }
    }
}

/// The request arrives; the answer does not.
async fn cut_off<T>(asking: impl Future<Output = turmoil::Result<T>>, by: &str, ground: &Ground) -> turmoil::Result<T> {
    let mut asking = std::pin::pin!(asking);
    tokio::select! {
        answer = &mut asking => return answer,
        // waits for: the request to be on its way, which nobody sees
        () = tokio::time::sleep(UNDER_WAY) => {}
    }
    ground.count("an answer to a user is lost");
    turmoil::partition_oneway(by, crate::history::USER);
    let lost = tokio::time::timeout(PATIENCE / 2, asking).await;
    turmoil::repair_oneway(by, crate::history::USER);
    lost.unwrap_or_else(|_| Err("no answer".into()))
}
