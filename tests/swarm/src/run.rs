//! A run: a controller, agents, a time of changes and cuts, a restart, a race with a bare server, a table.

use crate::Load;
use crate::agent::{Agent, Seen, Tally, heartbeat};
use crate::link::{Link, roots};
use crate::measure::{told, usage};
use crate::users::{Answers, User, use_it};
use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use http::{Method, StatusCode};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::RootCertStore;
use serde_json::{Value, json};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Nodes of a topology.
const NODES: usize = 5;
/// Requests of one kind that are made at once.
const AT_ONCE: usize = 16;
/// Something that has not come about by then never will.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Senders of heartbeats as fast as they go, and for how long.
const SENDERS: usize = 64;
const RACE: Duration = Duration::from_secs(10);

/// A program that ends with the run.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, words: &[&str]) -> Result<Program> {
    let log = File::options().create(true).append(true).open(dir.join(format!("{}.log", words[0])))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("RUST_LOG", "warn");
    Ok(Program(command.spawn().context("start a program")?))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The controller and what is needed to start it anew.
struct Site {
    dir: PathBuf,
    user: User,
    agents: SocketAddr,
    roots: Arc<RootCertStore>,
    program: Program,
}

impl Site {
    async fn new(dir: &Path, load: &Load) -> Result<Self> {
        let (users, agents) = (free_port()?, free_port()?);
        let url = match &load.postgres {
            Some(file) => format!("[store]\nurl = {:?}\n", std::fs::read_to_string(file)?.trim()),
            None => String::new(),
        };
        let text = format!(
            "data_dir = {:?}\n{url}[api]\nlisten = \"127.0.0.1:{users}\"\nrate = 100000\nburst = 100000\nat_once = 1000\n\
             [timing]\nheartbeat_ms = {}\n",
            dir.join("data"),
            load.heartbeat().as_millis(),
        );
        std::fs::write(dir.join("controller.toml"), text)?;
        std::fs::create_dir(dir.join("tokens"))?;
        let program = Self::program(dir, agents)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, users));
        ready(&User::new(at, String::new())).await?;
        let token = std::fs::read_to_string(dir.join("data/admin.token"))?.trim().to_owned();
        let roots = roots(&std::fs::read_to_string(dir.join("data/ca/ca.pem"))?)?;
        let agents = SocketAddr::from((Ipv4Addr::LOCALHOST, agents));
        Ok(Self { dir: dir.to_owned(), user: User::new(at, token), agents, roots, program })
    }

    fn program(dir: &Path, port: u16) -> Result<Program> {
        let path = |name: &str| dir.join(name).display().to_string();
        start(
            dir,
            &["serve", "--config", &path("controller.toml"), "--tokens", &path("tokens"), "--port", &port.to_string()],
        )
    }

    fn pid(&self) -> u32 {
        self.program.0.id()
    }
}

async fn ready(user: &User) -> Result<()> {
    let begun = Instant::now();
    while !user.raw(Method::GET, "/readyz", &Value::Null).await.is_ok_and(|(status, _)| status == StatusCode::OK) {
        ensure!(begun.elapsed() < PATIENCE, "the controller does not come up");
        // waits for: another process, which shows only in this answer
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Prints a row of the table.
#[allow(clippy::print_stdout)] // it talks to a person
fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

/// Says how far it is.
#[allow(clippy::print_stderr)]
fn step(text: &str) {
    eprintln!("{text}");
}

/// Plays.
pub async fn run(load: &Load) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("straas-swarm-").tempdir()?;
    let mut site = Site::new(dir.path(), load).await?;
    let empty = usage(site.pid());
    let tally = Arc::new(Tally::default());

    let begun = Instant::now();
    let topologies = load.agents.div_ceil(NODES);
    let created = iter(0..topologies).map(|number| {
        let user = site.user.clone();
        async move { user.create(number).await }
    });
    for made in created.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        made?;
    }
    step(&format!("{topologies} topologies asked for after {:.1} s", begun.elapsed().as_secs_f64()));
    let agents = enrol(&site, topologies * NODES, &tally).await?;
    let count = agents.len();
    step(&format!("{count} agents enrolled after {:.1} s", begun.elapsed().as_secs_f64()));
    let fleet: Vec<Arc<Seen>> = agents.iter().map(|agent| agent.seen.clone()).collect();
    let parts: Vec<_> = agents.iter().take(SENDERS).map(Agent::parts).collect();
    let living: Vec<_> = agents.into_iter().map(|agent| tokio::spawn(agent.live(load.heartbeat()))).collect();
    settled(&fleet).await?;
    let created_s = begun.elapsed().as_secs_f64();
    step(&format!("all settled after {created_s:.1} s"));
    let store = if load.postgres.is_some() { "PostgreSQL" } else { "SQLite" };
    row("figure", "value");
    row("---", "---");
    row("agents, store, processors", &format!("{count}, {store}, {}", std::thread::available_parallelism()?));
    row("from nothing to all settled", &format!("{created_s:.1} s"));

    idle(&site, load.heartbeat(), &tally, count).await?;
    busy(&site, load, &fleet, &tally).await?;
    let full = usage(site.pid());
    let each = (full.resident - empty.resident) / count as f64 / 1024.0;
    row("controller's memory", &format!("{:.0} MiB, {each:.1} KiB an agent", full.resident / f64::from(1 << 20)));
    restart(&mut site, &fleet).await?;
    living.iter().for_each(tokio::task::JoinHandle::abort);
    race(&site, &parts).await?;
    row("commands given twice", &tally.again.load(Ordering::Relaxed).to_string());
    ensure!(tally.again.load(Ordering::Relaxed) == 0, "a command was given twice");
    Ok(())
}

/// Enrols an agent for each host, as hosts are made.
async fn enrol(site: &Site, count: usize, tally: &Arc<Tally>) -> Result<Vec<Agent>> {
    let (mut agents, mut taken) = (Vec::new(), std::collections::BTreeSet::new());
    let begun = Instant::now();
    while agents.len() < count {
        ensure!(begun.elapsed() < PATIENCE, "only {} of {count} hosts were made", agents.len());
        let mut tokens = Vec::new();
        for entry in std::fs::read_dir(site.dir.join("tokens"))?.flatten() {
            let text = std::fs::read_to_string(entry.path())?;
            if text.ends_with(" end\n") && taken.insert(entry.file_name()) {
                tokens.push(text.split(' ').next().unwrap_or_default().to_owned());
            }
        }
        let enrolling = iter(tokens).map(|token| {
            let (tally, roots) = (tally.clone(), site.roots.clone());
            async move { Agent::enrol(site.agents, &roots, &token, tally).await }
        });
        for agent in enrolling.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
            agents.push(agent?);
        }
        // waits for: hosts, which another process makes
        sleep(Duration::from_millis(100)).await;
    }
    Ok(agents)
}

async fn settled(fleet: &[Arc<Seen>]) -> Result<()> {
    let begun = Instant::now();
    let open = || fleet.iter().filter(|seen| !seen.settled.load(Ordering::Relaxed)).count();
    while open() > 0 {
        ensure!(begun.elapsed() < PATIENCE, "{} agents are not settled", open());
        // waits for: agents, which are played beside
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Nothing but polls that are held and heartbeats.
async fn idle(site: &Site, heartbeat: Duration, tally: &Tally, count: usize) -> Result<()> {
    // waits for: nothing; so long is measured how it is at rest
    sleep(heartbeat).await;
    let (before, beats, begun) = (usage(site.pid()), tally.heartbeats.load(Ordering::Relaxed), Instant::now());
    // waits for: nothing, as above
    sleep(heartbeat * 2).await;
    let (after, took) = (usage(site.pid()), begun.elapsed().as_secs_f64());
    let beats = (tally.heartbeats.load(Ordering::Relaxed) - beats) as f64 / took;
    let cpu = (after.cpu_s - before.cpu_s) / took;
    row("at rest: heartbeats", &format!("{beats:.0}/s of {:.0}/s", count as f64 / heartbeat.as_secs_f64()));
    row("at rest: the controller's processor time", &format!("{:.1} % of one processor", cpu * 100.0));
    Ok(())
}

/// Changes, commands and cut connections.
async fn busy(site: &Site, load: &Load, fleet: &[Arc<Seen>], tally: &Tally) -> Result<()> {
    let mut every = interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answers = Arc::new(Answers::default());
    let users = tokio::spawn(use_it(site.user.clone(), answers.clone()));
    let (mut times, mut asked, mut refused) = (Vec::new(), 0_u64, 0_u64);
    let cuts = AtomicU64::new(0);
    let (before, failures) = (usage(site.pid()), tally.failures.load(Ordering::Relaxed));
    let (commands, writes) = (tally.commands.load(Ordering::Relaxed), written(site).await);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(load.seconds) {
        every.tick().await;
        let cut = (fleet.len() as f64 * load.cut_percent / 100.0).round() as usize;
        for _ in 0..cut {
            fleet[rand::random_range(0..fleet.len())].cut.notify_one();
            cuts.fetch_add(1, Ordering::Relaxed);
        }
        let changes = (0..load.changes).map(|_| change(site, &fleet[rand::random_range(0..fleet.len())]));
        let orders = (0..load.commands).map(|_| async {
            let seen = &fleet[rand::random_range(0..fleet.len())];
            let body = json!({ "command": "assist-cmd/list" });
            site.user.call(Method::POST, &format!("/nodes/{}/commands", seen.node), &body).await
        });
        let (changed, ordered) =
            tokio::join!(futures_util::future::join_all(changes), futures_util::future::join_all(orders));
        times.extend(changed.into_iter().filter_map(Result::ok).flatten());
        asked += ordered.iter().filter(|ordered| ordered.is_ok()).count() as u64;
        refused += ordered.iter().filter(|ordered| ordered.is_err()).count() as u64;
    }
    let took = begun.elapsed().as_secs_f64();
    settled(fleet).await?;
    let waited = Instant::now();
    while tally.commands.load(Ordering::Relaxed) - commands < asked && waited.elapsed() < Duration::from_secs(60) {
        // waits for: the last commands to reach their agents
        sleep(Duration::from_millis(100)).await;
    }
    answers.stop.store(true, Ordering::Relaxed);
    users.await?;
    let after = usage(site.pid());
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    row("seconds, connections cut", &format!("{took:.0} s, {}", count(&cuts)));
    row("change answered → agent has the assignment", &told(times));
    row(
        "commands asked, refused, ended",
        &format!("{asked}, {refused}, {}", tally.commands.load(Ordering::Relaxed) - commands),
    );
    row("requests of agents without an answer", &(count(&tally.failures) - failures).to_string());
    row(
        "users meanwhile: answered, 5xx, no answer",
        &format!("{}, {}, {}", count(&answers.good), count(&answers.server_errors), count(&answers.refused)),
    );
    row(
        "the controller's processor time",
        &format!("{:.0} % of one processor", (after.cpu_s - before.cpu_s) / took * 100.0),
    );
    if let (Ok(before), Ok(after)) = (writes, written(site).await) {
        row("writes to the database", &format!("{:.0}/s", (after - before) / took));
    }
    Ok(())
}

async fn written(site: &Site) -> Result<f64> {
    site.user.metric("straas_controller_store_writes_total").await
}

/// Restarts a node's service; how long after the answer its agent has the assignment. None if it was told before that.
async fn change(site: &Site, seen: &Seen) -> Result<Option<Duration>> {
    let told = || *seen.told.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, _) = told();
    site.user.call(Method::PUT, &format!("/nodes/{}/services", seen.node), &Value::Null).await?;
    let answered = Instant::now();
    while told().0 == before {
        ensure!(answered.elapsed() < Duration::from_secs(60), "{} was not told", seen.node);
        // waits for: an agent, which is played beside
        sleep(Duration::from_millis(1)).await;
    }
    Ok(Some(told().1.saturating_duration_since(answered)))
}

/// The controller is killed and started anew; until every agent has been answered by it.
async fn restart(site: &mut Site, fleet: &[Arc<Seen>]) -> Result<()> {
    let answers = Arc::new(Answers::default());
    let users = tokio::spawn(use_it(site.user.clone(), answers.clone()));
    site.program.0.kill()?;
    site.program.0.wait()?;
    fleet.iter().for_each(|seen| seen.polled.store(false, Ordering::Relaxed));
    let begun = Instant::now();
    site.program = Site::program(&site.dir, site.agents.port())?;
    ready(&site.user).await?;
    let up = begun.elapsed();
    let mut back = Vec::new();
    let mut open: Vec<&Arc<Seen>> = fleet.iter().collect();
    while !open.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "{} agents do not come back", open.len());
        // waits for: agents, which are played beside
        sleep(Duration::from_millis(50)).await;
        let before = open.len();
        open.retain(|seen| !seen.polled.load(Ordering::Relaxed));
        back.extend(std::iter::repeat_n(begun.elapsed() - up, before - open.len()));
    }
    answers.stop.store(true, Ordering::Relaxed);
    users.await?;
    let last = back.last().copied().unwrap_or_default();
    row("kill -9 of the controller: ready again", &format!("{:.1} s", up.as_secs_f64()));
    row("  agents back after that", &format!("{}; all after {:.1} s", told(back), last.as_secs_f64()));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    row(
        "  users meanwhile: answered, 5xx, nobody listened",
        &format!("{}, {}, {}", count(&answers.good), count(&answers.server_errors), count(&answers.refused)),
    );
    Ok(())
}

/// Heartbeats as fast as they go: the controller, then a bare server over the same TLS.
async fn race(site: &Site, parts: &[(Arc<rustls::ClientConfig>, String, u64)]) -> Result<()> {
    let controller = rate(site.agents, parts).await?;
    let keys = site.dir.join("keys");
    std::fs::create_dir(&keys)?;
    let issuer = Issuer::from_ca_cert_pem(
        &std::fs::read_to_string(site.dir.join("data/ca/ca.pem"))?,
        KeyPair::from_pem(&std::fs::read_to_string(site.dir.join("data/ca/ca.key"))?)?,
    )?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![straas_agent::client::SERVER_NAME.to_owned()])?;
    std::fs::write(keys.join("server.pem"), params.signed_by(&key, &issuer)?.pem())?;
    std::fs::write(keys.join("server.key"), key.serialize_pem())?;
    std::fs::copy(site.dir.join("data/ca/ca.pem"), keys.join("ca.pem"))?;
    let port = free_port()?;
    let _bare = start(&site.dir, &["bare", "--keys", &keys.display().to_string(), "--port", &port.to_string()])?;
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(at).await.is_err() {
        ensure!(begun.elapsed() < PATIENCE, "the bare server does not come up");
        // waits for: another process that begins to listen
        sleep(Duration::from_millis(20)).await;
    }
    let bare = rate(at, parts).await?;
    row(
        "heartbeats as fast as they go: controller, bare server",
        &format!("{controller:.0}/s, {bare:.0}/s: {:.0} %", controller / bare * 100.0),
    );
    Ok(())
}

async fn rate(to: SocketAddr, parts: &[(Arc<rustls::ClientConfig>, String, u64)]) -> Result<f64> {
    let begun = Instant::now();
    let sending = parts.iter().map(|(tls, path, incarnation)| {
        let (mut link, path, incarnation) = (Link::new(to, tls.clone()), path.clone(), *incarnation);
        tokio::spawn(async move {
            let mut taken = 0_u64;
            while begun.elapsed() < RACE {
                // above every number that the agent itself has sent
                let body = serde_json::to_vec(&heartbeat(incarnation, 1_000_000 + taken, 1, true))?;
                let (status, _) = link.post(&path, body).await?;
                ensure!(status == StatusCode::NO_CONTENT, "a heartbeat: {status}");
                taken += 1;
            }
            Ok::<_, anyhow::Error>(taken)
        })
    });
    let mut all = 0;
    for sender in sending.collect::<Vec<_>>() {
        all += sender.await??;
    }
    Ok(all as f64 / begun.elapsed().as_secs_f64())
}
