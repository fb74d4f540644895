//! Services stopped, started and restarted.

use crate::life::{API, Town, text};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn services_are_stopped_started_and_restarted() {
    let town = Town::new(3).await;
    let (one, two) = (town.node("town-zk-1").await, town.node("town-zk-2").await);
    let services = |id: &str| format!("{API}/nodes/{id}/services");
    let (of_one, of_all) = (services(&one), format!("{}/services", town.path()));
    let wishes = async || town.spec().await.want.nodes;
    let nothing = async |method: Method, path: &str| {
        let answer = town.call(method, path, &Value::Null).await;
        assert_eq!((answer.status, &answer.json()["job"]), (200, &Value::Null), "{}", answer.text());
    };
    nothing(Method::POST, &of_one).await;
    let dry = town.call(Method::DELETE, &format!("{of_one}?dry_run=true"), &Value::Null).await;
    assert_eq!((dry.status, wishes().await.len()), (200, 0), "{}", dry.text());
    let job = town.begin(Method::DELETE, &of_one, Value::Null).await;
    assert_eq!((&job["kind"], &job["detail"]), (&json!("stop"), &json!("stop town-zk-1")));
    nothing(Method::DELETE, &of_one).await;
    assert!(wishes().await[&one.as_str().into()].stopped);
    // a restart starts nothing that is to be stopped
    town.call(Method::PUT, &of_one, &Value::Null).await.problem(409);
    assert_eq!(town.begin(Method::PUT, &of_all, Value::Null).await["kind"], "restart");
    town.begin(Method::PUT, &services(&two), Value::Null).await;
    let restarts = |wishes: &std::collections::BTreeMap<straas_schemas::NodeId, straas_store::NodeSpec>, id: &str| {
        wishes.get(&id.into()).map_or(0, |wish| wish.restarts)
    };
    let seen = wishes().await;
    assert_eq!((restarts(&seen, &one), restarts(&seen, &two)), (0, 2));
    // all of them; those that were stopped before stay so when that is taken back
    let job = town.begin(Method::DELETE, &of_all, Value::Null).await;
    assert_eq!(wishes().await.values().filter(|wish| wish.stopped).count(), 3);
    town.call(Method::PUT, &of_all, &Value::Null).await.problem(409);
    let cancel = format!("{API}/jobs/{}/cancel", text(&job["id"]));
    let cancelled = town.call(Method::POST, &cancel, &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")), "{}", cancelled.text());
    let seen = wishes().await;
    let stopped: Vec<_> = seen.iter().filter(|(_, wish)| wish.stopped).map(|(id, _)| id.as_str()).collect();
    assert_eq!(stopped, [one.as_str()]);
    assert_eq!(restarts(&seen, &two), 2, "counters never go back");
    town.begin(Method::POST, &of_all, Value::Null).await;
    nothing(Method::POST, &of_all).await;
    let restart = town.begin(Method::PUT, &of_one, Value::Null).await;
    town.call(Method::POST, &format!("{API}/jobs/{}/cancel", text(&restart["id"])), &Value::Null).await.problem(409);
    for id in ["nobody", "..", "%00"] {
        assert!(matches!(town.call(Method::PUT, &services(id), &Value::Null).await.status, 400 | 404), "{id}");
    }
}
