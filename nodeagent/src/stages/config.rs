//! config: `runpuppet.sh` applies `site.pp`, and only the very one that `pre_config` rendered. If a
//! restart was asked for, `stop.sh` comes first, in the same run: the record that the run began is
//! durable, so whatever happens in between, the next run starts the services again.

use super::{Job, failed, judge};
use crate::executor::{self, Script};
use crate::messages::Said;
use std::time::Duration;
use straas_converge::RunResult;
use straas_schemas::{Digest, Outcome, Stage};
use tokio::sync::watch;

/// Stops the services; gives how long it took.
pub(super) async fn stop_first(
    job: &Job<'_>,
    kill: watch::Receiver<bool>,
    progress: &dyn Fn(&Said),
) -> Result<Duration, Box<RunResult>> {
    // what cannot be applied afterwards is no reason to stop anything
    script(job)?;
    let mut stop = job.required("stop.sh")?;
    stop.spool.set_file_name("config-stop.log");
    let ended = executor::run(stop, kill, progress).await;
    let result = judge("stop.sh before the restart", &ended);
    if result.outcome == Outcome::Succeeded { Ok(ended.took) } else { Err(Box::new(result)) }
}

pub(super) fn script(job: &Job<'_>) -> Result<Script, Box<RunResult>> {
    if let Some(rendered) = &job.order.rendered {
        let found = std::fs::read(&job.frame.site_pp).map(|bytes| Digest::sha256(&bytes)).ok();
        if found.as_ref() != Some(rendered) {
            let reason = format!("{} is missing or was changed; it is rendered again", job.frame.site_pp.display());
            return Err(Box::new(RunResult { lost: Some(Stage::PreConfig), ..failed(reason) }));
        }
    }
    job.required("runpuppet.sh")
}
