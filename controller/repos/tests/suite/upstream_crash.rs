//! `kill -9` of who writes to a mirror, at any moment: what was acknowledged is upstream, and the next
//! start goes on.

use crate::server::{Http, PASSWORD, USER, bare, private, run};
use crate::upstream::{mirror, tip};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use straas_repos::{ConfigRepo, UpstreamSpec};

const URL: &str = "STRAAS_TEST_UPSTREAM_URL";
const HOME: &str = "STRAAS_TEST_UPSTREAM_HOME";

fn spec(home: &Path, url: &str) -> UpstreamSpec {
    UpstreamSpec {
        url: url.to_owned(),
        user: Some(USER.into()),
        password_file: Some(private(home.join("password"), PASSWORD)),
        ca_file: None,
        key_file: None,
        known_hosts_file: None,
        proxy: None,
        timeout: Duration::from_secs(20),
    }
}

/// Not a test of its own: what the test below starts and kills.
#[test]
#[ignore = "started by the test below"]
fn writer() {
    let (Ok(url), Ok(home)) = (std::env::var(URL), std::env::var(HOME).map(PathBuf::from)) else { return };
    let repo = mirror(&home, "a.git", &spec(&home, &url));
    std::fs::write(home.join("pid"), std::process::id().to_string()).unwrap();
    let mut said = std::io::stderr();
    for n in 0.. {
        let commit = repo.write("master", "app/n", n.to_string().as_bytes(), "m", "jo").unwrap();
        writeln!(said, "written {commit}").unwrap();
    }
}

fn start(home: &Path, url: &str) -> Child {
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer.args(["--ignored", "--exact", "upstream_crash::writer", "--nocapture"]);
    writer.env(URL, url).env(HOME, home).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The commits that it acknowledged until it was killed.
fn acknowledged(mut child: Child, mut kill: impl FnMut(usize, &mut Child)) -> Vec<String> {
    let mut done = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        if let Some(commit) = line.unwrap().strip_prefix("written ") {
            done.push(commit.to_owned());
            kill(done.len(), &mut child);
        }
    }
    assert!(!child.wait().unwrap().success(), "it was killed");
    done
}

#[test]
fn what_was_acknowledged_outlives_any_crash() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let upstream = bare(&home.join("upstream"), "config.git");
    let server = Http::start(home);
    let url = server.url("config.git");
    let check = |done: &[String]| -> ConfigRepo {
        let line = run(&upstream, "git", &["rev-list", "master"]);
        done.iter().for_each(|commit| assert!(line.contains(commit.as_str()), "{commit}"));
        let repo = mirror(home, "a.git", &spec(home, &url));
        // a push of the dead may still be under way
        let begun = Instant::now();
        while repo.head().unwrap().as_str() != tip(&upstream, "master") {
            assert!(begun.elapsed() < Duration::from_secs(20));
            repo.poll().unwrap();
        }
        run(&home.join("a.git"), "git", &["fsck", "--full"]);
        repo
    };
    // somewhere in a write
    for round in 0..5u64 {
        let done = acknowledged(start(home, &url), |count, child| {
            if count == 2 {
                // waits for: nothing; a moment within the next write
                std::thread::sleep(Duration::from_millis(23 * round));
                child.kill().unwrap();
            }
        });
        assert!(done.len() >= 2);
        check(&done);
    }
    // exactly between upstream's having it and the ref here
    let before = check(&[]).head().unwrap();
    let hook =
        private(upstream.join("hooks/post-receive"), &format!("#!/bin/sh\nkill -9 $(cat {}/pid)\n", home.display()));
    run(&upstream, "chmod", &["700", "hooks/post-receive"]);
    assert_eq!(acknowledged(start(home, &url), |_, _| {}), [""; 0]);
    std::fs::remove_file(hook).unwrap();
    assert_eq!(tip(&home.join("a.git"), "master"), before.as_str(), "not seen here");
    assert_ne!(tip(&upstream, "master"), before.as_str(), "and there");
    let repo = check(&[]);
    repo.write("master", "app/n", b"after", "m", "jo").unwrap();
}
