//! Another version of a component on a topology's branch, and components laid over the repositories.

use crate::users::{default, file, user};
use crate::{config, git, scripts};
use straas_repos::{Change, ConfigRepo, Error};
use straas_schemas::configuration::SECRET;

const OLD: &str = "app/tuna/1.0/user.json";
const NEW: &str = "app/tuna/2.0/user.json";

fn add(repo: &ConfigRepo, version: &str, default: &str, user: &str) {
    let file = |name: &str, content: &str| Change::Put {
        path: format!("app/tuna/{version}/{name}"),
        content: content.into(),
        executable: None,
    };
    let files = [file("default.json", default), file("user.json", user)];
    repo.commit("master", None, &files, &format!("tuna {version}"), "Op").unwrap();
}

fn text(repo: &ConfigRepo, path: &str) -> String {
    String::from_utf8(repo.read(&repo.resolve("demo@az1").unwrap(), path).unwrap().unwrap()).unwrap()
}

#[test]
fn a_version_that_came_after_the_branch() {
    let (home, repo) = config();
    add(&repo, "1.0", &default(), &user("128", "INFO", "geheim"));
    repo.create_branch("demo@az1").unwrap();
    repo.edit("demo@az1", None, OLD, &user("512", "DEBUG", "neu"), "tuned", "jo").unwrap();
    // 2.0 has no level any more, other limits, and another value of its own
    let two = file(&[
        ("heap", "integer", "256", ", \"min\": 256, \"max\": 1024"),
        ("password", "string", "", ", \"secret\": true"),
        ("threads", "integer", "4", ""),
    ]);
    let theirs =
        file(&[("heap", "integer", "256", ""), ("password", "string", "", ""), ("threads", "integer", "4", "")]);
    add(&repo, "2.0", &two, &theirs);
    let master = repo.head().unwrap();
    let before = repo.resolve("demo@az1").unwrap();
    let dir = home.path().join("config.git");
    let objects = git(&dir, &["count-objects", "-v"]);
    let adopt = |write| repo.adopt_version("demo@az1", "tuna", "1.0", "2.0", &master, "jo", write);
    let dry = adopt(false).unwrap();
    assert!(dry.changed && dry.commit == before && repo.resolve("demo@az1").unwrap() == before);
    assert_eq!(git(&dir, &["count-objects", "-v"]), objects, "a dry run writes nothing at all");
    let done = adopt(true).unwrap();
    assert_eq!((&done.values, &done.effective), (&dry.values, &dry.effective));
    assert_eq!(done.effective["main"]["heap"], 512);
    assert_eq!(done.effective["main"]["password"], "neu");
    assert_eq!(done.effective["main"]["threads"], 4);
    let told: Vec<_> =
        done.values.iter().map(|v| (v.key.as_str(), v.value.as_str(), v.dropped.as_deref().unwrap_or("-"))).collect();
    assert_eq!(
        told,
        [("heap", "512", "-"), ("level", "DEBUG", "version 2.0 has no such key"), ("password", SECRET, "-")]
    );
    assert_eq!(
        git(&dir, &["log", "--format=%s %an", "demo@az1", "-1"]).trim(),
        "tuna: take up version 2.0 (was 1.0) jo"
    );
    // again: nothing to do; and back: nothing lost
    let again = adopt(true).unwrap();
    assert!(!again.changed && again.commit == done.commit);
    let back = repo.adopt_version("demo@az1", "tuna", "2.0", "1.0", &master, "jo", true).unwrap();
    assert!(!back.changed, "{back:?}");
    git(&dir, &["fsck", "--full"]);
}

#[test]
fn a_version_that_the_branch_has() {
    let (_home, repo) = config();
    add(&repo, "1.0", &default(), &user("128", "INFO", "x"));
    add(&repo, "2.0", &default(), &user("128", "INFO", "x"));
    repo.create_branch("demo@az1").unwrap();
    let master = repo.head().unwrap();
    repo.edit("demo@az1", None, OLD, &user("512", "DEBUG", SECRET), "tuned", "jo").unwrap();
    // set beforehand for the version to come: stays
    repo.edit("demo@az1", None, NEW, &user("1024", "INFO", SECRET), "for later", "jo").unwrap();
    let adopt = || repo.adopt_version("demo@az1", "tuna", "1.0", "2.0", &master, "jo", true).unwrap();
    let done = adopt();
    assert_eq!((&done.effective["main"]["heap"], &done.effective["main"]["level"]), (&1024.into(), &"DEBUG".into()));
    let heap = done.values.iter().find(|value| value.key == "heap").unwrap();
    assert_eq!(heap.dropped.as_deref(), Some("another value was set for version 2.0 already"));
    assert!(text(&repo, OLD).contains("512"), "the old version's file stays as it is");
    // a value out of the new limits is told, and left
    let tight = default().replace("\"max\": 4096", "\"max\": 200");
    add(&repo, "3.0", &tight, &user("128", "INFO", "x"));
    let master = repo.head().unwrap();
    let third = repo.adopt_version("demo@az1", "tuna", "2.0", "3.0", &master, "jo", true).unwrap();
    let heap = third.values.iter().find(|value| value.key == "heap").unwrap();
    assert_eq!(heap.dropped.as_deref(), Some("the value \"1024\" is not at most 200 any more"));
    assert_eq!(third.effective["main"]["heap"], 128);
    let missing = |version: &str| repo.adopt_version("demo@az1", "tuna", "3.0", version, &master, "jo", true);
    assert!(matches!(missing("9.9"), Err(Error::NotFound { .. })));
    assert!(matches!(missing("../x"), Err(Error::Invalid { .. })));
}

#[test]
fn components_laid_over() {
    let (_h, repo) = config();
    let (_s, code) = scripts();
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("app/tuna/1.0/default.json", &default());
    write("cmd/tuna/default/validate.sh", "#!/bin/sh\n");
    write("tests/golden/x.json", "{}");
    write("README.md", "hello");
    let (config, scripts) = (repo.overlay(&[dir.path()]).unwrap(), code.overlay(&[dir.path()]).unwrap());
    assert!(repo.read(&config, "app/tuna/1.0/default.json").unwrap().is_some());
    assert!(code.read(&scripts, "cmd/tuna/default/validate.sh").unwrap().is_some());
    assert!(code.list(&scripts, "cmd/tuna/default").unwrap().unwrap()[0].executable);
    assert!(repo.read(&config, "README.md").unwrap().is_none(), "other files stay out");
    assert_eq!(repo.overlay(&[dir.path()]).unwrap(), config, "twice is once");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(repo.overlay(&[empty.path()]), Err(Error::Invalid { .. })));
}
