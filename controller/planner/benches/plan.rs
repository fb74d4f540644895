//! How long planning a topology of 1,000 nodes takes: settled, with a job open, with one node that
//! does not work, when every node gets another version of its script, and when every context
//! differs. Medians; the topology settles by the planner's own assignments.
//!
//! `cargo bench -p straas-planner`

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, missing_docs)]

#[path = "../tests/planner/fixture.rs"]
#[allow(dead_code, missing_docs)]
mod fixture;

use std::collections::BTreeMap;
use std::time::Instant;
use straas_planner::{Host, Node, OpenJob, PlanInput, plan, view};
use straas_schemas::heartbeat::{Activity, Heartbeat, ServiceStatus, Vitals};
use straas_schemas::job::JobKind;
use straas_schemas::report::StageResult;
use straas_schemas::stage::effective_digest;
use straas_schemas::{Digest, Outcome, Stage};

const RUNS: usize = 41;

fn main() {
    // one component whose nodes all know each other, ten of a hundred, and a hundred of ten
    for (components, size) in [(1, 1_000), (10, 100), (100, 10)] {
        let names: Vec<String> = (0..components).map(|n| format!("c{n}")).collect();
        let parts = names.iter().map(|name| fixture::component(name, "zookeeper", size, &[], 1)).collect();
        let mut input = settled(fixture::input(parts));
        println!("{components} x {size} nodes:");
        measure("settled", &input);
        measure_view("settled, as people see it", &input);
        let job =
            OpenJob { id: "j".into(), kind: JobKind::Change, component: None, detail: String::new(), created_ms: 0 };
        input.jobs.push(job);
        measure("settled, one job open", &input);
        let mut failing = input.clone();
        let (beat, _) = failing.nodes[0].heartbeat.as_mut().unwrap();
        beat.service = ServiceStatus::Inactive;
        failing.nodes[0].stages.get_mut(&Stage::Validate).unwrap().0.outcome = Outcome::Failed;
        measure("one node fails, one job open", &failing);
        let mut scripts = input.clone();
        scripts.components.iter_mut().for_each(|c| c.target.scripts = "commit-b".into());
        measure("every node gets other scripts", &scripts);
        let mut moved = input;
        for component in &mut moved.components {
            let known = component.target.known.as_mut().unwrap();
            known.config.values_mut().for_each(|section| drop(section.insert("tick".into(), 1.into())));
        }
        measure("every context differs", &moved);
    }
}

/// Every node made, enrolled and converged.
fn settled(mut input: PlanInput) -> PlanInput {
    for _ in 0..4 {
        let planned = plan(&input);
        for new in planned.add_nodes {
            let at = input.nodes.len();
            input.nodes.push(Node {
                id: new.id,
                component: new.component,
                group: new.group,
                role: new.role,
                name: new.name,
                ordinal: new.ordinal,
                host: Host::Up,
                host_changed_ms: 0,
                address: Some(format!("10.0.{}.{}", at / 250, at % 250 + 1)),
                fault_domain: None,
                host_number: 0,
                incarnation: 1,
                enrolled: true,
                assignment: None,
                converged_generation: 0,
                worked: false,
                stages: BTreeMap::new(),
                refused: None,
                heartbeat: None,
            });
        }
        for assignment in planned.assignments {
            let node = input.nodes.iter_mut().find(|n| n.id == assignment.node).unwrap();
            node.converged_generation = assignment.generation;
            node.worked = true;
            let mut done: BTreeMap<Stage, Digest> = BTreeMap::new();
            for order in &assignment.stages {
                let rendered = Digest::sha256(b"site.pp");
                let (install, config) = (done.get(&Stage::Install), done.get(&Stage::Config));
                let digest = effective_digest(order.stage, &order.inputs, install, Some(&rendered), config);
                let result = result(order.stage, assignment.generation, digest.clone(), &rendered);
                node.stages.insert(order.stage, (result, input.now_ms));
                done.insert(order.stage, digest);
            }
            node.heartbeat = Some((heartbeat(assignment.generation), input.now_ms));
            node.assignment = Some(assignment);
        }
        input.nodes.sort_by(|a, b| a.id.cmp(&b.id));
    }
    assert!(plan(&input).assignments.is_empty(), "not settled");
    input
}

fn result(stage: Stage, generation: u64, digest: Digest, rendered: &Digest) -> StageResult {
    StageResult {
        generation,
        stage,
        digest,
        attempt: 1,
        failures: Some(0),
        outcome: Outcome::Succeeded,
        return_value: stage.return_value(true).into(),
        exit_code: Some(0),
        reason: String::new(),
        hint: None,
        duration_ms: 5,
        output_tail: String::new(),
        output_bytes: 0,
        retry_in_ms: None,
        produced: (stage == Stage::PreConfig).then(|| rendered.clone()),
        facts: [("mode".to_owned(), "follower".into())].into(),
    }
}

fn heartbeat(generation: u64) -> Heartbeat {
    Heartbeat {
        incarnation: 1,
        beat: 1,
        run: "r".into(),
        agent_version: "0.1.0".into(),
        agent: None,
        generation,
        converged: true,
        activity: Activity::Idle,
        asks: None,
        service: ServiceStatus::Active,
        stages: BTreeMap::new(),
        facts: [("mode".to_owned(), "follower".into())].into(),
        drift: None,
        looked_ago_ms: None,
        ledger_writable: true,
        ledger_fault: None,
        outbox: 0,
        vitals: Vitals::default(),
    }
}

fn measure(what: &str, input: &PlanInput) {
    let count = plan(input).assignments.len();
    println!("  {what}: {:.2} ms, {count} assignments", median(|| drop(plan(input))));
}

fn measure_view(what: &str, input: &PlanInput) {
    println!("  {what}: {:.2} ms", median(|| drop(view(input))));
}

fn median(mut run: impl FnMut()) -> f64 {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[RUNS / 2].as_secs_f64() * 1_000.0
}
