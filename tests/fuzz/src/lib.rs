//! What reads bytes of tenants, of agents, of scripts and of repositories, each as a function that must hold for any
//! bytes: it never panics, and what it lets through is what the rest relies on.
//!
//! A plain library, so that a failing input is replayed by an ordinary test and read in a debugger; the engine that
//! looks for such inputs is a program beside it (`main.rs`).
//!
//! Never here: a copy of a parser. Each target calls what the daemons call.

mod agents;
mod repos;
mod scripts;
mod users;

/// One parser, or several that read the same kind of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Holds for any bytes.
    pub run: fn(&[u8]),
    /// Files to begin with, below the project's root: folders.
    pub seeds: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request", run: users::request, seeds: &["schemas/golden", "tests/fuzz/seeds/request"] },
    Target { name: "reference", run: repos::reference, seeds: &["tests/fuzz/seeds/reference"] },
    Target {
        name: "config_file",
        run: repos::config_file,
        seeds: &[
            "controller/repos/defaults/app/zookeeper/3.8.0",
            "controller/repos/defaults/metadata",
            "tests/fuzz/seeds/config_file",
        ],
    },
    Target { name: "agent_body", run: agents::body, seeds: &["schemas/golden"] },
    Target { name: "messages", run: scripts::messages, seeds: &["tests/fuzz/seeds/messages"] },
    Target { name: "site_pp", run: scripts::site_pp, seeds: &["nodeagent/testdata"] },
    Target { name: "secrets", run: scripts::secrets, seeds: &["tests/fuzz/seeds/secrets"] },
    Target { name: "arguments", run: scripts::arguments, seeds: &["tests/fuzz/seeds/arguments"] },
    Target { name: "pack", run: agents::pack, seeds: &[] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What the engine begins with holds; also a first look at an input that it found: put it among the seeds.
    #[test]
    fn seeds_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for target in TARGETS {
            (target.run)(b"");
            for folder in target.seeds {
                let folder = root.join(folder);
                let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                let mut count = 0;
                for path in files.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
                    (target.run)(&std::fs::read(&path).expect("a file"));
                    count += 1;
                }
                assert!(count > 0, "{}: no seeds", folder.display());
            }
        }
    }
}
