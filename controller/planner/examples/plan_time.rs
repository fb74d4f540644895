//! Prints how long planning a topology of 1,000 nodes takes: settled, with one report come in,
//! and when every node gets a new assignment.
//!
//! `cargo run --release -p straas-planner --example plan_time`

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

#[path = "../tests/planner/agent.rs"]
#[allow(dead_code, missing_docs)]
mod agent;
#[path = "../tests/planner/carry.rs"]
#[allow(dead_code, missing_docs)]
mod carry;
#[path = "../tests/planner/catalog.rs"]
#[allow(dead_code, missing_docs)]
mod catalog;
#[path = "../tests/planner/fixture.rs"]
#[allow(dead_code, missing_docs)]
mod fixture;
#[path = "../tests/planner/requests.rs"]
#[allow(dead_code, missing_docs)]
mod requests;
#[path = "../tests/planner/world.rs"]
#[allow(dead_code, missing_docs)]
mod world;

use std::time::Instant;
use straas_planner::{OpenJob, PlanInput, plan};
use straas_schemas::job::JobKind;
use world::World;

fn main() {
    // one component whose nodes all know each other, and ten of a hundred
    for (components, size) in [(1, 1_000), (10, 100)] {
        let names: Vec<String> = (0..components).map(|n| format!("c{n}")).collect();
        let parts = names.iter().map(|name| fixture::component(name, "zookeeper", size, &[], 1)).collect();
        let mut world = settled(fixture::input(parts));
        println!("{components} x {size} nodes:");
        measure("  settled", &world.store);
        let job =
            OpenJob { id: "j".into(), kind: JobKind::Change, component: None, detail: String::new(), created_ms: 0 };
        world.store.jobs.push(job);
        measure("  settled, one job open", &world.store);
        let id = world.store.nodes[0].id.clone();
        world.agents.get_mut(&id).unwrap().active = false;
        world.agents.get_mut(&id).unwrap().look(false);
        let reports = world.agents[&id].outbox.clone();
        world.receive_reports(&id, 1, &reports);
        measure("  one node fails, one job open", &world.store);
        world.store.components.iter_mut().for_each(|c| c.target.scripts = "commit-b".into());
        measure("  every node gets a new assignment", &world.store);
    }
}

/// Every node made, enrolled and converged.
fn settled(input: PlanInput) -> World {
    let mut world = World::new(input);
    world.plan();
    let ids: Vec<_> = world.store.nodes.iter().map(|n| n.id.clone()).collect();
    for id in &ids {
        world.host_up(id);
        world.enrol(id);
    }
    for _ in 0..2 {
        world.plan();
        for id in &ids {
            let offer = world.node(id).unwrap().assignment.clone().unwrap();
            let agent = world.agents.get_mut(id).unwrap();
            agent.offered(&offer);
            agent.confirm();
            while let Some((stage, _)) = agent.next() {
                agent.begin();
                let text = offer.context["node"].to_string();
                let produced = straas_schemas::Digest::sha256(text.as_bytes());
                agent.finish(
                    straas_schemas::Outcome::Succeeded,
                    (stage == straas_schemas::Stage::PreConfig).then_some(produced),
                );
            }
            let (beat, reports) = (agent.heartbeat(), std::mem::take(&mut agent.outbox));
            world.receive_heartbeat(id, beat);
            world.receive_reports(id, 1, &reports);
        }
    }
    assert!(world.plan().assignments.is_empty(), "not settled");
    world
}

fn measure(what: &str, input: &PlanInput) {
    let mut times: Vec<_> = (0..30)
        .map(|_| {
            let begun = Instant::now();
            let plan = plan(input);
            let took = begun.elapsed();
            (took, plan.assignments.len())
        })
        .collect();
    times.sort();
    let (best, assignments) = times[0];
    println!("{what}: {:.2} ms, {assignments} assignments", best.as_secs_f64() * 1_000.0);
}
