//! The stages: from an order and an assignment to one script with its context, and from how that
//! ended to a result.
//!
//! `pre_config`, `config`, `validate` and the service's start and stop differ in a few lines each,
//! which stand in files of their own; what they share (paths, environment, context, reading an
//! exit code) stands here.
//!
//! Never here: when and whether a stage runs.

mod config;
mod install;
mod pre_config;
mod service;
mod validate;

use crate::executor::{self, End, Ended, Script, Why};
use crate::messages::Said;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use straas_converge::{RunOrder, RunResult, Task};
use straas_schemas::report::Facts;
use straas_schemas::{Assignment, Outcome, Stage};
use tokio::sync::watch;

/// The exit code that means "not yet": `EX_TEMPFAIL`.
const NOT_YET: i32 = 75;

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
    place: &'a Place,
    order: &'a RunOrder,
    assignment: &'a Assignment,
    site_pp: PathBuf,
    work: PathBuf,
}

/// Runs one order to its end.
pub async fn run(
    place: &Place,
    order: &RunOrder,
    assignment: &Assignment,
    kill: watch::Receiver<bool>,
    progress: &dyn Fn(&Said),
) -> RunResult {
    let job = match Job::prepare(place, order, assignment) {
        Ok(job) => job,
        Err(reason) => return failed(reason),
    };
    let script = match order.task {
        Task::Stage(Stage::Install) => install::script(&job),
        Task::Stage(Stage::PreConfig) => pre_config::script(&job),
        Task::Stage(Stage::Config) => config::script(&job),
        Task::Stage(Stage::Validate) => validate::script(&job),
        Task::Start => service::script(&job, "start.sh"),
        Task::Stop => service::script(&job, "stop.sh"),
    };
    let script = match script {
        Ok(script) => script,
        Err(result) => return *result,
    };
    let name = script.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ended = executor::run(script, kill, progress).await;
    let result = judge(&name, &ended);
    match order.task {
        Task::Stage(Stage::PreConfig) => pre_config::finish(&job, ended.said, result),
        Task::Stage(Stage::Validate) => validate::finish(ended.said, result),
        _ => result,
    }
}

impl<'a> Job<'a> {
    fn prepare(place: &'a Place, order: &'a RunOrder, assignment: &'a Assignment) -> Result<Self, String> {
        for (what, name) in [("role", &assignment.role), ("version", &assignment.version)] {
            if !is_path_name(name) {
                return Err(format!("the {what} {name:?} cannot be part of a path"));
            }
        }
        let site = place.state_dir.join("site").join(&assignment.role);
        let work = place.state_dir.join("work").join(&assignment.role);
        let run = place.state_dir.join("run");
        for dir in [&site, &work, &run] {
            private_dir(dir)?;
        }
        // where the node's files are is this host's own matter: the controller does not know it
        let mut context = assignment.context.clone();
        if let Some(node) = context.get_mut("node").and_then(serde_json::Value::as_object_mut) {
            node.insert("prefix".to_owned(), place.prefix.clone().into());
        }
        // secrets of the configuration are in it
        let context = serde_json::to_vec(&context).map_err(|error| format!("the context: {error}"))?;
        write_private(&run.join("context.json"), &context)?;
        Ok(Self { place, order, assignment, site_pp: site.join("site.pp"), work })
    }

    /// `cmd/{role}/{version}/{name}`, or the role's default.
    fn command(&self, name: &str) -> Option<PathBuf> {
        let role = self.place.scripts.join("cmd").join(&self.assignment.role);
        [self.assignment.version.as_str(), "default"].iter().map(|dir| role.join(dir).join(name)).find(|p| p.is_file())
    }

    fn required(&self, name: &str) -> Result<Script, Box<RunResult>> {
        let (role, version) = (&self.assignment.role, &self.assignment.version);
        match self.command(name) {
            Some(program) => Ok(self.script(program, Vec::new())),
            None => Err(Box::new(failed(format!(
                "the scripts have neither cmd/{role}/{version}/{name} nor cmd/{role}/default/{name}"
            )))),
        }
    }

    fn script(&self, program: PathBuf, arguments: Vec<OsString>) -> Script {
        let (place, assignment) = (self.place, self.assignment);
        let task = self.order.task.name();
        let run = place.state_dir.join("run");
        let environment: [(&str, OsString); 13] = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME", "/root".into()),
            ("LC_ALL", "C.UTF-8".into()),
            // a release is shared and checked by hash; nothing may be written into it
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("STRAAS_CONTEXT", run.join("context.json").into()),
            ("STRAAS_SCRIPTS", place.scripts.clone().into()),
            ("STRAAS_STAGE", task.into()),
            ("STRAAS_ROLE", assignment.role.clone().into()),
            ("STRAAS_VERSION", assignment.version.clone().into()),
            ("STRAAS_NODE", assignment.name.clone().into()),
            ("STRAAS_PREFIX", place.prefix.clone().into()),
            ("STRAAS_WORK", self.work.clone().into()),
            ("STRAAS_SITE_PP", self.site_pp.clone().into()),
        ];
        Script {
            program,
            arguments,
            environment: environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            directory: self.work.clone(),
            mark: format!("{}/{}", place.node, self.order.id.0),
            limits: self.order.limits,
            spool: spool(&run, task, self.order.attempt),
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
    }
}

/// Letters, digits and `.+~_:-`, not beginning with a dot: Debian versions and role names.
fn is_path_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~_:-".contains(&b))
}

fn private_dir(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| format!("{} cannot be made: {error}", dir.display()))
}

/// Writes a file that only root reads, atomically and durably.
///
/// # Errors
/// In words.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let tmp = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&tmp, path)
    };
    write().map_err(|error: std::io::Error| format!("{} cannot be written: {error}", path.display()))
}
