//! What the script repo says of guest commands, and who may run them.

use crate::app::{App, blocking};
use crate::http::problem::ApiError;
use serde_json::Value;
use straas_repos::{CommitId, ScriptRepo};
use straas_schemas::Fault;
use straas_schemas::command::{Allowed, CommandGroup, CommandMeta, CommandOffered, CommandsOffered};

/// Folder of the script repo.
const FOLDER: &str = "guestcmds";
/// Folders in it that are no groups.
const NO_GROUPS: [&str; 2] = ["lib", "schema"];
/// Section of the service configuration that says who may run which group.
const SECTION: &str = "guestcmd";
/// Most faults told of one request.
const FAULTS_MAX: usize = 100;

/// Whether this can be a group and a name: nothing in it means something to a path.
fn parts(command: &str) -> Option<(&str, &str)> {
    let plain = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
            && !text.starts_with('.')
    };
    command.split_once('/').filter(|(group, name)| plain(group) && plain(name) && !NO_GROUPS.contains(group))
}

/// Every command of a commit; one whose description cannot be read is left out.
fn offered(scripts: &ScriptRepo, commit: &CommitId) -> straas_repos::Result<Vec<(String, Vec<CommandOffered>)>> {
    let mut groups = Vec::new();
    for group in scripts.list(commit, FOLDER)?.unwrap_or_default() {
        if !group.folder || NO_GROUPS.contains(&group.name.as_str()) {
            continue;
        }
        let mut commands = Vec::new();
        for entry in scripts.list(commit, &format!("{FOLDER}/{}", group.name))?.unwrap_or_default() {
            let Some(name) = entry.name.strip_suffix(".json") else { continue };
            let bytes = scripts.read(commit, &format!("{FOLDER}/{}/{}", group.name, entry.name))?;
            if let Some(meta) = bytes.and_then(|bytes| serde_json::from_slice::<CommandMeta>(&bytes).ok()) {
                commands.push(CommandOffered { command: format!("{}/{name}", group.name), meta });
            }
        }
        if !commands.is_empty() {
            groups.push((group.name, commands));
        }
    }
    Ok(groups)
}

/// What a command takes and promises, in the scripts of `commit`.
///
/// # Errors
/// 422 that names those there are, or says what is wrong with its description.
pub async fn of(app: &App, commit: &str, command: &str) -> Result<CommandMeta, ApiError> {
    let commit = CommitId::parse(commit)?;
    if let Some((group, name)) = parts(command) {
        let (scripts, at) = (app.scripts.clone(), commit.clone());
        let path = format!("{FOLDER}/{group}/{name}.json");
        if let Some(bytes) = blocking(move || scripts.read(&at, &path)).await? {
            let broken = |error: serde_json::Error| {
                ApiError::invalid("/command", &format!("its description in the script repo cannot be read: {error}"))
            };
            return serde_json::from_slice(&bytes).map_err(broken);
        }
    }
    let scripts = app.scripts.clone();
    let groups = blocking(move || offered(&scripts, &commit)).await?;
    let names: Vec<_> = groups.into_iter().flat_map(|(_, commands)| commands).map(|offered| offered.command).collect();
    Err(ApiError::invalid("/command", &format!("there is no such guest command; there are: {}", names.join(", "))))
}

/// Everything wrong with a command's arguments.
pub fn faults(meta: &CommandMeta, args: &Value) -> Vec<Fault> {
    let Ok(validator) = jsonschema::validator_for(&meta.arguments) else {
        return vec![Fault::at("/command", "its description in the script repo has no valid schema of arguments")];
    };
    let errors = validator.iter_errors(args).take(FAULTS_MAX);
    errors.map(|error| Fault::at(format!("/args{}", error.instance_path().as_str()), error.to_string())).collect()
}

/// Who may run the commands of a group.
///
/// A group that nobody thought of is not for everybody; while no settings of the config repo are in force,
/// none is.
pub fn allowed(app: &App, group: &str) -> Allowed {
    let view = app.settings.view();
    let section = view.service.of(None).values.get(SECTION);
    match section.and_then(|section| section.get(group)).and_then(Value::as_str) {
        Some("tenant") if view.commit.is_some() => Allowed::Tenant,
        _ => Allowed::Admin,
    }
}

/// Which commands there are at a commit, the newest if none is given; with a role, those it can run.
///
/// # Errors
/// A repo cannot be read.
pub async fn all(app: &App, commit: Option<String>, roles: Option<&[String]>) -> Result<CommandsOffered, ApiError> {
    let scripts = app.scripts.clone();
    let (commit, found) = blocking(move || {
        let commit = match commit {
            Some(commit) => CommitId::parse(&commit)?,
            None => scripts.head()?,
        };
        Ok((commit.clone(), offered(&scripts, &commit)?))
    })
    .await?;
    let mut groups = Vec::new();
    for (name, mut commands) in found {
        if let Some(roles) = roles {
            commands.retain(|command| command.meta.role.as_ref().is_none_or(|role| roles.contains(role)));
        }
        if !commands.is_empty() {
            groups.push(CommandGroup { allowed: allowed(app, &name), name, commands });
        }
    }
    Ok(CommandsOffered { commit: commit.as_str().to_owned(), groups })
}
