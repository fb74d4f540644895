//! What others are shown of the converger: the deciding part of a heartbeat.
//!
//! Level-triggered: a heartbeat is the present, not an event. `Beat` asks for one at once when
//! something changed that somebody waits for, and not when only a clock moved.
//!
//! Never here: vitals, progress texts and counters, which belong to the daemon; and guest commands,
//! which are no part of what a node has to be.

use crate::action::{Action, Now, Task};
use crate::converger::{Converger, Work};
use crate::outlook::Outlook;
use std::collections::BTreeMap;
use straas_schemas::heartbeat::{Activity, Ask, ServiceStatus, StageSummary};
use straas_schemas::report::{DriftFound, Facts};
use straas_schemas::{Assignment, Gate, Lifecycle, Outcome, Stage};

/// How the node is, as far as the converger knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Generation in the ledger.
    pub generation: u64,
    /// Every stage of that generation is done.
    pub converged: bool,
    /// What is being done. Progress of a script is filled in by the daemon.
    pub activity: Activity,
    /// A stage that waits for a permit.
    pub asks: Option<Ask>,
    /// The service as last seen.
    pub service: ServiceStatus,
    /// Last ended run of each stage.
    pub stages: BTreeMap<Stage, StageSummary>,
    /// Facts as last reported.
    pub facts: Facts,
    /// How long ago the service was last looked at, in ms.
    pub looked_ago_ms: Option<u64>,
    /// What the newest look for drift found, if it still holds.
    pub drift: Option<DriftFound>,
    /// Reports waiting to be acknowledged.
    pub outbox: u32,
}

/// What was last worth a heartbeat at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    generation: u64,
    converged: bool,
    doing: (u8, Option<Stage>, u32, String),
    asks: Option<Ask>,
    service: ServiceStatus,
    facts: Facts,
    looks_granted: u32,
}

impl Converger {
    /// The status now.
    #[must_use]
    pub fn status(&mut self, now: Now) -> Status {
        let known = self.outlook();
        let summary = |(stage, record): (&Stage, &crate::StageRecord)| {
            let summary = StageSummary {
                digest: record.digest.clone(),
                outcome: record.outcome?,
                attempt: record.attempt,
                duration_ms: record.duration_ms,
            };
            Some((*stage, summary))
        };
        Status {
            generation: self.ledger.generation(),
            converged: self.is_converged(known.as_ref()),
            activity: self.activity(now, known.as_ref()),
            asks: self.asks(known.as_ref()),
            service: self.service,
            stages: self.ledger.stages.iter().filter_map(summary).collect(),
            facts: self.facts.clone(),
            looked_ago_ms: self.looks.ended_at.map(|at| u64::try_from(now.mono_ms - at).unwrap_or(0)),
            drift: self.drift(),
            outbox: u32::try_from(self.ledger.outbox.len()).unwrap_or(u32::MAX),
        }
    }

    /// Emits `Beat` if something changed that others wait for.
    pub(crate) fn tell(&mut self, now: Now, out: &mut Vec<Action>) {
        let known = self.outlook();
        let doing = match self.activity(now, known.as_ref()) {
            Activity::Idle => (0, None, 0, String::new()),
            Activity::Fetching { what } => (1, None, 0, what),
            // looks at a settled service come and go without a word
            Activity::Running { .. } if self.is_monitoring() => (0, None, 0, String::new()),
            Activity::Running { stage, attempt, .. } => (2, Some(stage), attempt, String::new()),
            Activity::Retrying { stage, attempt, reason, .. } => (3, Some(stage), attempt, reason),
            Activity::Gated { stage, why } => (4, Some(stage), 0, why),
        };
        let told = Told {
            generation: self.ledger.generation(),
            converged: self.is_converged(known.as_ref()),
            doing,
            asks: self.asks(known.as_ref()),
            service: self.service,
            facts: self.facts.clone(),
            looks_granted: self.looks.granted,
        };
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told);
            out.push(Action::Beat);
        }
    }

    fn is_monitoring(&self) -> bool {
        matches!(&self.work, Work::Running(run) if run.monitor)
    }

    fn is_converged(&self, known: Option<&Outlook>) -> bool {
        let Some((assignment, known)) = self.ledger.assignment.as_ref().zip(known) else { return false };
        known.next.is_none()
            && match assignment.lifecycle {
                Lifecycle::Running => !self.ledger.head.start_owed && self.restart_at.is_none(),
                Lifecycle::Stopped => self.ledger.head.halted,
            }
    }

    /// Whether the service has to be stopped and is not.
    fn is_to_stop(&self) -> bool {
        let wanted = self.ledger.assignment.as_ref().is_some_and(|a| a.lifecycle == Lifecycle::Stopped);
        wanted && !self.ledger.head.halted
    }

    fn waits_at<'a>(&'a self, known: Option<&'a Outlook>) -> Option<(&'a Assignment, Stage, &'a Gate)> {
        let (assignment, known) = self.ledger.assignment.as_ref().zip(known)?;
        let (stage, digest) = known.next.as_ref()?;
        let gate = &assignment.order(*stage)?.gate;
        (!self.passes(assignment, *stage, digest)).then_some((assignment, *stage, gate))
    }

    fn asks(&self, known: Option<&Outlook>) -> Option<Ask> {
        let (_, stage, gate) = self.waits_at(known)?;
        let (_, digest) = known?.next.as_ref()?;
        matches!(gate, Gate::Permit { .. }).then(|| Ask { stage, digest: digest.clone() })
    }

    fn activity(&self, now: Now, known: Option<&Outlook>) -> Activity {
        let since = |at: i64| u64::try_from(now.mono_ms - at).unwrap_or(0);
        let until = |at: i64| u64::try_from(at - now.mono_ms).unwrap_or(0);
        match &self.work {
            Work::Running(run) => {
                let (stage, progress) = match run.order.task {
                    Task::Stage(stage) => (stage, None),
                    // it changes nothing, and nothing waits for it
                    Task::Drift => return Activity::Idle,
                    Task::Start => (Stage::Validate, Some("starting the service".to_owned())),
                    Task::Stop => (Stage::Validate, Some("stopping the service".to_owned())),
                };
                let (attempt, for_ms) = (run.order.attempt, since(run.since_ms));
                return Activity::Running { stage, attempt, for_ms, progress, percent: None };
            }
            Work::Fetching => return Activity::Fetching { what: self.fetch_what() },
            Work::Killing(_) => return Activity::Fetching { what: "ending a superseded run".into() },
            Work::Idle if self.fetch.failures > 0 => {
                return Activity::Fetching { what: self.fetch_what() };
            }
            Work::Idle => {}
        }
        if self.service_retry.0 > 0 && self.is_to_stop() {
            let (attempt, in_ms) = (self.service_retry.0, until(self.service_retry.1));
            return Activity::Retrying { stage: Stage::Validate, attempt, in_ms, reason: self.service_failure.clone() };
        }
        if let Some((_, stage, gate)) = self.waits_at(known) {
            let why = match gate {
                Gate::Closed { why } => why.clone(),
                Gate::Permit { .. } | Gate::Open => "a permit, because it disturbs the running service".to_owned(),
            };
            return Activity::Gated { stage, why };
        }
        let Some((stage, digest)) = known.and_then(|known| known.next.as_ref()) else { return Activity::Idle };
        match (self.due.get(stage), self.ledger.stages.get(stage)) {
            (Some((of, at)), Some(record)) if of == digest && record.outcome != Some(Outcome::Succeeded) => {
                let (attempt, reason) = (record.attempt, record.reason.clone());
                Activity::Retrying { stage: *stage, attempt, in_ms: until(*at), reason }
            }
            _ => Activity::Idle,
        }
    }

    fn fetch_what(&self) -> String {
        let commit = self.ledger.assignment.as_ref().map_or("", |assignment| assignment.scripts.as_str());
        let commit = commit.get(..12).unwrap_or(commit);
        match self.fetch.failures {
            0 => format!("scripts {commit}"),
            n => format!("scripts {commit}, after {n} failed tries; the last: {}", self.fetch.reason),
        }
    }
}
