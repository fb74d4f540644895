//! Files of tenants: uploaded whole and in parts, listed, read, bounded, and given to nodes.

use crate::life::{API, Town, text};
use crate::rig::Rig;
use crate::wire::Answer;
use http::Method;
use serde_json::{Value, json};
use straas_schemas::Digest;
use tokio::io::AsyncWriteExt as _;

const HERE: &str = "/straas/v1.0/storage/local/regions/z1";

async fn put(rig: &Rig, path: &str, content: &str) -> Answer {
    rig.call(Method::POST, &format!("{HERE}/{path}"), content.as_bytes().to_vec()).await
}

async fn paths(rig: &Rig, query: &str) -> Vec<String> {
    let page = rig.get(&format!("{HERE}{query}")).await;
    page["items"].as_array().expect("items").iter().map(|file| text(&file["path"])).collect()
}

#[tokio::test]
async fn files_are_uploaded_listed_read_and_deleted() {
    let rig = Rig::start().await;
    let made = put(&rig, "jars/word count.jar".replace(' ', "%20").as_str(), "one").await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["path"], &made["size"], &made["region"]),
        (&json!("jars/word count.jar"), &json!(3), &json!("z1"))
    );
    assert_eq!(made["sha256"], Digest::sha256(b"one").as_str());
    for path in ["jars/b", "jars/deep/c", "other/d"] {
        assert_eq!(put(&rig, path, path).await.status, 201);
    }
    assert_eq!(put(&rig, "jars/b", "another").await.status, 200, "in the place of another");
    assert_eq!(paths(&rig, "").await, ["jars/b", "jars/deep/c", "jars/word count.jar", "other/d"]);
    assert_eq!(paths(&rig, "/").await.len(), 4);
    assert_eq!(paths(&rig, "/jars/deep").await, ["jars/deep/c"]);
    assert_eq!(paths(&rig, "/jars?limit=1").await, ["jars/b"]);
    assert_eq!(paths(&rig, "/jars?limit=1&marker=jars/b").await, ["jars/deep/c"]);
    let content = rig.call(Method::GET, &format!("{HERE}/jars/b?content=true"), Vec::new()).await;
    assert_eq!((content.status, content.text().as_str()), (200, "another"));
    assert_eq!(content.header("x-straas-sha256"), Digest::sha256(b"another").as_str());
    rig.call(Method::GET, &format!("{HERE}/jars?content=true"), Vec::new()).await.problem(404);
    assert_eq!(rig.call(Method::DELETE, &format!("{HERE}/jars/b"), Vec::new()).await.status, 204);
    rig.call(Method::DELETE, &format!("{HERE}/jars/b"), Vec::new()).await.problem(404);
    // nobody else sees them
    assert_eq!(rig.post("/straas/v1.0/tenants", &json!({ "id": "red" })).await.status, 201);
    let token = rig.post("/straas/v1.0/tokens", &json!({ "label": "r", "tenant": "red" })).await.json();
    let red = [("x-auth-token", token["token"].as_str().expect("a token"))];
    let seen = rig.raw(Method::GET, HERE, &red, Vec::new()).await.json();
    assert_eq!(seen["items"], json!([]));
    let theirs = format!("{HERE}/other/d");
    rig.raw(Method::GET, &format!("{theirs}?content=true"), &red, Vec::new()).await.problem(404);
    rig.raw(Method::DELETE, &theirs, &red, Vec::new()).await.problem(404);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_and_leaves_nothing() {
    let rig = Rig::start_with("[storage]\nfile_mib_max = 1\ntenant_mib_max = 2\n").await;
    let check = async |path: &str, body: Vec<u8>, status: u16, says: &str| {
        let answer = rig.call(Method::POST, path, body).await;
        answer.problem(status);
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    };
    let small = || b"x".to_vec();
    check("/straas/v1.0/storage/swift/regions/z1/c/a", small(), 404, "there is local").await;
    check(&format!("{HERE}/alone"), small(), 400, "no container").await;
    check(&format!("{HERE}/c/%2E%2E/x"), small(), 400, "cannot be a folder").await;
    check(&format!("{HERE}/c//x"), small(), 400, "cannot be a folder").await;
    check("/straas/v1.0/storage/local/regions/Z%20one/c/a", small(), 400, "region").await;
    check(&format!("{HERE}/c/a?sha256=abc"), small(), 400, "sha256").await;
    check(&format!("{HERE}/c/a?sha256={}", "0".repeat(64)), small(), 422, "which is another").await;
    check(&format!("{HERE}/c/a?offset=1"), small(), 400, "offset needs sha256").await;
    let mib = 1 << 20;
    check(&format!("{HERE}/c/a"), vec![0; mib + 1], 413, "").await;
    for name in ["a", "b"] {
        let made = rig.call(Method::POST, &format!("{HERE}/c/{name}"), vec![name.as_bytes()[0]; mib]).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    check(&format!("{HERE}/c/c"), vec![2; 1], 409, "2 MiB").await;
    let kept = std::fs::read_dir(rig.data().join("objects/partial")).expect("a folder").count();
    assert_eq!((paths(&rig, "").await.len(), kept), (2, 0));
}

#[tokio::test]
async fn an_upload_that_broke_off_is_gone_on_with() {
    let rig = Rig::start().await;
    let content = "a file that does not come in one piece".repeat(1000);
    let sha256 = Digest::sha256(content.as_bytes());
    let target = format!("{HERE}/c/a?sha256={sha256}");
    let state = format!("/straas/v1.0/storage/local/uploads/{sha256}");
    assert_eq!(rig.get(&state).await, json!({ "have": 0 }));
    // a client that goes in the middle of its body
    let mut stream = rig.connect().await;
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: straas\r\nx-auth-token: {}\r\ncontent-length: {}\r\n\r\n",
        rig.token,
        content.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&content.as_bytes()[..20_000]).await.expect("sent");
    let came = rig.until(&state, |answer| answer.json()["have"] == 20_000).await;
    assert_eq!(came.status, 200);
    // while it is at work, nobody else may write
    let rest = content.as_bytes()[20_000..].to_vec();
    rig.call(Method::POST, &format!("{target}&offset=20000"), rest.clone()).await.problem(409);
    drop(stream);
    let done = async || rig.call(Method::POST, &format!("{target}&offset=20000"), rest.clone()).await;
    let begun = std::time::Instant::now();
    let made = loop {
        let made = done().await;
        if made.status != 409 {
            break made;
        }
        assert!(begun.elapsed() < crate::rig::PATIENCE, "{}", made.text());
        // waits for: the controller to see that the connection is gone
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!((&made.json()["size"], &made.json()["sha256"]), (&json!(content.len()), &json!(sha256)));
    let read = rig.call(Method::GET, &format!("{HERE}/c/a?content=true"), Vec::new()).await;
    assert_eq!(read.text(), content);
    // at another place than where it ended, it is told where that was
    std::fs::write(rig.data().join("objects/partial").join(Digest::of(&["admin", sha256.as_str()]).as_str()), "abc")
        .expect("written");
    let wrong = rig.call(Method::POST, &format!("{target}&offset=2"), rest).await;
    wrong.problem(409);
    assert!(wrong.text().contains("offset=3"), "{}", wrong.text());
}

/// What a node of a town is assigned, as (path, hash, mode).
fn assigned(town: &Town, node: &str) -> Vec<(String, String, u32)> {
    let agent = town.agents.iter().find(|agent| agent.node == node).expect("an agent");
    let files = agent.assignment().files.iter();
    files.map(|file| (file.path.clone(), file.sha256.to_string(), file.mode)).collect()
}

#[tokio::test]
async fn files_are_given_to_nodes_and_taken() {
    let mut town = Town::new(3).await;
    assert_eq!(put(&town.rig, "jars/a", "one").await.status, 201);
    let (give, take) = (format!("{API}/nodes/files"), format!("{API}/nodes/files/removal"));
    let order = |scope: &str, item: &str| json!({ "scope": scope, "items": [item], "container": "jars", "filename": "a", "target_path": "/opt/a" });
    let dry = town.call(Method::POST, &format!("{give}?dry_run=true"), &order("topology", &town.topology)).await;
    assert_eq!((dry.status, town.spec().await.want.files.len()), (200, 0), "{}", dry.text());
    assert!(dry.text().contains("zk /opt/a ← local:z1/jars/a (3 bytes"), "{}", dry.text());
    let begin = async |town: &Town, path: &str, body: Value| {
        let answer = town.call(Method::POST, path, &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["jobs"][0].clone()
    };
    let job = begin(&town, &give, order("topology", &town.topology)).await;
    assert_eq!((&job["kind"], &job["steps"][0]["stage"]), (&json!("files"), &json!("files")));
    let done = town.until_job(&job, "succeeded").await;
    assert_eq!(done["steps"][0]["done"], 3, "{done:#}");
    let one = ("/opt/a".to_owned(), Digest::sha256(b"one").to_string(), 0o644);
    let node = town.node("town-zk-1").await;
    assert_eq!(assigned(&town, &node), std::slice::from_ref(&one));
    let again = town.call(Method::POST, &give, &order("components", &town.component)).await;
    assert_eq!(again.status, 202, "asked for the component alone, it is not a file of the topology any more");
    // no stage ran again for it
    let stages = town.rig.get(&format!("{API}/nodes/{node}")).await;
    assert_eq!((&stages["stages"]["config"]["attempt"], &stages["files"][0]["path"]), (&json!(1), &json!("/opt/a")));
    // the agent may fetch what it is assigned, and no other
    let agent = town.agents.iter().find(|agent| agent.node == node).expect("an agent");
    let fetched = agent.ask(Method::GET, &agent.path(&format!("files/{}", one.1)), Vec::new()).await;
    assert_eq!((fetched.status, fetched.text().as_str()), (200, "one"));
    assert_eq!(put(&town.rig, "jars/a", "two").await.status, 200);
    let two = Digest::sha256(b"two");
    let refused = agent.ask(Method::GET, &agent.path(&format!("files/{two}")), Vec::new()).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    // what was promised is still there, although its name has other content; also for a node that comes later
    let flexup = town.begin(Method::POST, &town.path(), json!({ "count": 2 })).await;
    town.until_job(&flexup, "succeeded").await;
    let newcomer = town.node("town-zk-5").await;
    assert_eq!(assigned(&town, &newcomer), std::slice::from_ref(&one));
    // one node gets the new content; cancelled, it has the old one again
    let mut own = order("node", &node);
    own["mode"] = json!("0600");
    let job = begin(&town, &give, own).await;
    town.until_job(&job, "succeeded").await;
    assert_eq!(assigned(&town, &node), [("/opt/a".to_owned(), two.to_string(), 0o600)]);
    assert_eq!(assigned(&town, &newcomer), std::slice::from_ref(&one));
    let job = begin(&town, &give, order("component", &town.component)).await;
    let cancelled = town.call(Method::POST, &format!("{API}/jobs/{}/cancel", text(&job["id"])), &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")), "{}", cancelled.text());
    let job = begin(&town, &take, json!({ "scope": "node", "items": [node], "target_path": "/opt/a" })).await;
    town.until_job(&job, "succeeded").await;
    assert_eq!(assigned(&town, &node), [one]);
    let job =
        begin(&town, &take, json!({ "scope": "topology", "items": [town.topology], "target_path": "/opt/a" })).await;
    town.until_job(&job, "succeeded").await;
    assert_eq!((assigned(&town, &node), assigned(&town, &newcomer)), (vec![], vec![]));
    let nothing = town
        .call(Method::POST, &take, &json!({ "scope": "topology", "items": [town.topology], "target_path": "/opt/a" }))
        .await;
    assert_eq!((nothing.status, nothing.json()), (200, json!({ "jobs": [] })));
}

#[tokio::test]
async fn a_component_that_comes_later_has_what_the_topology_was_given() {
    let town = Town::new(1).await;
    assert_eq!(put(&town.rig, "jars/a", "one").await.status, 201);
    for (scope, item, target) in
        [("topology", &town.topology, "/opt/all"), ("component", &town.component, "/opt/zk-only")]
    {
        let body =
            json!({ "scope": scope, "items": [item], "container": "jars", "filename": "a", "target_path": target });
        let given = town.call(Method::POST, &format!("{API}/nodes/files"), &body).await;
        assert_eq!(given.status, 202, "{}", given.text());
    }
    let path = format!("{}/{}/components", crate::rig::TOPOLOGIES, town.topology);
    let added = town.call(Method::POST, &path, &json!({ "name": "second", "type": "zookeeper", "size": 1 })).await;
    assert_eq!(added.status, 202, "{}", added.text());
    let id = text(&added.json()["id"]);
    let store = town.rig.store().await;
    let record = straas_store::Store::component(&store, &id.as_str().into()).await.expect("read").expect("a component");
    let targets: Vec<_> = record.spec.want.files.iter().map(|file| file.target_path.as_str()).collect();
    assert_eq!(targets, ["/opt/all"]);
}

#[tokio::test]
async fn what_no_node_can_have_is_refused() {
    let town = Town::new(1).await;
    assert_eq!(put(&town.rig, "jars/a", "one").await.status, 201);
    let good = json!({
        "scope": "topology", "items": [town.topology], "container": "jars", "filename": "a", "target_path": "/opt/a"
    });
    let check = async |change: Value, pointers: &[&str]| {
        let mut body = good.clone();
        for (key, value) in change.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let faults = town.call(Method::POST, &format!("{API}/nodes/files"), &body).await.problem(422);
        assert_eq!(faults.keys().map(String::as_str).collect::<Vec<_>>(), pointers, "{body}");
    };
    check(json!({ "target_path": "opt/a" }), &["/target_path"]).await;
    check(json!({ "target_path": "/opt/../etc/passwd" }), &["/target_path"]).await;
    check(json!({ "target_path": "/etc/straas/agent.toml" }), &["/target_path"]).await;
    check(json!({ "filename": "../b", "target_path": "/x/" }), &["/filename", "/target_path"]).await;
    check(json!({ "container": "a/b" }), &["/container"]).await;
    check(json!({ "filename": "none" }), &["/filename"]).await;
    check(json!({ "storage": "swift" }), &["/storage"]).await;
    check(json!({ "region": "z2" }), &["/filename"]).await;
    check(json!({ "mode": "rw" }), &["/mode"]).await;
    check(json!({ "mode": "4755" }), &["/mode"]).await;
    check(json!({ "scope": "galaxy" }), &["/scope"]).await;
    check(json!({ "items": [town.topology, "nobody"] }), &["/items/1"]).await;
    assert_eq!(town.spec().await.want.files, []);
}
