//! Join tokens and reports.

use super::fixture::{
    World, heartbeat, is_broken, is_conflict, is_duplicate, is_missing, report, silent, stage_report,
};
use crate::{EnrolOutcome, NewEvent, RESULTS_PER_NODE_MAX, Store};
use std::sync::Arc;
use straas_schemas::report::{Report, ReportBody};
use straas_schemas::{Outcome, Stage};

pub(super) async fn tokens_are_spent_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "tokens", 2).await;
    store.add_join_token("tokens-a", world.id(0), 100).await.unwrap();
    assert!(is_duplicate(&store.add_join_token("tokens-a", world.id(1), 100).await));
    assert!(is_missing(&store.add_join_token("tokens-b", &"nobody".into(), 100).await));
    assert_eq!(store.enrol("tokens-x", "key", 50).await.unwrap(), EnrolOutcome::Unknown);
    assert_eq!(store.enrol("tokens\0", "key", 50).await.unwrap(), EnrolOutcome::Unknown);
    assert_eq!(store.enrol("tokens-a", "key", 100).await.unwrap(), EnrolOutcome::Expired);
    assert_eq!(world.seen(0).await.incarnation, 0, "a refused token changes nothing");
    let enrolled = EnrolOutcome::Enrolled { node: world.id(0).clone(), incarnation: 1 };
    assert_eq!(store.enrol("tokens-a", "key", 99).await.unwrap(), enrolled);
    assert_eq!(store.enrol("tokens-a", "another key", 99).await.unwrap(), EnrolOutcome::Used);
    assert_eq!(store.enrol("tokens-a", "another key", 200).await.unwrap(), EnrolOutcome::Used);
    let seen = world.seen(0).await;
    assert_eq!((seen.incarnation, seen.enrolled_ms), (1, Some(99)));
    assert_eq!(world.seen(1).await.incarnation, 0);
}

pub(super) async fn a_lost_answer_to_an_enrolment_is_given_again(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "again", 1).await;
    store.add_join_token("again-1", world.id(0), 100).await.unwrap();
    let first = EnrolOutcome::Enrolled { node: world.id(0).clone(), incarnation: 1 };
    assert_eq!(store.enrol("again-1", "key", 10).await.unwrap(), first);
    store.record_reports(world.id(0), 1, &[stage_report(1, 1, Stage::Install, "x")], &silent, 20).await.unwrap();
    assert_eq!(store.enrol("again-1", "key", 500).await.unwrap(), first, "also when it would have expired by now");
    let seen = world.seen(0).await;
    assert_eq!((seen.incarnation, seen.enrolled_ms, seen.stages.len()), (1, Some(10), 1), "nothing is cleared");
    store.add_join_token("again-2", world.id(0), 1_000).await.unwrap();
    assert_eq!(
        store.enrol("again-2", "other", 600).await.unwrap(),
        EnrolOutcome::Enrolled { node: world.id(0).clone(), incarnation: 2 }
    );
    assert_eq!(
        store.enrol("again-1", "key", 700).await.unwrap(),
        EnrolOutcome::Used,
        "an older incarnation does not come back"
    );
}

pub(super) async fn a_new_token_ends_the_earlier(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "newer", 2).await;
    store.add_join_token("newer-1", world.id(0), 1_000).await.unwrap();
    store.add_join_token("newer-other", world.id(1), 1_000).await.unwrap();
    store.add_join_token("newer-2", world.id(0), 1_000).await.unwrap();
    // another controller makes the same host with the same token
    store.add_join_token("newer-2", world.id(0), 2_000).await.unwrap();
    assert_eq!(store.enrol("newer-1", "key", 1).await.unwrap(), EnrolOutcome::Expired);
    assert!(matches!(store.enrol("newer-2", "key", 1_500).await.unwrap(), EnrolOutcome::Enrolled { .. }));
    assert!(is_duplicate(&store.add_join_token("newer-2", world.id(0), 9_000).await), "it is used");
    assert!(matches!(store.enrol("newer-other", "key", 1).await.unwrap(), EnrolOutcome::Enrolled { .. }));
    store.add_join_token("newer-3", world.id(0), 1_000).await.unwrap();
    assert_eq!(store.enrol("newer-2", "another key", 1).await.unwrap(), EnrolOutcome::Used);
    let again = EnrolOutcome::Enrolled { node: world.id(0).clone(), incarnation: 2 };
    assert_eq!(store.enrol("newer-3", "key", 1).await.unwrap(), again);
}

pub(super) async fn tokens_are_bounded(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "bounded", 1).await;
    for number in 0..40 {
        store.add_join_token(&format!("bounded-{number}"), world.id(0), 1_000).await.unwrap();
    }
    assert_eq!(store.enrol("bounded-0", "key", 1).await.unwrap(), EnrolOutcome::Unknown);
    assert_eq!(store.enrol("bounded-38", "key", 1).await.unwrap(), EnrolOutcome::Expired);
    assert!(matches!(store.enrol("bounded-39", "key", 1).await.unwrap(), EnrolOutcome::Enrolled { .. }));
}

pub(super) async fn enrolment_clears_what_was_observed(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "cleared", 1).await;
    let first = world.enrol(0, 10).await;
    let refused = report(3, ReportBody::Refused { offered: 4, have: 5, reason: "x".to_owned() });
    let reports =
        [stage_report(1, 9, Stage::Install, "old"), report(2, ReportBody::Converged { generation: 9 }), refused];
    store.record_reports(world.id(0), first, &reports, &silent, 20).await.unwrap();
    store.record_heartbeats(&[(world.id(0).clone(), 500, heartbeat(first, "r", 50))]).await.unwrap();
    let before = world.seen(0).await;
    assert!(
        before.heartbeat.is_some()
            && before.refused.is_some()
            && before.stages.len() == 1
            && before.converged_generation == 9
    );

    let second = world.enrol(0, 30).await;
    let after = world.seen(0).await;
    assert_eq!((second, after.incarnation, after.enrolled_ms), (2, 2, Some(30)));
    assert!(
        after.heartbeat.is_none()
            && after.refused.is_none()
            && after.stages.is_empty()
            && after.converged_generation == 0
    );
    // The new incarnation counts from the start, and nothing of the earlier one is in its way.
    let fresh = store
        .record_reports(world.id(0), second, &[stage_report(1, 1, Stage::Install, "new")], &silent, 40)
        .await
        .unwrap();
    assert_eq!(fresh.len(), 1);
    store.record_heartbeats(&[(world.id(0).clone(), 400, heartbeat(second, "r", 1))]).await.unwrap();
    let seen = world.seen(0).await;
    assert_eq!(seen.stages[&Stage::Install].0.reason, "new");
    assert_eq!(seen.heartbeat.unwrap().1, 400);
}

pub(super) async fn reports_count_once(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "once", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let first = [stage_report(1, 1, Stage::Install, "a"), stage_report(2, 1, Stage::Config, "b")];
    assert_eq!(store.record_reports(world.id(0), incarnation, &first, &silent, 20).await.unwrap(), first);
    let more = [first[1].clone(), stage_report(3, 1, Stage::Config, "c"), stage_report(3, 1, Stage::Config, "c")];
    assert_eq!(store.record_reports(world.id(0), incarnation, &more, &silent, 30).await.unwrap(), more[1..2]);
    assert_eq!(store.record_reports(world.id(0), incarnation, &more, &silent, 40).await.unwrap(), []);
    let seen = world.seen(0).await;
    let result = |report: &Report| match &report.body {
        ReportBody::Stage(result) => result.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(seen.stages[&Stage::Install], (result(&first[0]), 20));
    assert_eq!(seen.stages[&Stage::Config], (result(&more[1]), 30));
    assert_eq!(store.record_reports(world.id(0), incarnation, &[], &silent, 50).await.unwrap(), []);
}

pub(super) async fn what_a_report_tells_is_recorded_with_it(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "tells", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let topology = &world.topology.id;
    let tells = |report: &Report| {
        (report.seq != 2).then(|| NewEvent {
            at_ms: 20,
            topology: topology.clone(),
            node: Some(world.id(0).clone()),
            kind: "stage",
            text: format!("report {}\0", report.seq),
        })
    };
    let reports: Vec<_> = (1..=3).map(|seq| stage_report(seq, 1, Stage::Install, "a")).collect();
    for _ in 0..2 {
        store.record_reports(world.id(0), incarnation, &reports, &tells, 20).await.unwrap();
    }
    let late = store.record_reports(world.id(0), incarnation + 1, &reports, &tells, 20).await;
    assert!(is_conflict(&late));
    let told: Vec<_> = store.events(topology, 0, 10).await.unwrap().into_iter().map(|event| event.text).collect();
    assert_eq!(told, ["report 1\u{FFFD}", "report 3\u{FFFD}"], "once for what is new, and nothing of what is refused");
}

pub(super) async fn reports_of_another_incarnation_are_refused(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "foreign", 1).await;
    let reports = [stage_report(1, 1, Stage::Install, "a")];
    let first = world.enrol(0, 10).await;
    let second = world.enrol(0, 20).await;
    for foreign in [0, first, second + 1] {
        assert!(is_conflict(&store.record_reports(world.id(0), foreign, &reports, &silent, 30).await));
    }
    assert!(world.seen(0).await.stages.is_empty());
    assert!(is_missing(&store.record_reports(&"nobody".into(), 1, &reports, &silent, 30).await));
    assert_eq!(store.record_reports(world.id(0), second, &reports, &silent, 30).await.unwrap().len(), 1);
}

pub(super) async fn late_results_do_not_overwrite(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "late", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let check = async |seq, generation, reason: &str, newest: &str| {
        let report = stage_report(seq, generation, Stage::Install, reason);
        let fresh = store.record_reports(world.id(0), incarnation, &[report], &silent, 20).await.unwrap();
        assert_eq!(fresh.len(), 1, "a late one is recorded all the same");
        assert_eq!(world.seen(0).await.stages[&Stage::Install].0.reason, newest);
    };
    check(5, 3, "three", "three").await;
    check(6, 2, "older generation", "three").await;
    check(4, 3, "older sequence", "three").await;
    check(3, 9, "higher generation, older sequence", "three").await;
    check(7, 3, "retry", "retry").await;
    check(8, 4, "four", "four").await;
}

pub(super) async fn converged_only_rises(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "rises", 1).await;
    let incarnation = world.enrol(0, 10).await;
    for (seq, generation, highest) in [(1, 3, 3), (2, 2, 3), (3, 7, 7), (4, 1, 7)] {
        let converged = report(seq, ReportBody::Converged { generation });
        store.record_reports(world.id(0), incarnation, &[converged], &silent, 20).await.unwrap();
        assert_eq!(world.seen(0).await.converged_generation, highest);
    }
}

pub(super) async fn that_a_node_worked_is_kept(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "worked", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let works = |seq, stage| {
        let mut works = stage_report(seq, 1, stage, "fine");
        if let ReportBody::Stage(result) = &mut works.body {
            result.outcome = Outcome::Succeeded;
        }
        works
    };
    let validate = stage_report(2, 1, Stage::Validate, "not yet");
    let nothing = [works(1, Stage::Config), validate, report(3, ReportBody::Converged { generation: 1 })];
    store.record_reports(world.id(0), incarnation, &nothing, &silent, 20).await.unwrap();
    assert!(!world.seen(0).await.worked, "a generation may be confirmed without");
    // a late one says so, too, though a newer result is there
    store
        .record_reports(world.id(0), incarnation, &[stage_report(5, 2, Stage::Validate, "fails")], &silent, 30)
        .await
        .unwrap();
    store.record_reports(world.id(0), incarnation, &[works(4, Stage::Validate)], &silent, 40).await.unwrap();
    let seen = world.seen(0).await;
    assert!(seen.worked && seen.stages[&Stage::Validate].0.reason == "fails");
    world.enrol(0, 50).await;
    assert!(!world.seen(0).await.worked, "another host");
}

pub(super) async fn the_newest_refusal_is_kept(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "refusal", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let refused =
        |seq, offered, reason: &str| report(seq, ReportBody::Refused { offered, have: 1, reason: reason.to_owned() });
    store.record_reports(world.id(0), incarnation, &[refused(2, 4, "b\0")], &silent, 20).await.unwrap();
    store.record_reports(world.id(0), incarnation, &[refused(1, 3, "a")], &silent, 20).await.unwrap();
    assert_eq!(world.seen(0).await.refused, Some((4, "b\u{fffd}".to_owned())));
    let lost = report(3, ReportBody::LedgerLost { reason: "torn".to_owned() });
    store.record_reports(world.id(0), incarnation, &[lost, refused(4, 1, "c")], &silent, 20).await.unwrap();
    assert_eq!(world.seen(0).await.refused, Some((1, "c".to_owned())));
}

pub(super) async fn old_reports_are_pruned_and_stay_known(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "pruned", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let many = u64::from(RESULTS_PER_NODE_MAX) * 2;
    let first = stage_report(1, 1, Stage::Install, "first");
    store.record_reports(world.id(0), incarnation, std::slice::from_ref(&first), &silent, 20).await.unwrap();
    for chunk in (2..=many).collect::<Vec<_>>().chunks(64) {
        let reports: Vec<_> = chunk.iter().map(|seq| stage_report(*seq, 1, Stage::Validate, "v")).collect();
        assert_eq!(
            store.record_reports(world.id(0), incarnation, &reports, &silent, 20).await.unwrap().len(),
            chunk.len()
        );
    }
    let seen = world.seen(0).await;
    assert_eq!(seen.stages[&Stage::Install].0.reason, "first", "the newest of each stage is never pruned");
    assert_eq!(store.record_reports(world.id(0), incarnation, &[first], &silent, 30).await.unwrap(), []);
    assert_eq!(world.seen(0).await.stages, seen.stages);
}

pub(super) async fn impossible_numbers_are_refused_whole(store: Arc<dyn Store>) {
    let world = World::new(store.clone(), "impossible", 1).await;
    let incarnation = world.enrol(0, 10).await;
    let good = stage_report(1, 1, Stage::Install, "good");
    for bad in
        [stage_report(u64::MAX, 1, Stage::Install, ""), report(2, ReportBody::Converged { generation: u64::MAX })]
    {
        assert!(is_broken(&store.record_reports(world.id(0), incarnation, &[good.clone(), bad], &silent, 20).await));
    }
    assert!(world.seen(0).await.stages.is_empty());
    assert_eq!(store.record_reports(world.id(0), incarnation, &[good], &silent, 20).await.unwrap().len(), 1);
}
