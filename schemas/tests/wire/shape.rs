//! What the generated schema of a topology request refuses: shape, not meaning.

use crate::WIRE;
use serde_json::{Value, json};

fn faults(body: &Value) -> Vec<String> {
    let wire = WIRE.iter().find(|w| w.name == "topology_request").expect("there");
    let schema = serde_json::to_value((wire.schema)()).expect("json");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    validator.iter_errors(body).map(|e| e.instance_path().to_string()).collect()
}

fn body() -> Value {
    json!({ "name": "t", "availability_zone": "az1", "components": [
        { "name": "zk", "type": "zookeeper", "size": 3, "depends_on": ["a"], "submodules": [{ "role": "r", "name": "s" }] }
    ] })
}

#[test]
fn a_good_body_passes_and_names_are_left_to_the_meaning() {
    assert_eq!(faults(&body()), Vec::<String>::new());
    let mut odd = body();
    odd["name"] = json!("../&\u{7}");
    odd["components"][0]["depends_on"] = json!("one");
    assert_eq!(faults(&odd), Vec::<String>::new());
}

#[test]
fn wrong_shapes_are_refused_where_they_are() {
    let check = |pointer: &str, value: Value, at: &str| {
        let mut body = body();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        body.pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("an object")
            .insert(key.to_owned(), value.clone());
        assert!(faults(&body).contains(&at.to_owned()), "{pointer} = {value}: {:?}", faults(&body));
    };
    check("/colour", json!("red"), "");
    check("/components/0/colour", json!("red"), "/components/0");
    check("/components/0/submodules", json!([{ "role": "r", "name": "s", "colour": 1 }]), "/components/0/submodules/0");
    check("/name", json!(5), "/name");
    check("/name", json!(null), "/name");
    check("/components", json!([]), "/components");
    check("/components", json!({}), "/components");
    check("/components", json!(vec![json!({ "name": "a", "type": "zookeeper" }); 33]), "/components");
    for size in
        [json!(-1), json!(0), json!(1_001), json!(4_294_967_296_u64), json!(1e300), json!(2.5), json!("3"), json!(true)]
    {
        check("/components/0/size", size, "/components/0/size");
    }
    check("/components/0/min_num_of_fault_domain", json!(-1), "/components/0/min_num_of_fault_domain");
    check("/components/0/depends_on", json!(7), "/components/0/depends_on");
    check("/components/0/depends_on", json!([7]), "/components/0/depends_on");
    check("/components/0/depends_on", json!(vec!["a"; 33]), "/components/0/depends_on");
    check("/components/0/submodules", json!(vec![json!({ "role": "r", "name": "s" }); 17]), "/components/0/submodules");
    for body in [json!(null), json!([]), json!("x"), json!({})] {
        assert!(!faults(&body).is_empty(), "{body}");
    }
}

#[test]
fn every_fault_of_shape_is_found_at_once() {
    let body = json!({ "name": 1, "availability_zone": [], "components": [{ "name": {}, "type": 2, "size": -4 }] });
    assert_eq!(faults(&body).len(), 5, "{:?}", faults(&body));
}
