//! What a request costs does not grow with the number of topologies, each of which has a branch; with an
//! upstream, no more than the list of branches costs that git has servers send.

// measuring prints
#![allow(clippy::print_stdout)]

use crate::server::{Http, bare};
use crate::upstream::mirror;
use crate::{config, git};
use std::time::{Duration, Instant};
use straas_repos::{ConfigRepo, TagFilter};

const USER: &str = "app/zookeeper/3.8.0/user.json";
/// Each is done so often; the quickest counts, since others work on this machine, too.
const ROUNDS: u32 = 7;

type Costs = Vec<(&'static str, Duration)>;

fn quickest(mut work: impl FnMut(u32)) -> Duration {
    let time = |n| {
        let begun = Instant::now();
        work(n);
        begun.elapsed()
    };
    (0..ROUNDS).map(time).min().unwrap()
}

/// What is done for requests about one topology among `count`.
fn costs(count: u32, packed: bool) -> Costs {
    let (home, repo) = config();
    let dir = home.path().join("config.git");
    let head = repo.head().unwrap();
    for n in 0..count {
        std::fs::write(dir.join(format!("refs/heads/t{n}@az1")), format!("{head}\n")).unwrap();
    }
    if packed {
        git(&dir, &["pack-refs", "--all"]);
    }
    let text = String::from_utf8(repo.read(&head, USER).unwrap().unwrap()).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let edited = |n: u32| {
        let mut file = file.clone();
        file["content"][0]["options"][0]["value"] = (2000 + n).to_string().into();
        file.to_string()
    };
    let branch = format!("t{}@az1", count / 2);
    let read = |repo: &ConfigRepo| {
        let commit = repo.resolve(&branch).unwrap();
        repo.effective(&commit, "zookeeper", "3.8.0").unwrap();
        repo.read(&commit, USER).unwrap().unwrap();
    };
    vec![
        ("read", quickest(|_| read(&repo))),
        ("log", quickest(|_| drop(repo.log(&repo.resolve(&branch).unwrap(), USER, None, 20).unwrap()))),
        ("edit", quickest(|n| drop(repo.edit(&branch, None, USER, &edited(n), "a value", "jo").unwrap()))),
        ("create branch", quickest(|n| drop(repo.create_branch(&format!("new{n}@az1")).unwrap()))),
        ("delete branch", quickest(|n| repo.delete_branch(&format!("new{n}@az1")).unwrap())),
        (
            "create tag",
            quickest(|n| drop(repo.create_tag("user", &branch, &format!("v{n}"), None, "m", "jo").unwrap())),
        ),
        ("list tags", quickest(|_| drop(repo.tags(&branch, TagFilter::default(), None, 100).unwrap()))),
        (
            "adopt",
            quickest(|_| drop(repo.adopt_version(&branch, "zookeeper", "3.8.0", "3.8.0", &head, "jo", false).unwrap())),
        ),
        ("catalog", quickest(|_| drop(repo.catalog_view().unwrap()))),
        ("settings", quickest(|_| drop(repo.service_view().unwrap()))),
    ]
}

/// With an upstream: a read, a write, a branch made, a look that finds nothing and one that finds a commit.
fn costs_upstream(count: u32) -> Costs {
    let home = tempfile::tempdir().unwrap();
    let upstream = bare(&home.path().join("upstream"), "config.git");
    let server = Http::start(home.path());
    let open = |name: &str| mirror(home.path(), name, &server.spec("config.git"));
    let head = open("a.git").head().unwrap();
    for n in 0..count {
        std::fs::write(upstream.join(format!("refs/heads/t{n}@az1")), format!("{head}\n")).unwrap();
    }
    git(&upstream, &["pack-refs", "--all"]);
    let begun = Instant::now();
    let repo = open("b.git");
    let taken_over = begun.elapsed();
    let branch = format!("t{}@az1", count / 2);
    let other = open("a.git");
    vec![
        ("take over", taken_over),
        ("read", quickest(|_| drop(repo.resolve(&branch).unwrap()))),
        ("write", quickest(|n| drop(repo.write(&branch, "app/x", &[b'a' + n as u8], "m", "jo").unwrap()))),
        ("create branch", quickest(|n| drop(repo.create_branch(&format!("new{n}@az1")).unwrap()))),
        ("idle look", quickest(|_| drop(repo.poll().unwrap()))),
        ("look", {
            let each = (0..5u8).map(|n| {
                other.write(&branch, "app/y", &[n], "m", "jo").unwrap();
                let begun = Instant::now();
                assert_eq!(repo.poll().unwrap().moved.len(), 1);
                begun.elapsed()
            });
            each.min().unwrap()
        }),
    ]
}

#[test]
fn an_upstream_with_ten_thousand_branches_is_mirrored() {
    let (few, many) = (costs_upstream(100), costs_upstream(10_000));
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{what:14} 100: {few:>10.1?}  10,000: {many:>10.1?}");
        let bound = match what {
            // nobody asks upstream for it
            "read" => 4 * few + Duration::from_millis(20),
            "take over" => Duration::from_secs(120),
            // git sends the list of branches with each push
            _ => Duration::from_secs(10),
        };
        assert!(many < bound, "{what}: {few:?}, {many:?}");
    }
}

#[test]
fn a_request_costs_the_same_with_a_hundred_branches_as_with_ten_thousand() {
    for packed in [false, true] {
        let (few, many) = (costs(100, packed), costs(10_000, packed));
        for ((what, few), (_, many)) in few.into_iter().zip(many) {
            println!("{what:14} packed={packed:5} 100: {few:>10.1?}  10,000: {many:>10.1?}");
            // a look at packed refs that changed reads 700 KiB, and a disk that others use syncs when it likes
            assert!(many < 4 * few + Duration::from_millis(20), "{what}, packed: {packed}: {few:?}, {many:?}");
        }
    }
}
