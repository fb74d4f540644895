//! Requests that are refused: with every fault, with its place, and with nothing changed.

use crate::rig::{Rig, TOPOLOGIES, topology};
use http::Method;
use serde_json::{Value, json};

/// Sets one value of a good request.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = topology("good");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    body.pointer_mut(parent).expect("there").as_object_mut().expect("an object").insert(key.to_owned(), value);
    body
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_at_once_and_nothing_is_created() {
    let rig = Rig::start().await;
    rig.create("taken", 1).await;
    let before = rig.state().await;
    let check = async |body: String, status: u16, pointers: &[&str]| {
        for query in ["", "?dry_run=true"] {
            let answer = rig.call(Method::POST, &format!("{TOPOLOGIES}{query}"), body.clone().into()).await;
            let shown: String = body.chars().take(200).collect();
            assert_eq!(answer.status, status, "{shown}: {}", answer.text());
            let found: Vec<_> = answer.problem(status).into_keys().collect();
            assert_eq!(found, pointers, "{shown}: {}", answer.text());
        }
    };
    let five = json!({ "name": "a/b", "availability_zone": "..", "components": [
        { "name": "zk", "type": "zookeeper", "size": 2 },
        { "name": "zk2", "type": "mystery" },
        { "name": "zk3", "type": "zookeeper", "depends_on": "nobody" },
    ]});
    let places =
        ["/availability_zone", "/components/0/size", "/components/1/type", "/components/2/depends_on", "/name"];
    check(five.to_string(), 422, &places).await;

    // names: they become host names, git refs, paths and DNS labels
    for name in
        ["", "a/b", "..", "a..b", "a&b", "a@z", "-a", "a-", "A", "ä", "a b", "a\u{7}", "a\0", "a\n", &"a".repeat(300)]
    {
        check(with("/name", json!(name)).to_string(), 422, &["/name"]).await;
        check(with("/availability_zone", json!(name)).to_string(), 422, &["/availability_zone"]).await;
        check(with("/components/0/name", json!(name)).to_string(), 422, &["/components/0/name"]).await;
    }
    // meaning
    check(topology("taken").to_string(), 409, &["/name"]).await;
    check(with("/components/0/type", json!("mystery")).to_string(), 422, &["/components/0/type"]).await;
    for size in [0, 2, 10, 11] {
        check(with("/components/0/size", json!(size)).to_string(), 422, &["/components/0/size"]).await;
    }
    check(with("/components/0/version", json!("9.9.9")).to_string(), 422, &["/components/0/version"]).await;
    check(with("/components/0/flavor", json!("huge")).to_string(), 422, &["/components/0/flavor"]).await;
    check(with("/components/0/depends_on", json!("zk")).to_string(), 422, &["/components/0/depends_on"]).await;
    let zk = |name: &str, on: &[&str]| json!({ "name": name, "type": "zookeeper", "depends_on": on });
    let cycle = [zk("a", &["c"]), zk("b", &["a"]), zk("c", &["b"]), zk("d", &["a"])];
    check(with("/components", json!(cycle)).to_string(), 422, &["/components/0/depends_on"]).await;
    check(with("/components", json!([zk("a", &[]), zk("a", &[])])).to_string(), 422, &["/components/1/name"]).await;
    // shape
    check(with("/components", json!([])).to_string(), 422, &["/components"]).await;
    let many: Vec<_> = (0..33).map(|n| zk(&format!("z{n}"), &[])).collect();
    check(with("/components", json!(many)).to_string(), 422, &["/components"]).await;
    check(with("/colour", json!("red")).to_string(), 422, &[""]).await;
    check(with("/components/0/colour", json!("red")).to_string(), 422, &["/components/0"]).await;
    check(with("/name", json!(7)).to_string(), 422, &["/name"]).await;
    check(with("/components", json!("zk")).to_string(), 422, &["/components"]).await;
    check(with("/components", json!([{}])).to_string(), 422, &["/components/0"]).await;
    for size in [json!("3"), json!(3.5), json!(-1), json!(1u64 << 40), json!(u64::MAX), json!(null), json!([3])] {
        let answer = rig.post(TOPOLOGIES, &with("/components/0/size", size.clone())).await;
        if size.is_null() {
            continue; // absent: the default
        }
        assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), ["/components/0/size"], "{size}");
    }
    check("{}".into(), 422, &[""]).await;
    for other in ["[]", "null", "3", "\"x\""] {
        check(other.into(), 422, &[""]).await;
    }
    // what no schema sees: a key given twice
    let good = r#""availability_zone":"z1","components":[{"name":"zk","type":"zookeeper","size":3,"size":5}]}"#;
    check(format!(r#"{{"name":"a","name":"b",{good}"#), 422, &["/components/0/size", "/name"]).await;
    // text
    for text in ["", "{", "nope", "{\"name\":}", "{} {}", "\u{feff}{}"] {
        check(text.into(), 400, &[]).await;
    }
    check("[".repeat(100_000), 400, &[]).await;
    check(format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500)), 400, &[]).await;
    check(format!("{{\"name\":\"{}\"}}", "a".repeat(1 << 20)), 413, &[]).await;
    let answer = rig.call(Method::POST, TOPOLOGIES, b"{\"name\":\"\xff\"}".to_vec()).await;
    answer.problem(400);

    // the one good request among them was that of a null size
    let after = rig.state().await;
    let names = |state: &Value| {
        state["topologies"]["items"].as_array().expect("items").iter().map(|t| t["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&before), ["taken"]);
    assert_eq!(names(&after), ["taken", "good"]);
    assert_eq!(before["scripts.git"], after["scripts.git"]);
    let branches =
        after["config.git"].as_object().expect("refs").keys().filter(|name| name.contains('@')).collect::<Vec<_>>();
    assert_eq!(branches, ["refs/heads/good@z1", "refs/heads/taken@z1"]);
}

#[tokio::test]
async fn a_change_is_checked_like_a_creation() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let view = rig.get(&format!("{TOPOLOGIES}/{id}")).await;
    let component = view["components"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/straas/v1.0/components/{component}");
    let before = rig.state().await;
    let check = async |body: &str, status: u16, pointers: &[&str]| {
        let answer = rig.call(Method::PATCH, &path, body.into()).await;
        assert_eq!(answer.problem(status).into_keys().collect::<Vec<_>>(), pointers, "{body}");
    };
    check("{}", 422, &[""]).await;
    check("nope", 400, &[]).await;
    check(r#"{"version":"9"}"#, 422, &["/version"]).await;
    check(r#"{"version":3}"#, 422, &["/version"]).await;
    check(r#"{"version":"3.8.0","version":"3.8.0"}"#, 422, &["/version"]).await;
    check(r#"{"versoin":"3.8.0"}"#, 422, &[""]).await;
    rig.call(Method::PATCH, "/straas/v1.0/components/nobody", b"{}".to_vec()).await.problem(404);
    let dry = rig.call(Method::PATCH, &format!("{path}?dry_run=true"), br#"{"version":"3.8.0"}"#.to_vec()).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(rig.state().await["jobs"], before["jobs"], "a dry run records no job");
}
