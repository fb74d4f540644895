//! Workflows one at a time in the ghost world, each driven until nothing changes.
//!
//! After every stage the sets of members that hosts really run with are compared: two majorities of
//! two of them must have a node in common.

use crate::agent::Task;
use crate::fixture;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Host, NodeWish, Plan, Rollout};
use straas_schemas::metadata::Membership;
use straas_schemas::{NodeId, Outcome, Stage};

/// Rounds in which one change must come to rest.
const ROUNDS: u32 = 200;

pub struct Life {
    pub world: World,
    /// The set of members that each host is configured with.
    sets: BTreeMap<NodeId, BTreeSet<String>>,
    reverted: u32,
    pub restarted: BTreeSet<String>,
}

impl Life {
    pub fn new(size: u32, membership: Membership) -> Self {
        let mut component = fixture::component("zk", "zookeeper", size, &[], 1);
        component.target.known.as_mut().expect("readable").meta.membership = membership;
        let world = World::new(fixture::input(vec![component]));
        let mut this = Self { world, sets: BTreeMap::new(), reverted: 0, restarted: BTreeSet::new() };
        this.settle();
        this
    }

    pub fn component(&mut self) -> &mut straas_planner::Component {
        &mut self.world.store.components[0]
    }

    /// Everything works until nothing changes.
    pub fn settle(&mut self) {
        self.restarted.clear();
        for round in 0..ROUNDS {
            self.world.store.now_ms += 1_000;
            let plan = self.world.plan();
            let quiet = self.carry_out(&plan);
            let ids: Vec<_> = self.world.store.nodes.iter().map(|n| n.id.clone()).collect();
            for id in &ids {
                self.round(id, &plan);
            }
            let next = straas_planner::plan(&self.world.store);
            let over = next.assignments.is_empty() && next.rolled_out.is_empty() && next.reverts.is_empty();
            if quiet && over && round > 3 && self.at_rest() {
                return;
            }
        }
        let view = straas_planner::view(&self.world.store);
        let why: Vec<_> = view.components[0].nodes.iter().map(|n| (&n.name, &n.why)).collect();
        panic!("not at rest: {why:#?}");
    }

    fn at_rest(&self) -> bool {
        let view = straas_planner::view(&self.world.store);
        view.components[0].nodes.iter().all(|n| n.why.cause == straas_schemas::view::Cause::Converged)
    }

    fn carry_out(&mut self, plan: &Plan) -> bool {
        self.reverted += u32::try_from(plan.reverts.len()).expect("few");
        plan.assignments.is_empty() && plan.reverts.is_empty() && plan.no_hosts.is_empty() && plan.rolled_out.is_empty()
    }

    fn round(&mut self, id: &NodeId, plan: &Plan) {
        if plan.no_hosts.contains(id) {
            self.sets.remove(id);
            self.world.host_gone(id);
            return;
        }
        let wish = plan.hosts.iter().find(|h| h.node == *id);
        if let (Some(wish), Some(node)) = (wish, self.world.node(id))
            && node.host != Host::Up
        {
            node.host_number = wish.number;
            self.world.host_up(id);
            self.world.enrol(id);
        }
        let offer = self.world.node(id).and_then(|n| n.assignment.clone());
        if let (Some(offer), Some(agent)) = (offer, self.world.agents.get_mut(id)) {
            agent.offered(&offer);
            agent.confirm();
        }
        let begun = self.world.begin(id);
        if begun == Some(Task::Stage(Stage::Config)) {
            let agent = &self.world.agents[id];
            self.restarted.insert(agent.name.clone());
            let context = &agent.assignment.as_ref().expect("it runs").context;
            let peers = context["peers"].as_array().expect("an array");
            let names = peers.iter().filter_map(|p| p["name"].as_str()).map(str::to_owned).collect();
            self.sets.insert(id.clone(), names);
            self.check_majorities();
        }
        if self.world.finish(id) == Some(Task::Stage(Stage::Config)) {
            assert_eq!(self.world.agents[id].records[&Stage::Config].outcome, Some(Outcome::Succeeded));
        }
        let works = self.world.works(id);
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        agent.look(works);
        let (beat, incarnation) = (agent.heartbeat(), agent.incarnation);
        let reports = std::mem::take(&mut agent.outbox);
        self.world.receive_heartbeat(id, beat);
        self.world.receive_reports(id, incarnation, &reports);
    }

    fn check_majorities(&self) {
        let known = self.world.store.components[0].target.known.as_ref().expect("readable");
        if known.meta.membership == Membership::Free {
            return;
        }
        let name = |id: &NodeId| self.world.store.nodes.iter().find(|n| n.id == *id).map(|n| n.name.clone());
        let alive: BTreeSet<String> = self.sets.keys().filter_map(name).collect();
        for a in self.sets.values() {
            for b in self.sets.values() {
                // the largest part of `a` that leaves a majority of `b` untouched
                let rest = a.difference(b).filter(|n| alive.contains(*n)).count();
                let both = a.intersection(b).filter(|n| alive.contains(*n)).count();
                let others = b.difference(a).filter(|n| alive.contains(*n)).count();
                let (need_a, need_b) = (a.len() / 2 + 1, b.len() / 2 + 1);
                let shared = need_a.saturating_sub(rest) + need_b.saturating_sub(others);
                assert!(shared > both, "{a:?} and {b:?} have majorities without a common node");
            }
        }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.world.agents.values().map(|a| a.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn version(&mut self, version: &str) {
        let component = self.component();
        let before = component.target.clone();
        component.target.version = version.to_owned();
        component.target.scripts = format!("commit-{version}");
        let job = "job-u".into();
        component.rollout = Some(Rollout { job, before, canary: true, max_failures: 1, paused: false, reverted: None });
    }
}

#[test]
fn members_join_and_leave_one_at_a_time() {
    let mut life = Life::new(1, Membership::Stepwise);
    for size in [3, 5, 3, 1] {
        life.component().groups[0].size = size;
        life.settle();
        assert_eq!(life.names().len(), size as usize, "{:?}", life.names());
    }
}

#[test]
fn a_member_leaves_while_another_joins() {
    let mut life = Life::new(3, Membership::Stepwise);
    life.component().groups[0].without = vec![1, 3];
    life.settle();
    assert_eq!(life.names(), ["t-zk-2", "t-zk-4", "t-zk-5"]);
}

#[test]
fn who_leads_does_not_wait_for_those_that_leave() {
    let mut life = Life::new(5, Membership::Stepwise);
    let leader = life.world.id("t-zk-5");
    life.world.agents.get_mut(&leader).expect("an agent").leader = true;
    life.settle();
    let group = &mut life.component().groups[0];
    (group.size, group.without) = (3, vec![1, 3]);
    life.settle();
    assert_eq!(life.names(), ["t-zk-2", "t-zk-4", "t-zk-5"]);
}

#[test]
fn the_only_one_with_the_data_stays_until_another_has_it() {
    let mut life = Life::new(1, Membership::Stepwise);
    let group = &mut life.component().groups[0];
    (group.size, group.without) = (2, vec![1]);
    life.settle();
    assert_eq!(life.names(), ["t-zk-2", "t-zk-3"]);
}

#[test]
fn an_upgrade_reaches_everybody_behind_its_canary() {
    let mut life = Life::new(3, Membership::Free);
    life.version("3.0");
    life.settle();
    let view = straas_planner::view(&life.world.store);
    assert!(life.component().rollout.is_none(), "it is not over: {:#?}", view.components[0].rollout);
    assert!(life.world.store.nodes.iter().all(|n| n.assignment.as_ref().is_some_and(|a| a.version == "3.0")));
    assert_eq!(life.reverted, 0);
}

#[test]
fn an_upgrade_whose_canary_fails_is_turned_back() {
    let mut life = Life::new(3, Membership::Free);
    life.version("2.0-bad");
    life.settle();
    assert_eq!(life.reverted, 1);
    assert!(life.world.store.nodes.iter().all(|n| n.assignment.as_ref().is_some_and(|a| a.version == "1.0")));
    assert!(life.component().rollout.is_none(), "it is not over");
    assert!(life.restarted.is_empty(), "installing failed, yet these were restarted: {:?}", life.restarted);
}

#[test]
fn a_host_is_replaced_and_a_restart_reaches_one_node() {
    for membership in [Membership::Free, Membership::Stepwise] {
        let mut life = Life::new(3, membership);
        let id = life.world.id("t-zk-2");
        life.component().wishes.insert(id.clone(), NodeWish { replacements: 1, ..NodeWish::default() });
        life.settle();
        assert_eq!(life.world.node(&id).expect("it stays").host_number, 1);
        life.component().wishes.insert(id, NodeWish { replacements: 1, restarts: 1, ..NodeWish::default() });
        life.settle();
        assert_eq!(life.restarted, BTreeSet::from(["t-zk-2".to_owned()]));
    }
}

#[test]
fn with_an_alias_a_replaced_host_is_no_reason_to_configure_others() {
    let mut life = Life::new(3, Membership::Free);
    life.component().groups[0].cname = true;
    life.settle();
    let id = life.world.id("t-zk-2");
    life.component().wishes.insert(id, NodeWish { replacements: 1, ..NodeWish::default() });
    life.settle();
    assert_eq!(life.restarted, BTreeSet::from(["t-zk-2".to_owned()]));
}

#[test]
fn a_dry_run_names_the_members_that_are_configured_anew() {
    for membership in [Membership::Free, Membership::Stepwise] {
        let mut life = Life::new(3, membership);
        let now = life.world.store.clone();
        life.component().groups[0].size = 5;
        let told = straas_planner::predict(&now, &life.world.store);
        life.settle();
        let named: BTreeSet<String> = told.nodes.keys().cloned().collect();
        assert_eq!(named, life.restarted, "{membership:?}: {:#?}", told.nodes);
        let same = straas_planner::predict(&life.world.store, &life.world.store);
        assert!(same.nodes.is_empty() && same.steps.is_empty() && same.changes.is_empty(), "{same:#?}");
    }
}
