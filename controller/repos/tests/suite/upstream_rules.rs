//! What a mirror takes from upstream and what not; and that nobody loses anything, however many write.

use crate::server::{private, run};
use crate::upstream::{FILE, http, mirror, pushed, put, tip};
use std::path::Path;
use straas_repos::{Change, ConfigRepo, Error};

#[test]
fn what_may_not_come_in_stays_outside_and_the_last_good_stays() {
    let (home, upstream, server) = http();
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    let good = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    let reset = || run(&upstream, "git", &["update-ref", "refs/heads/master", good.as_str()]);
    type Make<'m> = &'m dyn Fn(&Path);
    let cases: [(&str, Make<'_>); 6] = [
        ("link", &|work| std::os::unix::fs::symlink("/etc/passwd", work.join("app/link")).unwrap()),
        ("reserved for git", &|work| put(work, ".gitattributes", "* filter=x\n")),
        ("1048577 bytes", &|work| put(work, "app/big", &"x".repeat(1_048_577))),
        ("contains ' '", &|work| put(work, "app/a file", "")),
        ("deeper", &|work| put(work, &format!("{}x", "a/".repeat(17)), "")),
        ("files", &|work| (0..10_001).for_each(|n| put(work, &format!("app/many/{n}"), ""))),
    ];
    for (why, make) in cases {
        let bad = pushed(home.path(), &upstream, "master", make);
        assert!(!repo.poll().unwrap().master());
        assert_eq!(repo.head().unwrap(), good, "{why}");
        let refused = repo.upstream().unwrap().refused;
        assert!(refused[0].1 == bad && refused[0].2.contains(why), "{why}: {refused:?}");
        let write = repo.write("master", FILE, b"2", "two", "jo");
        assert!(matches!(&write, Err(error @ Error::Apart { .. }) if error.to_string().contains(&bad)), "{write:?}");
        reset();
        repo.poll().unwrap();
        assert_eq!(repo.upstream().unwrap().refused, []);
    }
    // other branches are not held up by a bad one
    run(&upstream, "git", &["branch", "demo@az1", good.as_str()]);
    pushed(home.path(), &upstream, "master", |work| put(work, ".gitmodules", ""));
    assert_eq!(repo.poll().unwrap().moved, ["refs/heads/demo@az1"]);
    repo.write("demo@az1", FILE, b"2", "two", "jo").unwrap();
    reset();
    repo.poll().unwrap();
    repo.write("master", FILE, b"2", "two", "jo").unwrap();
    // nor does it outlive its topology
    pushed(home.path(), &upstream, "demo@az1", |work| put(work, ".gitmodules", ""));
    assert!(matches!(repo.write("demo@az1", FILE, b"3", "three", "jo"), Err(Error::Apart { .. })));
    repo.delete_branch("demo@az1").unwrap();
    assert_eq!(repo.branch("demo@az1").unwrap(), None);
    assert_eq!(run(&upstream, "git", &["for-each-ref", "--format=%(refname)"]), "refs/heads/master");
    repo.poll().unwrap();
    assert_eq!(repo.upstream().unwrap().refused, []);
}

#[test]
fn master_never_loses_a_commit() {
    let (home, upstream, server) = http();
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    let first = repo.head().unwrap();
    let good = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    repo.create_branch("demo@az1").unwrap();
    let own = repo.write("demo@az1", FILE, b"2", "two", "jo").unwrap();
    run(&upstream, "git", &["update-ref", "refs/heads/master", first.as_str()]);
    let rewritten = pushed(home.path(), &upstream, "master", |work| put(work, "app/x", "y"));
    repo.poll().unwrap();
    assert_eq!(repo.head().unwrap(), good);
    let refused = repo.upstream().unwrap().refused;
    assert!(refused[0].2.contains("rewritten") && refused[0].2.contains(good.as_str()), "{refused:?}");
    // as the words say
    run(&home.path().join("a.git"), "git", &["update-ref", "refs/heads/master", &rewritten]);
    run(&upstream, "git", &["update-ref", "refs/heads/x", &rewritten]);
    repo.poll().unwrap();
    assert_eq!((repo.head().unwrap().to_string(), repo.upstream().unwrap().refused), (rewritten, vec![]));
    // an upstream that lost everything takes nothing away
    for name in ["master", "demo@az1", "x"] {
        run(&upstream, "git", &["update-ref", "-d", &format!("refs/heads/{name}")]);
    }
    assert!(matches!(repo.poll(), Err(Error::Apart { .. })));
    assert_eq!(repo.branch("demo@az1").unwrap(), Some(own));
    let write = repo.write("demo@az1", FILE, b"3", "three", "jo").expect_err("a refusal").to_string();
    assert!(write.contains("no branch master"), "{write}");
}

#[test]
fn a_first_start_overwrites_nothing() {
    let (home, upstream, server) = http();
    let spec = server.spec("config.git");
    let first = mirror(home.path(), "a.git", &spec);
    let there = first.write("master", FILE, b"upstream", "one", "jo").unwrap();
    // it has commits of its own
    let own = ConfigRepo::open(&home.path().join("own.git")).unwrap();
    let here = own.write("master", FILE, b"here", "one", "jo").unwrap();
    let error = own.clone().with_upstream(spec.clone()).err().expect("a refusal");
    let text = error.to_string();
    assert!(
        matches!(error, Error::Apart { .. }) && text.contains(here.as_str()) && text.contains(there.as_str()),
        "{text}"
    );
    assert_eq!((own.head().unwrap(), tip(&upstream, "master")), (here, there.to_string()));
    // it is ahead, with branches and tags, as a repository that lived before there was an upstream
    let ahead = home.path().join("ahead.git");
    run(home.path(), "cp", &["-a", "a.git", "ahead.git"]);
    run(&ahead, "git", &["config", "--unset", "straas.upstream"]);
    let repo = ConfigRepo::open(&ahead).unwrap();
    let newest = repo.write("master", FILE, b"more", "two", "jo").unwrap();
    for n in 0..450 {
        run(&ahead, "git", &["update-ref", &format!("refs/heads/t{n}@az1"), newest.as_str()]);
    }
    repo.create_tag("user", "t1@az1", "v1", None, "m", "jo").unwrap();
    repo.with_upstream(spec.clone()).unwrap();
    assert_eq!(tip(&upstream, "master"), newest.as_str());
    assert_eq!(run(&upstream, "git", &["for-each-ref", "--format=x"]).lines().count(), 452);
    // a third one, as it came
    assert_eq!(mirror(home.path(), "c.git", &spec).head().unwrap(), newest);
    // what refuses a push is told in its own words
    private(upstream.join("hooks/update"), "#!/bin/sh\necho only on Mondays >&2\nexit 1\n");
    run(&upstream, "chmod", &["700", "hooks/update"]);
    let refused = first.write("t1@az1", FILE, b"x", "x", "jo").expect_err("a refusal");
    assert!(matches!(&refused, Error::Apart { .. }) && refused.to_string().contains("Mondays"), "{refused}");
}

#[test]
fn of_many_writers_on_two_mirrors_nobody_loses_anything() {
    const EACH: usize = 6;
    let (home, upstream, server) = http();
    let mirrors = ["a.git", "b.git"].map(|name| mirror(home.path(), name, &server.spec("config.git")));
    let [blind, careful] = ["app/blind.txt", "app/careful.txt"];
    mirrors[0].write("master", careful, b"0", "begin", "jo").unwrap();
    mirrors[1].poll().unwrap();
    let writers: Vec<(usize, bool)> = vec![(0, false), (1, false), (0, true), (1, true)];
    let acknowledged = std::thread::scope(|scope| {
        let writers: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(id, &(on, careful_one))| {
                let repo = &mirrors[on];
                scope.spawn(move || {
                    let (mut done, mut lost) = (Vec::new(), 0);
                    while done.len() < EACH {
                        let n = done.len();
                        if !careful_one {
                            let put = Change::Put {
                                path: format!("{blind}.{id}"),
                                content: n.to_string().into_bytes(),
                                executable: None,
                            };
                            done.push(repo.commit("master", None, &[put], &format!("{id} {n}"), "jo").unwrap());
                            continue;
                        }
                        // a counter that is read, raised and written back
                        repo.catch_up("master").unwrap();
                        let head = repo.head().unwrap();
                        let now = repo.read(&head, careful).unwrap().unwrap();
                        let now: usize = String::from_utf8(now).unwrap().parse().unwrap();
                        let text = (now + 1).to_string();
                        match repo.write_at("master", &head, careful, text.as_bytes(), &format!("{id} {n}"), "jo") {
                            Ok(commit) => done.push(commit),
                            Err(Error::Conflict { .. }) => lost += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    (done, lost)
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    let line = run(&upstream, "git", &["rev-list", "--reverse", "--first-parent", "master"]);
    let line: Vec<&str> = line.lines().collect();
    assert_eq!(line.len(), 2 + 4 * EACH, "every commit upstream was acknowledged, and the other way round");
    for (done, _) in &acknowledged {
        let places: Vec<_> =
            done.iter().map(|commit| line.iter().position(|id| *id == commit.as_str()).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
    assert_eq!(run(&upstream, "git", &["show", &format!("master:{careful}")]), (2 * EACH).to_string());
    for repo in &mirrors {
        repo.poll().unwrap();
        assert_eq!(repo.head().unwrap().as_str(), *line.last().unwrap());
    }
}

#[test]
fn many_small_pushes_are_put_together_while_others_read() {
    const PUSHES: usize = 56;
    let (home, upstream, server) = http();
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    let seen = std::sync::Mutex::new(vec![repo.write("master", FILE, b"0", "begin", "jo").unwrap()]);
    let packs = || std::fs::read_dir(home.path().join("a.git/objects/pack")).unwrap().count();
    let done = std::sync::atomic::AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        for reader in 0..2 {
            let (seen, done, repo) = (&seen, &done, &repo);
            scope.spawn(move || {
                let mut n = reader;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    n = (n * 31 + 7) % 100_003;
                    let (commit, at) = {
                        let seen = seen.lock().unwrap();
                        (seen[n % seen.len()].clone(), n % seen.len())
                    };
                    let content = repo.read(&commit, FILE).unwrap().unwrap();
                    assert_eq!(String::from_utf8(content).unwrap(), at.to_string());
                }
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut most = 0;
            for n in 1..=PUSHES {
                let work = format!(
                    "git read-tree master && blob=$(echo -n {n} | git hash-object -w --stdin) && git update-index --add \
                     --cacheinfo 100644,$blob,{FILE} && git update-ref refs/heads/master \
                     $(git commit-tree -p master -m {n} $(git write-tree))"
                );
                run(&upstream, "sh", &["-ec", &work]);
                assert!(repo.poll().unwrap().master());
                seen.lock().unwrap().push(repo.head().unwrap());
                most = most.max(packs());
            }
            most
        }));
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        ended.unwrap()
    });
    // a pack is two or three files
    assert!((51..=160).contains(&most) && packs() < most, "{most}, {}", packs());
    run(&home.path().join("a.git"), "git", &["fsck", "--full"]);
}
