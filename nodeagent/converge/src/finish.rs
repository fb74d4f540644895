//! What the end of a run changes.
//!
//! Record and report of a run are one `Persist`: either both survive a crash or the run is done
//! again. A result of a run that is not the present one changes nothing at all.
//!
//! Never here: what runs next (`advance.rs`).

use crate::action::{Action, Now, RunId, RunResult, Task};
use crate::backoff;
use crate::converger::{Converger, Run, Work};
use crate::ledger::{Head, LedgerChange, StageRecord};
use straas_schemas::heartbeat::ServiceStatus;
use straas_schemas::report::{Facts, ReportBody, StageResult};
use straas_schemas::{Gate, Outcome, Stage};

impl Converger {
    pub(crate) fn finished(&mut self, now: Now, id: RunId, result: RunResult, out: &mut Vec<Action>) {
        match &self.work {
            Work::Killing(killed) if *killed == id => self.work = Work::Idle,
            Work::Running(run) if run.order.id == id => {
                let run = run.clone();
                self.work = Work::Idle;
                match run.order.task {
                    Task::Stage(stage) => self.stage_finished(now, &run, stage, result, out),
                    Task::Start | Task::Stop => self.service_finished(now, &run, &result, out),
                    Task::Drift => self.drift_finished(now, result, out),
                }
            }
            _ => {}
        }
    }

    fn stage_finished(&mut self, now: Now, run: &Run, stage: Stage, mut result: RunResult, out: &mut Vec<Action>) {
        let Some(assignment) = &self.ledger.assignment else { return };
        let (timing, autonomy, generation) = (assignment.timing, assignment.autonomy, assignment.generation);
        let disturbs = assignment.order(stage).is_some_and(|order| matches!(order.gate, Gate::Permit { .. }));
        let order = &run.order;
        let succeeded = result.outcome == Outcome::Succeeded;
        if succeeded || stage == Stage::Config {
            self.service_failure.clear();
        } else if stage == Stage::Validate && result.outcome == Outcome::Failed && !self.service_failure.is_empty() {
            // that it is down is what follows; why is what people look for
            result.reason = format!("{} (before that: {})", result.reason, self.service_failure);
        }
        let before = self.ledger.stages.get(&stage).filter(|record| record.digest == order.digest).cloned();
        let failures_before = before.as_ref().map_or(0, |record| record.failures);
        let mut counts = result.outcome == Outcome::Failed;
        let mut waited_ms = None;
        if result.outcome == Outcome::Waiting {
            let said = self.waits.say(now.mono_ms, stage, &order.digest, &timing, failures_before);
            if let Some(usual) = said.usual_ms {
                let (waited, usual) = (said.waited_ms / 1000, usual / 1000);
                result.reason = format!("{} ({waited} s already, {usual} s are usual)", result.reason);
            }
            (waited_ms, counts) = (Some(said.waited_ms), said.counts);
        } else {
            self.waits.end(stage);
        }
        let failures = if succeeded { 0 } else { failures_before.saturating_add(counts.into()) };
        let retry = match (succeeded, waited_ms) {
            (true, _) => 0,
            (false, Some(waited)) => backoff::waiting(&timing, waited, result.duration_ms),
            (false, None) => backoff::exponential(&timing, failures),
        };
        if succeeded {
            self.due.remove(&stage);
        } else {
            self.due.insert(stage, (order.digest.clone(), now.mono_ms + retry));
        }
        let configured = self.ledger.succeeded(Stage::Config).is_some();
        if stage == Stage::Validate {
            self.looked(now, &timing);
            self.service =
                result.service.unwrap_or(if succeeded { ServiceStatus::Active } else { ServiceStatus::Inactive });
            if succeeded || !result.facts.is_empty() {
                self.facts.clone_from(&result.facts);
            }
            if succeeded {
                self.restart_at = None;
                self.settling = false;
            } else if configured && autonomy.restart_service && result.outcome == Outcome::Failed {
                // at once the first time, then no faster than validate itself is retried
                self.restart_at = Some(if failures == 1 { now.mono_ms } else { now.mono_ms + retry });
            }
        }
        if stage == Stage::Config && result.outcome == Outcome::Failed {
            // whatever it left: nobody has looked since
            self.service = ServiceStatus::Unknown;
        }
        let mut changes = self.lost(&result);
        let same = before.as_ref().is_some_and(|record| record.outcome == Some(result.outcome));
        let silent = match result.outcome {
            // a look that finds what was there before
            Outcome::Succeeded => stage == Stage::Validate && same,
            // "not yet" for the same reason, again and again: the heartbeat shows it
            Outcome::Waiting => {
                !counts && before.as_ref().is_some_and(|record| same && same_words(&record.reason, &result.reason))
            }
            Outcome::Failed => run.monitor && same,
        };
        let restarts = self.ledger.stages.get(&stage).map_or(run.restarts, |record| record.restarts);
        let unchanged = silent && (succeeded || run.monitor);
        if !unchanged {
            let record = StageRecord {
                digest: order.digest.clone(),
                outcome: Some(result.outcome),
                attempt: order.attempt,
                failures,
                output: result.output.clone(),
                duration_ms: result.duration_ms,
                reason: result.reason.clone(),
                facts: if stage == Stage::Validate { self.facts.clone() } else { Facts::new() },
                restarts: if stage == Stage::Config && succeeded { run.restarts } else { restarts },
                drifted: false,
            };
            changes.push(LedgerChange::Stage(stage, Box::new(record)));
        }
        if stage == Stage::Install && succeeded && disturbs {
            // it may end where it was before, so that nothing else has to be done anew
            changes.extend(self.unseen());
        }
        self.apply(&changes);
        if !silent {
            let body = StageResult {
                generation,
                stage,
                digest: order.digest.clone(),
                attempt: order.attempt,
                failures: Some(failures),
                outcome: result.outcome,
                return_value: stage.return_value(succeeded).to_owned(),
                exit_code: result.exit_code,
                reason: result.reason,
                hint: result.hint,
                duration_ms: result.duration_ms,
                output_tail: result.output_tail,
                output_bytes: result.output_bytes,
                retry_in_ms: (!succeeded).then(|| u64::try_from(retry).unwrap_or(0)),
                facts: result.facts,
                produced: result.output,
            };
            self.report(now, generation, ReportBody::Stage(body), &mut changes);
        }
        if !changes.is_empty() {
            out.push(Action::Persist(changes));
        }
        if !silent {
            out.push(Action::Send);
        }
    }

    /// A stage whose product a run did not find has to run again.
    pub(crate) fn lost(&self, result: &RunResult) -> Vec<LedgerChange> {
        let record = result.lost.and_then(|lost| Some((lost, self.ledger.stages.get(&lost)?)));
        let again = |(lost, record): (Stage, &StageRecord)| {
            LedgerChange::Stage(lost, Box::new(StageRecord { outcome: None, ..record.clone() }))
        };
        record.map(again).into_iter().collect()
    }

    fn service_finished(&mut self, now: Now, run: &Run, result: &RunResult, out: &mut Vec<Action>) {
        let Some(assignment) = &self.ledger.assignment else { return };
        let timing = assignment.timing;
        let mut changes = Vec::new();
        let mut head = self.ledger.head.clone();
        if run.order.task == Task::Start {
            // Whether it worked is for `validate` to say, now. If it did not, autonomy decides.
            head = Head { start_owed: false, halted: false, ..head };
            self.restart_at = None;
            self.settling = true;
            self.monitor_at = now.mono_ms;
            self.due.remove(&Stage::Validate);
            self.service_failure.clone_from(&result.reason);
        } else if result.outcome == Outcome::Succeeded {
            head.halted = true;
            self.service = ServiceStatus::Inactive;
            self.service_retry = (0, now.mono_ms);
            self.service_failure.clear();
        } else {
            let failures = self.service_retry.0.saturating_add(1);
            self.service_failure.clone_from(&result.reason);
            self.service_retry = (failures, now.mono_ms + backoff::exponential(&timing, failures));
        }
        if head != self.ledger.head {
            changes.push(LedgerChange::Head(head));
        }
        if !changes.is_empty() {
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
    }
}

/// Whether two reasons say the same but for numbers: "since 3 s" and "since 4 s" are no news.
fn same_words(one: &str, other: &str) -> bool {
    let letters = |c: &char| !c.is_ascii_digit();
    one.chars().filter(letters).eq(other.chars().filter(letters))
}
