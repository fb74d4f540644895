//! What one request costs in git with 10 and with 10,000 topology branches, side by side.
//!
//! `cargo run --release -p straas-repos --example branch_cost`. Each call is timed on both
//! repositories in turn; printed are medians and their ratio. Flat means a ratio near 1.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Instant;
use straas_repos::{ConfigRepo, Packs, ScriptRepo};

const FEW: usize = 10;
const MANY: usize = 10_000;
const ROUNDS: usize = 201;
const USER: &[u8] = br#"{"type":"ini","content":[]}"#;

/// A config repo with `count` branches (and a tag each), made as files since that is not what is measured.
fn filled(dir: &Path, count: usize, packed: bool) -> ConfigRepo {
    let repo = ConfigRepo::open(dir).unwrap();
    let head = format!("{}\n", repo.head().unwrap());
    for n in 0..count {
        fs::write(dir.join(format!("refs/heads/t-{n}@az1")), &head).unwrap();
        fs::write(dir.join(format!("refs/tags/user&t-{n}@az1&v1")), &head).unwrap();
    }
    if packed {
        let done = std::process::Command::new("git").arg("-C").arg(dir).args(["pack-refs", "--all"]).status();
        assert!(done.unwrap().success());
    }
    ConfigRepo::open(dir).unwrap()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Digests and packs do not depend on branches; first call and later ones.
fn scripts(home: &Path) {
    let repo = ScriptRepo::open(&home.join("scripts.git")).unwrap();
    let packs = Packs::open(&repo, &home.join("packs")).unwrap();
    let mut before = repo.head().unwrap();
    let (mut cold, mut warm, mut build, mut hit, mut full) = (vec![], vec![], vec![], vec![], vec![]);
    let timed = |times: &mut Vec<f64>, work: &dyn Fn()| {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    };
    let mut sizes = (0, 0);
    for n in 0..51 {
        let path = "cmd/zookeeper/default/validate.sh";
        let head = repo.write(path, format!("#!/bin/sh\n# {n}\n").as_bytes(), "m", "me").unwrap();
        let digests = || drop(repo.stage_digests(&head, "zookeeper", "zookeeper", "3.8.0").unwrap());
        timed(&mut cold, &digests);
        timed(&mut warm, &digests);
        let step = || drop(packs.pack(&head, Some(&before)).unwrap());
        timed(&mut build, &step);
        timed(&mut hit, &step);
        timed(&mut full, &|| drop(packs.pack(&head, None).unwrap()));
        sizes = (packs.pack(&head, Some(&before)).unwrap().len, packs.pack(&head, None).unwrap().len);
        before = head;
    }
    println!("script repo, µs: stage digests {:.0} first, {:.1} later", median(cold), median(warm));
    println!(
        "  pack of one edit {:.0} first (synced), {:.1} later, {} bytes; full pack {:.0}, {} bytes",
        median(build),
        median(hit),
        sizes.0,
        median(full),
        sizes.1
    );
}

fn main() {
    let home = tempfile::tempdir().unwrap();
    type Call = (&'static str, fn(&ConfigRepo, usize));
    let calls: [Call; 6] = [
        ("branch by name", |repo, n| assert!(repo.branch(&format!("t-{}@az1", n % FEW)).unwrap().is_some())),
        ("catalog", |repo, _| assert!(!repo.catalog().unwrap().1.is_empty())),
        ("branch + effective config", |repo, n| {
            let commit = repo.branch(&format!("t-{}@az1", n % FEW)).unwrap().unwrap();
            assert!(!repo.effective(&commit, "zookeeper", "3.8.0").unwrap().is_empty());
        }),
        ("create branch (synced)", |repo, n| drop(repo.create_branch(&format!("new-{n}@az1")).unwrap())),
        ("write user.json (synced)", |repo, n| {
            let path = format!("app/zookeeper/x{n}/user.json");
            drop(repo.write(&format!("new-{n}@az1"), &path, USER, "m", "me").unwrap());
        }),
        ("delete branch + tags", |repo, n| repo.delete_branch(&format!("new-{n}@az1")).unwrap()),
    ];
    for packed in [false, true] {
        println!("{}", if packed { "after `git pack-refs --all`" } else { "refs as files" });
        println!("{:28} {:>12} {:>12} {:>7}", "µs per call", format!("{FEW}"), format!("{MANY}"), "ratio");
        let few = filled(&home.path().join(format!("few-{packed}.git")), FEW, packed);
        let many = filled(&home.path().join(format!("many-{packed}.git")), MANY, packed);
        for (name, call) in calls {
            let mut times = [Vec::new(), Vec::new()];
            for n in 0..ROUNDS {
                for (repo, times) in [&few, &many].into_iter().zip(&mut times) {
                    let start = Instant::now();
                    call(repo, n);
                    times.push(start.elapsed().as_secs_f64() * 1e6);
                }
            }
            let [a, b] = times.map(median);
            println!("{name:28} {a:12.1} {b:12.1} {:7.2}", b / a);
        }
    }
    scripts(home.path());
}
