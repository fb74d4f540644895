//! As of a time: what a node was told, had run and had reported.

use crate::agent::live;
use crate::rig::{Rig, TOPOLOGIES};
use http::Method;

#[tokio::test]
async fn a_node_is_shown_as_it_was() {
    let rig = Rig::start().await;
    let id = rig.create("demo", 1).await;
    let mut agents = rig.enrolled(&id, 1).await;
    let path = format!("/straas/v1.0/nodes/{}/history", agents[0].node);
    let before = rig.get(&path).await;
    assert_eq!(
        (before["reports"].as_array().map(Vec::len), &before["incarnation"]),
        (Some(0), &serde_json::Value::Null)
    );
    live(&rig, &mut agents, &id, "ACTIVE").await;

    let now = rig.get(&path).await;
    let stages: Vec<_> = now["stages"].as_array().expect("stages").iter().map(|run| &run["stage"]).collect();
    assert_eq!(stages, ["install", "pre_config", "config", "validate"]);
    assert!(now["stages"].as_array().expect("stages").iter().all(|run| run["outcome"] == "succeeded"), "{now}");
    assert_eq!(now["converged_generation"], now["told"]["generation"]);
    assert_eq!(now["told"]["assignment"]["generation"], now["told"]["generation"]);
    assert_eq!(now["told"]["version"], "3.8.0");
    assert_eq!(now["incarnation"], 1);
    // as of the first report nothing but it had happened
    let all = rig.get(&format!("{path}?limit=200")).await;
    let reports = all["reports"].as_array().expect("reports").clone();
    let first = reports.last().expect("a report");
    assert_eq!(first["report"]["seq"], 1);
    let then = rig.get(&format!("{path}?at_ms={}&limit=1", first["received_ms"])).await;
    assert_eq!(then["reports"].as_array().map(Vec::len), Some(1));
    assert!(then["told"]["generation"].as_u64() <= now["told"]["generation"].as_u64());
    let never = rig.get(&format!("{path}?at_ms=0")).await;
    assert_eq!((&never["told"], never["stages"].as_array().map(Vec::len)), (&serde_json::Value::Null, Some(0)));
    for (wrong, status) in [("limit=0", 422), ("limit=201", 422), ("at_ms=-1", 422), ("at_ms=soon", 400), ("at=1", 400)]
    {
        rig.call(Method::GET, &format!("{path}?{wrong}"), vec![]).await.problem(status);
    }
    rig.delete(&id).await;
    rig.until(&format!("{TOPOLOGIES}/{id}"), |answer| answer.status == 404).await;
    rig.call(Method::GET, &path, vec![]).await.problem(404);
}
