//! What reaches nodes in waves: versions, configurations; turned back, paused, cancelled, refused.

use crate::life::{API, Town, text};
use crate::rig::{TOPOLOGIES, topology};
use http::Method;
use serde_json::{Value, json};
use straas_schemas::Stage;

#[tokio::test]
async fn another_version_reaches_every_node_and_takes_the_configuration_along() {
    let mut town = Town::new(3).await;
    town.add_version("3.8.1");
    let tick = town.set_tick_time(2500);
    let before = (town.spec().await, town.rig.state().await["config.git"].clone());
    let dry = town.call(Method::PATCH, &format!("{}?dry_run=true", town.path()), &json!({ "version": "3.8.1" })).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let changes = dry.json()["changes"].to_string();
    assert!(changes.contains("tickTime=2500 is taken along"), "{changes}");
    assert_eq!((town.spec().await, town.rig.state().await["config.git"].clone()), before, "a dry run writes nothing");

    let body = json!({ "version": "3.8.1", "rollout": { "max_failures": 2 } });
    let job = town.begin(Method::PATCH, &town.path(), body).await;
    assert_eq!(job["kind"], "upgrade");
    let spec = town.spec().await;
    let rollout = spec.rollout.expect("a rollout");
    assert_eq!(
        (rollout.job.as_str(), rollout.canary, rollout.max_failures),
        (job["id"].as_str().expect("id"), true, 2)
    );
    assert_eq!((rollout.before.version.as_str(), spec.want.version.as_str()), ("3.8.0", "3.8.1"));
    let adopted = straas_repos::CommitId::parse(&spec.want.config).expect("a commit");
    let effective = town.configs().effective(&adopted, "zookeeper", "3.8.1").expect("readable");
    assert!(format!("{effective:?}").contains("2500"), "{effective:?}");
    assert_ne!(spec.want.config, tick);
    town.until_job(&job, "succeeded").await;
    town.rig.until(&town.path(), |answer| answer.json()["rollout"].is_null()).await;
    let view = town.rig.get(&town.path()).await;
    assert_eq!((&view["version"], &view["config"]), (&json!("3.8.1"), &json!(spec.want.config)));
    let same = town.call(Method::PATCH, &town.path(), &json!({ "version": "3.8.1" })).await;
    assert_eq!((same.status, &same.json()["job"]), (200, &Value::Null));
}

#[tokio::test]
async fn what_fails_its_canary_is_turned_back_and_refused_until_released() {
    let mut town = Town::new(1).await;
    town.add_version("3.8.1");
    town.agents[0].fails = Some(Stage::Install);
    let body = json!({ "version": "3.8.1" });
    let job = town.begin(Method::PATCH, &town.path(), body.clone()).await;
    while town.spec().await.rollout.is_some_and(|rollout| rollout.reverted.is_none()) {
        town.live_once().await;
    }
    town.agents[0].fails = None;
    let done = town.until_job(&job, "rolled_back").await;
    assert_eq!(done["kind"], "upgrade");
    assert_eq!(town.spec().await.want.version, "3.8.0");
    town.rig.until(&town.path(), |answer| answer.json()["rollout"].is_null()).await;
    let quarantine = town.rig.get(&format!("{API}/quarantine")).await["items"].clone();
    let record = &quarantine[0];
    assert_eq!((&record["what"], &record["key"]), (&json!("version"), &json!("zookeeper@3.8.1")), "{quarantine}");
    assert!(text(&record["reason"]).contains("town-zk-1"), "{record}");
    // nobody gets it, here or elsewhere
    let before = town.rig.state().await;
    for query in ["", "?dry_run=true"] {
        let refused = town.call(Method::PATCH, &format!("{}{query}", town.path()), &body).await;
        let faults = refused.problem(409);
        assert!(faults["/version"].contains("DELETE /straas/v1.0/quarantine/version/zookeeper@3.8.1"), "{faults:?}");
    }
    let mut other = topology("other");
    other["components"][0]["version"] = json!("3.8.1");
    let faults = town.rig.post(TOPOLOGIES, &other).await.problem(409);
    assert!(faults.contains_key("/components/0/version"), "{faults:?}");
    let after = town.rig.state().await;
    assert_eq!((&after["jobs"], &after["config.git"]), (&before["jobs"], &before["config.git"]));
    // until somebody says so
    let release = format!("{API}/quarantine/version/zookeeper@3.8.1");
    assert_eq!(town.call(Method::DELETE, &release, &Value::Null).await.status, 204);
    town.call(Method::DELETE, &release, &Value::Null).await.problem(404);
    town.call(Method::DELETE, &format!("{API}/quarantine/colour/red"), &Value::Null).await.problem(404);
    let job = town.begin(Method::PATCH, &town.path(), body).await;
    town.until_job(&job, "succeeded").await;
}

#[tokio::test]
async fn a_configuration_is_applied_and_rolled_back() {
    let mut town = Town::new(1).await;
    let first = town.spec().await.want.config;
    let second = town.set_tick_time(2500);
    let tree = |reference: &str| format!("{}/tree/{reference}", town.path());
    let (to_second, to_branch, to_first) = (tree(&second), tree("town@z1"), tree(&first));
    let dry = town.call(Method::PUT, &format!("{to_second}?dry_run=true"), &Value::Null).await;
    assert_eq!(dry.status, 200, "{}", dry.text());
    let job = town.begin(Method::PUT, &to_branch, Value::Null).await;
    assert_eq!(job["kind"], "configure");
    assert!(town.spec().await.rollout.expect("a rollout").canary);
    town.until_job(&job, "succeeded").await;
    assert_eq!(town.spec().await.want.config, second);
    let same = town.call(Method::PUT, &to_second, &json!({})).await;
    assert_eq!((same.status, &same.json()["job"]), (200, &Value::Null));
    let job = town.begin(Method::PUT, &to_first, json!({ "max_failures": 3 })).await;
    assert_eq!(job["kind"], "rollback");
    let rollout = town.spec().await.rollout.expect("a rollout");
    assert_eq!((rollout.canary, rollout.max_failures), (false, 3), "what worked before needs no canary");
    town.until_job(&job, "succeeded").await;
    let job = town.begin(Method::PATCH, &town.path(), json!({ "config": second })).await;
    assert_eq!(job["kind"], "configure");

    // what is not the topology's, not there, or broken
    town.rig.create("other", 1).await;
    let foreign = town.configs().write("other@z1", "README", b"x", "elsewhere", "a tenant").expect("a commit");
    let broken = town.configs().write("town@z1", "app/zookeeper/3.8.0/user.json", b"{", "oops", "a tenant");
    let before = town.spec().await;
    let mut refused =
        vec![foreign.to_string(), "nowhere@z1".into(), "f".repeat(40), "HEAD~1".into(), "town@z1&v1".into()];
    refused.extend(broken.ok().map(String::from));
    for reference in &refused {
        for query in ["", "?dry_run=true"] {
            let answer =
                town.call(Method::PUT, &format!("{}/tree/{reference}{query}", town.path()), &Value::Null).await;
            assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), ["/ref"], "{reference}: {}", answer.text());
        }
        let answer = town.call(Method::PATCH, &town.path(), &json!({ "config": reference })).await;
        assert_eq!(answer.problem(422).into_keys().collect::<Vec<_>>(), ["/config"], "{reference}");
    }
    for body in ["[]", "{\"canary\":1}", "{\"max_failures\":0}", "{\"x\":1}"] {
        town.rig.call(Method::PUT, &to_second, body.into()).await.problem(422);
    }
    assert_eq!(town.spec().await, before);
}

#[tokio::test]
async fn a_change_is_paused_resumed_and_cancelled() {
    let mut town = Town::new(1).await;
    let first = town.spec().await.want;
    let second = town.set_tick_time(2500);
    let job = town.begin(Method::PUT, &format!("{}/tree/{second}", town.path()), Value::Null).await;
    let path = format!("{API}/jobs/{}", text(&job["id"]));
    let steer = async |town: &Town, verb: &str| town.call(Method::POST, &format!("{path}/{verb}"), &Value::Null).await;
    for _ in 0..2 {
        let paused = steer(&town, "pause").await;
        assert_eq!((paused.status, &paused.json()["state"]), (200, &json!("paused")), "{}", paused.text());
    }
    assert!(town.spec().await.rollout.expect("a rollout").paused);
    let resumed = steer(&town, "resume").await;
    assert_eq!((resumed.status, &resumed.json()["id"]), (200, &job["id"]));
    let rollout = town.spec().await.rollout.expect("a rollout");
    assert_eq!((rollout.paused, rollout.max_failures), (false, 1));
    steer(&town, "pause").await;
    let dry = town.call(Method::POST, &format!("{path}/cancel?dry_run=true"), &Value::Null).await;
    assert_eq!((dry.status, dry.json()["steps"].is_array()), (200, true), "{}", dry.text());
    assert!(town.spec().await.rollout.expect("a rollout").reverted.is_none());
    // sizes and nodes that changed meanwhile stay as they are
    town.begin(Method::POST, &town.path(), json!({ "count": 2 })).await;
    for _ in 0..2 {
        let cancelled = steer(&town, "cancel").await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    }
    let spec = town.spec().await;
    let rollout = spec.rollout.expect("a rollout");
    assert!(!rollout.paused && rollout.reverted.expect("reverted").by_user);
    assert_eq!((spec.want.config, spec.want.groups[0].size), (first.config, 3));
    for verb in ["pause", "resume"] {
        steer(&town, verb).await.problem(409);
    }
    town.until_job(&job, "cancelled").await;
    for verb in ["pause", "resume", "cancel"] {
        steer(&town, verb).await.problem(409);
    }
    assert_eq!(
        town.rig.get(&format!("{API}/quarantine")).await["items"],
        json!([]),
        "a user's change of mind is no fault"
    );
    for verb in ["pause", "resume", "cancel"] {
        town.call(Method::POST, &format!("{API}/jobs/nobody/{verb}"), &Value::Null).await.problem(404);
    }
}

#[tokio::test]
async fn what_is_made_or_deleted_as_a_whole_is_not_steered() {
    let town = Town::new(1).await;
    // its deletion waits for a host that is being made
    town.rig.hosts.held.send_replace(true);
    let id = town.rig.create("fresh", 1).await;
    let job = text(&town.rig.get(&format!("{TOPOLOGIES}/{id}")).await["job"]);
    for verb in ["pause", "resume", "cancel"] {
        town.call(Method::POST, &format!("{API}/jobs/{job}/{verb}"), &Value::Null).await.problem(409);
    }
    let job = text(&town.rig.delete(&id).await.json()["job"]["id"]);
    town.call(Method::POST, &format!("{API}/jobs/{job}/cancel"), &Value::Null).await.problem(409);
    let component = text(&town.rig.get(&format!("{TOPOLOGIES}/{id}")).await["components"][0]["id"]);
    for (method, body) in
        [(Method::POST, json!({ "count": 2 })), (Method::PATCH, json!({ "size": 3 })), (Method::DELETE, Value::Null)]
    {
        town.call(method, &format!("{API}/components/{component}"), &body).await.problem(409);
    }
    town.rig.hosts.held.send_replace(false);
}
