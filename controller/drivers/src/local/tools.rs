//! Running the machine's own programs, and small file work that must be durable.
//!
//! A missing program is reported with the Debian package that has it; a failing one with the last
//! lines it wrote. Nothing here ever passes a secret as an argument.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::error::HostError;

/// How much of a failing program's output an error carries: enough for apt's last complaint.
const OUTPUT_TAIL_BYTES: usize = 2000;

/// Which Debian package has a program.
const PACKAGES: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mmdebstrap", "mmdebstrap"),
    ("apt-ftparchive", "apt-utils"),
    ("apt-config", "apt"),
    ("gpg", "gnupg"),
    ("gpgconf", "gnupg"),
    ("dpkg", "dpkg"),
    ("dpkg-deb", "dpkg"),
];

/// Runs to the end with captured output; anything but exit code 0 is an error that says `what`.
pub fn run(what: &str, command: &mut Command) -> Result<Output, HostError> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| spawn_error(what, command, e))?;
    if output.status.success() { Ok(output) } else { Err(failed(what, &output)) }
}

/// Runs with a text on its standard input; otherwise as [`run`].
pub fn run_with_input(what: &str, command: &mut Command, input: &str) -> Result<Output, HostError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| spawn_error(what, command, e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early closes its input; its exit status tells the story.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(HostError::io(what))?;
    if output.status.success() { Ok(output) } else { Err(failed(what, &output)) }
}

/// Fails at once, naming the package, when a program is not on the machine's path.
pub fn need(tool: &str) -> Result<(), HostError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|dir| dir.join(tool).is_file());
    if found { Ok(()) } else { Err(missing(tool)) }
}

/// Why a program could not be started.
pub fn spawn_error(what: &str, command: &Command, error: io::Error) -> HostError {
    let tool = command.get_program().to_string_lossy().into_owned();
    match error.kind() {
        io::ErrorKind::NotFound if !tool.contains('/') => missing(&tool),
        _ => HostError::io(format!("{what}: cannot start {tool}"))(error),
    }
}

fn missing(tool: &str) -> HostError {
    let package = PACKAGES.iter().find(|(name, _)| *name == tool).map_or("the package that has it", |(_, p)| p);
    HostError::MissingTool { tool: tool.to_owned(), package }
}

/// An error with the last words of a program.
pub fn failed(what: &str, output: &Output) -> HostError {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    HostError::Command { what: what.to_owned(), status: output.status.to_string(), output: tail(text) }
}

/// The last part of an output, cut at a line start.
pub fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(OUTPUT_TAIL_BYTES);
    let text = String::from_utf8_lossy(&bytes[start..]);
    let text = if start == 0 { &text[..] } else { text.split_once('\n').map_or(&text[..], |(_, rest)| rest) };
    text.trim().to_owned()
}

/// Writes a file so that after a crash it has either its old or its new content, never a part.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<(), HostError> {
    let fail = || HostError::at("write", path);
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = dir.join(name);
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new).map_err(fail())?;
    file.write_all(content).map_err(fail())?;
    file.sync_all().map_err(fail())?;
    fs::rename(&new, path).map_err(fail())?;
    sync_dir(dir)
}

/// Makes the entries of a directory durable.
pub fn sync_dir(dir: &Path) -> Result<(), HostError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(HostError::at("sync", dir))
}

/// Opens (creating it) a lock file, without locking it yet.
pub fn lock_file(path: &Path) -> Result<File, HostError> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(HostError::at("open", path))
}

/// Removes a tree; a tree that is not there is fine.
pub fn remove_tree(path: &Path) -> Result<(), HostError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(HostError::at("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes a directory and its parents.
pub fn make_dirs(path: &Path) -> Result<(), HostError> {
    fs::create_dir_all(path).map_err(HostError::at("create", path))
}

/// Refuses paths that cannot stand in overlayfs' mount options.
pub fn check_mountable(path: &Path) -> Result<(), HostError> {
    let text = path.to_string_lossy();
    if path.is_absolute() && !text.contains([',', ':', '\\', '"', '\n']) && path.to_str().is_some() {
        return Ok(());
    }
    Err(HostError::Invalid {
        field: "path",
        reason: format!("{text:?} must be absolute and free of , : \\ and quotes to be mounted"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = run("x", &mut Command::new("mmdebstrap-that-is-not-there")).unwrap_err();
        assert!(matches!(error, HostError::MissingTool { .. }), "{error}");
        assert_eq!(missing("apt-ftparchive").hint().as_deref(), Some("apt-get install apt-utils"));
    }

    #[test]
    fn the_tail_starts_at_a_line() {
        let long = format!("{}\nlast line\n", "x".repeat(OUTPUT_TAIL_BYTES));
        assert_eq!(tail(long.as_bytes()), "last line");
    }
}
