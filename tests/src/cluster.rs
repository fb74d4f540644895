//! A StraaS of one test: a data directory, a configuration, a controller, hosts.
//!
//! Its name and directory are its own; agents, packages and addresses are in a network namespace
//! of that name, so only the port of the API has to be free on the machine. Image and packages
//! come from the cache that all instances share.

use crate::api::Api;
use crate::artifacts::Artifacts;
use crate::controller::{Controller, open_hosts};
use crate::disk::{self, Disk};
use crate::left::{hosts, left};
use crate::several::net::remove_servers;
use crate::{pictures, say, wait};
use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use straas_controller::config::Config;
use straas_drivers::local::{LocalHosts, beside};
use straas_repos::{ConfigRepo, ScriptRepo};
use straas_schemas::job::{Job, JobStanding};
use straas_schemas::view::{Accepted, Event, TopologyView};
use tempfile::TempDir;

/// Where the directories of all tests are: a disk that can carry an overlay, unlike many a `/tmp`.
const BASE: &str = "/var/tmp/straas-e2e";
/// Short enough for a test to see what silence does, long enough for a loaded machine to be heard.
const TIMING: &str = "heartbeat_ms = 1000\nsuspect_after_ms = 5000\nunreachable_after_ms = 15000\nretry_ms = 1000";
/// Serving, with image and packages; several minutes where they have to be made first.
const READY_MAX: Duration = Duration::from_secs(1200);
/// From a request to all nodes working: 20 s on an idle machine.
pub const ACTIVE_MAX: Duration = Duration::from_secs(300);
/// A change that one node makes: seconds.
pub const STEP_MAX: Duration = Duration::from_secs(120);

/// A StraaS of one test.
pub struct Cluster {
    /// The user's view.
    pub api: Api,
    /// Lines for the configuration file; set before the start.
    pub settings: String,
    /// Its section `[timing]`.
    pub timing: String,
    instance: String,
    port: u16,
    pub(crate) artifacts: Artifacts,
    controller: Option<Controller>,
    dir: Option<TempDir>,
    data: PathBuf,
    pub(crate) disk: Option<Disk>,
}

/// What a command inside a host did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Exit code; -1 if there is none.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Cluster {
    /// An empty one.
    ///
    /// # Errors
    /// The disk.
    pub fn new(artifacts: &Artifacts) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        std::fs::create_dir_all(BASE)?;
        remove_orphans(artifacts)?;
        let instance = format!("e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&format!("{instance}-")).tempdir_in(BASE)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = dir.path().to_owned();
        let api = Api::new(port, data.join("admin.token"));
        let (artifacts, settings, timing) = (artifacts.clone(), String::new(), TIMING.to_owned());
        Ok(Self {
            api,
            settings,
            timing,
            instance,
            port,
            artifacts,
            controller: None,
            dir: Some(dir),
            data,
            disk: None,
        })
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The network namespace that its hosts are plugged into.
    #[must_use]
    pub fn netns(&self) -> String {
        format!("straas-{}", self.instance)
    }

    /// Uses other programs than those of this build; before the start.
    pub fn use_artifacts(&mut self, artifacts: Artifacts) {
        self.artifacts = artifacts;
    }

    /// The programs that it starts.
    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    fn config(&self) -> PathBuf {
        self.data.join("controller.toml")
    }

    fn log(&self) -> PathBuf {
        self.data.join("controller.log")
    }

    /// The script repo, as an operator has it who commits to it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn scripts(&self) -> Result<ScriptRepo> {
        Ok(ScriptRepo::open(&self.data.join("scripts.git"))?)
    }

    /// The config repo, likewise.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn configs(&self) -> Result<ConfigRepo> {
        Ok(ConfigRepo::open(&self.data.join("config.git"))?)
    }

    pub(crate) fn write_config(&self) -> Result<()> {
        let text = format!(
            "data_dir = {data:?}\n[api]\nlisten = \"127.0.0.1:{port}\"\n\
             [timing]\n{timing}\n\
             [local]\ninstance = {instance:?}\nisolation = \"microhost\"\nfault_domains = 4\nagent_deb = {deb:?}\nagent_binary = {agent:?}\n\
             components = {components:?}\n{more}",
            components = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/components"),
            data = self.data,
            port = self.port,
            timing = self.timing,
            instance = self.instance,
            deb = self.artifacts.agent_deb,
            agent = self.artifacts.agent,
            more = self.settings,
        );
        std::fs::write(self.config(), text).context("write the configuration")
    }

    /// Starts the controller's program and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or did not become ready.
    pub async fn start(&mut self) -> Result<()> {
        self.write_config()?;
        self.controller = Some(Controller::program(&self.artifacts, &self.config(), &self.log())?);
        self.ready().await
    }

    /// Starts the controller inside the test, with hosts that the test can do things to.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_inside(&mut self) -> Result<LocalHosts> {
        self.write_config()?;
        let controller = Controller::inside(&self.artifacts, &self.config(), &self.log()).await?;
        let Controller::Inside { hosts, .. } = &controller else { bail!("not inside") };
        let hosts = hosts.clone();
        self.controller = Some(controller);
        self.ready().await?;
        Ok(hosts)
    }

    async fn ready(&mut self) -> Result<()> {
        let (api, controller) = (&self.api, &mut self.controller);
        let ready = wait("the controller to be ready", READY_MAX, async || {
            let ended = controller.as_mut().and_then(Controller::ended);
            if api.is_ready().await { Some(Ok(())) } else { ended.map(Err) }
        });
        ready.await?.map_err(|how| anyhow::anyhow!("the controller ended: {how}"))
    }

    /// `kill -9` of the controller.
    ///
    /// # Errors
    /// None runs, or it is inside the test.
    pub fn kill(&mut self) -> Result<()> {
        self.controller.take().context("no controller runs")?.kill()
    }

    /// Stops the controller in order.
    ///
    /// # Errors
    /// None runs, or it did not end well.
    pub async fn stop(&mut self) -> Result<()> {
        self.controller.take().context("no controller runs")?.stop().await
    }

    /// The hosts, while no controller has them.
    ///
    /// # Errors
    /// One has.
    pub async fn hosts(&self) -> Result<LocalHosts> {
        ensure!(self.controller.is_none(), "the controller has the hosts");
        open_hosts(&self.artifacts, &Config::load(&self.config())?).await
    }

    /// Asks for a topology of one ZooKeeper component `zk`.
    ///
    /// # Errors
    /// It was refused.
    pub async fn create(&self, name: &str, version: &str, size: u32) -> Result<Accepted> {
        let zk = json!({ "name": "zk", "type": "zookeeper", "version": version, "size": size });
        let body = json!({ "name": name, "availability_zone": "az1", "components": [zk] });
        self.api.call(Method::POST, "/topologies", Some(&body)).await
    }

    /// Asks for the end of a topology.
    ///
    /// # Errors
    /// It was refused.
    pub async fn delete(&self, topology: &str) -> Result<Accepted> {
        self.api.call(Method::DELETE, &format!("/topologies/{topology}"), None).await
    }

    /// Follows a job's stream, over restarts of the controller, until `seen` sees what it wants.
    ///
    /// # Errors
    /// It was not seen within `limit`.
    pub async fn follow<T>(&self, job: &str, limit: Duration, mut seen: impl FnMut(&Job) -> Option<T>) -> Result<T> {
        let follow = async {
            loop {
                if let Ok(mut stream) = self.api.stream(&format!("/jobs/{job}/events")).await {
                    while let Some((kind, data)) = stream.next().await {
                        if kind == "job"
                            && let Some(found) = seen(&serde_json::from_str(&data)?)
                        {
                            return Ok(found);
                        }
                    }
                }
                // the controller is away: any answer to a look is a sign that it is back
                wait("an answer of the controller", limit, async || self.api.job(job).await.ok()).await?;
            }
        };
        let found = tokio::time::timeout(limit, follow).await;
        found.with_context(|| format!("job {job} did not come to what was waited for within {} s", limit.as_secs()))?
    }

    /// Follows a job until it has succeeded and its topology is active.
    ///
    /// # Errors
    /// It ended otherwise, or not in time.
    pub async fn active(&self, accepted: &Accepted) -> Result<TopologyView> {
        let job = self
            .follow(accepted.job.id.as_str(), ACTIVE_MAX, |job| job.standing.is_final().then(|| job.clone()))
            .await?;
        ensure!(job.standing == JobStanding::Succeeded, "the job ended as {:?}", job.standing);
        self.settled(job.topology.as_str()).await
    }

    /// What happened to a topology so far.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn events(&self, topology: &str) -> Result<Vec<Event>> {
        let mut stream = self.api.stream(&format!("/topologies/{topology}/events")).await?;
        let mut events: Vec<Event> = Vec::new();
        // the history comes at once; what is new would come later
        while let Ok(Some((_, data))) = tokio::time::timeout(Duration::from_secs(2), stream.next()).await {
            events.push(serde_json::from_str(&data)?);
        }
        Ok(events)
    }

    /// Runs a command inside the host of a node, whoever has the hosts.
    ///
    /// # Errors
    /// The host does not run, or the command cannot be started.
    pub async fn exec(&self, node: &str, argv: &[&str]) -> Result<Ran> {
        let command = beside::command(&self.data.join("hosts"), node, argv)?;
        let mut command = tokio::process::Command::from(command);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("run {argv:?} in {node}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Output of a shell command inside a host, which has to succeed.
    ///
    /// # Errors
    /// As [`Cluster::exec`], or it failed.
    pub async fn sh(&self, node: &str, script: &str) -> Result<String> {
        let ran = self.exec(node, &["sh", "-c", script]).await?;
        ensure!(ran.code == 0, "{script:?} in {node} ended with {}: {}{}", ran.code, ran.stdout, ran.stderr);
        Ok(ran.stdout)
    }

    /// `kill -9` of the agent of a node; returns when another one runs.
    ///
    /// # Errors
    /// There is none, or none came.
    pub async fn kill_agent(&self, node: &str) -> Result<()> {
        let before = self.agent_pid(node).await.with_context(|| format!("no agent runs in {node}"))?;
        self.sh(node, &format!("kill -9 {before}")).await?;
        let what = format!("a new agent in {node}");
        wait(&what, STEP_MAX, async || self.agent_pid(node).await.filter(|pid| *pid != before)).await.map(drop)
    }

    /// The agent's process id inside its host.
    pub async fn agent_pid(&self, node: &str) -> Option<u32> {
        let ran = self.exec(node, &["pidof", "straas-agent"]).await.ok()?;
        ran.stdout.trim().parse().ok()
    }

    /// Everything that helps to understand a failure.
    pub async fn pictures(&self) -> String {
        pictures::take(&self.api, &self.data, &self.log()).await
    }

    /// Removes everything, and says what could not be.
    ///
    /// # Errors
    /// Something is left; then its data directory is as well.
    pub async fn end(mut self) -> Result<()> {
        let stopped = match self.controller.take() {
            Some(controller) => controller.stop().await,
            None => Ok(()),
        };
        let torn = teardown(&self.artifacts, &self.config());
        // seen before their directory goes with its disk
        let hosts = hosts(&self.data).into_iter().map(|host| format!("host directory {host}"));
        let hosts: Vec<String> = hosts.filter(|_| self.disk.is_some()).collect();
        drop(self.disk.take());
        let left = [hosts, left(&self.instance, &self.data)].concat();
        ensure!(left.is_empty(), "left behind: {}; teardown: {torn:?}", left.join(", "));
        stopped.and(torn)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Controller::Program(mut child)) = self.controller.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // a directory with hosts in it must stay, for the next run to find and remove them
        if let Some(dir) = self.dir.take().filter(|_| !left(&self.instance, &self.data).is_empty()) {
            let _ = dir.keep();
        }
    }
}

fn teardown(artifacts: &Artifacts, config: &Path) -> Result<()> {
    if !config.exists() {
        return Ok(());
    }
    let output = Command::new(&artifacts.controller).arg("teardown").arg("--config").arg(config).output()?;
    ensure!(output.status.success(), "teardown: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Removes what a test run that was killed has left.
fn remove_orphans(artifacts: &Artifacts) -> Result<()> {
    for entry in std::fs::read_dir(BASE)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // a disk beside a directory goes with it
        if let Some(beside) = name.strip_suffix(".disk").or_else(|| name.strip_suffix(".hosts")) {
            if !Path::new(BASE).join(beside).exists() {
                let _ = std::fs::remove_file(entry.path());
                let _ = std::fs::remove_dir_all(entry.path());
            }
            continue;
        }
        let owner = name.strip_prefix("e2e-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let alive = owner.is_some_and(|pid| pid == std::process::id() || Path::new(&format!("/proc/{pid}")).exists());
        if owner.is_none() || alive {
            continue;
        }
        remove_servers(&format!("straas-{}", name.split('-').take(3).collect::<Vec<_>>().join("-")));
        // one whose controller outlived its test has its hosts still: that is not this test's fault
        match teardown(artifacts, &entry.path().join("controller.toml")) {
            Ok(()) => {
                disk::remove_left(&entry.path());
                std::fs::remove_dir_all(entry.path())?;
            }
            Err(error) => say(&format!("  {name} of a test that was killed is still there: {error:#}")),
        }
    }
    Ok(())
}
