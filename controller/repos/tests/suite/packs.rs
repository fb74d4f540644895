//! Packs: whole, incremental, cached, single-flight, damaged, evicted, refused.

use crate::{git, scripts};
use git2::Repository;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Barrier};
use straas_repos::{CommitId, Error, Pack, PackLimits, Packs, ScriptRepo};
use straas_schemas::Digest;

/// What an agent does with a pack: index it, then trust nothing but git's own check.
fn index(node: &Path, pack: &Pack) {
    let bytes = fs::read(&pack.path).unwrap();
    assert_eq!((bytes.len() as u64, Digest::sha256(&bytes)), (pack.len, pack.sha256.clone()));
    let repo = Repository::open_bare(node).unwrap();
    let odb = repo.odb().unwrap();
    let mut writer = odb.packwriter().unwrap();
    writer.write_all(&bytes).unwrap();
    writer.commit().unwrap();
}

fn files(dir: &Path, commit: &CommitId) -> Vec<(String, String)> {
    let tree = git(dir, &["ls-tree", "-r", commit.as_str()]);
    tree.lines().map(|line| line.split_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()).collect()
}

fn edit(repo: &ScriptRepo, n: usize) -> CommitId {
    repo.write(
        "cmd/zookeeper/default/validate.sh",
        format!("#!/bin/sh\n# {n}\n").as_bytes(),
        &format!("edit {n}"),
        "me",
    )
    .unwrap()
}

#[test]
fn a_node_gets_everything_and_then_only_what_is_new() {
    let (home, repo) = scripts();
    let packs = Packs::open(&repo, &home.path().join("packs")).unwrap();
    let node = home.path().join("node.git");
    Repository::init_bare(&node).unwrap();
    let source = home.path().join("scripts.git");

    let first = repo.head().unwrap();
    let full = packs.pack(&first, None).unwrap();
    assert_eq!(full.have, None);
    index(&node, &full);
    git(&node, &["update-ref", "refs/heads/master", first.as_str()]);
    git(&node, &["fsck", "--full", "--strict"]);
    assert_eq!(files(&node, &first), files(&source, &first));

    edit(&repo, 1);
    let second = edit(&repo, 2);
    let step = packs.pack(&second, Some(&first)).unwrap();
    assert_eq!(step.have, Some(first.clone()));
    assert!(step.len * 5 < full.len, "{} bytes against {}", step.len, full.len);
    index(&node, &step);
    git(&node, &["update-ref", "refs/heads/master", second.as_str()]);
    git(&node, &["fsck", "--full", "--strict"]);
    assert_eq!(files(&node, &second), files(&source, &second));
    let out = home.path().join("out");
    fs::create_dir(&out).unwrap();
    git(&node, &["--work-tree", out.to_str().unwrap(), "checkout", "-f", "master", "--", "."]);
    assert_eq!(fs::read(out.join("cmd/zookeeper/default/validate.sh")).unwrap(), b"#!/bin/sh\n# 2\n");

    // back to the older one: the node has it all
    let back = packs.pack(&first, Some(&second)).unwrap();
    assert_eq!(back.objects, 0);
    index(&node, &back);
    git(&node, &["fsck", "--full"]);
    // an old content again, in a new commit
    let revert = repo.write("cmd/zookeeper/default/validate.sh", b"#!/bin/sh\n# 1\n", "revert", "me").unwrap();
    index(&node, &packs.pack(&revert, Some(&second)).unwrap());
    git(&node, &["update-ref", "refs/heads/master", revert.as_str()]);
    git(&node, &["fsck", "--full"]);
    let unknown = CommitId::parse(&"1".repeat(40)).unwrap();
    assert_eq!(packs.pack(&second, Some(&unknown)).unwrap().have, None, "an unknown start gets everything");
}

#[test]
fn only_released_commits_are_served() {
    let (home, repo) = scripts();
    let packs = Packs::open(&repo, &home.path().join("packs")).unwrap();
    let dir = home.path().join("scripts.git");
    let first = repo.head().unwrap();
    let second = edit(&repo, 1);
    let tree = git(&dir, &["rev-parse", "master^{tree}"]);
    let stray = git(&dir, &["-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", "-m", "stray", tree.trim()]);
    for id in [stray.trim(), tree.trim(), &"2".repeat(40)] {
        let id = CommitId::parse(id).unwrap();
        assert!(matches!(packs.pack(&id, None), Err(Error::NotFound { .. })), "{id}");
        assert_eq!(packs.pack(&second, Some(&id)).unwrap().have, None);
    }
    packs.pack(&first, None).expect("an older release is one");
    git(&dir, &["update-ref", "refs/heads/master", first.as_str()]);
    assert!(matches!(packs.pack(&second, None), Err(Error::NotFound { .. })), "taken back by the operator");
}

#[test]
fn many_ask_and_one_builds() {
    let (home, repo) = scripts();
    let (first, second) = (repo.head().unwrap(), edit(&repo, 1));
    let packs = Packs::open(&repo, &home.path().join("packs")).unwrap();
    let start = Arc::new(Barrier::new(32));
    let all: Vec<Arc<Pack>> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..32)
            .map(|_| {
                let (packs, start) = (packs.clone(), Arc::clone(&start));
                let (first, second) = (first.clone(), second.clone());
                scope.spawn(move || {
                    start.wait();
                    packs.pack(&second, Some(&first)).unwrap()
                })
            })
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(packs.builds(), 1);
    assert!(all.iter().all(|pack| *pack == all[0]));
    // and not again after a restart
    let later = Packs::open(&repo, &home.path().join("packs")).unwrap();
    assert_eq!(later.pack(&second, Some(&first)).unwrap(), all[0]);
    assert_eq!(later.builds(), 0);
}

#[test]
fn a_damaged_file_is_made_again() {
    let (home, repo) = scripts();
    let dir = home.path().join("packs");
    let head = repo.head().unwrap();
    let good = Packs::open(&repo, &dir).unwrap().pack(&head, None).unwrap();
    let bytes = fs::read(&good.path).unwrap();
    let side = good.path.with_extension("json");
    let (mut flipped, cut) = (bytes.clone(), &bytes[..bytes.len() / 2]);
    flipped[bytes.len() / 2] ^= 1;
    let damages: [&dyn Fn(); 5] = [
        &|| fs::write(&good.path, &flipped).unwrap(),
        &|| fs::write(&good.path, cut).unwrap(),
        &|| fs::remove_file(&good.path).unwrap(),
        &|| fs::write(&side, "{}").unwrap(),
        &|| fs::remove_file(&side).unwrap(),
    ];
    for (n, damage) in damages.iter().enumerate() {
        damage();
        fs::write(dir.join("x.pack.tmp"), "left by a crash").unwrap();
        let packs = Packs::open(&repo, &dir).unwrap();
        assert!(!dir.join("x.pack.tmp").exists());
        let again = packs.pack(&head, None).unwrap();
        assert_eq!(packs.builds(), 1, "damage {n}");
        assert_eq!(Digest::sha256(&fs::read(&again.path).unwrap()), again.sha256, "damage {n}");
    }
    // and while running
    let packs = Packs::open(&repo, &dir).unwrap();
    packs.pack(&head, None).unwrap();
    fs::remove_file(&good.path).unwrap();
    assert!(packs.pack(&head, None).unwrap().path.exists());
}

#[test]
fn old_packs_make_room_but_not_those_in_use() {
    let (home, repo) = scripts();
    let dir = home.path().join("packs");
    let packs = Packs::with_limits(&repo, &dir, PackLimits { bytes_max: u64::MAX, count_max: 3 }).unwrap();
    let count = || {
        fs::read_dir(&dir)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "pack"))
            .count()
    };
    let held = packs.pack(&repo.head().unwrap(), None).unwrap();
    for n in 0..6 {
        packs.pack(&edit(&repo, n), None).unwrap();
        assert!(count() <= 3, "{}", count());
        assert!(held.path.exists(), "somebody is sending it");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 6, "sidecars go with their packs");
    let path = held.path.clone();
    drop(held);
    for n in 6..10 {
        packs.pack(&edit(&repo, n), None).unwrap();
    }
    assert!(!path.exists());
    let small = Packs::with_limits(&repo, &dir, PackLimits { bytes_max: 1, count_max: 3 }).unwrap();
    small.pack(&edit(&repo, 10), None).unwrap();
    assert_eq!(count(), 1, "the newest one stays whatever its size");
}
