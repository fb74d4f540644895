//! What requests make of what is wanted, as `controller/src/wanted.rs` and `controller/src/http/` do
//! it: the same checks, the same jobs, the same way a second change takes the place of the first.
//! `None` where the door refuses, or where there is nothing to change.

use crate::carry::Undo;
use crate::catalog;
use crate::world::World;
use std::collections::BTreeMap;
use straas_planner::{Component, Group, Host, NodeWish, Quarantined, Rollout, Target};
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, JobId, Lifecycle, NodeId};

/// How many failing nodes hold a rollout, where nobody says.
const MAX_FAILURES: u32 = 1;

/// What a rollout is asked for with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub canary: Option<bool>,
    pub max_failures: Option<u32>,
}

/// The ordinals of a group's nodes.
pub fn ordinals(group: &Group) -> Vec<u32> {
    (1..).filter(|ordinal| !group.without.contains(ordinal)).take(group.size as usize).collect()
}

/// Forgets what is wanted of nodes that are as usual.
pub fn forget_usual(component: &mut Component) {
    component.wishes.retain(|_, wish| *wish != NodeWish::default());
}

/// What nodes are made of.
type Makes = (String, String, String, BTreeMap<NodeId, String>);

fn makes(target: &Target, own: BTreeMap<NodeId, String>) -> Makes {
    (target.version.clone(), target.config.clone(), target.scripts.clone(), own)
}

fn own(component: &Component) -> BTreeMap<NodeId, String> {
    let own = |(id, wish): (&NodeId, &NodeWish)| Some((id.clone(), wish.target.as_ref()?.scripts.clone()));
    component.wishes.iter().filter_map(own).collect()
}

impl World {
    /// Where a component stands that may be changed.
    fn open(&mut self, id: &ComponentId) -> Option<usize> {
        let at = self.store.components.iter().position(|c| c.id == *id && !c.removed)?;
        if self.store.topology.deleting {
            return None;
        }
        let nodes = &self.store.nodes;
        self.store.components[at].wishes.retain(|id, _| nodes.iter().any(|n| n.id == *id));
        Some(at)
    }

    /// Another version, configuration or scripts.
    pub fn roll_out(
        &mut self,
        id: &ComponentId,
        (job, kind): (&JobId, JobKind),
        options: Options,
        change: impl FnOnce(&mut Target, &mut BTreeMap<NodeId, String>),
    ) -> Option<()> {
        let at = self.open(id)?;
        let component = &mut self.store.components[at];
        let before_own = own(component);
        let now = makes(&component.target, before_own.clone());
        let (mut target, mut scripts) = (component.target.clone(), before_own.clone());
        change(&mut target, &mut scripts);
        if makes(&target, scripts.clone()) == now {
            return None;
        }
        for what in [version_of(component, &target), Quarantined::Scripts(target.scripts.clone())] {
            let new = match &what {
                Quarantined::Version { version, .. } => *version != component.target.version,
                Quarantined::Scripts(_) => target.scripts != component.target.scripts,
            };
            if new && self.quarantine.contains(&what) {
                return None;
            }
        }
        let refused = |s: &String| self.quarantine.contains(&Quarantined::Scripts(s.clone()));
        if scripts.iter().any(|(id, s)| before_own.get(id) != Some(s) && refused(s)) {
            return None;
        }
        let target = catalog::target(&component.kind, &target.version, &target.config, &target.scripts);
        let was = std::mem::replace(&mut component.target, target.clone());
        component.wishes.values_mut().for_each(|wish| wish.target = None);
        for (node, commit) in &scripts {
            let own = catalog::with_scripts(&component.kind, &target, commit);
            component.wishes.entry(node.clone()).or_default().target = Some(own);
        }
        forget_usual(component);
        let (before, before_own) = match component.rollout.take() {
            Some(old) if old.reverted.is_none() => (old.before, self.own_before.remove(id).unwrap_or_default()),
            _ => (was, before_own),
        };
        let back = makes(&before, before_own.clone()) == makes(&target, scripts);
        let canary = options.canary.unwrap_or(kind != JobKind::Rollback) && !back;
        let max_failures = options.max_failures.unwrap_or(MAX_FAILURES);
        component.rollout =
            Some(Rollout { job: job.clone(), before, canary, max_failures, paused: false, reverted: None });
        self.own_before.insert(id.clone(), before_own);
        self.begin_job(kind, Some(id), job);
        Some(())
    }

    /// More nodes.
    pub fn flexup(&mut self, id: &ComponentId, group: usize, count: u32, job: &JobId) -> Option<()> {
        let at = self.open(id)?;
        let group = self.store.components[at].groups.get_mut(group)?;
        let before = ordinals(group);
        group.size += count;
        let joined = ordinals(group).into_iter().filter(|o| !before.contains(o)).collect();
        let undo = Undo::Joined(group.name.clone(), joined);
        self.begin_job(JobKind::Flexup, Some(id), job);
        self.undo.insert(job.clone(), undo);
        Some(())
    }

    /// These nodes leave; at least one of their group stays.
    pub fn flexdown(&mut self, id: &ComponentId, nodes: &[NodeId], job: &JobId) -> Option<()> {
        let at = self.open(id)?;
        let node = |id: &NodeId| self.store.nodes.iter().find(|n| n.id == *id);
        let name = node(nodes.first()?)?.group.clone();
        let gone: Vec<u32> =
            nodes.iter().filter_map(|id| Some(node(id).filter(|n| n.group == name)?.ordinal)).collect();
        let group = self.store.components[at].groups.iter_mut().find(|g| g.name == name)?;
        let there = ordinals(group);
        if gone.iter().any(|o| !there.contains(o)) || gone.len() >= there.len() {
            return None;
        }
        leave(group, &gone);
        self.begin_job(JobKind::Flexdown, Some(id), job);
        self.undo.insert(job.clone(), Undo::Left(name, gone));
        Some(())
    }

    /// Another host for a node.
    pub fn replace(&mut self, node: &NodeId, job: &JobId) -> Option<()> {
        let (node, at) = self.wanted(node)?;
        let component = &mut self.store.components[at];
        let wish = component.wishes.entry(node.id.clone()).or_default();
        if wish.replacements > node.host_number || node.host != Host::Up {
            forget_usual(component);
            return None;
        }
        wish.replacements = node.host_number + 1;
        let id = component.id.clone();
        self.begin_job(JobKind::Replace, Some(&id), job);
        Some(())
    }

    /// A node that stays, and where its component stands.
    fn wanted(&mut self, id: &NodeId) -> Option<(straas_planner::Node, usize)> {
        let node = self.store.nodes.iter().find(|n| n.id == *id)?.clone();
        let at = self.open(&node.component)?;
        let group = self.store.components[at].groups.iter().find(|g| g.name == node.group)?;
        ordinals(group).contains(&node.ordinal).then_some((node, at))
    }

    /// Services of one node, or of all of a component.
    pub fn services(&mut self, id: &ComponentId, only: Option<&NodeId>, kind: JobKind, job: &JobId) -> Option<()> {
        let at = self.open(id)?;
        let ids = self.store.nodes.iter().filter(|n| n.component == *id && only.is_none_or(|o| n.id == *o));
        let ids: Vec<NodeId> = ids.map(|n| n.id.clone()).collect();
        let ids: Vec<NodeId> = ids.into_iter().filter(|id| self.wanted(id).is_some()).collect();
        let component = &mut self.store.components[at];
        let mut before = BTreeMap::new();
        for node in ids {
            let wish = component.wishes.entry(node.clone()).or_default();
            let stopped = wish.lifecycle == Lifecycle::Stopped;
            match kind {
                JobKind::Restart if !stopped => {
                    wish.restarts += 1;
                    before.insert(node, false);
                }
                JobKind::Stop if !stopped => {
                    wish.lifecycle = Lifecycle::Stopped;
                    before.insert(node, false);
                }
                JobKind::Start if stopped => {
                    wish.lifecycle = Lifecycle::Running;
                    before.insert(node, true);
                }
                _ => {}
            }
        }
        forget_usual(component);
        if before.is_empty() {
            return None;
        }
        self.begin_job(kind, Some(id), job);
        if kind != JobKind::Restart {
            self.undo.insert(job.clone(), Undo::Stopped(before));
        }
        Some(())
    }

    /// A component goes: nobody may depend on it, and another one has to be there.
    pub fn remove(&mut self, id: &ComponentId, job: &JobId) -> Option<()> {
        let at = self.open(id)?;
        let name = self.store.components[at].name.clone();
        let mut others = self.store.components.iter().filter(|c| c.id != *id);
        if others.any(|c| c.depends_on.contains(&name)) {
            return None;
        }
        if self.store.components.iter().filter(|c| c.id != *id).all(|c| c.removed) {
            return None;
        }
        self.store.components[at].removed = true;
        self.begin_job(JobKind::Remove, Some(id), job);
        Some(())
    }

    /// A component comes.
    pub fn add(&mut self, component: Component, job: &JobId) -> Option<()> {
        let taken = self.store.components.iter().any(|c| c.name == component.name || c.id == component.id);
        let missing = |name: &String| !self.store.components.iter().any(|c| c.name == *name && !c.removed);
        if taken || self.store.topology.deleting || component.depends_on.iter().any(missing) {
            return None;
        }
        let id = component.id.clone();
        self.store.components.push(component);
        self.begin_job(JobKind::Create, Some(&id), job);
        Some(())
    }

    /// The whole topology goes.
    pub fn delete(&mut self, job: &JobId) -> Option<()> {
        if self.store.topology.deleting {
            return None;
        }
        self.store.topology.deleting = true;
        self.begin_job(JobKind::Delete, None, job);
        Some(())
    }

    /// A rollout is paused or goes on.
    pub fn pause(&mut self, job: &JobId, paused: bool) -> Option<()> {
        let of_it = |r: &&mut Rollout| r.job == *job && r.reverted.is_none();
        let failed = self.failed(job);
        let rollout = self.store.components.iter_mut().filter_map(|c| c.rollout.as_mut()).find(of_it)?;
        let before = (rollout.paused, rollout.max_failures);
        rollout.paused = paused;
        if !paused {
            rollout.max_failures = rollout.max_failures.max(failed + 1);
        }
        (before != (rollout.paused, rollout.max_failures)).then_some(())
    }

    fn failed(&self, job: &JobId) -> u32 {
        let view = straas_planner::view(&self.store);
        let rollout = view.components.into_iter().filter_map(|c| c.rollout).find(|r| r.job == *job);
        rollout.map_or(0, |r| u32::try_from(r.failed.len()).expect("few"))
    }

    /// A job is taken back; `next` is the job of what is left to do.
    pub fn cancel(&mut self, job: &JobId, next: &JobId) -> Option<()> {
        let open = self.store.jobs.iter().find(|open| open.id == *job)?.clone();
        let id = open.component.clone().filter(|_| open.kind != JobKind::Create)?;
        let at = self.open(&id)?;
        let undo = self.undo.get(job).cloned();
        let rolls = self.store.components[at].rollout.as_ref().filter(|r| r.job == *job);
        if rolls.is_some_and(|r| r.reverted.is_some()) || (rolls.is_none() && undo.is_none()) {
            return None;
        }
        let waves = rolls.is_some();
        let left = match undo {
            None => None,
            Some(undo) => Some(self.undo_numbers(at, &undo)?),
        };
        if waves {
            self.turn_back(at, "cancelled by a user", true);
            return Some(());
        }
        self.store.jobs.retain(|open| open.id != *job);
        if let Some(kind) = left {
            self.begin_job(kind, Some(&id), next);
        }
        Some(())
    }

    fn undo_numbers(&mut self, at: usize, undo: &Undo) -> Option<JobKind> {
        let component = &self.store.components[at];
        if let Undo::Left(group, gone) = undo {
            let node = |o: &u32| self.store.nodes.iter().find(|n| n.group == *group && n.ordinal == *o);
            let drained = |name: &str| {
                let of_it = |key: &str| key.starts_with("leave ") && key.ends_with(name);
                self.store.operations.iter().any(|run| of_it(&run.key))
            };
            let stays = |o: &u32| node(o).is_some_and(|n| n.host == Host::Up && !drained(&n.name));
            if !gone.iter().all(stays) {
                return None;
            }
        }
        let (nodes, component) = (&self.store.nodes, {
            let _ = component;
            &mut self.store.components[at]
        });
        match undo {
            Undo::Joined(group, ordinals) => {
                leave(component.groups.iter_mut().find(|g| g.name == *group)?, ordinals);
                Some(JobKind::Flexdown)
            }
            Undo::Left(group, ordinals) => {
                let group = component.groups.iter_mut().find(|g| g.name == *group)?;
                group.without.retain(|o| !ordinals.contains(o));
                group.size += u32::try_from(ordinals.len()).expect("few");
                Some(JobKind::Flexup)
            }
            Undo::Stopped(before) => {
                let kind = if before.values().any(|stopped| *stopped) { JobKind::Stop } else { JobKind::Start };
                for (id, stopped) in before.iter().filter(|(id, _)| nodes.iter().any(|n| n.id == **id)) {
                    let lifecycle = if *stopped { Lifecycle::Stopped } else { Lifecycle::Running };
                    component.wishes.entry(id.clone()).or_default().lifecycle = lifecycle;
                }
                forget_usual(component);
                Some(kind)
            }
        }
    }
}

fn leave(group: &mut Group, gone: &[u32]) {
    let gone: Vec<u32> = ordinals(group).into_iter().filter(|o| gone.contains(o)).collect();
    group.size -= u32::try_from(gone.len()).expect("few");
    group.without.extend(gone);
    group.without.sort_unstable();
}

fn version_of(component: &Component, target: &Target) -> Quarantined {
    Quarantined::Version { kind: component.kind.clone(), version: target.version.clone() }
}
