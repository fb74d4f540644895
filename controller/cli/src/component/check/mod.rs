//! `straas component check`: the mistakes of a component author, before a node meets them.
//!
//! The folders are laid over the built-in components in two repositories of their own, in a place
//! that is thrown away, so that what is checked is what a controller would read. Whatever a tool has
//! to say (`bash -n`, `shellcheck`, Puppet's parser) is asked where the tool is installed.

mod places;
#[cfg(test)]
mod tests;

use super::tools;
use crate::Global;
use crate::error::CliError;
use crate::output::print;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use straas_repos::{CommitId, ConfigRepo, Error, FileFault, ScriptRepo, line_of, shape_faults};
use straas_schemas::command::CommandMeta;
use straas_schemas::metadata::{Catalog, ComponentMeta, Operation};

/// Scripts besides those of the stages.
const VERBS: [&str; 3] = ["start.sh", "stop.sh", "remove.sh"];

/// What to check.
#[derive(clap::Args)]
pub struct Args {
    /// Folders of components (cmd/ pre_config/ puppet/ guestcmds/ metadata/ app/), laid over the
    /// built-in ones, a later one over an earlier one.
    #[arg(default_value = ".", value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Check the built-in components instead.
    #[arg(long, conflicts_with = "dirs")]
    builtin: bool,
}

/// Checks and says what was found.
pub fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let dirs: &[PathBuf] = if args.builtin { &[] } else { &args.dirs };
    let found = faults(dirs)?;
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    print(
        global.format(),
        &lines,
        |lines| {
            if lines.is_empty() { "no fault was found".to_owned() } else { lines.join("\n") }
        },
    )?;
    match found.len() {
        0 => Ok(()),
        1 => Err(CliError::Input("1 fault".into())),
        n => Err(CliError::Input(format!("{n} faults"))),
    }
}

fn fault(file: impl Into<String>, message: impl Into<String>) -> FileFault {
    FileFault { file: file.into(), line: None, pointer: String::new(), message: message.into() }
}

/// Every fault of the components in these folders; of the built-in ones if there is none.
pub fn faults(dirs: &[PathBuf]) -> Result<Vec<FileFault>, CliError> {
    let mut found = form(dirs)?;
    for dir in dirs {
        for (path, file) in tools::files(dir)?.into_iter().filter(|(_, file)| file.is_file()) {
            found.extend(tools::asked(&path, &file, &std::fs::read(&file)?));
        }
    }
    found.extend(tools::puppet(dirs)?);
    found.sort();
    found.dedup();
    Ok(found)
}

/// As [`faults`], but for what only other programs can say.
fn form(dirs: &[PathBuf]) -> Result<Vec<FileFault>, CliError> {
    let mut found = look(dirs)?;
    for fault in found.iter_mut().filter(|fault| fault.line.is_none() && !fault.pointer.is_empty()) {
        // a later folder's file takes the place of an earlier one's
        let text = dirs.iter().rev().find_map(|dir| std::fs::read_to_string(dir.join(&fault.file)).ok());
        fault.line = text.and_then(|text| line_of(&text, &fault.pointer));
    }
    Ok(found)
}

fn look(dirs: &[PathBuf]) -> Result<Vec<FileFault>, CliError> {
    let local = |error: Error| CliError::Local(error.to_string());
    let home = tempfile::tempdir()?;
    let configs = ConfigRepo::open(&home.path().join("config.git")).map_err(local)?;
    let scripts = ScriptRepo::open(&home.path().join("scripts.git")).map_err(local)?;
    let mut found = Vec::new();
    let mut paths = BTreeSet::new();
    let mut links = false;
    for dir in dirs {
        if !dir.is_dir() {
            return Err(CliError::Input(format!("there is no folder {}", dir.display())));
        }
        let files = tools::files(dir)?;
        if files.is_empty() {
            let text = "holds no component: a component's folder has metadata/, app/, cmd/ and more; \
                        straas component new TYPE writes one";
            return Ok(vec![fault(dir.display().to_string(), text)]);
        }
        for (path, file) in files {
            if std::fs::symlink_metadata(&file)?.is_symlink() {
                found.push(fault(&path, "is a symbolic link, which the repositories do not take; put the file itself"));
                links = true;
                continue;
            }
            let content = std::fs::read(&file)?;
            found.extend(shape_faults(&path, &content));
            found.extend(tools::faults(&path, &file, &content));
            paths.insert(path);
        }
    }
    if links {
        // nothing can be laid over the repositories
        return Ok(sorted(found, Vec::new()));
    }
    let laid = if dirs.is_empty() {
        configs.head().and_then(|_| scripts.head())
    } else {
        configs.overlay(dirs).and_then(|_| scripts.overlay(dirs))
    };
    let commit = match laid {
        Ok(commit) => commit,
        Err(Error::Invalid { faults }) => return Ok(sorted(found, faults)),
        Err(other) => return Err(local(other)),
    };
    let catalog = match configs.catalog() {
        Ok((_, catalog)) => catalog,
        Err(Error::Invalid { faults }) => {
            // the form was told with more words already
            let told: BTreeSet<String> = found.iter().map(|fault| fault.file.clone()).collect();
            return Ok(sorted(found, faults.into_iter().filter(|fault| !told.contains(&fault.file)).collect()));
        }
        Err(other) => return Err(local(other)),
    };
    found.extend(places::faults(&paths, &catalog));
    let look = Look { scripts: &scripts, commit: &commit, catalog: &catalog };
    for (kind, meta) in catalog.iter() {
        if dirs.is_empty() || places::touched(&paths, kind, meta) {
            look.component(kind, meta, &mut found).map_err(local)?;
        }
    }
    Ok(sorted(found, Vec::new()))
}

fn sorted(mut found: Vec<FileFault>, more: Vec<FileFault>) -> Vec<FileFault> {
    found.extend(more);
    found.sort();
    found.dedup();
    found
}

struct Look<'a> {
    scripts: &'a ScriptRepo,
    commit: &'a CommitId,
    catalog: &'a Catalog,
}

impl Look<'_> {
    fn component(&self, kind: &str, meta: &ComponentMeta, found: &mut Vec<FileFault>) -> Result<(), Error> {
        let file = format!("metadata/{kind}.json");
        let mut told = BTreeSet::new();
        for (r, role) in meta.roles.iter().enumerate() {
            for version in meta.versions.keys() {
                let script = &role.script_role;
                let mut missing = self.scripts.missing(self.commit, kind, script, version)?;
                for verb in VERBS {
                    let usual = format!("cmd/{script}/default/{verb}");
                    let own = format!("cmd/{script}/{version}/{verb}");
                    if !self.there(&own)? && !self.there(&usual)? && !self.there(&format!("cmd/default/{verb}"))? {
                        missing.push(usual);
                    }
                }
                for what in missing.into_iter().filter(|what| told.insert(what.clone())) {
                    let text = format!("the role {} of version {version} needs {what}, which is missing", role.name);
                    found.push(FileFault { pointer: format!("/roles/{r}"), ..fault(&file, text) });
                }
            }
            let own: Vec<&str> = meta.roles.iter().map(|role| role.script_role.as_str()).collect();
            for (when, operation) in [("join", &role.join), ("leave", &role.leave)] {
                if let Some(operation) = operation {
                    self.operation(operation, &own, &file, &format!("/roles/{r}/{when}"), found)?;
                }
            }
        }
        for (d, dependency) in meta.dependencies.iter().enumerate() {
            for (when, operation) in [("operation", &dependency.operation), ("remove", &dependency.remove)] {
                let Some(operation) = operation else { continue };
                let roles = self.catalog.get(&dependency.kind).map(|meta| &meta.roles).into_iter().flatten();
                let theirs: Vec<&str> = roles.map(|role| role.script_role.as_str()).collect();
                self.operation(operation, &theirs, &file, &format!("/dependencies/{d}/{when}"), found)?;
            }
        }
        for (stage, limits) in &meta.stages {
            if limits.no_progress_s > limits.total_s {
                let text = "no_progress_s is above total_s and so means nothing";
                found.push(FileFault { pointer: format!("/stages/{stage}"), ..fault(&file, text) });
            }
        }
        Ok(())
    }

    fn there(&self, path: &str) -> Result<bool, Error> {
        Ok(self.scripts.read(self.commit, path)?.is_some())
    }

    /// Whether an operation names a command that there is, on nodes that can run it, again and again.
    fn operation(
        &self,
        operation: &Operation,
        roles: &[&str],
        file: &str,
        pointer: &str,
        found: &mut Vec<FileFault>,
    ) -> Result<(), Error> {
        let mut add = |message: String| found.push(FileFault { pointer: pointer.into(), ..fault(file, message) });
        let path = format!("guestcmds/{}", operation.command);
        let described = self.scripts.read(self.commit, &format!("{path}.json"))?;
        let meta = described.and_then(|bytes| serde_json::from_slice::<CommandMeta>(&bytes).ok());
        let (Some(meta), true) = (meta, self.there(&path)?) else {
            add(format!("there is no guest command {}, or its description cannot be read", operation.command));
            return Ok(());
        };
        if !meta.idempotent {
            add(format!("{} is not idempotent, but an operation is tried until it succeeds", operation.command));
        }
        if let Some(role) = meta.role.as_deref().filter(|role| !roles.contains(role)) {
            add(format!("{} runs on nodes of {role} only; here are {}", operation.command, roles.join(", ")));
        }
        let known = meta.arguments["properties"].as_object();
        for name in operation.args.keys().filter(|name| known.is_none_or(|known| !known.contains_key(*name))) {
            add(format!("{} takes no argument {name}", operation.command));
        }
        for (name, value) in &operation.args {
            let wanted = known.and_then(|known| known.get(name)?.get("type")?.as_str());
            if let Some(wanted) = wanted.filter(|wanted| !is_of(value, wanted)) {
                add(format!("{} takes a value of type {wanted} as {name}, not {value}", operation.command));
            }
        }
        let required = meta.arguments["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !operation.args.contains_key(*name)) {
            add(format!("{} needs the argument {name}", operation.command));
        }
        Ok(())
    }
}

/// Whether a value is of a type of JSON Schema, as far as that can be said of one that is not filled in yet.
fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

/// Whether a file is of the kind that is run.
pub fn is_run(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}
