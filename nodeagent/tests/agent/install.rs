//! The `install` script where the package manager says what a test wants: when it asks for new lists, and with which
//! sources. apt's own programs read what it is given.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = include_str!("../../src/stages/install.sh");

/// What `apt-get` was asked for in turn. `answers`: how it ends, by the word it is asked with; the last counts for
/// all that follow.
fn asked(dir: &Path, answers: &[(&str, &[u8])], prefix: &str) -> (Vec<String>, Option<i32>) {
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    for (word, codes) in answers {
        let lines: String = codes.iter().map(|code| format!("{code}\n")).collect();
        std::fs::write(dir.join(word), lines).unwrap();
    }
    let apt = "#!/bin/sh\nword=$1\ncase \" $* \" in *--simulate*) word=simulate;; esac\n\
        echo \"$word ${APT_CONFIG:-}\" >>\"$WORLD/asked\"\n\
        code=$(head -n 1 \"$WORLD/$word\"); [ \"$(wc -l <\"$WORLD/$word\")\" = 1 ] || sed -i 1d \"$WORLD/$word\"\n\
        [ \"$word$code\" != install0 ] || : >\"$WORLD/installed\"\nexit \"$code\"\n";
    let query = "#!/bin/sh\n[ ! -e \"$WORLD/installed\" ] || printf 'ii |1.0'\n";
    for (name, text) in [("apt-get", apt), ("dpkg-query", query), ("dpkg", "#!/bin/sh\n")] {
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "straas-install", "tiny=1.0"]).env("PATH", path).env("WORLD", dir);
    // the lock is for those who really install
    command.env("STRAAS_PREFIX", prefix).env("STRAAS_APT_LOCKED", "1").env_remove("APT_CONFIG");
    let output = command.output().unwrap();
    let text = std::fs::read_to_string(dir.join("asked")).unwrap_or_default();
    (text.lines().map(|line| line.trim_end().to_owned()).collect(), output.status.code())
}

#[test]
fn new_lists_are_asked_for_when_a_package_is_lacking_or_cannot_be_fetched() {
    let check = |answers: &[(&str, &[u8])], expect: &[&str], code: i32| {
        let dir = tempfile::tempdir().unwrap();
        let (asked, ended) = asked(dir.path(), answers, "");
        assert_eq!((asked, ended), (expect.iter().map(|word| (*word).to_owned()).collect(), Some(code)), "{answers:?}");
    };
    check(&[("simulate", &[0]), ("install", &[0])], &["simulate", "install"], 0);
    check(&[("simulate", &[100]), ("update", &[0]), ("install", &[0])], &["simulate", "update", "install"], 0);
    check(&[("simulate", &[100]), ("update", &[100]), ("install", &[100])], &["simulate", "update", "install"], 100);
    let stale = ["simulate", "install", "update", "install"];
    check(&[("simulate", &[0]), ("update", &[0]), ("install", &[100, 0])], &stale, 0);
    check(&[("simulate", &[0]), ("update", &[0]), ("install", &[100])], &stale, 100);
}

#[test]
fn a_repository_below_a_prefix_is_seen_by_its_install_alone() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("prefix");
    let sources = prefix.join("etc/apt/sources.list.d");
    std::fs::create_dir_all(&sources).unwrap();
    let text = "Types: deb\nURIs: http://nexus.invalid/apt\nSuites: stable\nComponents: main\n";
    std::fs::write(sources.join("straas-packages.sources"), text).unwrap();
    let answers: [(&str, &[u8]); 2] = [("simulate", &[0]), ("install", &[0])];
    let (asked, code) = asked(dir.path(), &answers, &prefix.display().to_string());
    let config = prefix.join("var/lib/straas/apt/apt.conf");
    assert_eq!((asked[1].as_str(), code), (format!("install {}", config.display()).as_str(), Some(0)));
    // what it would fetch; it fetches nothing
    let sites = |config: Option<&Path>| {
        let mut command = Command::new("apt-get");
        command.args(["update", "--print-uris"]);
        config.map(|path| command.env("APT_CONFIG", path));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| Some(line.split('\'').nth(1)?.to_owned())).collect::<Vec<_>>()
    };
    let (own, machine) = (sites(Some(&config)), sites(None));
    assert!(own.iter().any(|site| site == "http://nexus.invalid/apt/dists/stable/InRelease"), "{own:?}");
    assert!(machine.iter().all(|site| !site.contains("nexus.invalid") && own.contains(site)), "{machine:?} {own:?}");
}
