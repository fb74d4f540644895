//! Stories with golden output (`snapshots/`; `INSTA_UPDATE=always cargo test -p straas-planner`).

macro_rules! story {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(stringify!($name), $crate::script::tell($text)) });
        }
    };
}
pub(crate) use story;

story!(
    one_component_is_created,
    "component zk zookeeper 3
    create
    # the request alone: nodes and hosts, nothing can be configured yet
    plan
    # planning again changes nothing
    plan
    why
    up zk-1 zk-2
    plan
    why
    up zk-3
    # the last address opens every gate at once
    plan
    enrol *
    take *
    job
    run zk-1
    beat zk-1
    report zk-1
    job
    run zk-2 zk-3
    run zk-1
    leader zk-2
    beat *
    report *
    # they work: from now on there is something to disturb, and config needs a permit
    plan
    view
    take *
    report *
    plan
    plan
    why
    view"
);

story!(
    two_components_the_second_waits_for_the_first,
    "component zk zookeeper 1
    component kafka kafka 2 after zk
    create
    plan
    up *
    plan
    enrol *
    take *
    run kafka-1
    run kafka-2
    beat *
    report *
    why
    job
    run zk-1
    beat zk-1
    report zk-1
    # only now
    plan
    # zk stumbles: what was opened stays open
    kill zk-1
    beat zk-1
    report zk-1
    plan
    take *
    run kafka-1
    run kafka-2
    beat *
    report *
    plan
    why
    view
    settle"
);

story!(
    a_failing_install_shows_itself_and_a_correction_supersedes,
    "component zk zookeeper 2
    version zk 2.0-bad
    create
    plan
    up *
    plan
    enrol *
    take *
    run *
    beat *
    report *
    plan
    job
    why
    view
    # the correction is a change of what is wanted: new digests, new generation, at once
    version zk 3.0
    change zk to 3.0
    plan
    job
    take *
    # reports of a first life could be late, so config asks; they say that nothing works: no permit is needed
    run *
    beat *
    report *
    plan
    take *
    run *
    run *
    beat *
    report *
    settle
    view"
);

story!(
    a_change_goes_node_by_node_and_the_leader_last,
    "component zk zookeeper 3
    create
    plan
    up *
    enrol *
    leader zk-1
    settle
    option zk tick 500
    change tick
    plan
    take *
    run *
    report *
    # the leader asks first and waits all the same
    beat zk-1
    plan
    why
    beat zk-2 zk-3
    plan
    why
    job
    # zk-2 takes its permit, begins, and falls silent with its permit: nobody else gets one, however long it takes
    take zk-2
    wait 120
    beat zk-1 zk-3
    plan
    why
    view
    # it is back, and was not idle
    run zk-2
    beat zk-2
    report zk-2
    # its permit is done with, the next one is given in the same plan
    plan
    settle"
);

story!(
    a_broken_node_goes_first_and_takes_the_budget,
    "component zk zookeeper 5
    create
    settle
    kill zk-4
    option zk tick 500
    change tick
    beat zk-4
    report zk-4
    plan
    take *
    run *
    report *
    beat *
    plan
    why
    settle"
);

story!(
    a_commit_that_changes_one_stage_runs_that_stage,
    "component zk zookeeper 1
    create
    settle
    scripts b config
    change scripts b
    plan
    take *
    run *
    beat *
    report *
    plan
    take *
    # neither install nor pre_config
    run *
    beat *
    report *
    settle
    # only a fingerprint of nothing moved: a commit elsewhere costs no run
    scripts c
    plan
    take *
    run *
    report *
    plan"
);

story!(
    a_silent_node_is_not_dead_and_a_lost_host_comes_back_empty,
    "component zk zookeeper 3
    create
    settle
    wait 600
    beat zk-1 zk-2
    # no host is removed
    plan
    why
    view
    # now the provider says that it is gone
    gone zk-3
    plan
    why
    up zk-3
    plan
    enrol zk-3
    take *
    # the new host needs no permit; the others do, and wait until it works
    run *
    beat *
    report *
    plan
    why
    take *
    run *
    beat *
    report *
    plan
    settle
    view"
);

story!(
    deletion_leaves_nothing_whatever_the_nodes_do,
    "component zk zookeeper 2
    component kafka kafka 1 after zk
    create
    settle
    wait 600
    beat zk-1
    option kafka tick 1
    change tick
    # nobody can say any more what kafka is
    unread kafka no such type
    delete
    plan
    job
    why
    view
    gone zk-1 zk-2
    plan
    job
    gone kafka-1
    plan"
);

story!(
    deletion_while_it_is_created,
    "component zk zookeeper 2
    create
    plan
    up zk-1
    plan
    delete
    plan
    gone zk-1
    plan"
);

story!(
    what_cannot_be_read_keeps_what_it_has,
    "component zk zookeeper 1
    component kafka kafka 1 after zk
    create
    settle
    unread kafka the metadata of kafka is not JSON
    change something
    plan
    why
    view
    job"
);
