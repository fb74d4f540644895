//! The user's side: requests to the API, and what they are answered.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

const API: &str = "/straas/v1.0";

/// A user with the administrator's token.
#[derive(Clone)]
pub struct User {
    at: SocketAddr,
    token: String,
}

impl User {
    pub const fn new(at: SocketAddr, token: String) -> Self {
        Self { at, token }
    }

    /// One request on a connection of its own.
    pub async fn raw(&self, method: Method, path: &str, body: &Value) -> Result<(StatusCode, Bytes)> {
        let (mut sender, connection) = handshake(TokioIo::new(TcpStream::connect(self.at).await?)).await?;
        tokio::spawn(async move { drop(connection.await) });
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder().method(method).uri(path).header("host", "straas");
        let request = request.header("x-auth-token", &self.token).header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// A request that is to succeed.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.raw(method, &format!("{API}{path}"), body).await?;
        ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Asks for a topology of five nodes.
    pub async fn create(&self, number: usize) -> Result<()> {
        let body = json!({
            "name": format!("swarm{number}"), "availability_zone": "z1",
            "components": [{ "name": "zk", "type": "zookeeper", "version": "3.8.0", "size": 5 }],
        });
        self.call(Method::POST, "/topologies", &body).await.map(drop)
    }

    /// The text of a page that is not the API's.
    pub async fn text(&self, path: &str) -> Result<String> {
        let (_, answer) = self.raw(Method::GET, path, &Value::Null).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A metric of the controller.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.text("/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).with_context(|| format!("no metric {name}"))
    }
}

/// What users were answered while something else went on.
#[derive(Default)]
pub struct Answers {
    pub good: AtomicU64,
    pub server_errors: AtomicU64,
    pub refused: AtomicU64,
    pub stop: AtomicBool,
}

/// Reads and writes of a user, one after the other, until it is told to stop.
pub async fn use_it(user: User, answers: Arc<Answers>) {
    let count = |counter: &AtomicU64| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    while !answers.stop.load(Ordering::Relaxed) {
        match user.raw(Method::GET, &format!("{API}/topologies?limit=5"), &Value::Null).await {
            Ok((status, _)) if status.is_server_error() => count(&answers.server_errors),
            Ok(_) => count(&answers.good),
            // nobody listens while the controller is started anew
            Err(_) => count(&answers.refused),
        }
        // waits for: nothing; a user who asks ten times a second
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
