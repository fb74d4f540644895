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
        .replace("\"dependencies\": []", "\"dependencies\": [{\"type\": \"kafka\", \"required\": true}]")
        .replacen("\"max_unavailable\": 1", "\"max_unavailable\": 0", 1)
        .replace("\"default\": 3", "\"default\": 4");
    repo.write("master", "metadata/storm.json", storm.as_bytes(), "m", "me").unwrap();
    repo.write("master", "metadata/broken.json", b"{", "m", "me").unwrap();
    repo.write("master", "metadata/README.md", b"not json", "m", "me").unwrap();
    let found = faults(repo.catalog().unwrap_err()).join("\n");
    for expect in [
        "broken.json:1: EOF",
        "storm.json",
        "\"kafka\" has no file",
        "max_unavailable: must be at least 1",
        "4 is even",
        "app/storm/3.8.0",
    ] {
        assert!(found.contains(expect), "{expect}: {found}");
    }
}
