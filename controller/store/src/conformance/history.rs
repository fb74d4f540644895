//! As of a time: what a node was told, and what it reported.

use super::fixture::{World, assignment, silent, stage_report};
use crate::{ASSIGNMENTS_PER_NODE_MAX, INCARNATIONS_REPORTED_MAX, Store};
use std::sync::Arc;
use straas_schemas::Stage;

pub(super) async fn what_a_node_was_told_is_kept(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "told", 1).await;
    let id = world.id(0);
    let last = u64::from(ASSIGNMENTS_PER_NODE_MAX) + 5;
    for generation in 1..=last {
        let written_ms = 1_000 * generation.cast_signed();
        store
            .put_assignment(&assignment(id, generation, "x"), generation - 1, generation - 1, written_ms)
            .await
            .unwrap();
    }
    let at = async |at_ms| store.told_at(id, at_ms).await.unwrap().map(|told| told.assignment.generation);
    assert_eq!(at(i64::MAX).await, Some(last));
    assert_eq!((at(10_000).await, at(10_999).await, at(11_000).await), (Some(10), Some(10), Some(11)));
    assert_eq!((at(6_000).await, at(5_999).await), (Some(6), None), "older ones are pruned");
    let told = store.told_at(id, i64::MAX).await.unwrap().unwrap();
    assert_eq!(Some(told.assignment), store.assignment(id).await.unwrap());
    assert_eq!(told.written_ms, 1_000 * last.cast_signed());
    assert_eq!(store.told_at(&"nobody".into(), i64::MAX).await.unwrap(), None);
}

pub(super) async fn what_a_node_reported_outlives_its_incarnation(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "reported", 1).await;
    let id = world.id(0);
    let many = i64::from(INCARNATIONS_REPORTED_MAX) + 2;
    for n in 1..=many {
        let incarnation = world.enrol(0, 100 * n).await;
        let reports = [stage_report(1, 1, Stage::Install, "a"), stage_report(2, 1, Stage::Config, "b")];
        store.record_reports(id, incarnation, &reports[..1], &silent, 100 * n + 1).await.unwrap();
        store.record_reports(id, incarnation, &reports, &silent, 100 * n + 2).await.unwrap();
    }
    let until = async |at_ms, limit| {
        let found = store.reported_until(id, at_ms, limit).await.unwrap();
        found.into_iter().map(|kept| (kept.received_ms, kept.report.seq)).collect::<Vec<_>>()
    };
    let newest = 100 * many;
    assert_eq!(until(i64::MAX, 3).await, [(newest + 2, 2), (newest + 1, 1), (newest - 98, 2)]);
    assert_eq!(until(newest + 1, 1).await, [(newest + 1, 1)]);
    assert_eq!(until(newest, 1).await, [(newest - 98, 2)], "of the incarnation before");
    assert_eq!(until(i64::MAX, 100).await.len(), 2 * INCARNATIONS_REPORTED_MAX as usize, "older ones are forgotten");
    let incarnations: Vec<_> =
        store.reported_until(id, i64::MAX, 100).await.unwrap().into_iter().map(|kept| kept.incarnation).collect();
    assert!(incarnations.is_sorted_by(|a, b| a >= b), "{incarnations:?}");
}
