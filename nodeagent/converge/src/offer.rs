//! What comes from the controller: assignments, and with them scripts and files; acknowledgements.
//!
//! An assignment is judged by its generation: lower, refuse; equal and same, nothing; equal and
//! different, an error; higher, into the ledger first, then act. One that is higher by a leap is of a controller
//! that was put back from a backup, and may not know what became of the stages since: it is told once more.
//!
//! Never here: guest commands (`commands.rs`).

use crate::action::{Action, Now};
use crate::backoff;
use crate::converger::{Converger, Fetch, Placed, Work};
use crate::ledger::{LedgerChange, StageRecord};
use crate::outlook::fault;
use straas_schemas::assignment::GENERATION_LEAP;
use straas_schemas::report::{ReportBody, StageResult};
use straas_schemas::{Assignment, Digest, Lifecycle, Outcome, Stage};

impl Converger {
    /// The three-way generation rule.
    pub(crate) fn offered(&mut self, now: Now, offered: Assignment, out: &mut Vec<Action>) {
        let have = self.ledger.generation();
        let digest = offered.content_digest();
        let reason = if let Some(reason) = fault(&offered, &self.node) {
            reason
        } else if offered.generation < have {
            format!("generation {} is older than {have}, which this node already holds", offered.generation)
        } else if offered.generation > have {
            return self.take(now, offered, digest, out);
        } else if self.content.as_ref() == Some(&digest) {
            return;
        } else {
            format!("generation {have} was given out with other content before; only a higher one can change it")
        };
        // an offer is repeated with every poll; one report of it is enough
        let refusal = (offered.generation, digest);
        if self.refused.as_ref() == Some(&refusal) {
            return;
        }
        self.refused = Some(refusal);
        let mut changes = Vec::new();
        self.report(now, have, ReportBody::Refused { offered: offered.generation, have, reason }, &mut changes);
        out.extend([Action::Persist(changes), Action::Send]);
    }

    fn take(&mut self, now: Now, offered: Assignment, digest: Digest, out: &mut Vec<Action>) {
        let have = self.ledger.generation();
        let leaps = have > 0 && offered.generation - have >= GENERATION_LEAP / 2;
        let mut head = self.ledger.head.clone();
        let was_stopped = self.ledger.assignment.as_ref().is_some_and(|a| a.lifecycle == Lifecycle::Stopped);
        match offered.lifecycle {
            Lifecycle::Stopped => head.start_owed = false,
            // what was never configured is started by `config`
            Lifecycle::Running => head.start_owed |= (head.halted || was_stopped) && self.was_configured(),
        }
        if self.ledger.assignment.as_ref().is_none_or(|a| (a.lifecycle, a.drift) != (offered.lifecycle, offered.drift))
        {
            self.service_retry = (0, now.mono_ms);
            self.drift_at = None;
        }
        let mut changes = vec![LedgerChange::Assignment(Box::new(offered))];
        if head != self.ledger.head {
            changes.push(LedgerChange::Head(head));
        }
        self.apply(&changes);
        let told = leaps && self.tell_again(now, &mut changes);
        out.push(Action::Persist(changes));
        if told {
            out.push(Action::Send);
        }
        self.content = Some(digest);
        self.refused = None;
        self.fetch = Fetch { id: self.fetch.id, ..Fetch::default() };
        if self.work == Work::Fetching {
            // a newer fetch replaces it
            self.work = Work::Idle;
        }
    }

    /// Reports the last result of every stage as the ledger has it; whether there is any.
    fn tell_again(&mut self, now: Now, changes: &mut Vec<LedgerChange>) -> bool {
        let generation = self.ledger.generation();
        let result = |(stage, record): (&Stage, &StageRecord)| {
            let outcome = record.outcome?;
            Some(StageResult {
                generation,
                stage: *stage,
                digest: record.digest.clone(),
                attempt: record.attempt,
                failures: Some(record.failures),
                outcome,
                return_value: stage.return_value(outcome == Outcome::Succeeded).to_owned(),
                exit_code: None,
                reason: record.reason.clone(),
                hint: None,
                duration_ms: record.duration_ms,
                output_tail: String::new(),
                output_bytes: 0,
                retry_in_ms: None,
                produced: record.output.clone(),
                facts: record.facts.clone(),
            })
        };
        let results: Vec<StageResult> = self.ledger.stages.iter().filter_map(result).collect();
        let any = !results.is_empty();
        for result in results {
            self.report(now, generation, ReportBody::Stage(result), changes);
        }
        any
    }

    pub(crate) fn fetched(&mut self, now: Now, fetch: u64, failure: Option<String>) {
        if fetch != self.fetch.id || self.work != Work::Fetching {
            return;
        }
        self.work = Work::Idle;
        let Some(assignment) = &self.ledger.assignment else { return };
        if let Some(reason) = failure {
            self.fetch.failures += 1;
            self.fetch.at = now.mono_ms + backoff::exponential(&assignment.timing, self.fetch.failures);
            self.fetch.reason = reason;
        } else {
            self.ready = Some(Placed::of(assignment));
            self.any_scripts = true;
            self.fetch.failures = 0;
            self.fetch.reason.clear();
        }
    }

    pub(crate) fn acknowledged(&mut self, seq: u64, out: &mut Vec<Action>) {
        let changes: Vec<_> = self.ledger.outbox.range(..=seq).map(|(seq, _)| LedgerChange::Forget(*seq)).collect();
        if !changes.is_empty() {
            self.apply(&changes);
            out.push(Action::Persist(changes));
        }
    }
}
