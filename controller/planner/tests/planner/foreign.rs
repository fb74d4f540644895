//! Two topologies of one tenant: Kafka in `logs` depends on the ZooKeeper of `shared`. Each is
//! planned alone and is told of the other what the controller tells it.

use crate::fixture;
use crate::world::World;
use serde_json::json;
use straas_planner::{Component, Foreign, Host, Neighbour, OperationRun, Plan, PlanInput, Topology, plan, view};
use straas_schemas::command::CommandStanding;
use straas_schemas::job::{JobKind, JobStage, JobStanding};
use straas_schemas::view::{Cause, NodeView};
use straas_schemas::{Digest, Gate, Stage};

/// Rounds in which everything must come to rest.
const ROUNDS: u32 = 60;

struct Two {
    shared: World,
    logs: World,
}

fn topology(id: &str, name: &str) -> Topology {
    Topology { id: id.into(), name: name.into(), branch: format!("{name}@az1"), ..fixture::input(Vec::new()).topology }
}

fn world(id: &str, name: &str, component: Component) -> World {
    let input = fixture::input(vec![component]);
    let mut world = World::new(PlanInput { topology: topology(id, name), ..input });
    world.begin_job(JobKind::Create, None, &format!("create-{name}").as_str().into());
    world
}

fn round(world: &mut World, plan: &Plan) {
    for wish in &plan.hosts {
        let up = world.node(&wish.node).is_some_and(|n| n.host == Host::Up);
        if !up {
            world.host_up(&wish.node);
            world.enrol(&wish.node);
        }
    }
    let ids: Vec<_> = world.store.nodes.iter().map(|n| n.id.clone()).collect();
    for id in &ids {
        let offer = world.node(id).and_then(|n| n.assignment.clone());
        if let (Some(offer), Some(agent)) = (offer, world.agents.get_mut(id)) {
            agent.offered(&offer);
            agent.confirm();
        }
        world.begin(id);
        world.finish(id);
        let works = world.works(id);
        let Some(agent) = world.agents.get_mut(id) else { continue };
        agent.look(works);
        agent.confirm();
        let (beat, incarnation, reports) = (agent.heartbeat(), agent.incarnation, std::mem::take(&mut agent.outbox));
        world.receive_heartbeat(id, beat);
        world.receive_reports(id, incarnation, &reports);
    }
}

impl Two {
    fn new() -> Self {
        let zk = fixture::component("zk", "zookeeper", 3, &[], 1);
        let mut kf = fixture::component("kf", "kafka", 2, &[], 1);
        kf.foreign = vec![Foreign { component: zk.id.clone(), name: "shared/zk".into() }];
        let meta = &mut kf.target.known.as_mut().expect("readable").meta;
        let operation = json!({ "command": "zk-cmd/create-namespace", "args": { "name": "{component}" } });
        let remove =
            json!({ "command": "zk-cmd/delete-namespace", "args": { "name": "{component}", "recursive": true } });
        let on = json!({ "type": "zookeeper", "required": true, "operation": operation, "remove": remove });
        meta.dependencies = serde_json::from_value(json!([on])).expect("dependencies");
        meta.disruption.settled = [("under_replicated".to_owned(), json!(0))].into();
        Self { shared: world("S", "shared", zk), logs: world("L", "logs", kf) }
    }

    /// Each is told of the other.
    fn meet(&mut self) {
        let neighbour = |of: &World| Neighbour {
            topology: of.store.topology.clone(),
            component: of.store.components[0].clone(),
            nodes: of.store.nodes.clone(),
        };
        let (shared, mut logs) = (neighbour(&self.shared), neighbour(&self.logs));
        // of those that only depend on it, nobody needs to know what they are assigned
        logs.nodes.iter_mut().for_each(|node| node.assignment = None);
        self.logs.store.neighbours = vec![shared];
        self.shared.store.neighbours = vec![logs];
    }

    fn plans(&mut self) -> (Plan, Plan) {
        self.shared.store.now_ms += 1_000;
        self.logs.store.now_ms = self.shared.store.now_ms;
        self.meet();
        let shared = self.shared.plan();
        self.meet();
        (shared, self.logs.plan())
    }

    /// Both live on until nothing is written any more.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let before = self.shared.written + self.logs.written;
            let (shared, logs) = self.plans();
            for agent in self.logs.agents.values_mut() {
                agent.shows.entry("under_replicated".into()).or_insert(json!(0));
            }
            for wish in &logs.operations {
                assert!(wish.node.as_str() == self.shared.id("shared-zk-1").as_str(), "on the first that works");
                assert_eq!(
                    (wish.command.as_str(), wish.args["name"].as_str()),
                    ("zk-cmd/create-namespace", Some("kf"))
                );
                self.logs.store.operations.push(OperationRun {
                    id: wish.id.clone(),
                    key: wish.key.clone(),
                    attempt: wish.attempt,
                    node: wish.node.clone(),
                    standing: CommandStanding::Succeeded,
                    reason: String::new(),
                    ended_ms: Some(1),
                });
            }
            round(&mut self.shared, &shared);
            round(&mut self.logs, &logs);
            let quiet = before == self.shared.written + self.logs.written && logs.operations.is_empty();
            if quiet && [&self.shared, &self.logs].iter().all(|w| nodes(w).iter().all(converged)) {
                return;
            }
        }
        panic!("not at rest: {:#?} {:#?}", nodes(&self.shared), nodes(&self.logs));
    }

    /// Kafka's topology is to go, and its hosts are gone.
    fn delete_logs(&mut self) {
        self.logs.store.topology.deleting = true;
        self.logs.begin_job(JobKind::Delete, None, &"delete-logs".into());
        self.meet();
        let planned = plan(&self.logs.store);
        assert!(planned.no_hosts.len() == 2 && planned.operations.is_empty(), "its hosts go first");
        for id in planned.no_hosts {
            self.logs.host_gone(&id);
        }
    }

    /// The plan of Kafka's topology.
    fn planned(&mut self) -> Plan {
        self.meet();
        plan(&self.logs.store)
    }

    /// What Kafka's nodes show.
    fn owes(&mut self, copies: u32) {
        for agent in self.logs.agents.values_mut() {
            agent.shows.insert("under_replicated".into(), json!(copies));
            agent.look(true);
        }
    }

    fn shown(&mut self) -> (Digest, Digest) {
        self.meet();
        let (shared, logs) = (plan(&self.shared.store), plan(&self.logs.store));
        (shared.shown[&"L".into()].clone(), logs.shown[&"S".into()].clone())
    }

    fn listed(&self, node: &str) -> usize {
        let id = self.logs.id(node);
        let node = self.logs.store.nodes.iter().find(|n| n.id == id).expect("a node");
        let context = &node.assignment.as_ref().expect("assigned").context;
        context["dependencies"]["shared/zk"]["nodes"].as_array().map_or(0, Vec::len)
    }
}

fn nodes(world: &World) -> Vec<NodeView> {
    view(&world.store).components.remove(0).nodes
}

fn converged(node: &NodeView) -> bool {
    node.why.cause == Cause::Converged
}

#[test]
fn it_waits_until_the_other_topology_works() {
    let mut two = Two::new();
    // the other one has hosts and nothing else
    for _ in 0..4 {
        let (shared, logs) = two.plans();
        round(&mut two.logs, &logs);
        drop(shared);
    }
    let why = nodes(&two.logs).remove(0).why;
    assert_eq!((why.cause, why.evidence["component"].as_str()), (Cause::AwaitingDependency, "shared/zk"), "{why:?}");
    assert!(why.text.contains("component shared/zk: 0 of 3"), "{why:?}");
    let (_, logs) = two.plans();
    let step = logs.jobs[0].steps.iter().find(|s| s.id == "kf/pre_config").expect("a step");
    assert!(step.waiting_for.as_ref().is_some_and(|text| text.contains("shared/zk")), "{step:?}");
    assert!(logs.jobs[0].steps.iter().flat_map(|s| &s.after).all(|id| !id.contains("zk")), "no step of another job");

    two.settle();
    let node = two.logs.store.nodes[0].clone();
    let dependency = &node.assignment.as_ref().expect("assigned").context["dependencies"]["shared/zk"];
    assert_eq!((&dependency["type"], &dependency["version"]), (&json!("zookeeper"), &json!("1.0")));
    let listed = dependency["nodes"].as_array().expect("nodes");
    assert_eq!(
        listed.iter().map(|n| n["name"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["shared-zk-1", "shared-zk-2", "shared-zk-3"]
    );
    assert!(listed.iter().all(|n| n["address"].is_string()));
    assert_eq!(view(&two.logs.store).components[0].depends_on, ["shared/zk"]);

    // one that stumbles later closes nothing
    let id = two.shared.id("shared-zk-2");
    two.shared.agents.get_mut(&id).expect("an agent").active = false;
    let (shared, _) = two.plans();
    round(&mut two.shared, &shared);
    let (_, logs) = two.plans();
    assert!(logs.assignments.is_empty(), "{:?}", logs.assignments);
}

#[test]
fn what_is_listed_there_reaches_those_that_depend_on_it() {
    let mut two = Two::new();
    two.settle();
    let before = two.shown();
    two.shared.store.components[0].groups[0].size = 5;
    for _ in 0..3 {
        let (shared, logs) = two.plans();
        assert!(logs.assignments.is_empty(), "newcomers are listed once they work");
        round(&mut two.shared, &shared);
    }
    two.settle();
    assert_eq!((two.listed("logs-kf-1"), two.listed("logs-kf-2")), (5, 5));
    let after = two.shown();
    assert_ne!(before.0, after.0);
    assert_eq!(before.1, after.1, "what the one that depends shows is what it showed");
}

#[test]
fn nobody_is_disturbed_while_one_that_depends_on_it_has_not_settled() {
    let mut two = Two::new();
    two.settle();
    two.owes(3);
    two.shared.store.components[0].target.scripts = "commit-b".into();
    let known = two.shared.store.components[0].target.known.as_mut().expect("readable");
    known
        .scripts
        .values_mut()
        .for_each(|s| drop(s.insert(Stage::Config, fixture::scripts("b")[&Stage::Config].clone())));
    for _ in 0..6 {
        let (shared, logs) = two.plans();
        let granted = |gate: &Gate| matches!(gate, Gate::Permit { granted: Some(_) });
        let mut gates = shared.assignments.iter().flat_map(|a| &a.stages).map(|o| &o.gate);
        assert!(!gates.any(granted), "a permit while Kafka owes copies");
        round(&mut two.shared, &shared);
        round(&mut two.logs, &logs);
    }
    let why = nodes(&two.shared).remove(0).why;
    assert_eq!(why.cause, Cause::AwaitingPermit, "{why:?}");
    assert!(why.text.contains("logs-kf-1 of topology logs (under_replicated = 3)"), "{why:?}");
    let before = two.shown();
    two.owes(0);
    let (_, logs) = two.plans();
    round(&mut two.logs, &logs);
    assert_ne!(before.1, two.shown().1, "it has to be looked at when that is over");
    two.settle();

    // one that goes is waited for no more
    two.owes(3);
    let (_, logs) = two.plans();
    round(&mut two.logs, &logs);
    let known = two.shared.store.components[0].target.known.as_mut().expect("readable");
    known
        .scripts
        .values_mut()
        .for_each(|s| drop(s.insert(Stage::Config, fixture::scripts("c")[&Stage::Config].clone())));
    for _ in 0..3 {
        let (shared, _) = two.plans();
        round(&mut two.shared, &shared);
    }
    assert_eq!(nodes(&two.shared).remove(0).why.cause, Cause::AwaitingPermit);
    let before = two.shown();
    two.logs.store.topology.deleting = true;
    assert_ne!(before.1, two.shown().1);
    let (shared, _) = two.plans();
    assert!(!shared.granted.is_empty(), "{:?}", shared.assignments);
}

#[test]
fn only_what_the_other_uses_has_it_looked_at() {
    let mut two = Two::new();
    two.settle();
    let before = two.shown();
    for _ in 0..2 {
        let (shared, logs) = two.plans();
        round(&mut two.shared, &shared);
        round(&mut two.logs, &logs);
    }
    assert_eq!(before, two.shown(), "heartbeats alone are no news");
    let id = two.shared.id("shared-zk-3");
    two.shared.agents.get_mut(&id).expect("an agent").active = false;
    let (shared, _) = two.plans();
    round(&mut two.shared, &shared);
    assert_ne!(before.0, two.shown().0, "one does not work");
    two.shared.store.components[0].target.version = "3.0".into();
    assert_ne!(before.0, two.shown().0);
    assert_eq!(before.1, two.shown().1);
}

#[test]
fn of_what_nothing_is_known_nothing_follows() {
    let mut two = Two::new();
    two.settle();
    two.logs.store.neighbours.clear();
    let planned = plan(&two.logs.store);
    assert!(planned.assignments.is_empty(), "{:?}", planned.assignments);
    let text = nodes(&two.logs).remove(0).why.text;
    assert!(text.contains("keeps what it has") && text.contains("shared/zk"), "{text}");
}

#[test]
fn what_a_deleted_topology_had_elsewhere_goes_once_its_hosts_are_gone() {
    let mut two = Two::new();
    two.settle();
    two.delete_logs();
    let planned = two.planned();
    assert!(!planned.forget_topology && !planned.jobs.iter().any(|j| j.standing.is_final()), "{:?}", planned.jobs);
    let [wish] = planned.operations.as_slice() else { panic!("{:?}", planned.operations) };
    assert_eq!((wish.key.as_str(), wish.attempt, &wish.node), ("release c-kf/c-zk", 1, &two.shared.id("shared-zk-1")));
    assert_eq!((&wish.args["name"], &wish.args["recursive"]), (&json!("kf"), &json!(true)));
    let run = OperationRun {
        id: wish.id.clone(),
        key: wish.key.clone(),
        attempt: 1,
        node: wish.node.clone(),
        standing: CommandStanding::Running,
        reason: String::new(),
        ended_ms: None,
    };
    two.logs.store.operations.push(run);
    let planned = two.planned();
    assert!(!planned.forget_topology && planned.operations.is_empty(), "it is asked for once");
    let run = two.logs.store.operations.last_mut().expect("the run");
    (run.standing, run.ended_ms) = (CommandStanding::Succeeded, Some(1));
    let planned = two.planned();
    let job = planned.jobs.last().expect("a job");
    assert!(
        planned.forget_topology && job.standing == JobStanding::Succeeded && !job.detail.contains("left"),
        "{job:?}"
    );
}

#[test]
fn what_cannot_be_released_keeps_no_topology_for_ever() {
    let mut two = Two::new();
    two.settle();
    two.delete_logs();
    for node in &mut two.shared.store.nodes {
        (node.converged_generation, node.worked) = (0, false);
    }
    let planned = two.planned();
    assert!(!planned.forget_topology && planned.operations.is_empty(), "nobody there works");
    let due = planned.look_again_ms.expect("time alone changes it");
    let job = planned.jobs.last().expect("a job");
    let step = job.steps.iter().find(|s| s.stage == JobStage::Release).expect("a step");
    assert_eq!(step.nodes[0].detail, "no node works that could do it");
    two.logs.store.now_ms = due.max(two.logs.store.now_ms + 300_000);
    let planned = two.planned();
    let job = planned.jobs.last().expect("a job");
    assert!(planned.forget_topology && job.standing == JobStanding::Succeeded, "{job:?}");
    let left = "left behind: zk-cmd/delete-namespace on component shared/zk: no node worked that could do it";
    assert!(job.detail.contains(left), "{}", job.detail);
}
