//! The stages: from an order and an assignment to one script with its context, and from how that
//! ended to a result.
//!
//! `pre_config`, `config`, `validate`, the look for drift and the service's start and stop differ in
//! a few lines each, which stand in files of their own; what they share (finding a script, reading
//! an exit code) stands here, and what guest commands are given too, in `frame.rs`.
//!
//! Never here: when and whether a stage runs.

mod config;
mod drift;
mod frame;
mod install;
mod pre_config;
mod service;
mod validate;

pub(crate) use frame::{Frame, private_dir, write_private};

use crate::executor::{self, End, Ended, Script, Why};
use crate::messages::Said;
use crate::redact::Secrets;
use crate::strays::Leaves;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use straas_converge::{RunOrder, RunResult, Task};
use straas_schemas::assignment::Limits;
use straas_schemas::report::Facts;
use straas_schemas::{Assignment, Outcome, Stage};
use tokio::sync::watch;

/// The exit code that means "not yet": `EX_TEMPFAIL`.
const NOT_YET: i32 = 75;

/// Limits of an operation that no assignment orders: a database that takes minutes to stop is stopped, a package manager
/// that hangs is not waited for.
const OPERATION_LIMITS: Limits = Limits { total_s: 900, no_progress_s: 600 };

/// Where things are on this node.
#[derive(Clone, Debug)]
pub struct Place {
    /// The agent's own directory.
    pub state_dir: PathBuf,
    /// The active release of the scripts.
    pub scripts: PathBuf,
    /// Process mode's directory, or empty.
    pub prefix: String,
    /// The node's id.
    pub node: String,
}

/// One run with everything it needs.
pub(crate) struct Job<'a> {
    order: &'a RunOrder,
    frame: Frame<'a>,
}

/// Runs one order to its end.
pub async fn run(
    place: &Place,
    order: &RunOrder,
    assignment: &Assignment,
    kill: watch::Receiver<bool>,
    progress: &dyn Fn(&Said),
) -> RunResult {
    let context = place.state_dir.join("run").join("context.json");
    let job = match Frame::prepare(place, assignment, context) {
        Ok(frame) => Job { order, frame },
        Err(reason) => return failed(reason),
    };
    let mut used = Duration::ZERO;
    if order.restart {
        match config::stop_first(&job, kill.clone(), progress).await {
            Ok(took) => used = took,
            Err(result) => return *result,
        }
    }
    let script = match order.task {
        Task::Stage(Stage::Install) => install::script(&job),
        Task::Stage(Stage::PreConfig) => pre_config::script(&job),
        Task::Stage(Stage::Config) => config::script(&job),
        Task::Stage(Stage::Validate) => validate::script(&job),
        Task::Start => service::script(&job, "start.sh"),
        Task::Stop => service::script(&job, "stop.sh"),
        Task::Drift => drift::script(&job),
    };
    let mut script = match script {
        Ok(script) => script,
        Err(result) => return *result,
    };
    // the limit is for both
    let used_s = u32::try_from(used.as_secs()).unwrap_or(u32::MAX);
    script.limits.total_s = script.limits.total_s.saturating_sub(used_s).max(1);
    let name = script.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ended = executor::run(script, kill, progress).await;
    let result = judge(&name, &ended);
    match order.task {
        Task::Stage(Stage::PreConfig) => pre_config::finish(&job, ended.said, result),
        Task::Stage(Stage::Validate) => validate::finish(ended.said, result),
        Task::Drift => drift::finish(&ended.said, result),
        _ => result,
    }
}

/// Runs an operation that no assignment orders, because nothing is to be here any more: `stop` or `remove`.
pub async fn operate(
    place: &Place,
    operation: &'static str,
    attempt: u32,
    assignment: &Assignment,
    kill: watch::Receiver<bool>,
    progress: &dyn Fn(&Said),
) -> RunResult {
    let context = place.state_dir.join("run").join("context.json");
    let frame = match Frame::prepare(place, assignment, context) {
        Ok(frame) => frame,
        Err(reason) => return failed(reason),
    };
    let name = format!("{operation}.sh");
    let Some(program) = frame.command(&name) else { return failed(frame.lacks(&name)) };
    let script = Script {
        program,
        arguments: Vec::new(),
        environment: frame.environment(operation),
        directory: frame.work.clone(),
        mark: format!("{}/{operation}", place.node),
        limits: OPERATION_LIMITS,
        spool: spool(&place.state_dir.join("run"), operation, attempt),
        secrets: Secrets::of(&assignment.context),
        leaves: Leaves::Nothing,
    };
    judge(&name, &executor::run(script, kill, progress).await)
}

impl Job<'_> {
    fn command(&self, name: &str) -> Option<PathBuf> {
        self.frame.command(name)
    }

    fn required(&self, name: &str) -> Result<Script, Box<RunResult>> {
        match self.command(name) {
            Some(program) => Ok(self.script(program, Vec::new())),
            None => Err(Box::new(failed(self.frame.lacks(name)))),
        }
    }

    fn script(&self, program: PathBuf, arguments: Vec<OsString>) -> Script {
        let task = self.order.task.name();
        let place = self.frame.place;
        Script {
            program,
            arguments,
            // a look for drift is the script of `config`
            environment: self.frame.environment(if self.order.task == Task::Drift { "config" } else { task }),
            directory: self.frame.work.clone(),
            mark: format!("{}/{}", place.node, self.order.id.0),
            limits: self.order.limits,
            spool: spool(&place.state_dir.join("run"), task, self.order.attempt),
            secrets: Secrets::of(&self.frame.assignment.context),
            leaves: match self.order.task {
                Task::Stage(Stage::Install | Stage::Config) | Task::Start => Leaves::Services,
                Task::Stage(Stage::PreConfig | Stage::Validate) | Task::Stop | Task::Drift => Leaves::Nothing,
            },
        }
    }
}

/// `run/<stage>-<attempt>.log`; a stage that is tried for ever overwrites its oldest.
fn spool(run: &Path, task: &str, attempt: u32) -> PathBuf {
    /// Attempts whose output is kept: the first runs of a failure and the latest ones.
    const KEPT: u32 = 10;
    run.join(format!("{task}-{}.log", (attempt.max(1) - 1) % KEPT + 1))
}

/// What the end of a script means, but for what single stages add.
fn judge(name: &str, ended: &Ended) -> RunResult {
    let said = &ended.said;
    let (outcome, exit_code, reason) = match (&ended.end, &said.fault) {
        (End::Exited(0 | NOT_YET), Some(fault)) => (Outcome::Failed, exit(&ended.end), format!("{name}: {fault}")),
        (End::Exited(0), None) => (Outcome::Succeeded, Some(0), String::new()),
        (End::Exited(NOT_YET), None) => {
            let progress = said.progress.clone().or_else(|| said.hint.clone());
            (Outcome::Waiting, Some(NOT_YET), progress.unwrap_or_else(|| format!("{name} asked to be run again soon")))
        }
        (End::Exited(code), _) => {
            let last = ended.tail.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with("@straas "));
            let last = last.map(|line| format!(": {}", line.chars().take(300).collect::<String>())).unwrap_or_default();
            (Outcome::Failed, Some(*code), format!("{name} ended with exit code {code}{last}"))
        }
        (End::Signalled(signal), _) => (Outcome::Failed, None, format!("{name} was ended by signal {signal}")),
        (End::Killed(Why::TotalTime(s)), _) => {
            (Outcome::Failed, None, format!("{name} took longer than {s} s and was killed with all its processes"))
        }
        (End::Killed(Why::NoProgress(s)), _) => {
            (Outcome::Failed, None, format!("{name} wrote nothing for {s} s and was killed with all its processes"))
        }
        (End::Killed(Why::Asked), _) => (Outcome::Failed, None, format!("{name} was ended because it was superseded")),
        (End::NotStarted(why), _) => (Outcome::Failed, None, why.clone()),
    };
    RunResult {
        outcome,
        exit_code,
        reason,
        hint: said.hint.clone(),
        duration_ms: u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX),
        output_tail: ended.tail.clone(),
        output_bytes: ended.bytes,
        facts: said.facts.clone(),
        service: said.service,
        output: None,
        lost: None,
        drift: None,
    }
}

const fn exit(end: &End) -> Option<i32> {
    match end {
        End::Exited(code) => Some(*code),
        _ => None,
    }
}

/// A result of something that failed before or after its script.
fn failed(reason: String) -> RunResult {
    RunResult {
        outcome: Outcome::Failed,
        exit_code: None,
        reason,
        hint: None,
        duration_ms: 0,
        output_tail: String::new(),
        output_bytes: 0,
        facts: Facts::new(),
        service: None,
        output: None,
        lost: None,
        drift: None,
    }
}
