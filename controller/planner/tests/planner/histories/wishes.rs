//! What users ask for: every workflow, at any moment, good and bad.

use super::History;
use super::dice::Dice;
use crate::catalog::{self, VERSIONS};
use crate::requests::Options;
use straas_planner::Component;
use straas_schemas::job::JobKind;
use straas_schemas::{ComponentId, JobId, NodeId, Stage};

/// A component that copies its data itself and depends on the ensemble.
pub fn brokers(dice: &mut Dice, name: &str) -> Component {
    let kind = ["kafka", "kafka/install", "kafka/enforce"][dice.below(3)];
    catalog::component(name, kind, &[1 + u32::try_from(dice.below(3)).expect("small")], &["zk"])
}

/// A component of two roles.
pub fn workers(dice: &mut Dice, name: &str) -> Component {
    let kind = if dice.one_in(2) { "storm" } else { "storm/two" };
    catalog::component(name, kind, &[1, 1 + u32::try_from(dice.below(3)).expect("small")], &["zk"])
}

/// In words.
pub fn describe(component: &Component) -> String {
    let sizes: Vec<String> = component.groups.iter().map(|g| g.size.to_string()).collect();
    format!("{} {} × {}", component.kind, component.name, sizes.join("+"))
}

impl History {
    /// A user asks for something.
    pub fn wish(&mut self) {
        let Some(id) = self.component() else { return };
        let job = self.job();
        let name = self.world.store.components.iter().find(|c| c.id == id).map(|c| c.name.clone()).unwrap_or_default();
        let told = match self.dice.below(100) {
            0..13 => self.upgrade(&id, &job),
            13..28 => self.configure(&id, &job),
            28..38 => self.sync(&id, &job),
            38..50 => self.grow(&id, &job),
            50..62 => self.shrink_group(&id, &job),
            62..70 => self.other_host(&job),
            70..82 => self.services(&id, &job),
            82..96 => self.steer(&job),
            96..98 => self.world.remove(&id, &job).map(|()| "remove it".to_owned()),
            98 => self.add(&job),
            _ => self.dice.one_in(4).then(|| self.world.delete(&job)).flatten().map(|()| "delete all".to_owned()),
        };
        if let Some(told) = told {
            self.tell(|| format!("{job} ({name}): {told}"));
        }
    }

    fn options(&mut self) -> Options {
        Options {
            canary: [None, None, None, Some(false), Some(true)][self.dice.below(5)],
            max_failures: [None, None, Some(1), Some(2)][self.dice.below(4)],
        }
    }

    fn upgrade(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let version = VERSIONS[[0, 0, 1, 2, 2, 3][self.dice.below(6)]];
        let options = self.options();
        self.world.roll_out(id, (job, JobKind::Upgrade), options, |want, _| want.version = version.into())?;
        Some(format!("upgrade to {version}, {options:?}"))
    }

    fn configure(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let value = ["1", "2", "2", "3", "3", "4", "broken"][self.dice.below(7)];
        let commit = format!("c{}={value}", self.commit());
        let kind = if self.dice.one_in(4) { JobKind::Rollback } else { JobKind::Configure };
        let options = self.options();
        self.world.roll_out(id, (job, kind), options, |want, _| want.config.clone_from(&commit))?;
        Some(format!("{} {commit}, {options:?}", kind.name()))
    }

    fn sync(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let stage = Stage::ALL[self.dice.below(4)];
        let bad = if self.dice.one_in(4) { ":bad" } else { "" };
        let commit = format!("s{}:{stage}{bad}", self.commit());
        let options = self.options();
        let nodes = self.of_component(id);
        let one = self.dice.pick(&nodes).filter(|_| self.dice.clone().one_in(3)).cloned();
        let sync = (job, JobKind::Sync);
        match &one {
            Some(node) => self.world.roll_out(id, sync, options, |want, own| {
                own.remove(node);
                if want.scripts != commit {
                    own.insert(node.clone(), commit.clone());
                }
            })?,
            None => self.world.roll_out(id, sync, options, |want, own| {
                want.scripts.clone_from(&commit);
                own.clear();
            })?,
        }
        let whom = one.map_or("all".to_owned(), |node| self.name(&node));
        Some(format!("scripts of {whom} {commit}, {options:?}"))
    }

    fn of_component(&self, id: &ComponentId) -> Vec<NodeId> {
        self.world.store.nodes.iter().filter(|n| n.component == *id).map(|n| n.id.clone()).collect()
    }

    fn grow(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let groups = &self.world.store.components.iter().find(|c| c.id == *id)?.groups;
        let at = self.dice.below(groups.len());
        let count = 1 + u32::try_from(self.dice.below(2)).expect("small");
        if groups[at].size + count > 6 {
            return None;
        }
        self.world.flexup(id, at, count, job)?;
        Some(format!("{count} more of group {at}"))
    }

    fn shrink_group(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let mut nodes = self.of_component(id);
        let mut gone = Vec::new();
        for _ in 0..=self.dice.below(2) {
            if !nodes.is_empty() {
                let at = self.dice.below(nodes.len());
                gone.push(nodes.swap_remove(at));
            }
        }
        let names: Vec<String> = gone.iter().map(|id| self.name(id)).collect();
        self.world.flexdown(id, &gone, job)?;
        Some(format!("{} leave", names.join(", ")))
    }

    fn other_host(&mut self, job: &JobId) -> Option<String> {
        let node = self.node()?;
        self.world.replace(&node, job)?;
        Some(format!("replace {}", self.name(&node)))
    }

    fn services(&mut self, id: &ComponentId, job: &JobId) -> Option<String> {
        let kind = [JobKind::Start, JobKind::Stop, JobKind::Restart][self.dice.below(3)];
        let nodes = self.of_component(id);
        let one = self.dice.pick(&nodes).cloned().filter(|_| !self.dice.one_in(3));
        self.world.services(id, one.as_ref(), kind, job)?;
        Some(format!("{} {}", kind.name(), one.map_or("all".to_owned(), |node| self.name(&node))))
    }

    fn steer(&mut self, next: &JobId) -> Option<String> {
        let jobs: Vec<JobId> = self.world.store.jobs.iter().map(|job| job.id.clone()).collect();
        let job = self.dice.pick(&jobs)?.clone();
        match self.dice.below(3) {
            0 => self.world.pause(&job, true).map(|()| format!("pause {job}")),
            1 => self.world.pause(&job, false).map(|()| format!("resume {job}")),
            _ => self.world.cancel(&job, next).map(|()| format!("cancel {job}")),
        }
    }

    fn add(&mut self, job: &JobId) -> Option<String> {
        let at = self.commit();
        let mut dice = self.dice.clone();
        let name = if dice.one_in(2) { "kf" } else { "st" };
        let mut new = if name == "kf" { brokers(&mut dice, name) } else { workers(&mut dice, name) };
        new.id = format!("c-{name}-{at}").into();
        let text = format!("add {}", describe(&new));
        self.world.add(new, job).map(|()| text)
    }
}
