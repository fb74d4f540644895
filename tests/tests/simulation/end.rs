//! How it must be in the end: as it was asked for, and nothing left over.

use crate::history::History;
use crate::homes::Home;
use std::collections::BTreeSet;
use straas_converge::CommandFate;
use straas_schemas::command::CommandStanding;
use straas_schemas::job::JobStanding;
use straas_schemas::{Lifecycle, NodeId, TopologyId};

impl History {
    /// How it must be in the end.
    pub fn check_end(&mut self) {
        let jobs = self.site.database.jobs();
        for id in &self.ghost.confirmed {
            let Some(job) = jobs.iter().find(|job| job.id == *id) else { panic!("a request is lost: {id}") };
            let Some(end) = &job.ended else { panic!("not at rest: {id} has no end") };
            assert_ne!(end.standing, JobStanding::Failing, "a job ends in the middle: {id}");
        }
        for job in jobs {
            let standing = job.ended.map_or("open", |end| end.standing.name());
            self.told.count(&format!("{} {standing}", job.kind.name()));
        }
        for standing in self.check_commands() {
            self.told.count(&format!("command {standing}"));
        }
        let machines: BTreeSet<NodeId> =
            self.site.ground.soil().machines.keys().map(|node| NodeId(node.clone())).collect();
        let mut wanted = BTreeSet::new();
        for home in 0..self.homes.len() {
            self.check_home(home, &mut wanted);
        }
        assert_eq!(machines, wanted, "something is left: other hosts run than wanted");
    }

    /// How a topology must be in the end; its nodes join those that are wanted.
    fn check_home(&self, home: usize, wanted: &mut BTreeSet<NodeId>) {
        let Home { id, name, zone } = &self.homes[home];
        if self.site.database.topology(id).is_none() {
            let nodes: Vec<_> = self.site.database.nodes().into_iter().filter(|node| node.topology == *id).collect();
            assert!(nodes.is_empty(), "something is left: {nodes:?}");
            let branch = format!("{name}@{zone}");
            assert!(!self.site.shelf.branches().contains(&branch), "something is left: a branch");
            return;
        }
        let Some(input) = self.input(home) else { panic!("not at rest: nobody is up") };
        let plan = straas_planner::plan(&input);
        assert!(plan.assignments.is_empty() && plan.granted.is_empty(), "not at rest: something is planned");
        for component in &input.components {
            for node in input.nodes.iter().filter(|node| node.component == component.id) {
                assert!(self.is_wanted(&node.id), "something is left: {}", node.name);
                self.check_node(component, node);
                wanted.insert(node.id.clone());
            }
            let size: u32 = component.groups.iter().map(|group| group.size).sum();
            let there = input.nodes.iter().filter(|node| node.component == component.id).count();
            assert_eq!(there, size as usize, "a request is lost: nodes of {}", component.name);
        }
        self.check_released(id);
    }

    /// A node is what is wanted of it, and does what it should.
    fn check_node(&self, component: &straas_planner::Component, node: &straas_planner::Node) {
        let name = &node.name;
        let agent = self.agents.values().find(|agent| agent.node == node.id);
        let agent = agent.unwrap_or_else(|| panic!("not at rest: {name} has no agent"));
        let stopped = component.wishes.get(&node.id).is_some_and(|wish| wish.lifecycle == Lifecycle::Stopped);
        let own = component.wishes.get(&node.id).and_then(|wish| wish.target.as_ref());
        let target = own.unwrap_or(&component.target);
        let has = agent.disk.assignment.as_ref().unwrap_or_else(|| panic!("not at rest: {name} has nothing"));
        let made_of = (&has.version, &has.config, &has.scripts);
        assert_eq!(
            made_of,
            (&target.version, &target.config, &target.scripts),
            "a request is lost: {name} is made of something else"
        );
        let truth = &agent.truth;
        if stopped {
            assert!(!truth.active, "a request is lost: {name} is to be stopped, and runs");
        } else {
            let works = truth.active && truth.ever_valid && !truth.disturbed && !truth.insane;
            assert!(works, "not at rest: {name} does not work: {truth:?}");
        }
    }

    /// What is recorded of commands is what became of them.
    fn check_commands(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        for (id, fates) in &self.ghost.fates {
            let Some(record) = self.site.database.command(id) else { continue };
            let on = self.agents.values().any(|agent| agent.node == record.node);
            let told = match record.standing {
                CommandStanding::Succeeded => fates.contains(&CommandFate::Succeeded),
                CommandStanding::Failed => fates.contains(&CommandFate::Failed),
                // the host that knew it is gone, or its agent died in the middle of another run of it
                CommandStanding::Unknown | CommandStanding::Expired => true,
                CommandStanding::Cancelled => true,
                CommandStanding::Queued | CommandStanding::Running => !on,
            };
            assert!(told, "a report is lost: {id} ended {fates:?} and is {}", record.standing.name());
            all.push(record.standing.name());
        }
        all
    }

    /// What removed components had on others is gone, or their job says that it was left.
    fn check_released(&self, topology: &TopologyId) {
        let jobs = self.site.database.jobs();
        for id in self
            .ghost
            .touched
            .iter()
            .filter(|id| crate::apart::is_of(id, topology) && self.site.database.component(id).is_none())
        {
            let key = format!("release {id}/");
            let done = self.ghost.done.iter().any(|done| done.starts_with(&key));
            let says = jobs.iter().filter(|job| job.component.as_ref() == Some(id)).any(|job| {
                let document = job.ended.as_ref().and_then(|end| end.document.as_ref());
                document.is_some_and(|document| document.to_string().contains("left behind"))
            });
            assert!(done || says, "something is left: of {id} on what it depended on");
        }
    }
}
