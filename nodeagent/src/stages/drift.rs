//! drift: `runpuppet.sh` with `STRAAS_NOOP=1` looks whether the host is still as configured.
//!
//! A script that does not know the variable would configure the host instead; it is not run.

use super::{Job, config, failed};
use crate::executor::Script;
use crate::messages::Said;
use straas_converge::RunResult;
use straas_schemas::Outcome;

/// Says that nothing may be changed.
const NOOP_ENV: &str = "STRAAS_NOOP";

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    let mut script = config::script(job)?;
    let knows = |text: Vec<u8>| text.windows(NOOP_ENV.len()).any(|part| part == NOOP_ENV.as_bytes());
    if !std::fs::read(&script.program).is_ok_and(knows) {
        let reason = format!("{} does not know {NOOP_ENV}, so it cannot look for drift", script.program.display());
        return Err(Box::new(failed(reason)));
    }
    script.environment.push((NOOP_ENV.to_owned(), "1".into()));
    Ok(script)
}

pub(super) fn finish(said: &Said, mut result: RunResult) -> RunResult {
    if result.outcome == Outcome::Succeeded {
        result.drift = said.drift.as_ref().map(crate::messages::Drifted::found);
        if result.drift.is_none() {
            result.outcome = Outcome::Failed;
            result.reason = "runpuppet.sh ended well but sent no `drift` message".into();
        }
    }
    result
}
