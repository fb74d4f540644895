//! What tools say of single files: interpreters that only parse, shellcheck, Puppet's parser.
//!
//! Runs nothing of what it checks. A tool that is not installed is passed over; what it would have
//! found is found on the first node.

use super::check::is_run;
use crate::error::CliError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use straas_repos::FileFault;

/// The last lines of a tool that are told; the first of them explain the others.
const LINES_MAX: usize = 5;

/// The folders of a component.
const PARTS: [&str; 7] = ["cmd", "pre_config", "puppet", "guestcmds", "metadata", "app", "service"];

/// Every file of a component's folder: its path there, and where it is.
pub fn files(dir: &Path) -> Result<Vec<(String, PathBuf)>, CliError> {
    let mut out = Vec::new();
    let mut open: Vec<(String, PathBuf)> = PARTS.iter().map(|part| ((*part).to_owned(), dir.join(part))).collect();
    open.retain(|(_, path)| path.is_dir());
    while let Some((below, folder)) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{below}/{name}");
            if name == "__pycache__" || name.ends_with(".pyc") || name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push((path, entry.path()));
            } else {
                out.push((path, entry.path()));
            }
        }
    }
    out.sort();
    Ok(out)
}

fn fault(path: &str, message: String) -> FileFault {
    FileFault { file: path.to_owned(), line: None, pointer: String::new(), message }
}

/// Whether a file is a shell script, by its first line or its name.
fn is_shell(path: &str, first: &str) -> bool {
    first.starts_with("#!") && first.ends_with("sh") || path.ends_with(".sh")
}

/// What other programs say of one file.
pub fn asked(path: &str, file: &Path, content: &[u8]) -> Vec<FileFault> {
    let text = String::from_utf8_lossy(content);
    let first = text.lines().next().unwrap_or_default();
    let mut found = Vec::new();
    if is_shell(path, first) {
        found.extend(said(path, file, Command::new("bash").arg("-n").arg(file)));
        let mut shellcheck = Command::new("shellcheck");
        // what is sourced stands in the script repo, not beside this file
        shellcheck.args(["--severity=warning", "--format=gcc", "-e", "SC1091,SC1090,SC2154", "-s", "bash"]).arg(file);
        found.extend(said(path, file, &mut shellcheck));
    } else if first.contains("python") {
        let parse = "import ast,sys; ast.parse(open(sys.argv[1],encoding='utf-8').read(), sys.argv[1])";
        found.extend(said(path, file, Command::new("python3").args(["-c", parse]).arg(file)));
    }
    found
}

/// What is wrong with one file as a program or as one of a pair.
pub fn faults(path: &str, file: &Path, content: &[u8]) -> Vec<FileFault> {
    let mut found = Vec::new();
    let text = String::from_utf8_lossy(content);
    let first = text.lines().next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').collect();
    let command = parts.len() == 3 && parts[0] == "guestcmds" && !["lib", "schema"].contains(&parts[1]);
    if command {
        let other = if path.ends_with(".json") { file.with_extension("") } else { with_json(file) };
        if !other.is_file() {
            let name = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(fault(
                path,
                format!("has no {name} beside it: a guest command is a program and its description"),
            ));
        }
    }
    let runs = command && !path.ends_with(".json")
        || parts.len() == 2 && parts[0] == "pre_config"
        || parts.len() == 4 && parts[0] == "cmd" && path.ends_with(".sh");
    if runs && !first.starts_with("#!") {
        found.push(fault(path, "begins with no #! line, so nothing can run it".into()));
    }
    if runs && !is_run(file) {
        found.push(fault(path, format!("is not executable: chmod +x {path}")));
    }
    found
}

fn with_json(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// What a tool complains about; nothing if it is content or not there.
fn said(path: &str, file: &Path, command: &mut Command) -> Option<FileFault> {
    let done = command.stdin(Stdio::null()).output().ok()?;
    if done.status.success() {
        return None;
    }
    let text = format!("{}{}", String::from_utf8_lossy(&done.stderr), String::from_utf8_lossy(&done.stdout));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let few = lines.iter().rev().take(LINES_MAX).rev().copied().collect::<Vec<_>>().join("; ");
    // the file is named already, and where it is on this machine says nothing
    let few = few.replace(&format!("{}: ", file.display()), "").replace(&format!("{}:", file.display()), "line ");
    let tool = command.get_program().to_string_lossy().into_owned();
    Some(fault(path, format!("{tool} says: {few}")))
}

/// What Puppet's parser says of all manifests and templates; one run each, for a start takes a second.
pub fn puppet(dirs: &[PathBuf]) -> Result<Vec<FileFault>, CliError> {
    let mut found = Vec::new();
    for (tool, end) in [("parser", ".pp"), ("epp", ".epp")] {
        let mut all = Vec::new();
        for dir in dirs {
            all.extend(files(dir)?.into_iter().filter(|(path, _)| path.ends_with(end)).map(|(_, file)| file));
        }
        if !all.is_empty() {
            let mut command = Command::new("puppet");
            command.args([tool, "validate", "--color", "false"]).args(all);
            found.extend(said("puppet/modules", Path::new(""), &mut command));
        }
    }
    Ok(found)
}
