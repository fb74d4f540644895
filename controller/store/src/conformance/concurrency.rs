//! What holds when several writers come at once.

use super::fixture::{
    World, assignment, heartbeat, is_conflict, is_duplicate, job, report, silent, stage_report, topology,
};
use crate::{EnrolOutcome, NewEvent, Store};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use straas_schemas::Stage;
use straas_schemas::job::JobKind;
use straas_schemas::report::ReportBody;

/// Writers at once.
const WRITERS: u64 = 8;

/// Runs `work` in [`WRITERS`] tasks and returns what they returned.
async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(work: impl Fn(u64) -> F) -> Vec<T> {
    let tasks: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(work(writer))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

pub(super) async fn one_enrolment_per_token(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "race", 1).await;
    for round in 1..=10 {
        let hash = format!("race-{round}");
        store.add_join_token(&hash, world.id(0), 1_000).await.unwrap();
        let answers = together(|task| {
            let (store, hash) = (store.clone(), hash.clone());
            async move { store.enrol(&hash, &format!("key of {task}"), 1).await.unwrap() }
        });
        let answers = answers.await;
        let won = EnrolOutcome::Enrolled { node: world.id(0).clone(), incarnation: round };
        assert_eq!(answers.iter().filter(|answer| **answer == won).count(), 1);
        assert_eq!(answers.iter().filter(|answer| **answer == EnrolOutcome::Used).count(), answers.len() - 1);
        assert_eq!(world.seen(0).await.incarnation, round);
    }
}

pub(super) async fn one_winner_per_generation(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "swap", 1).await;
    for generation in 1..=10 {
        let answers = together(|writer| {
            let (store, wanted) = (store.clone(), assignment(world.id(0), generation, &writer.to_string()));
            async move {
                store.put_assignment(&wanted, generation - 1, generation - 1, 1).await.map(|()| wanted.content_digest())
            }
        });
        let (won, lost): (Vec<_>, Vec<_>) = answers.await.into_iter().partition(Result::is_ok);
        assert!(won.len() == 1 && lost.iter().all(is_conflict), "{lost:?}");
        let stored = store.assignment(world.id(0)).await.unwrap().unwrap();
        assert_eq!((stored.generation, Some(&stored.digest)), (generation, won[0].as_ref().ok()));
    }
}

pub(super) async fn no_report_is_lost(store: Arc<dyn Store>) {
    const EACH: u64 = 12;
    let world = World::new(store.clone(), "lossless", 1).await;
    let incarnation = world.enrol(0, 10).await;
    // Every report is sent by two writers, as after a lost acknowledgement.
    let answers = together(|writer| {
        let (store, node) = (store.clone(), world.id(0).clone());
        async move {
            let mut fresh = Vec::new();
            for step in 0..EACH {
                let seq = 1 + (writer / 2) * EACH + step;
                let stage = Stage::ALL[usize::try_from(seq % 4).unwrap()];
                let reports = [stage_report(seq, 1, stage, &seq.to_string())];
                fresh.extend(store.record_reports(&node, incarnation, &reports, &silent, 20).await.unwrap());
            }
            fresh
        }
    });
    let fresh: Vec<_> = answers.await.into_iter().flatten().map(|report| report.seq).collect();
    let distinct: BTreeSet<_> = fresh.iter().copied().collect();
    let all = WRITERS / 2 * EACH;
    assert_eq!(fresh.len(), distinct.len(), "each was new to exactly one writer");
    assert_eq!(distinct, (1..=all).collect());
    for (stage, (result, _)) in world.seen(0).await.stages {
        let newest = (1..=all).rev().find(|seq| Stage::ALL[usize::try_from(seq % 4).unwrap()] == stage);
        assert_eq!(Some(result.reason), newest.map(|seq| seq.to_string()));
    }
}

pub(super) async fn converged_rises_for_all(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "summit", 1).await;
    let incarnation = world.enrol(0, 10).await;
    for round in 1..=20 {
        together(|writer| {
            let (store, node) = (store.clone(), world.id(0).clone());
            async move {
                let number = round * WRITERS + writer;
                let converged = report(number, ReportBody::Converged { generation: number });
                store.record_reports(&node, incarnation, &[converged], &silent, 20).await.unwrap();
            }
        })
        .await;
        assert_eq!(world.seen(0).await.converged_generation, (round + 1) * WRITERS - 1);
    }
}

pub(super) async fn nothing_observed_outlives_an_enrolment(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "outlive", 1).await;
    let mut incarnation = world.enrol(0, 10).await;
    for round in 0..20 {
        let hash = format!("outlive-{round}");
        store.add_join_token(&hash, world.id(0), 1_000).await.unwrap();
        together(|writer| {
            let (store, node, hash) = (store.clone(), world.id(0).clone(), hash.clone());
            async move {
                if writer == 0 {
                    store.enrol(&hash, "key", 20).await.unwrap();
                    return;
                }
                for step in 1..=4 {
                    let seq = writer * 10 + step;
                    let reports = [
                        stage_report(seq, 1, Stage::Install, "old"),
                        report(seq + 5, ReportBody::Converged { generation: seq }),
                    ];
                    let answer = store.record_reports(&node, incarnation, &reports, &silent, 20).await;
                    assert!(answer.is_ok() || is_conflict(&answer), "{answer:?}");
                    store.record_heartbeats(&[(node.clone(), 20, heartbeat(incarnation, "old", seq))]).await.unwrap();
                }
            }
        })
        .await;
        let seen = world.seen(0).await;
        assert_eq!(seen.incarnation, incarnation + 1);
        assert_eq!((seen.stages.len(), seen.converged_generation, seen.heartbeat), (0, 0, None));
        incarnation += 1;
    }
}

pub(super) async fn one_creation_per_name(store: Arc<dyn Store>) {
    let answers = together(|writer| {
        let store = store.clone();
        async move {
            let mut new = topology("same-name");
            new.id = format!("t-same-{writer}").into();
            let mut begun = job(&new, 1, JobKind::Create);
            begun.id = format!("j-same-{writer}").into();
            store.create_topology(&new, &[], &begun).await
        }
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.await.into_iter().partition(Result::is_ok);
    assert!(won.len() == 1 && lost.iter().all(is_duplicate), "{lost:?}");
    // And exactly one of many deletions records its job.
    let id = store.topology_by_name("same-name", "az1").await.unwrap().unwrap().id;
    let answers = together(|writer| {
        let (store, id) = (store.clone(), id.clone());
        async move {
            let mut removal = job(&topology("same-name"), 2, JobKind::Delete);
            removal.id = format!("j-same-removal-{writer}").into();
            removal.topology = id.clone();
            store.delete_topology(&id, &removal, None).await.unwrap()
        }
    });
    assert_eq!(answers.await.into_iter().filter(|first| *first).count(), 1);
    assert_eq!(store.snapshot(&id).await.unwrap().unwrap().jobs.len(), 1);
}

pub(super) async fn events_become_visible_in_order(store: Arc<dyn Store>) {
    const EACH: i64 = 25;
    let writing = together(|writer| {
        let store = store.clone();
        async move {
            for number in 0..EACH {
                let text = format!("{writer}/{number}");
                let event = |topology: &str| NewEvent {
                    at_ms: number,
                    topology: topology.into(),
                    node: None,
                    kind: "job",
                    text: text.clone(),
                };
                store.add_events(&[event("e-order"), event(&format!("e-order-{writer}"))]).await.unwrap();
            }
        }
    });
    // A reader that goes on after the last number it saw misses nothing.
    let reading = async {
        let wanted = usize::try_from(EACH).unwrap() * usize::try_from(WRITERS).unwrap();
        let mut seen: Vec<straas_schemas::view::Event> = Vec::new();
        while seen.len() < wanted {
            let after = seen.last().map_or(0, |event| event.seq);
            seen.extend(store.events(&"e-order".into(), after, 7).await.unwrap());
            tokio::task::yield_now().await;
        }
        seen
    };
    // Far above what a few hundred small writes take, so that a lost event is a failure, not a hang.
    let reading = tokio::time::timeout(std::time::Duration::from_secs(120), reading);
    let (_, seen) = tokio::join!(writing, reading);
    let seen = seen.expect("an event became visible after a later one and was missed");
    let texts: BTreeSet<_> = seen.iter().map(|event| &event.text).collect();
    assert_eq!(texts.len(), seen.len());
}

pub(super) async fn snapshots_are_of_one_moment(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "moment", 4).await;
    let mut numbers = Vec::new();
    for at in 0..4 {
        numbers.push(world.enrol(at, 10).await);
    }
    let writing = tokio::spawn({
        let (store, id) = (store.clone(), world.id(0).clone());
        async move {
            for seq in 1..=60 {
                // One report moves a stage and the converged generation together.
                let converged = report(seq * 2, ReportBody::Converged { generation: seq });
                let reports = [stage_report(seq * 2 - 1, seq, Stage::Validate, ""), converged];
                store.record_reports(&id, 1, &reports, &silent, 20).await.unwrap();
            }
        }
    });
    while !writing.is_finished() {
        let seen = store.snapshot(&world.topology.id).await.unwrap().unwrap();
        let node = &seen.nodes[0];
        assert_eq!(
            node.stages.get(&Stage::Validate).map_or(0, |(result, _)| result.generation),
            node.converged_generation
        );
        let alone = world.seen(0).await;
        assert_eq!(
            alone.stages.get(&Stage::Validate).map_or(0, |(result, _)| result.generation),
            alone.converged_generation
        );
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert_eq!(world.seen(0).await.converged_generation, 60);
}

pub(super) async fn overlapping_heartbeat_batches(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "overlap", 60).await;
    for at in 0..60 {
        assert_eq!(world.enrol(at, 10).await, 1);
    }
    together(|writer| {
        let store = store.clone();
        let mut ids: Vec<_> = world.nodes.iter().map(|node| node.id.clone()).collect();
        if writer % 2 == 1 {
            ids.reverse();
        }
        async move {
            for round in 1..=10 {
                let number = round * WRITERS + writer;
                let beats: Vec<_> = ids
                    .iter()
                    .map(|id| (id.clone(), number.cast_signed(), heartbeat(1, &writer.to_string(), round)))
                    .collect();
                store.record_heartbeats(&beats).await.unwrap();
            }
        }
    })
    .await;
    for at in 0..60 {
        assert_eq!(world.seen(at).await.heartbeat.unwrap().1, (11 * WRITERS - 1).cast_signed());
    }
}
