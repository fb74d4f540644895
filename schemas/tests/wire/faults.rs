//! Faults of meaning, one table: what is sent, and every pointer that must come back with a word
//! of its message. Nothing else may come back.

use serde_json::{Value, json};
use straas_schemas::metadata::{Catalog, ComponentMeta};
use straas_schemas::topology::{Elsewhere, elsewhere, faults};

fn meta(kind: &str, odd: bool, needs: &[&str]) -> ComponentMeta {
    let needs: Vec<Value> = needs.iter().map(|n| json!({ "type": n, "required": true })).collect();
    let meta = json!({
        "type": kind, "description": "a type", "default_role": kind, "default_version": "1.0",
        "roles": [
            { "name": kind, "script_role": kind, "description": "" },
            { "name": "worker", "script_role": "worker", "description": "", "sizes": { "min": 2, "max": 4, "default": 2 } }
        ],
        "versions": { "1.0": { "packages": [] } },
        "flavors": { "tiny": { "memory_mib": 1, "vcpus": 1, "disk_gib": 1 } }, "default_flavor": "tiny",
        "sizes": { "min": 1, "max": 9, "default": 3, "odd": odd },
        "dependencies": needs, "peers": {}, "disruption": { "max_unavailable": 1 },
        "ports": [], "stages": {}, "validate_wait_s": 1, "validate_every_s": 1
    });
    serde_json::from_value(meta).expect("metadata")
}

fn catalog() -> Catalog {
    let metas = [meta("zookeeper", true, &[]), meta("kafka", false, &["zookeeper"]), meta("storm", false, &[])];
    metas.into_iter().map(|meta| (meta.kind.clone(), meta)).collect()
}

/// Checks a body against the faults it must have: pointer and a part of the message.
fn check(body: &Value, expected: &[(&str, &str)]) {
    let found = faults(body, &catalog(), &Elsewhere::new());
    let fits = found.len() == expected.len()
        && expected.iter().all(|(at, text)| found.iter().any(|f| f.pointer == *at && f.message.contains(text)));
    assert!(fits, "{body}\nexpected {expected:#?}\nfound {found:#?}");
}

fn of(components: Value) -> Value {
    json!({ "name": "t", "availability_zone": "az1", "components": components })
}

fn named(name: &str) -> Value {
    let mut body = of(json!([{ "name": "zk", "type": "zookeeper", "size": 3 }]));
    body["name"] = json!(name);
    body
}

#[test]
fn a_good_request_has_none() {
    check(&named("test-1"), &[]);
    let storm = json!([
        { "name": "zk", "type": "zookeeper", "version": "1.0", "size": 1, "flavor": "tiny", "anti_affinity_group": "zk-group" },
        { "name": "kafka", "type": "kafka", "depends_on": "zk" },
        { "name": "strm", "type": "storm", "depends_on": ["zk", "kafka"], "submodules": [
            { "role": "storm", "name": "nmbus", "size": 1 }, { "role": "worker", "name": "supervsr", "size": 2 } ] }
    ]);
    check(&of(storm), &[]);
}

#[test]
fn names() {
    for (name, text) in [
        ("", "empty"),
        ("a/b", "'/'"),
        ("..", "'.'"),
        ("a..b", "'.'"),
        ("a&b", "'&'"),
        ("a@b", "'@'"),
        ("a b", "' '"),
        ("a\nb", "'\\n'"),
        ("a\u{0}b", "'\\0'"),
        ("a\u{1b}[31m", "\\u{1b}"),
        ("ä", "'ä'"),
        ("Test", "'T'"),
        ("-a", "begin"),
        ("a-", "end"),
    ] {
        check(&named(name), &[("/name", text)]);
    }
    check(&named(&"a".repeat(30)), &[]);
    check(&named(&"a".repeat(31)), &[("/name", "31 characters")]);
    check(&named(&"a".repeat(300)), &[("/name", "300 characters")]);
    check(&named(&"ä".repeat(20)), &[("/name", "'ä'")]);
    let mut body = named("t");
    body["availability_zone"] = json!("../az");
    check(&body, &[("/availability_zone", "'.'")]);
}

#[test]
fn five_at_once() {
    let body = json!({ "name": "a/b", "availability_zone": "az1", "components": [
        { "name": "zk", "type": "zookeeper", "size": 2 },
        { "name": "k&", "type": "kafka", "version": "9", "depends_on": "nobody" }
    ] });
    let expected = [
        ("/name", "'/'"),
        ("/components/0/size", "odd"),
        ("/components/1/name", "'&'"),
        ("/components/1/version", "there are: 1.0"),
        ("/components/1/depends_on", "no component \"nobody\""),
        ("/components/1/depends_on", "needs a component of type zookeeper"),
    ];
    check(&body, &expected);
}

#[test]
fn types_versions_flavors_and_roles() {
    let one = |c: Value| of(json!([c]));
    check(
        &one(json!({ "name": "x", "type": "cassandra" })),
        &[("/components/0/type", "there are: kafka, storm, zookeeper")],
    );
    // what can be judged without the type is
    let unknown = json!({ "name": "X", "type": "cassandra", "submodules": [{ "role": "r", "name": "a/b" }] });
    let expected = [
        ("/components/0/type", "cassandra"),
        ("/components/0/name", "'X'"),
        ("/components/0/submodules/0/name", "'/'"),
    ];
    check(&one(unknown), &expected);
    check(
        &one(json!({ "name": "x", "type": "storm", "flavor": "huge" })),
        &[("/components/0/flavor", "there are: tiny")],
    );
    let submodule = json!({ "role": "king", "name": "s", "flavor": "huge", "anti_affinity_group": "a b" });
    let expected = [
        ("/components/0/submodules/0/role", "there are: storm, worker"),
        ("/components/0/submodules/0/flavor", "tiny"),
        ("/components/0/submodules/0/anti_affinity_group", "' '"),
    ];
    check(&one(json!({ "name": "x", "type": "storm", "submodules": [submodule] })), &expected);
    // a sender's own text comes back in part only
    let long = "v".repeat(10_000);
    let found = faults(&one(json!({ "name": "x", "type": long })), &catalog(), &Elsewhere::new());
    assert!(found[0].message.len() < 200, "{}", found[0].message.len());
}

#[test]
fn sizes() {
    let zk = |size: Value| of(json!([{ "name": "zk", "type": "zookeeper", "size": size }]));
    check(&zk(json!(2)), &[("/components/0/size", "odd number")]);
    check(&zk(json!(0)), &[("/components/0/size", "1 to 9")]);
    check(&zk(json!(11)), &[("/components/0/size", "1 to 9")]);
    check(&zk(json!(u64::MAX)), &[("/components/0/size", "1 to 9")]);
    // of a wrong type: left to the schema
    check(&zk(json!(-1)), &[]);
    check(&zk(json!("3")), &[]);
    let worker = |size: u32| {
        of(json!([{ "name": "s", "type": "storm", "submodules": [{ "role": "worker", "name": "w", "size": size }] }]))
    };
    check(&worker(4), &[]);
    check(&worker(5), &[("/components/0/submodules/0/size", "2 to 4")]);
}

#[test]
fn doubles() {
    let zk = json!({ "name": "zk", "type": "zookeeper" });
    check(&of(json!([zk, zk])), &[("/components/1/name", "already at /components/0")]);
    let storm = |first: &str, second: &str| {
        json!({ "name": "storm", "type": "storm", "submodules": [
        { "role": "storm", "name": first }, { "role": "worker", "name": second } ] })
    };
    check(
        &of(json!([storm("a", "a")])),
        &[("/components/0/submodules/1/name", "names the hosts of /components/0/submodules/0")],
    );
    check(
        &of(json!([zk, storm("zk", "b")])),
        &[("/components/1/submodules/0/name", "names the hosts of /components/0")],
    );
    check(
        &of(json!([storm("a", "zk"), zk])),
        &[("/components/1/name", "names the hosts of /components/0/submodules/1")],
    );
}

#[test]
fn dependencies_and_cycles() {
    let c = |name: &str, on: Value| json!({ "name": name, "type": "storm", "depends_on": on });
    check(&of(json!([c("a", json!("a"))])), &[("/components/0/depends_on", "a → a")]);
    check(
        &of(json!([c("a", json!(["b"])), c("b", json!("c")), c("c", json!(["a"])), c("d", json!(["a"]))])),
        &[("/components/0/depends_on", "a → b → c → a")],
    );
    // two cycles, each once
    check(
        &of(json!([c("a", json!("b")), c("b", json!("a")), c("x", json!("y")), c("y", json!("x"))])),
        &[("/components/0/depends_on", "a → b → a"), ("/components/2/depends_on", "x → y → x")],
    );
    // a diamond is no cycle
    check(&of(json!([c("a", json!(["b", "c"])), c("b", json!("d")), c("c", json!("d")), c("d", json!([]))])), &[]);
    check(
        &of(json!([c("a", json!(["zk", "no", "../x"]))])),
        &[
            ("/components/0/depends_on/0", "zk"),
            ("/components/0/depends_on/1", "no"),
            ("/components/0/depends_on/2", "../x"),
        ],
    );
    check(&of(json!([{ "name": "k", "type": "kafka" }])), &[("/components/0/depends_on", "type zookeeper")]);
}

#[test]
fn whatever_is_sent_it_answers() {
    let mut parts = vec![json!(null), json!(7), json!("x"), json!([]), json!({}), json!([[[]]]), json!({ "name": [] })];
    for depth in 0..2 {
        let inner = parts.clone();
        for part in &inner {
            let component = json!({ "name": part, "type": part, "size": part, "depends_on": part, "submodules": part });
            let known =
                json!({ "name": "a", "type": "kafka", "size": part, "depends_on": [part, "a"], "submodules": [part] });
            for components in [part.clone(), json!([component]), json!([known, component, part])] {
                let body = json!({ "name": part, "availability_zone": part, "components": components });
                let _ = faults(&body, &catalog(), &Elsewhere::new());
                if depth == 0 {
                    parts.push(body);
                }
            }
        }
    }
    // thousands of names do not make thousands of faults
    let many = vec!["x"; 5_000];
    let body = of(json!(vec![json!({ "name": "a", "type": "storm", "depends_on": many }); 50]));
    assert!(faults(&body, &catalog(), &Elsewhere::new()).len() < 2_000);
}

#[test]
fn submodules_have_a_role_each_and_the_size_of_their_component() {
    let strm = |more: Value| {
        let mut component = json!({ "name": "strm", "type": "storm", "submodules": [
            { "role": "storm", "name": "nmbus", "size": 1 }, { "role": "worker", "name": "supervsr" } ] });
        for (key, value) in more.as_object().expect("an object") {
            component[key] = value.clone();
        }
        of(json!([component]))
    };
    // two workers are the usual
    check(&strm(json!({ "size": 3 })), &[]);
    check(&strm(json!({ "size": 4 })), &[("/components/0/size", "3 nodes in all")]);
    let twice = json!([
        { "role": "worker", "name": "a", "size": 2 }, { "role": "storm", "name": "b" }, { "role": "worker", "name": "c" }
    ]);
    check(&strm(json!({ "submodules": twice })), &[("/components/0/submodules/2/role", "submodule 0")]);
}

#[test]
fn a_number_of_fault_domains_has_to_mean_something() {
    let least = "/components/0/min_num_of_fault_domain";
    let zk = |more: Value| {
        let mut component = json!({ "name": "zk", "type": "storm" });
        for (key, value) in more.as_object().expect("an object") {
            component[key] = value.clone();
        }
        of(json!([component]))
    };
    check(&zk(json!({ "enable_fault_domain": true, "min_num_of_fault_domain": 4 })), &[]);
    check(&zk(json!({ "min_num_of_fault_domain": 4 })), &[(least, "enable_fault_domain")]);
    check(&zk(json!({ "enable_fault_domain": false, "min_num_of_fault_domain": 4 })), &[(least, "no effect")]);
    let subs = |one: Value| json!([one, { "role": "storm", "name": "b" }]);
    let spread = json!({ "role": "worker", "name": "a", "enable_fault_domain": true });
    check(&zk(json!({ "min_num_of_fault_domain": 4, "submodules": subs(spread) })), &[]);
    let alone = json!({ "role": "worker", "name": "a", "min_num_of_fault_domain": 2 });
    let below = "/components/0/submodules/0/min_num_of_fault_domain";
    check(&zk(json!({ "enable_fault_domain": true, "submodules": subs(alone.clone()) })), &[]);
    check(&zk(json!({ "submodules": subs(alone) })), &[(below, "no effect")]);
}

#[test]
fn components_of_other_topologies_are_what_was_found() {
    let body = of(json!([{ "name": "kafka", "type": "kafka", "depends_on": ["shared/zk"] }]));
    assert_eq!(elsewhere(&body).into_iter().collect::<Vec<_>>(), ["shared/zk"]);
    let with = |meaning: Result<String, String>| {
        let found = faults(&body, &catalog(), &Elsewhere::from([("shared/zk".to_owned(), meaning)]));
        found.into_iter().map(|fault| (fault.pointer, fault.message)).collect::<Vec<_>>()
    };
    assert_eq!(with(Ok("zookeeper".to_owned())), []);
    let (at, needs) = ("/components/0/depends_on".to_owned(), "kafka needs a component of type zookeeper to depend on");
    assert_eq!(with(Ok("storm".to_owned())), [(at.clone(), needs.to_owned())]);
    let gone = with(Err("it goes".to_owned()));
    assert_eq!(gone[0], (format!("{at}/0"), "it goes".to_owned()));
    check(&body, &[("/components/0/depends_on/0", "in another topology"), ("/components/0/depends_on", needs)]);
}
