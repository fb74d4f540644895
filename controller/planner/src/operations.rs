//! Guest commands as part of a plan: what has to be done on one node because of another.
//!
//! - `prepare`: on a component that another one depends on, before that is configured first.
//! - `join`: once a node works that was added to a component which worked before.
//! - `leave`: before the host of a node goes that is wanted no more.
//! - `release`: on a component that another one depended on, once that is removed (`releases.rs`).
//!
//! Each has a key that names one life of one place; one success is enough for ever, so the host of
//! a node may be replaced without another `join`. A try that did not succeed is followed by another
//! after a while, a `release` so often only. In a component one `join` or `leave` runs at a time: both move data about.
//!
//! Never here: commands that users ask for.

use crate::desired;
use crate::membership::joined;
use crate::observe::{Known, Silence, newcomer, stopped, works};
use crate::{Component, Node, OperationRun, OperationWish};
use serde_json::Value;
use std::collections::BTreeMap;
use straas_schemas::command::CommandStanding;
use straas_schemas::metadata::Operation;
use straas_schemas::{CommandId, ComponentId, Digest, Lifecycle, NodeId};

/// Wait after the first try that failed, in ms; doubles to [`RETRY_MAX_MS`].
const RETRY_MS: i64 = 5_000;
/// Longest wait between two tries: a person who mends something need not wait longer than this.
const RETRY_MAX_MS: i64 = 300_000;

/// How an operation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was done.
    Done,
    /// Something has to happen first.
    Waits(String),
    /// It is queued or runs.
    Runs,
    /// It did not succeed and is tried again.
    Failed(String),
    /// It did not succeed and is not tried again.
    GivenUp(String),
}

/// An operation that is needed.
pub struct Need<'a> {
    /// What it is for.
    pub key: String,
    /// The command.
    pub operation: &'a Operation,
    /// How it stands.
    pub progress: Progress,
    /// Which try that is, from 1; 0 before the first.
    pub attempt: u32,
    /// When the next try is due, Unix ms.
    pub due_ms: Option<i64>,
    /// Where it would run.
    pub(crate) executor: Option<&'a Node>,
    pub(crate) args: BTreeMap<String, Value>,
}

/// Every operation that is needed now or was.
#[derive(Default)]
pub struct Operations<'a> {
    /// By component: of what it depends on.
    pub prepare: BTreeMap<&'a ComponentId, Vec<Need<'a>>>,
    /// By node.
    pub join: BTreeMap<&'a NodeId, Need<'a>>,
    /// By node.
    pub leave: BTreeMap<&'a NodeId, Need<'a>>,
    /// By component that is removed: on what it depended on.
    pub release: BTreeMap<&'a ComponentId, Vec<Need<'a>>>,
    /// Tries to begin now.
    pub wishes: Vec<OperationWish>,
    /// When the next try is due, Unix ms.
    pub due_ms: Option<i64>,
}

impl<'a> Operations<'a> {
    /// Finds them.
    pub fn new(known: &Known<'a>) -> Self {
        let mut this = Self::default();
        let mut newest: BTreeMap<&str, &OperationRun> = BTreeMap::new();
        for run in &known.input.operations {
            let entry = newest.entry(&run.key).or_insert(run);
            if run.attempt >= entry.attempt {
                *entry = run;
            }
        }
        for component in known.input.components.iter().filter(|c| !c.removed && !known.input.topology.deleting) {
            this.preparations(known, component, &newest);
            this.movements(known, component, &newest);
        }
        for component in known.input.components.iter().filter(|c| c.removed || known.input.topology.deleting) {
            this.releases(known, component, &newest);
        }
        this
    }

    fn preparations(&mut self, known: &Known<'a>, component: &'a Component, newest: &BTreeMap<&str, &OperationRun>) {
        // one that worked once has what it needs
        let Some(meta) = desired::meta(component).filter(|_| !known.served(&component.id)) else { return };
        for dependency in known.dependencies(component) {
            let on = dependency.component;
            let of = meta.dependencies.iter().find(|d| d.kind == on.kind);
            let Some(operation) = of.and_then(|d| d.operation.as_ref()) else { continue };
            let mut need = Need {
                key: format!("prepare {}/{}", component.id, on.id),
                operation,
                progress: Progress::Done,
                attempt: 0,
                due_ms: None,
                executor: executor(known, &on.id, None),
                args: fill(operation, known, component, None),
            };
            let idle = known.of_component(&on.id).iter().find(|w| !w.stopped() && !w.works());
            let wait = idle.map(|w| format!("component {} does not work yet ({})", dependency.name, w.node.name));
            self.judge(known, &mut need, newest, wait);
            self.prepare.entry(&component.id).or_default().push(need);
        }
    }

    fn movements(&mut self, known: &Known<'a>, component: &'a Component, newest: &BTreeMap<&str, &OperationRun>) {
        let Some(meta) = desired::meta(component) else { return };
        let joins = |n: &&Node| joined(n) && meta.role(&n.role).is_some_and(|r| r.join.is_some());
        // what never worked holds nothing that could be moved away
        let leaves = |n: &&Node| !newcomer(n) && meta.role(&n.role).is_some_and(|r| r.leave.is_some());
        let mut joiners: Vec<&Node> = known.recorded_of(&component.id).filter(joins).collect();
        let mut leavers: Vec<&Node> = known.leavers(&component.id).filter(leaves).collect();
        joiners.sort_by_key(|n| n.ordinal);
        leavers.sort_by_key(|n| std::cmp::Reverse(n.ordinal));
        let key = |verb: &str, node: &Node| format!("{verb} {}/{}", component.id, node.name);
        let moves = joiners.into_iter().map(|n| (true, n)).chain(leavers.into_iter().map(|n| (false, n)));
        let moves: Vec<_> = moves.map(|(joins, n)| (joins, n, key(if joins { "join" } else { "leave" }, n))).collect();
        // also of one that was to join and now leaves
        let of_it = |run: &&&OperationRun| !run.standing.is_final() && moved(&run.key, &component.id).is_some();
        let mut busy = newest.values().find(of_it).and_then(|run| moved(&run.key, &component.id)).map(str::to_owned);
        for (joins, node, key) in moves {
            let role = meta.role(&node.role);
            let operation = role.and_then(|r| if joins { r.join.as_ref() } else { r.leave.as_ref() });
            let Some(operation) = operation else { continue };
            let executor = executor(known, &component.id, Some(node));
            let args = fill(operation, known, component, Some(node));
            let mut need = Need { key, operation, progress: Progress::Done, attempt: 0, due_ms: None, executor, args };
            let not_yet = (joins && !known.well(node)).then(|| format!("{} does not work yet", node.name));
            let wait = not_yet.or_else(|| busy.as_ref().map(|other| format!("the same is done for {other} first")));
            if self.judge(known, &mut need, newest, wait) {
                busy = Some(node.name.clone());
            }
            if joins {
                self.join.insert(&node.id, need)
            } else {
                self.leave.insert(&node.id, need)
            };
        }
    }

    /// How an operation stands; asks for the next try if it is time. Whether it asked.
    pub(crate) fn judge(
        &mut self,
        known: &Known<'a>,
        need: &mut Need<'a>,
        newest: &BTreeMap<&str, &OperationRun>,
        wait: Option<String>,
    ) -> bool {
        let last = newest.get(need.key.as_str());
        need.attempt = last.map_or(0, |run| run.attempt);
        let attempt = match last {
            None => 1,
            Some(run) if run.standing == CommandStanding::Succeeded => return false,
            Some(run) if !run.standing.is_final() => {
                need.progress = Progress::Runs;
                return false;
            }
            Some(run) => run.attempt.saturating_add(1),
        };
        if let Some(run) = last {
            let pause = RETRY_MS.saturating_mul(1_i64 << run.attempt.saturating_sub(1).min(16)).min(RETRY_MAX_MS);
            let due = run.ended_ms.unwrap_or(known.input.now_ms).saturating_add(pause);
            if due > known.input.now_ms {
                self.due(due);
                need.due_ms = Some(due);
                need.progress =
                    Progress::Failed(format!("{} {}: {}", need.operation.command, run.standing.name(), run.reason));
                return false;
            }
        }
        if let Some(wait) = wait {
            need.progress = Progress::Waits(wait);
            return false;
        }
        let Some(executor) = need.executor else {
            need.progress = Progress::Waits("no node works that could do it".to_owned());
            return false;
        };
        need.progress = Progress::Runs;
        let topology = known.input.topology.id.as_str();
        let id = Digest::of(&["operation", topology, &need.key, &attempt.to_string()]);
        self.wishes.push(OperationWish {
            id: CommandId(id.as_str().chars().take(32).collect()),
            key: need.key.clone(),
            attempt,
            node: executor.id.clone(),
            command: need.operation.command.clone(),
            args: need.args.clone(),
        });
        true
    }

    /// Something is due at a time, Unix ms.
    pub(crate) fn due(&mut self, at: i64) {
        self.due_ms = Some(self.due_ms.map_or(at, |other| other.min(at)));
    }

    /// What keeps a component from being configured first.
    pub fn unprepared(&self, component: &ComponentId) -> Option<&Need<'a>> {
        self.prepare.get(component)?.iter().find(|need| need.progress != Progress::Done)
    }
}

/// The node of a component that an operation with this key moves.
fn moved<'k>(key: &'k str, component: &ComponentId) -> Option<&'k str> {
    let of = key.strip_prefix("join ").or_else(|| key.strip_prefix("leave "))?;
    of.strip_prefix(component.as_str())?.strip_prefix('/')
}

/// A working node of a component, the one that it is about only if there is no other.
pub(crate) fn executor<'a>(known: &Known<'a>, component: &ComponentId, about: Option<&'a Node>) -> Option<&'a Node> {
    let wanted_up = |n: &&Node| known.wanted.get(&n.id).is_some_and(|w| w.wish.lifecycle == Lifecycle::Running);
    let fit = |n: &Node| works(n) && !known.broken(n) && !stopped(n) && known.silence(n) != Silence::Unheard;
    let others = known.recorded_of(component).filter(wanted_up).filter(|n| about.is_none_or(|a| a.id != n.id));
    others.filter(|n| fit(n)).min_by_key(|n| (n.ordinal, &n.name)).or(about.filter(|n| fit(n)))
}

pub(crate) fn fill(
    operation: &Operation,
    known: &Known<'_>,
    component: &Component,
    node: Option<&Node>,
) -> BTreeMap<String, Value> {
    let mut words = vec![
        ("{topology}", known.input.topology.name.clone()),
        ("{component}", component.name.clone()),
        ("{component_id}", component.id.to_string()),
    ];
    if let Some(node) = node {
        words.push(("{node}", node.name.clone()));
        words.push(("{ordinal}", node.ordinal.to_string()));
        words.push(("{role}", node.role.clone()));
    }
    let fill = |text: &str| words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
    let one = |value: &Value| value.as_str().map_or_else(|| value.clone(), |text| fill(text).into());
    operation.args.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}
