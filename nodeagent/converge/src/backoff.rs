//! How long to wait before something is tried again.
//!
//! After a failure exponential from the assignment's `retry_ms` to `retry_max_ms`, without jitter:
//! nodes fail at times of their own, and a deterministic wait can be shown to people before it
//! begins. What said "not yet" is on its way: it is asked again after a share of the time it has
//! been under way, so that little is lost when it is there, however long it takes. The floor keeps
//! a wrong assignment from making an agent spin.
//!
//! Never here: the jitter of requests to a controller, which many nodes send at once (`poll.rs`).

use straas_schemas::assignment::Timing;

/// Shortest wait between two runs of the same thing.
pub const WAIT_MS_MIN: i64 = 100;
/// What is lost at most after "not yet": this part of the time that was waited for.
const WAITED_PARTS: i64 = 8;
/// Asking pauses for at least this part of what it took: what is on its way needs the processor, too.
const ASKED_PARTS: i64 = 2;
/// Shortest interval between two validations of a settled node: each one starts a process.
pub const VALIDATE_EVERY_MS_MIN: i64 = 1_000;

/// The wait after a run that said "not yet", as others before it since `waited_ms`; it took `ran_ms`.
pub fn waiting(timing: &Timing, waited_ms: i64, ran_ms: u64) -> i64 {
    let ran = i64::try_from(ran_ms).unwrap_or(i64::MAX) / ASKED_PARTS;
    let longest = i64::from(timing.waiting_ms).max(WAIT_MS_MIN);
    (waited_ms / WAITED_PARTS).max(ran).clamp(WAIT_MS_MIN, longest)
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

    const NONE: Timing = Timing {
        heartbeat_ms: 1,
        validate_every_ms: 0,
        retry_ms: 1,
        retry_max_ms: 1,
        waiting_ms: 0,
        validate_wait_ms: 0,
    };

    #[test]
    fn it_doubles_up_to_the_cap_and_never_spins() {
        let timing = Timing { retry_ms: 500, retry_max_ms: 3_000, ..NONE };
        let waits: Vec<i64> = (1..6).map(|n| exponential(&timing, n)).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
        assert_eq!(exponential(&timing, u32::MAX), 3_000);
        assert_eq!(waiting(&timing, i64::MAX, u64::MAX), WAIT_MS_MIN);
        assert_eq!(validate_every_ms(&timing), VALIDATE_EVERY_MS_MIN);
    }

    #[test]
    fn what_is_on_its_way_is_asked_soon_and_less_often_the_longer_it_takes() {
        let timing = Timing { waiting_ms: 5_000, ..NONE };
        let waits = [(0, 20), (1_000, 20), (1_000, 800), (8_000, 20), (60_000, 20), (0, 60_000)];
        let waits = waits.map(|(waited, ran)| waiting(&timing, waited, ran));
        assert_eq!(waits, [100, 125, 400, 1_000, 5_000, 5_000]);
    }
}
