//! How long to wait before something is tried again.
//!
//! Exponential from the assignment's `retry_ms` to `retry_max_ms`, without jitter: nodes fail at
//! times of their own, and a deterministic wait can be shown to people before it begins. The floor
//! keeps a wrong assignment from making an agent spin.
//!
//! Never here: the jitter of requests to a controller, which many nodes send at once (`poll.rs`).

use straas_schemas::Outcome;
use straas_schemas::assignment::Timing;

/// Shortest wait between two runs of the same thing.
pub const WAIT_MS_MIN: i64 = 100;
/// Shortest interval between two validations of a settled node: each one starts a process.
pub const VALIDATE_EVERY_MS_MIN: i64 = 1_000;

/// The wait after a run that did not succeed; `failures` counts this one.
pub fn retry_in_ms(timing: &Timing, outcome: Outcome, failures: u32) -> i64 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Waiting => i64::from(timing.waiting_ms).max(WAIT_MS_MIN),
        Outcome::Failed => exponential(timing, failures),
    }
}

/// The wait after the `failures`-th failure in a row.
pub fn exponential(timing: &Timing, failures: u32) -> i64 {
    let first = i64::from(timing.retry_ms).max(WAIT_MS_MIN);
    let longest = i64::from(timing.retry_max_ms).max(first);
    // past 2^20 the cap has long been reached; the shift cannot overflow below it
    first.saturating_mul(1_i64 << failures.saturating_sub(1).min(20)).min(longest)
}

/// The interval between two validations of a settled node.
pub fn validate_every_ms(timing: &Timing) -> i64 {
    i64::from(timing.validate_every_ms).max(VALIDATE_EVERY_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_cap_and_never_spins() {
        let timing =
            Timing { heartbeat_ms: 1, validate_every_ms: 0, retry_ms: 500, retry_max_ms: 3_000, waiting_ms: 0 };
        let waits: Vec<i64> = (1..6).map(|n| retry_in_ms(&timing, Outcome::Failed, n)).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
        assert_eq!(retry_in_ms(&timing, Outcome::Failed, u32::MAX), 3_000);
        assert_eq!(retry_in_ms(&timing, Outcome::Waiting, 9), WAIT_MS_MIN);
        assert_eq!(validate_every_ms(&timing), VALIDATE_EVERY_MS_MIN);
    }
}
