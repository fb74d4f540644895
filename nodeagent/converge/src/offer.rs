//! What comes from the controller: assignments, and with them scripts and files; acknowledgements.
//!
//! An assignment is judged by its generation: lower, refuse; equal and same, nothing; equal and
//! different, an error; higher, into the ledger first, then act.
//!
//! Never here: guest commands (`commands.rs`).

use crate::action::{Action, Now};
use crate::backoff;
use crate::converger::{Converger, Fetch, Placed, Work};
use crate::ledger::LedgerChange;
use crate::outlook::fault;
use straas_schemas::report::ReportBody;
use straas_schemas::{Assignment, Digest, Lifecycle};

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
        out.push(Action::Persist(changes));
        self.content = Some(digest);
        self.refused = None;
        self.fetch = Fetch { id: self.fetch.id, ..Fetch::default() };
        if self.work == Work::Fetching {
            // a newer fetch replaces it
            self.work = Work::Idle;
        }
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
