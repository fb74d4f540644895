//! What users do to a branch: refs, tags, checked writes, differences, history, origins.

use crate::{config, faults, git};
use straas_repos::{Change, CommitId, ConfigRepo, Error, TagFilter};
use straas_schemas::configuration::{FileChange, SECRET};

const KIND: &str = "tuna";

fn put(path: &str, content: &str) -> Change {
    Change::Put { path: path.into(), content: content.into(), executable: None }
}

/// A configuration file of one section from `key type value rest`.
pub fn file(options: &[(&str, &str, &str, &str)]) -> String {
    let each = options.iter().map(|(key, kind, value, rest)| {
        format!("  {{\"key\": \"{key}\", \"type\": \"{kind}\", \"value\": \"{value}\"{rest}}}")
    });
    let each: Vec<String> = each.collect();
    format!(
        "{{\"type\": \"ini\", \"content\": [{{\"section\": \"main\", \"options\": [\n{}\n]}}]}}\n",
        each.join(",\n")
    )
}

pub fn default() -> String {
    file(&[
        ("heap", "integer", "128", ", \"min\": 64, \"max\": 4096"),
        ("level", "string", "INFO", ", \"values\": [\"INFO\", \"DEBUG\"]"),
        ("password", "string", "geheim", ", \"secret\": true"),
        ("port", "integer", "9000", ""),
    ])
}

pub fn user(heap: &str, level: &str, password: &str) -> String {
    file(&[("heap", "integer", heap, ""), ("level", "string", level, ""), ("password", "string", password, "")])
}

/// A repo with one component version more, and a topology's branch.
fn with_branch() -> (tempfile::TempDir, ConfigRepo) {
    let (home, repo) = config();
    let folder = format!("app/{KIND}/1.0");
    let files = [
        put(&format!("{folder}/default.json"), &default()),
        put(&format!("{folder}/user.json"), &user("128", "INFO", "geheim")),
    ];
    repo.commit("master", None, &files, "tuna 1.0", "Op").unwrap();
    repo.create_branch("demo@az1").unwrap();
    (home, repo)
}

const USER: &str = "app/tuna/1.0/user.json";

#[test]
fn refs_of_every_form() {
    let (home, repo) = with_branch();
    let head = repo.head().unwrap();
    let own = repo.edit("demo@az1", None, USER, &user("256", "INFO", SECRET), "more", "jo").unwrap();
    let tag = repo.create_tag("user", "demo@az1", "v1.0", None, "works", "jo").unwrap();
    assert_eq!((tag.reference.as_str(), tag.commit.as_str()), ("demo@az1&v1.0", own.as_str()));
    // a light one, made by hand
    git(&home.path().join("config.git"), &["tag", "admin&master&start", head.as_str()]);
    for (text, commit) in [
        ("master", &head),
        ("demo@az1", &own),
        ("demo@az1&v1.0", &own),
        ("user&demo@az1&v1.0", &own),
        ("master&start", &head),
        (own.as_str(), &own),
    ] {
        assert_eq!(repo.resolve(text).unwrap(), *commit, "{text}");
    }
    for absent in ["other@az1", "demo@az1&v2", "admin&demo@az1&v1.0", &"0".repeat(40), "develop"] {
        assert!(matches!(repo.resolve(absent), Err(Error::NotFound { .. })), "{absent}");
    }
    for odd in ["", "HEAD", "demo@az1&", "demo@az1&../x", "a&b&c&d", "root&demo@az1&v1.0", "demo@az1&v1.lock", "x/y"] {
        assert!(matches!(repo.resolve(odd), Err(Error::Invalid { .. } | Error::NotFound { .. })), "{odd}");
    }
    assert!(repo.on_branch("demo@az1", &head).unwrap() && !repo.on_branch("master", &own).unwrap());
}

#[test]
fn tags_come_and_go_with_their_branch() {
    let (home, repo) = with_branch();
    let first = repo.resolve("demo@az1").unwrap();
    let own = repo.edit("demo@az1", None, USER, &user("256", "INFO", SECRET), "more", "jo").unwrap();
    for n in 1..=5 {
        repo.create_tag("user", "demo@az1", &format!("v{n}"), None, "m", "jo").unwrap();
    }
    let old = repo.create_tag("admin", "demo@az1", "old", Some(&first), "as it was", "op").unwrap();
    assert_eq!((old.commit.as_str(), old.message.as_str()), (first.as_str(), "as it was"));
    let some = |only: TagFilter<'_>, after: Option<&str>| {
        let (tags, more) = repo.tags("demo@az1", only, after, 4).unwrap();
        (tags.into_iter().map(|tag| tag.tag).collect::<Vec<_>>(), more)
    };
    let page = |after: Option<&str>| some(TagFilter::default(), after);
    assert_eq!(page(None), (["old", "v1", "v2", "v3"].map(str::to_owned).to_vec(), true));
    assert_eq!(page(Some("v3")), (["v4", "v5"].map(str::to_owned).to_vec(), false));
    let only = |role, prefix| some(TagFilter { role, prefix }, None);
    assert_eq!(only(Some("admin"), ""), (vec!["old".to_owned()], false));
    assert_eq!(only(Some("user"), "v5"), (vec!["v5".to_owned()], false));
    assert_eq!(only(Some("admin"), "v"), (vec![], false));
    assert_eq!(only(None, "v"), (["v1", "v2", "v3", "v4"].map(str::to_owned).to_vec(), true));
    assert!(repo.tags("master", TagFilter::default(), None, 9).unwrap().0.is_empty());
    let conflict = |made: Result<_, Error>| assert!(matches!(made, Err(Error::Conflict { .. })));
    conflict(repo.create_tag("user", "demo@az1", "v1", None, "m", "jo").map(|_| ()));
    conflict(repo.create_tag("admin", "demo@az1", "v1", None, "m", "jo").map(|_| ()));
    for bad in ["", "a b", "a&b", "-x", "x..y", "x.lock", "ä", "x/y", &"x".repeat(65)] {
        assert!(
            matches!(repo.create_tag("user", "demo@az1", bad, None, "m", "jo"), Err(Error::Invalid { .. })),
            "{bad}"
        );
    }
    // only what is on the branch can be marked there
    repo.create_branch("other@az1").unwrap();
    assert!(matches!(repo.create_tag("user", "other@az1", "x", Some(&own), "m", "jo"), Err(Error::NotFound { .. })));
    assert!(matches!(repo.create_tag("user", "gone@az1", "x", None, "m", "jo"), Err(Error::NotFound { .. })));
    let of = own.clone();
    let other = CommitId::parse(&"1".repeat(40)).unwrap();
    assert_eq!(repo.delete_tag("demo@az1", "v1", Some(&[other])).unwrap(), Some(of.clone()), "it stays");
    assert_eq!(repo.delete_tag("demo@az1", "v1", Some(std::slice::from_ref(&of))).unwrap(), None);
    assert!(matches!(repo.delete_tag("demo@az1", "v1", None), Err(Error::NotFound { .. })));
    repo.delete_branch("demo@az1").unwrap();
    let dir = home.path().join("config.git");
    assert_eq!(git(&dir, &["tag"]), "");
    git(&dir, &["fsck", "--full"]);
}

#[test]
fn what_is_refused_of_a_write() {
    let (_home, repo) = with_branch();
    let before = repo.resolve("demo@az1").unwrap();
    let three = file(&[("heap", "string", "12", ""), ("password", "string", "x", ""), ("level", "string", "LOUD", "")]);
    let table: &[(&str, String, &[&str])] = &[
        (USER, "{".into(), &["user.json:1: is not JSON"]),
        (USER, "{\"type\":\"xml\"}".into(), &["/type: ", "\"content\" is a required property"]),
        (
            USER,
            user("12", "LOUD", "x"),
            &[":2 /content/0/options/0/value: \"12\" is not at least 64", "one of INFO, DEBUG"],
        ),
        (USER, user("many", "INFO", "x"), &["\"many\" is not a whole number"]),
        (USER, three, &["main.heap: only its value can be changed"]),
        (
            USER,
            user("128", "INFO", "x").replace("heap", "port"),
            &["main.port is not one of the keys", "main.heap is missing"],
        ),
        ("app/tuna/1.0/default.json", default(), &["belongs to master"]),
        ("metadata/zookeeper.json", "{}".into(), &["belongs to master"]),
        ("README.md", String::new(), &["is not a file below app/, service/"]),
        ("app/../x", String::new(), &["has a meaning of its own"]),
    ];
    for (path, content, texts) in table {
        let told = faults(repo.edit("demo@az1", None, path, content, "m", "jo").unwrap_err()).join("\n");
        for text in *texts {
            assert!(told.contains(text), "no {text:?} in {told}");
        }
        assert!(!told.contains("geheim"), "{told}");
    }
    assert!(matches!(
        repo.edit("demo@az1", None, "app/tuna/2.0/user.json", &user("128", "INFO", "x"), "m", "jo"),
        Err(Error::NotFound { .. })
    ));
    assert_eq!(repo.resolve("demo@az1").unwrap(), before);
    // on master: what reads the file has to be able to
    let meta = String::from_utf8(repo.read(&before, "metadata/zookeeper.json").unwrap().unwrap()).unwrap();
    let told = |path: &str, content: String| {
        faults(repo.edit("master", None, path, &content, "m", "op").unwrap_err()).join("\n")
    };
    let odd = meta.replace("\"default_version\": \"3.8.0\"", "\"default_version\": \"9\"");
    assert!(told("metadata/zookeeper.json", odd).contains("\"9\" is not one of the versions"));
    let strange = meta.replace("\"sizes\"", "\"seizes\"");
    assert!(told("metadata/zookeeper.json", strange).contains("seizes"));
    let narrow = default().replace("\"min\": 64", "\"min\": 256").replace("\"128\"", "\"300\"");
    assert!(told("app/tuna/1.0/default.json", narrow).contains("user.json /content/0/options/0/value"));
    repo.edit("master", None, "metadata/zookeeper.json", &(meta + "\n"), "m", "op").unwrap();
    // two versions of the truth
    let stale = before;
    repo.edit("demo@az1", Some(&stale), USER, &user("200", "INFO", SECRET), "m", "jo").unwrap();
    let lost = repo.edit("demo@az1", Some(&stale), USER, &user("300", "INFO", SECRET), "m", "jo");
    assert!(matches!(lost, Err(Error::Conflict { .. })));
}

#[test]
fn secrets_are_kept_and_not_shown() {
    let (_home, repo) = with_branch();
    let shown = |reference: &str| repo.read_shown(&repo.resolve(reference).unwrap(), USER).unwrap().unwrap();
    assert!(shown("demo@az1").contains(SECRET) && !shown("demo@az1").contains("geheim"));
    // what was read is written back with another value
    let text = shown("demo@az1").replace("\"128\"", "\"512\"");
    let one = repo.edit("demo@az1", None, USER, &text, "more", "jo").unwrap();
    let kept = String::from_utf8(repo.read(&one, USER).unwrap().unwrap()).unwrap();
    assert!(kept.contains("geheim") && kept.contains("512"), "{kept}");
    let two = repo.edit("demo@az1", None, USER, &text.replace(SECRET, "neu"), "other", "jo").unwrap();
    let diff = repo.diff(&one, &two).unwrap();
    let key = &diff.files[0].keys[0];
    assert_eq!((key.key.as_str(), key.old.as_deref(), key.new.as_deref()), ("password", Some(SECRET), Some(SECRET)));
    let origin = repo.origins(&two, KIND, "1.0").unwrap().into_iter().find(|v| v.key == "password").unwrap();
    assert_eq!((origin.value, origin.secret, origin.set_by.unwrap().commit), (SECRET.into(), true, two.to_string()));
    // no file has secrets: it is shown as it stands
    let service = repo.read(&two, "service/default.json").unwrap().unwrap();
    assert_eq!(repo.read_shown(&two, "service/default.json").unwrap().unwrap().into_bytes(), service);
}

#[test]
fn differences_history_and_origins() {
    let (_home, repo) = with_branch();
    let start = repo.resolve("demo@az1").unwrap();
    let one = repo.edit("demo@az1", None, USER, &user("256", "INFO", SECRET), "more heap\n", "jo").unwrap();
    let two = repo.edit("demo@az1", None, USER, &user("256", "DEBUG", SECRET), "noisy", "Mo <mo@x.org>").unwrap();
    let diff = repo.diff(&start, &two).unwrap();
    let [file] = diff.files.as_slice() else { panic!("{diff:?}") };
    let keys: Vec<_> = file.keys.iter().map(|k| (k.key.as_str(), k.old.as_deref(), k.new.as_deref())).collect();
    assert_eq!((file.path.as_str(), file.change), (USER, FileChange::Changed));
    assert_eq!(keys, [("heap", Some("128"), Some("256")), ("level", Some("INFO"), Some("DEBUG"))]);
    assert!(repo.diff(&two, &two).unwrap().files.is_empty());
    let whole = repo.diff(&CommitId::parse(&root(&repo)).unwrap(), &two).unwrap();
    assert!(whole.files.iter().all(|f| f.change == FileChange::Added && f.path.starts_with("app/tuna/")), "{whole:?}");
    // history of the file, page by page, and of everything
    let log = |path: &str, after: Option<&CommitId>, limit| {
        let (items, next) = repo.log(&two, path, after, limit).unwrap();
        (items.into_iter().map(|c| c.message).collect::<Vec<_>>(), next)
    };
    let (page, next) = log(USER, None, 2);
    assert_eq!((page, next.as_ref()), (vec!["noisy".to_owned(), "more heap".to_owned()], Some(&one)));
    assert_eq!(log(USER, next.as_ref(), 2).0, ["tuna 1.0"]);
    assert_eq!(log("service", None, 9).0, ["Defaults of this version of StraaS"]);
    assert_eq!(log("", None, 9).0.len(), 4);
    assert!(matches!(repo.log(&start, "", Some(&two), 9), Err(Error::NotFound { .. })));
    // who set what
    let origins = repo.origins(&two, KIND, "1.0").unwrap();
    let of = |key: &str| origins.iter().find(|value| value.key == key).unwrap();
    let by = |key: &str| of(key).set_by.clone().unwrap();
    assert_eq!((by("heap").commit, by("heap").author.as_str()), (one.to_string(), "jo"));
    assert_eq!((by("level").commit, by("level").author.as_str()), (two.to_string(), "Mo"));
    assert_eq!((of("heap").value.clone(), of("heap").default.clone()), (256.into(), 128.into()));
    assert_eq!((by("port").message.as_str(), of("port").file.as_str()), ("tuna 1.0", "app/tuna/1.0/default.json"));
    assert!(of("heap").settable && !of("port").settable);
}

/// The first commit of master.
fn root(repo: &ConfigRepo) -> String {
    repo.log(&repo.head().unwrap(), "", None, 500).unwrap().0.pop().unwrap().commit
}
