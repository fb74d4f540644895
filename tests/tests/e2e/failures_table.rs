//! Which failures are played, and why the others cannot happen.

use straas_tests::cells::Expect::{Heals, Held, TurnedBack};
use straas_tests::cells::{Cell, Expect, Never};

/// Every workflow.
pub const WORKFLOWS: [&str; 14] = [
    "create",
    "add",
    "flexup",
    "flexdown",
    "replace",
    "configure",
    "rollback",
    "upgrade",
    "sync",
    "stop",
    "start",
    "restart",
    "remove",
    "delete",
];

/// Everything that can fail in one of them.
pub const STAGES: [&str; 13] = [
    "spawn",
    "verify_spawn",
    "prepare",
    "install",
    "pre_config",
    "config",
    "validate",
    "join",
    "leave",
    "start",
    "stop",
    "remove_host",
    "remove.sh",
];

const fn cell(workflow: &'static str, stage: &'static str, expect: Expect) -> Cell {
    Cell { workflow, stage, expect }
}

/// What is played.
pub const CELLS: [Cell; 57] = [
    cell("create", "spawn", Heals),
    cell("create", "verify_spawn", Heals),
    cell("create", "prepare", Heals),
    cell("create", "install", Heals),
    cell("create", "pre_config", Heals),
    cell("create", "config", Heals),
    cell("create", "validate", Heals),
    cell("add", "spawn", Heals),
    cell("add", "verify_spawn", Heals),
    cell("add", "prepare", Heals),
    cell("add", "install", Heals),
    cell("add", "pre_config", Heals),
    cell("add", "config", Heals),
    cell("add", "validate", Heals),
    cell("flexup", "spawn", Heals),
    cell("flexup", "verify_spawn", Heals),
    cell("flexup", "install", Heals),
    cell("flexup", "pre_config", Heals),
    cell("flexup", "config", Heals),
    cell("flexup", "validate", Heals),
    cell("flexup", "join", Heals),
    cell("flexdown", "leave", Heals),
    cell("flexdown", "remove_host", Heals),
    cell("flexdown", "pre_config", Heals),
    cell("flexdown", "config", Heals),
    cell("flexdown", "validate", Heals),
    cell("replace", "remove_host", Heals),
    cell("replace", "spawn", Heals),
    cell("replace", "verify_spawn", Heals),
    cell("replace", "install", Heals),
    cell("replace", "pre_config", Heals),
    cell("replace", "config", Heals),
    cell("replace", "validate", Heals),
    cell("configure", "pre_config", Heals),
    cell("configure", "config", Heals),
    cell("configure", "validate", Heals),
    cell("configure", "pre_config", TurnedBack),
    cell("configure", "config", TurnedBack),
    cell("configure", "validate", TurnedBack),
    cell("rollback", "pre_config", Heals),
    cell("rollback", "config", Held),
    cell("rollback", "validate", Heals),
    cell("upgrade", "install", TurnedBack),
    cell("upgrade", "install", Heals),
    cell("upgrade", "pre_config", Heals),
    cell("upgrade", "config", TurnedBack),
    cell("upgrade", "validate", TurnedBack),
    cell("sync", "pre_config", TurnedBack),
    cell("sync", "config", Heals),
    cell("sync", "validate", TurnedBack),
    cell("stop", "stop", Heals),
    cell("start", "start", Heals),
    cell("restart", "stop", Heals),
    cell("restart", "config", Heals),
    cell("restart", "validate", Heals),
    cell("remove", "remove_host", Heals),
    cell("delete", "remove_host", Heals),
];

const fn never(stage: &'static str, workflows: &'static [&'static str], why: &'static str) -> Never {
    Never { stage, workflows, why }
}

/// What stands still while a component that works is changed.
const IN_PLACE: &[&str] = &["configure", "rollback", "upgrade", "sync", "stop", "start", "restart"];
const GOING: &[&str] = &["remove", "delete"];

/// What cannot happen.
pub const NEVER: [Never; 27] = [
    never("spawn", IN_PLACE, "the hosts stay"),
    never("spawn", GOING, "no host is made"),
    never("spawn", &["flexdown"], "no host is made"),
    never("verify_spawn", IN_PLACE, "the hosts stay"),
    never("verify_spawn", GOING, "no host is made"),
    never("verify_spawn", &["flexdown"], "no host is made"),
    never("prepare", IN_PLACE, "a component that works has what it needs"),
    never("prepare", GOING, "a component that works has what it needs"),
    never("prepare", &["flexup", "flexdown", "replace"], "a component that works has what it needs"),
    never("install", &["flexdown", "configure", "rollback", "sync", "stop", "start", "restart"], "the packages stay"),
    never("install", GOING, "hosts go with their packages"),
    never("pre_config", &["stop", "start", "restart"], "no input of it changes"),
    never("pre_config", GOING, "nobody is left who must know"),
    never("config", &["stop"], "a node that is to be stopped is not configured"),
    never("config", &["start"], "what is configured is started; if an input changed it is a cell of that workflow"),
    never("config", GOING, "nobody is left who must know"),
    never("validate", &["stop"], "what is stopped is not looked at"),
    never("validate", &["start"], "a start that fails is found by it: the cell start / start"),
    never("validate", GOING, "nobody is left who must know"),
    never("join", &["create", "add", "replace"], "only who is added to a component that works joins it"),
    never(
        "join",
        &["flexdown", "configure", "rollback", "upgrade", "sync", "stop", "start", "restart", "remove", "delete"],
        "nobody comes",
    ),
    never(
        "leave",
        &["create", "add", "flexup", "replace", "configure", "rollback", "upgrade", "sync", "stop", "start", "restart"],
        "nobody leaves",
    ),
    never("leave", GOING, "there is nobody whom it is moved to"),
    never(
        "start",
        &[
            "create",
            "add",
            "flexup",
            "flexdown",
            "replace",
            "configure",
            "rollback",
            "upgrade",
            "sync",
            "stop",
            "restart",
            "remove",
            "delete",
        ],
        "config starts the service, start.sh only what was stopped",
    ),
    never(
        "stop",
        &[
            "create",
            "add",
            "flexup",
            "flexdown",
            "replace",
            "configure",
            "rollback",
            "upgrade",
            "sync",
            "start",
            "remove",
            "delete",
        ],
        "config restarts the service, stop.sh only runs where it is asked for",
    ),
    never(
        "remove_host",
        &["create", "add", "flexup", "configure", "rollback", "upgrade", "sync", "stop", "start", "restart"],
        "no host goes",
    ),
    never("remove.sh", &WORKFLOWS, "hosts of this machine are thrown away; it is for those that go back to a pool"),
];
