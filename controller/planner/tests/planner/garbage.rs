//! The planner is total: whatever the input, it answers, and twice the same.
//!
//! Inputs are drawn that no controller should ever make: unknown roles, versions and flavors,
//! cycles, doubles, orphans, results and heartbeats that contradict everything.

use crate::fixture;
use proptest::prelude::*;
use std::collections::BTreeMap;
use straas_planner::{Component, Group, Host, Node, OpenJob, PlanInput, Target, node_id, plan};
use straas_schemas::heartbeat::{Activity, Ask, Heartbeat, ServiceStatus, Vitals};
use straas_schemas::job::JobKind;
use straas_schemas::report::StageResult;
use straas_schemas::view::HostFailure;
use straas_schemas::{Assignment, Digest, Gate, NodeId, Outcome, Stage};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, Just(u64::MAX), Just(i64::MAX.unsigned_abs())]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), 900_000..1_100_000_i64]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("zk".to_owned()),
        Just("zookeeper".into()),
        Just(String::new()),
        Just("ä\u{7}/..".into()),
        Just("b".into())
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    prop_oneof![Just(Digest(String::new())), Just(Digest::of(&["x"])), word().prop_map(Digest)]
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(Stage::ALL.to_vec())
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![Outcome::Succeeded, Outcome::Waiting, Outcome::Failed])
}

fn group() -> impl Strategy<Value = Group> {
    (word(), word(), 0..4_u32, word()).prop_map(|(name, role, size, flavor)| Group {
        flavor,
        without: vec![size],
        cname: size == 1,
        ..fixture::group(&name, &role, size)
    })
}

fn component() -> impl Strategy<Value = Component> {
    let parts = (word(), word(), prop::collection::vec(word(), 0..3), prop::collection::vec(group(), 0..3));
    (parts, any::<bool>(), 0..3_u32, any::<bool>()).prop_map(
        |((name, version, depends_on, mut groups), known, max, sane)| {
            let base = fixture::component(&name, "zookeeper", 3, &[], max);
            if sane {
                groups.clone_from(&base.groups);
            }
            let known = if known { base.target.known } else { Err(version.clone()) };
            let version = if sane { "1.0".into() } else { version };
            let target = Target { version, known, ..base.target };
            Component { depends_on, groups, target, ..base }
        },
    )
}

fn result() -> impl Strategy<Value = (Stage, (StageResult, i64))> {
    (stage(), digest(), outcome(), prop::option::of(digest()), number(), time()).prop_map(
        |(stage, digest, outcome, produced, number, at)| {
            let result = StageResult {
                generation: number,
                stage,
                digest,
                attempt: u32::MAX,
                failures: Some(u32::MAX),
                outcome,
                return_value: String::new(),
                exit_code: Some(-1),
                reason: String::new(),
                hint: None,
                duration_ms: number,
                output_tail: String::new(),
                output_bytes: number,
                retry_in_ms: Some(number),
                produced,
                facts: BTreeMap::new(),
            };
            (stage, (result, at))
        },
    )
}

fn heartbeat() -> impl Strategy<Value = (Heartbeat, i64)> {
    let ask = prop::option::of((stage(), digest()).prop_map(|(stage, digest)| Ask { stage, digest }));
    let service = prop::sample::select(vec![ServiceStatus::Active, ServiceStatus::Inactive, ServiceStatus::Unknown]);
    (ask, service, number(), number(), stage(), time()).prop_map(
        |(asks, service, incarnation, generation, stage, at)| {
            let activity =
                Activity::Running { stage, attempt: u32::MAX, for_ms: 0, progress: None, percent: Some(255) };
            let beat = Heartbeat {
                incarnation,
                beat: 0,
                run: String::new(),
                agent_version: String::new(),
                agent: None,
                generation,
                converged: true,
                activity,
                asks,
                service,
                stages: BTreeMap::new(),
                facts: BTreeMap::from([("mode".to_owned(), "leader".into())]),
                drift: None,
                looked_ago_ms: None,
                ledger_writable: false,
                ledger_fault: None,
                outbox: 0,
                vitals: Vitals::default(),
            };
            (beat, at)
        },
    )
}

type Place = (String, String, String, u32);

fn failed(reason: String) -> Host {
    Host::Failed(HostFailure { reason, attempt: u32::MAX, failed_ms: i64::MIN, next_retry_ms: Some(i64::MAX) })
}

fn node() -> impl Strategy<Value = (Place, Node)> {
    let place = (word(), word(), word(), 0..5_u32);
    let observed = (
        prop::collection::btree_map(stage(), result().prop_map(|(_, r)| r), 0..4),
        prop::option::of(heartbeat()),
        prop::option::of((number(), word())),
        prop::option::of((number(), any::<bool>(), prop::option::of(digest()))),
        any::<bool>(),
    );
    let host = prop_oneof![Just(Host::Absent), Just(Host::Up), word().prop_map(failed)];
    (place, host, prop::option::of(word()), number(), number(), observed).prop_map(
        |(place, host, address, incarnation, converged_generation, (stages, heartbeat, refused, assigned, worked))| {
            let id = node_id(&"T".into(), &format!("c-{}", place.0).into(), &place.1, place.3);
            let assignment =
                assigned.map(|(generation, stripped, permit)| assigned_to(&id, generation, stripped, permit));
            let node = Node {
                id,
                component: format!("c-{}", place.0).into(),
                group: place.1.clone(),
                role: place.2.clone(),
                name: place.1.clone(),
                ordinal: place.3,
                host,
                host_changed_ms: 0,
                address,
                fault_domain: None,
                host_number: 0,
                incarnation,
                enrolled: incarnation % 2 == 1,
                assignment,
                converged_generation,
                worked,
                stages,
                refused,
                heartbeat,
            };
            (place, node)
        },
    )
}

/// An assignment as the planner makes it, with another number and gate, or without stages.
fn assigned_to(id: &NodeId, generation: u64, stripped: bool, permit: Option<Digest>) -> Assignment {
    let plan = plan(&fixture::input(vec![fixture::component("zk", "zookeeper", 3, &[], 1)]));
    let mut assignment = plan.assignments.into_iter().next().expect("three nodes");
    assignment.generation = generation;
    assignment.node = id.clone();
    if let Some(order) = assignment.stages.iter_mut().find(|o| o.stage == Stage::Config) {
        order.gate = Gate::Permit { granted: permit };
    }
    if stripped {
        assignment.stages.clear();
        assignment.context = serde_json::Value::Null;
    }
    assignment
}

fn input() -> impl Strategy<Value = PlanInput> {
    let jobs =
        prop::collection::vec(prop::sample::select(vec![JobKind::Create, JobKind::Change, JobKind::Delete]), 0..3);
    let nodes = prop::collection::vec(node(), 0..5);
    (prop::collection::vec(component(), 0..3), nodes, jobs, any::<bool>(), time()).prop_map(
        |(components, nodes, jobs, deleting, now_ms)| {
            let mut input = fixture::input(components);
            input.nodes = nodes.into_iter().map(|(_, node)| node).collect();
            let open = |(i, kind)| OpenJob {
                id: format!("j{i}").into(),
                kind,
                component: None,
                detail: String::new(),
                created_ms: now_ms,
            };
            input.jobs = jobs.into_iter().enumerate().map(open).collect();
            input.topology.deleting = deleting;
            input.now_ms = now_ms;
            input
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_whatever_it_is_given(input in input()) {
        let first = plan(&input);
        prop_assert_eq!(&first, &plan(&input));
        let wanted: Vec<_> = first.add_nodes.iter().map(|n| &n.id).collect();
        let mut single = wanted.clone();
        single.sort();
        single.dedup();
        prop_assert_eq!(single.len(), wanted.len(), "a node was to be recorded twice");
        if !input.topology.deleting {
            prop_assert!(!first.forget_topology);
        }
        // the picture of it can be written down and read again
        let view = straas_planner::view(&input);
        let text = serde_json::to_string(&view).expect("json");
        let again: straas_schemas::view::TopologyView = serde_json::from_str(&text).expect("json");
        prop_assert_eq!(again, view);
    }
}
