//! A bucket: what somebody may still do at once. It fills up with time, so that he may do a little all the time, and more
//! after he did nothing for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Buckets of one kind that are known at once; those who did nothing lately are forgotten first.
pub const BUCKETS_MAX: usize = 4096;

/// How fast a bucket fills, in one a second, and how many it holds.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// A second.
    pub rate: f64,
    /// In all.
    pub burst: f64,
}

/// A bucket for each of many, of whom a stranger may make any number.
#[derive(Debug, Default)]
pub struct Buckets<K>(HashMap<K, Bucket>);

impl<K: Eq + Hash + Default> Buckets<K> {
    /// The bucket of somebody. While too many are about whose buckets are not full by `forget`, newcomers share that of the
    /// default key.
    pub fn of(&mut self, key: K, size: Size, forget: Size, now: Instant) -> &mut Bucket {
        if self.0.len() >= BUCKETS_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, bucket| !bucket.is_full(forget.rate, forget.burst, now));
        }
        let key = if self.0.len() >= BUCKETS_MAX && !self.0.contains_key(&key) { K::default() } else { key };
        self.0.entry(key).or_insert(Bucket::full(size.burst, now))
    }

    /// How long somebody has to wait who has a bucket already; none if he has not.
    pub fn wait(&mut self, key: &K, size: Size, now: Instant) -> Option<Duration> {
        self.0.get_mut(key).and_then(|bucket| bucket.wait(size.rate, size.burst, now))
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

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
    fn is_full(&self, rate: f64, burst: f64, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * rate >= burst
    }
}
