//! The controller's disk is full, then fails: who asks for a change is told to ask again, who reads is
//! answered, nodes go on, nothing that was acknowledged is lost, and with room all goes on by itself.
//!
//! The whole data directory is on a small disk: SQLite, git repositories, the log. Hosts are not.

use anyhow::{Context as _, Result, ensure};
use http::{Method, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Instant;
use straas_schemas::command::CommandView;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::view::{Accepted, Liveness, Page, TopologyView};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::settings::user_file;
use straas_tests::{Cluster, say, scene, wait};

const NODE: &str = "c-a-1";
/// Room for a controller of one small topology, and some.
const MIB: u64 = 64;
/// How often each change is asked for while there is no room.
const ROUNDS: usize = 5;

/// Answers to what was asked for.
#[derive(Default)]
struct Asked {
    /// Rounds so far: names are used once.
    rounds: usize,
    refused: usize,
    /// Ids of what was acknowledged.
    commands: Vec<String>,
    topologies: Vec<String>,
    /// Texts that are committed.
    commits: Vec<(String, String)>,
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Value,
}

async fn call(cluster: &Cluster, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    let response = cluster.api.request(method, path, body).await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.map(str::to_owned);
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, retry_after, body: serde_json::from_slice(&bytes).unwrap_or_default() })
}

impl Asked {
    /// Asks for a change of each kind; what is refused is refused as it should be.
    async fn round(&mut self, cluster: &Cluster, node: &str) -> Result<()> {
        self.rounds += 1;
        let (v1, number) = ("/straas/v1.0", self.rounds);
        let count = json!({ "command": "moody-cmd/count", "args": { "key": format!("k{number}") } });
        let answer = call(cluster, Method::POST, &format!("{v1}/nodes/{node}/commands"), Some(&count)).await?;
        let queued = self.judged("a command", answer)?;
        self.commands.extend(queued.and_then(|body| Some(body["id"].as_str()?.to_owned())));

        let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": 1 });
        let other = json!({ "name": format!("x{number}"), "availability_zone": "az1", "components": [a] });
        let answer = call(cluster, Method::POST, &format!("{v1}/topologies?dry_run=false"), Some(&other)).await?;
        let made = self.judged("a topology", answer)?;
        self.topologies.extend(made.and_then(|body| Some(body["id"].as_str()?.to_owned())));

        // large, so that no room that is left by chance takes it
        let path = format!("{v1}/configurations/tree/c@az1/{}", user_file("moody", "1.0"));
        let greeting = format!("hello-{number}-{}", noise(number as u64));
        let option = json!({ "key": "greeting", "value": greeting, "type": "string", "exclusive": true, "doc": "Words on the page" });
        let section = json!({ "section": "server", "doc": "The server.", "options": [option] });
        let text = json!({ "type": "ini", "content": [section] }).to_string();
        let body = json!({ "content": text, "message": format!("greeting {number}") });
        let answer = call(cluster, Method::PUT, &path, Some(&body)).await?;
        let written = self.judged("a commit", answer)?;
        self.commits.extend(written.and_then(|body| Some((body["commit"].as_str()?.to_owned(), greeting))));
        Ok(())
    }

    fn judged(&mut self, what: &str, answer: Answer) -> Result<Option<Value>> {
        let Answer { status, retry_after, body } = answer;
        if status < 300 {
            return Ok(Some(body));
        }
        ensure!([503, 507].contains(&status), "{what}: {status} {body}");
        ensure!(retry_after.is_some(), "{what}: {status} without Retry-After");
        ensure!(
            body["detail"].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: {status} without a word: {body}"
        );
        self.refused += 1;
        Ok(None)
    }

    /// All that was acknowledged is there, also after a start.
    async fn kept(&self, cluster: &Cluster) -> Result<()> {
        for id in &self.commands {
            let _: CommandView = cluster.api.get(&format!("/commands/{id}")).await.context("a command is lost")?;
        }
        for id in &self.topologies {
            cluster.api.topology(id).await.context("a topology is lost")?;
        }
        for (commit, greeting) in &self.commits {
            let file = user_file("moody", "1.0");
            let path = format!("/straas/v1.0/configurations/tree/{commit}/{file}");
            let read = call(cluster, Method::GET, &path, None).await?;
            ensure!(read.body.to_string().contains(greeting), "a commit is lost: {} {}", read.status, read.body);
        }
        Ok(())
    }
}

/// Text that git cannot make small.
fn noise(seed: u64) -> String {
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = String::new();
    while out.len() < 3_000 {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        out.push_str(&format!("{number:x}"));
    }
    out
}

/// While nothing can be written: what is said, and that all else goes on.
async fn without_room(cluster: &Cluster, asked: &mut Asked, id: &str, node: &str, word: &str) -> Result<()> {
    let says = wait("readyz to say so", STEP_MAX, async || {
        let answer = call(cluster, Method::GET, "/readyz", None).await.ok()?;
        (answer.status == 503 && answer.body["disk"].as_str().is_some_and(|text| text.contains(word))).then_some(answer)
    });
    let says = says.await?.body["disk"].to_string();
    let refused = asked.refused;
    for _ in 0..ROUNDS {
        asked.round(cluster, node).await?;
        let _: TopologyView = cluster.api.topology(id).await.context("a read")?;
        let _: Page<Value> = cluster.api.get("/jobs").await.context("a read")?;
        call(cluster, Method::GET, "/straas/v1.0/configurations/tree/c@az1", None).await.context("a read")?;
    }
    ensure!(asked.refused > refused, "nothing was refused");
    ensure!(cluster.sh(NODE, "pgrep -c mini_httpd").await?.trim() == "1", "the service is gone");
    say(&format!("  {word}: {} of {} changes refused; readyz: {says}", asked.refused - refused, ROUNDS * 3));
    Ok(())
}

async fn works(cluster: &Cluster, asked: &mut Asked, node: &str) -> Result<()> {
    wait("changes to be taken again", STEP_MAX, async || {
        let refused = asked.refused;
        asked.round(cluster, node).await.ok()?;
        (asked.refused == refused).then_some(())
    })
    .await
}

#[test]
fn the_controllers_disk_is_full_and_fails() {
    scene("the_controllers_disk_is_full_and_fails", async |cluster| {
        cluster.put_on_a_disk(MIB)?;
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": 1 });
        let body = json!({ "name": "c", "availability_zone": "az1", "components": [a] });
        let accepted: Accepted = cluster.api.call(Method::POST, "/topologies", Some(&body)).await?;
        cluster.active(&accepted).await?;
        let node = cluster.api.node(NODE).await?.id.to_string();
        let mut asked = Asked::default();
        asked.round(cluster, &node).await?;

        cluster.disk()?.fill()?;
        without_room(cluster, &mut asked, &accepted.id, &node, "full").await?;
        let freed = Instant::now();
        cluster.disk()?.free()?;
        works(cluster, &mut asked, &node).await?;
        wait("the controller to be ready", STEP_MAX, async || cluster.api.is_ready().await.then_some(())).await?;
        let full = freed.elapsed().as_secs_f32();
        asked.kept(cluster).await?;

        // killed in the middle of it
        cluster.disk()?.fill()?;
        for _ in 0..ROUNDS {
            asked.round(cluster, &node).await?;
        }
        cluster.kill()?;
        cluster.disk()?.free()?;
        cluster.start().await?;
        asked.kept(cluster).await.context("killed while full")?;
        works(cluster, &mut asked, &node).await?;

        cluster.disk()?.fails()?;
        without_room(cluster, &mut asked, &accepted.id, &node, "read-only").await?;
        cluster.kill()?;
        cluster.disk()?.replaced()?;
        let repaired = Instant::now();
        cluster.start().await?;
        works(cluster, &mut asked, &node).await?;
        let failed = repaired.elapsed().as_secs_f32();
        asked.kept(cluster).await.context("failed")?;

        wait("the node to be heard and well", STEP_MAX, async || {
            let node = cluster.api.node(NODE).await.ok()?;
            (node.liveness == Liveness::Reachable && node.service == ServiceStatus::Active).then_some(())
        })
        .await?;
        for id in &asked.commands {
            wait("every command to have ended", STEP_MAX, async || {
                let view: CommandView = cluster.api.get(&format!("/commands/{id}")).await.ok()?;
                view.standing.is_final().then_some(())
            })
            .await?;
        }
        let text = cluster.sh(NODE, "sort /var/lib/moody/count.begun | uniq -d").await?;
        ensure!(text.trim().is_empty(), "ran twice: {text}");
        for id in &asked.topologies {
            cluster.delete(id).await?;
        }
        say(&format!(
            "  full twice, killed while full once, failed once: 0 of {} acknowledged changes lost, 0 commands twice; {} refused; \
             writes again {full:.1} s after there is room, {failed:.1} s after the repair",
            asked.commands.len() + asked.topologies.len() + asked.commits.len(),
            asked.refused
        ));
        Ok(())
    });
}
