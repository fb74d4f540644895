//! The database: what is asked of it, what becomes of that, and what must hold of every write.
//!
//! The store itself is the real one in memory. Beside it stands what really was asked and answered,
//! which no store knows, so that what it forgets or mixes up is seen at once.

use crate::mutants::Mutant;
use crate::turns::{Pause, at_once};
use crate::zones::Cuts;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{Assignment, CommandId, ComponentId, NodeId, Outcome, Stage, TopologyId};
use straas_store::{
    CommandRecord, CommandStore as _, ComponentRecord, HistoryStore as _, JobFilter, JobRecord, MemoryStore, NewEvent,
    NodeIndex, NodeRecord, NodeSnapshot, PAGE_MAX, PageRequest, Result, Store as _, StoreError, Tells, TopologyRecord,
};

/// What is so besides what the store holds.
#[derive(Default)]
pub struct Book {
    /// Whoever asks gives others a turn.
    pub pauses: bool,
    /// Nobody reaches it.
    pub away: bool,
    /// Revision of each component.
    revisions: BTreeMap<ComponentId, u64>,
    /// Newest generation of each node.
    generations: BTreeMap<NodeId, u64>,
    /// Everything an agent ever put into its outbox, durably.
    pub said: BTreeMap<(NodeId, u64, u64), Report>,
    /// The newest report of each incarnation that is recorded.
    reported: BTreeMap<(NodeId, u64), u64>,
    /// Every node that was ever recorded.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Writes so far.
    pub writes: u64,
}

/// The database, as it is reached from a zone; from none by whoever sees everything.
#[derive(Clone)]
pub struct Database {
    pub inner: Arc<MemoryStore>,
    pub mutant: Option<Mutant>,
    book: Arc<Mutex<Book>>,
    cuts: Cuts,
    from: Option<&'static str>,
}

impl Database {
    pub fn new(cuts: &Cuts, mutant: Option<Mutant>) -> Self {
        Self { inner: Arc::default(), mutant, book: Arc::default(), cuts: cuts.clone(), from: None }
    }

    /// The same, as it is reached from a zone.
    pub fn seen_from(&self, zone: &'static str) -> Self {
        Self { from: Some(zone), ..self.clone() }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call goes in, and its answer comes out.
    pub async fn asked<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.stop().await?;
        let out = call.await;
        self.stop().await?;
        out
    }

    async fn stop(&self) -> Result<()> {
        let pauses = self.book().pauses;
        if pauses {
            Pause::default().await;
        }
        if self.book().away || self.from.is_some_and(|from| self.cuts.has(from)) {
            return Err(StoreError::Unavailable("it is failing over".into()));
        }
        Ok(())
    }

    /// A node as it is recorded now.
    pub fn node(&self, id: &NodeId) -> Option<NodeSnapshot> {
        at_once(self.inner.node(id)).expect("the memory answers")
    }

    /// A component as it is recorded now.
    pub fn component(&self, id: &ComponentId) -> Option<ComponentRecord> {
        at_once(self.inner.component(id)).expect("the memory answers")
    }

    /// A command as it is recorded now.
    pub fn command(&self, id: &CommandId) -> Option<CommandRecord> {
        at_once(self.inner.command(id)).expect("the memory answers")
    }

    /// The topology as it is recorded now.
    pub fn topology(&self, id: &TopologyId) -> Option<TopologyRecord> {
        at_once(self.inner.topology(id)).expect("the memory answers")
    }

    /// All jobs there ever were.
    pub fn jobs(&self) -> Vec<JobRecord> {
        let everything = PageRequest { after: None, limit: PAGE_MAX };
        at_once(self.inner.jobs(&JobFilter::default(), &everything)).expect("the memory answers")
    }

    /// All nodes there are.
    pub fn nodes(&self) -> Vec<NodeIndex> {
        at_once(self.inner.node_index()).expect("the memory answers")
    }

    /// Whether commands wait for a node.
    pub fn has_waiting(&self, node: &NodeId) -> bool {
        !at_once(self.inner.waiting_commands(node)).expect("the memory answers").is_empty()
    }

    /// Whether a topology has a component of a name.
    pub fn is_taken(&self, topology: &TopologyId, name: &str) -> bool {
        at_once(self.inner.component_by_name(topology, name)).expect("the memory answers").is_some()
    }

    /// Which of the numbers that a node's incarnation reported are recorded.
    pub fn recorded_of(&self, node: &NodeId, incarnation: u64) -> BTreeSet<u64> {
        let all = at_once(self.inner.reported_until(node, i64::MAX, PAGE_MAX)).expect("the memory answers");
        all.into_iter().filter(|one| one.incarnation == incarnation).map(|one| one.report.seq).collect()
    }

    pub async fn made(&self, components: &[ComponentRecord], call: impl Future<Output = Result<()>>) -> Result<()> {
        call.await?;
        let revisions = components.iter().map(|component| (component.id.clone(), component.revision));
        self.book().revisions.extend(revisions);
        Ok(())
    }

    /// A component is written over what was read of it, and over nothing else.
    pub async fn changed<F: Future<Output = Result<()>>>(
        &self,
        component: &ComponentRecord,
        expected: u64,
        call: impl FnOnce(u64) -> F,
    ) -> Result<()> {
        let now = self.component(&component.id).map_or(expected, |component| component.revision);
        call(if self.mutant == Some(Mutant::StaleRequest) { now } else { expected }).await?;
        self.book().writes += 1;
        let known = self.book().revisions.insert(component.id.clone(), now + 1);
        assert_eq!(
            known,
            Some(component.revision),
            "a request is lost: {} was changed since it was read",
            component.name
        );
        Ok(())
    }

    /// All nodes, each with its topology.
    pub async fn indexed(&self) -> Result<Vec<NodeIndex>> {
        let mut all = self.inner.node_index().await?;
        if self.mutant == Some(Mutant::OthersNews)
            && let Some(first) = all.first().map(|node| node.topology.clone())
        {
            all.iter_mut().for_each(|node| node.topology = first.clone());
        }
        Ok(all)
    }

    pub async fn recorded(&self, nodes: &[NodeRecord]) -> Result<()> {
        self.inner.add_nodes(nodes).await?;
        self.book().writes += 1;
        self.book().nodes.extend(nodes.iter().map(|node| (node.id.clone(), node.clone())));
        Ok(())
    }

    pub async fn removed(&self, nodes: &[NodeId]) -> Result<()> {
        self.inner.remove_nodes(nodes).await?;
        for node in nodes.iter().filter(|node| self.node(node).is_none()) {
            self.book().generations.remove(node);
        }
        Ok(())
    }

    /// The nodes of a component go with it; one that is added later may have places of the same names.
    pub async fn forgotten(&self, component: &ComponentId) -> Result<()> {
        self.inner.forget_component(component).await?;
        let Book { generations, nodes, writes, .. } = &mut *self.book();
        generations.retain(|id, _| nodes.get(id).is_none_or(|node| node.component != *component));
        *writes += 1;
        Ok(())
    }

    /// Generations of a node rise by one, each made of the one before.
    pub async fn assigned(&self, assignment: &Assignment, expected: u64, writes: u64, now_ms: i64) -> Result<()> {
        let node = &assignment.node;
        let has = self.node(node).and_then(|node| node.assigned).map_or(0, |(generation, _)| generation);
        let written = async || match self.topology_of(node) {
            Some(topology) => Ok(self.inner.snapshot(&topology).await?.map_or(0, |now| now.writes)),
            None => Ok::<_, StoreError>(writes),
        };
        match self.mutant {
            Some(Mutant::UnfencedAssignment) => {
                let forced = Assignment { generation: has + 1, ..assignment.clone() };
                self.inner.put_assignment(&forced, has, written().await?, now_ms).await?;
            }
            Some(Mutant::StalePlan) => {
                self.inner.put_assignment(assignment, expected, written().await?, now_ms).await?
            }
            _ => self.inner.put_assignment(assignment, expected, writes, now_ms).await?,
        }
        self.book().writes += 1;
        let made_of = assignment.generation - 1;
        assert_eq!(made_of, has, "an older assignment over a newer one: {} of {made_of}", assignment.name);
        let last = self.book().generations.insert(node.clone(), has + 1).unwrap_or(0);
        assert!(last <= has, "generations of {} fall: from {last} to {}", assignment.name, has + 1);
        Ok(())
    }

    /// The topology of a node that is or was recorded.
    pub fn topology_of(&self, node: &NodeId) -> Option<TopologyId> {
        self.book().nodes.get(node).map(|record| record.topology.clone())
    }

    /// What is told of a node is told of its topology.
    pub fn check_event(&self, event: &NewEvent) {
        let Some(node) = &event.node else { return };
        let of = self.topology_of(node);
        assert!(of.is_none_or(|of| of == event.topology), "told of another topology: {} of {node}", event.text);
    }

    /// What is recorded is what that incarnation of the node said; newer never makes room for older.
    pub async fn reported(
        &self,
        id: &NodeId,
        incarnation: u64,
        reports: &[Report],
        tells: Tells<'_>,
        now_ms: i64,
    ) -> Result<Vec<Report>> {
        let before = self.node(id);
        let tells: Tells<'_> = &|report| tells(report).inspect(|event| self.check_event(event));
        let fresh = match self.mutant {
            Some(Mutant::ReportsForgotten) => reports.to_vec(),
            Some(Mutant::LateIncarnation) => {
                let now = before.as_ref().map_or(incarnation, |node| node.incarnation);
                self.inner.record_reports(id, now, reports, tells, now_ms).await?
            }
            Some(Mutant::LateResult) => {
                let mut reports = reports.to_vec();
                let newest = before.as_ref().and_then(|node| node.assigned.as_ref()).map(|(newest, _)| *newest);
                for report in &mut reports {
                    match &mut report.body {
                        ReportBody::Stage(result) => result.generation = newest.unwrap_or(result.generation),
                        ReportBody::Converged { generation } => *generation = newest.unwrap_or(*generation),
                        _ => {}
                    }
                }
                self.inner.record_reports(id, incarnation, &reports, tells, now_ms).await?
            }
            _ => self.inner.record_reports(id, incarnation, reports, tells, now_ms).await?,
        };
        let Some((before, after)) = before.zip(self.node(id)) else { return Ok(fresh) };
        let key = |node: &NodeSnapshot, stage: Stage| node.stages.get(&stage).map(|(result, _)| result.generation);
        for stage in Stage::ALL {
            let (old, new) = (key(&before, stage), key(&after, stage));
            assert!(new >= old, "an older result over a newer one: {id} {stage} from {old:?} to {new:?}");
        }
        assert!(after.converged_generation >= before.converged_generation, "what {id} confirmed falls");
        let mut book = self.book();
        // what fails again and again is no progress
        let moves = |report: &Report| !matches!(&report.body, ReportBody::Stage(r) if r.outcome != Outcome::Succeeded);
        book.writes += u64::from(fresh.iter().any(moves));
        let said = |body: &ReportBody| {
            let of = |seq| (id.clone(), after.incarnation, seq);
            book.said.range(of(0)..=of(u64::MAX)).any(|(_, report)| report.body == *body)
        };
        for (result, _) in after.stages.values() {
            let body = ReportBody::Stage(result.clone());
            assert!(said(&body), "recorded is what {id} never said: {} of {}", result.stage, result.generation);
        }
        let confirmed = ReportBody::Converged { generation: after.converged_generation };
        assert!(
            after.converged_generation == 0 || said(&confirmed),
            "recorded is what {id} never confirmed: {}",
            after.converged_generation
        );
        let key = (id.clone(), incarnation);
        let mut last = book.reported.get(&key).copied().unwrap_or(0);
        for report in &fresh {
            if report.seq <= last {
                continue;
            }
            let of = |seq| (id.clone(), incarnation, seq);
            let between = book.said.range(of(last + 1)..of(report.seq)).next().map(|(key, _)| key.2);
            assert!(between.is_none(), "reports out of order: {} of {id} before {between:?}", report.seq);
            last = report.seq;
        }
        book.reported.insert(key, last);
        Ok(fresh)
    }
}
