//! Where an answer leads: what its ids can be used for, as links of the OpenAPI document.
//!
//! Each is an operation, the place of an id in its answer, and the operations that take such an id. Made for
//! clients that find their way by the document, such as the test that follows them.

use serde_json::{Map, Value, json};

/// What takes the id of a topology, of a component, ...: operations and the name of the parameter.
type Uses = &'static [(&'static str, &'static str)];

const TOPOLOGY: Uses = &[
    ("get_topologies_id", "id"),
    ("delete_topologies_id", "id"),
    ("post_topologies_id_components", "id"),
    ("post_topologies_id_commands", "id"),
    ("get_nodes", "topology"),
    ("get_jobs", "topology"),
    ("get_commands", "topology"),
    ("get_audit", "topology"),
];
const COMPONENT: Uses = &[
    ("get_components_id", "id"),
    ("post_components_id", "id"),
    ("patch_components_id", "id"),
    ("delete_components_id", "id"),
    ("post_components_id_services", "id"),
    ("put_components_id_services", "id"),
    ("post_components_id_dependencies", "id"),
    ("post_components_id_commands", "id"),
    ("get_configurations_effective_component_id", "component_id"),
    ("get_guestcmds", "component"),
];
const NODE: Uses = &[
    ("get_nodes_id", "id"),
    ("get_nodes_id_why", "id"),
    ("put_nodes_id", "id"),
    ("delete_nodes_id", "id"),
    ("put_nodes_id_services", "id"),
    ("post_nodes_id_commands", "id"),
    ("get_commands", "node"),
];
const JOB: Uses = &[
    ("get_jobs_id", "id"),
    ("post_jobs_id_pause", "id"),
    ("post_jobs_id_resume", "id"),
    ("post_jobs_id_cancel", "id"),
];
const ROLLOUT: Uses = &[
    ("get_rollouts_id", "id"),
    ("post_rollouts_id_pause", "id"),
    ("post_rollouts_id_resume", "id"),
    ("post_rollouts_id_cancel", "id"),
];
const COMMAND: Uses = &[("get_commands_id", "id"), ("get_commands_id_output", "id"), ("post_commands_id_cancel", "id")];
const BATCH: Uses = &[("get_batches_id", "id"), ("post_batches_id_cancel", "id"), ("get_commands", "batch")];
const USER: Uses = &[
    ("get_users_name", "name"),
    ("put_users_name_password", "name"),
    ("put_users_name_tenants_tenant", "name"),
    ("delete_users_name", "name"),
];

/// Operation, status, what the id is of, where it is, what it is for.
const LINKS: &[(&str, &str, &str, &str, Uses)] = &[
    ("post_topologies", "202", "topology", "/id", TOPOLOGY),
    ("post_topologies", "202", "job", "/job/id", JOB),
    ("get_topologies", "200", "topology", "/items/0/id", TOPOLOGY),
    ("get_topologies_id", "200", "component", "/components/0/id", COMPONENT),
    ("get_topologies_id", "200", "node", "/components/0/nodes/0/id", NODE),
    ("post_topologies_id_components", "202", "component", "/id", COMPONENT),
    ("get_components_id", "200", "node", "/nodes/0/id", NODE),
    ("post_components_id", "202", "job", "/job/id", JOB),
    ("patch_components_id", "202", "job", "/job/id", JOB),
    ("get_nodes", "200", "node", "/items/0/id", NODE),
    ("get_jobs", "200", "job", "/items/0/id", JOB),
    ("post_rollouts", "201", "rollout", "/id", ROLLOUT),
    ("get_rollouts", "200", "rollout", "/items/0/id", ROLLOUT),
    ("get_commands", "200", "command", "/items/0/id", COMMAND),
    ("post_nodes_id_commands", "202", "command", "/id", COMMAND),
    ("post_components_id_commands", "202", "batch", "/id", BATCH),
    ("post_topologies_id_commands", "202", "batch", "/id", BATCH),
    ("post_users", "201", "user", "/name", USER),
    ("post_tokens", "201", "token", "/id", &[("delete_tokens_id", "id")]),
    ("post_tenants", "201", "tenant", "/id", &[("delete_tenants_id", "id")]),
];

/// The links of an operation's answer of a status.
pub fn of(operation: &str, status: &str) -> Option<Value> {
    let mut out = Map::new();
    for (_, _, what, place, uses) in LINKS.iter().filter(|link| (link.0, link.1) == (operation, status)) {
        for (target, parameter) in *uses {
            let link =
                json!({ "operationId": target, "parameters": { *parameter: format!("$response.body#{place}") } });
            out.insert(format!("{what}_{target}"), link);
        }
    }
    (!out.is_empty()).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn links_lead_from_what_is_there_to_what_is_there() {
        let document = super::super::openapi::value();
        let operations: BTreeMap<&str, &Value> = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .flat_map(|path| path.as_object().expect("operations").values())
            .map(|operation| (operation["operationId"].as_str().expect("an id"), operation))
            .collect();
        for (from, status, _, _, uses) in LINKS {
            let answer = &operations.get(from).unwrap_or_else(|| panic!("no operation {from}"))["responses"][status];
            assert!(answer["links"].is_object(), "{from} {status}");
            for (to, parameter) in *uses {
                let parameters =
                    operations.get(to).unwrap_or_else(|| panic!("no operation {to}"))["parameters"].clone();
                let there = parameters.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == *parameter));
                assert!(there, "{to} has no {parameter}");
            }
        }
    }
}
