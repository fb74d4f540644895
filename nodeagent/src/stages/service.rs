//! start and stop: the service without its configuration.

use super::Job;
use crate::executor::Script;
use straas_converge::RunResult;

pub(super) fn script(job: &Job<'_>, name: &str) -> Result<Script, Box<RunResult>> {
    job.required(name)
}
