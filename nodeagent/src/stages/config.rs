//! config: `runpuppet.sh` applies `site.pp`, and only the very one that `pre_config` rendered.

use super::{Job, failed};
use crate::executor::Script;
use straas_converge::RunResult;
use straas_schemas::{Digest, Stage};

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    if let Some(rendered) = &job.order.rendered {
        let found = std::fs::read(&job.site_pp).map(|bytes| Digest::sha256(&bytes)).ok();
        if found.as_ref() != Some(rendered) {
            let reason = format!("{} is missing or was changed; it is rendered again", job.site_pp.display());
            return Err(Box::new(RunResult { lost: Some(Stage::PreConfig), ..failed(reason) }));
        }
    }
    job.required("runpuppet.sh")
}
