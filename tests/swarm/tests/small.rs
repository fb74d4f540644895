//! A small run of the tool: it plays what it says, nothing gets lost, and no user sees an error of the server.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;

/// The figure of a row of the table.
fn figure<'a>(table: &'a str, what: &str) -> &'a str {
    let row = table.lines().find(|line| line.trim_start_matches("| ").trim_start().starts_with(what));
    let row = row.unwrap_or_else(|| panic!("no row {what:?} in\n{table}"));
    row.trim_end_matches(" |").rsplit(" | ").next().unwrap()
}

#[test]
fn forty_agents_lose_nothing() {
    let words = ["run", "--agents", "40", "--seconds", "5", "--heartbeat-seconds", "2", "--cut-percent", "5"];
    let ran = Command::new(env!("CARGO_BIN_EXE_straas-swarm")).args(words).output().unwrap();
    let (table, said) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr).into_owned());
    println!("{said}{table}");
    assert!(ran.status.success(), "{said}");
    assert!(figure(&table, "agents").starts_with("40, SQLite"));
    let commands: Vec<&str> = figure(&table, "commands asked").split(", ").collect();
    assert!(commands[0] == commands[2] && commands[1] == "0", "asked, refused, ended: {commands:?}");
    assert_eq!(figure(&table, "commands given twice"), "0");
    assert_eq!(figure(&table, "requests of agents without an answer"), "0");
    for answers in ["users meanwhile: answered, 5xx, no answer", "users meanwhile: answered, 5xx, nobody listened"] {
        assert_eq!(figure(&table, answers).split(", ").nth(1), Some("0"), "{answers}");
    }
}
