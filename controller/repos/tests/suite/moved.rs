//! Defaults that moved on master under a topology: told with what they collide with, taken up when wanted.

use crate::users::file;
use crate::{config, git};
use straas_repos::{Change, ConfigRepo};
use straas_schemas::configuration::{MovedPart, MovedValue, SECRET};

const USER: &str = "app/tuna/1.0/user.json";

/// On master: heap and level that users may set, threads that they may not, a password.
fn offer(repo: &ConfigRepo, heap: &str, level: &str, threads: &str, password: &str) {
    let all = [
        ("heap", "integer", heap, ""),
        ("level", "string", level, ""),
        ("threads", "integer", threads, ""),
        ("password", "string", password, ", \"secret\": true"),
    ];
    let settable =
        [("heap", "integer", heap, ""), ("level", "string", level, ""), ("password", "string", password, "")];
    let put = |name: &str, content: String| Change::Put {
        path: format!("app/tuna/1.0/{name}"),
        content: content.into_bytes(),
        executable: None,
    };
    let files = [put("default.json", file(&all)), put("user.json", file(&settable))];
    repo.commit("master", None, &files, "the defaults of tuna", "Op").unwrap();
}

fn write(repo: &ConfigRepo, heap: &str, level: &str, password: &str) {
    let own = [("heap", "integer", heap, ""), ("level", "string", level, ""), ("password", "string", password, "")];
    repo.edit("demo@az1", None, USER, &file(&own), "my own", "jo").unwrap();
}

fn moved(key: &str, was: &str, now: &str, yours: Option<&str>) -> MovedValue {
    MovedValue {
        section: "main".into(),
        key: key.into(),
        parts: vec![MovedPart::Value],
        limits_were: None,
        limits_are: None,
        was: Some(was.into()),
        now: Some(now.into()),
        yours: yours.map(str::to_owned),
        kept: yours.is_some(),
    }
}

fn values(repo: &ConfigRepo) -> Vec<(String, String)> {
    let commit = repo.resolve("demo@az1").unwrap();
    let effective = repo.effective(&commit, "tuna", "1.0").unwrap();
    effective["main"].iter().map(|(key, value)| (key.clone(), value.to_string().trim_matches('"').to_owned())).collect()
}

fn expect(heap: &str, level: &str, password: &str, threads: &str) -> Vec<(String, String)> {
    let all = [("heap", heap), ("level", level), ("password", password), ("threads", threads)];
    all.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

#[test]
fn defaults_move_when_the_owner_wants_it_and_his_values_stay() {
    let (home, repo) = config();
    offer(&repo, "128", "INFO", "4", "one");
    repo.create_branch("demo@az1").unwrap();
    assert_eq!(repo.updates("demo@az1", "tuna", "1.0").unwrap(), []);
    write(&repo, "512", "INFO", "mine");
    assert_eq!(repo.updates("demo@az1", "tuna", "1.0").unwrap(), [], "what he set is no default that moved");

    offer(&repo, "256", "WARN", "8", "two");
    let seen = repo.updates("demo@az1", "tuna", "1.0").unwrap();
    let all = [
        moved("heap", "128", "256", Some("512")),
        moved("level", "INFO", "WARN", None),
        moved("password", SECRET, SECRET, Some(SECRET)),
        moved("threads", "4", "8", None),
    ];
    assert_eq!(seen, all);
    assert_eq!(values(&repo), expect("512", "INFO", "mine", "4"), "nothing moves by itself");
    let (commit, told) = repo.update("demo@az1", "tuna", "1.0", "jo").unwrap();
    assert_eq!((told, &commit), (seen, &repo.resolve("demo@az1").unwrap()));
    assert_eq!(values(&repo), expect("512", "WARN", "mine", "8"));
    assert_eq!(repo.updates("demo@az1", "tuna", "1.0").unwrap(), [], "it has them");
    let again = repo.update("demo@az1", "tuna", "1.0", "jo").unwrap();
    assert_eq!((again.0, again.1), (commit, vec![]), "nothing is written twice");

    // what came with the update is not his own: it moves on with the next one
    write(&repo, "512", "WARN", "***");
    offer(&repo, "256", "ERROR", "16", "two");
    let seen = repo.updates("demo@az1", "tuna", "1.0").unwrap();
    assert_eq!(seen, [moved("level", "WARN", "ERROR", None), moved("threads", "8", "16", None)]);
    repo.update("demo@az1", "tuna", "1.0", "jo").unwrap();
    assert_eq!(values(&repo), expect("512", "ERROR", "mine", "16"));
    let log = git(&home.path().join("config.git"), &["log", "--first-parent", "--format=%an %s", "demo@az1", "-3"]);
    assert!(log.lines().next().unwrap().starts_with("jo tuna 1.0: take up the defaults of master "), "{log}");
    // its history is that of the branch, and tells who set what
    let blame = repo.blame(&repo.resolve("demo@az1").unwrap(), USER).unwrap();
    let by: Vec<_> =
        blame.iter().map(|v| (v.key.as_str(), v.value.as_str(), v.set_by.as_ref().unwrap().message.as_str())).collect();
    assert_eq!((by[0], by[2]), (("heap", "512", "my own"), ("password", SECRET, "my own")));
    assert!(by[1].2.starts_with("tuna 1.0: take up"), "{by:?}");
}

#[test]
fn limits_types_rights_and_words_move_too() {
    let (_home, repo) = config();
    let put = |name: &str, options: &[(&str, &str, &str, &str)]| Change::Put {
        path: format!("app/tuna/1.0/{name}"),
        content: file(options).into_bytes(),
        executable: None,
    };
    let commit = |all: &[(&str, &str, &str, &str)], settable: &[(&str, &str, &str, &str)]| {
        repo.commit("master", None, &[put("default.json", all), put("user.json", settable)], "more", "Op").unwrap();
    };
    let plain =
        [("heap", "integer", "128", ", \"max\": 1024"), ("level", "string", "INFO", ""), ("size", "integer", "1", "")];
    commit(&plain, &plain[..2]);
    repo.create_branch("demo@az1").unwrap();
    repo.edit(
        "demo@az1",
        None,
        USER,
        &file(&[("heap", "integer", "512", ", \"max\": 1024"), ("level", "string", "INFO", "")]),
        "mine",
        "jo",
    )
    .unwrap();
    let check = |all: &[(&str, &str, &str, &str)],
                 settable: &[(&str, &str, &str, &str)],
                 expect: &[(&str, &[MovedPart], Option<&str>)]| {
        commit(all, settable);
        let seen = repo.updates("demo@az1", "tuna", "1.0").unwrap();
        let seen: Vec<_> = seen.iter().map(|m| (m.key.as_str(), m.parts.as_slice(), m.yours.as_deref())).collect();
        assert_eq!(seen, expect);
    };
    let with = |at: usize, option: (&'static str, &'static str, &'static str, &'static str)| {
        let mut all = plain;
        all[at] = option;
        all
    };
    let narrow = with(0, ("heap", "integer", "128", ", \"min\": 64, \"max\": 256"));
    check(&narrow, &plain[..2], &[("heap", &[MovedPart::Limits], Some("512"))]);
    let seen = repo.updates("demo@az1", "tuna", "1.0").unwrap().remove(0);
    assert_eq!((seen.limits_were.as_deref(), seen.limits_are.as_deref()), (Some("at most 1024"), Some("64 to 256")));
    assert!(!seen.is_conflict() && seen.was == seen.now, "{seen:?}");
    let words = with(0, ("heap", "integer", "128", ", \"max\": 1024, \"doc\": \"MiB\""));
    check(&words, &plain[..2], &[("heap", &[MovedPart::Doc], None)]);
    let text = with(2, ("size", "string", "1", ""));
    check(&text, &plain[..2], &[("size", &[MovedPart::Type], None)]);
    check(&plain, &plain, &[("size", &[MovedPart::Rights], None)]);
    let both = with(1, ("level", "string", "WARN", ", \"values\": [\"INFO\", \"WARN\"]"));
    check(&both, &both[..2], &[("level", &[MovedPart::Value, MovedPart::Limits], None)]);
    // taken up, nothing is left to be told
    commit(&words, &plain[..2]);
    repo.update("demo@az1", "tuna", "1.0", "jo").unwrap();
    assert_eq!(repo.updates("demo@az1", "tuna", "1.0").unwrap(), []);
}

#[test]
fn a_key_that_goes_takes_its_value_along() {
    let (_home, repo) = config();
    offer(&repo, "128", "INFO", "4", "one");
    repo.create_branch("demo@az1").unwrap();
    write(&repo, "512", "DEBUG", "***");
    let put = |name: &str, options: &[(&str, &str, &str, &str)]| Change::Put {
        path: format!("app/tuna/1.0/{name}"),
        content: file(options).into_bytes(),
        executable: None,
    };
    let files = [
        put("default.json", &[("heap", "integer", "128", ""), ("threads", "integer", "4", "")]),
        put("user.json", &[("heap", "integer", "128", "")]),
    ];
    repo.commit("master", None, &files, "fewer", "Op").unwrap();
    let seen = repo.updates("demo@az1", "tuna", "1.0").unwrap();
    let level = seen.iter().find(|moved| moved.key == "level").unwrap();
    assert_eq!((level.now.as_deref(), level.yours.as_deref(), level.kept), (None, Some("DEBUG"), false));
    repo.update("demo@az1", "tuna", "1.0", "jo").unwrap();
    let commit = repo.resolve("demo@az1").unwrap();
    let left: Vec<_> = repo.effective(&commit, "tuna", "1.0").unwrap()["main"].keys().cloned().collect();
    assert_eq!(left, ["heap", "threads"]);
    assert!(repo.updates("master", "tuna", "1.0").is_err() && repo.updates("demo@az1", "tuna", "9").is_err());
}
