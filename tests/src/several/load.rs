//! Users while things fail: one writes and notes what was acknowledged, one reads.
//!
//! A write has a name of its own and an `Idempotency-Key`, and is asked again until it is acknowledged: so in the end each
//! has to be there once, whatever was killed. What was refused meanwhile has to be refused as the API promises.

use crate::api::Api;
use anyhow::{Context as _, Result, ensure};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use straas_schemas::command::{CommandStanding, CommandView};
use straas_schemas::view::Page;

/// Between two requests of a user.
const PACE: Duration = Duration::from_millis(100);
/// A request that takes longer is one that hangs: three times what a controller allows the database.
const HANGS: Duration = Duration::from_secs(60);
/// Commands asked for on each node: all of them are looked at in the end, and controllers keep the newest 200 of a node.
const COMMANDS_EACH: usize = 150;
/// Pages of a list that are read.
const PAGE: usize = 500;

/// What a user saw.
#[derive(Default)]
pub struct Load {
    /// Requests that succeeded at first.
    pub good: Cell<u32>,
    /// Requests refused with 503 and `Retry-After`.
    pub refused: Cell<u32>,
    /// Requests that broke off, or were refused by the load balancer.
    pub broken: Cell<u32>,
    /// The longest time without a success, in ms.
    pub gap_ms: Cell<u64>,
    /// The longest a write was waited for, in ms, whatever was answered.
    pub slowest_ms: Cell<u64>,
    stop: Cell<bool>,
    /// Acknowledged writes: tenants by name.
    tenants: RefCell<BTreeSet<String>>,
    /// Acknowledged commands: id and word.
    pub commands: RefCell<Vec<(String, String)>>,
}

fn more(count: &Cell<u32>) {
    count.set(count.get() + 1);
}

impl Load {
    /// What was seen, in words.
    #[must_use]
    pub fn told(&self) -> String {
        format!(
            "{} requests succeeded, {} were refused with 503 and Retry-After, {} broke off; longest time without a write \
             {:.1} s, longest wait for an answer to one {:.1} s",
            self.good.get(),
            self.refused.get(),
            self.broken.get(),
            self.gap().as_secs_f32(),
            Duration::from_millis(self.slowest_ms.get()).as_secs_f32()
        )
    }

    /// The longest time without an acknowledged write since this was asked last time.
    #[must_use]
    pub fn gap(&self) -> Duration {
        Duration::from_millis(self.gap_ms.take())
    }

    /// No further request begins.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// Writes in turn a tenant and a command for one of these nodes, after many commands tenants alone, until it is told to
    /// stop. What is refused is asked again in the end, by the same name.
    ///
    /// # Errors
    /// An answer that may not be.
    pub async fn write(&self, api: &Api, name: &str, nodes: &[String]) -> Result<()> {
        let mut pace = tokio::time::interval(PACE);
        let mut last = Instant::now();
        let mut refused = VecDeque::new();
        for number in 1_usize.. {
            if self.stop.get() {
                break;
            }
            pace.tick().await;
            let word = format!("{name}-{number}");
            let commands = number % 2 == 0 && number / 2 <= COMMANDS_EACH * nodes.len();
            let node = nodes.get(number / 2 % nodes.len().max(1)).filter(|_| commands).cloned();
            if self.one(api, &word, node.as_deref()).await? {
                self.gap_ms.set(self.gap_ms.get().max(u64::try_from(last.elapsed().as_millis())?));
                last = Instant::now();
            } else {
                refused.push_back((word, node));
            }
        }
        while let Some((word, node)) = refused.pop_front() {
            if !self.one(api, &word, node.as_deref()).await? {
                pace.tick().await;
                refused.push_back((word, node));
            }
        }
        Ok(())
    }

    /// Writes once; whether it was acknowledged.
    async fn one(&self, api: &Api, word: &str, node: Option<&str>) -> Result<bool> {
        let (path, body) = match node {
            None => ("/tenants".to_owned(), json!({ "id": word })),
            Some(node) => {
                let body = json!({ "command": "moody-cmd/count", "args": { "key": word }, "deadline_s": 600 });
                (format!("/nodes/{node}/commands"), body)
            }
        };
        let Some(answer) = self.ask(api, &path, &body, word).await? else { return Ok(false) };
        if node.is_none() {
            self.tenants.borrow_mut().insert(word.to_owned());
        } else {
            let id = answer["id"].as_str().with_context(|| format!("no id: {answer}"))?;
            self.commands.borrow_mut().push((id.to_owned(), word.to_owned()));
        }
        Ok(true)
    }

    /// Asks once; none if it has to be asked again.
    async fn ask(&self, api: &Api, path: &str, body: &Value, key: &str) -> Result<Option<Value>> {
        let token = std::fs::read_to_string(&api.token_file)?;
        let request = Request::post(format!("{}/straas/v1.0{path}", api.endpoint));
        let request = request.header("x-auth-token", token.trim()).header("idempotency-key", key);
        let request = request.header("content-type", "application/json").body(Full::new(body.to_string().into()))?;
        let asked = async {
            let response = api.http.request(request).await.ok()?;
            let (head, body) = response.into_parts();
            Some((head, body.collect().await.ok()?.to_bytes()))
        };
        let begun = Instant::now();
        let answered = tokio::time::timeout(HANGS, asked).await;
        self.slowest_ms.set(self.slowest_ms.get().max(u64::try_from(begun.elapsed().as_millis())?));
        let Some((head, bytes)) = answered.with_context(|| format!("{path} hangs"))? else {
            more(&self.broken);
            return Ok(None);
        };
        let problem = head.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        match head.status.as_u16() {
            200..300 => {
                more(&self.good);
                Ok(Some(serde_json::from_slice(&bytes)?))
            }
            503 if problem => {
                ensure!(head.headers.contains_key("retry-after"), "{path}: 503 without Retry-After");
                more(&self.refused);
                Ok(None)
            }
            // not a controller's: the one that it was with died, or there is none
            502..=504 if !problem => {
                more(&self.broken);
                Ok(None)
            }
            // the first try of it is still being carried out, or was and died before it answered
            409 if problem => {
                let text = String::from_utf8_lossy(&bytes);
                let done = text.contains("was carried out");
                ensure!(done || text.contains("is being carried out"), "{path}: {text}");
                Ok(done.then_some(Value::Null))
            }
            status => anyhow::bail!("{path}: {status} {}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// Reads until it is told to stop.
    ///
    /// # Errors
    /// None: what does not succeed is counted.
    pub async fn read(&self, api: &Api, path: &str) -> Result<()> {
        let mut pace = tokio::time::interval(PACE);
        while !self.stop.get() {
            pace.tick().await;
            match tokio::time::timeout(HANGS, api.answer(Method::GET, path, None)).await {
                Ok(Ok((200, _))) => more(&self.good),
                Ok(Ok((503, _))) => more(&self.refused),
                _ => more(&self.broken),
            }
        }
        Ok(())
    }

    /// How many writes were acknowledged; each is there, once.
    ///
    /// # Errors
    /// Those that are not.
    pub async fn kept(&self, api: &Api) -> Result<usize> {
        let mut there = Vec::new();
        let mut after = String::new();
        loop {
            let page: Page<Value> = api.get(&format!("/tenants?limit={PAGE}{after}")).await?;
            let ids = page.items.iter().filter_map(|tenant| tenant["id"].as_str().map(str::to_owned));
            there.extend(ids);
            let Some(next) = page.next else { break };
            after = format!("&marker={next}");
        }
        let tenants = self.tenants.borrow().clone();
        let lost: Vec<_> = tenants.iter().filter(|name| there.iter().filter(|id| id == name).count() != 1).collect();
        ensure!(lost.is_empty(), "acknowledged and not there once: {lost:?}");
        let commands = self.commands.borrow().clone();
        for (id, word) in &commands {
            let view: CommandView =
                api.get(&format!("/commands/{id}")).await.with_context(|| format!("{word} is lost"))?;
            ensure!(view.id.as_str() == id, "another command");
        }
        Ok(tenants.len() + commands.len())
    }

    /// How many commands ended in each way, once all have; none ran more than once, by what their machines `noted` down.
    ///
    /// # Errors
    /// One did, or one never ends.
    pub async fn ran(&self, api: &Api, noted: impl AsyncFnOnce() -> Result<Vec<String>>) -> Result<String> {
        let commands = self.commands.borrow().clone();
        let mut ended = Vec::new();
        for (id, word) in &commands {
            let view = crate::wait("a command to end", crate::cluster::STEP_MAX, async || {
                let view: CommandView = api.get(&format!("/commands/{id}")).await.ok()?;
                view.standing.is_final().then_some(view)
            });
            ended.push((word, view.await?.standing));
        }
        let noted = noted().await?;
        let (mut succeeded, mut unknown, mut expired) = (0, 0, 0);
        for (word, standing) in ended {
            let times = noted.iter().filter(|line| *line == word).count();
            ensure!(times <= 1, "{word} ran {times} times");
            match standing {
                CommandStanding::Succeeded => {
                    ensure!(times == 1, "{word} succeeded and left no trace");
                    succeeded += 1;
                }
                CommandStanding::Expired => {
                    ensure!(times == 0, "{word} expired and ran");
                    expired += 1;
                }
                CommandStanding::Unknown => unknown += 1,
                other => anyhow::bail!("{word} ended as {other:?}"),
            }
        }
        Ok(format!("{} commands: {succeeded} succeeded, {expired} expired, {unknown} unknown, 0 twice", commands.len()))
    }
}
