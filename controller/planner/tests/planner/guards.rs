//! What must not happen, one situation each: a story, what it has to say from some point on, and
//! what it must not.
//!
//! Faults that were planted in the planner one at a time, and what fails then (`histories` fails for
//! most of them, too):
//!
//! | Fault | Caught by |
//! |---|---|
//! | no waiting between two steps of a membership | `the_next_member_…`, both |
//! | all leavers of a membership go at once | `members_leave_one_at_a_time` |
//! | hosts without data join at once | `hosts_without_data_join_one_at_a_time` |
//! | they join one at a time where a majority needs more; all of them join | `as_many_hosts_without_data_…` |
//! | a new host counts for nothing where members are free | story `a_new_host_that_does_not_work_…` |
//! | who never was a member takes the budget | `a_joiner_that_never_worked_…` and its story |
//! | `max_unavailable` is ignored | `one_host_is_replaced_at_a_time`, most stories |
//! | a silent node loses its permit | `a_silent_node_keeps_its_permit`, story `a_change_goes_…` |
//! | a permit is lost when inputs change | `a_permit_is_held_while_what_it_is_for_changes` |
//! | a host is replaced without a look at the budget | `one_host_is_replaced_at_a_time` |
//! | a node that is told to stop is not counted | `who_was_told_to_stop_…` |
//! | the leader does not go last | story `a_change_goes_node_by_node_and_the_leader_last` |
//! | facts that must settle are ignored | `nobody_is_disturbed_while_copies_are_owed`, `foreign` |
//! | no canary; a canary need not work | `workflows::an_upgrade_whose_canary_fails_…` |
//! | a failed canary is not turned back; after one failure | `what_failed_on_a_canary_…` and its story |
//! | nothing goes into quarantine | `what_failed_on_a_canary_…` and its story |
//! | a paused change reaches nodes, or disturbs them | `a_paused_change_…` and its story |
//! | a held change disturbs nodes | `a_change_that_is_held_disturbs_nobody` and its story |
//! | scripts of one node are those of all | story `scripts_of_one_node_reach_that_node_alone` |
//! | a host goes before its `leave` is done | `a_host_is_drained_before_it_goes` |
//! | `join` before the newcomer works | `a_newcomer_is_joined_once_it_works_and_once` |
//! | an operation is done again after it succeeded | the same, `foreign` |
//! | an operation that failed is tried again at once | `an_operation_that_failed_…` |
//! | two nodes of a component move at once | `one_node_of_a_component_moves_at_a_time` |
//! | the gate of a dependency is open; of what is prepared there | `it_waits_for_what_it_depends_on_…` |
//! | an opened gate closes when a dependency stumbles | story `two_components_…`, `foreign` |
//! | newcomers are listed to others before they work | `foreign::what_is_listed_there_…` |
//! | a lost host's last address is forgotten | story `the_peers_of_a_lost_host_keep_its_address` |
//! | a host goes while its service works, or waits for ever for it to stop | `a_host_goes_when_…` |
//! | a replaced node gets another number; a number is given out again | `workflows`, `a_replaced_node_…` |
//! | a stopped node is started by a change | `who_is_to_stand_still_…` |
//! | a generation is not raised | everything; in what is kept as it is: `histories` |
//! | a commit elsewhere runs a stage | `foreign`, `histories` |
//! | the only one with the data leaves | `workflows::the_only_one_with_the_data_…` |
//! | a node is forgotten before its host is gone | story `deletion_…` |
//! | members that nobody saw work yet come in any number | `who_is_asked_for_while_…`, `histories` |
//! | who is asked for then is taken for one of the first | `the_second_of_two_…` |
//! | who was to join and leaves is not known to move | `one_that_leaves_while_its_join_…` |
//! | a permit that disturbed its node already is rationed once more | `histories` 161, 241 |
//! | of two that go on with their permits the first counts for nothing | `histories` 741 |
//! | what a component has elsewhere stays; goes before its hosts | `what_a_removed_component_…`, `foreign` |
//! | a removal waits for its dependency for ever | `foreign::what_cannot_be_released_…` |
//! | who holds a permit is not let through with a change | `histories` 417, 511 |
//! | of two trials that fail the second one hides the first | `histories` 635 |
//! | a newcomer that fails with a change keeps its canary waiting | `histories` 1139 |
//! | a leaver keeps a permit that it is through with | `histories` 606 |
//! | a leaver that is down and was left out waits for others | `histories` 252 |
//! | who was stopped before it ever worked counts as one that did | `who_was_stopped_…`, `histories` 1332, 1598 |
//! | who was seen to work and got something else before it said so, as one that did not | `histories` 2735 |
//! | a newcomer of another role fails and keeps a canary waiting | `a_change_that_fails_on_a_new_host_…` |
//! | who holds a permit and waits for another counts as being on its way | `histories` 1697 |
//! | a member that was stopped counts as configured with the last set | `histories` 3331 |
//! | who is left out is called back by the last who leaves | `who_was_left_out_by_the_other_of_two_…` |
//! | a component waits for copies that only it lets others make | `what_a_component_waits_for_is_mended_…` |
//! | leavers that do not work are not mended with those that need them | `leavers_that_do_not_work_…` |

use crate::script::tell;

/// Tells a story; of its second part all of `says` is said, and none of `never`.
#[track_caller]
fn check(given: &str, then: &str, says: &[&str], never: &[&str]) {
    let told = tell(&format!("{given}\n# now\n{then}"));
    let (_, now) = told.split_once("# now\n").expect("a second part");
    for text in says {
        assert!(now.contains(text), "not said: {text}\n{now}");
    }
    for text in never {
        assert!(!now.contains(text), "said: {text}\n{now}");
    }
}

const FIVE: &str = "cluster zk zookeeper 5\ncreate\nworks";
const THREE: &str = "cluster zk zookeeper 3\ncreate\nworks";
const KAFKA: &str = "cluster zk zookeeper 1\ncluster kf kafka 2 after zk\ncreate\nworks";

#[test]
fn the_next_member_leaves_when_all_know_of_the_last() {
    let told = "flexdown zk zk-4 zk-5\ngo";
    check(&format!("{FIVE}\nslow zk-1"), told, &["t-zk-1 gets 4"], &["- host", "t-zk-1 gets 5"]);
    check(FIVE, told, &["- host t-zk-5", "- host t-zk-4", "job-2 Succeeded"], &[]);
}

#[test]
fn the_next_member_joins_when_all_work() {
    let first = format!("{THREE}\nflexup zk 2\nround 1\nslow zk-4");
    check(&first, "go\nwhy", &["t-zk-5: AwaitingMembership"], &["t-zk-5: config", "t-zk-1 gets 5"]);
    check(&first, "go\nheal\ngo", &["t-zk-4: config", "t-zk-5: config", "job-2 Succeeded"], &[]);
}

#[test]
fn who_is_asked_for_while_the_first_are_configured_joins_them_later() {
    let created = "cluster zk zookeeper 3\ncreate\nround 1\nslow zk-1 zk-2 zk-3\nround 1";
    let turn = "t-zk-4 gets 1: pre_config closed (waiting for its turn to join)";
    check(created, "flexup zk 1\ngo", &[turn], &["t-zk-1 gets", "t-zk-4: pre_config"]);
    check(created, "flexup zk 1\ngo\nheal\ngo", &["t-zk-4: config", "job-2 Succeeded"], &[]);
}

#[test]
fn the_second_of_two_waits_for_the_first_also_while_they_are_created() {
    let alone = "cluster zk zookeeper 1\ncreate\nround 1\nslow zk-1\nround 1\nflexup zk 1\nround 2\nheal\nround 1";
    check(&format!("{alone}\nslow zk-1"), "go", &["t-zk-1 gets"], &["t-zk-2: config"]);
    check(alone, "go", &["t-zk-2: config", "job-2 Succeeded"], &[]);
}

#[test]
fn who_was_left_out_by_the_other_of_two_is_not_called_back_when_that_one_is_to_leave() {
    // at whatever moment: the first one knows that it is alone, is configured so, works, or all is over
    for rounds in 1..8 {
        let left = format!("cluster zk zookeeper 2\ncreate\nworks\nflexdown zk zk-2\nflexup zk 1\nround {rounds}");
        check(&left, "flexdown zk zk-1\ngo", &["t-zk-3: config", "- host t-zk-1", "job-4 Succeeded"], &[]);
    }
}

#[test]
fn what_a_component_waits_for_is_mended_although_it_owes_copies() {
    let joins = "cluster zk zookeeper 1\ncluster kf kafka 3 after zk\ncreate\nworks\nflexup zk 1\nround 2";
    let torn = format!("{joins}\nreplace zk-2\nshows kf-1 under_replicated 1\nconfigure kf c2=9 at-once");
    // one that works makes the copies by itself
    check(&torn, "go\nwhy", &["t-zk-1: AwaitingPermit"], &["t-zk-1: config"]);
    check(&format!("{torn}\nmute kf-2\nkill kf-2"), "go", &["t-zk-1: config", "job-2 Succeeded"], &[]);
}

#[test]
fn what_a_removed_component_has_elsewhere_goes_after_its_hosts() {
    let done = ["release c-kf/c-zk, try 1", "release c-kf/c-zk is done", "- component c-kf", "job-2 Succeeded"];
    check(KAFKA, "remove kf\ngo", &done, &["try 2"]);
    check(KAFKA, "homeless kf-1\nremove kf\nround 1", &["- host t-kf-1"], &["is to do: release"]);
    let undone = format!("{KAFKA}\nundone release c-kf/c-zk");
    check(&undone, "remove kf\ngo", &["is to do: release"], &["- component", "job-2 Succeeded"]);
    // nothing was ever configured
    let bare = "cluster zk zookeeper 1\ncluster kf kafka 1 after zk\ncreate\nround 1\nslow zk-1";
    check(bare, "remove kf\ngo", &["- component c-kf"], &["release"]);
}

#[test]
fn one_that_leaves_while_its_join_is_done_is_drained_after_it() {
    let joining = format!("{KAFKA}\nundone join c-kf/t-kf-3\nflexup kf 1\ngo");
    check(&joining, "flexdown kf kf-3\ngo", &[], &["is to do: leave", "- host"]);
    check(&joining, "flexdown kf kf-3\ngo\nheal\ngo", &["leave c-kf/t-kf-3 is done", "- host t-kf-3"], &[]);
}

#[test]
fn hosts_without_data_join_one_at_a_time() {
    let lost = format!("{FIVE}\ngone zk-4 zk-5\nround 1\nslow zk-4 zk-5\nheal\nslow zk-4");
    check(&lost, "go\nwhy", &["t-zk-5: AwaitingMembership"], &["t-zk-5: config"]);
    check(&lost, "go\nheal\ngo", &["t-zk-4: config", "t-zk-5: config"], &[]);
}

#[test]
fn members_leave_one_at_a_time() {
    check(FIVE, "flexdown zk zk-4 zk-5\nround 1", &["t-zk-1 gets"], &["- host"]);
}

#[test]
fn a_host_is_drained_before_it_goes() {
    let undone = format!("{KAFKA}\nundone leave c-kf/t-kf-2");
    check(&undone, "flexdown kf kf-2\ngo", &["is to do: leave c-kf/t-kf-2, try 1"], &["- host", "try 2"]);
    check(&undone, "flexdown kf kf-2\ngo\nheal\ngo", &["leave c-kf/t-kf-2 is done", "- host t-kf-2"], &["try 2"]);
}

#[test]
fn a_newcomer_is_joined_once_it_works_and_once() {
    let slow = format!("{KAFKA}\nflexup kf 1\nround 1\nslow kf-3");
    check(&slow, "go", &[], &["is to do: join"]);
    check(&slow, "go\nheal\ngo\nreplace kf-3\ngo", &["join c-kf/t-kf-3, try 1", "Succeeded"], &["try 2"]);
}

#[test]
fn an_operation_that_failed_is_tried_again_after_a_while() {
    let failing = format!("{KAFKA}\nflexup kf 1\nfails join c-kf/t-kf-3");
    check(&failing, "round 6", &["join c-kf/t-kf-3 failed"], &["try 2"]);
    check(&failing, "round 6\nwait 10\nheal\ngo", &["join c-kf/t-kf-3, try 2", "job-2 Succeeded"], &["try 3"]);
}

#[test]
fn one_node_of_a_component_moves_at_a_time() {
    let two = format!("{KAFKA}\nflexup kf 2\nundone join c-kf/t-kf-3");
    check(&two, "go", &["join c-kf/t-kf-3, try 1"], &["join c-kf/t-kf-4"]);
}

#[test]
fn nobody_is_disturbed_while_copies_are_owed() {
    let owed = format!("{KAFKA}\nshows kf-1 under_replicated 3\nround 2");
    check(&owed, "configure kf c2=9 at-once\ngo", &["t-kf-1: pre_config"], &["PERMITTED"]);
    check(&owed, "configure zk c2=9 at-once\ngo", &["t-zk-1: pre_config"], &["PERMITTED"]);
    check(&owed, "configure kf c2=9 at-once\ngo\nshows kf-1 under_replicated 0\ngo", &["c-kf is rolled out"], &[]);
}

#[test]
fn it_waits_for_what_it_depends_on_and_for_what_is_prepared_there() {
    let created = "cluster zk zookeeper 1\ncluster kf kafka 1 after zk\ncreate";
    check(
        &format!("{created}\nround 1\nslow zk-1"),
        "go",
        &["t-kf-1 gets 2: pre_config closed (waiting for component zk to work)"],
        &["t-kf-1: pre_config"],
    );
    let unprepared = format!("{created}\nundone prepare c-kf/c-zk");
    check(&unprepared, "go", &["is to do: prepare c-kf/c-zk"], &["t-kf-1: pre_config"]);
}

#[test]
fn a_permit_is_held_while_what_it_is_for_changes() {
    let held = format!("{THREE}\nconfigure zk c2=9 at-once\nround 1\nslow zk-1\nround 1\ncut zk-1");
    check(&held, "configure zk c3=8 at-once\ngo", &["t-zk-2: pre_config"], &["t-zk-2: config", "t-zk-3: config"]);
    check(&held, "configure zk c3=8 at-once\ngo\nheal\ngo", &["c-zk is rolled out"], &[]);
}

#[test]
fn a_silent_node_keeps_its_permit() {
    let held = format!("{THREE}\nconfigure zk c2=9 at-once\nround 1\nslow zk-1\nround 1\ncut zk-1\nwait 600");
    check(&held, "go", &[], &["PERMITTED"]);
    check(&held, "heal\ngo", &["c-zk is rolled out"], &[]);
}

#[test]
fn one_host_is_replaced_at_a_time() {
    let first = format!("{THREE}\nreplace zk-1\nround 1\nslow zk-1\nreplace zk-2");
    check(&first, "go", &[], &["- host t-zk-2"]);
    check(&first, "go\nheal\ngo\nview", &["- host t-zk-2", "Active: zk Active"], &[]);
}

#[test]
fn a_host_goes_when_its_service_was_stopped_or_it_is_silent_for_long() {
    check(KAFKA, "replace kf-1\nround 1", &["t-kf-1: its service stops"], &["- host"]);
    check(&format!("{KAFKA}\nslow kf-1"), "replace kf-1\ngo\nwhy", &["t-kf-1: Spawning: its service"], &["- host"]);
    check(KAFKA, "replace kf-1\ngo\nview", &["- host t-kf-1", "job-2 Succeeded", "kf Active"], &[]);
    let cut = format!("{KAFKA}\ncut kf-1");
    check(&cut, "replace kf-1\nround 3", &["t-kf-1 gets"], &["- host", "its service stops"]);
    check(&cut, "replace kf-1\nround 3\nwait 70\nround 1", &["- host t-kf-1"], &["its service stops"]);
    // who waits for others goes on working
    let two = format!("{KAFKA}\nreplace kf-1\nround 1\nslow kf-1");
    check(&two, "replace kf-2\ngo", &["- host t-kf-1"], &["t-kf-2: its service stops", "- host t-kf-2"]);
}

#[test]
fn a_replaced_node_keeps_its_number_and_one_that_left_takes_it_along() {
    let replaced = format!("{THREE}\nreplace zk-2\nworks");
    check(&replaced, "view\nround 3", &["Active: zk Active"], &["gets"]);
    check(&format!("{THREE}\nflexdown zk zk-2\nworks"), "flexup zk 1\ngo", &["+ node t-zk-4"], &["+ node t-zk-2"]);
}

#[test]
fn who_is_to_stand_still_is_not_started_by_a_change() {
    let stopped = format!("{THREE}\nservices stop zk zk-2\nworks");
    let quiet = ["t-zk-2: its service", "t-zk-2: config", "t-zk-2: validate"];
    check(&stopped, "configure zk c2=9 at-once\ngo", &["t-zk-2: pre_config"], &quiet);
    check(&stopped, "sync zk s1:config\ngo", &["t-zk-1 gets"], &quiet);
}

#[test]
fn a_paused_change_reaches_nobody_and_disturbs_nobody() {
    let paused = format!("{THREE}\nconfigure zk c2=9\nround 1\npause job-2");
    check(&paused, "go", &[], &["PERMITTED", "gets"]);
    check(&paused, "resume job-2\ngo", &["c-zk is rolled out"], &[]);
}

#[test]
fn a_change_that_is_held_disturbs_nobody() {
    let failing =
        "cluster st storm/two 1,4\ncreate\nworks\nconfigure st c2=9 at-once\nround 1\nslow st-nimbus-1\nround 1";
    let one = format!("{failing}\nmute st-supervisor-1\nslow st-supervisor-1\nround 1\nheal");
    check(&one, "mute st-supervisor-1\ngo\njob", &["job-2 configure Held"], &["t-st-supervisor-4: config"]);
}

#[test]
fn what_failed_on_a_canary_is_turned_back_at_the_third_time_and_not_given_out_again() {
    let text = "job-2 is turned back: t-zk-1 went first: install failed 3 times: E: no such thing; \
                hint: look at the log; [Version { kind: \"zookeeper\", version: \"2.0-bad\" }]";
    check(THREE, "upgrade zk 2.0-bad\nround 2", &["t-zk-1: install failed"], &["turned back", "t-zk-2", "t-zk-3"]);
    check(THREE, "upgrade zk 2.0-bad\ngo", &[text, "job-2 RolledBack"], &["t-zk-2", "t-zk-3", "PERMITTED"]);
    check(&format!("{THREE}\nupgrade zk 2.0-bad\nworks"), "upgrade zk 2.0-bad", &["refused"], &[]);
}

#[test]
fn runs_of_a_canary_that_waited_say_nothing_against_a_change() {
    // it waits twice for a majority, then it is found dead: one failure, in its third run
    let lonely = "mute zk-2\nmute zk-3\nstep zk-1\nreport zk-1\nstep zk-1\nreport zk-1\ncure zk-2\ncure zk-3";
    let waited = format!("{THREE}\nconfigure zk c2=9\nround 1\nplan\ntake zk-1\nstep zk-1\n{lonely}\nmute zk-1");
    check(&waited, "step zk-1\nreport zk-1\nplan", &["t-zk-1: validate failed"], &["turned back", "t-zk-2"]);
    let text = "t-zk-1 went first: validate failed 3 times";
    check(&waited, "go", &[text, "job-2 RolledBack"], &["t-zk-2"]);
}

#[test]
fn a_canary_that_is_not_there_for_too_long_turns_its_change_back() {
    let lonely = "mute zk-2\nmute zk-3\nlate zk-1\nstep zk-1\nreport zk-1\nstep zk-1\nreport zk-1";
    let waits = format!("{THREE}\nconfigure zk c2=9\nround 1\nplan\ntake zk-1\nstep zk-1\n{lonely}");
    check(&waits, "plan", &[], &["turned back"]);
    let text = "t-zk-1 went first: validate is not there yet, looked at 3 times too late: validate said Waiting";
    check(&waits, "step zk-1\nreport zk-1\nplan", &["t-zk-1: validate waiting", text], &[]);
}

#[test]
fn who_is_broken_by_a_change_does_not_wait_for_what_its_own_absence_leaves_undone() {
    // a new host that was seen to be down is configured without a permit; it is up by then, and the scripts break it
    let new = "gone kf-1\nplan\nup kf-1\nenrol kf-1\nplan\ntake kf-1\nstep kf-1\nstep kf-1\nreport kf-1\nbeat kf-1";
    let down = "plan\ntake kf-1\nstep kf-1\nmute kf-1\nstep kf-1\nreport kf-1\nbeat kf-1\nsync kf s1:config:bad";
    let open = "plan\ntake kf-1\nstep kf-1\nreport kf-1\nbeat kf-1\nplan\ncure kf-1\nlook kf-1\ntake kf-1\nstep kf-1";
    let broken = format!("{KAFKA}\n{new}\n{down}\n{open}\nreport kf-1\nbeat kf-1\nshows kf-2 under_replicated 1");
    check(&broken, "sync kf s0\ngo", &["t-kf-1: config succeeded", "c-kf is rolled out"], &[]);
}

#[test]
fn who_lost_its_ledger_waits_for_the_budget() {
    let forgot = format!("{THREE}\nkill zk-2\nbeat zk-2\nforget zk-1\ntake zk-1\nrun zk-1\nbeat zk-1\nreport zk-1");
    check(&forgot, "plan\nwhy", &["t-zk-1: AwaitingPermit"], &["PERMITTED"]);
    let alone = format!("{THREE}\nforget zk-1\ntake zk-1\nrun zk-1\nbeat zk-1\nreport zk-1");
    check(&alone, "plan\nwhy", &["PERMITTED"], &[]);
}

#[test]
fn a_rollout_is_over_when_its_job_knows_it() {
    check(THREE, "configure zk c2=9\ngo", &["c-zk is rolled out\n    job-2 Succeeded"], &[]);
}

#[test]
fn a_joiner_that_never_worked_takes_no_budget_of_the_members() {
    let lost = format!("{THREE}\nflexup zk 1\nround 1\nslow zk-4\ngone zk-4\nround 2");
    check(&lost, "configure zk c2=9 at-once\ngo", &["t-zk-1: config", "t-zk-2: config", "t-zk-3: config"], &[]);
}

#[test]
fn who_was_told_to_stop_counts_before_it_says_so() {
    let told = format!("{THREE}\ncut zk-2\nservices stop zk zk-2\nround 1");
    check(&told, "configure zk c2=9 at-once\ngo", &["t-zk-1: pre_config"], &["PERMITTED"]);
    check(&told, "configure zk c2=9 at-once\ngo\nservices start zk zk-2\nheal\ngo", &["c-zk is rolled out"], &[]);
}

#[test]
fn a_host_that_cannot_be_made_says_how_often_it_was_tried_and_when_it_is_again() {
    let full = "cluster zk zookeeper 1\ncreate\nround 1\ngone zk-1\nhomeless zk-1";
    let twice = ["t-zk-1: SpawnFailed", "attempt=\"2\"", "error=\"no room\"", "next_retry_ms=\"1005000\""];
    check(full, "round 2\nwhy", &twice, &["attempt=\"3\""]);
    check(full, "round 2\njob", &["t-zk-1: Retrying, run 2: no room, next run at 1005000"], &[]);
    check(full, "round 2\nheal\ngo\nwhy", &["t-zk-1: Converged"], &["attempt"]);
}

#[test]
fn who_was_stopped_before_it_worked_is_not_listed_and_may_come_later() {
    // it is configured and nobody looked at it yet: the world checks whom kafka is told of
    let tried = "round 1\nslow zk-1\nround 1\nstep zk-1\nstep zk-1\nservices stop zk zk-1\nheal";
    let created = format!("cluster zk zookeeper 3\ncluster kf kafka 1 after zk\ncreate\n{tried}");
    check(&created, "go", &["t-kf-1: config"], &["t-zk-1: validate"]);
    check(&created, "go\nservices start zk zk-1\ngo\nview", &["t-zk-1: validate succeeded", "Active: zk Active"], &[]);
    // the other one of two has to know it before it can work
    let joins = "cluster zk zookeeper 1\ncreate\nworks\nflexup zk 1\nround 1\nservices stop zk zk-2\ngo\ngone zk-2\ngo";
    check(joins, "services start zk zk-2\ngo\nview", &["t-zk-2: config", "t-zk-1: config", "Active: zk Active"], &[]);
}

#[test]
fn a_change_that_fails_on_a_new_host_is_turned_back_for_the_canary_of_another_role() {
    let lost = "cluster st storm 1,1\ncreate\nworks\nreplace st-supervisor-1\nround 1\nupgrade st 4.0-mute\ngo";
    let text = "is turned back: t-st-supervisor-1 went first: validate failed";
    check("", &format!("{lost}\nview"), &[text, "Active: st Active"], &[]);
}

#[test]
fn leavers_that_do_not_work_are_mended_while_those_that_stay_need_them() {
    let broken = "services stop zk\ngo\nconfigure zk c2=broken at-once\nservices start zk\ngo";
    let leave = format!("{THREE}\n{broken}\nflexdown zk zk-2 zk-3\ngo");
    let gone = ["t-zk-2: validate succeeded", "- host t-zk-3", "- host t-zk-2", "Active: zk Active"];
    check(&leave, "configure zk c3=7\ngo\nview", &gone, &[]);
}

#[test]
fn as_many_hosts_without_data_join_at_once_as_a_majority_needs_and_never_one_themselves() {
    let lost = |nodes: &str| format!("gone {nodes}\nup {nodes}\nplan\nenrol {nodes}");
    let closed = |node: &str, generation: u32| format!("t-zk-{node} gets {generation}: pre_config closed");
    let open = |node: &str, generation: u32| format!("t-zk-{node} gets {generation}: pre_config open");
    // the one that is left and the next are a majority of three
    check(THREE, &lost("zk-2 zk-3"), &[&open("2", 4), &closed("3", 4)], &[]);
    // and are none of four: a third has to come, and those that come can do nothing without the one that is left
    let four = format!("{THREE}\nflexup zk 1\ngo");
    let three = lost("zk-2 zk-3 zk-4");
    check(&four, &three, &[&open("2", 7), &open("3", 7), &closed("4", 4)], &[]);
    check(&four, &format!("{three}\ngo"), &["t-zk-4: validate succeeded"], &[]);
}
