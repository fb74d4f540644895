//! How long to wait before the next request to a controller that did not answer.
//!
//! Doubles from half a second to a cap of 30 s, with full jitter in its upper half, because a
//! restarted controller has every agent waiting for it. The cap is short, so that a healed link is
//! noticed soon; any success resets it.

use std::time::Duration;

/// First wait.
const FIRST_MS: u64 = 500;
/// Longest wait: how long a healed link may go unnoticed.
const LONGEST_MS: u64 = 30_000;

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub fn failed(&mut self) -> Duration {
        let most = (FIRST_MS << self.failures.min(10)).min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(rand::random_range(most / 2..=most))
    }

    /// Something worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capped_jittered_and_reset() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.failed() <= Duration::from_millis(LONGEST_MS));
        }
        assert!(backoff.failed() >= Duration::from_millis(LONGEST_MS / 2));
        backoff.reset();
        assert!(backoff.failed() <= Duration::from_millis(FIRST_MS));
    }
}
