//! Conducts the scripts of the test's own component (`tests/components/moody`): each asks at a point
//! what to do, and is told to go on, or to fail with given words.
//!
//! ```text
//!   script ── connects: "node point pid" ──► conductor ── "go" | "fail WORDS" ──► script goes on
//!          ────────────── the connection ends with the script ──────────────► end is noted
//! ```
//! So a stage fails also on a node that has no host yet, and what ran when is known by one clock,
//! whatever was killed meanwhile. It listens on the gateway of the hosts' network, in the namespace
//! of that network; scripts that find nobody there go on.

use crate::cluster::Cluster;
use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where scripts ask: the gateway of every test's network.
const ADDRESS: &str = "10.77.0.1:7979";

/// A run of a script that asked.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its node.
    pub node: String,
    /// Its point.
    pub point: String,
    /// When it asked.
    pub begun: Instant,
    /// When it ended, however it did.
    pub ended: Option<Instant>,
    /// Whether it was told to fail.
    pub failed: bool,
}

#[derive(Default)]
struct Talk {
    faults: BTreeMap<(String, String), String>,
    runs: Vec<Run>,
}

/// Tells scripts what to do.
pub struct Conductor {
    state: Arc<Mutex<Talk>>,
    task: JoinHandle<()>,
}

impl Drop for Conductor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Conductor {
    /// Lays the component, and others of the tests' own, over the repositories and lets apt ask as
    /// well; before the first start.
    ///
    /// # Errors
    /// The disk.
    pub fn prepare(cluster: &mut Cluster, others: &[&str]) -> Result<()> {
        let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("components");
        let overlays: Vec<PathBuf> = ["moody"].iter().chain(others).map(|name| components.join(name)).collect();
        // apt's hooks run in the environment of the stage; its configuration knows no quotes within quotes
        let hook = "DPkg::Pre-Invoke {\"test -z $STRAAS_SCRIPTS || bash $STRAAS_SCRIPTS/cmd/lib/moody-apt.sh\";};\n";
        let source = cluster.data().join("99moody");
        std::fs::write(&source, hook)?;
        cluster.settings.push_str(&format!(
            "[seed]\noverlays = {overlays:?}\n[[files]]\npath = \"/etc/apt/apt.conf.d/99moody\"\nsource = {source:?}\n"
        ));
        Ok(())
    }

    /// Begins to conduct; the controller must have made the network.
    ///
    /// # Errors
    /// There is no network, or the port is taken.
    pub fn listen(cluster: &Cluster) -> Result<Self> {
        let namespace = Path::new("/run/netns").join(cluster.netns());
        let namespace = std::fs::File::open(&namespace).with_context(|| format!("open {}", namespace.display()))?;
        // a socket stays in the namespace in which it was made; a thread of its own may go there
        let listener = std::thread::spawn(move || -> Result<StdListener> {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("enter the hosts' network")?;
            let listener = StdListener::bind(ADDRESS).with_context(|| format!("listen on {ADDRESS}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.join().map_err(|_| anyhow::anyhow!("the listening thread panicked"))??;
        let (listener, state) = (TcpListener::from_std(listener)?, Arc::new(Mutex::default()));
        let task = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { state, task })
    }

    /// From now on a point of a node fails with these words.
    pub fn fail(&self, node: &str, point: &str, words: &str) {
        lock(&self.state).faults.insert((node.to_owned(), point.to_owned()), words.to_owned());
    }

    /// It no longer does.
    pub fn heal(&self, node: &str, point: &str) {
        lock(&self.state).faults.remove(&(node.to_owned(), point.to_owned()));
    }

    /// The host of a node lost its power: what ran there has ended, though no word of it came, and
    /// the node is down.
    pub fn gone(&self, node: &str) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let open = state.runs.iter_mut().filter(|run| run.node == node && run.ended.is_none());
        open.for_each(|run| run.ended = Some(now));
        let (node, point) = (node.to_owned(), "down".to_owned());
        state.runs.push(Run { node, point, begun: now, ended: Some(now), failed: false });
    }

    /// Every run so far.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        lock(&self.state).runs.clone()
    }

    /// How often a point of a node was told to fail.
    #[must_use]
    pub fn failures(&self, node: &str, point: &str) -> usize {
        let state = lock(&self.state);
        state.runs.iter().filter(|run| run.failed && run.node == node && run.point == point).count()
    }
}

fn lock(state: &Mutex<Talk>) -> MutexGuard<'_, Talk> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, state: Arc<Mutex<Talk>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // a script that ends in the middle is no fault of the conductor
        tokio::spawn(one(stream, Arc::clone(&state)));
    }
}

async fn one(stream: TcpStream, state: Arc<Mutex<Talk>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut asked = String::new();
    stream.read_line(&mut asked).await?;
    let mut words = asked.split_whitespace();
    let (node, point) = (words.next().context("no node")?.to_owned(), words.next().context("no point")?.to_owned());
    let (number, fault) = {
        let mut state = lock(&state);
        let fault = state.faults.get(&(node.clone(), point.clone())).cloned();
        state.runs.push(Run { node, point, begun: Instant::now(), ended: None, failed: fault.is_some() });
        (state.runs.len() - 1, fault)
    };
    let answer = fault.map_or_else(|| "go\n".to_owned(), |words| format!("fail {words}\n"));
    let told = stream.get_mut().write_all(answer.as_bytes()).await;
    // it says nothing more; the connection ends with it
    let _ = stream.read(&mut [0; 1]).await;
    lock(&state).runs[number].ended.get_or_insert_with(Instant::now);
    Ok(told?)
}
