//! Fault domains in the context: for roles that read them, and of no weight for others.

use crate::carry::recorded;
use crate::fixture::{component, input};
use serde_json::{Value, json};
use straas_planner::{Host, PlanInput, plan};
use straas_schemas::{Digest, Stage};

/// Two nodes with hosts in these fault domains, assigned; whether their role reads them.
fn assigned(reads: bool, domains: [Option<&str>; 2]) -> PlanInput {
    let mut kafka = component("kf", "kafka", 2, &[], 1);
    kafka.target.known.as_mut().expect("known").meta.roles[0].fault_domain = reads;
    let mut input = input(vec![kafka]);
    input.nodes = plan(&input).add_nodes.iter().map(recorded).collect();
    for (number, node) in input.nodes.iter_mut().enumerate() {
        node.host = Host::Up;
        node.address = Some(format!("10.0.0.{number}"));
        node.fault_domain = domains[number].map(str::to_owned);
    }
    assign(&mut input);
    input
}

/// Writes what is planned; for how many nodes.
fn assign(input: &mut PlanInput) -> usize {
    let assignments = plan(input).assignments;
    for assignment in &assignments {
        let node = input.nodes.iter_mut().find(|node| node.id == assignment.node).expect("a node");
        node.assignment = Some(assignment.clone());
    }
    assignments.len()
}

fn context(input: &PlanInput, at: usize) -> &Value {
    &input.nodes[at].assignment.as_ref().expect("an assignment").context
}

fn inputs(input: &PlanInput) -> Vec<Digest> {
    let of = |node: &straas_planner::Node| {
        let assignment = node.assignment.as_ref().expect("an assignment");
        assignment.order(Stage::PreConfig).expect("an order").inputs.clone()
    };
    input.nodes.iter().map(of).collect()
}

#[test]
fn who_reads_fault_domains_has_his_own_and_his_peers() {
    let mut input = assigned(true, [Some("rack-a"), None]);
    let domains =
        |of: &Value| of["peers"].as_array().expect("peers").iter().map(|p| p["fault_domain"].clone()).collect();
    let both: Vec<Value> = domains(context(&input, 0));
    assert_eq!(
        (&context(&input, 0)["node"]["fault_domain"], both),
        (&json!("rack-a"), vec![json!("rack-a"), Value::Null])
    );
    assert_eq!(context(&input, 1)["node"].get("fault_domain"), Some(&Value::Null));
    let before = inputs(&input);
    assert_eq!(assign(&mut input), 0, "nothing differs");
    // the host of one is lost for a while: nobody is told anything
    input.nodes[0].host = Host::Absent;
    (input.nodes[0].address, input.nodes[0].fault_domain) = (None, None);
    assign(&mut input);
    assert_eq!(inputs(&input), before);
    // its new one is elsewhere: both look at it
    input.nodes[0].host = Host::Up;
    (input.nodes[0].address, input.nodes[0].fault_domain) = (Some("10.0.0.0".into()), Some("rack-b".into()));
    assert_eq!(assign(&mut input), 2);
    let after = inputs(&input);
    assert!(after[0] != before[0] && after[1] != before[1]);
    assert_eq!(context(&input, 1)["peers"][0]["fault_domain"], "rack-b");
}

#[test]
fn who_does_not_read_them_runs_nothing_for_them() {
    let with = assigned(false, [Some("rack-a"), Some("rack-b")]);
    let without = assigned(false, [None, None]);
    assert_eq!(inputs(&with), inputs(&without));
    assert_eq!(context(&with, 0), context(&without, 0));
    assert!(context(&with, 0)["node"].get("fault_domain").is_none());
    assert_ne!(inputs(&assigned(true, [None, None])), inputs(&without), "it is told when it begins to");
}
