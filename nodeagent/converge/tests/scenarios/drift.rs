//! Drift: looked for slowly, reported once, mended through the gate of `config`.

use crate::story::*;
use straas_converge::LedgerChange;
use straas_schemas::assignment::{DriftOrder, DriftPolicy};
use straas_schemas::heartbeat::Activity;
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage};

const EVERY_MS: u32 = 10_000;

fn looked_for(policy: DriftPolicy) -> impl Fn(&mut Assignment) {
    move |a| {
        a.timing.validate_every_ms = 60_000;
        a.drift = Some(DriftOrder { every_ms: EVERY_MS, policy });
    }
}

/// From nothing to settled at generation 1; the first look is due after an interval and this node's
/// part of a quarter of it.
fn settled(policy: DriftPolicy) -> Vec<(In, &'static str)> {
    let mut story = created();
    story[0].0 = Offer(wanted(1, looked_for(policy)));
    story[5].1 = "report:validate:Succeeded persist converged:1 persist wake+10345";
    story
}

#[test]
fn it_is_shown_and_told_when_it_differs() {
    let mut story = settled(DriftPolicy::Report);
    story.extend([
        (After(10_345), "run:drift wake+49655"),
        (Looked(0), "persist wake+10000"),
        (After(10_000), "run:drift wake+39655"),
        (Looked(2), "drift:2 persist wake+10000"),
        (Ack(6), "persist wake+10000"),
        (After(10_000), "run:drift wake+29655"),
        (Looked(2), "wake+10000"),
        // a look that fails says nothing
        (After(10_000), "run:drift wake+19655"),
        (Ends(Outcome::Failed), "wake+10000"),
        (After(10_000), "run:drift wake+9655"),
        (Looked(0), "drift:0 persist wake+9655"),
    ]);
    let mut agent = check("report", story);
    let now = agent.at();
    let status = agent.converger.status(now);
    assert!(status.converged && status.activity == Activity::Idle);
    assert_eq!(status.drift.unwrap().looked_ms, now.unix_ms);
}

#[test]
fn work_ends_a_look_and_nothing_waits_for_one() {
    let story = |then: In| {
        let mut story = settled(DriftPolicy::Report);
        story.extend([(After(10_345), "run:drift wake+49655"), (then, "persist kill")]);
        story
    };
    let report = looked_for(DriftPolicy::Report);
    let mut agent = check(
        "another configuration",
        story(Offer(wanted(2, |a| {
            report(a);
            a.stages[2].inputs = Digest::of(&["new"]);
        }))),
    );
    assert_eq!(agent.take(Looked(3)), "persist run:config#1");
    check(
        "a stop",
        story(Offer(wanted(2, |a| {
            report(a);
            a.lifecycle = Lifecycle::Stopped;
        }))),
    );
    check(
        "other scripts",
        story(Offer(wanted(2, |a| {
            report(a);
            a.scripts = "commit-1".into();
        }))),
    );
    check("no more looks", story(Offer(wanted(2, |_| ()))));
    let mut agent = check("it is looked for", settled(DriftPolicy::Report));
    agent.take(After(10_345));
    let now = agent.at();
    let status = agent.converger.status(now);
    assert_eq!((status.activity, status.converged), (Activity::Idle, true), "a look is no work");
}

#[test]
fn it_is_mended_at_once_or_with_a_permit_at_the_same_digest() {
    let mut story = settled(DriftPolicy::Enforce);
    story.extend([
        (After(10_345), "run:drift wake+49655"),
        (Looked(1), "drift:1 persist persist run:config#1"),
        (Crash(false), "persist fetch:commit-0"),
        (Fetched, "persist run:config#2"),
        (Ends(OK), "report:config:Succeeded persist run:validate#1"),
        (Ends(OK), "report:validate:Succeeded persist wake+10345"),
        (After(10_345), "run:drift wake+49655"),
        (Looked(0), "drift:0 persist wake+10000"),
    ]);
    check("an open gate", story);

    let permit = |granted: Option<Digest>| {
        move |a: &mut Assignment| {
            looked_for(DriftPolicy::Enforce)(a);
            a.stages[2].gate = Gate::Permit { granted };
        }
    };
    let mut story = settled(DriftPolicy::Enforce);
    story.extend([
        (Offer(wanted(2, permit(None))), "persist converged:2 persist wake+10345"),
        (After(10_345), "run:drift wake+49655"),
        (Looked(1), "drift:1 persist wake+49655"),
        // what is marked is on the disk, and the service goes on being looked at
        (Crash(false), "persist fetch:commit-0"),
        (Fetched, "look"),
        (Ends(OK), "wake+60000"),
    ]);
    let mut agent = check("a permit", story);
    let now = agent.at();
    let status = agent.converger.status(now);
    let ask = status.asks.unwrap();
    assert!(!status.converged);
    assert_eq!((ask.stage, &ask.digest), (Stage::Config, &status.stages[&Stage::Config].digest));
    assert_eq!(status.drift.map(|found| found.total), Some(1));
    assert_eq!(agent.take(Offer(wanted(3, permit(Some(ask.digest))))), "persist persist run:config#1");
    let now = agent.at();
    assert_eq!(agent.converger.status(now).drift, None, "what was found is not known to hold");
    agent.take(Ends(OK));
    assert_eq!(agent.take(Ends(OK)), "report:validate:Succeeded persist converged:3 persist wake+10345");
    // nobody enforces any more: the mark of an earlier look moves nothing
    let mut record = agent.disk.stages[&Stage::Config].clone();
    record.drifted = true;
    agent.disk.apply(&LedgerChange::Stage(Stage::Config, Box::new(record)));
    let open = wanted(4, looked_for(DriftPolicy::Report));
    assert_eq!(agent.take(Crash(false)), "persist fetch:commit-0");
    assert_eq!(agent.take(Offer(open)), "persist fetch:commit-0");
    assert_eq!(agent.take(Fetched), "converged:4 persist look");
}
