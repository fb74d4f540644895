//! What said "not yet": since when, and when that counts as a failure.
//!
//! It is asked again soon however long it takes (`backoff.rs`), or what comes late would be seen late. How long is usual
//! for `validate` a type's metadata says. What took longer counts as a failure at once, and after that whenever the
//! back-off of failures would have tried again.
//!
//! Never here: what a failure leads to. It is told to the controller, and nothing else: who says "not yet" is up.

use crate::backoff;
use std::collections::BTreeMap;
use straas_schemas::assignment::Timing;
use straas_schemas::{Digest, Stage};

/// The stages that said "not yet" last.
#[derive(Clone, Debug, Default)]
pub struct Waits(BTreeMap<Stage, Wait>);

#[derive(Clone, Debug)]
struct Wait {
    digest: Digest,
    since_ms: i64,
    /// When it counts as a failure again; `None` while it never did.
    counts_at: Option<i64>,
}

/// What one "not yet" means.
pub struct Said {
    /// How long it has been said by this digest, in ms.
    pub waited_ms: i64,
    /// It has been for longer than is usual, which is so many ms.
    pub usual_ms: Option<i64>,
    /// It counts as a failure.
    pub counts: bool,
}

impl Waits {
    /// Whether a stage said it last.
    pub fn has(&self, stage: Stage) -> bool {
        self.0.contains_key(&stage)
    }

    /// It said something else.
    pub fn end(&mut self, stage: Stage) {
        self.0.remove(&stage);
    }

    /// It says so at `now_ms` of the monotonic clock, after so many `failures` at this digest.
    pub fn say(&mut self, now_ms: i64, stage: Stage, digest: &Digest, timing: &Timing, failures: u32) -> Said {
        let new = || Wait { digest: digest.clone(), since_ms: now_ms, counts_at: None };
        let wait = self.0.entry(stage).or_insert_with(new);
        if wait.digest != *digest {
            *wait = new();
        }
        let waited_ms = now_ms - wait.since_ms;
        let usual = i64::from(timing.validate_wait_ms);
        let late = stage == Stage::Validate && usual > 0 && waited_ms >= usual;
        let counts = late && wait.counts_at.is_none_or(|at| at <= now_ms);
        if counts {
            wait.counts_at = Some(now_ms + backoff::exponential(timing, failures.saturating_add(1)));
        }
        Said { waited_ms, usual_ms: late.then_some(usual), counts }
    }
}
