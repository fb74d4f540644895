//! From `group/name` to a program of the active release and its description.
//!
//! Never here: a path that leaves the release, by its name or by a symlink.

use super::Refusal;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use straas_schemas::command::CommandMeta;

/// Longest group and longest name.
const NAME_MAX: usize = 64;
/// Largest description.
const META_BYTES_MAX: u64 = 64 * 1024;
/// Folders of `guestcmds/` that are no groups.
const NO_GROUPS: [&str; 3] = ["lib", "schema", "tests"];

/// A command of the release.
#[derive(Debug)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// Its description.
    pub meta: CommandMeta,
}

/// Finds a command.
pub fn find(release: &Path, command: &str) -> Result<Found, Refusal> {
    let commit = release.file_name().unwrap_or_default().to_string_lossy();
    let missing = || {
        let commit = commit.get(..12).unwrap_or(&commit);
        Refusal::Missing(format!("the scripts {commit} on this node have no guest command {command:?}"))
    };
    let (group, name) =
        command.split_once('/').filter(|(group, name)| is_name(group) && is_name(name)).ok_or_else(|| {
            format!("{command:?} is not of the form group/name (a-z, 0-9, '-' and '_', at most {NAME_MAX} each)")
        })?;
    if release.as_os_str().is_empty() || NO_GROUPS.contains(&group) {
        return Err(missing());
    }
    let dir = release.join("guestcmds").join(group);
    let program = dir.join(name);
    let real = std::fs::canonicalize(&program).map_err(|_| missing())?;
    let about = std::fs::canonicalize(dir.join(format!("{name}.json")));
    let about = about.map_err(|error| format!("{command}: its description {name}.json cannot be read: {error}"))?;
    let inside = std::fs::canonicalize(release).map_err(|_| missing())?;
    if !real.starts_with(&inside) || !about.starts_with(&inside) {
        return Err(format!("{command} is a link that leaves the script repository").into());
    }
    let executable = |m: std::fs::Metadata| m.is_file() && m.permissions().mode() & 0o100 != 0;
    if !std::fs::metadata(&real).is_ok_and(executable) {
        return Err(format!("{command} is no executable file").into());
    }
    Ok(Found { program, meta: read(&about).map_err(|error| format!("{command}: its description: {error}"))? })
}

fn read(path: &Path) -> Result<CommandMeta, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(META_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > META_BYTES_MAX {
        return Err(format!("it is over {META_BYTES_MAX} bytes"));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_is_a_command_of_this_release() {
        let top = tempfile::tempdir().expect("a directory");
        let release = top.path().join("0123456789abcdef");
        let dir = release.join("guestcmds/zk-cmd");
        fs::create_dir_all(&dir).expect("made");
        fs::create_dir_all(release.join("guestcmds/lib")).expect("made");
        let about = r#"{"description":"d","arguments":{"type":"object"},"timeout_s":3,"idempotent":true}"#;
        let put = |path: PathBuf, text: &str, mode: u32| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        };
        put(dir.join("good"), "#!/bin/sh\n", 0o755);
        put(dir.join("good.json"), about, 0o644);
        put(dir.join("plain"), "#!/bin/sh\n", 0o644);
        put(dir.join("plain.json"), about, 0o644);
        put(dir.join("bare"), "#!/bin/sh\n", 0o755);
        put(dir.join("odd"), "#!/bin/sh\n", 0o755);
        put(dir.join("odd.json"), "{\"description\":1}", 0o644);
        put(release.join("guestcmds/lib/tool"), "#!/bin/sh\n", 0o755);
        put(top.path().join("outside"), "#!/bin/sh\n", 0o755);
        std::os::unix::fs::symlink("../../../outside", dir.join("out")).expect("linked");
        put(dir.join("out.json"), about, 0o644);
        std::os::unix::fs::symlink("good", dir.join("alias")).expect("linked");
        put(dir.join("alias.json"), about, 0o644);

        assert_eq!(find(&release, "zk-cmd/good").expect("found").meta.timeout_s, 3);
        find(&release, "zk-cmd/alias").expect("a link inside");
        let check = |command: &str, missing: bool, part: &str| match find(&release, command).expect_err(command) {
            Refusal::Missing(reason) => assert!(missing && reason.contains(part), "{command}: {reason}"),
            Refusal::Impossible(reason) => assert!(!missing && reason.contains(part), "{command}: {reason}"),
        };
        check("zk-cmd/none", true, "the scripts 0123456789ab on this node have no guest command");
        check("lib/tool", true, "no guest command");
        check("zk-cmd/out", false, "leaves the script repository");
        check("zk-cmd/plain", false, "no executable");
        check("zk-cmd/bare", false, "bare.json");
        check("zk-cmd/odd", false, "description");
        for bad in
            ["good", "../x/good", "zk-cmd/../zk-cmd/good", "zk-cmd/good.json", "/zk-cmd/good", "a/b/c", "", "A/b"]
        {
            check(bad, false, "group/name");
        }
        assert!(matches!(find(Path::new(""), "zk-cmd/good"), Err(Refusal::Missing(_))));
    }
}
