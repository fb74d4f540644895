//! The pool of hosts.

use super::fixture::is_conflict;
use crate::{
    Allotted, EXPIRED_TOKEN_KEPT_MS, JoinOutcome, Joining, PageRequest, PoolFilter, PoolHost, PoolToken, Store,
    StoreError,
};
use std::sync::Arc;
use straas_schemas::HostId;
use straas_schemas::pool::{HostCleaning, HostFacts};

pub(super) fn token(id: &str, host: Option<&str>, most: u32) -> PoolToken {
    PoolToken {
        id: id.into(),
        hash: format!("hash of {id}"),
        label: "racks".into(),
        zone: format!("zone of {id}"),
        fault_domain: Some("r1".into()),
        host: host.map(Into::into),
        most,
        joined: 0,
        by: "ann".into(),
        created_ms: 5,
        expires_ms: 1_000,
    }
}

fn host(id: &str, zone: &str) -> PoolHost {
    PoolHost::announced(id.into(), id.into(), zone.into(), None, 5)
}

pub(super) fn at_the_door(token: &str, key: &str, id: &str) -> Joining {
    let (hash, name) = (format!("hash of {token}"), format!("name of {key}"));
    Joining { hash, key: key.into(), id: id.into(), name, now_ms: 900 }
}

fn joined(host: &str, incarnation: u64) -> JoinOutcome {
    JoinOutcome::Joined { host: host.into(), incarnation }
}

fn allotted(node: &str) -> Option<Allotted> {
    let (name, owner) = (format!("name of {node}"), "o".into());
    Some(Allotted { node: node.into(), name, owner, spread: Some("s".into()), told: false })
}

async fn kept(store: &Arc<dyn Store>, id: &str) -> PoolHost {
    store.pool_host(&id.into()).await.unwrap().unwrap()
}

pub(super) async fn hosts_join_with_tokens(store: Arc<dyn Store>) {
    assert_eq!(store.join_pool(&at_the_door("nobody", "k", "join-0")).await.unwrap(), JoinOutcome::Unknown);
    store.add_pool_token(&token("join-t", None, 2)).await.unwrap();
    for (key, id) in [("k1", "join-1"), ("k2", "join-2")] {
        assert_eq!(store.join_pool(&at_the_door("join-t", key, id)).await.unwrap(), joined(id, 1));
    }
    assert_eq!(store.join_pool(&at_the_door("join-t", "k3", "join-3")).await.unwrap(), JoinOutcome::Used);
    let first = kept(&store, "join-1").await;
    assert_eq!((first.name.as_str(), first.zone.as_str()), ("name of k1", "zone of join-t"));
    assert_eq!((first.fault_domain.as_deref(), first.incarnation), (Some("r1"), 1));
    assert_eq!((first.seen_ms, first.joined_ms, first.free_ms), (Some(900), Some(900), 900));
    let spent = store.pool_token("join-t").await.unwrap().unwrap();
    assert_eq!((spent.joined, spent.most, spent.label.as_str()), (2, 2, "racks"));

    // one that was announced joins with its own token only, and again with another one of its own
    store.announce_host(&host("join-a", "z"), &token("join-ta", Some("join-a"), 1)).await.unwrap();
    let twice = store.announce_host(&host("join-a", "z"), &token("join-tb", Some("join-a"), 1)).await;
    assert!(matches!(twice, Err(StoreError::Duplicate { .. })), "{twice:?}");
    assert_eq!(kept(&store, "join-a").await, host("join-a", "z"));
    assert_eq!(store.join_pool(&at_the_door("join-ta", "k", "join-x")).await.unwrap(), joined("join-a", 1));
    let mut worker = kept(&store, "join-a").await;
    assert_eq!((worker.name.as_str(), worker.zone.as_str()), ("name of k", "z"), "where it was announced for");
    worker.allotment = allotted("join-n");
    store.change_pool_host(&worker).await.unwrap();
    store.add_pool_token(&token("join-tc", Some("join-a"), 1)).await.unwrap();
    assert_eq!(store.join_pool(&at_the_door("join-tc", "k", "join-x")).await.unwrap(), joined("join-a", 2));
    let again = kept(&store, "join-a").await;
    assert_eq!((again.allotment, again.incarnation), (allotted("join-n"), 2), "what it is to have stays");
    let stranger = store.add_pool_token(&token("join-td", Some("nobody"), 1)).await;
    assert!(matches!(stranger, Err(StoreError::NotFound { what: "host", .. })), "{stranger:?}");

    // too late, forgotten, and so long gone that nothing is known of it
    let late = Joining { now_ms: 1_000, ..at_the_door("join-te", "k", "join-x") };
    store.add_pool_token(&token("join-te", None, 1)).await.unwrap();
    assert_eq!(store.join_pool(&late).await.unwrap(), JoinOutcome::Expired);
    let of = |tokens: Vec<PoolToken>| tokens.into_iter().map(|token| token.id).filter(|id| id.starts_with("join-t"));
    let page = PageRequest { limit: 1000, after: Some("join-t".into()) };
    assert_eq!(of(store.pool_tokens(999, &page).await.unwrap()).collect::<Vec<_>>(), ["join-ta", "join-tc", "join-te"]);
    assert_eq!(of(store.pool_tokens(1_000, &page).await.unwrap()).count(), 0);
    store.remove_pool_token("join-te").await.unwrap();
    assert!(matches!(store.remove_pool_token("join-te").await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.join_pool(&at_the_door("join-te", "k", "join-x")).await.unwrap(), JoinOutcome::Unknown);
    assert_eq!(store.pool_token("join-ta").await.unwrap().map(|token| token.joined), Some(1));
    let created_ms = 1_001 + EXPIRED_TOKEN_KEPT_MS;
    // this forgets the tokens of other cases too: its own expire in a time that those never come to
    let newest = PoolToken { created_ms, expires_ms: i64::MAX, ..token("join-tf", None, 1) };
    store.add_pool_token(&newest).await.unwrap();
    assert_eq!(store.pool_token("join-ta").await.unwrap(), None);
    assert_eq!(store.pool_token("join-tf").await.unwrap(), Some(newest));
}

pub(super) async fn a_lost_answer_is_given_again(store: Arc<dyn Store>) {
    // beside cases that forget what has expired
    let lasting = |id: &str, host| PoolToken { expires_ms: i64::MAX, ..token(id, host, 1) };
    store.add_pool_token(&lasting("lost-t", None)).await.unwrap();
    for id in ["lost-1", "lost-2"] {
        assert_eq!(store.join_pool(&at_the_door("lost-t", "k", id)).await.unwrap(), joined("lost-1", 1));
    }
    assert_eq!(kept(&store, "lost-1").await.incarnation, 1);
    assert_eq!(store.pool_host(&"lost-2".into()).await.unwrap(), None);
    store.add_pool_token(&lasting("lost-u", Some("lost-1"))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.join_pool(&at_the_door("lost-u", "k", "x")).await.unwrap(), joined("lost-1", 2));
    }
    let stale = store.join_pool(&at_the_door("lost-t", "k", "x")).await.unwrap();
    assert_eq!(stale, JoinOutcome::Used, "it joined anew since");
    // with the host go its tokens
    let revision = kept(&store, "lost-1").await.revision;
    store.remove_pool_host(&"lost-1".into(), revision).await.unwrap();
    assert_eq!(store.join_pool(&at_the_door("lost-u", "k", "x")).await.unwrap(), JoinOutcome::Unknown);
    assert_eq!(store.join_pool(&at_the_door("lost-t", "k", "x")).await.unwrap(), JoinOutcome::Used);
}

pub(super) async fn hosts_change_as_they_were_seen(store: Arc<dyn Store>) {
    let lasting = |id: &str, host| PoolToken { expires_ms: i64::MAX, ..token(id, host, 1) };
    for id in ["change-1", "change-2", "change-3"] {
        let mine = format!("{id}-t");
        store.announce_host(&host(id, "change-z"), &lasting(&mine, Some(id))).await.unwrap();
    }
    let first = kept(&store, "change-1").await;
    let mut second = first.clone();
    second.cordoned = true;
    second.holds = Some("change-n".into());
    second.cleaning = Some(HostCleaning { node: "change-m".into(), reason: Some("busy".into()) });
    second.facts = HostFacts { address: "10.0.0.1".into(), memory_mib: 7, vcpus: 2, ..HostFacts::default() };
    store.change_pool_host(&second).await.unwrap();
    second.revision += 1;
    assert_eq!(kept(&store, "change-1").await, second);
    assert!(is_conflict(&store.change_pool_host(&first).await));
    assert!(is_conflict(&store.remove_pool_host(&"change-1".into(), first.revision).await));
    let nobody = PoolHost { id: "change-0".into(), ..first };
    assert!(matches!(store.change_pool_host(&nobody).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.remove_pool_host(&nobody.id, 1).await, Err(StoreError::NotFound { .. })));
    // when it was heard of is no change, and never goes back
    let seen = |at_ms| [(HostId::from("change-1"), at_ms), ("change-0".into(), at_ms)];
    store.pool_seen(&seen(30)).await.unwrap();
    store.pool_seen(&seen(20)).await.unwrap();
    store.pool_seen(&[]).await.unwrap();
    second.seen_ms = Some(30);
    assert_eq!(kept(&store, "change-1").await, second);
    let found = async |idle_only, after: Option<&str>, limit| {
        let filter = PoolFilter { zone: Some("change-z".into()), idle_only };
        let page = PageRequest { limit, after: after.map(Into::into) };
        let found = store.pool_hosts(&filter, &page).await.unwrap();
        found.into_iter().map(|host| host.id.0).collect::<Vec<_>>()
    };
    assert_eq!(found(false, None, 2).await, ["change-1", "change-2"]);
    assert_eq!(found(false, Some("change-2"), 2).await, ["change-3"]);
    assert_eq!(found(true, None, 9).await, ["change-2", "change-3"]);
    store.remove_pool_host(&"change-1".into(), second.revision).await.unwrap();
    assert_eq!(found(false, None, 9).await, ["change-2", "change-3"]);
}

pub(super) async fn a_node_is_on_one_host(store: Arc<dyn Store>) {
    for id in ["one-1", "one-2", "one-3"] {
        let mine = PoolToken { expires_ms: i64::MAX, ..token(&format!("{id}-t"), Some(id), 1) };
        store.announce_host(&host(id, "one-z"), &mine).await.unwrap();
    }
    let (mut first, mut second) = (kept(&store, "one-1").await, kept(&store, "one-2").await);
    first.allotment = allotted("one-n");
    store.change_pool_host(&first).await.unwrap();
    second.allotment = allotted("one-n");
    let refused = store.change_pool_host(&second).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { what: "allotment", .. })), "{refused:?}");
    assert_eq!(kept(&store, "one-2").await.allotment, None);
    // one that has it still, though it is another's by now
    let mut third = kept(&store, "one-3").await;
    third.holds = Some("one-n".into());
    store.change_pool_host(&third).await.unwrap();
    let of = async |node: &str| {
        let found = store.pool_hosts_of(&node.into()).await.unwrap();
        found.into_iter().map(|host| host.id.0).collect::<Vec<_>>()
    };
    assert_eq!(of("one-n").await, ["one-1", "one-3"]);
    assert_eq!(of("one-m").await, [""; 0]);
    let mut first = kept(&store, "one-1").await;
    first.allotment = None;
    store.change_pool_host(&first).await.unwrap();
    store.change_pool_host(&second).await.unwrap();
    assert_eq!(of("one-n").await, ["one-2", "one-3"]);
}

pub(super) async fn what_changed_is_found(store: Arc<dyn Store>) {
    let mine = |changes: Vec<(HostId, u64)>| {
        changes.into_iter().filter(|(id, _)| id.0.starts_with("what-")).collect::<Vec<_>>()
    };
    for id in ["what-1", "what-2"] {
        let token = PoolToken { expires_ms: i64::MAX, ..token(&format!("{id}-t"), Some(id), 1) };
        store.announce_host(&host(id, "what-z"), &token).await.unwrap();
    }
    let before = mine(store.pool_changes(0).await.unwrap());
    assert_eq!(before.iter().map(|(id, _)| id.0.as_str()).collect::<Vec<_>>(), ["what-1", "what-2"]);
    let newest = before[1].1;
    assert_eq!(mine(store.pool_changes(newest).await.unwrap()), []);
    store.pool_seen(&[("what-2".into(), 9)]).await.unwrap();
    assert_eq!(mine(store.pool_changes(newest).await.unwrap()), [], "to be heard of is no change");
    store.change_pool_host(&kept(&store, "what-1").await).await.unwrap();
    let after = mine(store.pool_changes(newest).await.unwrap());
    assert_eq!(after.len(), 1);
    assert!(after[0].0.0 == "what-1" && after[0].1 > newest, "{after:?}");
    store.join_pool(&at_the_door("what-2-t", "k", "x")).await.unwrap();
    assert_eq!(mine(store.pool_changes(after[0].1).await.unwrap()).len(), 1);
}
