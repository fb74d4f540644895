//! Guest commands: the order of the queue, every end, the journal over crashes and wrong clocks.

use crate::story::*;
use straas_converge::{CommandFate, CommandPhase, FORGET_MARGIN_MS};
use straas_schemas::Digest;
use straas_schemas::command::{COMMANDS_WAITING_MAX, CommandOrder};

const GOOD: CommandFate = CommandFate::Succeeded;

fn order(id: &str) -> CommandOrder {
    CommandOrder {
        id: id.into(),
        command: "t/x".into(),
        args: serde_json::Map::new(),
        timeout_s: 5,
        begin_within_ms: 1_000,
        idempotent: false,
        files: Vec::new(),
    }
}

fn orders(ids: &[&str]) -> In {
    Command(ids.iter().map(|id| order(id)).collect())
}

fn repeated(id: &str) -> In {
    Command(vec![CommandOrder { idempotent: true, ..order(id) }])
}

#[test]
fn four_at_once_in_their_order_beside_the_stages() {
    let agent = check(
        "what is received and begun is one write",
        after(vec![
            (orders(&["a", "b", "c", "d", "e", "f"]), "persist begin:a begin:b begin:c begin:d wake+1000"),
            (Offer(wanted(2, |a| a.stages[0].inputs = Digest::of(&["2"]))), "persist persist run:install#1 wake+1000"),
            (Done("c", GOOD), "command:c:Succeeded persist begin:e wake+1000"),
            (After(999), "wake+1"),
            (After(1), "command:f:Expired persist"),
            (Done("a", CommandFate::Failed), "command:a:Failed persist"),
            (Ends(OK), "report:install:Succeeded persist persist run:config#1"),
        ]),
    );
    assert_eq!(agent.converger.open_commands(), ["b".into(), "d".into(), "e".into()]);
    check(
        "that it begins became durable too late",
        after(vec![
            (orders(&["a"]), "persist begin:a wake+5000"),
            (After(1_000), "wake+4000"),
            (Done("a", CommandFate::Late), "command:a:Expired persist wake+4000"),
        ]),
    );
    check(
        "a command begins while a stage runs, with the scripts that are there",
        vec![
            (Offer(wanted(1, |_| ())), "persist fetch:commit-0"),
            (orders(&["a"]), "persist wake+1000"),
            (Fetched, "persist run:install#1 persist begin:a"),
            (Offer(wanted(2, |a| a.scripts = "commit-1".into())), "persist"),
            (orders(&["b"]), "persist begin:b"),
            // the wanted scripts may have it
            (Done("b", CommandFate::Missing), "persist wake+1000"),
            (Ends(OK), "report:install:Succeeded persist fetch:commit-1 wake+1000"),
            (Fetched, "persist run:pre_config#1 persist begin:b"),
            (Done("b", CommandFate::Missing), "command:b:Failed persist"),
            (Done("a", GOOD), "command:a:Succeeded persist"),
        ],
    );
}

#[test]
fn offered_again_it_runs_once_until_nobody_can_offer_it_any_more() {
    let mut agent = check(
        "in every phase",
        after(vec![
            (orders(&["a"]), "persist begin:a wake+5000"),
            (orders(&["a"]), "wake+5000"),
            (Done("a", GOOD), "command:a:Succeeded persist wake+5000"),
            (orders(&["a", "a"]), "wake+5000"),
            (Ack(6), "persist wake+5000"),
            (orders(&["a"]), "wake+5000"),
            (Crash(false), "persist fetch:commit-0"),
            (orders(&["a"]), ""),
            (Fetched, "look"),
            (Ends(OK), "wake+5000"),
        ]),
    );
    assert!(agent.converger.open_commands().is_empty());
    assert!(matches!(agent.disk.commands[&"a".into()].phase, CommandPhase::Ended { seq: 6 }));
    agent.take(After(FORGET_MARGIN_MS - 1));
    agent.take(Ends(OK));
    assert_eq!(agent.disk.commands.len(), 1);
    // the deadline had a second left when the agent was started again
    assert_eq!(agent.take(After(1_001)), "persist wake+3999");
    assert!(agent.disk.commands.is_empty());
}

#[test]
fn a_report_that_is_not_acknowledged_keeps_its_entry() {
    let mut agent = check(
        "",
        after(vec![
            (orders(&["a"]), "persist begin:a wake+5000"),
            (Done("a", GOOD), "command:a:Succeeded persist wake+5000"),
        ]),
    );
    agent.take(After(10 * FORGET_MARGIN_MS));
    agent.take(Ends(OK));
    assert_eq!(agent.disk.commands.len(), 1);
    agent.take(Ack(6));
    assert!(agent.disk.commands.is_empty());
}

#[test]
fn ended_by_a_user() {
    check(
        "before it began, and in the middle",
        after(vec![
            (orders(&["a", "b", "c", "d", "e"]), "persist begin:a begin:b begin:c begin:d wake+1000"),
            (Cancel(vec!["e", "a", "b", "z"]), "command:e:Cancelled persist kill kill wake+5000"),
            (Cancel(vec!["a"]), "wake+5000"),
            (Done("a", CommandFate::Killed), "command:a:Cancelled persist wake+5000"),
            // it was through before the signal came
            (Done("b", GOOD), "command:b:Succeeded persist wake+5000"),
            (Cancel(vec!["a", "b", "e"]), "wake+5000"),
            (Cancel(vec!["c"]), "persist kill wake+5000"),
            (Crash(false), "command:c:Cancelled command:d:Unknown persist fetch:commit-0"),
        ]),
    );
}

#[test]
fn a_crash_in_the_middle() {
    check(
        "unknown, or again if it is harmless; not for ever",
        after(vec![
            (orders(&["a"]), "persist begin:a wake+5000"),
            (repeated("b"), "persist begin:b wake+5000"),
            (After(4_000), "wake+1000"),
            // long after its deadline: it had begun in time
            (Crash(false), "command:a:Unknown persist fetch:commit-0"),
            (Fetched, "look persist begin:b"),
            (Crash(false), "persist fetch:commit-0"),
            (Fetched, "look persist begin:b"),
            (Crash(true), "persist run:start persist begin:b"),
            (Crash(false), "persist run:start persist begin:b"),
            (Crash(false), "command:b:Unknown persist run:start"),
        ]),
    );
}

#[test]
fn deadlines_over_restarts_and_wrong_clocks() {
    let waiting = || {
        after(vec![
            (orders(&["a", "b", "c", "d"]), "persist begin:a begin:b begin:c begin:d wake+5000"),
            (orders(&["e"]), "persist wake+1000"),
            (After(400), "wake+600"),
        ])
    };
    let lost = "command:a:Unknown command:b:Unknown command:c:Unknown command:d:Unknown";
    let ended = format!("{lost} persist fetch:commit-0");
    let mut agent = check("what is left of it", waiting());
    assert_eq!(agent.take(Crash(false)), format!("{ended} wake+600"));
    assert_eq!(agent.take(After(600)), "command:e:Expired persist");
    for off in [-3_600_000, 3_600_000] {
        let mut agent = check("a clock that was set matters to no agent that is started again", waiting());
        agent.take(Clock(off));
        assert_eq!(agent.take(Crash(false)), format!("{ended} wake+600"));
        assert_eq!(agent.take(Crash(false)), "persist fetch:commit-0 wake+600");
    }
    let mut agent = check("after a reboot, one that was set back leaves all of it", waiting());
    agent.take(Clock(-3_600_000));
    assert_eq!(agent.take(Crash(true)), format!("{lost} persist run:start persist begin:e"));
    let mut agent = check("after a reboot, one that was set forward leaves nothing", waiting());
    agent.take(Clock(3_600_000));
    assert_eq!(agent.take(Crash(true)), format!("{lost} persist run:start command:e:Expired persist"));
    let mut agent = check("while the agent runs, clocks do not matter", waiting());
    agent.take(Clock(3_600_000));
    assert_eq!(agent.take(After(100)), "wake+500");
}

#[test]
fn without_scripts_it_waits_and_a_journal_has_an_end() {
    check(
        "nothing to run it with",
        vec![(orders(&["a"]), "persist wake+1000"), (After(999), "wake+1"), (After(1), "command:a:Expired persist")],
    );
    check(
        "older scripts, if the wanted ones cannot be had",
        after(vec![
            (Offer(wanted(2, |a| a.scripts = "commit-1".into())), "persist fetch:commit-1"),
            (orders(&["a"]), "persist wake+1000"),
            (FetchFails, "persist begin:a wake+200"),
        ]),
    );
    let many: Vec<String> = (0..COMMANDS_WAITING_MAX + 5).map(|n| format!("c-{n}")).collect();
    let all = || Command(many.iter().map(|id| order(id)).collect());
    let mut agent = check("", vec![(all(), "persist wake+1000")]);
    assert_eq!(agent.converger.open_commands().len(), COMMANDS_WAITING_MAX);
    agent.take(Cancel(vec!["c-0"]));
    assert_eq!(agent.take(all()), "wake+1000", "an end that is not acknowledged takes its place");
    agent.take(Ack(1));
    assert_eq!(agent.take(all()), "persist wake+1000");
    assert_eq!(agent.converger.open_commands().len(), COMMANDS_WAITING_MAX);
    assert_eq!(agent.take(Command(vec![CommandOrder { id: "../x".into(), ..order("x") }])), "wake+1000");
}
