//! The outbox's bound, and what goes first when it is reached.
//!
//! A node can be cut off for days with a failing stage. Its reports then pile up, each with a tail
//! of output, in a ledger whose memory grows with it; so the number is bounded, and what is dropped
//! is what tells least.
//!
//! Never dropped before everything else: `Converged` of the newest generation. Ends of guest
//! commands are never dropped at all, since the journal bounds them to half of the outbox.

use std::collections::BTreeMap;
use straas_schemas::report::{Report, ReportBody};

/// Most reports waiting at once: at most 24 KiB each (tail and facts), 3 MiB in all.
pub const OUTBOX_MAX: usize = 128;

/// Sequence number of the report to drop, if the outbox is full.
pub fn victim(outbox: &BTreeMap<u64, Report>, generation: u64) -> Option<u64> {
    if outbox.len() < OUTBOX_MAX {
        return None;
    }
    // rank, then age: the lowest pair goes
    outbox.values().map(|report| (rank(report, outbox, generation), report.seq)).min().map(|(_, seq)| seq)
}

/// How much a report tells; the lowest goes first.
fn rank(report: &Report, outbox: &BTreeMap<u64, Report>, generation: u64) -> u8 {
    match &report.body {
        ReportBody::Stage(result) if result.generation < generation => 0,
        ReportBody::Stage(result) => {
            let newer = |other: &Report| {
                matches!(&other.body, ReportBody::Stage(o) if o.stage == result.stage) && other.seq > report.seq
            };
            // a newer result of the same stage says more than this one
            if outbox.range(report.seq + 1..).any(|(_, other)| newer(other)) { 1 } else { 4 }
        }
        ReportBody::Refused { .. } => 2,
        ReportBody::Converged { generation: of } if *of < generation => 3,
        ReportBody::Drift(_) => {
            let newer = |other: &Report| matches!(other.body, ReportBody::Drift(_));
            if outbox.range(report.seq + 1..).any(|(_, other)| newer(other)) { 1 } else { 4 }
        }
        ReportBody::LedgerLost { .. } => 5,
        ReportBody::Converged { .. } => 6,
        ReportBody::Command(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_converged_is_the_last_to_go() {
        let refused =
            |seq| Report { seq, at_ms: 0, body: ReportBody::Refused { offered: 1, have: 2, reason: String::new() } };
        let mut outbox: BTreeMap<u64, Report> = (10..).take(OUTBOX_MAX - 2).map(|seq| (seq, refused(seq))).collect();
        outbox.insert(1, Report { seq: 1, at_ms: 0, body: ReportBody::Converged { generation: 2 } });
        assert_eq!(victim(&outbox, 2), None);
        outbox.insert(2, Report { seq: 2, at_ms: 0, body: ReportBody::LedgerLost { reason: String::new() } });
        assert_eq!(victim(&outbox, 2), Some(10));
    }
}
