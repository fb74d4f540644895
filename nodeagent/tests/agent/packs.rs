//! Packs of a real repository, whole and tampered with.

use crate::repo::Repo;
use std::path::Path;
use straas_agent::scripts::{ScriptsError, packs, releases};
use straas_schemas::Digest;

fn take(base: &Path, want: &str, bytes: &[u8], sum: &Digest) -> Result<(), ScriptsError> {
    std::fs::create_dir_all(base).unwrap();
    let file = base.join("in.pack");
    std::fs::write(&file, bytes).unwrap();
    packs::index(base, want, &file, sum)
}

#[test]
fn full_then_incremental_then_switched_and_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, base) = (Repo::new(&dir.path().join("origin")), dir.path().join("scripts"));
    let mut have: Option<String> = None;
    for n in 0..5 {
        let text = format!("v{n}");
        let want = repo.commit(&[("cmd/a.sh", "same"), ("cmd/deep/b.sh", &text)]);
        let pack = repo.pack(&want, have.as_deref());
        assert_eq!(packs::have(&base), have);
        take(&base, &want, &pack, &Digest::sha256(&pack)).unwrap();
        releases::check_out(&base, &want).unwrap();
        releases::switch(&base, &want).unwrap();
        assert_eq!(std::fs::read_to_string(base.join("current/cmd/deep/b.sh")).unwrap(), text);
        assert!(packs::has(&base, &want));
        have = Some(want);
        // the oldest go by age, which a fast disk may not tell apart
        // waits for: the clock of the file system, by which the oldest release is told
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(std::fs::read_dir(base.join("releases")).unwrap().count(), 3);
}

#[test]
fn a_commit_that_is_checked_out_twice_at_once_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(&dir.path().join("origin"));
    let names: Vec<String> = (0..300).map(|number| format!("cmd/{}/{number}.sh", number % 7)).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "text")).collect();
    let want = repo.commit(&files);
    let pack = repo.pack(&want, None);
    for round in 0..10 {
        let base = dir.path().join(format!("s-{round}"));
        take(&base, &want, &pack, &Digest::sha256(&pack)).unwrap();
        // as when a fetch was superseded, and its thread goes on
        std::thread::scope(|scope| {
            let both: Vec<_> = (0..2).map(|_| scope.spawn(|| releases::check_out(&base, &want))).collect();
            both.into_iter().for_each(|one| one.join().unwrap().unwrap());
        });
        let release = base.join("releases").join(&want);
        let lacks: Vec<_> = names.iter().filter(|name| !release.join(name).is_file()).collect();
        assert_eq!(lacks, [""; 0], "round {round}");
    }
}

#[test]
fn another_hash_a_damaged_pack_and_a_missing_base_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, base) = (Repo::new(&dir.path().join("origin")), dir.path().join("scripts"));
    let first = repo.commit(&[("a", "1"), ("keep/b", "2")]);
    let second = repo.commit(&[("a", "3"), ("keep/b", "2")]);
    let pack = repo.pack(&second, Some(&first));
    let error = take(&base, &second, &pack, &Digest::sha256(b"else")).unwrap_err();
    assert!(matches!(error, ScriptsError::Damaged(_)), "{error}");
    let error = take(&base, &second, &pack, &Digest::sha256(&pack)).unwrap_err();
    assert!(matches!(error, ScriptsError::Incomplete(_)), "{error}");
    let mut broken = repo.pack(&second, None);
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let error = take(&base, &second, &broken, &Digest::sha256(&broken)).unwrap_err();
    assert!(matches!(error, ScriptsError::Damaged(_)), "{error}");
    assert!(!packs::has(&base, &second));
    assert_eq!(packs::have(&base), None);
}

#[test]
fn names_and_links_that_leave_the_tree_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(&dir.path().join("origin"));
    let check = |commit: &str, part: &str| {
        let base = dir.path().join(format!("s-{part}"));
        let pack = repo.pack(commit, None);
        let error = take(&base, commit, &pack, &Digest::sha256(&pack)).unwrap_err();
        assert!(matches!(error, ScriptsError::Refused(_)), "{part}: {error}");
        assert!(releases::check_out(&base, commit).is_err());
        assert!(!base.join("releases").join(commit).exists());
    };
    check(&repo.commit(&[("a/up.link", "../../etc/passwd")]), "up");
    check(&repo.commit(&[("abs.link", "/etc/passwd")]), "abs");
    // each stays inside by its words; one after the other they do not
    check(&repo.commit(&[("a/b/top.link", "../.."), ("a/out.link", "b/top.link/../..")]), "chain");
    // a tree that no git would write: raw bytes
    let blob = repo.git.blob(b"x").unwrap();
    for name in ["..", ".git", "."] {
        let mut raw = format!("100755 {name}\0").into_bytes();
        raw.extend_from_slice(blob.as_bytes());
        let tree = repo.git.odb().unwrap().write(git2::ObjectType::Tree, &raw).unwrap();
        check(&repo.commit_tree(tree), &format!("name{}", name.len()));
    }
    let fine = repo.commit(&[("a/b", "1"), ("a/ok.link", "../a/b")]);
    let base = dir.path().join("fine");
    let pack = repo.pack(&fine, None);
    take(&base, &fine, &pack, &Digest::sha256(&pack)).unwrap();
}

/// A tree that no git would write, of such entries.
fn raw_tree(repo: &Repo, entries: &[(&str, &str, git2::Oid)]) -> git2::Oid {
    let mut raw = Vec::new();
    for (mode, name, id) in entries {
        raw.extend(format!("{mode} {name}\0").into_bytes());
        raw.extend(id.as_bytes());
    }
    repo.git.odb().unwrap().write(git2::ObjectType::Tree, &raw).unwrap()
}

#[test]
fn a_small_pack_that_would_be_huge_on_the_disk_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(&dir.path().join("origin"));
    let check = |tree, part: &str, why: &str| {
        let (commit, base) = (repo.commit_tree(tree), dir.path().join(format!("s-{part}")));
        let pack = repo.pack(&commit, None);
        assert!(pack.len() < 1 << 20, "{part}: {} bytes", pack.len());
        let error = take(&base, &commit, &pack, &Digest::sha256(&pack)).unwrap_err();
        assert!(matches!(&error, ScriptsError::Refused(text) if text.contains(why)), "{part}: {error}");
        assert!(!base.join("releases").exists() && packs::have(&base).is_none());
    };
    let too_much = "more files or bytes than a script repository may have";
    // 64 MiB of zeros, twenty times
    let zeros = repo.git.blob(&vec![0; 64 << 20]).unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("f{number:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| ("100644", name.as_str(), zeros)).collect();
    check(raw_tree(&repo, &files), "bytes", too_much);
    // ten directories of ten directories, and so on: ten thousand million files
    let mut tree = raw_tree(&repo, &[("100644", "f", repo.git.blob(b"x").unwrap())]);
    for _ in 0..10 {
        let inner: Vec<_> = names.iter().take(10).map(|name| ("40000", name.as_str(), tree)).collect();
        tree = raw_tree(&repo, &inner);
    }
    check(tree, "names", too_much);
    // what would be written through a link
    let (link, below) = (repo.git.blob(b"d").unwrap(), raw_tree(&repo, &[("100644", "f", zeros)]));
    check(raw_tree(&repo, &[("120000", "a", link), ("40000", "a", below)]), "twice", "a name that is there twice");
    // another repository
    check(raw_tree(&repo, &[("160000", "sub", zeros)]), "submodule", "neither a file, a directory nor a link");
}
