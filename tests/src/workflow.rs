//! Changes of a running component: asked for, followed to their end, and what they took.
//!
//! What a change takes is set beside the critical path of its scripts: installing and rendering go
//! on side by side on all nodes, configuring and validating one node after the other. What of it
//! nothing at all was under way in is time that StraaS itself let pass (`covered.rs`).

use crate::cluster::{ACTIVE_MAX, Cluster, STEP_MAX};
use crate::covered::{Covered, covered};
use crate::{say, wait};
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use straas_schemas::Stage;
use straas_schemas::job::{Job, JobStanding};
use straas_schemas::view::{Accepted, ComponentView, DryRun, NodeView, Standing, TopologyView};

/// A workflow that ended.
#[derive(Clone, Debug)]
pub struct Took {
    /// Its name.
    pub name: String,
    /// Request to end, in seconds.
    pub total_s: f64,
    /// Critical path of its scripts, in seconds.
    pub scripts_s: f64,
    /// Stages that ran, by node.
    pub ran: BTreeMap<String, Vec<Stage>>,
}

/// What the 2017 design says of a workflow, in seconds (its table 5.3).
const SEED: [(&str, f64); 3] = [("replace", 300.0), ("configure", 120.0), ("rollback", 120.0)];

impl Cluster {
    /// Asks for a change, follows it until it has succeeded, and says what it took.
    ///
    /// # Errors
    /// It was refused, ended otherwise, or not in time.
    pub async fn change(&self, name: &str, method: Method, path: &str, body: Option<&Value>) -> Result<Took> {
        let accepted: Accepted = self.api.call(method, path, body).await?;
        let job = self.ended(&accepted).await?;
        ensure!(job.standing == JobStanding::Succeeded, "{name} ended as {:?}: {}", job.standing, job.detail);
        self.took(name, &job).await
    }

    /// Follows a job to its end, whatever that is.
    ///
    /// # Errors
    /// It has none in time.
    pub async fn ended(&self, accepted: &Accepted) -> Result<Job> {
        let final_job = |job: &Job| job.standing.is_final().then(|| job.clone());
        self.follow(accepted.job.id.as_str(), ACTIVE_MAX * 2, final_job).await
    }

    /// The topology once every component is active.
    ///
    /// # Errors
    /// Not in time.
    pub async fn settled(&self, topology: &str) -> Result<TopologyView> {
        wait("the topology to be ACTIVE", STEP_MAX, async || {
            self.api.topology(topology).await.ok().filter(|topology| topology.status == Standing::Active)
        })
        .await
    }

    /// What a change would do.
    ///
    /// # Errors
    /// It was refused.
    pub async fn dry_run(&self, method: Method, path: &str, body: Option<&Value>) -> Result<DryRun> {
        let sign = if path.contains('?') { '&' } else { '?' };
        self.api.call(method, &format!("{path}{sign}dry_run=true"), body).await
    }

    async fn took(&self, name: &str, job: &Job) -> Result<Took> {
        let topology = self.api.topology(job.topology.as_str()).await?;
        let (mut side_by_side, mut in_turn) = (0, 0);
        let mut ran: BTreeMap<String, Vec<Stage>> = BTreeMap::new();
        for node in nodes(&topology) {
            let mut own = 0;
            for (stage, view) in node.stages.iter().filter(|(_, view)| view.received_ms > job.created_ms) {
                ran.entry(node.name.clone()).or_default().push(*stage);
                match stage {
                    Stage::Install | Stage::PreConfig => own += view.duration_ms,
                    Stage::Config | Stage::Validate => in_turn += view.duration_ms,
                }
            }
            side_by_side = side_by_side.max(own);
        }
        let total_ms = job.finished_ms.context("the job has no end")? - job.created_ms;
        let scripts_s = (side_by_side + in_turn) as f64 / 1000.0;
        let took = Took { name: name.to_owned(), total_s: total_ms as f64 / 1000.0, scripts_s, ran };
        let seed = SEED.iter().find(|(seed, _)| name.ends_with(seed));
        let seed = seed.map(|(_, seconds)| format!(" (2017: {seconds:.0} s)")).unwrap_or_default();
        let ratio = took.total_s / scripts_s.max(0.001);
        let finished_ms = job.created_ms + total_ms;
        let Covered { scripts_s: ran_s, settling_s, all_s } =
            covered(&self.events(job.topology.as_str()).await?, job.created_ms, finished_ms);
        let idle_s = took.total_s - all_s;
        let own = took.total_s / all_s.max(0.001);
        say(&format!("  {name}: {:.1} s{seed}; scripts in turn {scripts_s:.1} s, ratio {ratio:.2}", took.total_s));
        say(&format!(
            "    scripts {ran_s:.1} s, services starting {:.1} s more, commands and hosts {:.1} s more, nothing {idle_s:.1} s: ratio {own:.2}",
            settling_s - ran_s,
            all_s - settling_s
        ));
        Ok(took)
    }
}

/// Nodes of a topology.
#[must_use]
pub fn nodes(topology: &TopologyView) -> Vec<&NodeView> {
    topology.components.iter().flat_map(|component| &component.nodes).collect()
}

/// A component by its name.
///
/// # Errors
/// There is none.
pub fn component<'t>(topology: &'t TopologyView, name: &str) -> Result<&'t ComponentView> {
    topology.components.iter().find(|c| c.name == name).with_context(|| format!("no component {name}"))
}

/// `address:port` of every node of a component.
///
/// # Errors
/// One has no address.
pub fn servers(topology: &TopologyView, name: &str, port: u16) -> Result<Vec<String>> {
    let address = |node: &NodeView| node.address.clone().with_context(|| format!("{} has no address", node.name));
    component(topology, name)?.nodes.iter().map(|node| Ok(format!("{}:{port}", address(node)?))).collect()
}
