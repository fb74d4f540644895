//! Requests that name themselves: carried out once, whatever dies in the middle.

use crate::conformance::fixture::World;
use crate::{
    Begun, REQUEST_AGE_MS_MAX, REQUESTS_PER_TENANT_MAX, RequestClaim, RequestKey, Store, StoreError, TenantRecord,
};
use serde_json::json;
use std::sync::Arc;

fn key(tenant: &str, digest: &str) -> RequestKey {
    RequestKey { tenant: tenant.to_owned(), key: "key 1".to_owned(), digest: digest.to_owned() }
}

fn claim(tenant: &str, id: &str) -> RequestClaim {
    RequestClaim { tenant: tenant.to_owned(), key: "key 1".to_owned(), id: id.to_owned() }
}

fn tenant(id: &str) -> TenantRecord {
    TenantRecord { id: id.to_owned(), created_ms: 1 }
}

pub(super) async fn answered_as_the_first_time(store: Arc<dyn Store>) {
    let begin =
        async |digest: &str, claim: &str, now| store.begin_request(&key("ra", digest), claim, now, now + 10).await;
    assert_eq!(begin("d", "one", 100).await.unwrap(), Begun::New);
    assert_eq!(begin("d", "two", 105).await.unwrap(), Begun::Running { until_ms: 110 });
    assert_eq!(begin("other", "two", 105).await.unwrap(), Begun::Other);
    assert!(store.renew_request(&claim("ra", "one"), 120).await.unwrap());
    assert!(!store.renew_request(&claim("ra", "two"), 999).await.unwrap(), "it is not his");
    assert_eq!(begin("d", "two", 115).await.unwrap(), Begun::Running { until_ms: 120 });
    store.end_request(&claim("ra", "two"), Some("not his to answer")).await.unwrap();
    store.end_request(&claim("ra", "one"), Some("{\"status\": 202}")).await.unwrap();
    for now in [116, 500, 100 + REQUEST_AGE_MS_MAX] {
        assert_eq!(begin("d", "three", now).await.unwrap(), Begun::Answered("{\"status\": 202}".to_owned()));
        assert_eq!(begin("other", "three", now).await.unwrap(), Begun::Other);
    }
    assert!(!store.renew_request(&claim("ra", "one"), 999).await.unwrap(), "it has ended");
    // another tenant's of the same name is another
    assert_eq!(store.begin_request(&key("ra2", "other"), "x", 100, 110).await.unwrap(), Begun::New);
    // a day later the name is free
    assert_eq!(begin("other", "four", 101 + REQUEST_AGE_MS_MAX).await.unwrap(), Begun::New);
}

pub(super) async fn a_refused_one_is_forgotten(store: Arc<dyn Store>) {
    let begin = async |digest: &str| store.begin_request(&key("rr", digest), "one", 100, 110).await.unwrap();
    assert_eq!(begin("wrong").await, Begun::New);
    store.end_request(&claim("rr", "one"), None).await.unwrap();
    assert_eq!(begin("mended").await, Begun::New, "it may be asked for otherwise");
    // one that changed something is not
    let bound = store.claimed(&claim("rr", "one"), &json!({ "job": 7 }));
    bound.add_tenant(&tenant("rr-made")).await.unwrap();
    store.end_request(&claim("rr", "one"), None).await.unwrap();
    assert_eq!(begin("mended").await, Begun::Made(json!({ "job": 7 })));
}

pub(super) async fn what_is_made_and_the_note_of_it_are_one(store: Arc<dyn Store>) {
    let begin = async |claim: &str, now| store.begin_request(&key("rm", "d"), claim, now, now + 10).await.unwrap();
    assert_eq!(begin("dies", 100).await, Begun::New);
    // it changed nothing: another takes it over
    assert_eq!(begin("lives", 110).await, Begun::New);
    let late = store.claimed(&claim("rm", "dies"), &json!("late"));
    let lost = late.add_tenant(&tenant("rm-late")).await;
    assert!(matches!(lost, Err(StoreError::Conflict { what: "request", .. })), "{lost:?}");
    store.add_tenant(&tenant("rm-late")).await.expect("nothing was changed");
    // what is refused is not noted
    let bound = store.claimed(&claim("rm", "lives"), &json!({ "made": "it" }));
    let taken = bound.add_tenant(&tenant("rm-late")).await;
    assert!(matches!(taken, Err(StoreError::Duplicate { .. })), "{taken:?}");
    assert_eq!(begin("third", 130).await, Begun::New);
    let bound = store.claimed(&claim("rm", "third"), &json!({ "made": "it" }));
    bound.add_tenant(&tenant("rm-made")).await.unwrap();
    bound.add_tenant(&tenant("rm-made-2")).await.expect("a request may change more than one thing");
    // it dies before it answers
    assert_eq!(begin("fourth", 139).await, Begun::Running { until_ms: 140 });
    assert_eq!(begin("fourth", 140).await, Begun::Made(json!({ "made": "it" })));
    // every way of changing something is bound
    let world = World::new(store.clone(), "rm", 1).await;
    let late = store.claimed(&claim("rm", "dies"), &json!("late"));
    let lost = late.change_component(&world.component, 1, None).await;
    assert!(matches!(lost, Err(StoreError::Conflict { what: "request", .. })), "{lost:?}");
    let lost = late.queue_commands(&[world.command(0, 1)], None).await;
    assert!(matches!(lost, Err(StoreError::Conflict { what: "request", .. })), "{lost:?}");
    assert_eq!(store.component(&world.component.id).await.unwrap().unwrap().revision, 1);
    assert!(store.waiting_commands(world.id(0)).await.unwrap().is_empty());
}

pub(super) async fn bounded_per_tenant(store: Arc<dyn Store>) {
    let key = |number: u32| RequestKey { key: format!("k{number}"), ..key("rb", "d") };
    for number in 0..REQUESTS_PER_TENANT_MAX {
        assert_eq!(store.begin_request(&key(number), "c", 100, 110).await.unwrap(), Begun::New);
    }
    let more = key(REQUESTS_PER_TENANT_MAX);
    assert_eq!(store.begin_request(&more, "c", 100, 110).await.unwrap(), Begun::Full);
    // one that is known is answered all the same
    assert_eq!(store.begin_request(&key(0), "c", 100, 110).await.unwrap(), Begun::Running { until_ms: 110 });
    assert_eq!(store.begin_request(&more, "c", 101 + REQUEST_AGE_MS_MAX, 0).await.unwrap(), Begun::New);
}

pub(super) async fn one_claim_among_many(store: Arc<dyn Store>) {
    let asking = (0..16).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.begin_request(&key("rc", "d"), &format!("c{number}"), 100, 110).await })
    });
    let mut new = 0;
    for asked in asking.collect::<Vec<_>>() {
        match asked.await.unwrap().unwrap() {
            Begun::New => new += 1,
            Begun::Running { until_ms } => assert_eq!(until_ms, 110),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(new, 1);
}
