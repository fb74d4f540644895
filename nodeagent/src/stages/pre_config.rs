//! pre_config: the role's program reads the context and sends sections; they become `site.pp`.

use super::{Job, failed, write_private};
use crate::executor::Script;
use crate::messages::Said;
use crate::site_pp;
use straas_converge::RunResult;
use straas_schemas::{Digest, Outcome};

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    let program = job.frame.place.scripts.join("pre_config").join(&job.frame.assignment.role);
    if program.is_file() {
        return Ok(job.script(program, Vec::new()));
    }
    Err(Box::new(failed(format!("the scripts have no pre_config/{}", job.frame.assignment.role))))
}

pub(super) fn finish(job: &Job<'_>, said: Said, mut result: RunResult) -> RunResult {
    if result.outcome != Outcome::Succeeded {
        return result;
    }
    let rendered = said
        .sections
        .ok_or_else(|| "it ended well but sent no `sections` message".to_owned())
        .and_then(|sections| site_pp::render(&sections))
        .and_then(|text| write_private(&job.frame.site_pp, text.as_bytes()).map(|()| text));
    match rendered {
        Ok(text) => result.output = Some(Digest::sha256(text.as_bytes())),
        Err(reason) => {
            result.outcome = Outcome::Failed;
            result.reason = format!("pre_config/{}: {reason}", job.frame.assignment.role);
        }
    }
    result
}
