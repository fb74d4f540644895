//! validate: `validate.sh` looks once whether the service works, and says what it found.

use super::Job;
use crate::executor::Script;
use crate::messages::Said;
use straas_converge::RunResult;
use straas_schemas::Outcome;
use straas_schemas::heartbeat::ServiceStatus;

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    let mut script = job.required("validate.sh")?;
    let settled = if job.order.settled { "1" } else { "0" };
    script.environment.push(("STRAAS_SETTLED".to_owned(), settled.into()));
    Ok(script)
}

pub(super) fn finish(said: Said, mut result: RunResult) -> RunResult {
    if result.outcome == Outcome::Succeeded && said.service == Some(ServiceStatus::Inactive) {
        result.outcome = Outcome::Failed;
        result.reason = "validate.sh ended with 0 but found the service inactive".into();
    }
    result
}
