//! `straas config edit`: a file in an editor, checked and shown as a difference before it is written.
//!
//! Written under the condition that the branch did not move since it was read. What the controller
//! refuses is kept in a file, so that no work is lost; its faults are told with their places.

use super::show;
use crate::Global;
use crate::client::{Ask, Client};
use crate::error::CliError;
use crate::output::{clean, print};
use crate::{find, routes};
use std::ffi::OsString;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;
use straas_schemas::config::ConfigFile;
use straas_schemas::configuration::{ConfigContent, ConfigNode, ConfigWrite, ConfigWritten};

/// Carries it out.
pub async fn run(
    client: &Client,
    branch: &str,
    path: &str,
    message: Option<String>,
    yes: bool,
    global: &Global,
) -> Result<(), CliError> {
    let branch = find::reference(client, branch).await?;
    let parts = [branch.as_str(), path];
    let node: ConfigNode = client.get(routes::CONFIG_READ, &parts).await?;
    let ConfigContent::File { content: before } = &node.content else {
        return Err(CliError::Input(format!("{path} is a folder; list it with: straas config ls {branch} {path}")));
    };
    let mut file = tempfile::Builder::new().prefix("straas-").suffix(".json").tempfile()?;
    file.write_all(before.as_bytes())?;
    file.flush()?;
    let after = loop {
        edit(file.path())?;
        let after = std::fs::read_to_string(file.path())?;
        match serde_json::from_str::<serde_json::Value>(&after) {
            Ok(_) => break after,
            Err(error) => {
                anstream::eprintln!("it is not JSON: {error}");
                if !asked("edit it again? [Y/n] ", true)? {
                    return Err(kept(file, "nothing was written"));
                }
            }
        }
    };
    if after == *before {
        anstream::eprintln!("nothing was changed");
        return Ok(());
    }
    anstream::eprintln!("{}", clean(&differences(before, &after)));
    if !yes && !asked(&format!("write this to {branch}? [y/N] "), false)? {
        return Err(kept(file, "nothing was written"));
    }
    let message = message.unwrap_or_else(|| format!("{path}: edited"));
    let ask = Ask::new(routes::CONFIG_WRITE, &parts).body(&ConfigWrite { content: after, message }).if_at(&node.commit);
    match client.call::<ConfigWritten>(ask).await {
        Ok(done) => print(global.format(), &done, show::written),
        Err(error) => {
            let CliError::Local(text) = kept(file, "it was refused") else { return Err(error) };
            anstream::eprintln!("{text}");
            Err(error)
        }
    }
}

/// What was written stays in a file.
fn kept(file: tempfile::NamedTempFile, why: &str) -> CliError {
    match file.keep() {
        Ok((_, path)) => CliError::Local(format!("{why}; your text is in {}", path.display())),
        Err(error) => CliError::Local(format!("{why}, and your text cannot be kept: {error}")),
    }
}

fn edit(path: &Path) -> Result<(), CliError> {
    let chosen = ["VISUAL", "EDITOR"].iter().find_map(std::env::var_os).filter(|editor| !editor.is_empty());
    let there = |name: &&&str| Path::new("/usr/bin").join(name).exists();
    let usual = || OsString::from(["sensible-editor", "vi", "nano"].iter().find(there).unwrap_or(&"vi"));
    let editor = chosen.unwrap_or_else(usual);
    // with its options, as git and crontab have it
    let line = format!("{} \"$1\"", editor.to_string_lossy());
    let status = Command::new("/bin/sh").arg("-c").arg(line).arg("edit").arg(path).status();
    let status = status.map_err(|e| CliError::Local(format!("cannot start the editor {}: {e}", editor.display())))?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::Local(format!("the editor {} ended with {status}; nothing was written", editor.display())))
}

/// Asks a person; where there is none, it is as if he had said no more than Enter.
fn asked(question: &str, usual: bool) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Ok(usual);
    }
    anstream::eprint!("{question}");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim().to_ascii_lowercase().as_str() {
        "" => usual,
        word => word == "y" || word == "yes",
    })
}

/// What differs: value by value if both are configuration files, else line by line.
fn differences(before: &str, after: &str) -> String {
    let read = |text: &str| serde_json::from_str::<ConfigFile>(text).ok();
    if let (Some(old), Some(new)) = (read(before), read(after)) {
        let values = |file: &ConfigFile| -> Vec<(String, String)> {
            let options = file.content.iter().flat_map(|s| s.options.iter().map(move |o| (s, o)));
            options.map(|(s, o)| (format!("{}.{}", s.section, o.key), o.value.clone())).collect()
        };
        let (old, new) = (values(&old), values(&new));
        let value = |of: &[(String, String)], name: &str| of.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let mut names: Vec<&String> = old.iter().chain(&new).map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        let text = |value: Option<String>| value.unwrap_or_else(|| "(none)".to_owned());
        let changed = names.into_iter().filter(|name| value(&old, name) != value(&new, name));
        let lines: Vec<String> = changed
            .map(|name| format!("  {name}: {} → {}", text(value(&old, name)), text(value(&new, name))))
            .collect();
        if !lines.is_empty() {
            return lines.join("\n");
        }
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_value_or_by_line() {
        let file = |value: &str, doc: &str| {
            format!(
                r#"{{"type":"ini","content":[{{"section":"a","doc":"{doc}","options":[{{"key":"b","value":"{value}","type":"string"}}]}}]}}"#
            )
        };
        let check = |before: &str, after: &str, expect: &str| assert_eq!(differences(before, after), expect);
        check(&file("1", ""), &file("2", ""), "  a.b: 1 → 2");
        check("{\n\"x\": 1\n}", "{\n\"x\": 2\n}", "- \"x\": 1\n+ \"x\": 2");
        assert!(differences(&file("1", ""), &file("1", "more")).starts_with("- {"));
    }
}
