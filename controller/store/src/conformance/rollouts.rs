//! Rollouts over the fleet.

use super::fixture::is_conflict;
use crate::{PageRequest, RequestKey, RolloutFilter, RolloutMember, RolloutRecord, Store, StoreError};
use std::sync::Arc;
use straas_schemas::rollout::{FleetBatch, FleetMemberPhase, FleetRolloutKind, FleetRolloutStanding};

fn member(component: &str, batch: u32) -> RolloutMember {
    RolloutMember {
        component: component.into(),
        component_name: "zk".into(),
        topology: "t".into(),
        topology_name: "town".into(),
        tenant: "red".into(),
        batch,
        nodes: 3,
        before: "0".repeat(40),
        before_build: None,
        before_nodes: [("n1".into(), "1".repeat(40))].into(),
        phase: FleetMemberPhase::Waiting,
        reason: None,
        job: None,
    }
}

/// A rollout that was just begun, over these components in as many batches.
pub fn rollout(id: &str, tenant: &str, components: &[&str]) -> RolloutRecord {
    RolloutRecord {
        id: id.into(),
        kind: FleetRolloutKind::Scripts,
        wanted: "2".repeat(40),
        build: None,
        from: None,
        author: "ann".into(),
        tenant: tenant.into(),
        all_tenants: false,
        batches: vec![FleetBatch { percent: 100, components: 1, nodes: 3 }],
        soak_s: 7,
        batch: 0,
        watched_ms: None,
        standing: FleetRolloutStanding::Running,
        reason: None,
        created_ms: 5,
        ended_ms: None,
        revision: 1,
        members: components.iter().zip(0..).map(|(component, batch)| member(component, batch)).collect(),
    }
}

pub(super) async fn kept_and_changed_as_they_were_seen(store: Arc<dyn Store>) {
    let first = rollout("kept-1", "kept", &["kept-a", "kept-b", "kept-c"]);
    store.add_rollout(&first).await.unwrap();
    assert_eq!(store.rollout("kept-1").await.unwrap(), Some(first.clone()));
    assert_eq!(store.rollout_revision("kept-1").await.unwrap(), Some(1));
    let mut second = first.clone();
    second.batch = 1;
    second.watched_ms = Some(9);
    for at in [0, 2] {
        second.members[at].phase = FleetMemberPhase::Verified;
        second.members[at].job = Some("j".into());
    }
    // what is not named is not written
    store.change_rollout(&second, &[2], 1).await.unwrap();
    second.members[0] = first.members[0].clone();
    second.revision = 2;
    assert_eq!(store.rollout("kept-1").await.unwrap(), Some(second.clone()));
    assert!(is_conflict(&store.change_rollout(&first, &[0], 1).await));
    assert_eq!(store.rollout("kept-1").await.unwrap(), Some(second));
    assert_eq!(store.rollout("kept-2").await.unwrap(), None);
    assert_eq!(store.rollout_revision("kept-2").await.unwrap(), None);
    let stranger = store.change_rollout(&rollout("kept-2", "kept", &[]), &[], 1).await;
    assert!(matches!(stranger, Err(StoreError::NotFound { .. })), "{stranger:?}");
}

pub(super) async fn listed_newest_first(store: Arc<dyn Store>) {
    for (id, tenant) in
        [("list-1", "list-red"), ("list-2", "list-red"), ("list-3", "list-blue"), ("list-4", "list-red")]
    {
        store.add_rollout(&rollout(id, tenant, &[&format!("{id}-a"), &format!("{id}-b")])).await.unwrap();
    }
    let mut ended = store.rollout("list-2").await.unwrap().unwrap();
    ended.members[1].phase = FleetMemberPhase::Verified;
    ended.standing = FleetRolloutStanding::Succeeded;
    ended.ended_ms = Some(20);
    store.change_rollout(&ended, &[1], 1).await.unwrap();
    let list = async |tenant: Option<&str>, open_only, after: Option<&str>, limit| {
        let filter = RolloutFilter { tenant: tenant.map(str::to_owned), open_only };
        let page = PageRequest { after: after.map(str::to_owned), limit };
        let found = store.rollouts(&filter, &page).await.unwrap();
        assert!(found.iter().all(|found| found.rollout.members.is_empty() && found.total == 2 || tenant.is_none()));
        found.into_iter().map(|found| (found.rollout.id, found.verified)).collect::<Vec<_>>()
    };
    let pair = |id: &str, verified| (id.to_owned(), verified);
    let red = Some("list-red");
    assert_eq!(list(red, false, None, 10).await, [pair("list-4", 0), pair("list-2", 1), pair("list-1", 0)]);
    assert_eq!(list(red, true, None, 10).await, [pair("list-4", 0), pair("list-1", 0)]);
    assert_eq!(list(red, false, Some("list-4"), 1).await, [pair("list-2", 1)]);
    let all = list(None, false, Some("list-5"), 3).await;
    assert_eq!(all, [pair("list-4", 0), pair("list-3", 0), pair("list-2", 1)]);
    assert_eq!(list(None, true, Some("list-4"), 2).await, [pair("list-3", 0), pair("list-1", 0)]);
}

pub(super) async fn a_component_is_in_one_at_a_time(store: Arc<dyn Store>) {
    store.add_rollout(&rollout("one-1", "one", &["one-a", "one-b"])).await.unwrap();
    let open_of = async |components: &[&str]| {
        let ids: Vec<_> = components.iter().map(|id| (*id).into()).collect();
        store.open_rollout_of(FleetRolloutKind::Scripts, &ids).await.unwrap()
    };
    assert_eq!(open_of(&["one-c", "one-b"]).await.as_deref(), Some("one-1"));
    assert_eq!(open_of(&["one-c", "o'ne\"-b"]).await, None);
    assert_eq!(open_of(&[]).await, None);
    let second = rollout("one-2", "one", &["one-c", "one-b"]);
    let refused = store.add_rollout(&second).await;
    assert!(
        matches!(&refused, Err(StoreError::Duplicate { what: "open rollout", name }) if name == "one-1"),
        "{refused:?}"
    );
    assert_eq!(store.rollout("one-2").await.unwrap(), None);
    store.add_rollout(&rollout("one-3", "one", &["one-c"])).await.unwrap();
    let mut ended = store.rollout("one-1").await.unwrap().unwrap();
    ended.ended_ms = Some(1);
    store.change_rollout(&ended, &[], 1).await.unwrap();
    assert_eq!(open_of(&["one-a", "one-b"]).await, None, "it has ended");
    store.add_rollout(&rollout("one-4", "one", &["one-b"])).await.unwrap();
    // one that has nothing to do is over at once, and in nobody's way
    let over = RolloutRecord { ended_ms: Some(1), ..rollout("one-5", "one", &["one-a"]) };
    store.add_rollout(&over).await.unwrap();
    // of many at once, one
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let mine = format!("one-at-once-{number}");
                (mine.clone(), store.add_rollout(&rollout(&mine, "one", &[&format!("one-x{number}"), "one-d"])).await)
            })
        })
        .collect();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for one in tries {
        match one.await.unwrap() {
            (mine, Ok(())) => won.push(mine),
            (_, Err(StoreError::Duplicate { name, .. })) => lost.push(name),
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert!(lost.iter().all(|name| *name == won[0]), "{lost:?}, not {won:?}");
}

pub(super) async fn what_a_request_begins_is_noted_with_it(store: Arc<dyn Store>) {
    let asked = RequestKey { tenant: "noted".into(), key: "k".into(), digest: "d".into() };
    store.begin_request(&asked, "claim", 0, 100).await.unwrap();
    let claim = crate::RequestClaim { tenant: "noted".into(), key: "k".into(), id: "claim".into() };
    let made = serde_json::json!({ "rollout": "noted-1" });
    store.claimed(&claim, &made).add_rollout(&rollout("noted-1", "noted", &["noted-a"])).await.unwrap();
    store.end_request(&claim, None).await.unwrap();
    assert_eq!(store.begin_request(&asked, "other", 1, 100).await.unwrap(), crate::Begun::Made(made.clone()));
    let gone = store.claimed(&claim, &made);
    let late = crate::RequestClaim { id: "nobody's".into(), ..claim };
    assert!(is_conflict(&store.claimed(&late, &made).add_rollout(&rollout("noted-2", "noted", &["noted-b"])).await));
    assert_eq!(gone.rollout("noted-2").await.unwrap(), None);
}
