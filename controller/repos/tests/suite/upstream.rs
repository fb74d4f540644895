//! Mirrors of a real git server: written to upstream first, taken from it, by the rules of both sides.

use crate::server::{Http, Mood, PASSWORD, Ssh, bare, private, run};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use straas_repos::{ConfigRepo, Error, ScriptRepo, UpstreamSpec};
use tempfile::TempDir;

pub(crate) const FILE: &str = "app/tuna/1.0/notes.txt";

/// A server with an empty repository, and its folder.
pub(crate) fn http() -> (TempDir, PathBuf, Http) {
    let home = tempfile::tempdir().unwrap();
    let upstream = bare(&home.path().join("upstream"), "config.git");
    let server = Http::start(home.path());
    (home, upstream, server)
}

pub(crate) fn mirror(home: &Path, name: &str, spec: &UpstreamSpec) -> ConfigRepo {
    ConfigRepo::open(&home.join(name)).unwrap().with_upstream(spec.clone()).unwrap()
}

pub(crate) fn tip(dir: &Path, name: &str) -> String {
    run(dir, "git", &["rev-parse", name])
}

/// A commit on top of a branch of upstream, made by somebody with git alone; its hash.
pub(crate) fn pushed(home: &Path, upstream: &Path, branch: &str, make: impl FnOnce(&Path)) -> String {
    let work = home.join("work");
    let _ = std::fs::remove_dir_all(&work);
    run(home, "git", &["clone", "-q", "-b", branch, &upstream.display().to_string(), "work"]);
    make(&work);
    run(&work, "git", &["add", "-A"]);
    run(&work, "git", &["commit", "-q", "--allow-empty", "-m", "by hand"]);
    run(&work, "git", &["push", "-q", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
    tip(&work, "HEAD")
}

pub(crate) fn put(work: &Path, path: &str, content: &str) {
    let path = work.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn what_is_written_is_upstream_and_what_is_pushed_is_taken() {
    let (home, upstream, server) = http();
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    assert_eq!(tip(&upstream, "master"), repo.head().unwrap().as_str(), "an empty upstream is seeded");

    let written = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    assert_eq!(tip(&upstream, "master"), written.as_str());
    let start = repo.create_branch("demo@az1").unwrap();
    assert_eq!(tip(&upstream, "demo@az1"), start.as_str());
    let own = repo.write("demo@az1", FILE, b"2", "two", "jo").unwrap();
    repo.create_tag("user", "demo@az1", "good", None, "tried", "jo").unwrap();
    assert_eq!(tip(&upstream, "user&demo@az1&good^{commit}"), own.as_str());

    // another controller, on its first start
    let other = mirror(home.path(), "b.git", &server.spec("config.git"));
    assert_eq!(other.head().unwrap(), written);
    assert_eq!(other.resolve("demo@az1&good").unwrap(), own);
    let theirs = other.write("demo@az1", FILE, b"3", "three", "bo").unwrap();
    assert_eq!(repo.branch("demo@az1").unwrap(), Some(own.clone()), "not seen yet");
    assert_eq!(repo.resolve(theirs.as_str()).unwrap(), theirs, "who knows of it gets it");
    assert_eq!(repo.poll().unwrap().moved, ["refs/heads/demo@az1"]);
    assert_eq!(repo.branch("demo@az1").unwrap(), Some(theirs));
    assert!(repo.poll().unwrap().moved.is_empty());
    assert!(repo.upstream().unwrap().age.unwrap() < Duration::from_secs(10));

    // what is equal to what a stale mirror has is a change all the same
    let b = other.write("master", FILE, b"9", "nine", "bo").unwrap();
    let back = repo.write("master", FILE, b"1", "one again", "jo").unwrap();
    assert_ne!(back, written);
    assert_eq!(run(&upstream, "git", &["rev-parse", "master^"]), b.as_str());

    let by_hand = pushed(home.path(), &upstream, "master", |work| put(work, "app/x/1/y.txt", "hand"));
    let taken = repo.poll().unwrap();
    assert!(taken.master() && repo.head().unwrap().as_str() == by_hand);
    assert!(repo.read(&repo.head().unwrap(), "app/x/1/y.txt").unwrap().is_some());

    repo.delete_tag("demo@az1", "good", None).unwrap();
    repo.create_tag("user", "demo@az1", "more", None, "tried", "jo").unwrap();
    let taken_name = other.create_tag("user", "demo@az1", "more", None, "mine", "bo");
    assert!(matches!(taken_name, Err(Error::Conflict { .. })), "{taken_name:?}");
    repo.delete_branch("demo@az1").unwrap();
    assert_eq!(run(&upstream, "git", &["for-each-ref", "--format=%(refname)"]), "refs/heads/master");
    other.poll().unwrap();
    assert_eq!(other.branch("demo@az1").unwrap(), None);
    // made anew with the same name before the other one looks: nothing of the old one is in it
    other.create_branch("demo@az1").unwrap();
    repo.poll().unwrap();
    repo.write("demo@az1", FILE, b"old", "old", "jo").unwrap();
    other.poll().unwrap();
    repo.delete_branch("demo@az1").unwrap();
    let anew = repo.create_branch("demo@az1").unwrap();
    let lost = other.branch("demo@az1").unwrap().unwrap();
    assert_eq!(other.create_branch("demo@az1").unwrap(), anew);
    let kept = run(&home.path().join("b.git"), "git", &["for-each-ref", "--format=%(refname)", "refs/kept"]);
    assert!(kept.contains(&format!("refs/kept/demo@az1/{lost}")), "{kept}");
    for name in ["a.git", "b.git"] {
        run(&home.path().join(name), "git", &["fsck", "--full"]);
    }
}

#[test]
fn a_script_repo_has_an_upstream_too() {
    let (home, _, server) = http();
    let upstream = bare(&home.path().join("upstream"), "scripts.git");
    let open = |name: &str| {
        ScriptRepo::open(&home.path().join(name)).unwrap().with_upstream(server.spec("scripts.git")).unwrap()
    };
    let (a, b) = (open("a.git"), open("b.git"));
    let written = a.write("cmd/x/default/install.sh", b"#!/bin/sh\n", "an installer", "jo").unwrap();
    assert_eq!(tip(&upstream, "master"), written.as_str());
    assert!(b.poll().unwrap().master() && b.head().unwrap() == written);
    assert_eq!(b.upstream().unwrap().refused, []);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "cmd/y.sh", "#!/bin/sh\n");
    let imported = b.import(folder.path(), "all of it", "bo").unwrap();
    assert_eq!(tip(&upstream, "master"), imported.as_str());
    assert_eq!(run(&upstream, "git", &["ls-tree", "-r", "--name-only", "master"]), "cmd/y.sh");
}

#[test]
fn while_upstream_is_away_reads_go_on_and_writes_change_nothing() {
    let (home, upstream, server) = http();
    let spec = server.spec("config.git");
    let repo = mirror(home.path(), "a.git", &spec);
    let before = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    server.be(Mood::Gone);
    let refs = || run(&home.path().join("a.git"), "git", &["for-each-ref"]);
    let was = refs();
    let writes: [&dyn Fn() -> Result<(), Error>; 5] = [
        &|| repo.write("master", FILE, b"2", "two", "jo").map(drop),
        &|| repo.create_branch("demo@az1").map(drop),
        &|| repo.create_tag("user", "master", "t", None, "m", "jo").map(drop),
        &|| repo.delete_tag("master", "t", None).map(drop),
        &|| repo.delete_branch("demo@az1"),
    ];
    for (n, write) in writes.iter().enumerate() {
        let error = write().expect_err("upstream is away");
        let text = error.to_string();
        assert!(
            matches!(error, Error::Away { .. }) && text.contains("config repo") && text.contains("since 20"),
            "{n}: {text}"
        );
        assert!(text.contains("nothing was changed") && !text.contains(PASSWORD), "{text}");
    }
    assert_eq!(refs(), was);
    assert_eq!(repo.read(&repo.head().unwrap(), FILE).unwrap().as_deref(), Some(&b"1"[..]));
    assert!(repo.reachable().is_err() && repo.poll().is_err());
    let (since, why) = repo.upstream().unwrap().away.unwrap();
    assert!(since.elapsed().unwrap() < Duration::from_secs(60) && !why.is_empty(), "{why}");
    // a start goes on from the mirror; a first start has none
    let again = mirror(home.path(), "a.git", &spec);
    assert_eq!(again.head().unwrap(), before);
    let first = ConfigRepo::open(&home.path().join("new.git")).unwrap().with_upstream(spec);
    assert!(matches!(first, Err(Error::Away { .. })));
    server.be(Mood::Well);
    repo.poll().unwrap();
    assert!(repo.upstream().unwrap().away.is_none());
    let after = repo.write("master", FILE, b"2", "two", "jo").unwrap();
    assert_eq!(tip(&upstream, "master"), after.as_str());
}

#[test]
fn a_server_that_hangs_costs_the_time_limit_and_leaves_nothing_running() {
    let (home, _, server) = http();
    let spec = UpstreamSpec { timeout: Duration::from_secs(1), ..server.spec("config.git") };
    let repo = mirror(home.path(), "a.git", &spec);
    server.be(Mood::Hangs);
    let seen = std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let begun = Instant::now();
            let error = repo.write("master", FILE, b"2", "two", "jo").expect_err("it hangs");
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            error.to_string()
        });
        // of what runs meanwhile nothing shows the password
        let mut seen = 0;
        while !write.is_finished() {
            for process in std::fs::read_dir("/proc").unwrap().flatten() {
                for name in ["cmdline", "environ"] {
                    let text = std::fs::read(process.path().join(name)).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    assert!(!text.contains(PASSWORD), "{name} of {:?}", process.path());
                    seen += usize::from(text.contains(&spec.url));
                }
            }
        }
        assert!(write.join().unwrap().contains("no answer within 1 s"));
        seen
    });
    assert!(seen > 0, "git was seen while it ran");
    // whoever comes next is refused at once
    let begun = Instant::now();
    assert!(matches!(repo.write("master", FILE, b"2", "two", "jo"), Err(Error::Away { .. })));
    assert!(begun.elapsed() < Duration::from_millis(500));
    let running = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let text = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains(&spec.url)
    });
    assert_eq!(running.count(), 0);
    server.be(Mood::Well);
    repo.poll().unwrap();
    repo.write("master", FILE, b"2", "two", "jo").unwrap();
}

#[test]
fn a_crash_after_the_push_is_healed_by_the_next_look() {
    let (home, upstream, server) = http();
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    let before = repo.head().unwrap();
    // as if the controller had died in between: pushed from here, and no ref moved here
    let dir = home.path().join("a.git");
    let tree = run(&dir, "git", &["rev-parse", "master^{tree}"]);
    let commit = run(&dir, "git", &["commit-tree", "-p", "master", "-m", "lost answer", &tree]);
    run(&dir, "git", &["push", "-q", &upstream.display().to_string(), &format!("{commit}:refs/heads/master")]);
    assert_eq!(repo.head().unwrap(), before);
    drop(repo);
    let repo = mirror(home.path(), "a.git", &server.spec("config.git"));
    assert_eq!(repo.head().unwrap().as_str(), commit);

    // it is upstream, and the ref here cannot be moved
    repo.poll().unwrap();
    let lock = dir.join("refs/heads/master.lock");
    std::fs::write(&lock, "").unwrap();
    let stuck = repo.write("master", FILE, b"0", "zero", "jo");
    assert!(stuck.is_err() && repo.head().unwrap().as_str() == commit, "{stuck:?}");
    std::fs::remove_file(&lock).unwrap();
    assert!(repo.poll().unwrap().master());
    assert_eq!(repo.head().unwrap().as_str(), tip(&upstream, "master"));

    // the answer to a push is lost: what upstream has is what counts
    server.be(Mood::LosesAnswers);
    let written = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    assert_eq!((tip(&upstream, "master"), repo.head().unwrap()), (written.to_string(), written));
    // upstream takes it and dies: nobody knows, nothing moves here, and the next look has it
    let hook = upstream.join("hooks/post-receive");
    private(hook.clone(), "#!/bin/sh\ntouch taken\nsleep 3\n");
    run(&upstream, "chmod", &["700", "hooks/post-receive"]);
    let before = repo.head().unwrap();
    let error = std::thread::scope(|scope| {
        let write = scope.spawn(|| repo.write("master", FILE, b"2", "two", "jo"));
        let begun = Instant::now();
        while !upstream.join("taken").exists() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            // waits for: what a hook of another process does
            std::thread::sleep(Duration::from_millis(5));
        }
        server.be(Mood::Gone);
        // the connection that is open ends unanswered
        write.join().unwrap()
    });
    std::fs::remove_file(hook).unwrap();
    match error {
        Err(error @ Error::Away { .. }) => {
            assert!(error.to_string().contains("read again before trying again"), "{error}");
            assert_eq!(repo.head().unwrap(), before);
        }
        other => panic!("{other:?}"),
    }
    server.be(Mood::Well);
    assert!(repo.poll().unwrap().master());
    assert_eq!(tip(&upstream, "master"), repo.head().unwrap().as_str());
    assert_eq!(repo.read(&repo.head().unwrap(), FILE).unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn both_transports_check_whom_they_talk_to() {
    let home = tempfile::tempdir().unwrap();
    let upstream = bare(&home.path().join("upstream"), "config.git");
    let server = Http::start_tls(home.path());
    let spec = server.spec("config.git");
    let refused = |spec: &UpstreamSpec| {
        let fresh = tempfile::tempdir().unwrap();
        let opened = ConfigRepo::open(&fresh.path().join("x.git")).unwrap().with_upstream(spec.clone());
        let error = opened.err().expect("a refusal").to_string();
        assert!(!error.contains(PASSWORD), "{error}");
        error
    };
    let unknown = refused(&UpstreamSpec { ca_file: None, ..spec.clone() });
    assert!(unknown.contains("certificate"), "{unknown}");
    let wrong = private(home.path().join("wrong"), "other\n");
    let wrong = refused(&UpstreamSpec { password_file: Some(wrong), ..spec.clone() });
    assert!(wrong.contains("uthentication failed"), "{wrong}");
    let absent = refused(&UpstreamSpec { url: server.url("absent.git"), ..spec.clone() });
    assert!(absent.contains("not found"), "{absent}");
    let repo = mirror(home.path(), "a.git", &spec);
    let written = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    assert_eq!(tip(&upstream, "master"), written.as_str());

    let mut sshd = Ssh::start(home.path());
    let spec = sshd.spec("config.git");
    assert_eq!((spec.faults(), spec.faults_here()), (vec![], vec![]));
    let stranger = refused(&UpstreamSpec { known_hosts_file: Some(home.path().join("known-other")), ..spec.clone() });
    assert!(stranger.contains("Host key verification failed"), "{stranger}");
    let nobody = refused(&UpstreamSpec { key_file: Some(home.path().join("other")), ..spec.clone() });
    assert!(nobody.contains("Permission denied"), "{nobody}");
    let over_ssh = mirror(home.path(), "b.git", &spec);
    assert_eq!(over_ssh.head().unwrap(), written);
    let more = over_ssh.write("master", FILE, b"2", "two", "bo").unwrap();
    assert_eq!(tip(&upstream, "master"), more.as_str());
    assert!(repo.poll().unwrap().master());
    sshd.stop();
    assert!(matches!(over_ssh.write("master", FILE, b"3", "three", "bo"), Err(Error::Away { .. })));
    assert_eq!(over_ssh.head().unwrap(), more);
}

/// A proxy of HTTP, of which git asks for a way through (`CONNECT`); how often it was asked, and for whom.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let heard = asked.clone();
    // it ends with the test's process
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, heard) = (client.unwrap(), heard.clone());
            std::thread::spawn(move || through(client, &heard));
        }
    });
    (port, asked)
}

fn through(client: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(client.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let Some(target) = head.first().and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next()) else { return };
    heard.lock().unwrap().extend(head.iter().cloned());
    let server = TcpStream::connect(target).unwrap();
    (&client).write_all(b"HTTP/1.1 200 through\r\n\r\n").unwrap();
    let (mut to_server, mut from_server) = (server.try_clone().unwrap(), server);
    let back = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut &back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut lines, &mut to_server);
    let _ = to_server.shutdown(Shutdown::Both);
}

#[test]
fn a_proxy_is_gone_through_and_hears_no_secret() {
    let home = tempfile::tempdir().unwrap();
    let upstream = bare(&home.path().join("upstream"), "config.git");
    let server = Http::start_tls(home.path());
    let (port, asked) = proxy();
    let spec = UpstreamSpec { proxy: Some(format!("http://127.0.0.1:{port}")), ..server.spec("config.git") };
    assert_eq!((spec.faults(), spec.faults_here()), (vec![], vec![]));
    let repo = mirror(home.path(), "a.git", &spec);
    let written = repo.write("master", FILE, b"1", "one", "jo").unwrap();
    assert_eq!(tip(&upstream, "master"), written.as_str());
    let told = asked.lock().unwrap().join("\n");
    let target = server.url("").trim_start_matches("https://").trim_end_matches('/').to_owned();
    assert!(told.contains(&format!("CONNECT {target} HTTP/1.1")), "{told}");
    assert!(!told.to_lowercase().contains("authorization"), "{told}");
    // a proxy that is away is said to be
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let spec = UpstreamSpec { proxy: Some(format!("http://127.0.0.1:{nobody}")), ..spec };
    let away = ConfigRepo::open(&home.path().join("a.git")).unwrap().with_upstream(spec).unwrap();
    let error = away.write("master", FILE, b"2", "two", "jo").unwrap_err().to_string();
    assert!(error.contains(&nobody.to_string()) && !error.contains(PASSWORD), "{error}");
    assert_eq!(tip(&upstream, "master"), written.as_str());
}
