//! A table of situations: how members stand, and what is next.

use super::*;
use JobSeen::{Ended, Missing, Open};
use JobStanding::{Cancelled, RolledBack, Succeeded, Superseded};
use Phase::{Begun, Failed, Skipped, TurnedBack, Verified, Waiting};
use straas_schemas::rollout::{FleetBatch, FleetRolloutKind};

const NEW: &str = "new";
const OLD: &str = "old";

fn member(name: &str, batch: u32, phase: Phase) -> RolloutMember {
    RolloutMember {
        component: name.into(),
        component_name: "zk".into(),
        topology: name.into(),
        topology_name: name.into(),
        tenant: "red".into(),
        batch,
        nodes: 1,
        before: OLD.into(),
        before_build: None,
        before_nodes: BTreeMap::new(),
        phase,
        reason: None,
        job: (phase != Waiting).then(|| "j".into()),
    }
}

/// Members `a`, `b`, … with these batches and phases.
fn rollout(standing: Standing, members: &[(u32, Phase)]) -> RolloutRecord {
    let batches = members.iter().map(|(batch, _)| batch + 1).max().unwrap_or(0);
    let names = ["a", "b", "c", "d", "e"];
    RolloutRecord {
        id: "r".into(),
        kind: FleetRolloutKind::Scripts,
        wanted: NEW.into(),
        build: None,
        from: None,
        author: "ann".into(),
        tenant: "red".into(),
        all_tenants: false,
        batches: (0..batches).map(|_| FleetBatch { percent: 100, components: 1, nodes: 1 }).collect(),
        soak_s: 0,
        batch: 0,
        watched_ms: None,
        standing,
        reason: None,
        created_ms: 0,
        ended_ms: None,
        revision: 1,
        members: names.iter().zip(members).map(|(name, (batch, phase))| member(name, *batch, *phase)).collect(),
    }
}

fn seen(wants: &str, job: JobSeen) -> Seen {
    Seen {
        wants: Some(wants.into()),
        changing: job == Open,
        reverted: None,
        job,
        held: None,
        refused: None,
        lacks: None,
        unhealthy: None,
        fenced: false,
    }
}

fn looked(now_ms: i64, seen: &[(&str, Seen)]) -> Looked {
    let seen = seen.iter().map(|(name, seen)| ((*name).into(), seen.clone())).collect();
    Looked { now_ms, quarantined: None, seen }
}

fn phases(step: &Step) -> Vec<Phase> {
    step.record.members.iter().map(|member| member.phase).collect()
}

#[test]
fn what_becomes_of_a_member_that_has_begun() {
    let open = || seen(NEW, Open);
    let ended = |standing| seen(NEW, Ended(standing));
    let gone = Seen { wants: None, ..open() };
    let say = |text: &str| Some(text.to_owned());
    let table: Vec<(&str, Seen, Phase, Option<Act>)> = vec![
        ("not changed yet", seen(OLD, Missing), Begun, Some(Act::Begin)),
        ("the commit lacks something", Seen { lacks: say("x"), ..seen(OLD, Missing) }, Skipped, None),
        ("changed before its turn", seen("other", Missing), Skipped, None),
        ("somebody gave it the commit", seen(NEW, Missing), Skipped, None),
        ("under way", open(), Begun, None),
        ("a node cannot have it", Seen { refused: say("x"), ..open() }, Failed, None),
        ("a node cannot have what nobody wants", Seen { refused: say("x"), ..seen("other", Open) }, Skipped, None),
        ("held", Seen { held: say("x"), ..open() }, Failed, None),
        ("its canary failed", Seen { reverted: say("x"), ..seen(OLD, Open) }, Failed, None),
        ("and that has ended", seen(OLD, Ended(RolledBack)), Failed, None),
        ("a user cancelled its job", seen(OLD, Ended(Cancelled)), Failed, None),
        ("another commit took its place", seen("other", Ended(Superseded)), Skipped, None),
        ("another commit came after it", seen("other", Ended(Succeeded)), Skipped, None),
        ("put back by hand", seen(OLD, Ended(Superseded)), Skipped, None),
        ("done", ended(Succeeded), Verified, None),
        ("done, its rollout not over", Seen { changing: true, ..ended(Succeeded) }, Begun, None),
        ("another change took its place", Seen { changing: true, ..ended(Superseded) }, Begun, None),
        ("and that is over", ended(Superseded), Verified, None),
        ("and that is held", Seen { changing: true, held: say("x"), ..ended(Superseded) }, Failed, None),
        ("gone", gone, Skipped, None),
    ];
    for standing in [Standing::Running, Standing::Paused] {
        for (what, seen, phase, act) in &table {
            // another one of the batch goes on
            let record = rollout(standing, &[(0, Begun), (0, Begun), (1, Waiting)]);
            let step = next(&record, &looked(5, &[("a", seen.clone()), ("b", open())]));
            assert_eq!(phases(&step), [*phase, Begun, Waiting], "{what}");
            assert_eq!(step.acts, act.map(|act| (0, act)).into_iter().collect::<Vec<_>>(), "{what}");
            let expect = if *phase == Failed { Standing::TurningBack } else { standing };
            assert_eq!(step.record.standing, expect, "{what}");
            assert_eq!(step.record.reason.is_some(), *phase == Failed, "{what}");
            assert!(step.record.reason.is_none_or(|reason| reason.starts_with("a/zk: ")), "{what}");
        }
    }
}

#[test]
fn batches_follow_each_other() {
    let done = || seen(NEW, Ended(Succeeded));
    let check = |record: &RolloutRecord, looked: &Looked, expect: &[Phase], standing: Standing, batch: u32| {
        let step = next(record, looked);
        assert_eq!((phases(&step).as_slice(), step.record.standing, step.record.batch), (expect, standing, batch));
        step.record
    };
    let start = rollout(Standing::Running, &[(0, Waiting), (1, Waiting), (1, Waiting), (2, Waiting)]);
    let one = check(&start, &looked(1, &[]), &[Begun, Waiting, Waiting, Waiting], Standing::Running, 0);
    assert_eq!(one.members[0].job, None, "whoever writes it names the job");
    // no news, nothing new
    assert_eq!(next(&one, &looked(2, &[])).record, one);
    let two = check(&one, &looked(3, &[("a", done())]), &[Verified, Begun, Begun, Waiting], Standing::Running, 1);
    let half = check(&two, &looked(4, &[("b", done())]), &[Verified, Verified, Begun, Waiting], Standing::Running, 1);
    // one is skipped: the others go on
    let gone = Seen { wants: None, ..done() };
    let last = [Verified, Verified, Skipped, Begun];
    let three = check(&half, &looked(5, &[("c", gone)]), &last, Standing::Running, 2);
    let last = [Verified, Verified, Skipped, Verified];
    let end = check(&three, &looked(6, &[("d", done())]), &last, Standing::Succeeded, 2);
    assert_eq!(end.ended_ms, Some(6));
    assert_eq!(next(&end, &looked(7, &[("d", seen(OLD, Open))])).record, end, "it has ended");
    let empty = next(&rollout(Standing::Running, &[]), &looked(8, &[])).record;
    assert_eq!((empty.standing, empty.ended_ms), (Standing::Succeeded, Some(8)));
}

#[test]
fn while_paused_nobody_begins_and_those_that_have_go_on() {
    let done = || seen(NEW, Ended(Succeeded));
    let start = rollout(Standing::Paused, &[(0, Begun), (1, Waiting)]);
    let step = next(&start, &looked(1, &[("a", done())]));
    assert_eq!((phases(&step), step.record.batch), (vec![Verified, Waiting], 0));
    assert_eq!(next(&step.record, &looked(9, &[("a", done())])).record, step.record);
    let resumed = RolloutRecord { standing: Standing::Running, ..step.record };
    assert_eq!(phases(&next(&resumed, &looked(9, &[]))), [Verified, Begun]);
    let fresh = rollout(Standing::Paused, &[(0, Waiting)]);
    assert_eq!(next(&fresh, &looked(1, &[])).record, fresh);
    // what was told to begin is begun
    let told = rollout(Standing::Paused, &[(0, Begun)]);
    assert_eq!(next(&told, &looked(1, &[("a", seen(OLD, Missing))])).acts, [(0, Act::Begin)]);
}

#[test]
fn a_batch_is_watched() {
    let done = || seen(NEW, Ended(Succeeded));
    let start = RolloutRecord { soak_s: 10, ..rollout(Standing::Running, &[(0, Begun), (1, Waiting)]) };
    let step = next(&start, &looked(1_000, &[("a", done())]));
    assert_eq!((phases(&step), step.record.watched_ms), (vec![Verified, Waiting], Some(1_000)));
    assert_eq!(step.look_again_ms, Some(11_000));
    let watched = step.record;
    let step = next(&watched, &looked(10_999, &[("a", done())]));
    assert_eq!((&step.record, step.look_again_ms), (&watched, Some(11_000)));
    let step = next(&watched, &looked(11_000, &[("a", done())]));
    assert_eq!((phases(&step), step.record.batch, step.record.watched_ms), (vec![Verified, Begun], 1, None));
    let sick = Seen { unhealthy: Some("zk-1 became INACTIVE".into()), ..done() };
    let step = next(&watched, &looked(2_000, &[("a", sick)]));
    assert_eq!((phases(&step), step.record.standing), (vec![Failed, Waiting], Standing::TurningBack));
    assert_eq!(step.record.reason.as_deref(), Some("a/zk: verified, but then zk-1 became INACTIVE"));
    // a batch of which nothing is left is not watched
    let gone = Seen { wants: None, ..done() };
    let step = next(&start, &looked(1_000, &[("a", gone)]));
    assert_eq!((phases(&step), step.record.batch), (vec![Skipped, Begun], 1));
}

#[test]
fn nobody_begins_what_is_in_quarantine() {
    let record = rollout(Standing::Running, &[(0, Waiting), (0, Waiting)]);
    let at = |now_ms| Looked { quarantined: Some(("x".into(), 1)), ..looked(now_ms, &[]) };
    // for a while whoever found out may say so himself
    let step = next(&record, &at(5_000));
    assert_eq!((&step.record, step.look_again_ms), (&record, Some(5_001)));
    let told = rollout(Standing::Running, &[(0, Begun)]);
    let step = next(&told, &Looked { seen: looked(0, &[("a", seen(OLD, Missing))]).seen, ..at(5_000) });
    assert_eq!((&step.record, step.acts.as_slice()), (&told, &[][..]));
    let step = next(&record, &at(5_001));
    assert_eq!((phases(&step), step.record.standing), (vec![Waiting, Waiting], Standing::TurningBack));
    assert_eq!(next(&step.record, &looked(2, &[])).record.standing, Standing::TurnedBack);
}

#[test]
fn whoever_still_wants_it_is_turned_back() {
    let fenced = Seen { fenced: true, ..seen(OLD, Missing) };
    let gone = Seen { wants: None, ..seen(OLD, Missing) };
    let table: Vec<(&str, Phase, Seen, Phase, Option<Act>)> = vec![
        ("verified", Verified, seen(NEW, Ended(Succeeded)), Verified, Some(Act::TurnBack)),
        ("under way", Begun, seen(NEW, Open), Begun, Some(Act::TurnBack)),
        ("failed and still wants it", Failed, seen(NEW, Open), Failed, Some(Act::TurnBack)),
        ("turned back by its canary", Failed, seen(OLD, Open), Failed, None),
        ("failed and gone", Failed, gone.clone(), Failed, None),
        ("turned back", Verified, seen(OLD, Ended(Succeeded)), TurnedBack, None),
        ("turned back while under way", Begun, seen(OLD, Ended(Superseded)), TurnedBack, None),
        ("changed by somebody", Verified, seen("other", Ended(Succeeded)), Skipped, None),
        ("gone", Begun, gone, Skipped, None),
        ("told, not begun", Begun, seen(OLD, Missing), Begun, Some(Act::Fence)),
        ("and never will", Begun, fenced, Waiting, None),
        ("told, and had it from somebody", Begun, seen(NEW, Missing), Skipped, None),
        ("waiting", Waiting, seen(OLD, Missing), Waiting, None),
        ("skipped", Skipped, seen(NEW, Open), Skipped, None),
    ];
    for (during, end) in [(Standing::TurningBack, Standing::TurnedBack), (Standing::Cancelling, Standing::Cancelled)] {
        for (what, was, seen, phase, act) in &table {
            let record = rollout(during, &[(0, *was)]);
            let step = next(&record, &looked(5, &[("a", seen.clone())]));
            assert_eq!(phases(&step), [*phase], "{what}");
            assert_eq!(step.acts, act.map(|act| (0, act)).into_iter().collect::<Vec<_>>(), "{what}");
            assert_eq!(step.record.standing, if act.is_some() { during } else { end }, "{what}");
            assert_eq!(step.record.members[0].job.is_some(), *phase != Waiting, "{what}");
        }
        // of one there is no news
        let record = rollout(during, &[(0, Verified), (0, Verified)]);
        let step = next(&record, &looked(5, &[("a", seen(OLD, Ended(Succeeded)))]));
        assert_eq!((phases(&step), step.record.standing), (vec![TurnedBack, Verified], during));
    }
}
