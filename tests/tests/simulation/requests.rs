//! What users ask for: every workflow, at any moment, good and bad, by way of some controller.
//!
//! As the handlers of the API do it: what is wanted is read, changed by the functions of `wanted.rs`,
//! and written over what was read by compare-and-swap, together with its job.
//!
//! Never here: whether something is wise.

use crate::catalog::{self, GOOD, VERSIONS};
use crate::controller::Done;
use crate::history::History;
use crate::turns::at_once;
use std::sync::Arc;
use straas_controller::parts::{self, Engine};
use straas_schemas::change::RolloutOptions;
use straas_schemas::command::CommandStanding;
use straas_schemas::job::JobKind;
use straas_schemas::{CommandId, ComponentId, JobId, NodeId, Stage, TopologyId};
use straas_store::{
    CommandRecord, ComponentRecord, ComponentSpec, GroupSpec, JobRecord, Store as _, StoreError, Undo, Want,
};

/// A request is made anew so often while others change the same.
const TRIES: u32 = 8;
/// Most nodes of a group.
const SIZE_MAX: u32 = 5;

/// Changes what is wanted, unless there is nothing to change; with what undoes it.
pub type Edit = Box<dyn Fn(&mut ComponentSpec) -> Option<Option<Undo>> + Send + Sync>;

/// What a request brings, and is refused for if it is in quarantine.
#[derive(Clone, Default)]
pub struct Brings {
    pub version: Option<String>,
    pub scripts: Option<String>,
}

impl History {
    pub fn job(&mut self) -> JobId {
        self.jobs += 1;
        format!("job-{}", self.jobs).into()
    }

    pub fn commit(&mut self) -> u32 {
        self.commits += 1;
        self.commits
    }

    pub fn record(&self, id: &JobId, kind: JobKind, of: &TopologyId, component: Option<&ComponentId>) -> JobRecord {
        JobRecord {
            id: id.clone(),
            kind,
            component: component.cloned(),
            topology: of.clone(),
            topology_name: self.homes.iter().find(|home| home.id == *of).map_or("", |home| home.name).into(),
            tenant: "acme".into(),
            detail: kind.name().into(),
            created_ms: self.now(),
            undo: None,
            ended: None,
        }
    }

    fn component(
        &mut self,
        home: usize,
        name: &str,
        kind: &str,
        sizes: &[u32],
        after: &[&str],
        position: u32,
    ) -> ComponentRecord {
        let base = kind.split('/').next().unwrap_or(kind);
        let roles = catalog::roles(base);
        let group = |(role, size): (&&str, &u32)| GroupSpec {
            name: if roles.len() == 1 { name.to_owned() } else { format!("{name}-{role}") },
            role: (*role).to_owned(),
            size: *size,
            without: Vec::new(),
            flavor: "tiny".into(),
            fault_domains_min: 0,
            anti_affinity_group: None,
            cname: false,
        };
        let want = Want {
            version: "1.0".into(),
            config: "c0=1".into(),
            scripts: "s0".into(),
            groups: roles.iter().zip(sizes).map(group).collect(),
            nodes: std::collections::BTreeMap::new(),
            files: Vec::new(),
            agent: None,
        };
        let topology = self.homes[home].id.clone();
        let id: ComponentId = format!("{topology}-{name}-{position}").into();
        self.ghost.kinds.insert(id.clone(), kind.to_owned());
        let spec = ComponentSpec {
            kind: kind.to_owned(),
            depends_on: after.iter().map(|s| (*s).to_owned()).collect(),
            foreign: Vec::new(),
            want,
            rollout: None,
            removed: false,
        };
        ComponentRecord { id, topology, name: name.to_owned(), position, spec, revision: 1 }
    }

    fn brokers(&mut self, home: usize, position: u32) -> ComponentRecord {
        let kind = ["kafka", "kafka/install", "kafka/enforce"][self.dice.below(3)];
        let size = self.small(3);
        self.component(home, "kf", kind, &[size], &["zk"], position)
    }

    fn workers(&mut self, home: usize, position: u32) -> ComponentRecord {
        let kind = if self.dice.one_in(2) { "storm" } else { "storm/two" };
        let size = self.small(2);
        self.component(home, "st", kind, &[1, size], &["zk"], position)
    }

    fn small(&mut self, most: usize) -> u32 {
        1 + u32::try_from(self.dice.below(most)).expect("small")
    }

    /// A topology is asked for, in peace.
    pub fn create(&mut self, home: usize) {
        let kind = if self.dice.one_in(4) { "zookeeper/enforce" } else { "zookeeper" };
        let size = self.small(3);
        let mut components = vec![self.component(home, "zk", kind, &[size], &[], 0)];
        match self.dice.below(4) {
            0 | 1 => components.push(self.brokers(home, 1)),
            2 => components.push(self.workers(home, 1)),
            _ => {}
        }
        let (topology, label) = (self.homes[home].record(self.now()), self.label(home));
        let id = self.job();
        let job = self.record(&id, JobKind::Create, &topology.id, None);
        let parts: Vec<String> = components
            .iter()
            .map(|c| format!("{} × {:?}", c.spec.kind, c.spec.want.groups.iter().map(|g| g.size).collect::<Vec<_>>()))
            .collect();
        self.tell(|| format!("{id}: create {label}: {}", parts.join(", ")));
        self.ghost.confirmed.insert(id);
        let database = self.site.database.clone();
        at_once(database.create_topology(&topology, &components, &job)).expect("it is created");
        for controller in &self.controllers {
            controller.engine.wake.wake(&topology.id);
        }
    }

    /// A user asks for something.
    pub fn wish(&mut self) {
        let Some(record) = self.some_component() else { return };
        match self.dice.below(100) {
            0..12 => {
                let version = VERSIONS[[0, 0, 1, 2, 2, 3][self.dice.below(6)]].to_owned();
                let brings = Brings { version: Some(version.clone()), ..Brings::default() };
                let text = format!("upgrade to {version}");
                self.roll_out(&record, JobKind::Upgrade, text, brings, move |want| want.version.clone_from(&version));
            }
            12..26 => {
                let value = ["1", "2", "2", "3", "3", "4", "broken"][self.dice.below(7)];
                let commit = format!("c{}={value}", self.commit());
                let kind = if self.dice.one_in(4) { JobKind::Rollback } else { JobKind::Configure };
                let text = format!("configuration {commit}");
                self.roll_out(&record, kind, text, Brings::default(), move |want| want.config.clone_from(&commit));
            }
            26..36 => self.sync(&record),
            36..46 => {
                let group = self.dice.below(record.spec.want.groups.len());
                self.change(&record, JobKind::Flexup, format!("one more of group {group}"), move |spec| {
                    let group = spec.want.groups.get_mut(group).filter(|group| group.size < SIZE_MAX)?;
                    Some(Some(parts::join(group, 1)))
                });
            }
            46..56 => {
                let group = self.dice.below(record.spec.want.groups.len());
                let there = parts::ordinals(&record.spec.want.groups[group]);
                let Some(gone) = self.dice.pick(&there).copied() else { return };
                self.change(
                    &record,
                    JobKind::Flexdown,
                    format!("number {gone} of group {group} leaves"),
                    move |spec| {
                        let group = spec.want.groups.get_mut(group).filter(|group| group.size > 1)?;
                        parts::ordinals(group).contains(&gone).then(|| Some(parts::leave(group, &[gone])))
                    },
                );
            }
            56..64 => self.replace(&record),
            64..78 => self.services(&record),
            78..88 => self.steer(&record),
            88..94 => self.command(&record),
            94..96 => self.remove(&record),
            96..98 => self.add(),
            _ => self.delete(),
        }
    }

    /// Does something to every component that stays.
    fn edit_all(&mut self, edit: impl Fn(&mut ComponentSpec) -> bool + Copy + Send + Sync + 'static) {
        let ids: Vec<ComponentId> = self.ghost.kinds.keys().cloned().collect();
        for id in ids {
            let edit: Edit = Box::new(move |spec| edit(spec).then_some(None));
            let engine = self.controllers[0].engine.clone();
            let _ = at_once(changed(engine, id, None, Brings::default(), edit));
        }
    }

    /// What is paused, or was held, goes on.
    pub fn go_on_with_all(&mut self) {
        self.edit_all(|spec| {
            let Some(rollout) = spec.rollout.as_mut().filter(|rollout| rollout.reverted.is_none()) else {
                return false;
            };
            std::mem::replace(&mut rollout.paused, false)
        });
    }

    /// Somebody corrects what cannot work, and starts what others wait for.
    pub fn correct(&mut self) {
        self.tell(|| "what cannot work is corrected, and all services are started".to_owned());
        let ids: Vec<ComponentId> = self.ghost.kinds.keys().cloned().collect();
        for id in ids {
            let (job, number) = (self.job(), self.commit());
            let Some(record) = self.site.database.component(&id) else { continue };
            let of = job.clone();
            let edit: Edit = Box::new(move |spec| {
                let nodes: Vec<NodeId> = spec.want.nodes.keys().cloned().collect();
                let started = parts::set_stopped(&mut spec.want, &nodes, false).is_some();
                let changed = parts::roll_out(spec, &of, RolloutOptions::default(), true, |want| {
                    let (version, config) = GOOD;
                    (want.version, want.config) = (version.into(), config.into());
                    want.scripts = format!("s{number}");
                    want.nodes.values_mut().for_each(|node| node.scripts = None);
                });
                (started || changed).then_some(None)
            });
            let job = self.record(&job, JobKind::Change, &record.topology, Some(&record.id));
            let engine = self.controllers[0].engine.clone();
            let _ = at_once(changed(engine, id, Some(job), Brings::default(), edit));
        }
    }

    fn some_component(&mut self) -> Option<ComponentRecord> {
        let ids: Vec<ComponentId> = self.ghost.kinds.keys().cloned().collect();
        let id = self.dice.pick(&ids)?.clone();
        self.site.database.component(&id).filter(|record| !record.spec.removed)
    }

    fn nodes_of(&self, component: &ComponentId) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = {
            let book = self.site.database.book();
            book.nodes.values().filter(|node| node.component == *component).map(|node| node.id.clone()).collect()
        };
        nodes.into_iter().filter(|node| self.is_wanted(node)).collect()
    }

    fn roll_out(
        &mut self,
        record: &ComponentRecord,
        kind: JobKind,
        text: String,
        brings: Brings,
        change: impl Fn(&mut Want) + Send + Sync + 'static,
    ) {
        let canary = [None, None, None, Some(false), Some(true)][self.dice.below(5)];
        let max_failures = [None, None, Some(1), Some(2)][self.dice.below(4)];
        let options = RolloutOptions { canary, max_failures };
        let job = self.job();
        let of = job.clone();
        let edit: Edit = Box::new(move |spec| {
            let first = kind != JobKind::Rollback;
            parts::roll_out(spec, &of, options, first, &change).then_some(None)
        });
        self.ask(record, job, kind, text, brings, edit);
    }

    fn change(
        &mut self,
        record: &ComponentRecord,
        kind: JobKind,
        text: String,
        edit: impl Fn(&mut ComponentSpec) -> Option<Option<Undo>> + Send + Sync + 'static,
    ) {
        let job = self.job();
        self.ask(record, job, kind, text, Brings::default(), Box::new(edit));
    }

    fn sync(&mut self, record: &ComponentRecord) {
        let stage = Stage::ALL[self.dice.below(4)];
        let bad = if self.dice.one_in(4) { ":bad" } else { "" };
        let commit = format!("s{}:{stage}{bad}", self.commit());
        let brings = Brings { scripts: Some(commit.clone()), ..Brings::default() };
        let nodes = self.nodes_of(&record.id);
        let one = self.dice.pick(&nodes).filter(|_| self.dice.clone().one_in(3)).cloned();
        let text = format!("scripts {commit} for {}", one.as_ref().map_or("all".to_owned(), |one| self.name(one)));
        self.roll_out(record, JobKind::Sync, text, brings, move |want| match &one {
            Some(node) => want.nodes.entry(node.clone()).or_default().scripts = Some(commit.clone()),
            None => {
                want.scripts.clone_from(&commit);
                want.nodes.values_mut().for_each(|node| node.scripts = None);
            }
        });
    }

    fn replace(&mut self, record: &ComponentRecord) {
        let nodes = self.nodes_of(&record.id);
        let Some(node) = self.dice.pick(&nodes).cloned() else { return };
        let Some(known) = self.site.database.node(&node) else { return };
        if known.host.phase != straas_store::HostPhase::Up {
            return;
        }
        let number = known.host.number + 1;
        let text = format!("another host for {}", self.name(&node));
        self.change(record, JobKind::Replace, text, move |spec| {
            let wish = spec.want.nodes.entry(node.clone()).or_default();
            let before = wish.replacements;
            wish.replacements = before.max(number);
            (before < number).then_some(None)
        });
    }

    fn services(&mut self, record: &ComponentRecord) {
        let kind = [JobKind::Start, JobKind::Stop, JobKind::Restart][self.dice.below(3)];
        let mut nodes = self.nodes_of(&record.id);
        if let Some(one) = self.dice.pick(&nodes).cloned().filter(|_| !self.dice.one_in(3)) {
            nodes = vec![one];
        }
        let names: Vec<String> = nodes.iter().map(|node| self.name(node)).collect();
        self.change(record, kind, format!("{} {}", kind.name(), names.join(", ")), move |spec| {
            if kind != JobKind::Restart {
                return parts::set_stopped(&mut spec.want, &nodes, kind == JobKind::Stop).map(Some);
            }
            let mut any = false;
            for node in &nodes {
                let wish = spec.want.nodes.entry(node.clone()).or_default();
                wish.restarts += u32::from(!wish.stopped);
                any |= !wish.stopped;
            }
            any.then_some(None)
        });
    }

    /// A rollout is paused, goes on, or is taken back: that is no job of its own.
    fn steer(&mut self, record: &ComponentRecord) {
        let Some(rollout) = record.spec.rollout.as_ref().filter(|rollout| rollout.reverted.is_none()) else { return };
        let (job, how) = (rollout.job.clone(), self.dice.below(3));
        let text = format!("{} {job}", ["pause", "resume", "cancel"][how]);
        let edit: Edit = Box::new(move |spec| {
            let rollout = spec.rollout.as_mut().filter(|rollout| rollout.job == job && rollout.reverted.is_none())?;
            let changed = match how {
                0 => !std::mem::replace(&mut rollout.paused, true),
                1 => std::mem::replace(&mut rollout.paused, false),
                _ => parts::turn_back(spec, "cancelled by a user", true),
            };
            changed.then_some(None)
        });
        self.go(record, None, text, Brings::default(), edit);
    }

    fn remove(&mut self, record: &ComponentRecord) {
        // nobody may depend on it
        if record.name != "zk" {
            self.change(record, JobKind::Remove, "remove it".to_owned(), |spec| {
                (!std::mem::replace(&mut spec.removed, true)).then_some(None)
            });
        }
    }

    fn ask(&mut self, record: &ComponentRecord, job: JobId, kind: JobKind, text: String, brings: Brings, edit: Edit) {
        let job = self.record(&job, kind, &record.topology, Some(&record.id));
        self.go(record, Some(job), text, brings, edit);
    }

    /// Some controller begins to do what is asked for.
    fn go(&mut self, record: &ComponentRecord, job: Option<JobRecord>, text: String, brings: Brings, edit: Edit) {
        let at = self.dice.below(self.controllers.len());
        if !self.controllers[at].up {
            return;
        }
        let name = record.name.clone();
        let asked = job.as_ref().map_or_else(String::new, |job| format!("{}: ", job.id));
        self.tell(|| format!("{asked}({name}) {text} is asked of controller {at}"));
        let (engine, id) = (self.controllers[at].engine.clone(), record.id.clone());
        self.controllers[at].tasks.push(Box::pin(changed(engine, id, job, brings, edit)));
    }

    fn add(&mut self) {
        let home = self.dice.below(self.homes.len());
        let position = 2 + self.commit();
        let record = if self.dice.one_in(2) { self.brokers(home, position) } else { self.workers(home, position) };
        let at = self.dice.below(self.controllers.len());
        let id = self.job();
        let job = self.record(&id, JobKind::Create, &record.topology, Some(&record.id));
        if !self.controllers[at].up || self.site.database.is_taken(&record.topology, &record.name) {
            self.ghost.kinds.remove(&record.id);
            return;
        }
        self.tell(|| format!("{id}: add {} is asked of controller {at}", record.spec.kind));
        let engine = self.controllers[at].engine.clone();
        self.controllers[at].tasks.push(Box::pin(async move {
            let added = engine.store.add_component(&record, &job).await.is_ok();
            engine.wake.wake(&record.topology);
            if added { Done::Told(job.id, "is confirmed".to_owned()) } else { Done::Nothing }
        }));
    }

    fn delete(&mut self) {
        if !self.dice.one_in(3) {
            return;
        }
        let at = self.dice.below(self.controllers.len());
        let id = self.job();
        let home = self.dice.below(self.homes.len());
        let (topology, name) = (self.homes[home].id.clone(), self.label(home));
        let job = self.record(&id, JobKind::Delete, &topology, None);
        self.tell(|| format!("{id}: delete all of {name} is asked of controller {at}"));
        let engine = self.controllers[at].engine.clone();
        self.controllers[at].tasks.push(Box::pin(async move {
            let deleted = engine.store.delete_topology(&topology, &job, None).await.is_ok_and(|new| new);
            engine.wake.wake(&topology);
            if deleted { Done::Told(job.id, "is confirmed".to_owned()) } else { Done::Nothing }
        }));
    }

    /// A guest command, which may run once.
    fn command(&mut self, record: &ComponentRecord) {
        let nodes = self.nodes_of(&record.id);
        let Some(node) = self.dice.pick(&nodes).cloned() else { return };
        let at = self.dice.below(self.controllers.len());
        let id: CommandId = format!("command-{}", self.commit()).into();
        let now = self.now();
        let command = CommandRecord {
            id: id.clone(),
            batch: None,
            operation: None,
            tenant: "acme".into(),
            topology: record.topology.clone(),
            component: record.id.clone(),
            node: node.clone(),
            node_name: self.name(&node),
            command: "assist-cmd/x".into(),
            args: serde_json::Map::new(),
            files: Vec::new(),
            timeout_s: 60,
            idempotent: self.dice.one_in(4),
            by: "somebody".into(),
            created_ms: now,
            deadline_ms: now + 300_000,
            standing: CommandStanding::Queued,
            held: false,
            cancelling: false,
            started_ms: None,
            ended_ms: None,
            end: None,
            assumed: false,
            output_bytes: 0,
        };
        let name = command.node_name.clone();
        self.tell(|| format!("{id} on {name} is asked of controller {at}"));
        let engine = self.controllers[at].engine.clone();
        self.controllers[at].tasks.push(Box::pin(async move {
            if engine.store.queue_commands(std::slice::from_ref(&command), None).await.is_ok() {
                engine.commands_changed(&[command]).await;
            }
            Done::Nothing
        }));
    }
}

/// What a handler does of a request: read, change, write over what was read, and again if it was changed meanwhile.
pub async fn changed(engine: Arc<Engine>, id: ComponentId, job: Option<JobRecord>, brings: Brings, edit: Edit) -> Done {
    for _ in 0..TRIES {
        let Ok(Some(mut component)) = engine.store.component(&id).await else { return Done::Nothing };
        let Ok(quarantine) = engine.store.quarantined().await else { return Done::Nothing };
        let version = brings.version.as_ref().map(|version| format!("{}@{version}", component.spec.kind));
        let refused = |key: &Option<String>| key.as_ref().is_some_and(|key| quarantine.iter().any(|q| q.key == *key));
        if refused(&version) || refused(&brings.scripts) || component.spec.removed {
            return Done::Nothing;
        }
        let Some(undo) = edit(&mut component.spec) else { return Done::Nothing };
        let job = job.clone().map(|job| JobRecord { undo, ..job });
        match engine.store.change_component(&component, component.revision, job.as_ref()).await {
            Ok(()) => {
                engine.wake.wake(&component.topology);
                return job.map_or(Done::Nothing, |job| Done::Told(job.id, "is confirmed".to_owned()));
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(_) => return Done::Nothing,
        }
    }
    Done::Nothing
}
