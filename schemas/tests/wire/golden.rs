//! Bytes as version 1 sends them (`golden/`). A file here is never changed: it stands for a peer
//! that is out there. A new optional field gets a file of its own.

use crate::{WIRE, file};
use serde_json::Value;

fn read(name: &str) -> String {
    let path = file(&format!("golden/{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn yesterdays_bytes_decode_and_lose_nothing() {
    for wire in WIRE {
        let text = read(wire.name);
        let before: Value = serde_json::from_str(&text).expect("json");
        let after = (wire.round)(&text).unwrap_or_else(|e| panic!("{} does not decode: {e}", wire.name));
        assert_eq!(lost(&before, &after, ""), Vec::<String>::new(), "{}", wire.name);
        let again = (wire.round)(&after.to_string()).expect("decodes");
        assert_eq!(again, after, "{}", wire.name);
    }
}

/// Documents with the optional fields that came with guest commands, restarts, aliases and drift.
const WORKFLOWS: [&str; 5] = ["assignment", "poll_request", "poll_answer", "heartbeat", "report_request"];

/// Documents with the optional fields that came with builds of the agent.
const BUILDS: [&str; 2] = ["assignment", "heartbeat"];

/// Documents with the optional fields that came with the exchange of the certificate authority.
const AUTHORITY: [&str; 4] = ["poll_request", "poll_answer", "host_poll_request", "host_poll_answer"];

#[test]
fn the_bytes_of_later_fields_decode_and_lose_nothing() {
    let workflows = WORKFLOWS.iter().map(|name| (*name, "workflows"));
    let builds = BUILDS.iter().map(|name| (*name, "builds"));
    let authority = AUTHORITY.iter().map(|name| (*name, "authority"));
    // what says that a change is no good: how often a stage failed, how long it may not be there yet
    let failures = [("report_request", "failures"), ("assignment", "waits")];
    for (name, of) in workflows.chain(builds).chain(authority).chain(failures) {
        let wire = WIRE.iter().find(|wire| wire.name == name).expect("a wire type");
        let text = read(&format!("{name}.{of}"));
        let before: Value = serde_json::from_str(&text).expect("json");
        let after = (wire.round)(&text).unwrap_or_else(|e| panic!("{} does not decode: {e}", wire.name));
        assert_eq!(lost(&before, &after, ""), Vec::<String>::new(), "{}", wire.name);
    }
}

#[test]
fn an_assignment_without_later_fields_has_the_digest_that_it_always_had() {
    let digest = |name: &str| {
        let assignment: straas_schemas::Assignment = serde_json::from_str(&read(name)).expect("an assignment");
        assignment.content_digest().to_string()
    };
    assert_eq!(digest("assignment"), "d957f356d303e880de620619aa737f18505803963856fd712ef39d72df779d56");
    assert_ne!(digest("assignment.builds"), digest("assignment"));
}

/// What of `before` is not in `after`; fields that came later may be added.
fn lost(before: &Value, after: &Value, at: &str) -> Vec<String> {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().flat_map(|(k, v)| lost(v, b.get(k).unwrap_or(&Value::Null), &format!("{at}/{k}"))).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().flat_map(|(i, (a, b))| lost(a, b, &format!("{at}/{i}"))).collect()
        }
        (a, b) if a == b => Vec::new(),
        (a, b) => vec![format!("{at}: {a} became {b}")],
    }
}

#[test]
fn the_bytes_are_valid_by_the_schema_too() {
    for wire in WIRE {
        let schema = serde_json::to_value((wire.schema)()).expect("json");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let bytes: Value = serde_json::from_str(&read(wire.name)).expect("json");
        let faults: Vec<String> =
            validator.iter_errors(&bytes).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", wire.name);
    }
}

/// Adds a field to every object of a document.
fn with_more(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut more: serde_json::Map<_, _> = map.iter().map(|(k, v)| (k.clone(), with_more(v))).collect();
            more.insert("of_a_newer_peer".into(), serde_json::json!({ "x": [1, "two", null] }));
            Value::Object(more)
        }
        Value::Array(list) => list.iter().map(with_more).collect(),
        other => other.clone(),
    }
}

/// Whether a part of a document has free keys, so that one more is not "unknown".
const FREE: [&str; 7] = ["context", "facts", "stages", "disks", "networks", "evidence", "config"];

fn with_more_but_in_maps(value: &Value) -> Value {
    let Value::Object(map) = value else {
        return value.as_array().map_or_else(|| value.clone(), |list| list.iter().map(with_more_but_in_maps).collect());
    };
    let inner = |k: &String, v: &Value| match v {
        Value::Object(_) if FREE.contains(&k.as_str()) => v.clone(),
        v => with_more_but_in_maps(v),
    };
    let mut more: serde_json::Map<_, _> = map.iter().map(|(k, v)| (k.clone(), inner(k, v))).collect();
    more.insert("of_a_newer_peer".into(), serde_json::json!({ "x": [1, "two", null] }));
    Value::Object(more)
}

#[test]
fn agents_and_controllers_tolerate_a_newer_peer() {
    for wire in WIRE.iter().filter(|w| w.of_agents) {
        let bytes: Value = serde_json::from_str(&read(wire.name)).expect("json");
        let newer = with_more_but_in_maps(&bytes).to_string();
        let read =
            (wire.round)(&newer).unwrap_or_else(|e| panic!("{} of a newer peer does not decode: {e}", wire.name));
        assert_eq!(read, (wire.round)(&bytes.to_string()).expect("decodes"), "{}", wire.name);
    }
}

#[test]
fn one_newer_heartbeat_as_bytes() {
    let newer = (WIRE.iter().find(|w| w.name == "heartbeat").expect("there").round)(&read("heartbeat.newer"));
    assert!(newer.expect("decodes").get("of_a_newer_peer").is_none());
}

/// What people write by hand.
const PEOPLE: [&str; 9] = [
    "topology_request",
    "component_patch",
    "flexup_request",
    "sync_request",
    "command_request",
    "command_batch_request",
    "command_meta",
    "config_file",
    "component_metadata",
];

#[test]
fn people_get_unknown_fields_refused() {
    for wire in WIRE.iter().filter(|w| PEOPLE.contains(&w.name)) {
        let bytes: Value = serde_json::from_str(&read(wire.name)).expect("json");
        assert!((wire.round)(&with_more(&bytes).to_string()).is_err(), "{}", wire.name);
    }
}

#[test]
fn a_join_token_does_not_reach_a_log() {
    let request: straas_schemas::enrol::EnrolRequest = serde_json::from_str(&read("enrol_request")).expect("decodes");
    assert!(!format!("{request:?}").contains(&request.token));
}

#[test]
fn an_assignment_is_the_same_after_the_wire() {
    let assignment: straas_schemas::Assignment = serde_json::from_str(&read("assignment")).expect("decodes");
    let text = serde_json::to_string(&assignment).expect("json");
    let again: straas_schemas::Assignment = serde_json::from_str(&text).expect("decodes");
    assert_eq!(again.content_digest(), assignment.content_digest());
    // numbers whose last bit is at stake
    for text in ["0.1", "1.7976931348623157e308", "3.4393530726430893e-7", "122.416294033786585"] {
        let number: Value = serde_json::from_str(text).expect("a number");
        let exact: f64 = text.parse().expect("a number");
        assert_eq!(number.as_f64(), Some(exact), "{text} was not read exactly");
    }
}
