//! Another key for secrets: what was sealed with older ones stays open, and is sealed anew on every branch.

use crate::server::run;
use crate::upstream::{http, mirror, pushed, put, tip};
use crate::users::file;
use std::path::Path;
use std::sync::Arc;
use straas_repos::{Change, CommitId, ConfigRepo, Error, Vault};

const USER: &str = "app/tuna/1.0/user.json";
const SECRET: (&str, &str, &str, &str) = ("password", "string", "", ", \"secret\": true");

/// A type with a password that users set, and `count` topologies that did.
fn fleet(home: &Path, repo: &ConfigRepo, count: usize) -> Vec<String> {
    let default = file(&[("heap", "integer", "128", ""), SECRET]);
    let files = [("default.json", default), ("user.json", file(&[SECRET]))].map(|(name, content)| Change::Put {
        path: format!("app/tuna/1.0/{name}"),
        content: content.into_bytes(),
        executable: None,
    });
    repo.commit("master", None, &files, "tuna", "op").unwrap();
    let branches: Vec<String> = (0..count).map(|number| format!("t{number}@az1")).collect();
    for branch in &branches {
        repo.create_branch(branch).unwrap();
        set(repo, branch, &format!("geheim {branch}"));
    }
    repo.create_branch("other@az1").unwrap();
    assert!(home.join("secrets.key").is_file());
    branches
}

fn set(repo: &ConfigRepo, branch: &str, password: &str) -> CommitId {
    let content = file(&[("password", "string", password, ", \"secret\": true")]);
    repo.edit(branch, None, USER, &content, "mine", "jo").unwrap()
}

/// The password on a branch as it stands there.
fn stands(repo: &ConfigRepo, at: &str) -> String {
    let values = repo.effective(&repo.resolve(at).unwrap(), "tuna", "1.0").unwrap();
    values["main"]["password"].as_str().unwrap().to_owned()
}

#[test]
fn every_branch_is_sealed_anew_and_commits_made_before_still_open() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("secrets.key");
    let vault = Arc::new(Vault::open(&key).unwrap());
    let repo = ConfigRepo::open(&home.path().join("config.git")).unwrap().with_vault(vault.clone());
    let branches = fleet(home.path(), &repo, 5);
    assert_eq!(repo.reseal("op", 10).unwrap(), straas_repos::Resealed::default(), "nothing to be done");
    let before: Vec<_> = branches.iter().map(|branch| (repo.resolve(branch).unwrap(), stands(&repo, branch))).collect();
    let heads = [repo.head().unwrap(), repo.resolve("other@az1").unwrap()];
    Vault::rotate(&key, false).unwrap();
    // some, as if it died then; the rest when asked again
    let some = repo.reseal("op", 2).unwrap();
    assert_eq!((some.commits.len(), some.more), (2, true));
    let rest = repo.reseal("op", 10).unwrap();
    assert_eq!((rest.commits.len(), rest.more), (3, false));
    assert_eq!(repo.reseal("op", 10).unwrap(), straas_repos::Resealed::default());
    let done: Vec<&String> = some.commits.iter().chain(&rest.commits).map(|(branch, _)| branch).collect();
    assert_eq!(done, branches.iter().collect::<Vec<_>>());
    for (branch, (commit, sealed)) in branches.iter().zip(&before) {
        let now = stands(&repo, branch);
        assert_ne!(now, *sealed);
        for text in [&now, sealed] {
            assert_eq!(vault.unseal("main", "password", text), Some(format!("geheim {branch}")));
        }
        assert_eq!(vault.resealed("main", "password", &now), None);
        assert_eq!(stands(&repo, commit.as_str()), *sealed, "what was committed stays as it was");
    }
    assert_eq!([repo.head().unwrap(), repo.resolve("other@az1").unwrap()], heads, "where there is none, nothing moves");
}

#[test]
fn secrets_in_plain_do_not_come_in_from_upstream() {
    let (home, upstream, server) = http();
    let vault = Arc::new(Vault::open(&home.path().join("secrets.key")).unwrap());
    let repo = mirror(home.path(), "a.git", &server.spec("config.git")).with_vault(vault);
    let branch = fleet(home.path(), &repo, 1).remove(0);
    let good = repo.resolve(&branch).unwrap();
    let plain = file(&[("password", "string", "open sesame", ", \"secret\": true")]);
    let bad = pushed(home.path(), &upstream, &branch, |work| put(work, USER, &plain));
    assert_eq!(repo.poll().unwrap().moved, [""; 0]);
    let refused = repo.upstream().unwrap().refused;
    let (commit, why) = (&refused[0].1, &refused[0].2);
    assert!(*commit == bad && why.contains(&format!("{USER}: main.password")) && why.contains("over the API"), "{why}");
    assert!(!why.contains("sesame"), "{why}");
    assert_eq!(repo.resolve(&branch).unwrap(), good);
    let edit = repo.edit(&branch, None, USER, &plain, "mine", "jo");
    assert!(matches!(edit, Err(Error::Apart { .. })), "{edit:?}");
    // as the words say
    run(&upstream, "git", &["update-ref", &format!("refs/heads/{branch}"), good.as_str()]);
    repo.poll().unwrap();
    let mended = set(&repo, &branch, "open sesame");
    assert_eq!(tip(&upstream, &branch), mended.as_str());
    // what else is pushed beside what is sealed comes in; so does a branch of somebody's own, without new secrets
    let more = pushed(home.path(), &upstream, &branch, |work| put(work, "app/tuna/1.0/notes.txt", "x"));
    run(&upstream, "git", &["branch", "new@az1", &more]);
    repo.poll().unwrap();
    assert_eq!((repo.resolve(&branch).unwrap().as_str(), repo.upstream().unwrap().refused), (more.as_str(), vec![]));
    let bad = pushed(home.path(), &upstream, "new@az1", |work| {
        put(work, "app/tuna/1.0/default.json", &file(&[("token", "string", "abc", ", \"secret\": true"), SECRET]));
    });
    repo.poll().unwrap();
    assert!(repo.upstream().unwrap().refused.iter().any(|(_, commit, _)| *commit == bad));
}
