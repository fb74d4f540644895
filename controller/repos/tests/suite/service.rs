//! The service's own settings: which file wins, what is refused, what stays in force.

use crate::config;
use straas_repos::{Change, CommitId, ConfigRepo, Error, FileFault};
use straas_schemas::config::Effective;
use straas_schemas::settings::ServiceSettings;

/// A file that sets these: section, key, value.
fn file(set: &[(&str, &str, &str)]) -> String {
    let option = |(section, key, value): &(&str, &str, &str)| {
        format!(r#"{{"section":"{section}","options":[{{"key":"{key}","value":"{value}","type":"integer"}}]}}"#)
    };
    let sections: Vec<_> = set.iter().map(option).collect();
    format!(r#"{{"type":"ini","content":[{}]}}"#, sections.join(","))
}

fn put(path: &str, content: &str) -> Change {
    Change::Put { path: format!("service/{path}"), content: content.into(), executable: None }
}

/// As somebody pushes it: nobody looks at what is in it.
fn push(repo: &ConfigRepo, changes: &[Change]) -> CommitId {
    repo.commit("master", None, changes, "pushed", "somebody").unwrap()
}

/// `service/default.json` with another value of an option.
fn default_with(repo: &ConfigRepo, key: &str, value: &str) -> String {
    let text = repo.read(&repo.head().unwrap(), "service/default.json").unwrap().unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sections = file["content"].as_array_mut().unwrap();
    let options = sections.iter_mut().flat_map(|section| section["options"].as_array_mut().unwrap());
    let found = options.into_iter().find(|option| option["key"] == key).unwrap();
    found["value"] = value.into();
    file.to_string()
}

fn own(section: &str, key: &str, value: u32) -> Effective {
    [(section.to_owned(), [(key.to_owned(), value.into())].into())].into()
}

#[test]
fn the_later_file_wins_key_by_key() {
    let (_home, repo) = config();
    let waits = |repo: &ConfigRepo, zone: Option<&str>| {
        let view = repo.service_view().unwrap();
        assert!(view.faults.is_empty(), "{:?}", view.faults);
        view.service.of(zone).settings.timing.waiting_ms
    };
    let from = |repo: &ConfigRepo, zone: Option<&str>| {
        let values = repo.service_origins(&repo.service_view().unwrap(), zone).unwrap();
        let found = values.into_iter().find(|value| value.key == "waiting_ms").unwrap();
        assert_eq!(found.value, waits(repo, zone), "what is shown is what counts");
        (found.file, found.set_by.map(|commit| commit.author))
    };
    let at = |file: &str, who: &str| (file.to_owned(), Some(who.to_owned()));
    assert_eq!((waits(&repo, None), from(&repo, None).0.as_str()), (2000, "service/default.json"));
    push(&repo, &[put("default.json", &default_with(&repo, "waiting_ms", "2100"))]);
    assert_eq!((waits(&repo, None), from(&repo, None)), (2100, at("service/default.json", "somebody")));
    // the controller's own configuration is between what is declared and what is set for all
    let repo = repo.with_own_settings(own("timing", "waiting_ms", 2200));
    assert_eq!((waits(&repo, None), from(&repo, None)), (2200, ("controller.toml".to_owned(), None)));
    push(&repo, &[put("agent.json", &file(&[("timing", "waiting_ms", "2300")]))]);
    assert_eq!((waits(&repo, None), from(&repo, None)), (2300, at("service/agent.json", "somebody")));
    push(&repo, &[put("zones/z1/agent.json", &file(&[("timing", "waiting_ms", "2400")]))]);
    assert_eq!(
        (waits(&repo, Some("z1")), from(&repo, Some("z1"))),
        (2400, at("service/zones/z1/agent.json", "somebody"))
    );
    for zone in [None, Some("z2")] {
        assert_eq!((waits(&repo, zone), from(&repo, zone)), (2300, at("service/agent.json", "somebody")), "{zone:?}");
    }
    // what the file of a zone does not say is as everywhere
    push(&repo, &[put("agent.json", &file(&[("timing", "heartbeat_ms", "7000")]))]);
    let view = repo.service_view().unwrap();
    assert_eq!(view.service.of(Some("z1")).settings.timing.heartbeat_ms, 7000);
    assert_eq!(view.service.of(None).settings.timing.waiting_ms, 2200);
}

#[test]
fn a_default_file_of_an_earlier_version_is_completed() {
    let (_home, repo) = config();
    let old = r#"{"type":"ini","content":[{"section":"agent","options":[{"key":"heartbeat_s","value":"10","type":"integer"}]},
        {"section":"guestcmd","options":[{"key":"zk-cmd","value":"admin","type":"string"}]}]}"#;
    let new = file(&[("limits", "rate", "70")]);
    push(&repo, &[put("default.json", old), put("api.json", &new)]);
    let view = repo.service_view().unwrap();
    let scope = view.service.of(None);
    let limits = straas_schemas::settings::LimitSettings { rate: 70, ..ServiceSettings::default().limits };
    assert_eq!((&view.faults[..], scope.settings.clone()), (&[][..], ServiceSettings { limits, ..Default::default() }));
    assert_eq!(scope.values["guestcmd"].len(), 1, "a group that is not named there stays so");
    let origins = repo.service_origins(&view, None).unwrap();
    let of = |key: &str| origins.iter().find(|value| value.key == key).unwrap().file.clone();
    assert_eq!((of("rate").as_str(), of("burst").as_str()), ("service/api.json", "built in"));
}

#[test]
fn what_cannot_be_is_refused_at_the_door_and_of_a_push_nothing_is_taken() {
    let (home, repo) = config();
    let repo = repo.with_own_settings(own("timing", "suspect_after_ms", 30_000));
    push(&repo, &[put("zones/z1/agent.json", &file(&[("timing", "suspect_after_ms", "20000")]))]);
    let good = repo.service_view().unwrap();
    let heartbeat = |value| file(&[("timing", "heartbeat_ms", value)]);
    let default = |key, value| default_with(&repo, key, value);
    let (value, key, section) = ("/content/0/options/0/value", "/content/0/options/0/key", "/content/0/section");
    let limits = file(&[("limits", "rate", "1")]);
    let table = [
        ("agent.json", heartbeat("30000"), "agent.json", value, "there must be 0 < heartbeat_ms < suspect_after_ms"),
        ("agent.json", heartbeat("20000"), "zones/z1/agent.json", value, "heartbeat_ms would be 20000"),
        ("agent.json", heartbeat("99"), "agent.json", value, "at least 100"),
        ("agent.json", heartbeat("soon"), "agent.json", value, "whole number"),
        ("agent.json", file(&[("timing", "heart_ms", "1")]), "agent.json", key, "heart_ms is not in section"),
        ("agent.json", limits.clone(), "agent.json", section, "read from api.json"),
        ("zones/z1/agent.json", limits, "zones/z1/agent.json", section, "read from api.json"),
        ("api.json", file(&[("limits", "at_once", "3")]), "api.json", value, "at least 4"),
        ("controller.json", file(&[("agents", "certificate_days", "0")]), "controller.json", value, "at least 1"),
        ("default.json", default("retry_max_ms", "4000"), "default.json", "options/3/value", "retry_ms would be 5000"),
        ("default.json", "{}".into(), "default.json", "", ""),
        ("agents.json", heartbeat("5000"), "agents.json", "", "read by nobody"),
        ("zones/z1/api.json", heartbeat("5000"), "zones/z1/api.json", "", "read by nobody"),
        ("zones/1_/agent.json", heartbeat("5000"), "zones/1_", "", "read by nobody"),
    ];
    for (path, content, file, pointer, why) in table {
        let is = |fault: &FileFault| {
            fault.file == format!("service/{file}") && fault.pointer.ends_with(pointer) && fault.message.contains(why)
        };
        let before = repo.head().unwrap();
        let refused = repo.edit("master", None, &format!("service/{path}"), &content, "m", "me").unwrap_err();
        let Error::Invalid { faults } = &refused else { panic!("{path}: {refused:?}") };
        assert!(faults.iter().any(is), "{path} {content}: {refused}");
        assert_eq!(repo.head().unwrap(), before, "{path}");
        let pushed = push(&repo, &[put(path, &content)]);
        let view = repo.service_view().unwrap();
        assert_eq!((&view.commit, &view.service, &view.head), (&good.commit, &good.service, &pushed), "{path}");
        assert!(view.faults.iter().any(is), "{path}: {:?}", view.faults);
        // nor by a controller that starts now
        let again = ConfigRepo::open(&home.path().join("config.git")).unwrap();
        let again = again.with_own_settings(own("timing", "suspect_after_ms", 30_000)).service_view().unwrap();
        assert_eq!((&again.commit, &again.service), (&good.commit, &good.service), "{path}");
        crate::git(&home.path().join("config.git"), &["update-ref", "refs/heads/master", before.as_str()]);
    }
}

#[test]
fn what_was_wrong_before_does_not_keep_anybody_from_mending_it() {
    let (_home, repo) = config();
    let bad = file(&[("timing", "heartbeat_ms", "99")]);
    push(&repo, &[put("agent.json", &bad), put("api.json", "no json")]);
    assert_eq!(repo.service_view().unwrap().faults.len(), 1, "what can be read is told when all can");
    let edit = |path: &str, text: &str| repo.edit("master", None, path, text, "m", "me").unwrap();
    edit("service/api.json", &file(&[("limits", "rate", "9")]));
    assert!(repo.edit("master", None, "service/agent.json", &bad, "m", "me").is_err(), "it is as bad as before");
    assert_eq!(repo.service_view().unwrap().faults.len(), 1);
    let mended = edit("service/agent.json", &file(&[("timing", "heartbeat_ms", "100")]));
    let view = repo.service_view().unwrap();
    assert_eq!((view.commit, view.faults.len()), (Some(mended), 0));
    assert_eq!(view.service.of(None).settings.limits.rate, 9);
}

#[test]
fn without_any_good_commit_what_is_built_in_counts() {
    let (_home, repo) = config();
    let repo = repo.with_own_settings(own("limits", "rate", 3));
    push(&repo, &[Change::Remove { path: "service/default.json".into() }]);
    for _ in 0..256 {
        push(&repo, &[put("note.txt", &another_text(&repo))]);
    }
    let view = repo.service_view().unwrap();
    assert_eq!((view.commit.as_ref(), view.service.of(None).settings.limits.rate), (None, 3));
    let origins = repo.service_origins(&view, None).unwrap();
    let of = |key: &str| origins.iter().find(|value| value.key == key).unwrap().file.clone();
    assert_eq!((of("rate").as_str(), of("burst").as_str()), ("controller.toml", "built in"));
}

/// Another text at each commit.
fn another_text(repo: &ConfigRepo) -> String {
    repo.head().unwrap().to_string()
}
