//! A user of the controller's API: HTTP over hyper-util, as the command line has it.
//!
//! Every request may fail because a test has just killed the controller; whoever follows something
//! over such a time asks again.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use straas_schemas::job::Job;
use straas_schemas::view::{NodeView, Page, TopologyView};

/// A client of one controller.
pub struct Api {
    pub(crate) http: Client<HttpConnector, Full<Bytes>>,
    pub(crate) endpoint: String,
    pub(crate) token_file: PathBuf,
}

impl Api {
    /// Of the controller at this port, with the token that it writes to this file at its first start.
    #[must_use]
    pub fn new(port: u16, token_file: PathBuf) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { http, endpoint: format!("http://127.0.0.1:{port}"), token_file }
    }

    /// Sends a request to a path below the root.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let token = std::fs::read_to_string(&self.token_file).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.endpoint));
        if !token.is_empty() {
            request = request.header("x-auth-token", token.trim());
        }
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = request.header("content-type", "application/json").body(Full::new(bytes.into()))?;
        self.http.request(request).await.with_context(|| format!("ask the controller for {path}"))
    }

    /// Status and JSON of a `POST` of a file to a path below the root.
    ///
    /// # Errors
    /// Nobody answers, or not with JSON.
    pub async fn send(&self, path: &str, file: Vec<u8>) -> Result<(u16, Value)> {
        let token = std::fs::read_to_string(&self.token_file)?;
        let request = Request::post(format!("{}{path}", self.endpoint)).header("x-auth-token", token.trim());
        let request = request.header("content-type", "application/octet-stream").body(Full::new(file.into()))?;
        let response = self.http.request(request).await.with_context(|| format!("send a file to {path}"))?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).with_context(|| format!("{path}: {status}, and not JSON"))?))
    }

    /// Status and JSON of a call of the user API.
    ///
    /// # Errors
    /// Nobody answers, or not with JSON.
    pub async fn answer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let response = self.request(method, &format!("/straas/v1.0{path}"), body).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        let value = serde_json::from_slice(&bytes).with_context(|| format!("{path}: {status}, and not JSON"))?;
        Ok((status, value))
    }

    /// A call that has to succeed.
    ///
    /// # Errors
    /// It did not; the message holds the problem.
    pub async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T> {
        let (status, value) = self.answer(method.clone(), path, body).await?;
        if status >= 300 {
            bail!("{method} {path}: {status} {value}");
        }
        serde_json::from_value(value).with_context(|| format!("{method} {path}"))
    }

    /// `GET`
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, None).await
    }

    /// Whether the controller serves and can make hosts.
    pub async fn is_ready(&self) -> bool {
        let Ok(response) = self.request(Method::GET, "/readyz", None).await else { return false };
        let good = response.status().is_success();
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        let body: Value = body.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        good && body["hosts"] == "ok"
    }

    /// A topology.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn topology(&self, id: &str) -> Result<TopologyView> {
        self.get(&format!("/topologies/{id}")).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        Ok(self.get::<Page<NodeView>>("/nodes").await?.items)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// As [`Api::call`], or there is none.
    pub async fn node(&self, name: &str) -> Result<NodeView> {
        let found = self.nodes().await?.into_iter().find(|node| node.name == name);
        found.with_context(|| format!("the API shows no node {name}"))
    }

    /// A job.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub async fn job(&self, id: &str) -> Result<Job> {
        self.get(&format!("/jobs/{id}")).await
    }

    /// A stream of server-sent events.
    ///
    /// # Errors
    /// Nobody answers, or with a problem.
    pub async fn stream(&self, path: &str) -> Result<Stream> {
        let response = self.request(Method::GET, &format!("/straas/v1.0{path}"), None).await?;
        if !response.status().is_success() {
            bail!("{path}: {}", response.status());
        }
        Ok(Stream { body: response.into_body(), buffer: Vec::new() })
    }
}

/// Server-sent events as they come.
pub struct Stream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Stream {
    /// Kind and data of the next event; `None` when the stream has ended, in order or not.
    pub async fn next(&mut self) -> Option<(String, String)> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let raw = String::from_utf8_lossy(&raw);
                // the controller's JSON has no line breaks, so an event has one line of data
                let field =
                    |name| raw.lines().find_map(|line| line.strip_prefix(name)).map(|v: &str| v.trim().to_owned());
                if let Some(data) = field("data:") {
                    return Some((field("event:").unwrap_or_default(), data));
                }
            }
            self.buffer.extend(self.body.frame().await?.ok()?.into_data().unwrap_or_default());
        }
    }
}
