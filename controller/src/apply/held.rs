//! Which jobs are held, as every topology was planned last.
//!
//! That is derived by a plan and recorded nowhere; whoever has to know it of many jobs reads it here instead of
//! planning anew. A controller that begins plans every topology, and so knows soon.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use straas_schemas::job::{Job, JobStanding};
use straas_schemas::{JobId, TopologyId};

/// Held jobs with the reason, by topology.
#[derive(Default)]
pub struct Held(Mutex<BTreeMap<TopologyId, BTreeMap<JobId, String>>>);

impl Held {
    fn all(&self) -> MutexGuard<'_, BTreeMap<TopologyId, BTreeMap<JobId, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the jobs of a plan.
    pub fn planned(&self, topology: &TopologyId, jobs: &[Job]) {
        let held = jobs.iter().filter(|job| job.standing == JobStanding::Held);
        let held: BTreeMap<_, _> = held.map(|job| (job.id.clone(), job.detail.clone())).collect();
        if held.is_empty() {
            self.forget(topology);
        } else {
            self.all().insert(topology.clone(), held);
        }
    }

    /// Why a job of a topology is held, if it is.
    pub fn why(&self, topology: &TopologyId, job: &JobId) -> Option<String> {
        self.all().get(topology)?.get(job).cloned()
    }

    /// Forgets a topology.
    pub fn forget(&self, topology: &TopologyId) {
        self.all().remove(topology);
    }
}
