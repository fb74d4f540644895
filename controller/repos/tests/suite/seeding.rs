//! The first start: what is made, that it is made once, and that a crash leaves nothing half-made.

use crate::{config, git, scripts};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use straas_repos::{ConfigRepo, ScriptRepo};

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_real_payload_is_there_with_modes_and_a_fixed_author() {
    let (home, repo) = scripts();
    let dir = home.path().join("scripts.git");
    let files = git(&dir, &["ls-tree", "-r", "master"]);
    for line in files.lines() {
        let (what, path) = line.split_once('\t').unwrap();
        let source = match path.split_once('/').unwrap_or((path, "")) {
            ("puppet" | "guestcmds", _) => folder("../..").join(path),
            _ => folder("../../proxy-scripts").join(path),
        };
        let content = fs::read(&source).unwrap_or_default();
        assert_eq!(what.starts_with("100755"), content.starts_with(b"#!"), "{line}");
        assert!(!path.contains("tests/"), "{line}");
        let head = repo.head().unwrap();
        assert_eq!(repo.read(&head, path).unwrap().unwrap(), content, "{path}");
    }
    let tops: Vec<String> = git(&dir, &["ls-tree", "--name-only", "master"]).lines().map(str::to_owned).collect();
    for top in &tops {
        assert!(
            ["cmd", "pre_config", "puppet", "guestcmds", "schema", "examples", "README.md"].contains(&top.as_str()),
            "{top}"
        );
    }
    assert!(files.contains("cmd/default/runpuppet.sh"));
    let log = git(&dir, &["log", "--format=%an <%ae> %at", "master"]);
    assert_eq!(log.trim(), "StraaS <straas@localhost> 1483228800");
    git(&dir, &["fsck", "--full", "--strict"]);
    assert!(git(&dir, &["config", "core.bare"]).contains("true"));

    let (home, repo) = config();
    git(&home.path().join("config.git"), &["fsck", "--full", "--strict"]);
    let (_, catalog) = repo.catalog().expect("the defaults are good");
    assert!(catalog.contains_key("zookeeper"));
    assert_eq!(
        repo.service(&repo.head().unwrap()).unwrap().of(None).settings,
        straas_schemas::settings::ServiceSettings::default()
    );
}

#[test]
fn equal_payloads_have_equal_commits_and_a_reopen_changes_nothing() {
    let (home, first) = config();
    let (_other, second) = config();
    assert_eq!(first.head().unwrap(), second.head().unwrap());
    let edited = first.write("master", "app/notes.txt", b"mine", "keep this", "operator").unwrap();
    drop(first);
    let again = ConfigRepo::open(&home.path().join("config.git")).unwrap();
    assert_eq!(again.head().unwrap(), edited);
    assert_eq!(again.read(&edited, "app/notes.txt").unwrap().unwrap(), b"mine");
    let names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["config.git"], "nothing is left beside it");
}

#[test]
fn leftovers_of_a_crash_are_cleared_and_strangers_are_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let unfinished = home.path().join("scripts.git.unfinished");
    fs::create_dir_all(unfinished.join("objects")).unwrap();
    fs::write(unfinished.join("HEAD"), "half").unwrap();
    let repo = ScriptRepo::open(&home.path().join("scripts.git")).unwrap();
    assert!(!unfinished.exists());

    // locks of a killed process
    for name in ["refs/heads/master.lock", "packed-refs.lock"] {
        fs::write(home.path().join("scripts.git").join(name), "").unwrap();
    }
    drop(repo);
    let repo = ScriptRepo::open(&home.path().join("scripts.git")).unwrap();
    repo.write("x", b"1", "works again", "me").unwrap();

    let stranger = home.path().join("documents");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("letter"), "dear").unwrap();
    let error = ScriptRepo::open(&stranger).err().expect("refused").to_string();
    assert!(error.contains("documents"), "{error}");
    assert_eq!(fs::read_to_string(stranger.join("letter")).unwrap(), "dear");
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    ScriptRepo::open(&empty).expect("an empty folder is used");
}

#[test]
fn many_first_starts_at_once_make_one_repository() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a/b/config.git");
    let heads: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| ConfigRepo::open(&dir).unwrap().head().unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(heads.iter().all(|head| *head == heads[0]));
    git(&dir, &["fsck", "--full"]);
}

const CHILD: &str = "STRAAS_TEST_SEED_DIR";

/// Not a test of its own: what the next one starts and kills.
#[test]
fn child_that_seeds() {
    if let Some(dir) = std::env::var_os(CHILD) {
        ScriptRepo::open(Path::new(&dir)).unwrap();
    }
}

#[test]
fn killed_at_any_moment_it_is_whole_or_not_there() {
    let home = tempfile::tempdir().unwrap();
    let start = |dir: &Path| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "seeding::child_that_seeds"]).env(CHILD, dir).stdout(Stdio::null()).spawn().unwrap()
    };
    let began = Instant::now();
    assert!(start(&home.path().join("scripts.git")).wait().unwrap().success());
    // moments of the crash: from the start of the process to a little after it would have ended
    let (rounds, usual) = (16, began.elapsed());
    for round in 0..rounds {
        let dir = home.path().join(format!("{round}/scripts.git"));
        let mut child = start(&dir);
        // waits for: nothing; the time of the kill is what differs from round to round
        std::thread::sleep(usual * round / (rounds - 4));
        child.kill().unwrap();
        child.wait().unwrap();
        if dir.exists() {
            git(&dir, &["fsck", "--full", "--strict", "master"]);
        }
        let repo = ScriptRepo::open(&dir).unwrap();
        git(&dir, &["fsck", "--full", "--strict", "master"]);
        assert!(!dir.with_file_name("scripts.git.unfinished").exists());
        repo.write("x", b"1", "works", "me").unwrap();
    }
}
