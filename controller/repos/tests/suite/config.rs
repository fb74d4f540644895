//! Branches, tags, reading, writing and effective configurations.

use crate::{config, faults, git};
use std::collections::BTreeSet;
use straas_repos::{Change, CommitId, Error};

const DEFAULT: &str = r#"{"type":"ini","content":[{"section":"zoo","doc":"d","options":[
 {"key":"tick","value":"2000","type":"integer","exclusive":false,"doc":"","min":100,"max":60000},
 {"key":"ratio","value":"0.5","type":"float","exclusive":false,"doc":""},
 {"key":"safe","value":"true","type":"boolean","exclusive":true,"doc":""},
 {"key":"dir","value":"/var/lib/x","type":"string","exclusive":false,"doc":""}]},
 {"section":"jvm","doc":"","options":[{"key":"heap","value":"512","type":"integer","exclusive":false,"doc":""}]}]}"#;

fn put(path: &str, content: &str) -> Change {
    Change::Put { path: path.into(), content: content.into(), executable: None }
}

fn user(key: &str, value: &str, kind: &str) -> String {
    format!(
        r#"{{"type":"ini","content":[{{"section":"zoo","options":[{{"key":"{key}","value":"{value}","type":"{kind}"}}]}}]}}"#
    )
}

#[test]
fn a_branch_lives_and_dies_with_its_topology() {
    let (home, repo) = config();
    let dir = home.path().join("config.git");
    assert_eq!(repo.branch("demo@az1").unwrap(), None);
    let start = repo.create_branch("demo@az1").unwrap();
    assert_eq!(start, repo.head().unwrap());
    let own = repo.write("demo@az1", "app/x.txt", b"1", "a change", "Jo <jo@example.org>").unwrap();
    assert_eq!(repo.create_branch("demo@az1").unwrap(), own, "an existing branch stays as it is");
    assert_eq!(repo.branch("demo@az1").unwrap(), Some(own.clone()));
    assert_ne!(repo.head().unwrap(), own);
    assert_eq!(git(&dir, &["log", "-1", "--format=%an <%ae>", "demo@az1"]).trim(), "Jo <jo@example.org>");

    repo.create_branch("demo@az12").unwrap();
    for tag in ["user&demo@az1&v1", "admin&demo@az1&v2", "user&demo@az12&v1", "user&master&v1"] {
        git(&dir, &["tag", tag, own.as_str()]);
    }
    // as after an operator's `git gc`: refs in one packed file
    git(&dir, &["pack-refs", "--all"]);
    git(&dir, &["tag", "user&demo@az1&later", own.as_str()]);
    repo.delete_branch("demo@az1").unwrap();
    repo.delete_branch("demo@az1").expect("gone already is no error");
    assert_eq!(repo.branch("demo@az1").unwrap(), None);
    assert!(repo.branch("demo@az12").unwrap().is_some());
    assert_eq!(git(&dir, &["tag"]).lines().collect::<Vec<_>>(), ["user&demo@az12&v1", "user&master&v1"]);
    // tags that come while the handle lives, again and again
    for n in 0..20 {
        repo.create_branch("demo@az1").unwrap();
        git(&dir, &["tag", &format!("user&demo@az1&{n}"), own.as_str()]);
        repo.delete_branch("demo@az1").unwrap();
        assert!(!git(&dir, &["tag"]).contains("demo@az1&"), "round {n}");
    }
    assert!(matches!(repo.delete_branch("master"), Err(Error::Invalid { .. })));
    assert!(matches!(repo.create_branch("../x@az"), Err(Error::Invalid { .. })));
    assert!(matches!(repo.write("gone@az1", "x", b"", "m", "a"), Err(Error::NotFound { .. })));
    git(&dir, &["fsck", "--full"]);
}

#[test]
fn effective_configuration() {
    let (_home, repo) = config();
    let folder = "app/zookeeper/9.9";
    repo.commit("master", None, &[put(&format!("{folder}/default.json"), DEFAULT)], "add", "me").unwrap();
    let text =
        |commit: &CommitId| serde_json::to_string(&*repo.effective(commit, "zookeeper", "9.9").unwrap()).unwrap();
    let plain = repo.create_branch("plain@az").unwrap();
    assert_eq!(text(&plain), r#"{"jvm":{"heap":512},"zoo":{"dir":"/var/lib/x","ratio":0.5,"safe":true,"tick":2000}}"#);
    repo.create_branch("tuned@az").unwrap();
    let path = format!("{folder}/user.json");
    let tuned = repo.write("tuned@az", &path, user("tick", "500", "integer").as_bytes(), "m", "me").unwrap();
    assert_eq!(text(&tuned), r#"{"jvm":{"heap":512},"zoo":{"dir":"/var/lib/x","ratio":0.5,"safe":true,"tick":500}}"#);
    assert_eq!(text(&plain), r#"{"jvm":{"heap":512},"zoo":{"dir":"/var/lib/x","ratio":0.5,"safe":true,"tick":2000}}"#);

    let table = [
        (user("tick", "50", "integer"), "user.json /content/0/options/0/value: \"50\" is not at least 100"),
        (user("tick", "soon", "integer"), "user.json /content/0/options/0/value: \"soon\" is not a whole number"),
        (user("tack", "1", "integer"), "user.json /content/0/options/0/key: tack is not in section zoo"),
        (user("tick", "1000", "string"), "user.json /content/0/options/0/type: must be integer"),
        ("{\n \"type\": \"ini\",\n \"contents\": []}".into(), "user.json:3: unknown field `contents`"),
        ("not json".into(), "user.json:1: expected ident"),
    ];
    for (content, expect) in table {
        let bad = repo.write("tuned@az", &path, content.as_bytes(), "m", "me").unwrap();
        let found = faults(repo.effective(&bad, "zookeeper", "9.9").unwrap_err());
        assert!(found.iter().any(|fault| fault.starts_with(&format!("{folder}/{expect}"))), "{expect}: {found:?}");
    }
    assert!(matches!(repo.effective(&plain, "zookeeper", "0.0"), Err(Error::NotFound { .. })));
    for (kind, version) in [("../..", "x"), ("zookeeper", ".."), ("", ""), ("a\n", "1")] {
        assert!(matches!(repo.effective(&plain, kind, version), Err(Error::Invalid { .. })), "{kind:?} {version:?}");
    }
}

#[test]
fn reading_listing_and_limits() {
    let (_home, repo) = config();
    let head = repo.head().unwrap();
    let top = repo.list(&head, "").unwrap().unwrap();
    assert!(top.iter().any(|entry| entry.name == "metadata" && entry.folder));
    assert_eq!(repo.list(&head, "nowhere").unwrap(), None);
    assert_eq!(repo.read(&head, "nowhere").unwrap(), None);
    assert!(matches!(repo.read(&head, "metadata"), Err(Error::Invalid { .. })));
    for path in ["/etc/passwd", "../config", "a/../b", "", ".git/config", "x.lock"] {
        assert!(matches!(repo.read(&head, path), Err(Error::Invalid { .. })), "{path:?}");
        assert!(matches!(repo.write("master", path, b"", "m", "a"), Err(Error::Invalid { .. })), "{path:?}");
    }
    let unknown = CommitId::parse(&"0".repeat(40)).unwrap();
    assert!(matches!(repo.read(&unknown, "x"), Err(Error::NotFound { .. })));
    let large = vec![b'x'; straas_repos::FILE_BYTES_MAX + 1];
    assert!(matches!(repo.write("master", "large", &large, "m", "a"), Err(Error::Invalid { .. })));
    for (message, author) in
        [("", "a"), ("m", ""), ("m\u{1b}[2J", "a"), ("m", "a\n <x@y>"), ("m", "a <x@y"), ("m", "<>")]
    {
        assert!(
            matches!(repo.write("master", "x", b"", message, author), Err(Error::Invalid { .. })),
            "{message:?} {author:?}"
        );
    }
    assert!(matches!(repo.write("master", "metadata", b"", "m", "a"), Err(Error::Invalid { .. })), "a folder's place");
    assert!(matches!(repo.write("master", "service/default.json/x", b"", "m", "a"), Err(Error::Invalid { .. })));
    assert_eq!(repo.head().unwrap(), head, "nothing of this changed anything");
    let same = repo.read(&head, "service/default.json").unwrap().unwrap();
    assert_eq!(repo.write("master", "service/default.json", &same, "m", "a").unwrap(), head, "no empty commits");
    let gone =
        repo.commit("master", None, &[Change::Remove { path: "service/default.json".into() }], "m", "a").unwrap();
    assert_eq!(repo.read(&gone, "service/default.json").unwrap(), None);
}

#[test]
fn eight_writers_lose_nothing() {
    let (home, repo) = config();
    // each with a handle of its own, as several processes would have
    let dir = home.path().join("config.git");
    let operator = std::sync::Mutex::new(0);
    repo.create_branch("busy@az").unwrap();
    std::thread::scope(|scope| {
        // and an operator's git, which knows nothing of our locks
        scope.spawn(|| {
            let me = ["-c", "user.name=op", "-c", "user.email=op@x"];
            for n in 0..10 {
                let base = git(&dir, &["rev-parse", "busy@az"]);
                let tree = format!("{}^{{tree}}", base.trim());
                let message = format!("operator {n}");
                let commit = ["commit-tree", "-p", base.trim(), "-m", &message, &tree];
                let new = git(&dir, &[&me[..], &commit[..]].concat());
                let moved = ["update-ref", "refs/heads/busy@az", new.trim(), base.trim()];
                let done = std::process::Command::new("git").arg("-C").arg(&dir).args(moved).output().unwrap();
                if done.status.success() {
                    *operator.lock().unwrap() += 1;
                }
            }
        });
        for thread in 0..8 {
            let repo = if thread % 2 == 0 { repo.clone() } else { straas_repos::ConfigRepo::open(&dir).unwrap() };
            scope.spawn(move || {
                for n in 0..5 {
                    repo.write("busy@az", &format!("app/{thread}-{n}"), b"x", &format!("{thread}-{n}"), "w").unwrap();
                }
            });
        }
    });
    let log: BTreeSet<String> =
        git(&dir, &["log", "--format=%s", "master..busy@az"]).lines().map(str::to_owned).collect();
    assert_eq!(log.len(), 40 + *operator.lock().unwrap(), "{log:?}");
    assert_eq!(
        git(&dir, &["ls-tree", "--name-only", "busy@az", "app/"]).lines().filter(|l| l.contains('-')).count(),
        40
    );
    git(&dir, &["fsck", "--full"]);
}

#[test]
fn of_eight_compare_and_swaps_one_wins() {
    let (home, repo) = config();
    let start = repo.create_branch("raced@az").unwrap();
    let won = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|n| {
                let (repo, start) = (repo.clone(), start.clone());
                scope.spawn(move || repo.write_at("raced@az", &start, "app/who", format!("{n}").as_bytes(), "m", "w"))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let (good, lost): (Vec<_>, Vec<_>) = won.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), lost.len()), (1, 7));
    assert!(lost.iter().all(|lost| matches!(lost, Err(Error::Conflict { .. }))));
    assert_eq!(repo.branch("raced@az").unwrap(), good.into_iter().next().unwrap().ok());
    let log = git(&home.path().join("config.git"), &["log", "--format=%s", "master..raced@az"]);
    assert_eq!(log.lines().count(), 1);
}
