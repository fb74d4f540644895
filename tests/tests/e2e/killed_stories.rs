//! What goes on while things are killed: changes one after the other, each asked for when the one
//! before has ended, and what must be true of them in the end.

use crate::killed::ended_well;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_schemas::view::{Accepted, ComponentView};
use straas_tests::cluster::ACTIVE_MAX;
use straas_tests::conductor::{Conductor, Run};
use straas_tests::settings::user_file;
use straas_tests::workflow::component;
use straas_tests::{Cluster, say};

/// A change of a story.
#[derive(Clone, Copy, Debug)]
enum Change {
    Configure,
    Restart,
    Flexup,
    Replace,
    Upgrade,
    Flexdown,
}

const LIGHT: [Change; 6] =
    [Change::Configure, Change::Flexup, Change::Replace, Change::Restart, Change::Upgrade, Change::Flexdown];
const ENSEMBLE: [Change; 2] = [Change::Configure, Change::Restart];
/// The node that gets other hosts.
const REPLACED: &str = "k-a-2";

/// One component's changes.
pub struct Story {
    component: &'static str,
    topology: String,
    job: Option<Accepted>,
    asked: usize,
    /// Version, configuration and size that were asked for last.
    wanted: (Option<String>, Option<String>, usize),
    /// Nodes that got other hosts, and when that was asked for.
    pub replaced: Vec<(String, Instant)>,
}

impl Story {
    pub fn of(component: &'static str, topology: &str) -> Self {
        let topology = topology.to_owned();
        Self { component, topology, job: None, asked: 0, wanted: (None, None, 3), replaced: Vec::new() }
    }

    async fn view(&self, cluster: &Cluster) -> Result<ComponentView> {
        Ok(component(&cluster.api.topology(&self.topology).await?, self.component)?.clone())
    }

    /// Asks for the next change if the last has ended.
    pub async fn go_on(&mut self, cluster: &Cluster, conductor: &Conductor) -> Result<()> {
        if let Some(accepted) = &self.job {
            let job = cluster.api.job(accepted.job.id.as_str()).await?;
            if !job.standing.is_final() {
                return Ok(());
            }
            ended_well(&job)?;
        }
        let changes: &[Change] = if self.component == "a" { &LIGHT } else { &ENSEMBLE };
        let change = changes[self.asked % changes.len()];
        self.asked += 1;
        self.job = Some(self.ask(cluster, change, conductor).await?);
        Ok(())
    }

    async fn ask(&mut self, cluster: &Cluster, change: Change, conductor: &Conductor) -> Result<Accepted> {
        let now = self.view(cluster).await?;
        let path = format!("/components/{}", now.id);
        let (method, path, body): (Method, String, Option<Value>) = match change {
            Change::Configure => {
                let file = user_file(&now.kind, &now.version);
                let (section, key, value) = match self.component {
                    "a" => ("server", "greeting", format!("hello-{}", self.asked)),
                    _ => ("zoo_cfg", "snapCount", (50_000 + self.asked).to_string()),
                };
                let commit = cluster.set("k@az1", &file, section, key, &value)?;
                self.wanted.1 = Some(commit.clone());
                (Method::PUT, format!("{path}/tree/{commit}"), None)
            }
            Change::Restart => (Method::PUT, format!("{path}/services"), None),
            Change::Flexup => {
                self.wanted.2 += 1;
                (Method::POST, path, Some(json!({ "count": 1 })))
            }
            Change::Flexdown => {
                self.wanted.2 -= 1;
                (Method::PATCH, path, Some(json!({ "size": self.wanted.2 })))
            }
            Change::Upgrade => {
                let version = if now.version == "1.0" { "2.0" } else { "1.0" };
                // an upgrade brings the version's own folder of the configuration
                self.wanted = (Some(version.to_owned()), None, self.wanted.2);
                (Method::PATCH, path, Some(json!({ "version": version })))
            }
            Change::Replace => {
                self.replaced.push((REPLACED.to_owned(), Instant::now()));
                conductor.gone(REPLACED);
                (Method::PUT, format!("/nodes/{}", cluster.api.node(REPLACED).await?.id), None)
            }
        };
        let accepted = cluster.api.call(method, &path, body.as_ref()).await;
        accepted.with_context(|| format!("{change:?} of {}", self.component))
    }

    /// Waits until the last change has ended.
    pub async fn end(&mut self, cluster: &Cluster) -> Result<()> {
        if let Some(accepted) = &self.job {
            let job = cluster.ended(accepted).await?;
            ended_well(&job)?;
        }
        say(&format!("  {}: {} changes within {} s each", self.component, self.asked, ACTIVE_MAX.as_secs()));
        Ok(())
    }

    /// The component is what was asked for last.
    pub async fn holds(&self, cluster: &Cluster) -> Result<()> {
        let now = self.view(cluster).await?;
        let (version, config, size) = &self.wanted;
        ensure!(version.as_ref().is_none_or(|v| *v == now.version), "{} has version {}", now.name, now.version);
        ensure!(config.as_ref().is_none_or(|c| *c == now.config), "{} has configuration {}", now.name, now.config);
        ensure!(now.nodes.len() == *size, "{} has {} nodes, not {size}", now.name, now.nodes.len());
        Ok(())
    }
}

/// Pairs of nodes of one component that were configured at the same time although both served: one
/// at a time may be. A node serves from a `validate` that ended well on, until one ends otherwise or its
/// host goes; who is down may be configured whoever else is.
pub fn disturbed_out_of_turn(runs: &[Run], since: Instant, replaced: &[(String, Instant)]) -> Vec<String> {
    let serves = |run: &Run| {
        let told = |r: &&Run| r.node == run.node && ["up", "down"].contains(&r.point.as_str()) && r.begun < run.begun;
        runs.iter().filter(told).max_by_key(|r| r.begun).is_some_and(|r| r.point == "up")
    };
    let new_host = |run: &Run| {
        let last = replaced.iter().filter(|(node, at)| *node == run.node && *at <= run.begun).map(|(_, at)| *at).max();
        let validated = |at: Instant| {
            runs.iter().any(|r| r.node == run.node && r.point == "validate" && r.begun > at && r.begun < run.begun)
        };
        last.is_some_and(|at| !validated(at))
    };
    let disturbs = |run: &&Run| run.point == "config" && run.begun > since && serves(run) && !new_host(run);
    let disturbing: Vec<&Run> = runs.iter().filter(disturbs).collect();
    let mut wrong = Vec::new();
    for (i, one) in disturbing.iter().enumerate() {
        for other in &disturbing[i + 1..] {
            let apart =
                one.ended.is_none_or(|end| end <= other.begun) || other.ended.is_some_and(|end| end <= one.begun);
            let neighbours = component_of(&one.node) == component_of(&other.node) && one.node != other.node;
            if neighbours && !apart {
                wrong.push(format!("{} and {}", told(one, since), told(other, since)));
            }
        }
    }
    say(&format!("  {} runs that disturbed a serving node, {} at once", disturbing.len(), wrong.len()));
    wrong
}

/// The part of a node's name before its number.
fn component_of(node: &str) -> &str {
    node.rsplit_once('-').map_or(node, |(component, _)| component)
}

/// A run, in seconds from a moment on.
pub fn told(run: &Run, since: Instant) -> String {
    let seconds = |at: Instant| at.saturating_duration_since(since).as_secs_f32();
    let end = run.ended.map_or_else(|| "…".to_owned(), |end| format!("{:.1}", seconds(end)));
    format!("{} ({:.1} to {end} s)", run.node, seconds(run.begun))
}
