//! The slow look for drift: is what is configured still on the host?
//!
//! Only a settled, working node is looked at, first after one interval, later by its node's share of
//! a quarter of it, so that hosts of one machine do not all look at once. Work ends a look.
//! If drift is to be mended, `config` is marked and runs again through its own gate at its own
//! digest; it still counts as succeeded, so that the service goes on being looked at meanwhile.
//!
//! Never here: what Puppet calls drift (`runpuppet.sh`).

use crate::action::{Action, Now, RunOrder, RunResult, Task};
use crate::converger::Converger;
use crate::ledger::{DriftRecord, Ledger, LedgerChange, StageRecord};
use crate::outlook::Outlook;
use straas_schemas::assignment::{DriftOrder, DriftPolicy, Limits};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{DriftFound, ReportBody};
use straas_schemas::{Assignment, Digest, Lifecycle, NodeId, Outcome, Stage};

/// Shortest interval: a look is a run of Puppet.
const EVERY_MS_MIN: i64 = 1_000;
/// Longest look: the service is not looked at meanwhile.
const LOOK_S_MAX: u32 = 120;

impl Converger {
    /// The look that is due now.
    pub(crate) fn drift_due(&mut self, now: Now, assignment: &Assignment, known: &Outlook) -> Option<RunOrder> {
        let order = assignment.drift?;
        if !self.may_look(assignment, known) || self.service != ServiceStatus::Active {
            return None;
        }
        let first = now.mono_ms + every_ms(order) + share(&self.node, every_ms(order) / 4);
        let at = *self.drift_at.get_or_insert(first);
        if !self.reached(now, at) {
            return None;
        }
        let digest = configured(&self.ledger)?.clone();
        let Limits { total_s, no_progress_s } = assignment.order(Stage::Config)?.limits;
        let limits = Limits { total_s: total_s.min(LOOK_S_MAX), no_progress_s: no_progress_s.min(LOOK_S_MAX) };
        Some(RunOrder { digest, limits, ..self.order(Task::Drift, assignment) })
    }

    /// Whether nothing else is to be done on a node that runs.
    pub(crate) fn may_look(&self, assignment: &Assignment, known: &Outlook) -> bool {
        assignment.drift.is_some()
            && assignment.lifecycle == Lifecycle::Running
            && known.next.is_none()
            && self.is_in_place(assignment)
            && !self.ledger.head.start_owed
            && self.restart_at.is_none()
    }

    pub(crate) fn drift_finished(&mut self, now: Now, result: RunResult, out: &mut Vec<Action>) {
        let Some((generation, order)) = self.ledger.assignment.as_ref().and_then(|a| Some((a.generation, a.drift?)))
        else {
            return;
        };
        self.drift_at = Some(now.mono_ms + every_ms(order));
        let mut changes = self.lost(&result);
        let found = result.drift.filter(|_| result.outcome == Outcome::Succeeded);
        let news = found.and_then(|found| {
            self.drift_found(order.policy, DriftFound { looked_ms: now.unix_ms, ..found }, &mut changes)
        });
        self.apply(&changes);
        let send = news.is_some().then_some(Action::Send);
        if let Some(news) = news {
            self.report(now, generation, ReportBody::Drift(news), &mut changes);
        }
        if !changes.is_empty() {
            out.push(Action::Persist(changes));
        }
        out.extend(send);
    }

    /// What follows from what was found; given back if it is not what was found before.
    fn drift_found(
        &mut self,
        policy: DriftPolicy,
        found: DriftFound,
        changes: &mut Vec<LedgerChange>,
    ) -> Option<DriftFound> {
        let before = self.ledger.drift.as_ref();
        let none = DriftFound::default();
        let last = before.map_or(&none, |record| &record.found);
        let differs = (&last.resources, last.total) != (&found.resources, found.total);
        self.drift_looked_ms = Some(found.looked_ms);
        if differs || before.is_none_or(|record| !record.current) {
            changes.push(LedgerChange::Drift(Box::new(DriftRecord { found: found.clone(), current: true })));
        }
        if found.total > 0
            && policy == DriftPolicy::Enforce
            && let Some(record) = self.ledger.succeeded(Stage::Config)
        {
            let record = StageRecord { drifted: true, ..record.clone() };
            changes.push(LedgerChange::Stage(Stage::Config, Box::new(record)));
        }
        differs.then_some(found)
    }

    /// What the newest look found, if nothing was configured since.
    pub(crate) fn drift(&self) -> Option<DriftFound> {
        let record = self.ledger.drift.as_ref().filter(|record| record.current)?;
        Some(DriftFound { looked_ms: self.drift_looked_ms.unwrap_or(record.found.looked_ms), ..record.found.clone() })
    }
}

/// The digest of what is configured.
pub fn configured(ledger: &Ledger) -> Option<&Digest> {
    ledger.succeeded(Stage::Config).map(|record| &record.digest)
}

fn every_ms(order: DriftOrder) -> i64 {
    i64::from(order.every_ms).max(EVERY_MS_MIN)
}

/// This node's part of `most` (FNV-1a): the same after every start.
fn share(node: &NodeId, most: i64) -> i64 {
    let hash = node
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    i64::try_from((hash >> 33) % u64::try_from(most.max(1)).unwrap_or(1)).unwrap_or(0)
}
