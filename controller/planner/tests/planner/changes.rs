//! Stories of workflows, one change of a working component each, with golden output as in
//! `stories.rs`; the world goes on by itself in rounds.

use crate::stories::story;

story!(
    another_configuration_reaches_one_node_first,
    "cluster zk zookeeper 3
    create
    works
    leader zk-1
    round 2
    configure zk c2=9
    # the canary is not the one that leads
    round 1
    job
    why
    go
    view"
);

story!(
    an_upgrade_that_fails_on_its_canary_is_turned_back,
    "cluster zk zookeeper 3
    create
    works
    upgrade zk 4.0-mute
    go
    # nobody gets it any more
    upgrade zk 4.0-mute
    upgrade zk 3.0
    go"
);

story!(
    a_node_that_is_stopped_stays_so_over_another_configuration,
    "cluster zk zookeeper 3
    create
    works
    services stop zk zk-2
    round 1
    job
    go
    configure zk c2=9
    go
    # the others wait for it
    why
    services start zk zk-2
    go"
);

story!(
    a_component_is_removed_and_the_other_stays,
    "cluster zk zookeeper 1
    cluster st storm 1,1 after zk
    create
    works
    # somebody depends on it
    remove zk
    remove st
    round 1
    job
    go
    # a topology is of something
    remove zk"
);

story!(
    nodes_that_fail_hold_a_change_until_it_is_resumed,
    "cluster zk zookeeper 3
    create
    works
    configure zk c2=broken at-once
    go
    job
    why
    view
    # a user resumes: one more may fail
    resume job-2
    go
    job
    # the correction takes the place of the change
    configure zk c3=7
    go
    view"
);

story!(
    a_paused_change_waits_for_its_user,
    "cluster zk zookeeper 3
    create
    works
    configure zk c2=9
    round 1
    pause job-2
    go
    job
    why
    resume job-2
    go"
);

story!(
    scripts_of_one_node_reach_that_node_alone,
    "cluster zk zookeeper 3
    create
    works
    sync zk s1:config on zk-2
    round 1
    job
    go
    # these fail there, and what it had comes back
    sync zk s2:config:bad on zk-3
    go
    sync zk s2:config:bad on zk-1"
);

story!(
    a_joiner_whose_host_was_lost_is_no_reason_to_wait,
    "cluster zk zookeeper 3
    create
    works
    flexup zk 1
    round 1
    slow zk-4
    gone zk-4
    round 2
    configure zk c2=9
    go
    why
    heal
    go"
);

story!(
    the_peers_of_a_lost_host_keep_its_address,
    "cluster zk zookeeper 5
    create
    works
    gone zk-4 zk-5
    slow zk-4
    # one without data may join at a time; the other one waits, and its host is lost again
    round 2
    why
    gone zk-5
    homeless zk-5
    # nobody is configured anew for it
    round 3
    heal
    homeless zk-5
    go
    why
    heal
    go"
);

story!(
    a_new_host_that_does_not_work_takes_the_budget,
    "cluster st storm 3,1
    create
    works
    gone st-nimbus-3
    slow st-nimbus-3
    round 2
    take st-nimbus-3
    step st-nimbus-3
    step st-nimbus-3
    step st-nimbus-3
    mute st-nimbus-3
    heal
    # of those that need no votes it is one less that works
    go
    why
    cure st-nimbus-3
    go"
);
