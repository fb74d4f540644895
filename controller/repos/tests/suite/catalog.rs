//! The catalog: real defaults, broken files, and what stays in use meanwhile.

use crate::{config, faults};
use straas_repos::ConfigRepo;

fn meta(repo: &ConfigRepo) -> String {
    String::from_utf8(repo.read(&repo.head().unwrap(), "metadata/zookeeper.json").unwrap().unwrap()).unwrap()
}

#[test]
fn a_broken_file_is_named_and_the_last_good_catalog_stays() {
    let (home, repo) = config();
    let (good_commit, good) = repo.catalog().unwrap();
    let text = meta(&repo);
    let table: [(&str, String, &str); 10] = [
        (
            "a syntax error",
            text.replacen("\"description\"", "description", 1),
            "zookeeper.json:3: key must be a string",
        ),
        ("an unknown key", text.replacen("\"default_role\"", "\"default_rule\"", 1), "unknown field `default_rule`"),
        (
            "another type",
            text.replacen("\"type\": \"zookeeper\"", "\"type\": \"zoo\"", 1),
            "zookeeper.json:2 /type: says type \"zoo\"",
        ),
        (
            "a role that is not",
            text.replace("\"default_role\": \"zookeeper\"", "\"default_role\": \"x\""),
            "/default_role: \"x\" is not one of the roles",
        ),
        (
            "a version that is not",
            text.replace("\"default_version\": \"3.8.0\"", "\"default_version\": \"9\""),
            "/default_version: \"9\" is not one",
        ),
        (
            "a flavor that is not",
            text.replace("\"default_flavor\": \"tiny\"", "\"default_flavor\": \"x\""),
            "/default_flavor: \"x\" is not one",
        ),
        (
            "a peer that is not",
            text.replacen("\"peers\": {", "\"peers\": {\"ghost\": [], ", 1),
            "/peers/ghost: \"ghost\" is not one of the roles",
        ),
        (
            "a role called lib",
            text.replace("\"script_role\": \"zookeeper\"", "\"script_role\": \"lib\""),
            "/roles/0/script_role: \"lib\" holds",
        ),
        (
            "a role outside",
            text.replace("\"script_role\": \"zookeeper\"", "\"script_role\": \"../x\""),
            "/roles/0/script_role: contains '/'",
        ),
        (
            "a version without config",
            text.replacen("\"versions\": {", "\"versions\": {\"9.9\": {\"packages\": []},", 1),
            "offers 9.9, but folder app/zookeeper/9.9",
        ),
    ];
    for (what, content, expect) in table {
        assert_ne!(content, text, "{what}: the file was changed");
        let bad = repo.write("master", "metadata/zookeeper.json", content.as_bytes(), what, "me").unwrap();
        let found = faults(repo.catalog().unwrap_err());
        assert!(
            found.iter().any(|fault| fault.starts_with("metadata/") && fault.contains(expect)),
            "{what}: {found:?}"
        );
        let view = repo.catalog_view().unwrap();
        assert_eq!((&view.head, &view.commit, &view.catalog), (&bad, &good_commit, &good), "{what}");
        assert!(!view.faults.is_empty());
    }
    assert_eq!(
        repo.create_branch_at("new@az", &good_commit).unwrap(),
        good_commit,
        "from what the request was checked with"
    );
    let stray = repo.write("new@az", "app/x", b"x", "m", "me").unwrap();
    assert!(matches!(repo.create_branch_at("other@az", &stray), Err(straas_repos::Error::NotFound { .. })));
    // a restart in the middle of it
    let again = ConfigRepo::open(&home.path().join("config.git")).unwrap();
    let view = again.catalog_view().unwrap();
    assert_eq!((view.commit, view.catalog), (good_commit, good));
    let mended = again.write("master", "metadata/zookeeper.json", text.as_bytes(), "mended", "me").unwrap();
    assert_eq!(repo.catalog().unwrap().0, mended, "seen by the other handle too");
}

#[test]
fn every_fault_of_every_file_is_reported() {
    let (_home, repo) = config();
    let text = meta(&repo);
    let storm = text
        .replace("zookeeper", "storm")
        .replace("\"dependencies\": []", "\"dependencies\": [{\"type\": \"mystery\", \"required\": true}]")
        .replacen("\"max_unavailable\": 1", "\"max_unavailable\": 0", 1)
        .replace("\"default\": 3", "\"default\": 4");
    repo.write("master", "metadata/storm.json", storm.as_bytes(), "m", "me").unwrap();
    repo.write("master", "metadata/broken.json", b"{", "m", "me").unwrap();
    repo.write("master", "metadata/README.md", b"not json", "m", "me").unwrap();
    let found = faults(repo.catalog().unwrap_err()).join("\n");
    for expect in [
        "broken.json:1: EOF",
        "storm.json",
        "\"mystery\" has no file",
        "max_unavailable: must be at least 1",
        "4 is even",
        "app/storm/3.8.0",
    ] {
        assert!(found.contains(expect), "{expect}: {found}");
    }
}

#[test]
fn what_the_form_does_not_say_of_metadata() {
    let (_home, repo) = config();
    let text = meta(&repo);
    let leave = |operation: &str| {
        text.replacen(
            "\"script_role\": \"zookeeper\"",
            &format!("\"script_role\": \"zookeeper\", \"leave\": {operation}"),
            1,
        )
    };
    for (content, expect) in [
        (leave("{\"command\": \"drain\"}"), "/roles/0/leave/command: \"drain\" is not group/name"),
        (leave("{\"command\": \"lib/x\"}"), "is not group/name"),
        (
            leave("{\"command\": \"a/b\", \"args\": {\"x\": \"{host}\"}}"),
            "/roles/0/leave/args/x: {host} stands for nothing",
        ),
        (
            text.replacen("\"script_role\"", "\"sections\": [\"ghost\"], \"script_role\"", 1),
            "\"ghost\" is no section of app/zookeeper",
        ),
        (text.replacen("\"3.8.0-*\"", "\"*\"", 1), "\"*\" is not a version"),
        (
            text.replacen("\"name\": \"zookeeper\",\n          \"version\"", "\"name\": \"Zoo\", \"version\"", 1),
            "\"Zoo\" is not a package",
        ),
        (
            text.replacen("\"max_unavailable\": 1", "\"max_unavailable\": 2", 1),
            "must be 1 where membership is stepwise",
        ),
    ] {
        assert_ne!(content, text, "{expect}: the file was changed");
        repo.write("master", "metadata/zookeeper.json", content.as_bytes(), "m", "me").unwrap();
        let found = faults(repo.catalog().unwrap_err()).join("\n");
        assert!(found.contains(expect), "{expect}: {found}");
    }
}

/// The keys of every object of a schema, by where it stands.
fn keys(
    schema: &serde_json::Value,
    all: &serde_json::Value,
    at: &str,
    depth: u32,
    out: &mut std::collections::BTreeSet<String>,
) {
    if depth > 12 {
        return;
    }
    if let Some(place) = schema["$ref"].as_str() {
        let found = all.pointer(place.trim_start_matches('#')).expect("a reference that leads somewhere");
        return keys(found, all, at, depth + 1, out);
    }
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        keys(option, all, at, depth + 1, out);
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        out.insert(format!("{at}/{name}"));
        keys(inner, all, &format!("{at}/{name}"), depth + 1, out);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            keys(&schema[inner], all, &format!("{at}/*"), depth + 1, out);
        }
    }
}

#[test]
fn the_schema_that_travels_has_the_keys_of_the_types() {
    let (_home, repo) = config();
    let shown = repo.read(&repo.head().unwrap(), "schema/metadata.schema.json").unwrap().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let made = schemars::schema_for!(straas_schemas::metadata::ComponentMeta).to_value();
    let (mut left, mut right) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    keys(&shown, &shown, "", 0, &mut left);
    keys(&made, &made, "", 0, &mut right);
    // the file names every stage, the type any
    for stage in ["install", "pre_config", "config", "validate", "start", "stop", "remove"] {
        left = left.into_iter().map(|key| key.replace(&format!("/stages/{stage}"), "/stages/*")).collect();
    }
    left.remove("/stages/*");
    assert_eq!(left, right, "defaults/schema/metadata.schema.json and schemas/src/metadata.rs differ");
}
