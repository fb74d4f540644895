//! Stages: creation, generations, failures, gates, crashes.

use crate::story::*;
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::{Digest, Gate, Outcome, Stage};

#[test]
fn creation_and_monitoring() {
    let mut agent = check(
        "a settled node looks, and says nothing while nothing changes",
        after(vec![
            (Ack(5), "persist wake+5000"),
            (After(5_000), "look"),
            (Ends(OK), "wake+5000"),
            (Offer(wanted(1, |_| ())), "wake+5000"),
        ]),
    );
    assert!(agent.disk.outbox.is_empty());
    let now = agent.at();
    let status = agent.converger.status(now);
    assert_eq!((status.converged, status.service, status.activity), (true, ServiceStatus::Active, Activity::Idle));
}

#[test]
fn a_look_that_is_wished_for() {
    check(
        "it begins at once, but not sooner after another than a pause; many wishes make one look",
        after(vec![
            (After(1_000), "wake+4000"),
            (Wish, "look"),
            (Ends(OK), "wake+5000"),
            (Wish, "wake+500"),
            (Wish, "wake+500"),
            (After(500), "look"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    check(
        "during a look it makes another one: the present one may have seen what was before",
        after(vec![
            (After(1_000), "wake+4000"),
            (Wish, "look"),
            (After(10), ""),
            (Wish, ""),
            (Ends(OK), "wake+500"),
            (After(500), "look"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    let config = |a: &mut straas_schemas::Assignment| a.stages[2].inputs = Digest::of(&["n"]);
    check(
        "it ends a wait for what said \"not yet\", and not that for what failed; it starts nothing else",
        after(vec![
            (Offer(wanted(2, config)), "persist persist run:config#1"),
            (Wish, ""),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
            (Ends(Outcome::Waiting), "report:validate:Waiting persist wake+100"),
            (After(4_000), "run:validate#2"),
            (Ends(Outcome::Waiting), "persist wake+300"),
            (Wish, "wake+300"),
            (After(300), "run:validate#3"),
            (Ends(Outcome::Failed), "report:validate:Failed persist run:start"),
            (Wish, ""),
            (Ends(OK), "run:validate#4"),
            (Ends(OK), "report:validate:Succeeded persist converged:2 persist wake+5000"),
        ]),
    );
}

#[test]
fn generations() {
    check(
        "three-way rule",
        after(vec![
            (Offer(wanted(0, |_| ())), "refused:0 persist wake+5000"),
            (Offer(wanted(0, |_| ())), "wake+5000"),
            (Offer(wanted(1, |a| a.version = "2".into())), "refused:1 persist wake+5000"),
            (Offer(wanted(9, |a| a.node = "other".into())), "refused:9 persist wake+5000"),
            (Offer(wanted(9, |a| a.protocol = 99)), "refused:9 persist wake+5000"),
            (Offer(wanted(9, |a| a.stages.swap(0, 1))), "refused:9 persist wake+5000"),
            (Offer(wanted(2, |_| ())), "persist converged:2 persist wake+5000"),
        ]),
    );
}

#[test]
fn failing_waiting_superseding() {
    let install = |n: &'static str| move |a: &mut straas_schemas::Assignment| a.stages[0].inputs = Digest::of(&[n]);
    check(
        "back-off, then at once on a new digest; a late result moves nothing",
        vec![
            (Offer(wanted(1, |_| ())), "persist fetch:commit-0"),
            (FetchFails, "wake+200"),
            (After(200), "fetch:commit-0"),
            (Fetched, "persist run:install#1"),
            (Ends(Outcome::Failed), "report:install:Failed persist wake+200"),
            (After(200), "persist run:install#2"),
            (Ends(Outcome::Failed), "report:install:Failed*2 persist wake+400"),
            (After(400), "persist run:install#3"),
            (Ends(Outcome::Waiting), "report:install:Waiting*2 persist wake+100"),
            (After(100), "persist run:install#4"),
            (Offer(wanted(2, install("two"))), "persist kill"),
            (Late, ""),
            (Ends(OK), "persist run:install#1"),
            (Late, ""),
            (
                Offer(wanted(3, |a| {
                    install("two")(a);
                    a.stages[3].inputs = Digest::of(&["v"])
                })),
                "persist",
            ),
            (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
        ],
    );
}

#[test]
fn what_is_not_there_for_too_long_counts_as_a_failure() {
    let config = |a: &mut straas_schemas::Assignment| a.stages[2].inputs = Digest::of(&["n"]);
    check(
        "again and again by the back-off of failures, but asked as often as before; nothing is started",
        after(vec![
            (Offer(wanted(2, config)), "persist persist run:config#1"),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
            (Ends(Outcome::Waiting), "report:validate:Waiting persist wake+100"),
            (After(9_900), "run:validate#2"),
            (Ends(Outcome::Waiting), "persist wake+300"),
            (After(300), "run:validate#3"),
            (Ends(Outcome::Waiting), "report:validate:Waiting*1 persist wake+300"),
            (After(300), "run:validate#4"),
            (Ends(Outcome::Waiting), "report:validate:Waiting*2 persist wake+300"),
            (After(300), "run:validate#5"),
            (Ends(Outcome::Waiting), "persist wake+300"),
            (After(300), "run:validate#6"),
            (Ends(Outcome::Waiting), "report:validate:Waiting*3 persist wake+300"),
            (After(300), "run:validate#7"),
            (Ends(OK), "report:validate:Succeeded persist converged:2 persist wake+5000"),
        ]),
    );
}

#[test]
fn what_was_validated_before_says_nothing_of_what_is_configured_now() {
    check(
        "a change that began and was taken back is validated anew",
        after(vec![
            (Offer(wanted(2, |a| a.stages[2].inputs = Digest::of(&["n"]))), "persist persist run:config#1"),
            (Offer(wanted(3, |_| ())), "persist kill"),
            (Ends(Outcome::Failed), "persist run:config#1"),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
            (Ends(OK), "report:validate:Succeeded persist converged:3 persist wake+5000"),
        ]),
    );
}

#[test]
fn gates() {
    let closed = Gate::Closed { why: "zk is not there".into() };
    let agent = check(
        "a closed gate holds, and the settled service is still looked at",
        after(vec![
            (
                Offer(wanted(2, |a| {
                    a.stages[1].inputs = Digest::of(&["new"]);
                    a.stages[2].gate = closed
                })),
                "persist persist run:pre_config#1",
            ),
            (Ends(OK), "report:pre_config:Succeeded persist converged:2 persist wake+5000"),
        ]),
    );
    drop(agent);
    let changed = |gate: Gate| {
        move |a: &mut straas_schemas::Assignment| {
            a.stages[2].inputs = Digest::of(&["new"]);
            a.stages[2].gate = gate;
        }
    };
    let mut agent = check(
        "without a permit it asks",
        after(vec![
            (Offer(wanted(2, changed(Gate::Permit { granted: None }))), "persist wake+5000"),
            (After(5_000), "look"),
        ]),
    );
    let now = agent.at();
    let digest = agent.converger.status(now).asks.unwrap().digest;
    assert_eq!(agent.take(Ends(OK)), "wake+5000");
    let wrong = Gate::Permit { granted: Some(Digest::of(&["else"])) };
    assert_eq!(agent.take(Offer(wanted(3, changed(wrong)))), "persist wake+5000");
    let right = Gate::Permit { granted: Some(digest) };
    assert_eq!(agent.take(Offer(wanted(4, changed(right)))), "persist persist run:config#1");
}

#[test]
fn crashes_reboots_and_restarts() {
    check(
        "killed in the middle of config: config again",
        after(vec![
            (Offer(wanted(2, |a| a.stages[2].inputs = Digest::of(&["n"]))), "persist persist run:config#1"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, "persist run:config#2"),
        ]),
    );
    check(
        "a reboot starts the service from the ledger alone",
        after(vec![
            (Crash(true), "persist run:start"),
            (Ends(OK), "persist fetch:commit-0"),
            (Fetched, "run:validate#1"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    check(
        "a service that died is started again, and what validate says is reported when it changes",
        after(vec![
            (After(5_000), "look"),
            (Ends(Outcome::Failed), "report:validate:Failed persist run:start"),
            (Ends(OK), "run:validate#2"),
            (Ends(Outcome::Failed), "report:validate:Failed*2 persist wake+400"),
            (After(400), "run:start"),
            (Ends(OK), "run:validate#3"),
            (Ends(OK), "report:validate:Succeeded persist wake+5000"),
        ]),
    );
}

#[test]
fn the_stage_order_is_the_order_of_work() {
    assert!(Stage::ALL.is_sorted());
}
