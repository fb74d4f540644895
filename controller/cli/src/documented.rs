//! The documentation is true of this program: what it names is there, and what is there is named.

use crate::Cli;
use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every key of a schema as (first key, last key).
fn keys(schema: &Value, at: &Value, first: &str, out: &mut BTreeSet<(String, String)>) {
    if let Some(name) = at["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return keys(schema, &schema["$defs"][name], first, out);
    }
    for (key, value) in at["properties"].as_object().into_iter().flatten() {
        let first = if first.is_empty() { key } else { first };
        out.insert((first.to_owned(), key.clone()));
        keys(schema, value, first, out);
    }
    for inner in ["items", "additionalProperties"] {
        if at[inner].is_object() {
            keys(schema, &at[inner], first, out);
        }
    }
    for alternative in ["anyOf", "allOf", "oneOf"].into_iter().flat_map(|key| at[key].as_array()).flatten() {
        keys(schema, alternative, first, out);
    }
}

/// The names that a text has between backticks, each word of a path by itself.
fn names(text: &str) -> BTreeSet<&str> {
    let code = text.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

#[test]
fn every_key_of_metadata_is_documented() {
    let document = text("docs/component-author.md");
    let table = document.split("## metadata/{type}.json").nth(1).expect("its part of the document");
    let rows: Vec<&str> = table.split("\n## ").next().expect("the part").lines().collect();
    for path in ["schemas/component_metadata.schema.json", "controller/repos/defaults/schema/metadata.schema.json"] {
        let schema: Value = serde_json::from_str(&text(path)).expect("a schema");
        let mut wanted = BTreeSet::new();
        keys(&schema, &schema, "", &mut wanted);
        assert!(wanted.len() > 50, "{path} says less than it did: {wanted:?}");
        let told = |(first, key): &(String, String)| {
            let about = |row: &&&str| {
                let cells: Vec<&str> = row.split('|').collect();
                cells.get(1).is_some_and(|cell| names(cell).contains(first.as_str()))
            };
            let rows: Vec<&&str> = rows.iter().filter(about).collect();
            // what an operation and limits are made of is told once for all
            rows.iter().any(|row| names(row).contains(key.as_str())) || !rows.is_empty() && shared(&document, key)
        };
        let missing: Vec<String> =
            wanted.iter().filter(|key| !told(key)).map(|(first, key)| format!("{first} … {key}")).collect();
        assert!(missing.is_empty(), "docs/component-author.md says nothing of {missing:?}, which {path} has");
    }
}

/// Keys of shapes that several places share, each explained below the table.
fn shared(document: &str, key: &str) -> bool {
    ["command", "args", "min", "max", "default", "odd"].contains(&key) && names(document).contains(key)
}

#[test]
fn every_command_of_the_documentation_is_one_of_this_program() {
    let mut seen = 0;
    for path in ["README.md", "docs/component-author.md", "tests/components/nats/README.md"] {
        for (number, line) in text(path).lines().enumerate() {
            let Some(line) = command_of(line) else { continue };
            let words: Vec<String> = line.split_whitespace().map(filled).collect();
            if let Err(error) = Cli::try_parse_from(&words) {
                let kind = error.kind();
                let asked =
                    matches!(kind, clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
                assert!(asked, "{path}:{}: {line}\n{error}", number + 1);
            }
            seen += 1;
        }
    }
    assert!(seen > 12, "only {seen} commands were found");
}

/// The command of a line of a shell, without its comment.
fn command_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    line.starts_with("straas ").then(|| line.split(" #").next().unwrap_or(line).trim())
}

/// A word in the place of a placeholder's name that its type takes.
fn filled(word: &str) -> String {
    if word == "N" { "1".to_owned() } else { word.to_owned() }
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}
