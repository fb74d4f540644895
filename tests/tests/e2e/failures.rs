//! Failure in every stage of every workflow: said where it is, and overcome.
//!
//! The scripts of a light component fail when they are told to; the machine refuses to make and
//! remove hosts when it is told to. Each workflow walks through its stages: each fails, the job says
//! node, stage, last words and next try, it is healed, and the next one fails. What changes a
//! component that works is played to its other end, too (`failures_waves.rs`): the first node fails
//! for good, and the change is turned back.

use crate::failures_table::{CELLS, NEVER, STAGES, WORKFLOWS};
use crate::failures_waves::waves;
use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use std::time::Instant;
use straas_schemas::job::{Job, JobStage, JobStanding, NodeStep, Progress};
use straas_schemas::view::Accepted;
use straas_tests::cells::{Cell, Expect, Rows, told};
use straas_tests::cluster::STEP_MAX;
use straas_tests::conductor::Conductor;
use straas_tests::workflow::component;
use straas_tests::{Cluster, faults, say, scene};

/// The stages of an agent, in the order of the work.
pub const OWN: [(&str, JobStage); 4] = [
    ("install", JobStage::Install),
    ("pre_config", JobStage::PreConfig),
    ("config", JobStage::Config),
    ("validate", JobStage::Validate),
];

/// Nodes on which an operation may run.
const MEMBERS: [&str; 2] = ["f-a-1", "f-a-2"];

/// A cluster whose scripts do as they are told, and what was seen of it.
pub struct Play<'c> {
    pub cluster: &'c Cluster,
    pub conductor: Conductor,
    pub rows: Rows,
    /// The topology.
    pub id: String,
}

/// What a point of a node says when it fails.
pub fn words(node: &str, point: &str) -> String {
    format!("{node} will not have {point}")
}

impl Play<'_> {
    pub fn fail(&self, node: &str, points: &[(&str, JobStage)]) {
        points.iter().for_each(|(point, _)| self.conductor.fail(node, point, &words(node, point)));
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Accepted> {
        self.cluster.api.call(method, path, body).await
    }

    pub async fn component(&self, name: &str) -> Result<straas_schemas::view::ComponentView> {
        Ok(component(&self.cluster.api.topology(&self.id).await?, name)?.clone())
    }

    pub async fn node(&self, name: &str) -> Result<String> {
        Ok(self.cluster.api.node(name).await?.id.0)
    }

    /// Waits until the job shows this of a node in a stage.
    pub async fn sees(&self, job: &str, node: &str, stage: JobStage, progress: Progress) -> Result<NodeStep> {
        self.sees_that(job, node, stage, progress, |_| true).await
    }

    /// As [`Self::sees`], with more that has to hold of it.
    async fn sees_that(
        &self,
        job: &str,
        node: &str,
        stage: JobStage,
        progress: Progress,
        holds: impl Fn(&NodeStep) -> bool,
    ) -> Result<NodeStep> {
        let find = |job: &Job| {
            let steps = job.steps.iter().filter(|step| step.stage == stage);
            let found = steps.flat_map(|step| &step.nodes).find(|n| n.name == node && n.progress == progress)?;
            let shown = progress != Progress::Retrying || job.standing != JobStanding::Running;
            (shown && holds(found)).then(|| found.clone())
        };
        let seen = self.cluster.follow(job, STEP_MAX, find).await;
        seen.with_context(|| format!("{} of {node} to be {progress:?}", stage.name()))
    }

    /// Waits until the job blames a node for a point, with all it has to say.
    pub async fn shown(&self, job: &str, node: &str, point: &str, stage: JobStage) -> Result<NodeStep> {
        // what failed before it at this stage is shown until its own result is told
        let blamed = |step: &NodeStep| {
            let said = format!("{} {:?} {}", step.detail, step.hint, step.output_tail);
            said.contains("will not have") && said.contains(point)
        };
        let shown = self.sees_that(job, node, stage, Progress::Retrying, blamed).await;
        let shown = shown.with_context(|| format!("to say something of {point}"))?;
        ensure!(shown.attempt > 0 && shown.next_retry_ms.is_some(), "{point}: no attempt or next try: {shown:?}");
        Ok(shown)
    }

    /// Each point fails in its turn, is shown, and is healed.
    pub async fn walk(
        &self,
        workflow: &'static str,
        job: &str,
        node: &str,
        points: &[(&'static str, JobStage)],
    ) -> Result<()> {
        for (point, stage) in points {
            let since = Instant::now();
            let shown = self.shown(job, node, point, *stage).await?;
            self.conductor.heal(node, point);
            self.seen(workflow, point, told(*stage, &shown), since);
        }
        Ok(())
    }

    pub fn seen(&self, workflow: &'static str, stage: &'static str, seen: String, since: Instant) {
        self.rows.seen(Cell { workflow, stage, expect: Expect::Heals }, seen, since.elapsed().as_secs_f64());
    }

    /// Whoever is chosen to run an operation fails it.
    fn refuse(&self, point: &'static str) {
        MEMBERS.iter().for_each(|node| self.conductor.fail(node, point, &words(node, point)));
    }

    /// The operation fails, is shown in its step, and is healed.
    async fn operation(
        &self,
        workflow: &'static str,
        job: &str,
        point: &'static str,
        step: (&str, JobStage),
    ) -> Result<()> {
        let since = Instant::now();
        let shown = self.shown(job, step.0, point, step.1).await?;
        MEMBERS.iter().for_each(|node| self.conductor.heal(node, point));
        self.seen(workflow, point, told(step.1, &shown), since);
        Ok(())
    }

    pub async fn succeeds(&self, accepted: &Accepted) -> Result<()> {
        self.cluster.active(accepted).await.map(drop)
    }

    /// Hosts cannot be made, then not be heard, then everything else fails.
    async fn arrival(&self, workflow: &'static str, node: &str, request: (Method, &str, &Value)) -> Result<Accepted> {
        let (disk, since) = (faults::disk(self.cluster)?, Instant::now());
        self.fail(node, &OWN);
        let accepted = self.ask(request.0, request.1, Some(request.2)).await?;
        let job = accepted.job.id.as_str();
        let shown = self.sees(job, node, JobStage::Spawn, Progress::Retrying).await?;
        ensure!(shown.detail.contains("not permitted"), "nothing is said of the disk: {shown:?}");
        let network = faults::network(self.cluster)?;
        drop(disk);
        self.seen(workflow, "spawn", told(JobStage::Spawn, &shown), since);
        let since = Instant::now();
        let shown = self.sees(job, node, JobStage::VerifySpawn, Progress::Waiting).await?;
        drop(network);
        self.seen(workflow, "verify_spawn", told(JobStage::VerifySpawn, &shown), since);
        Ok(accepted)
    }

    async fn created(&mut self) -> Result<()> {
        let a = json!({ "name": "a", "type": "moody", "version": "1.0", "size": 2 });
        let b = json!({ "name": "b", "type": "moody", "version": "1.0", "size": 1, "depends_on": "a" });
        let body = json!({ "name": "f", "availability_zone": "az1", "components": [a, b] });
        self.refuse("prepare");
        let accepted = self.arrival("create", "f-a-1", (Method::POST, "/topologies", &body)).await?;
        self.id.clone_from(&accepted.id);
        let job = accepted.job.id.as_str();
        self.walk("create", job, "f-a-1", &OWN).await?;
        self.operation("create", job, "prepare", ("moody-cmd/prepare", JobStage::Prepare)).await?;
        self.succeeds(&accepted).await
    }

    async fn added(&self) -> Result<()> {
        let c = json!({ "name": "c", "type": "moody", "version": "1.0", "size": 1, "depends_on": "a" });
        let path = format!("/topologies/{}/components", self.id);
        self.refuse("prepare");
        let accepted = self.arrival("add", "f-c-1", (Method::POST, &path, &c)).await?;
        let job = accepted.job.id.as_str();
        self.walk("add", job, "f-c-1", &OWN[..1]).await?;
        self.operation("add", job, "prepare", ("moody-cmd/prepare", JobStage::Prepare)).await?;
        self.walk("add", job, "f-c-1", &OWN[1..]).await?;
        self.succeeds(&accepted).await
    }

    async fn stopped_started_restarted(&self) -> Result<()> {
        let (name, path) = ("f-a-2", format!("/nodes/{}/services", self.node("f-a-2").await?));
        self.fail(name, &[("stop", JobStage::Halt)]);
        let accepted = self.ask(Method::DELETE, &path, None).await?;
        self.walk("stop", accepted.job.id.as_str(), name, &[("stop", JobStage::Halt)]).await?;
        self.cluster.ended(&accepted).await?;

        let since = Instant::now();
        self.fail(name, &[("start", JobStage::Validate)]);
        let accepted = self.ask(Method::POST, &path, None).await?;
        self.walk("start", accepted.job.id.as_str(), name, &[("start", JobStage::Validate)]).await?;
        self.succeeds(&accepted).await?;
        say(&format!("  a failed start mended after {:.1} s", since.elapsed().as_secs_f64()));

        let points = [("stop", JobStage::Config), ("config", JobStage::Config), ("validate", JobStage::Validate)];
        self.fail(name, &points);
        let accepted = self.ask(Method::PUT, &path, None).await?;
        let job = accepted.job.id.as_str();
        self.walk("restart", job, name, &points).await?;
        self.succeeds(&accepted).await
    }

    async fn flexed(&self) -> Result<()> {
        let path = format!("/components/{}", self.component("a").await?.id);
        self.refuse("join");
        let accepted = self.arrival("flexup", "f-a-3", (Method::POST, &path, &json!({ "count": 1 }))).await?;
        let job = accepted.job.id.as_str();
        self.walk("flexup", job, "f-a-3", &OWN).await?;
        self.operation("flexup", job, "join", ("f-a-3", JobStage::Join)).await?;
        self.succeeds(&accepted).await?;

        self.refuse("leave");
        let disk = faults::disk(self.cluster)?;
        let accepted = self.ask(Method::DELETE, &format!("/nodes/{}", self.node("f-a-3").await?), None).await?;
        let job = accepted.job.id.as_str();
        self.operation("flexdown", job, "leave", ("f-a-3", JobStage::Leave)).await?;
        self.unremovable("flexdown", job, "f-a-3", JobStage::Remove).await?;
        drop(disk);
        self.succeeds(&accepted).await?;
        // those that stay are told at once; so their failures are played with a leaver of their own
        let accepted = self.ask(Method::POST, &path, Some(&json!({ "count": 1 }))).await?;
        self.succeeds(&accepted).await?;
        self.fail("f-a-2", &OWN[1..]);
        let leaver = self.component("a").await?.nodes.last().context("no node")?.id.0.clone();
        let accepted = self.ask(Method::DELETE, &format!("/nodes/{leaver}"), None).await?;
        self.walk("flexdown", accepted.job.id.as_str(), "f-a-2", &OWN[1..]).await?;
        self.succeeds(&accepted).await
    }

    async fn replaced(&self) -> Result<()> {
        let (disk, since) = (faults::disk(self.cluster)?, Instant::now());
        self.fail("f-a-2", &OWN);
        let accepted = self.ask(Method::PUT, &format!("/nodes/{}", self.node("f-a-2").await?), None).await?;
        let job = accepted.job.id.as_str();
        let shown = self.sees(job, "f-a-2", JobStage::Spawn, Progress::Retrying).await?;
        ensure!(shown.detail.contains("cannot remove"), "nothing is said of the disk: {shown:?}");
        self.seen("replace", "remove_host", told(JobStage::Spawn, &shown), since);
        // the old host goes and a new one comes in one piece of work: the same disk is in its way
        self.seen("replace", "spawn", told(JobStage::Spawn, &shown), since);
        let (network, since) = (faults::network(self.cluster)?, Instant::now());
        drop(disk);
        let shown = self.sees(job, "f-a-2", JobStage::VerifySpawn, Progress::Waiting).await?;
        drop(network);
        self.seen("replace", "verify_spawn", told(JobStage::VerifySpawn, &shown), since);
        self.walk("replace", job, "f-a-2", &OWN).await?;
        self.succeeds(&accepted).await
    }

    async fn unremovable(&self, workflow: &'static str, job: &str, node: &str, stage: JobStage) -> Result<()> {
        let since = Instant::now();
        let shown = self.sees(job, node, stage, Progress::Retrying).await?;
        ensure!(shown.detail.contains("cannot remove"), "nothing is said of the disk: {shown:?}");
        self.seen(workflow, "remove_host", told(stage, &shown), since);
        Ok(())
    }

    async fn gone(&self) -> Result<()> {
        for (workflow, node, path) in [
            ("remove", "f-c-1", format!("/components/{}", self.component("c").await?.id)),
            ("delete", "f-a-1", format!("/topologies/{}", self.id)),
        ] {
            let disk = faults::disk(self.cluster)?;
            let accepted = self.ask(Method::DELETE, &path, None).await?;
            self.unremovable(workflow, accepted.job.id.as_str(), node, JobStage::Remove).await?;
            drop(disk);
            let job = self.cluster.ended(&accepted).await?;
            ensure!(job.standing == JobStanding::Succeeded, "{workflow} ended as {:?}", job.standing);
        }
        Ok(())
    }
}

#[test]
fn failure_in_every_stage_of_every_workflow() {
    scene("failure_in_every_stage_of_every_workflow", async |cluster| {
        Conductor::prepare(cluster, &[])?;
        cluster.start().await?;
        let cluster = &*cluster;
        let conductor = Conductor::listen(cluster)?;
        let mut play = Play { cluster, conductor, rows: Rows::default(), id: String::new() };
        play.created().await?;
        play.added().await?;
        play.stopped_started_restarted().await?;
        waves(&play).await?;
        play.flexed().await?;
        play.replaced().await?;
        play.gone().await?;
        play.rows.complete(&CELLS, &WORKFLOWS, &STAGES, &NEVER)
    });
}
