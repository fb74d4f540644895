//! Restarts, stops and starts, permits, names: what later assignments ask for.

use crate::story::*;
use straas_schemas::assignment::GENERATION_LEAP;
use straas_schemas::heartbeat::{Activity, ServiceStatus};
use straas_schemas::{Assignment, Digest, Gate, Lifecycle, Outcome, Stage};

fn stopped(a: &mut Assignment) {
    a.lifecycle = Lifecycle::Stopped;
}

fn configured(a: &mut Assignment) {
    a.stages[2].inputs = Digest::of(&["another configuration"]);
}

/// As the planner does it: the count is among the inputs.
fn restarted(times: u32) -> impl Fn(&mut Assignment) {
    move |a| {
        a.restarts = times;
        a.stages[2].inputs = Digest::of(&["config", &times.to_string()]);
    }
}

#[test]
fn stopping() {
    check(
        "stopped stays stopped over a reboot, and starts again when ordered",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Ends(OK), "persist converged:2 persist"),
            (After(60_000), ""),
            (Crash(true), "persist run:stop"),
            (Ends(OK), "persist fetch:commit-0"),
            (Fetched, ""),
            (Offer(wanted(3, |_| ())), "persist persist run:start"),
            (Ends(OK), "persist run:validate#1"),
            (Ends(OK), "report:validate:Succeeded persist converged:3 persist wake+5000"),
        ]),
    );
}

#[test]
fn a_controller_that_was_put_back_is_told_all_results_again() {
    check(
        "a leap, and no leap",
        after(vec![
            (Offer(wanted(9, |_| ())), "persist converged:9 persist wake+5000"),
            (
                Offer(wanted(9 + GENERATION_LEAP / 2, |_| ())),
                "report:install:Succeeded report:pre_config:Succeeded report:config:Succeeded report:validate:Succeeded \
                 persist converged:524297 persist wake+5000",
            ),
        ]),
    );
}

#[test]
fn a_stop_or_start_that_fails_is_told() {
    let mut agent = check(
        "a stop that fails",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Ends(Outcome::Failed), "wake+200"),
            (After(200), "run:stop"),
            (Ends(Outcome::Failed), "wake+400"),
        ]),
    );
    let at = agent.at();
    let told = agent.converger.status(at).activity;
    let expected = Activity::Retrying { stage: Stage::Validate, attempt: 2, in_ms: 400, reason: "reason".into() };
    assert_eq!(told, expected);
    let agent = check(
        "a start that fails is named by the look that finds the service down",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Ends(OK), "persist converged:2 persist"),
            (Offer(wanted(3, |_| ())), "persist persist run:start"),
            (Ends(Outcome::Failed), "persist run:validate#1"),
            (Ends(Outcome::Failed), "report:validate:Failed persist run:start"),
        ]),
    );
    assert_eq!(agent.disk.stages[&Stage::Validate].reason, "reason (before that: reason)");
}

#[test]
fn a_restart_is_done_once_and_a_crash_in_it_ends_with_the_service_running() {
    check(
        "stopped and configured in one run; not again afterwards",
        after(vec![
            (Offer(wanted(2, restarted(1))), "persist persist restart:config#1"),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
            (Ends(OK), "report:validate:Succeeded persist converged:2 persist wake+5000"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, "look"),
            (Ends(OK), "wake+5000"),
            (
                Offer(wanted(3, |a| {
                    restarted(1)(a);
                    configured(a)
                })),
                "persist persist run:config#1",
            ),
        ]),
    );
    check(
        "killed between stop and configuration: both again",
        after(vec![
            (Offer(wanted(2, restarted(1))), "persist persist restart:config#1"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, "persist restart:config#2"),
            (Crash(true), "persist fetch:commit-0"),
            (Fetched, "persist restart:config#3"),
            (Ends(Outcome::Failed), "report:config:Failed persist wake+200"),
            (After(200), "persist restart:config#4"),
            (Ends(OK), "report:config:Succeeded persist run:validate#1"),
        ]),
    );
    check(
        "a new host in the place of one that was restarted before",
        vec![
            (Offer(wanted(1, restarted(3))), "persist fetch:commit-0"),
            (Fetched, "persist run:install#1"),
            (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
            (Ends(OK), "report:pre_config:Succeeded persist persist run:config#1"),
            (Offer(wanted(2, restarted(4))), "persist kill"),
            (Ends(Outcome::Failed), "persist restart:config#1"),
        ],
    );
}

#[test]
fn a_stopped_node_is_prepared_and_comes_up_with_the_newest_configuration() {
    let prepared = |a: &mut Assignment| {
        a.stages[1].inputs = Digest::of(&["another context"]);
        a.stages[2].gate = Gate::Permit { granted: None };
    };
    let mut agent = check(
        "what is configured is not touched before it may run, then it needs no permit",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Ends(OK), "persist converged:2 persist"),
            (
                Offer(wanted(3, |a| {
                    prepared(a);
                    stopped(a)
                })),
                "persist persist run:pre_config#1",
            ),
            (Ends(OK), "report:pre_config:Succeeded persist converged:3 persist"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, ""),
        ]),
    );
    let now = agent.at();
    let status = agent.converger.status(now);
    assert_eq!((status.service, status.converged, status.asks), (ServiceStatus::Inactive, true, None));
    // what is rendered is the same in these stories, so another input of config makes it differ
    let newest = |a: &mut Assignment| {
        prepared(a);
        configured(a);
    };
    assert_eq!(agent.take(Offer(wanted(4, newest))), "persist persist run:config#1");
    assert_eq!(agent.take(Ends(Outcome::Failed)), "report:config:Failed persist");
    let now = agent.at();
    let status = agent.converger.status(now);
    let what = (status.service, status.asks.map(|ask| ask.stage));
    assert_eq!(what, (ServiceStatus::Unknown, Some(Stage::Config)), "from now on it may be up");

    check(
        "a configuration that cannot be applied does not keep the service down",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Ends(OK), "persist converged:2 persist"),
            (
                Offer(wanted(3, |a| {
                    configured(a);
                    a.stages[2].gate = Gate::Closed { why: "paused".into() };
                })),
                "persist persist run:start",
            ),
            (Ends(OK), "persist run:validate#1"),
            (Ends(OK), "report:validate:Succeeded persist wake+5000"),
        ]),
    );
    check(
        "a start that comes while it is being stopped",
        after(vec![
            (Offer(wanted(2, stopped)), "persist persist run:stop"),
            (Offer(wanted(3, |_| ())), "persist kill"),
            (Ends(Outcome::Failed), "run:start"),
            (Ends(OK), "persist run:validate#1"),
        ]),
    );
}

#[test]
fn what_stops_waits_for_nothing() {
    check(
        "neither for a gate nor for scripts; one that fails does not keep back the scripts",
        after(vec![
            (
                Offer(wanted(2, |a| {
                    stopped(a);
                    a.scripts = "commit-1".into();
                    a.stages[0].inputs = Digest::of(&["another"]);
                    a.stages[0].gate = Gate::Closed { why: "x".into() };
                })),
                "persist persist run:stop",
            ),
            (Ends(Outcome::Failed), "fetch:commit-1 wake+200"),
            (Fetched, "wake+200"),
            (After(200), "run:stop"),
            (Ends(OK), "persist"),
        ]),
    );
    check(
        "what never ran is not stopped",
        vec![
            (Offer(wanted(1, stopped)), "persist persist fetch:commit-0"),
            (Fetched, "persist run:install#1"),
            (Ends(OK), "report:install:Succeeded persist persist run:pre_config#1"),
            (Ends(OK), "report:pre_config:Succeeded persist converged:1 persist"),
            (Offer(wanted(2, |a| a.stages[2].gate = Gate::Permit { granted: None })), "persist persist run:config#1"),
        ],
    );
}

#[test]
fn any_stage_asks_for_a_permit() {
    let changed = |granted: Option<Digest>| {
        move |a: &mut Assignment| {
            a.stages[0].inputs = Digest::of(&["another version"]);
            a.stages[0].gate = Gate::Permit { granted };
        }
    };
    let mut agent = check(
        "install that disturbs the service",
        after(vec![
            (Offer(wanted(2, changed(None))), "persist wake+5000"),
            (After(5_000), "look"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    let now = agent.at();
    let ask = agent.converger.status(now).asks.unwrap();
    assert_eq!(ask.stage, Stage::Install);
    assert_eq!(agent.take(Offer(wanted(3, changed(Some(Digest::of(&["else"])))))), "persist wake+5000");
    assert_eq!(agent.take(Offer(wanted(4, changed(Some(ask.digest))))), "persist persist run:install#1");
}

#[test]
fn what_an_install_disturbed_is_looked_at_also_when_it_is_turned_back() {
    let installs = |version: Option<&'static str>, granted: Option<Digest>| {
        move |a: &mut Assignment| {
            if let Some(version) = version {
                a.stages[0].inputs = Digest::of(&[version]);
            }
            a.stages[0].gate = Gate::Permit { granted };
            a.stages[2].gate = Gate::Permit { granted: None };
        }
    };
    let mut agent =
        check("another version", after(vec![(Offer(wanted(2, installs(Some("2"), None))), "persist wake+5000")]));
    let asked = |agent: &mut Agent| {
        let now = agent.at();
        agent.converger.status(now).asks.unwrap().digest
    };
    let granted = asked(&mut agent);
    assert_eq!(agent.take(Offer(wanted(3, installs(Some("2"), Some(granted))))), "persist persist run:install#1");
    // `config` waits for a permit, and gets none: the version before is wanted again
    assert_eq!(agent.take(Ends(OK)), "report:install:Succeeded persist wake+5000");
    assert_eq!(agent.take(After(5_000)), "run:validate#1");
    assert_eq!(agent.take(Ends(OK)), "report:validate:Succeeded persist wake+5000");
    assert_eq!(agent.take(Offer(wanted(4, installs(None, None)))), "persist wake+5000");
    let granted = asked(&mut agent);
    assert_eq!(agent.take(Offer(wanted(5, installs(None, Some(granted))))), "persist persist run:install#1");
    // all other digests are what they were, and yet it is not what it should be before it was seen to work
    assert_eq!(agent.take(Ends(OK)), "report:install:Succeeded persist run:validate#1");
    assert_eq!(agent.take(Ends(OK)), "report:validate:Succeeded persist converged:5 persist wake+5000");
}

#[test]
fn names_are_put_in_place_before_any_stage_and_run_none_again() {
    check(
        "a new address of a peer",
        after(vec![
            (
                Offer(wanted(2, |a| a.hosts = [("p".to_owned(), "10.0.0.1".to_owned())].into())),
                "persist fetch:commit-0",
            ),
            (FetchFails, "wake+200"),
            (After(200), "fetch:commit-0"),
            (Fetched, "converged:2 persist wake+4800"),
        ]),
    );
}

#[test]
fn a_service_is_looked_at_while_what_comes_next_waits() {
    let waits = |a: &mut Assignment| {
        configured(a);
        a.stages[2].gate = Gate::Permit { granted: None };
        a.stages[3].inputs = Digest::of(&["another script"]);
    };
    check(
        "with the newest script, and what died meanwhile is started again",
        after(vec![
            (Offer(wanted(2, waits)), "persist wake+5000"),
            (After(5_000), "run:validate#1"),
            (Ends(Outcome::Failed), "report:validate:Failed persist run:start"),
            (Ends(OK), "run:validate#2"),
            (Ends(OK), "report:validate:Succeeded persist wake+5000"),
        ]),
    );
}
