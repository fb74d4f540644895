//! Streams of events, and the end of everything that is open when the controller stops.

use crate::agent::{Agent, ask, live, tls};
use crate::rig::{PATIENCE, Rig, TOPOLOGIES};
use crate::wire::{request, send};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

/// An event of a stream.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Option<i64>,
    pub kind: String,
    pub data: Value,
}

pub struct Stream {
    body: Incoming,
    buffer: String,
    /// The begin of a character whose end comes with the next frame.
    cut: Vec<u8>,
}

impl Stream {
    pub async fn open(rig: &Rig, path: &str, after: Option<i64>) -> Self {
        let after = after.map(|id| id.to_string());
        let mut headers = vec![("x-auth-token", rig.token.as_str())];
        headers.extend(after.as_deref().map(|id| ("last-event-id", id)));
        let response =
            send(rig.connect().await, request(Method::GET, path, &headers, vec![])).await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), buffer: String::new(), cut: Vec::new() }
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((raw, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    raw.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
                };
                let event = field("data").map(|data| Event {
                    id: field("id").map(|id| id.parse().expect("a number")),
                    kind: field("event").unwrap_or_default(),
                    data: serde_json::from_str(&data).expect("json"),
                });
                self.buffer = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("in time")?;
            let data = frame.ok()?.into_data().expect("data");
            self.cut.extend_from_slice(&data);
            let whole = std::str::from_utf8(&self.cut).map_or_else(|error| error.valid_up_to(), str::len);
            let rest = self.cut.split_off(whole);
            self.buffer.push_str(std::str::from_utf8(&self.cut).expect("text"));
            self.cut = rest;
        }
    }

    async fn all(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        while let Some(event) = self.next().await {
            out.push(event);
        }
        out
    }
}

fn texts(events: &[Event]) -> Vec<&str> {
    events.iter().filter(|event| event.kind == "event").filter_map(|event| event.data["text"].as_str()).collect()
}

#[tokio::test]
async fn a_job_is_streamed_to_its_end_and_resumed_where_it_broke() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let job = rig.get(&format!("{TOPOLOGIES}/{id}")).await["job"].as_str().expect("a job").to_owned();
    let path = format!("/straas/v1.0/jobs/{job}/events");
    let mut early = Stream::open(&rig, &path, None).await;
    // what happened so far, then the picture, at once
    while early.next().await.expect("an event").kind != "job" {}
    let mut agents = rig.enrolled(&id, 1).await;
    live(&rig, &mut agents, &id, "ACTIVE").await;
    let live_events = early.all().await;
    let last = live_events.last().expect("an event");
    assert_eq!((last.kind.as_str(), &last.data["state"]), ("job", &Value::from("succeeded")));
    for stage in ["install", "pre_config", "config", "validate"] {
        assert!(texts(&live_events).iter().any(|text| text.contains(stage)), "{stage}: {:?}", texts(&live_events));
    }
    // the whole history later, then only what comes after an event
    let history = Stream::open(&rig, &path, None).await.all().await;
    assert_eq!(history.last().expect("an event").data["state"], "succeeded");
    assert!(texts(&history).len() >= texts(&live_events).len());
    let ids: Vec<_> = history.iter().filter_map(|event| event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let resumed = Stream::open(&rig, &path, Some(ids[2])).await.all().await;
    assert_eq!(resumed.iter().filter_map(|event| event.id).collect::<Vec<_>>(), ids[3..]);
    assert_eq!(resumed.last().expect("an event").kind, "job");
    // a later job's stream does not tell the story of the earlier one, nor the other way round
    let mut whole = Stream::open(&rig, &format!("{TOPOLOGIES}/{id}/events"), None).await;
    let delete = rig.delete(&id).await.json()["job"]["id"].as_str().expect("a job").to_owned();
    let deleted = Stream::open(&rig, &format!("/straas/v1.0/jobs/{delete}/events"), None).await.all().await;
    assert!(!texts(&deleted).iter().any(|text| text.contains("install")), "{:?}", texts(&deleted));
    assert!(texts(&deleted).iter().any(|text| text.contains("host is removed")), "{:?}", texts(&deleted));
    assert_eq!(deleted.last().expect("an event").data["state"], "succeeded");
    let again = Stream::open(&rig, &path, None).await.all().await;
    assert_eq!(texts(&again), texts(&history));
    // the stream of a topology ends with it
    let story = whole.all().await;
    assert!(texts(&story).iter().any(|text| text.contains("nothing of it is left")), "{:?}", texts(&story));
}

#[tokio::test]
async fn stopping_ends_whatever_is_open_and_leaves_nothing_running() {
    let mut rig = Rig::start().await;
    let id = rig.create("demo", 3).await;
    let mut agents = rig.enrolled(&id, 3).await;
    for agent in &mut agents {
        agent.poll(60_000).await;
    }
    // polls that wait, a stream that is read, one that is not, strangers that say nothing or half of it
    let polls: Vec<_> = agents.iter().map(|agent| tokio::spawn(poll(&rig, agent))).collect();
    rig.until("/metrics", |answer| answer.text().contains("straas_controller_nodes_polling 3")).await;
    let mut read = Stream::open(&rig, &format!("{TOPOLOGIES}/{id}/events"), None).await;
    let unread = Stream::open(&rig, &format!("{TOPOLOGIES}/{id}/events"), None).await;
    let silent = rig.connect().await;
    let mut half = rig.connect().await;
    half.write_all(b"POST /straas/v1.0/topologies HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n").await.expect("sent");
    let mute = tokio::net::TcpStream::connect(rig.agents).await.expect("connected");
    let idle = agents[0].connect().await;
    let begun = Instant::now();
    rig.down().await.expect("stopped in peace");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    for poll in polls {
        let answer = poll.await.expect("no panic").expect("an answer, not a broken connection");
        assert_eq!(answer.json(), serde_json::json!({ "assignment": null, "renew": false }));
    }
    while read.next().await.is_some() {}
    drop((unread, silent, half, mute, idle));
    // nobody is left: the ports refuse, and the directory can be served again at once
    assert!(tokio::net::TcpStream::connect(rig.agents).await.is_err());
    rig.up().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let alive = metrics.num_alive_tasks();
    rig.down().await.expect("stopped in peace");
    // what is left are the tasks of this test's own connections
    assert!(metrics.num_alive_tasks() < alive, "{} of {alive}", metrics.num_alive_tasks());
}

fn poll(rig: &Rig, agent: &Agent) -> impl Future<Output = std::io::Result<crate::wire::Answer>> + use<> {
    let (agents, path) = (rig.agents, agent.path("poll"));
    let body = serde_json::to_vec(&agent.poll_body(60_000)).expect("json");
    let config = tls(&rig.ca(), Some((&agent.certificate_pem, &agent.key_pem)));
    async move { ask(agents, &config, Method::POST, &path, body).await }
}
