//! Guest commands: one script of the release's `guestcmds/`, run once, its output sent as it comes.
//!
//! ```text
//! run/commands/<id>/args.json, context.json    what it is given; removed when it ends
//! run/commands/<id>/output                     what it writes; removed when the controller has it
//! ```
//! Each command has files of its own, so that it shares nothing with stages and other commands but
//! the role's work directory.
//!
//! Never here: when and whether a command runs (the converger), and sending (`live.rs`).

pub mod arguments;
mod find;
pub mod live;
mod spool;

use crate::agent::Agent;
use crate::executor::{End, Script, Why, supervise};
use crate::files;
use crate::redact::Secrets;
use crate::stages::{Frame, private_dir, write_private};
use crate::strays::Leaves;
use find::Found;
use spool::Listener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use straas_converge::{CommandFate, CommandResult, CommandRun};
use straas_schemas::assignment::Limits;
use straas_schemas::command::{COMMAND_ARGS_BYTES_MAX, COMMAND_SECONDS_MAX};
use straas_schemas::{Assignment, CommandId};
use tokio::sync::watch;

/// What stands in `STRAAS_STAGE`.
const STAGE: &str = "guestcmd";

/// Where the files of commands are.
#[must_use]
pub fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("run").join("commands")
}

/// Why nothing was started.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The release has no such command.
    Missing(String),
    /// It cannot run here.
    Impossible(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Impossible(reason)
    }
}

/// Runs one to its end. `kill` turning true ends it.
pub async fn run(agent: &Agent, run: &CommandRun, kill: watch::Receiver<bool>) -> CommandResult {
    let (id, command) = (run.order.id.as_str(), run.order.command.as_str());
    let own = dir(&agent.config.state_dir).join(id);
    let assignment = agent.look(|converger, _| converger.ledger().assignment.clone());
    let result = match prepare(agent, run, &own, assignment.as_ref()) {
        Ok((script, _)) if let Some(early) = fetch(agent, run, &script, kill.clone()).await => early,
        Ok((script, name)) => {
            tracing::info!(id, command, attempt = run.attempt, "guest command begins");
            let mut ears = Listener::new(&agent.live, &run.order.id, &own.join("output"), run.attempt, &script.secrets);
            let (end, took) = supervise(&script, kill, &mut ears).await;
            ears.finish(|said, bytes| judge(&name, &end, took, said.hidden(&script.secrets), bytes))
        }
        Err(Refusal::Missing(reason)) => refused(CommandFate::Missing, reason),
        Err(Refusal::Impossible(reason)) => refused(CommandFate::Failed, reason),
    };
    for file in ["args.json", "context.json"] {
        let _ = std::fs::remove_file(own.join(file));
    }
    // what a crash left of an earlier run stays until the right scripts are there
    if result.fate != CommandFate::Missing || run.attempt == 1 {
        agent.live.ended(&run.order.id);
    }
    tracing::info!(id, command, fate = ?result.fate, ms = result.duration_ms, reason = result.reason, "guest command ended");
    result
}

/// Fetches what the command needs; gives its end if that was not to be.
async fn fetch(
    agent: &Agent,
    run: &CommandRun,
    script: &Script,
    mut kill: watch::Receiver<bool>,
) -> Option<CommandResult> {
    let order = &run.order;
    let dir = script.directory.join("files");
    let time = Duration::from_secs(script.limits.total_s.into());
    let work = files::ensure_in(&agent.client, &agent.config.node, &dir, &order.files);
    tokio::select! {
        biased;
        result = tokio::time::timeout(time, work) => match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(refused(CommandFate::Failed, format!("{}: {error}", order.command))),
            Err(_) => Some(refused(CommandFate::Failed, format!("{}: its files did not come in time", order.command))),
        },
        Ok(_) = kill.wait_for(|kill| *kill) => {
            Some(refused(CommandFate::Killed, format!("{} was ended before its files were there", order.command)))
        }
    }
}

fn prepare(
    agent: &Agent,
    run: &CommandRun,
    own: &Path,
    assignment: Option<&Assignment>,
) -> Result<(Script, String), Refusal> {
    let order = &run.order;
    let missing = || Refusal::Missing("there are no scripts on this node yet".to_owned());
    let assignment = assignment.ok_or_else(missing)?;
    let place = crate::work::place(agent);
    let Found { program, meta } = find::find(&place.scripts, &order.command)?;
    if let Some(role) = meta.role.as_ref().filter(|role| **role != assignment.role) {
        return Err(format!("{} is for the role {role}; this node's is {}", order.command, assignment.role).into());
    }
    arguments::check(&meta.arguments, &order.args)?;
    let args = serde_json::to_vec(&order.args).map_err(|error| format!("the arguments: {error}"))?;
    if args.len() > COMMAND_ARGS_BYTES_MAX {
        return Err(format!("the arguments are over {COMMAND_ARGS_BYTES_MAX} bytes").into());
    }
    private_dir(own)?;
    let frame = Frame::prepare(&place, assignment, own.join("context.json"))?;
    let file = own.join("args.json");
    write_private(&file, &args)?;
    let mut environment = frame.environment(STAGE);
    environment.push(("STRAAS_ARGS".to_owned(), file.into()));
    environment.extend(arguments::variables(&order.args));
    let total_s = order.timeout_s.clamp(1, COMMAND_SECONDS_MAX);
    let script = Script {
        program,
        arguments: Vec::new(),
        environment,
        directory: frame.work.clone(),
        mark: format!("{}/{}", place.node, run.id.0),
        // a command may be silent as long as it may run
        limits: Limits { total_s, no_progress_s: total_s },
        spool: own.join("output"),
        secrets: Secrets::of(&assignment.context),
        // it may restart the service
        leaves: Leaves::Services,
    };
    Ok((script, order.command.clone()))
}

fn judge(name: &str, end: &End, took: Duration, said: crate::messages::Said, bytes: u64) -> CommandResult {
    let (fate, exit_code, reason) = match (end, said.fault) {
        (End::Exited(0), Some(fault)) => (CommandFate::Failed, Some(0), format!("{name}: {fault}")),
        (End::Exited(0), None) => (CommandFate::Succeeded, Some(0), String::new()),
        (End::Exited(code), _) => (CommandFate::Failed, Some(*code), format!("{name} ended with exit code {code}")),
        (End::Signalled(signal), _) => (CommandFate::Failed, None, format!("{name} was ended by signal {signal}")),
        (End::Killed(Why::TotalTime(s) | Why::NoProgress(s)), _) => {
            let reason = format!("{name} took longer than {s} s and was killed with all its processes");
            (CommandFate::Failed, None, reason)
        }
        (End::Killed(Why::Asked), _) => {
            (CommandFate::Killed, None, format!("{name} was ended with all its processes, as a user wanted"))
        }
        (End::NotStarted(why), _) => (CommandFate::Failed, None, why.clone()),
    };
    CommandResult {
        fate,
        exit_code,
        reason,
        hint: said.hint,
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        result: said.result,
        output_bytes: bytes,
    }
}

/// The end of one whose deadline passed before it was durable that it begins.
#[must_use]
pub fn late() -> CommandResult {
    refused(CommandFate::Late, "the disk of the node took no write before its deadline; it was not begun".to_owned())
}

fn refused(fate: CommandFate, reason: String) -> CommandResult {
    let result = serde_json::Map::new();
    CommandResult { fate, exit_code: None, reason, hint: None, duration_ms: 0, result, output_bytes: 0 }
}

/// Whether a command's files may be looked for under this name.
fn is_own_dir(name: &str) -> Option<CommandId> {
    straas_schemas::ids::is_id(name).then(|| CommandId(name.to_owned()))
}
