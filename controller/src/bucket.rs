//! A bucket: what somebody may still do at once. It fills up with time, so that he may do a little all the time, and more
//! after he did nothing for a while.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub const fn full(burst: f64, now: Instant) -> Self {
        Self { left: burst, at: now }
    }

    /// What has come in by now.
    fn fill(&mut self, rate: f64, burst: f64, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left, self.at) = ((self.left + since * rate).min(burst), now);
    }

    /// How long it is until there is one, with so many a second and at most `burst` in it; none if there is.
    pub fn wait(&mut self, rate: f64, burst: f64, now: Instant) -> Option<Duration> {
        self.fill(rate, burst, now);
        (self.left < 1.0).then(|| Duration::from_secs_f64((1.0 - self.left) / rate))
    }

    /// Takes one out; or how long it is until there is one.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&mut self, rate: f64, burst: f64, now: Instant) -> Result<(), Duration> {
        match self.wait(rate, burst, now) {
            Some(wait) => Err(wait),
            None => {
                self.left -= 1.0;
                Ok(())
            }
        }
    }

    /// Whether whoever has it did nothing for long.
    pub fn is_full(&self, rate: f64, burst: f64, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * rate >= burst
    }
}
