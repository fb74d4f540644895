//! What is done to values before any implementation keeps them, so that all keep the same.
//!
//! PostgreSQL cannot keep U+0000 in a text, and JSON cannot keep an infinite number; both can come
//! from a script's output or a faulty agent, and one such value must not make a whole topology
//! unreadable or fail a batch of other nodes' heartbeats.
//!
//! Never here: checks of names and sizes, which are the API's.

use crate::{HEARTBEAT_BATCH_MAX, Result, StoreError};
use std::borrow::Cow;
use straas_schemas::NodeId;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::report::{Report, ReportBody};

/// The text with each U+0000 replaced by U+FFFD.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Whether every number of a heartbeat can be kept: floats finite, counters within `i64`.
fn storable(beat: &Heartbeat) -> bool {
    let vitals = &beat.vitals;
    vitals.cpu_percent.is_finite()
        && vitals.load.iter().all(|load| load.is_finite())
        && [beat.incarnation, beat.beat].iter().all(|number| i64::try_from(*number).is_ok())
}

/// The heartbeats worth writing: one per node, by node, the newest of each by
/// [`supersedes`]; those that cannot be kept are left out.
pub(crate) fn batch(beats: &[(NodeId, i64, Heartbeat)]) -> Result<Vec<&(NodeId, i64, Heartbeat)>> {
    bounded(beats.len(), HEARTBEAT_BATCH_MAX, "heartbeats")?;
    let mut newest = std::collections::BTreeMap::new();
    for item in beats {
        let (node, received_ms, beat) = item;
        if !storable(beat) {
            tracing::warn!(%node, "heartbeat with an impossible number dropped");
            continue;
        }
        let entry = newest.entry(node).or_insert(item);
        if supersedes(beat, *received_ms, &entry.2, entry.1) {
            *entry = item;
        }
    }
    Ok(newest.into_values().collect())
}

/// Whether a heartbeat takes the place of the recorded one: of a newer incarnation, or of the same
/// one, not received before it, and not an earlier beat of the same run of the agent.
pub(crate) fn supersedes(new: &Heartbeat, new_ms: i64, old: &Heartbeat, old_ms: i64) -> bool {
    match new.incarnation.cmp(&old.incarnation) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => new_ms >= old_ms && !(new.run == old.run && new.beat < old.beat),
    }
}

/// Not more of something than may be.
pub(crate) fn bounded(count: usize, most: usize, what: &str) -> Result<()> {
    if count > most {
        return Err(broken(format!("a batch of {count} of {what}; at most {most} are taken"), "too many"));
    }
    Ok(())
}

/// An error for what should not have been asked, or cannot be read.
pub(crate) fn broken(
    what: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Broken { what: what.into(), source: source.into() }
}

/// Join tokens remembered per node, to tell one that was used or has ended from one that never
/// was. A host that cannot be made is tried again with a new token each time.
pub(crate) const TOKENS_PER_NODE_MAX: i64 = 16;

/// Every number of a report must be within `i64`, or none of the batch is taken.
pub(crate) fn check_reports(reports: &[Report]) -> Result<()> {
    for report in reports {
        let number = match &report.body {
            ReportBody::Stage(result) => result.generation,
            ReportBody::Converged { generation } => *generation,
            ReportBody::Refused { offered, .. } => *offered,
            ReportBody::Command(_) | ReportBody::Drift(_) | ReportBody::LedgerLost { .. } => 0,
        };
        if i64::try_from(number.max(report.seq)).is_err() {
            return Err(broken(
                format!("recording report {} with the number {number}", report.seq),
                "numbers end at 2^63 - 1",
            ));
        }
    }
    Ok(())
}

/// `generation` must be one above `expected`.
pub(crate) fn check_generation(generation: u64, expected: u64) -> Result<()> {
    if expected.checked_add(1) == Some(generation) {
        return Ok(());
    }
    Err(broken(
        format!("writing an assignment of generation {generation} over generation {expected}"),
        "a generation rises by one",
    ))
}
