//! `*.schema.json` are what the types say: `UPDATE=1 cargo test -p straas-schemas` writes them.

use crate::{WIRE, file};
use std::collections::BTreeSet;

#[test]
fn the_schemas_are_current() {
    let update = std::env::var_os("UPDATE").is_some();
    for wire in WIRE {
        let path = file(&format!("{}.schema.json", wire.name));
        let made = format!("{}\n", serde_json::to_string_pretty(&(wire.schema)()).expect("json"));
        if update {
            std::fs::write(&path, &made).expect("the schema can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == made, "{} is not current: UPDATE=1 cargo test -p straas-schemas", path.display());
    }
}

#[test]
fn there_is_no_schema_without_a_type() {
    let known: BTreeSet<String> = WIRE.iter().map(|w| format!("{}.schema.json", w.name)).collect();
    for entry in std::fs::read_dir(file("")).expect("the crate's folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(
            !name.ends_with(".schema.json") || known.contains(&name),
            "schemas/{name} belongs to no type: remove it"
        );
    }
}
