//! Stage digests, required files and imports.

use crate::{git, scripts};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use straas_repos::{Change, Error, ScriptRepo};
use straas_schemas::Stage;

/// The stages whose digest a change alters.
fn changed(repo: &ScriptRepo, change: Change) -> BTreeSet<Stage> {
    let digests =
        |repo: &ScriptRepo| repo.stage_digests(&repo.head().unwrap(), "zookeeper", "zookeeper", "3.8.0").unwrap();
    let before = digests(repo);
    let head = repo.head().unwrap();
    assert_ne!(repo.commit(None, &[change], "change", "me").unwrap(), head, "the change is one");
    let after = digests(repo);
    Stage::ALL.into_iter().filter(|stage| before[stage] != after[stage]).collect()
}

#[test]
fn a_change_alters_exactly_the_stages_that_depend_on_it() {
    use Stage::{Config, Install, PreConfig, Validate};
    let (_home, repo) = scripts();
    let run = |text: &str| format!("#!/bin/sh\n{text}\n").into_bytes();
    let put = |path: &str, text: &str| Change::Put { path: path.into(), content: run(text), executable: None };
    let table: Vec<(Change, &[Stage])> = vec![
        (put("cmd/lib/straas.sh", "a"), &[Install, Config, Validate]),
        (put("cmd/lib/new.sh", "a"), &[Install, Config, Validate]),
        (put("cmd/zookeeper/default/install.sh", "a"), &[Install]),
        (put("cmd/zookeeper/3.8.0/install.sh", "b"), &[Install]),
        (put("cmd/zookeeper/default/install.sh", "unused now"), &[]),
        (Change::Remove { path: "cmd/zookeeper/3.8.0/install.sh".into() }, &[Install]),
        (put("pre_config/zookeeper", "a"), &[PreConfig]),
        (put("pre_config/lib/straas_pre_config.py", "a"), &[PreConfig]),
        (put("cmd/default/runpuppet.sh", "a"), &[Config]),
        (put("cmd/zookeeper/default/runpuppet.sh", "b"), &[Config]),
        (put("cmd/default/runpuppet.sh", "unused now"), &[]),
        (put("cmd/default/install.sh", "unused too"), &[]),
        (put("puppet/modules/straas/manifests/init.pp", "a"), &[Config]),
        (put("puppet/modules/zookeeper/manifests/init.pp", "a"), &[Config]),
        (put("puppet/modules/zookeeper/templates/new.epp", "a"), &[Config]),
        (put("puppet/modules/other/manifests/init.pp", "a"), &[]),
        (put("cmd/zookeeper/default/validate.sh", "a"), &[Validate]),
        (put("cmd/zookeeper/3.8.0/validate.sh", "b"), &[Validate]),
        (put("cmd/zookeeper/3.9.0/validate.sh", "b"), &[]),
        (put("cmd/zookeeper/default/start.sh", "a"), &[]),
        (put("cmd/storm/default/validate.sh", "a"), &[]),
        (put("pre_config/storm", "a"), &[]),
        (put("guestcmds/zk-cmd/new", "a"), &[]),
        (put("README.md", "a"), &[]),
    ];
    for (change, expect) in table {
        assert_eq!(changed(&repo, change.clone()), expect.iter().copied().collect(), "{change:?}");
    }
    // a mode alone, and a module that the component's module needs
    let same = run("b");
    let unmarked =
        Change::Put { path: "cmd/zookeeper/3.8.0/validate.sh".into(), content: same, executable: Some(false) };
    assert_eq!(changed(&repo, unmarked), [Validate].into());
    let needs = br#"{"dependencies":[{"name":"straas/other"},{"name":"puppetlabs-stdlib"}]}"#.to_vec();
    let needs = Change::Put { path: "puppet/modules/zookeeper/metadata.json".into(), content: needs, executable: None };
    assert_eq!(changed(&repo, needs), [Config].into());
    assert_eq!(changed(&repo, put("puppet/modules/other/manifests/init.pp", "b")), [Config].into());
}

#[test]
fn missing_files_are_named() {
    let (_home, repo) = scripts();
    let head = repo.head().unwrap();
    assert_eq!(repo.missing(&head, "zookeeper", "zookeeper", "3.8.0").unwrap(), Vec::<String>::new());
    assert_eq!(
        repo.missing(&head, "storm", "nimbus", "1.0").unwrap(),
        ["pre_config/nimbus", "cmd/nimbus/default/validate.sh"]
    );
    let head = repo.write("cmd/nimbus/1.0/validate.sh", b"echo no interpreter line", "m", "me").unwrap();
    let found = repo.missing(&head, "storm", "nimbus", "1.0").unwrap();
    assert!(found[1].starts_with("cmd/nimbus/1.0/validate.sh (not executable"), "{found:?}");
    for bad in ["..", "a/b", "", "-x", "a\n"] {
        assert!(matches!(repo.missing(&head, bad, "r", "1"), Err(Error::Invalid { .. })), "{bad:?}");
        assert!(matches!(repo.stage_digests(&head, "k", bad, "1"), Err(Error::Invalid { .. })), "{bad:?}");
        assert!(matches!(repo.stage_digests(&head, "k", "r", bad), Err(Error::Invalid { .. })), "{bad:?}");
    }
}

#[test]
fn an_import_replaces_the_content_or_nothing() {
    let (home, repo) = scripts();
    let start = repo.head().unwrap();
    let from = home.path().join("mine");
    fs::create_dir_all(from.join("cmd/lib/__pycache__")).unwrap();
    fs::create_dir_all(from.join(".git")).unwrap();
    fs::write(from.join(".git/config"), "x").unwrap();
    fs::write(from.join("cmd/lib/__pycache__/x.pyc"), "x").unwrap();
    fs::write(from.join("cmd/lib/a.sh"), "#!/bin/sh\n").unwrap();
    fs::write(from.join("cmd/lib/tool"), "\x7fELF").unwrap();
    fs::set_permissions(from.join("cmd/lib/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.join("cmd/lib/notes"), "text").unwrap();
    let link = from.join("cmd/passwd");
    symlink("/etc/passwd", &link).unwrap();
    assert!(matches!(repo.import(&from, "m", "me"), Err(Error::Invalid { .. })));
    assert_eq!(repo.head().unwrap(), start);
    fs::remove_file(link).unwrap();
    let head = repo.import(&from, "mine", "me").unwrap();
    assert_eq!(repo.import(&from, "again", "me").unwrap(), head);
    let dir = home.path().join("scripts.git");
    let tree: Vec<String> =
        git(&dir, &["ls-tree", "-r", "--format=%(objectmode) %(path)", "master"]).lines().map(str::to_owned).collect();
    assert_eq!(tree, ["100755 cmd/lib/a.sh", "100644 cmd/lib/notes", "100755 cmd/lib/tool"]);
    assert_eq!(git(&dir, &["rev-parse", "master~1"]).trim(), start.as_str());
}
