//! Rules of the house, as tests: what a reviewer would have to say again and again.
//!
//! Reads the tree, knows nothing of the code. Each fault names file and line and says what to do.
//! ARCHITECTURE.md explains the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use straas_tests::root;

/// Most lines of production code in a file: what one can hold in mind.
const LINES_MAX: usize = 500;

/// What the daemons and the CLI stand on. The members of a layer do not know each other.
const MIDDLE: &[&str] =
    &["straas-schemas", "straas-planner", "straas-store", "straas-repos", "straas-converge", "straas-drivers"];

/// What the tests stand on.
const ALL: &[&str] = &[
    "straas-schemas",
    "straas-planner",
    "straas-store",
    "straas-repos",
    "straas-converge",
    "straas-drivers",
    "straas-controller",
    "straas-agent",
    "straas-cli",
    "straas-fuzz",
];

/// Crates by folder, with the crates of ours that each may use. Whoever is not listed is a fault.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("schemas", "straas-schemas", &[]),
    ("controller/planner", "straas-planner", &["straas-schemas"]),
    ("controller/store", "straas-store", &["straas-schemas"]),
    ("controller/repos", "straas-repos", &["straas-schemas"]),
    ("nodeagent/converge", "straas-converge", &["straas-schemas"]),
    // the outer world: knows nothing of ours
    ("controller/drivers", "straas-drivers", &[]),
    ("controller", "straas-controller", MIDDLE),
    ("nodeagent", "straas-agent", MIDDLE),
    ("controller/cli", "straas-cli", MIDDLE),
    ("tests", "straas-tests", ALL),
    ("tests/fuzz", "straas-fuzz", ALL),
    ("tests/swarm", "straas-swarm", ALL),
];

/// The only files that may know both the planner and the store, each with the folder of its parts.
const BRIDGES: [&str; 2] = ["controller/src/snapshot.rs", "controller/src/apply.rs"];

/// Endings of type names that are not words of the house, with what may end so.
const HOLLOW: [(&str, &[&str]); 4] = [
    ("Manager", &["struct", "enum", "trait"]),
    ("Utils", &["struct", "enum", "trait"]),
    ("Util", &["struct", "enum", "trait"]),
    // a service is what runs on a node
    ("Service", &["struct"]),
];

struct Text {
    path: String,
    body: String,
}

impl Text {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.body.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// This file holds the words that it forbids.
    fn is_this(&self) -> bool {
        self.path == "tests/tests/tidy.rs"
    }
}

/// Every file that belongs to the tree, by its path from the root.
fn files() -> Vec<(String, PathBuf)> {
    let mut out = Vec::new();
    collect(&root(), "", &mut out);
    out.sort();
    assert!(out.len() > 50, "the tree was not found at {}", root().display());
    out
}

fn collect(dir: &Path, prefix: &str, out: &mut Vec<(String, PathBuf)>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.expect("an entry of a folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a kind of file");
        // what is not committed does not count; in a second working tree .git is a file
        let passing = ["target", ".git", "node_modules", "__pycache__"].contains(&name.as_str());
        if kind.is_dir() && !passing {
            collect(&entry.path(), &format!("{path}/"), out);
        } else if kind.is_file()
            && !passing
            && ![".snap.new", ".pending-snap", ".pyc"].iter().any(|end| name.ends_with(end))
        {
            out.push((path, entry.path()));
        }
    }
}

/// The text files of the tree.
fn texts() -> Vec<Text> {
    let read =
        |(path, full): (String, PathBuf)| Some(Text { path, body: String::from_utf8(fs::read(full).ok()?).ok()? });
    files().into_iter().filter_map(read).filter(|text| !text.body.contains('\0')).collect()
}

fn rust() -> Vec<Text> {
    texts().into_iter().filter(|t| t.path.ends_with(".rs")).collect()
}

fn verdict(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "\n{rule}\n  {}\n", faults.join("\n  "));
}

// --- layers ---------------------------------------------------------------------------------

/// Names of our crates in the dependency tables of a manifest, with the line of each.
fn own_dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut in_table = false;
    for (i, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            // [dependencies], [dev-dependencies], [target.'cfg(x)'.build-dependencies], [dependencies.straas-x]
            let table = line.trim_matches(['[', ']']);
            in_table = table.ends_with("dependencies");
            if let Some((head, name)) = table.rsplit_once('.')
                && head.ends_with("dependencies")
                && name.starts_with("straas-")
            {
                out.push((i + 1, name.to_owned()));
            }
        } else if in_table && let Some(name) = line.split(['.', '=', ' ']).next().filter(|n| n.starts_with("straas-")) {
            out.push((i + 1, name.to_owned()));
        } else if in_table && let Some((_, renamed)) = line.split_once("package = \"straas-") {
            out.push((i + 1, format!("straas-{}", renamed.split('"').next().unwrap_or_default())));
        }
    }
    out
}

#[test]
fn layers_go_strictly_downward() {
    let manifests: BTreeMap<String, String> = texts()
        .into_iter()
        .filter(|t| t.path.ends_with("Cargo.toml") && t.path != "Cargo.toml")
        .map(|t| (t.path, t.body))
        .collect();
    let mut faults = Vec::new();
    for path in manifests.keys() {
        if !LAYERS.iter().any(|(folder, ..)| *path == format!("{folder}/Cargo.toml")) {
            faults.push(format!("{path}: a crate that has no place in the layers; give it one in {}", file!()));
        }
    }
    for (folder, name, allowed) in LAYERS {
        let path = format!("{folder}/Cargo.toml");
        let Some(manifest) = manifests.get(&path) else {
            faults.push(format!("{path}: is missing"));
            continue;
        };
        if !manifest.contains(&format!("name = \"{name}\"")) {
            faults.push(format!("{path}: folder and crate belong together: call it {name}"));
        }
        for (line, used) in own_dependencies(manifest) {
            // a crate's own tests may use the crate itself
            if !allowed.contains(&used.as_str()) && used != *name {
                faults.push(format!("{path}:{line}: {name} must not use {used}; it may use {allowed:?}"));
            }
        }
    }
    verdict("Layers go strictly downward (ARCHITECTURE.md), in [dev-dependencies] too.", &faults);
}

#[test]
fn only_two_files_know_both_planner_and_store() {
    let faults: Vec<String> = rust()
        .iter()
        .filter(|t| !t.is_this() && !BRIDGES.iter().any(|bridge| t.path.starts_with(bridge.trim_end_matches(".rs"))))
        .filter(|t| t.body.contains("straas_planner") && t.body.contains("straas_store"))
        .map(|t| format!("{}: names both; move what translates between them to one of {BRIDGES:?}", t.path))
        .collect();
    verdict("The planner and the store do not know each other.", &faults);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let mut faults = Vec::new();
    for text in texts().iter().filter(|t| t.path.ends_with("Cargo.toml") && t.path != "Cargo.toml") {
        let lints =
            text.body.split("[lints]").nth(1).is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
        if !lints {
            faults.push(format!("{}: add\n    [lints]\n    workspace = true", text.path));
        }
    }
    verdict("One set of lints for all crates.", &faults);
}

// --- files ----------------------------------------------------------------------------------

#[test]
fn every_rust_file_says_what_it_is() {
    let faults: Vec<String> = rust()
        .iter()
        .filter(|t| !t.body.starts_with("//!"))
        .map(|t| format!("{}:1: begin with `//!`: what it is; why it is so; what it never does", t.path))
        .collect();
    verdict("Every .rs file opens with a module comment.", &faults);
}

/// Lines of a file without its `#[cfg(test)]` modules.
fn production_lines(body: &str) -> usize {
    let mut count = 0;
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let module = |l: &&str| l.trim_start().starts_with("mod ") || l.trim_start().starts_with("pub mod ");
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(module) {
            let indent = line.len() - line.trim_start().len();
            let one_line = lines.next().is_some_and(|l| l.trim_end().ends_with(';'));
            // rustfmt puts the closing brace where the attribute stands
            while !one_line && lines.next().is_some_and(|l| l.trim_end() != format!("{}}}", " ".repeat(indent))) {}
        } else {
            count += 1;
        }
    }
    count
}

#[test]
fn files_are_small() {
    let mut faults = Vec::new();
    for text in rust().iter().filter(|t| !t.is_test()) {
        let lines = production_lines(&text.body);
        if lines > LINES_MAX {
            faults.push(format!("{}: {lines} lines of production code; split it by what it is about", text.path));
        }
    }
    verdict(&format!("At most {LINES_MAX} lines of production code in a file."), &faults);
}

#[test]
fn test_modules_are_not_counted() {
    let body = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\n#[cfg(test)]\nuse x;\n";
    assert_eq!(production_lines(body), 5);
}

#[test]
fn text_files_end_with_a_newline() {
    let faults: Vec<String> = texts()
        .iter()
        .filter(|t| !t.body.is_empty() && !t.body.ends_with('\n'))
        .map(|t| format!("{}:{}: add a newline at the end", t.path, t.body.lines().count()))
        .collect();
    verdict("Text files end with a newline.", &faults);
}

/// What the first line says that the file is run by, if it is a script.
fn interpreter(text: &Text) -> Option<&str> {
    text.body.lines().next().and_then(|first| first.strip_prefix("#!"))
}

/// Whether a text that begins like a script is none: an inner attribute of Rust, or expected output.
fn passes(path: &str) -> bool {
    path.ends_with(".rs") || path.contains("/golden/") || path.contains("/snapshots/")
}

#[test]
fn scripts_can_be_run_and_say_what_they_are() {
    let mut faults = Vec::new();
    for text in texts() {
        // a .sh without `#!` is read by others; it needs a header all the same
        let sourced = text.path.ends_with(".sh") && interpreter(&text).is_none();
        let Some(run_by) = interpreter(&text).or(sourced.then_some("")).filter(|_| !passes(&text.path)) else {
            continue;
        };
        let mode = fs::metadata(root().join(&text.path)).map_or(0, |m| m.permissions().mode());
        if mode & 0o111 == 0 && !sourced {
            faults.push(format!("{}:1: has `#!{run_by}` and cannot be run: chmod +x", text.path));
        }
        let header =
            text.body.lines().skip(usize::from(!sourced)).find(|l| !l.trim().is_empty() && !l.contains("coding:"));
        if !header.is_some_and(|l| l.starts_with('#') && l.len() > 5 || l.starts_with("\"\"\"")) {
            faults.push(format!("{}:2: say in a comment below the first line what the script does", text.path));
        }
    }
    verdict("Scripts are executable and open with a comment.", &faults);
}

// --- words ----------------------------------------------------------------------------------

#[test]
fn types_have_names_that_say_something() {
    let mut faults = Vec::new();
    for text in rust().iter().filter(|t| !t.is_this()) {
        for (number, line) in text.lines() {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
            let declares = words.by_ref().take(4).find(|w| ["struct", "enum", "trait"].contains(w));
            let is_code = !line.trim_start().starts_with("//");
            let (Some(declares), Some(name)) = (declares.filter(|_| is_code), words.next()) else { continue };
            if let Some((hollow, _)) = HOLLOW.iter().find(|(h, of)| name.ends_with(h) && of.contains(&declares)) {
                let at = format!("{}:{number}", text.path);
                faults.push(format!("{at}: {name}: \"{hollow}\" says nothing; name it after what it is or does"));
            }
            if name == "State" {
                faults.push(format!("{}:{number}: State of what? desired, observed, standing, phase ...", text.path));
            }
        }
    }
    verdict("Type names use the words of the house (glossary in ARCHITECTURE.md).", &faults);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"];
    let mut faults = Vec::new();
    for text in texts().iter().filter(|t| !t.is_this() && t.path != "Cargo.lock") {
        for (number, line) in text.lines() {
            if let Some(mark) = marks.iter().find(|m| contains_word(line, m)) {
                faults.push(format!(
                    "{}:{number}: {mark}: do it now, or write down as a fact what is not done",
                    text.path
                ));
            }
        }
    }
    verdict("The tree holds no promises.", &faults);
}

/// Whether a text holds a mark that is not a part of a longer word (`mktemp -t x.XXXXXX`).
fn contains_word(line: &str, mark: &str) -> bool {
    let free = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(mark).any(|(at, _)| {
        let after = line[at + mark.len()..].chars().next();
        free(line[..at].chars().next_back()) && (mark.ends_with('(') || free(after))
    })
}

#[test]
fn nothing_tells_of_where_it_was_made() {
    // split, so that this file is no fault of its own
    let words = [
        concat!("/wo", "rk/"),
        concat!("iss", "ue 2"),
        concat!("iss", "ue #"),
        concat!("iss", "ues show"),
        concat!("cont", "ract.md"),
    ];
    let mut faults = Vec::new();
    for text in texts() {
        for (number, line) in text.lines() {
            let low = line.to_lowercase();
            if let Some(word) = words.iter().find(|w| tells(&low, w)) {
                faults
                    .push(format!("{}:{number}: {word:?} means nothing to a reader; say the reason itself", text.path));
            }
        }
    }
    verdict("The text stands on its own.", &faults);
}

/// A folder counts only as a path from the root.
fn tells(line: &str, word: &str) -> bool {
    let inside = |at: usize| line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "_-.}/".contains(c));
    line.match_indices(word).any(|(at, _)| !(word.starts_with('/') && inside(at)))
}

#[test]
fn tests_do_not_sleep_without_a_reason() {
    let sleeps = [concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];
    let mut faults = Vec::new();
    for text in rust() {
        let lines: Vec<&str> = text.body.lines().collect();
        let tests_from = lines.iter().position(|l| l.trim() == "#[cfg(test)]").filter(|_| !text.is_test());
        let first = if text.is_test() { Some(0) } else { tests_from };
        for (i, line) in lines.iter().enumerate().skip(first.unwrap_or(lines.len())) {
            let plain = line.trim_start().starts_with(concat!("sl", "eep("));
            let explained = line.contains("// waits for:") || i > 0 && lines[i - 1].contains("// waits for:");
            if (plain || sleeps.iter().any(|s| line.contains(s))) && !explained {
                let at = format!("{}:{}", text.path, i + 1);
                faults.push(format!(
                    "{at}: wait for the event itself, or say `// waits for: ...` and why no event tells"
                ));
            }
        }
    }
    verdict("Tests wait for events, not for time.", &faults);
}

// --- links ----------------------------------------------------------------------------------

#[test]
fn links_between_documents_hold() {
    let there: BTreeSet<String> = files().into_iter().map(|(path, _)| path).collect();
    let mut faults = Vec::new();
    for text in texts().iter().filter(|t| t.path.ends_with(".md")) {
        for (number, line) in text.lines() {
            for target in line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next()) {
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
                if !elsewhere && !resolves(&there, &text.path, file) {
                    faults.push(format!("{}:{number}: there is no {file}; correct the link", text.path));
                }
            }
        }
    }
    verdict("Links to files of the tree resolve.", &faults);
}

/// Whether a link from a document leads to a file or a folder of the tree.
fn resolves(there: &BTreeSet<String>, from: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    path.is_empty() || there.contains(&path) || there.iter().any(|file| file.starts_with(&format!("{path}/")))
}
