//! Heartbeats: only the newest of the newest incarnation counts.

use super::fixture::{World, heartbeat, is_broken};
use crate::{HEARTBEAT_BATCH_MAX, Store};
use std::sync::Arc;
use straas_schemas::NodeId;
use straas_schemas::heartbeat::Heartbeat;

impl World {
    async fn beat(&self, received_ms: i64, beat: Heartbeat) -> Option<(u64, i64)> {
        self.store.record_heartbeats(&[(self.id(0).clone(), received_ms, beat)]).await.unwrap();
        self.seen(0).await.heartbeat.map(|(beat, at_ms)| (beat.beat, at_ms))
    }
}

pub(super) async fn the_newest_is_kept(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "beats", 3).await;
    let mut batch = Vec::new();
    for at in 0..3 {
        let incarnation = world.enrol(at, 10).await;
        // Two of one node in one batch, in either order.
        let beats = [(20, heartbeat(incarnation, "r", 1)), (30, heartbeat(incarnation, "r", 2))];
        let mut beats: Vec<_> = beats.into_iter().map(|(ms, beat)| (world.id(at).clone(), ms, beat)).collect();
        if at == 1 {
            beats.reverse();
        }
        batch.extend(beats);
    }
    store.record_heartbeats(&batch).await.unwrap();
    for at in 0..3 {
        assert_eq!(world.seen(at).await.heartbeat, Some((heartbeat(1, "r", 2), 30)));
    }
    store.record_heartbeats(&[]).await.unwrap();
}

pub(super) async fn out_of_order(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "disorder", 1).await;
    let incarnation = world.enrol(0, 10).await;
    assert_eq!(world.beat(50, heartbeat(incarnation, "a", 5)).await, Some((5, 50)));
    assert_eq!(world.beat(40, heartbeat(incarnation, "a", 6)).await, Some((5, 50)), "received before");
    assert_eq!(
        world.beat(60, heartbeat(incarnation, "a", 4)).await,
        Some((5, 50)),
        "an earlier beat of the run, delayed"
    );
    assert_eq!(world.beat(60, heartbeat(incarnation, "b", 1)).await, Some((1, 60)), "another run counts anew");
    assert_eq!(world.beat(60, heartbeat(incarnation, "b", 2)).await, Some((2, 60)), "the same millisecond");
}

pub(super) async fn strangers_are_dropped(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "strangers", 2).await;
    assert_eq!(world.beat(5, heartbeat(1, "r", 1)).await, None, "not enrolled");
    let first = world.enrol(0, 10).await;
    let second = world.enrol(0, 20).await;
    assert_eq!(world.beat(30, heartbeat(first, "r", 9)).await, None, "an earlier incarnation");
    assert_eq!(world.beat(30, heartbeat(second + 1, "r", 9)).await, None, "one that is not there yet");
    let beat = heartbeat(second, "r", 1);
    let batch = [
        ("nobody".into(), 40, beat.clone()),
        (world.id(0).clone(), 40, beat),
        ("no\0body".into(), 40, heartbeat(1, "\0", 1)),
    ];
    store.record_heartbeats(&batch).await.unwrap();
    assert_eq!(world.seen(0).await.heartbeat.unwrap().1, 40, "a stranger does not spoil the batch");
    assert_eq!(world.beat(50, heartbeat(first, "r", 99)).await, Some((1, 40)));
}

pub(super) async fn batches_are_bounded(store: Arc<dyn Store>) {
    let many = |count: usize| -> Vec<(NodeId, i64, Heartbeat)> {
        (0..count).map(|number| (format!("nobody-{number}").into(), 1, heartbeat(1, "r", 1))).collect()
    };
    store.record_heartbeats(&many(HEARTBEAT_BATCH_MAX)).await.unwrap();
    assert!(is_broken(&store.record_heartbeats(&many(HEARTBEAT_BATCH_MAX + 1)).await));
}

pub(super) async fn one_bad_beat_spoils_nothing(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "spoilt", 2).await;
    let (bad, good) = (world.enrol(0, 10).await, world.enrol(1, 10).await);
    let mut infinite = heartbeat(bad, "r", 1);
    infinite.vitals.cpu_percent = f32::INFINITY;
    let mut odd = heartbeat(good, "r\0'\"", 2);
    odd.facts.insert("odd\0".to_owned(), "\0 ' \" \\ \u{1F600}".into());
    let batch = [
        (world.id(0).clone(), 20, infinite),
        (world.id(0).clone(), 20, heartbeat(bad, "r", u64::MAX)),
        (world.id(1).clone(), 20, odd.clone()),
    ];
    store.record_heartbeats(&batch).await.unwrap();
    assert_eq!(world.seen(0).await.heartbeat, None);
    assert_eq!(world.seen(1).await.heartbeat, Some((odd, 20)));
    assert_eq!(store.snapshot(&world.topology.id).await.unwrap().unwrap().nodes.len(), 2);
}
