//! What must hold: of every plan, and of what really happens on the nodes.

use super::History;
use crate::agent::{Agent, Task};
use crate::carry::{HostTask, Life, Moment};
use crate::requests::ordinals;
use std::collections::{BTreeMap, BTreeSet};
use straas_planner::{Component, Node, Plan, Quarantined, Target};
use straas_schemas::command::CommandStanding;
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::job::JobStanding;
use straas_schemas::metadata::Membership;
use straas_schemas::{Assignment, ComponentId, Digest, Gate, JobId, Lifecycle, NodeId, Stage};

/// What really happened, and nobody but us remembers.
#[derive(Default)]
pub struct Ghost {
    /// Operations that a node really did.
    pub done: BTreeSet<String>,
    /// Components whose data has not all its copies.
    pub lagging: BTreeSet<ComponentId>,
    /// Roles of which a node worked with what a job rolls out.
    validated: BTreeSet<(JobId, String)>,
    /// Places whose node was forgotten.
    gone: BTreeSet<(ComponentId, String, u32)>,
    places: BTreeMap<NodeId, (String, u32, String)>,
    turned_back: BTreeSet<JobId>,
    /// Components that may have something on those that they depend on.
    touched: BTreeSet<ComponentId>,
}

fn made_of(a: &Assignment) -> (&str, &str, &str) {
    (&a.version, &a.config, &a.scripts)
}

fn words(target: &Target) -> (&str, &str, &str) {
    (&target.version, &target.config, &target.scripts)
}

/// What a node gets in the end.
fn aim<'c>(component: &'c Component, node: &NodeId) -> &'c Target {
    component.wishes.get(node).and_then(|wish| wish.target.as_ref()).unwrap_or(&component.target)
}

fn stopped(component: &Component, node: &NodeId) -> bool {
    component.wishes.get(node).is_some_and(|wish| wish.lifecycle == Lifecycle::Stopped)
}

fn serves(node: &Node) -> bool {
    node.worked
}

fn says(node: &Node, status: ServiceStatus) -> bool {
    node.heartbeat.as_ref().is_some_and(|(beat, _)| beat.service == status)
}

fn permit(a: &Assignment) -> Vec<&Digest> {
    let gates = a.stages.iter().map(|order| &order.gate);
    gates.filter_map(|gate| if let Gate::Permit { granted } = gate { granted.as_ref() } else { None }).collect()
}

/// Whether a node has a permit that it is not through with.
fn holds(node: &Node) -> bool {
    node.assignment.as_ref().is_some_and(|a| !permit(a).is_empty() && node.converged_generation < a.generation)
}

impl History {
    fn of(&self, id: &NodeId) -> Option<(&Node, &Component)> {
        let node = self.world.store.nodes.iter().find(|n| n.id == *id)?;
        Some((node, self.world.store.components.iter().find(|c| c.id == node.component)?))
    }

    fn is_wanted(&self, node: &Node, component: &Component) -> bool {
        let group = component.groups.iter().find(|g| g.name == node.group);
        let place = group.is_some_and(|g| ordinals(g).contains(&node.ordinal));
        place && !component.removed && !self.world.store.topology.deleting
    }

    /// What a plan says must be right by what is recorded and by what really is.
    pub fn check_plan(&mut self, plan: &Plan) {
        self.remember();
        for new in &plan.add_nodes {
            let place = (new.component.clone(), new.group.clone(), new.ordinal);
            assert!(!self.ghost.gone.contains(&place), "a place gets a second life: {}", new.name);
        }
        for id in &plan.no_hosts {
            self.check_removal(id);
        }
        for new in &plan.assignments {
            self.check_assignment(plan, new);
        }
        self.check_operations(plan);
        for id in &plan.forget_components {
            self.check_released(plan, id);
        }
        for revert in &plan.reverts {
            let rollout = self.world.store.components.iter().find(|c| c.id == revert.component);
            let rollout = rollout.and_then(|c| c.rollout.as_ref()).expect("a rollout to turn back");
            assert!(rollout.job == revert.job && rollout.reverted.is_none(), "turned back twice: {}", revert.job);
            assert!(!self.ghost.turned_back.contains(&revert.job), "turned back again: {}", revert.job);
        }
        for id in &plan.rolled_out {
            let component = self.world.store.components.iter().find(|c| c.id == *id).expect("a component");
            self.check_all_have(component, "a rollout is over before everybody has it");
        }
        for job in plan.jobs.iter().filter(|job| job.standing == JobStanding::Succeeded) {
            let component = self.world.store.components.iter().find(|c| job.component.as_ref() == Some(&c.id));
            if let Some(component) = component.filter(|c| !c.removed) {
                self.check_all_have(component, "a job has succeeded before everybody is as wanted");
            }
        }
    }

    /// What is so now and may not be so later.
    fn remember(&mut self) {
        for component in &self.world.store.components {
            let Some(rollout) = &component.rollout else { continue };
            for node in self.world.store.nodes.iter().filter(|n| n.component == component.id) {
                let Some(agent) = self.world.agents.get(&node.id) else { continue };
                let Some(has) = &agent.assignment else { continue };
                let done = agent.next().is_none() && agent.running.is_none() && !agent.start_owed;
                let same = words(&component.target) == words(&rollout.before);
                let concerned = !same || aim(component, &node.id).scripts != component.target.scripts;
                if made_of(has) == words(aim(component, &node.id)) && done && agent.to_run() && concerned {
                    self.ghost.validated.insert((rollout.job.clone(), node.role.clone()));
                }
            }
        }
        for node in &self.world.store.nodes {
            let place = (node.name.clone(), node.ordinal, node.role.clone());
            let known = self.ghost.places.entry(node.id.clone()).or_insert_with(|| place.clone());
            assert_eq!(*known, place, "a node is at another place");
        }
    }

    fn check_all_have(&self, component: &Component, what: &str) {
        for node in self.world.store.nodes.iter().filter(|n| n.component == component.id) {
            let Some(agent) = self.world.agents.get(&node.id) else { continue };
            if self.is_wanted(node, component) {
                let has = agent.assignment.as_ref().map(made_of);
                assert_eq!(has, Some(words(aim(component, &node.id))), "{what}: {}", node.name);
            }
        }
    }

    /// A host that goes is one that nobody wants, or that is to be replaced.
    fn check_removal(&self, id: &NodeId) {
        let Some((node, component)) = self.of(id) else { return };
        if self.is_wanted(node, component) {
            let wish = component.wishes.get(id).map_or(0, |wish| wish.replacements);
            assert!(wish > node.host_number, "a wanted host is to be removed: {}", node.name);
            return;
        }
        let whole = component.removed || self.world.store.topology.deleting;
        let known = component.target.known.as_ref().expect("readable");
        let drains = known.meta.role(&node.role).is_some_and(|role| role.leave.is_some());
        let there = self.world.machines.contains_key(id) && self.world.served.contains(id);
        if !whole && drains && there {
            let key = format!("leave {}/{}", component.id, node.name);
            assert!(self.ghost.done.contains(&key), "a host goes before it is drained: {}", node.name);
        }
    }

    fn check_assignment(&self, plan: &Plan, new: &Assignment) {
        let Some((node, component)) = self.of(&new.node) else { return };
        let (last, name) = (node.assignment.as_ref(), &node.name);
        assert_eq!(new.generation, last.map_or(0, |a| a.generation) + 1, "generations rise by one");
        assert!(last.is_none_or(|a| a.content_digest() != new.content_digest()), "a generation without a change");
        // one that leaves runs as long as the others need it, whatever was wanted of it before
        let stops = stopped(component, &node.id) && self.is_wanted(node, component);
        let halts = self.world.is_replaced(&node.id) && new.lifecycle == Lifecycle::Stopped;
        assert!(
            halts || (new.lifecycle == Lifecycle::Stopped) == stops,
            "{name} is not as it is to be: stopped {stops}"
        );
        assert_eq!(new.context["node"]["ordinal"], node.ordinal, "{name} has another number");
        self.check_scripts(component, node, new);
        let Some(last) = last else { return };
        let fresh = |what: &Quarantined| match what {
            Quarantined::Version { kind, version } => {
                (kind, version) == (&component.kind, &new.version) && last.version != *version
            }
            Quarantined::Scripts(commit) => new.scripts == *commit && last.scripts != *commit,
        };
        let bad = self.world.quarantine.iter().find(|what| fresh(what));
        assert!(bad.is_none(), "what is in quarantine is given out: {name} gets {bad:?}");
        let target = words(aim(component, &node.id));
        if made_of(new) == target && made_of(last) != target {
            self.check_let_through(plan, component, node, new.lifecycle);
        }
        let given = permit(new).into_iter().any(|digest| !permit(last).contains(&digest));
        if given && !holds(node) && serves(node) && says(node, ServiceStatus::Active) {
            self.check_settled(component, node);
        }
    }

    /// Scripts of one node's own are for that node.
    fn check_scripts(&self, component: &Component, node: &Node, new: &Assignment) {
        let before = component.rollout.as_ref().map(|r| &r.before.scripts);
        let last = node.assignment.as_ref().map(|a| &a.scripts);
        let own = component.wishes.get(&node.id).and_then(|wish| wish.target.as_ref()).map(|t| &t.scripts);
        let may = [Some(&component.target.scripts), before, last, own];
        assert!(may.contains(&Some(&new.scripts)), "{} gets the scripts of another: {}", node.name, new.scripts);
    }

    /// A node gets what a change brings: it is the canary, or these have validated.
    fn check_let_through(&self, plan: &Plan, component: &Component, node: &Node, lifecycle: Lifecycle) {
        let Some(rollout) = component.rollout.as_ref().filter(|r| r.reverted.is_none()) else { return };
        let held = plan.jobs.iter().any(|job| job.id == rollout.job && job.standing == JobStanding::Held);
        assert!(!rollout.paused, "a paused change reaches {}", node.name);
        assert!(!held, "a held change reaches {}", node.name);
        let nodes = || self.world.store.nodes.iter().filter(|n| n.component == component.id && serves(n));
        // whoever holds a permit may have begun with it, and nobody can tell: it is disturbed as far as is
        // known, and without a correction what cannot work would keep its permit for ever
        let lost = !serves(node) || !node.host.is_up() || says(node, ServiceStatus::Inactive) || holds(node);
        if !rollout.canary || lost || nodes().next().is_none() {
            return;
        }
        let able = |n: &&Node| self.is_wanted(n, component) && !stopped(component, &n.id);
        let has = |n: &&Node| {
            let now = plan.assignments.iter().find(|a| a.node == n.id).or(n.assignment.as_ref());
            now.is_some_and(|a| made_of(a) == words(aim(component, &n.id)))
        };
        let validated = |role: &str| self.ghost.validated.contains(&(rollout.job.clone(), role.to_owned()));
        // scripts of single nodes are no matter of the others: whoever gets the component's, which do not
        // change, gets nothing that is on trial
        let same = words(&component.target) == words(&rollout.before);
        if same && aim(component, &node.id).scripts == component.target.scripts {
            return;
        }
        let concerned = |n: &&Node| !same || aim(component, &n.id).scripts == aim(component, &node.id).scripts;
        let through = nodes().filter(able).filter(concerned).all(|n| validated(&n.role));
        let others = nodes().filter(able).filter(concerned).filter(|n| n.role == node.role && n.id != node.id);
        // one that does not work, or is disturbed anyhow, has nothing to lose: it may have it, and proves nothing
        let first = others.filter(|n| !says(n, ServiceStatus::Inactive) && !holds(n)).all(|n| !has(&n));
        // one that is to leave and is still needed runs, and is as good a canary as any; of one that is to
        // be replaced the next host shows it
        let shows = lifecycle == Lifecycle::Running || self.world.is_replaced(&node.id);
        let canary = shows && first;
        assert!(through || canary, "{} gets {:?} before a canary worked", node.name, words(&component.target));
    }

    /// While a live node shows that it is not settled, nobody is disturbed.
    fn check_settled(&self, component: &Component, node: &Node) {
        let now = self.world.store.now_ms;
        let suspect = i64::from(self.world.store.settings.suspect_after_ms);
        let depends = |c: &&Component| c.id == component.id || c.depends_on.contains(&component.name);
        for one in self.world.store.components.iter().filter(|c| !c.removed).filter(depends) {
            let known = one.target.known.as_ref().expect("readable");
            for other in self.world.store.nodes.iter().filter(|n| n.component == one.id && serves(n)) {
                let Some((beat, at)) = &other.heartbeat else { continue };
                let validated = other.stages.get(&Stage::Validate).map_or(i64::MIN, |(_, at)| *at);
                let live = beat.service == ServiceStatus::Active && now - at < suspect && *at > validated;
                let wanted = self.is_wanted(other, one) && other.host.is_up();
                let shows = |(fact, value): (&String, &serde_json::Value)| {
                    beat.facts.get(fact).is_some_and(|shown| shown != value)
                };
                let unsettled = known.meta.disruption.settled.iter().any(shows);
                assert!(
                    !(live && wanted && unsettled),
                    "{} is disturbed while {} has not settled",
                    node.name,
                    other.name
                );
            }
        }
    }

    /// A component is forgotten: what it had elsewhere is gone, or the job says that it was left.
    fn check_released(&self, plan: &Plan, id: &ComponentId) {
        let component = self.world.store.components.iter().find(|c| c.id == *id).expect("a component");
        let says = |job: &straas_schemas::job::Job| {
            job.component.as_ref().is_none_or(|of| of == id)
                && job.detail.contains("left behind: zk-cmd/delete-namespace")
        };
        // what goes as well takes everything along
        let stays = |c: &&Component| !c.removed && !self.world.store.topology.deleting;
        let there = self.world.store.components.iter().filter(|c| component.depends_on.contains(&c.name)).filter(stays);
        for on in there.filter(|_| self.ghost.touched.contains(id)) {
            let done = self.ghost.done.contains(&format!("release {id}/{}", on.id));
            assert!(done || plan.jobs.iter().any(says), "something is left of {id} on {}", on.id);
        }
    }

    fn check_operations(&self, plan: &Plan) {
        let of = |key: &str| key.split('/').next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
        let moves = |key: &str| key.starts_with("join ") || key.starts_with("leave ");
        let mut running: Vec<String> =
            self.open_operations().filter(|run| moves(&run.key)).map(|run| of(&run.key)).collect();
        for wish in &plan.operations {
            let runs = self.world.store.operations.iter().filter(|run| run.key == wish.key);
            for run in runs {
                assert!(run.standing != CommandStanding::Succeeded, "done is done again: {}", wish.key);
                assert!(run.standing.is_final(), "asked for while it runs: {}", wish.key);
                assert!(run.attempt < wish.attempt, "an attempt is made twice: {}", wish.key);
            }
            if moves(&wish.key) {
                assert!(!running.contains(&of(&wish.key)), "two nodes of a component move at once: {}", wish.key);
                running.push(of(&wish.key));
            }
            if wish.key.starts_with("release ") {
                let mut of_it = self.world.store.nodes.iter().filter(|n| n.component.as_str() == of(&wish.key));
                assert!(!of_it.any(|n| self.world.machines.contains_key(&n.id)), "released too early: {}", wish.key);
                assert_eq!(wish.args["recursive"], serde_json::Value::Bool(true));
            }
            let (verb, name) = (wish.key.split(' ').next(), wish.key.rsplit('/').next().unwrap_or_default());
            if verb == Some("join") {
                let agent = self.world.agents.values().find(|a| a.name == name);
                assert!(agent.is_none_or(|a| a.ever_valid), "{name} joins before it works");
            }
        }
    }

    /// Carries a plan out and remembers what it did.
    pub fn carry_out(&mut self, plan: &Plan, moment: &Moment, life: Life) {
        let nodes = |h: &Self| -> BTreeMap<NodeId, (ComponentId, String, u32)> {
            let place = |n: &Node| (n.id.clone(), (n.component.clone(), n.group.clone(), n.ordinal));
            h.world.store.nodes.iter().map(place).collect()
        };
        let (before, ended) = (nodes(self), self.world.ended.len());
        let reverted = |h: &Self| -> BTreeSet<JobId> {
            let of = |c: &Component| c.rollout.as_ref().filter(|r| r.reverted.is_some()).map(|r| r.job.clone());
            h.world.store.components.iter().filter_map(of).collect()
        };
        let turned = reverted(self);
        self.world.carry_out(plan, moment, life);
        let after = nodes(self);
        self.ghost.gone.extend(before.into_iter().filter(|(id, _)| !after.contains_key(id)).map(|(_, place)| place));
        for job in reverted(self).difference(&turned) {
            self.ghost.turned_back.insert(job.clone());
            let reason = plan.reverts.iter().find(|r| r.job == *job).map(|r| r.reason.clone()).unwrap_or_default();
            self.tell(|| format!("{job} is turned back: {reason}"));
        }
        let done: Vec<_> = self.world.ended.iter().skip(ended).cloned().collect();
        for job in done {
            self.tell(|| format!("{} {:?}", job.id, job.standing));
        }
    }

    /// A host goes: not one that others count on.
    pub fn check_host_task(&self, task: &HostTask) {
        let HostTask::Remove(id, number) = task else { return };
        let Some((node, component)) = self.of(id) else { return };
        let there = self.world.agents.get(id).filter(|_| node.host_number <= *number);
        let Some(agent) = there.filter(|a| a.active && a.ever_valid && !a.disturbed) else { return };
        if component.removed || self.world.store.topology.deleting || component.target.known.is_err() {
            return;
        }
        if self.is_wanted(node, component) {
            if self.seems_well(node) {
                let others: Vec<String> =
                    self.world.down_by_us(&component.id).into_iter().filter(|n| *n != node.name).collect();
                let max = self.world.meta_of(id).map_or(1, |m| m.disruption.max_unavailable as usize);
                assert!(others.len() < max, "{} is replaced while {others:?} are down", node.name);
            }
            return;
        }
        let stepwise = self.world.meta_of(id).is_some_and(|m| m.membership == Membership::Stepwise);
        if !stepwise || agent.leader || !self.seems_well(node) {
            return;
        }
        for (other, agent) in self.members(&component.id).filter(|(other, _)| self.world.works(other) && *other != id) {
            let stays = self.of(other).is_some_and(|(n, c)| self.is_wanted(n, c));
            let up = |name: &&String| {
                **name != node.name && self.world.agents.values().any(|a| a.name == **name && a.active)
            };
            let left = agent.peers.iter().filter(up).count();
            let asked = stays && agent.peers.contains(&node.name) && left * 2 <= agent.peers.len();
            assert!(!asked, "{} goes while {} counts on it", node.name, agent.name);
        }
    }

    /// Whether a node works by what is known of it.
    fn seems_well(&self, node: &Node) -> bool {
        let heard = node.heartbeat.as_ref().is_some_and(|(_, at)| {
            self.world.store.now_ms - at < i64::from(self.world.store.settings.unreachable_after_ms)
        });
        heard && serves(node) && says(node, ServiceStatus::Active)
    }

    /// The configured nodes of a component.
    fn members<'s>(&'s self, component: &'s ComponentId) -> impl Iterator<Item = (&'s NodeId, &'s Agent)> + 's {
        let of_it = |id: &NodeId| self.of(id).is_some_and(|(n, _)| n.component == *component);
        self.world.agents.iter().filter(move |(id, a)| of_it(id) && !a.peers.is_empty())
    }

    /// A node begins something: of members that may change one at a time, the sets have to fit.
    pub fn check_begun(&mut self, id: &NodeId, task: Task) {
        if let Some((node, _)) = self.of(id).filter(|_| task == Task::Stage(Stage::PreConfig)) {
            let component = node.component.clone();
            self.ghost.touched.insert(component);
        }
        let stepwise = self.world.meta_of(id).is_some_and(|m| m.membership == Membership::Stepwise);
        let Some((_, component)) = self.of(id).filter(|_| stepwise && task == Task::Stage(Stage::Config)) else {
            return;
        };
        let sets: Vec<(&str, BTreeSet<&str>)> = self
            .members(&component.id)
            .map(|(_, a)| (a.name.as_str(), a.peers.iter().map(String::as_str).collect()))
            .collect();
        let new = &self.world.agents[id];
        let set: BTreeSet<&str> = new.peers.iter().map(String::as_str).collect();
        let there = |name: &&&str| {
            let wanted = self.world.store.nodes.iter().any(|n| n.name == **name && self.is_wanted(n, component));
            wanted || self.world.agents.values().any(|a| a.name == **name)
        };
        for (name, other) in &sets {
            let apart: Vec<_> = set.symmetric_difference(other).filter(there).collect();
            assert!(apart.len() <= 1, "members differ by more than one: {} has {set:?}, {name} {other:?}", new.name);
        }
        let alive: BTreeSet<&str> = sets.iter().map(|(name, _)| *name).collect();
        for (_, a) in &sets {
            for (_, b) in &sets {
                // the largest part of `a` that leaves a majority of `b` untouched
                let rest = a.difference(b).filter(|n| alive.contains(*n)).count();
                let both = a.intersection(b).filter(|n| alive.contains(*n)).count();
                let others = b.difference(a).filter(|n| alive.contains(*n)).count();
                let (need_a, need_b) = (a.len() / 2 + 1, b.len() / 2 + 1);
                let shared = need_a.saturating_sub(rest) + need_b.saturating_sub(others);
                assert!(shared > both, "majorities without a common node: {a:?} and {b:?}");
            }
        }
        self.check_quorum(component, &sets);
    }

    /// What we take down leaves a majority of every set; of one that can do without nobody it is one node.
    fn check_quorum(&self, component: &Component, sets: &[(&str, BTreeSet<&str>)]) {
        let down = self.world.down_by_us(&component.id);
        for (name, set) in sets {
            let ours = down.iter().filter(|n| set.contains(n.as_str())).count();
            assert!(
                ours <= (set.len() - (set.len() / 2 + 1)).max(1),
                "no quorum by our doing: {name} has {set:?}, down are {down:?}"
            );
        }
    }

    pub fn check_finished(&mut self, id: &NodeId, task: Task) {
        if task == Task::Stage(Stage::Validate) {
            self.remember();
        }
        if let Some(agent) = self.world.agents.get(id) {
            assert!(!(agent.halted && agent.active), "{} is stopped and runs", agent.name);
        }
    }

    /// In the end all members know each other, and nobody else.
    pub fn check_members(&self) {
        for component in &self.world.store.components {
            let stepwise = component.target.known.as_ref().is_ok_and(|k| k.meta.membership == Membership::Stepwise);
            if !stepwise {
                continue;
            }
            let wanted: BTreeSet<&str> = self
                .world
                .store
                .nodes
                .iter()
                .filter(|n| n.component == component.id)
                .map(|n| n.name.as_str())
                .collect();
            for (id, agent) in self.members(&component.id).filter(|(id, _)| !stopped(component, id)) {
                let peers: BTreeSet<&str> = agent.peers.iter().map(String::as_str).collect();
                assert_eq!(peers, wanted, "{}: its members ({id})", agent.name);
            }
        }
    }
}
